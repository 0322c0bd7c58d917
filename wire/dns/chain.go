package dns

import (
	"errors"
	"strings"
	"time"

	mdns "github.com/miekg/dns"

	"postern.email/kit/errs"
)

// chain is where the CNAMEs of a name have led so far. Only records of the name asked
// for, and of the names that CNAMEs lead to from there, are looked at: what else an
// answer holds was not asked for and may be anybody's word.
type chain struct {
	at        string // the name that is asked for now, in lower case, without the last dot
	hops      int
	authentic bool
	ttl       time.Duration // the least of all records used, at most MaxTTL
	found     []mdns.RR     // of the type asked for, at the end of the chain
	missing   error         // or why there are none
}

// follow reads one answer to a question for c.at. whole is false when it ends with a
// CNAME and says nothing about the target, which is then to be asked for.
func (c *chain) follow(m *mdns.Msg, typ uint16) (whole bool, err error) {
	const op = "wire/dns.follow"
	asked := c.at
	for {
		var alias *mdns.CNAME
		for _, rr := range m.Answer {
			h := rr.Header()
			if h.Class != mdns.ClassINET || !sameName(h.Name, c.at) {
				continue
			}
			switch {
			case h.Rrtype == typ:
				c.found = append(c.found, rr)
				c.lives(h.Ttl)
			case h.Rrtype == mdns.TypeCNAME && alias == nil:
				alias, _ = rr.(*mdns.CNAME)
			}
		}
		if len(c.found) > 0 && m.Rcode == mdns.RcodeSuccess {
			return true, nil
		}
		if alias == nil || typ == mdns.TypeCNAME {
			break
		}
		target := strings.ToLower(strings.TrimSuffix(alias.Target, "."))
		if c.hops++; c.hops > MaxChain {
			return false, errs.E(op, errs.Unavailable, "the resolver's answer makes no sense", errors.New("a loop of aliases, or too many"))
		}
		if target == "" {
			return false, errs.E(op, errs.Unavailable, "the resolver's answer makes no sense", errors.New("an alias of the root"))
		}
		c.lives(alias.Hdr.Ttl)
		c.at = target
	}
	soa := c.soa(m)
	switch {
	case m.Rcode == mdns.RcodeNameError:
		c.missing, c.found = errNoDomain, nil
	case soa == nil && c.at != asked:
		return false, nil
	default:
		c.missing = errors.New("no such record")
	}
	c.negative(soa)
	return true, nil
}

func (c *chain) lives(ttl uint32) { c.ttl = min(c.ttl, time.Duration(ttl)*time.Second) }

// soa is the record that says how long a denial holds (RFC 2308 §3).
func (c *chain) soa(m *mdns.Msg) *mdns.SOA {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*mdns.SOA); ok && soa.Hdr.Class == mdns.ClassINET && mdns.IsSubDomain(soa.Hdr.Name, c.at+".") {
			return soa
		}
	}
	return nil
}

// negative sets how long a denial is kept (RFC 2308 §5): not at all without a SOA
// record.
func (c *chain) negative(soa *mdns.SOA) {
	if soa == nil {
		c.ttl = 0
		return
	}
	c.lives(min(soa.Hdr.Ttl, soa.Minttl))
	c.ttl = min(max(c.ttl, MinTTL), MaxNegativeTTL)
}

// sameName compares a name of a record with one in our form (RFC 4343).
func sameName(record, name string) bool {
	return len(record) == len(name)+1 && record[len(name)] == '.' && strings.EqualFold(record[:len(name)], name)
}
