package dns

import (
	"context"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"

	mdns "github.com/miekg/dns"

	"postern.email/kit/errs"
)

// Host is a host with its addresses.
type Host struct {
	Name      string // as asked, canonical
	Canonical string // where the CNAMEs ended; Name when there are none
	Addrs     []netip.Addr
	Authentic bool // DNSSEC vouches for all of it: both kinds of addresses and every CNAME
}

// MX is a mail server of a domain. Host "" is the null MX: the domain takes no mail
// (RFC 7505).
type MX struct {
	Host string
	Pref uint16
}

// TLSA is a statement on the certificate of a server (RFC 6698 §2.1).
type TLSA struct {
	Usage, Selector, Matching uint8
	Data                      []byte
}

// SRV is where a service is (RFC 2782). Target "" says that it is not offered.
type SRV struct {
	Target                 string
	Port, Priority, Weight uint16
}

// CAA says who may issue certificates for a domain (RFC 8659 §4.1). Tag is in lower
// case.
type CAA struct {
	Critical   bool
	Tag, Value string
}

// MX gives the mail servers of a domain, best first, those of one preference in the
// order of the answer. A null MX comes alone. Servers whose names no host can have are
// left out; when there are no others, that is errs.Unavailable.
func (r *Resolver) MX(ctx context.Context, domain string) (list []MX, authentic bool, err error) {
	return lookup[[]MX](ctx, r, "wire/dns.MX", domain, mdns.TypeMX)
}

// Addresses gives the IPv4 and IPv6 addresses of a host, asked for at once. When one of
// the two cannot be had, the others are given as not authentic, but not where DNSSEC
// vouches for them: who can suppress an answer must not be able to turn DNSSEC off.
// Names under localhost are this machine, whatever servers say (RFC 6761 §6.3).
func (r *Resolver) Addresses(ctx context.Context, host string) (Host, error) {
	h, _, err := lookup[Host](ctx, r, "wire/dns.Addresses", host, typeAddresses)
	return h, err
}

// TXT gives the texts of a name, the strings of each record joined. It is a
// mail/dkim.Lookup.
func (r *Resolver) TXT(ctx context.Context, name string) (txts []string, authentic bool, err error) {
	return lookup[[]string](ctx, r, "wire/dns.TXT", name, mdns.TypeTXT)
}

// TLSA gives the TLSA records of a name such as _25._tcp.mx.example.org.
func (r *Resolver) TLSA(ctx context.Context, name string) (list []TLSA, authentic bool, err error) {
	return lookup[[]TLSA](ctx, r, "wire/dns.TLSA", name, mdns.TypeTLSA)
}

// PTR gives the names that an address is said to have.
func (r *Resolver) PTR(ctx context.Context, addr netip.Addr) (names []string, authentic bool, err error) {
	const op = "wire/dns.PTR"
	name, err := mdns.ReverseAddr(addr.Unmap().WithZone("").String())
	if err != nil {
		return nil, false, errs.E(op, errs.Invalid, "not an IP address", err)
	}
	return lookup[[]string](ctx, r, op, name, mdns.TypePTR)
}

// SRV gives where a service such as _imaps._tcp.example.org is, best priority first.
func (r *Resolver) SRV(ctx context.Context, name string) (list []SRV, authentic bool, err error) {
	return lookup[[]SRV](ctx, r, "wire/dns.SRV", name, mdns.TypeSRV)
}

// CAA gives the CAA records of exactly this name; who issues certificates climbs to the
// parents when there are none.
func (r *Resolver) CAA(ctx context.Context, name string) (list []CAA, authentic bool, err error) {
	return lookup[[]CAA](ctx, r, "wire/dns.CAA", name, mdns.TypeCAA)
}

// CNAME gives the name that exactly this name is an alias of, one step only.
// errs.NotFound when it is none.
func (r *Resolver) CNAME(ctx context.Context, name string) (target string, authentic bool, err error) {
	return lookup[string](ctx, r, "wire/dns.CNAME", name, mdns.TypeCNAME)
}

// NS gives the name servers of a zone.
func (r *Resolver) NS(ctx context.Context, zone string) (hosts []string, authentic bool, err error) {
	return lookup[[]string](ctx, r, "wire/dns.NS", zone, mdns.TypeNS)
}

// DNSSEC asks for a record of the root zone, which is signed, and reports whether the
// server says that it validated it. Whether that is believed is another question, see
// Trusts.
func (r *Resolver) DNSSEC(ctx context.Context) (validates bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	m, _, err := r.exchange(ctx, ".", mdns.TypeSOA)
	if err != nil {
		return false, errs.Wrap("wire/dns.DNSSEC", err)
	}
	return m.Rcode == mdns.RcodeSuccess && m.AuthenticatedData, nil
}

// Trusts reports whether the AD bit of every server in use is believed.
func (r *Resolver) Trusts() bool {
	return !slices.ContainsFunc(r.servers.list(), func(s server) bool { return !s.trusted })
}

// lookup answers a public question; T is what the type is kept as (see values).
func lookup[T any](ctx context.Context, r *Resolver, op, name string, typ uint16) (v T, authentic bool, err error) {
	name, ok := canonical(name)
	if !ok {
		return v, false, errs.E(op, errs.Invalid, "not a domain name", nil)
	}
	a, err := r.look(ctx, question{name, typ})
	switch {
	case err != nil:
		return v, false, errs.Wrap(op, err)
	case a.err != nil:
		return v, a.authentic, errs.Wrap(op, a.err)
	}
	return a.value.(T), a.authentic, nil
}

// values turns the records of an answer to what is kept and given out, and counts its
// bytes. n is 0 when no record is of use.
func values(typ uint16, rrs []mdns.RR) (v any, n, size int) {
	switch typ {
	case mdns.TypeA, mdns.TypeAAAA:
		return collect(rrs, addrOf)
	case mdns.TypeMX:
		v, n, size := collect(rrs, mxOf)
		list := v.([]MX)
		if n > 1 { // a null MX means nothing beside others (RFC 7505 §3)
			list = slices.DeleteFunc(list, func(m MX) bool { return m.Host == "" })
		}
		slices.SortStableFunc(list, func(a, b MX) int { return int(a.Pref) - int(b.Pref) })
		return list, len(list), size
	case mdns.TypeTXT:
		return collect(rrs, txtOf)
	case mdns.TypeTLSA:
		return collect(rrs, tlsaOf)
	case mdns.TypeSRV:
		v, n, size := collect(rrs, srvOf)
		slices.SortStableFunc(v.([]SRV), func(a, b SRV) int { return int(a.Priority) - int(b.Priority) })
		return v, n, size
	case mdns.TypeCAA:
		return collect(rrs, caaOf)
	case mdns.TypePTR, mdns.TypeNS:
		return collect(rrs, hostOf)
	case mdns.TypeCNAME:
		if c, ok := rrs[0].(*mdns.CNAME); ok {
			if host, ok := hostName(c.Target); ok {
				return host, 1, len(host)
			}
		}
	}
	return nil, 0, 0
}

// collect is the list of what one makes of each record, where it can.
func collect[T any](rrs []mdns.RR, one func(mdns.RR) (v T, size int, ok bool)) (any, int, int) {
	list, size := make([]T, 0, len(rrs)), 0
	for _, rr := range rrs {
		if v, n, ok := one(rr); ok {
			list = append(list, v)
			size += n + recordCost
		}
	}
	return list, len(list), size
}

// recordCost is about what a record costs beside its bytes.
const recordCost = 48

func addrOf(rr mdns.RR) (netip.Addr, int, bool) {
	var ip []byte
	switch rr := rr.(type) {
	case *mdns.A:
		ip = rr.A.To4()
	case *mdns.AAAA:
		ip = rr.AAAA
	}
	a, ok := netip.AddrFromSlice(ip)
	return a.Unmap(), 0, ok
}

func mxOf(rr mdns.RR) (MX, int, bool) {
	m, ok := rr.(*mdns.MX)
	if !ok {
		return MX{}, 0, false
	}
	if m.Mx == "." {
		return MX{}, 0, true
	}
	host, ok := hostName(m.Mx)
	return MX{host, m.Preference}, len(host), ok
}

func txtOf(rr mdns.RR) (string, int, bool) {
	t, ok := rr.(*mdns.TXT)
	if !ok {
		return "", 0, false
	}
	s := unescape(strings.Join(t.Txt, ""))
	return s, len(s), true
}

func tlsaOf(rr mdns.RR) (TLSA, int, bool) {
	t, ok := rr.(*mdns.TLSA)
	if !ok {
		return TLSA{}, 0, false
	}
	data, err := hex.DecodeString(t.Certificate)
	return TLSA{t.Usage, t.Selector, t.MatchingType, data}, len(data), err == nil
}

func srvOf(rr mdns.RR) (SRV, int, bool) {
	s, ok := rr.(*mdns.SRV)
	if !ok {
		return SRV{}, 0, false
	}
	v := SRV{"", s.Port, s.Priority, s.Weight}
	if s.Target != "." {
		v.Target, ok = hostName(s.Target)
	}
	return v, len(v.Target), ok
}

func caaOf(rr mdns.RR) (CAA, int, bool) {
	c, ok := rr.(*mdns.CAA)
	if !ok {
		return CAA{}, 0, false
	}
	return CAA{c.Flag&0x80 != 0, strings.ToLower(c.Tag), c.Value}, len(c.Tag) + len(c.Value), true
}

func hostOf(rr mdns.RR) (string, int, bool) {
	name := ""
	switch rr := rr.(type) {
	case *mdns.PTR:
		name = rr.Ptr
	case *mdns.NS:
		name = rr.Ns
	}
	host, ok := hostName(name)
	return host, len(host), ok
}
