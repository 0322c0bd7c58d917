// Package spf answers one question: may this host send mail with this envelope sender, by the
// word of the sender's domain (SPF, RFC 7208)? For the null sender the domain is that by which the host
// calls itself (§2.4). It has no input or output of its own: look-ups are
// passed in. Records are evaluated by blitiri.com.ar/go/spf, which is tested with the RFC's own
// suite; here its bounds are set and errors are turned into ours.
package spf

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"time"

	lib "blitiri.com.ar/go/spf"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// Bounds of one check (RFC 7208 §4.6.4).
const (
	MaxTerms = 10               // terms that cause look-ups
	MaxVoid  = 2                // of look-ups without an answer
	MaxHosts = 10               // hosts of one mx term, names of one ptr term
	Time     = 20 * time.Second // of all look-ups
)

// unknownHost is what the macro %{h} stands for where the client calls itself by no name.
const unknownHost = "unknown"

// Lookups are the questions to the DNS. Names come without a dot at their end or with one. An error
// of kind errs.NotFound means that there is no such name or record, errs.Invalid that there can be
// none, since a record may make a name of anything; any other is taken to be temporary. TXT has the strings of each record joined. The zero value has no answers, and Check
// gives None.
type Lookups struct {
	TXT       func(ctx context.Context, name string) (txts []string, authentic bool, err error)
	MX        func(ctx context.Context, domain string) (hosts []string, err error)
	Addresses func(ctx context.Context, host string) ([]netip.Addr, error)
	PTR       func(ctx context.Context, addr netip.Addr) (names []string, authentic bool, err error)
}

// Verdict is the answer of Check.
type Verdict uint8

const (
	None      Verdict = iota // the domain says nothing, or there is nothing to ask
	NoPass                   // fail, softfail, neutral, or a record that cannot be evaluated
	Temporary                // a look-up failed; later the answer may be Pass
	Pass
)

// Sender is the address whose domain is asked about: the envelope's sender, and for the null one postmaster
// at hello, what the client calls itself in EHLO (§2.4). Zero: there is none, since that is no name.
func Sender(from mail.Address, hello string) mail.Address {
	if !from.IsZero() {
		return from
	}
	if hello = helloName(hello); hello == "" {
		return mail.Address{}
	}
	return mail.Address{Local: "postmaster", Domain: hello}
}

// helloName gives the name in EHLO in canonical form; "": it is no fully qualified name (§2.3).
func helloName(hello string) string {
	d := mail.CanonicalDomain(hello)
	if len(d) > maxName || !strings.Contains(d, ".") || strings.ContainsFunc(d, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_'
	}) {
		return ""
	}
	if _, err := netip.ParseAddr(d); err == nil {
		return ""
	}
	return d
}

// maxName bounds a name of the DNS, in bytes (RFC 1035 §2.3.4).
const maxName = 253

// Check asks the domain of Sender whether the host at addr, which calls itself hello, may send for it.
func (l Lookups) Check(ctx context.Context, addr netip.Addr, from mail.Address, hello string) Verdict {
	from = Sender(from, hello)
	domain := mail.CanonicalDomain(from.Domain)
	if hello = helloName(hello); hello == "" {
		hello = unknownHost
	}
	switch {
	case l.TXT == nil || l.MX == nil || l.Addresses == nil || l.PTR == nil || !addr.IsValid():
		return None
	case domain == "" || domain[0] == '[' || !strings.Contains(domain, "."):
		return None // §4.3: no fully qualified name
	case strings.Contains(from.Local, "@"):
		return None // the library takes the first one for the border of the domain
	}
	ctx, cancel := context.WithTimeout(ctx, Time)
	defer cancel()
	local := from.Local
	if local == "" {
		local = "postmaster" // §4.3
	}
	r := &resolver{l: l}
	result, _ := lib.CheckHostWithSender(net.IP(addr.Unmap().WithZone("").AsSlice()), hello, local+"@"+domain,
		lib.WithContext(ctx), lib.WithResolver(r), lib.OverrideLookupLimit(MaxTerms), lib.OverrideVoidLookupLimit(MaxVoid))
	switch result {
	case lib.Pass:
		return Pass
	case lib.TempError:
		return Temporary
	case lib.None:
		return None
	}
	return NoPass
}

// resolver gives the library its look-ups in the form of package net.
type resolver struct{ l Lookups }

// failed turns an error of ours into the one that the library tells kinds by.
func failed(name string, err error) error {
	if err == nil {
		return nil
	}
	k := errs.KindOf(err)
	missing := k == errs.NotFound || k == errs.Invalid
	return &net.DNSError{Err: "look-up failed", Name: name, IsNotFound: missing, IsTemporary: !missing}
}

func plain(name string) string { return strings.TrimSuffix(name, ".") }

func (r *resolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	txts, _, err := r.l.TXT(ctx, plain(name))
	return txts, failed(name, err)
}

func (r *resolver) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	hosts, err := r.l.MX(ctx, plain(name))
	out := make([]*net.MX, 0, len(hosts))
	for _, h := range hosts {
		if h != "" { // a null MX (RFC 7505)
			out = append(out, &net.MX{Host: h})
		}
	}
	return out, failed(name, err)
}

func (r *resolver) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	addrs, err := r.l.Addresses(ctx, plain(host))
	out := make([]net.IPAddr, len(addrs))
	for i, a := range addrs {
		out[i].IP = net.IP(a.Unmap().WithZone("").AsSlice())
	}
	return out, failed(host, err)
}

func (r *resolver) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return nil, failed(addr, errs.E("mail/spf.ptr", errs.Invalid, "not an IP address", err))
	}
	names, _, err := r.l.PTR(ctx, a)
	return names, failed(addr, err)
}
