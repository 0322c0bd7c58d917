package relay

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"postern.email/kit/dial"
	"postern.email/kit/errs"
	"postern.email/wire/dns"
)

// Diagnosis is one thing that doctor looked at.
type Diagnosis struct {
	What string `json:"what"`
	OK   bool   `json:"ok"`
	Text string `json:"text"`           // what was found
	Next string `json:"next,omitempty"` // what to do about it
}

// Doctor looks at the relay as strangers do: whether its name leads here, and
// whether what answers there shows a certificate that they trust. It asks the
// resolver and trusts the certificates that the configuration names.
func (s *Server) Doctor(ctx context.Context) ([]Diagnosis, error) {
	const op = "role/relay.Doctor"
	c := &s.c
	d, err := dial.New(dial.Options{CAFiles: c.TLS.TrustedCAs, FS: s.d.FS})
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	var all []Diagnosis
	say := func(what string, ok bool, text, next string) {
		if ok {
			next = ""
		}
		all = append(all, Diagnosis{what, ok, text, next})
	}
	if ip, err := netip.ParseAddr(c.host()); err == nil {
		say("address", true, "the domain is an address: nothing has to be in the DNS", "")
		s.diagnoseDoors(ctx, d, []netip.Addr{ip}, say)
		return all, nil
	}
	s.diagnoseResolver(ctx, say)
	addrs, err := s.addresses(ctx, c.Domain)
	switch {
	case errs.KindOf(err) == errs.NotFound:
		say("address", false, c.Domain+" has no address", "Add an A or AAAA record with this machine's address.")
	case err != nil:
		say("address", false, errs.Public(err), "Look at network.resolver: "+orSystem(c.Network.Resolver))
	case dns.IsLocal(c.Domain):
		say("address", false, c.Domain+" means the machine itself to everybody: no other reaches this one by it", "Set domain to a name that others can look up.")
	default:
		say("address", true, c.Domain+" is "+join(addrs), "")
	}
	mx, _, err := s.names.MX(ctx, c.Domain)
	record := fmt.Sprintf("Add this record: %s. MX 10 %[1]s.", c.Domain)
	switch {
	case err != nil && errs.KindOf(err) != errs.NotFound:
		say("MX", false, errs.Public(err), "Look at network.resolver: "+orSystem(c.Network.Resolver))
	case err != nil:
		say("MX", false, c.Domain+" names no mail server", record)
	default:
		to := mx[0].Host
		if to == "" {
			to = "nobody: it says that it takes no mail (a null MX)"
		}
		say("MX", to == c.Domain, "mail for "+c.Domain+" goes to "+to, record)
	}
	s.diagnoseDoors(ctx, d, addrs, say)
	return all, nil
}

// diagnoseDoors connects to what others are told to connect to.
func (s *Server) diagnoseDoors(ctx context.Context, d *dial.Dialer, addrs []netip.Addr, say func(what string, ok bool, text, next string)) {
	host := s.c.host()
	for _, name := range []string{"https", "imaps", "submissions"} {
		port := s.portOf(name)
		if port == 0 {
			continue
		}
		for _, a := range addrs {
			at := netip.AddrPortFrom(a.Unmap(), uint16(port))
			conn, err := d.TLS(ctx, at, host)
			switch {
			case err == nil:
				conn.Close()
				say(name, true, at.String()+" answers with a certificate that is trusted", "")
			case errs.KindOf(err) == errs.Denied:
				say(name, false, at.String()+" answers with a certificate that is not trusted for "+host,
					"Let the relay get one from an authority (tls.mode = \"acme\"), give it one (tls.cert, tls.key), or name its authority in tls.trusted_cas.")
			default:
				say(name, false, at.String()+" does not answer: "+errs.Public(err), "Look at the firewall, and whether the address is this machine's.")
			}
		}
	}
}

func orSystem(resolver string) string {
	if resolver == "" {
		return "the system's resolver is in use"
	}
	return resolver
}

func join(addrs []netip.Addr) string {
	var list []string
	for _, a := range addrs {
		list = append(list, a.Unmap().String())
	}
	return strings.Join(list, ", ")
}
