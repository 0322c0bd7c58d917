package relay

import (
	"context"
	"fmt"
	"slices"

	"postern.email/mail"
	"postern.email/post/dkimkey"
	"postern.email/wire/mtasts"
	"postern.email/wire/web"
)

// furtherDomains are the domains of aliases beside the relay's own, canonical.
func (c *Config) furtherDomains() (list []string) {
	if !c.Aliases.Enabled {
		return nil
	}
	for _, d := range c.aliasDomains() {
		if d = mail.CanonicalDomain(d); d != mail.CanonicalDomain(c.Domain) && !slices.Contains(list, d) {
			list = append(list, d)
		}
	}
	return list
}

// signedDomains are those whose mail the relay signs, its own first.
func (c *Config) signedDomains() []string { return append([]string{c.Domain}, c.furtherDomains()...) }

// webNames are the names under which the pages are looked for beside the domain: its own ones, and those where
// others fetch the MTA-STS policies of further domains of aliases.
func (c *Config) webNames() []string {
	list := web.Aliases(c.Domain)
	if len(list) == 0 {
		return nil
	}
	for _, d := range c.furtherDomains() {
		list = append(list, mtasts.HostPrefix+d)
	}
	return list
}

// orNot takes it that a record is not there, for the reason that is given.
func orNot(check func(context.Context) finding, why string) func(context.Context) finding {
	return func(ctx context.Context) finding {
		f := check(ctx)
		if f.verdict == RecordMissing {
			return finding{verdict: RecordNotNeeded, says: why}
		}
		return f
	}
}

// aliasRecords are the records of further domains of aliases: their mail comes to this host and leaves it as the
// relay's own does. Nobody logs in to such a domain, so there are none for mail programs; its mail server is called
// by the relay's name, so there is no certificate of its own but for its MTA-STS policy.
func (s *Server) aliasRecords(pairs []dkimkey.Pair) (all []Record, err error) {
	host := s.c.Domain
	for _, d := range s.c.furtherDomains() {
		list := []Record{{What: "MX", Name: fqdn(d), Type: "MX", Value: "10 " + fqdn(host), Required: true, Why: "mail for aliases in the domain comes to this machine", check: s.checkMX(d)}}
		signing, err := s.signingRecords(pairs, d)
		if err != nil {
			return nil, err
		}
		list = append(list, signing...)
		list = append(list, textRecord("SPF", d, "v=spf1 a:"+host+" ~all", "mail of the domain comes from this machine (RFC 7208)", s.checkSPF(d)), s.policyRecord(d))
		if !s.certs.SelfSigned() {
			at := mtasts.HostPrefix + d
			policy, page := s.announcement(d), Record{What: "mta-sts", Name: fqdn(at), Type: "CNAME", Value: fqdn(host), Why: "where others fetch the MTA-STS policy", check: s.checkAlias(at)}
			if leaf := s.leaf(); s.c.tlsMode() == tlsFiles && (leaf == nil || leaf.VerifyHostname(at) != nil) {
				for _, r := range []*Record{&policy, &page} {
					r.Aside = "only once the certificate of tls.cert is for " + at + " too: others fetch the policy there"
					r.check = orNot(r.check, "there is none, and the certificate is not for "+at)
				}
			}
			list = append(list, policy, page)
		}
		list = append(list, s.reportRecord(d))
		for i := range list {
			list[i].What = fmt.Sprintf("%s of %s", list[i].What, d)
			list[i].Zone = d
		}
		all = append(all, list...)
	}
	return all, nil
}
