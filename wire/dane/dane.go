// Package dane decides by TLSA records whether a mail server is the right one (RFC 6698,
// RFC 7671, and RFC 7672 for SMTP). It connects to nothing: names are looked up by a
// Resolver, and a certificate chain is judged where the caller has it.
package dane

import (
	"context"
	"fmt"

	"postern.email/kit/errs"
	"postern.email/wire/dns"
)

// Resolver is what Lookup asks; a *dns.Resolver is one.
type Resolver interface {
	CNAME(ctx context.Context, name string) (target string, authentic bool, err error)
	TLSA(ctx context.Context, name string) (list []dns.TLSA, authentic bool, err error)
}

// Policy is what the owner of a mail server says in the DNS, under DNSSEC, about its
// certificate. The zero Policy says nothing: there is no DANE for this server.
type Policy struct {
	// Base is the TLSA base domain: the name that the client sends (SNI), and the first
	// of the names that a certificate may have under DANE-TA.
	Base    string
	Records []dns.TLSA // as published, those of no use here among them
}

// Applies reports whether the owner says anything: TLS is then required, and a failure
// of it must not be passed over (RFC 7672 §2.2).
func (p Policy) Applies() bool { return p.Base != "" }

// Authenticates reports whether some record can be used for SMTP, so that Verify decides
// on the server. Where the policy applies and this is false, TLS is required, and DANE
// does not say with whom (RFC 7672 §2.2).
func (p Policy) Authenticates() bool { return len(usable(p.Records)) > 0 }

// Lookup finds the policy for a port of a mail server whose addresses were looked up.
// An error other than errs.NotFound never means that there is no DANE: nothing may be
// delivered to this server until it can be told (RFC 7672 §2.1.2). It is
// errs.Unavailable or errs.Canceled.
func Lookup(ctx context.Context, r Resolver, host dns.Host, port uint16) (Policy, error) {
	const op = "wire/dane.Lookup"
	bases, err := baseDomains(ctx, r, host)
	if err != nil {
		return Policy{}, errs.E(op, kind(err), "it cannot be told whether the mail server has TLSA records", err)
	}
	for _, base := range bases {
		list, authentic, err := r.TLSA(ctx, fmt.Sprintf("_%d._tcp.%s", port, base))
		switch {
		case err == nil && authentic:
			return Policy{Base: base, Records: list}, nil
		case err != nil && errs.KindOf(err) != errs.NotFound && errs.KindOf(err) != errs.Invalid:
			return Policy{}, errs.E(op, kind(err), "the TLSA records of the mail server cannot be had now", err)
		}
	}
	return Policy{}, nil
}

// baseDomains gives the names under which records are looked for, in order (RFC 7672
// §2.2.3): where CNAMEs ended, if all on the way was authentic, and the name itself. A
// name whose alias leads out of DNSSEC still has its own, if the alias is authentic.
func baseDomains(ctx context.Context, r Resolver, host dns.Host) ([]string, error) {
	switch {
	case host.Authentic && host.Canonical != host.Name:
		return []string{host.Canonical, host.Name}, nil
	case host.Authentic:
		return []string{host.Name}, nil
	case host.Canonical == host.Name:
		return nil, nil
	}
	_, authentic, err := r.CNAME(ctx, host.Name)
	switch {
	case err != nil && errs.KindOf(err) != errs.NotFound:
		return nil, err
	case err != nil || !authentic:
		return nil, nil
	}
	return []string{host.Name}, nil
}

func kind(err error) errs.Kind {
	if errs.KindOf(err) == errs.Canceled {
		return errs.Canceled
	}
	return errs.Unavailable
}
