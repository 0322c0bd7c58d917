package road

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/wire/dane"
	"postern.email/wire/dns"
	"postern.email/wire/mtasts"
)

// Bounds of one plan. RFC 5321 §5.1 asks for two addresses at least.
const (
	MaxHosts     = 10 // hosts of one domain that are tried
	MaxAddresses = 6  // addresses of one host that are tried
)

// target is one host that may take mail of a domain.
type target struct {
	host   string // as connected to: a name, or an IP address in text
	name   string // what the certificate must show
	domain string // of the mail
	trust  Trust
	addrs  []netip.Addr // set when the host is an address
	smtp   uint16
	https  uint16
	noSMTP bool
	noWeb  bool
	// signed: DNSSEC vouches for the way from the domain to the host, so that DANE may
	// speak for it (RFC 7672 §2.1.1).
	signed bool
	// webpki: the domain's MTA-STS policy asks for a certificate that is vouched for,
	// whatever DANE says (RFC 8461 §2).
	webpki bool
}

// plan is the way to a domain: hosts, best first.
type plan struct {
	domain  string
	targets []target
	// vouched: the names of the hosts are not the word of an unsigned MX record alone, but of
	// DNSSEC, MTA-STS or the operator: what REQUIRETLS asks for (RFC 8689 §4.2.1).
	vouched bool
}

// plan finds the hosts of a canonical domain. A *refusal says why mail cannot go there,
// now or ever.
func (r *Roads) plan(ctx context.Context, domain string) (*plan, error) {
	p := &plan{domain: domain}
	route := r.o.Routes.For(domain)
	if route.Host != "" {
		p.vouched = true
		p.targets = []target{r.routed(route, target{domain: domain, host: route.Host, name: route.Name})}
		return p, nil
	}
	if ip, ok := literal(domain); ok {
		// Nobody vouches for an address: TLS with whatever certificate it has.
		p.targets = []target{r.routed(route, target{domain: domain, host: ip.String(), name: ip.String(), trust: r.bare()})}
		return p, nil
	}
	list, signed, err := r.o.Names.MX(ctx, domain)
	switch {
	case err == nil && len(list) == 1 && list[0].Host == "":
		return nil, refuse(556, "5.1.10", "Domain "+domain+" does not accept mail (null MX)") // RFC 7505
	case err == nil:
	case errs.KindOf(err) != errs.NotFound:
		return nil, refuse(421, "4.4.3", "DNS resolution failed for "+domain+": "+errs.Public(err))
	case dns.NoDomain(err):
		return nil, refuse(512, "5.1.2", "Domain "+domain+" does not exist")
	default: // RFC 5321 §5.1: the domain itself is its mail server
		list = []dns.MX{{Host: domain}}
	}
	list, ok := r.withoutUs(list)
	if !ok {
		return nil, refuse(554, "5.4.6", "Mail for "+domain+" loops back to this host")
	}
	policy, err := r.policy(ctx, domain)
	if err != nil {
		return nil, err
	}
	if policy.Mode == mtasts.Enforce {
		p.vouched = true
		list = slices.DeleteFunc(list, func(m dns.MX) bool { return !policy.Match(m.Host) })
		if len(list) == 0 {
			return nil, refuse(451, "4.7.5", "No mail server of "+domain+" is one of its MTA-STS policy")
		}
	}
	p.vouched = p.vouched || signed
	for _, m := range list[:min(len(list), MaxHosts)] {
		t := target{domain: domain, host: m.Host, name: m.Host, signed: signed, webpki: policy.Mode == mtasts.Enforce}
		if strings.HasPrefix(domain, "_") {
			t.trust = r.bare() // names that no authority certifies, see Options.NoBare
		}
		p.targets = append(p.targets, r.routed(route, t))
	}
	return p, nil
}

// routed puts what a route says into a target, and the usual ports.
func (r *Roads) routed(route Route, t target) target {
	t.smtp, t.https = r.o.SMTPPort, r.o.HTTPSPort
	if route.SMTP != 0 {
		t.smtp = route.SMTP
	}
	if route.HTTPS != 0 {
		t.https = route.HTTPS
	}
	t.noSMTP, t.noWeb = route.NoSMTP, route.NoWeb || r.o.NoWeb
	if route.Trust > t.trust {
		t.trust = route.Trust
	}
	if route.Name != "" {
		t.name = route.Name
	}
	if t.name == "" {
		t.name = t.host
	}
	if ip, err := netip.ParseAddr(t.host); err == nil {
		t.addrs = []netip.Addr{ip}
	}
	return t
}

// bare is the trust in hosts that can have no certificate of an authority.
func (r *Roads) bare() Trust {
	if r.o.NoBare {
		return Verified
	}
	return Encrypted
}

// withoutUs drops this host and all that are not better than it (RFC 5321 §5.1), and
// orders those of equal preference by chance. false: we are the best there is.
func (r *Roads) withoutUs(list []dns.MX) ([]dns.MX, bool) {
	list = slices.Clone(list)
	least := -1
	for _, m := range list {
		if mail.CanonicalDomain(m.Host) == r.o.Hostname && (least < 0 || int(m.Pref) < least) {
			least = int(m.Pref)
		}
	}
	if least >= 0 {
		list = slices.DeleteFunc(list, func(m dns.MX) bool { return int(m.Pref) >= least })
		if len(list) == 0 {
			return nil, false
		}
	}
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	slices.SortStableFunc(list, func(a, b dns.MX) int { return int(a.Pref) - int(b.Pref) })
	return list, true
}

// policy gives the MTA-STS policy of a domain; without one its Mode is None.
func (r *Roads) policy(ctx context.Context, domain string) (mtasts.Policy, error) {
	none := mtasts.Policy{Mode: mtasts.None}
	if r.o.Policies == nil {
		return none, nil
	}
	p, err := r.o.Policies.Policy(ctx, domain)
	switch {
	case err == nil:
		return p, nil
	case errs.KindOf(err) == errs.NotFound, errs.KindOf(err) == errs.Invalid:
		return none, nil
	}
	// It cannot be told whether there is one: somebody may be hiding it.
	return none, refuse(421, "4.4.3", "The MTA-STS policy of "+domain+" cannot be looked up now")
}

// resolve gives the addresses of a target and what DANE says about it.
func (r *Roads) resolve(ctx context.Context, t *target) ([]netip.Addr, dane.Policy, error) {
	if len(t.addrs) > 0 {
		return t.addrs, dane.Policy{}, nil
	}
	h, err := r.o.Names.Addresses(ctx, t.host)
	if err != nil {
		if errs.KindOf(err) == errs.NotFound {
			return nil, dane.Policy{}, refuse(451, "4.4.4", t.host+" has no address")
		}
		return nil, dane.Policy{}, refuse(421, "4.4.3", "DNS resolution failed for "+t.host+": "+errs.Public(err))
	}
	var d dane.Policy
	if t.signed { // else the host's name is nobody's word (RFC 7672 §2.2.1)
		// A look-up that fails is not "no records": somebody may be hiding them (RFC 7672 §2.1.1).
		if d, err = dane.Lookup(ctx, r.o.Names, h, t.smtp); err != nil {
			return nil, dane.Policy{}, refuse(451, "4.7.5", "The TLSA records of "+t.host+" cannot be looked up now")
		}
	}
	return interleave(h.Addrs), d, nil
}

// interleave puts the families in turn, IPv6 first, so that a broken one costs one try only.
func interleave(addrs []netip.Addr) []netip.Addr {
	var six, four, out []netip.Addr
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() {
			four = append(four, a)
		} else {
			six = append(six, a)
		}
	}
	for i := range max(len(six), len(four)) {
		if i < len(six) {
			out = append(out, six[i])
		}
		if i < len(four) {
			out = append(out, four[i])
		}
	}
	return out[:min(len(out), MaxAddresses)]
}

// literal reads "[192.0.2.1]" and "[IPv6:2001:db8::1]".
func literal(domain string) (netip.Addr, bool) {
	s, ok := strings.CutPrefix(domain, "[")
	if !ok {
		return netip.Addr{}, false
	}
	s, ok = strings.CutSuffix(s, "]")
	if !ok {
		return netip.Addr{}, false
	}
	if len(s) > 5 && strings.EqualFold(s[:5], "ipv6:") {
		s = s[5:]
	}
	a, err := netip.ParseAddr(s)
	return a, err == nil
}
