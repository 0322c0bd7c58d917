package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"postern.email/kit/errs"
	"postern.email/mail/dmarc"
	"postern.email/post/dkimkey"
	"postern.email/wire/dns"
	"postern.email/wire/mtasts"
)

func fine(says string) finding { return finding{verdict: RecordOK, says: says} }

func wrong(says string, found ...string) finding {
	return finding{verdict: RecordWrong, says: says, found: found}
}

// checkAddress looks for one address of this machine. own are all of them; known is false
// when they are only what the DNS says. The first one's check speaks of those that are not
// this machine's too.
func (s *Server) checkAddress(a netip.Addr, own []netip.Addr, known, first bool) func(context.Context) finding {
	return func(ctx context.Context) finding {
		found, err := s.addresses(ctx, s.c.Domain)
		if err != nil {
			return recordError(err)
		}
		if !known {
			return fine("whether it is this machine's cannot be seen from here (network.addresses)")
		}
		var foreign []netip.Addr
		there, kin := false, false // a, and another of its kind
		for _, x := range found {
			x = x.Unmap()
			there = there || x == a
			kin = kin || x.Is4() == a.Is4()
			if !slices.ContainsFunc(own, func(o netip.Addr) bool { return o.Unmap() == x }) {
				foreign = append(foreign, x)
			}
		}
		switch {
		case first && len(foreign) > 0:
			return finding{verdict: RecordWrong, says: "the domain leads to " + join(foreign) + ", which is not this machine", found: texts(found),
				next: "Leave only this machine's addresses, or name those under which it is reached in network.addresses."}
		case there:
			return fine("")
		case kin:
			return finding{verdict: RecordMissing, says: "there are others, but not this one", found: texts(found)}
		}
		return finding{verdict: RecordMissing, says: "there is no such record", found: texts(found)}
	}
}

// checkAnyAddress is the check where nothing is known of any address.
func (s *Server) checkAnyAddress(ctx context.Context) finding {
	found, err := s.addresses(ctx, s.c.Domain)
	if err != nil {
		return recordError(err)
	}
	return fine("it leads to " + join(found))
}

func texts(addrs []netip.Addr) (all []string) {
	for _, a := range addrs {
		all = append(all, a.Unmap().String())
	}
	return all
}

// checkReverse looks for the name of an address.
func (s *Server) checkReverse(a netip.Addr) func(context.Context) finding {
	return func(ctx context.Context) finding {
		names, _, err := s.names.PTR(ctx, a)
		ask := "Ask whoever gave you the address to set its reverse DNS to " + s.c.Domain + "."
		switch {
		case err != nil:
			f := recordError(err)
			if f.verdict == RecordMissing {
				f.says, f.next = "the address has no name", ask
			}
			return f
		case slices.Contains(names, s.c.Domain):
			return fine("")
		}
		f := wrong("the address is called "+strings.Join(names, ", "), names...)
		f.next = ask
		return f
	}
}

// checkMX wants this relay as the only mail server of a domain.
func (s *Server) checkMX(domain string) func(context.Context) finding {
	return func(ctx context.Context) finding {
		list, _, err := s.names.MX(ctx, domain)
		if err != nil {
			return recordError(err)
		}
		var hosts []string
		for _, m := range list {
			if m.Host != s.c.Domain {
				hosts = append(hosts, m.Host)
			}
		}
		switch {
		case len(hosts) == 0:
			return fine("")
		case list[0].Host == "":
			return wrong("the domain says that it takes no mail (a null MX)")
		case len(hosts) < len(list):
			return wrong("mail goes to "+strings.Join(hosts, ", ")+" too", hosts...)
		}
		return wrong("mail goes to "+strings.Join(hosts, ", "), hosts...)
	}
}

// txts gives the texts at a name that begin with a prefix, in any case.
func (s *Server) txts(ctx context.Context, name, prefix string) ([]string, error) {
	all, _, err := s.names.TXT(ctx, name)
	var some []string
	for _, t := range all {
		if len(t) >= len(prefix) && strings.EqualFold(t[:len(prefix)], prefix) {
			some = append(some, t)
		}
	}
	return some, err
}

// one gives the only text at a name that begins with a prefix, else what is wrong.
func (s *Server) one(ctx context.Context, name, prefix string) (string, finding, bool) {
	all, err := s.txts(ctx, name, prefix)
	switch {
	case err != nil:
		return "", recordError(err), false
	case len(all) == 0:
		return "", finding{verdict: RecordMissing, says: "there is no such record"}, false
	case len(all) > 1:
		return "", wrong("there are several of this kind, and others take none then", all...), false
	}
	return all[0], finding{}, true
}

// checkText wants one text of a kind, just this one but for white space and case.
func (s *Server) checkText(name, prefix, want string) func(context.Context) finding {
	return func(ctx context.Context) finding {
		t, f, ok := s.one(ctx, name, prefix)
		switch {
		case !ok:
			return f
		case strings.EqualFold(strings.TrimSpace(t), want):
			return fine("")
		}
		return wrong("there is another one: "+t, t)
	}
}

// checkSPF wants one policy, which allows this machine (RFC 7208 §4.5, §5).
func (s *Server) checkSPF(domain string) func(context.Context) finding {
	return func(ctx context.Context) finding {
		all, err := s.txts(ctx, domain, "v=spf1")
		all = slices.DeleteFunc(all, func(t string) bool { return len(t) > 6 && t[6] != ' ' })
		switch {
		case err != nil:
			return recordError(err)
		case len(all) == 0:
			return finding{verdict: RecordMissing, says: "there is no such record"}
		case len(all) > 1:
			return wrong("there are several, and others take none then", all...)
		case spfNames(all[0], domain, s.c.Domain, s.here()):
			return fine("")
		}
		return wrong("the one there does not name this machine: "+all[0], all[0])
	}
}

// spfNames reports whether the policy of a domain names the addresses of host: by its own mail server,
// which checkMX looks at; by host itself or its policy; or every one of addrs by itself. It must do so before it
// judges all.
func spfNames(policy, domain, host string, addrs []netip.Addr) bool {
	rest := slices.Clone(addrs)
	for _, term := range strings.Fields(strings.ToLower(policy))[1:] {
		term = strings.TrimPrefix(term, "+")
		if to, ok := strings.CutPrefix(term, "redirect="); ok && domain != host && strings.TrimSuffix(to, ".") == host {
			return true
		}
		name, value, given := strings.Cut(term, ":")
		name, mask, _ := strings.Cut(name, "/")
		value, bits, _ := strings.Cut(value, "/")
		if value = strings.TrimSuffix(value, "."); !given {
			value = domain
		}
		switch name {
		case "a":
			if value == host {
				return true
			}
		case "mx":
			if value == host || value == domain {
				return true
			}
		case "include":
			if value == host && domain != host {
				return true
			}
		case "ip4", "ip6":
			if bits != "" {
				value += "/" + bits
			}
			p, err := netip.ParsePrefix(value)
			if a, aerr := netip.ParseAddr(value); err != nil && aerr == nil {
				p, err = a.Prefix(a.BitLen())
			}
			if err == nil && mask == "" && len(rest) > 0 {
				if rest = slices.DeleteFunc(rest, func(a netip.Addr) bool { return p.Contains(a.Unmap()) }); len(rest) == 0 {
					return true
				}
			}
		case "all":
			return true // "+all" allows everybody
		case "-all", "~all", "?all":
			return false
		}
	}
	return false
}

// checkDMARC wants one policy that asks others to do something (RFC 9989 §4.7).
func (s *Server) checkDMARC(name string) func(context.Context) finding {
	return func(ctx context.Context) finding {
		t, f, ok := s.one(ctx, name, "v=DMARC1")
		if !ok {
			return f
		}
		if r, _ := dmarc.Parse(t); r.Policy == dmarc.Reject || r.Policy == dmarc.Quarantine {
			return fine("")
		}
		return wrong("the one there asks for nothing, so anybody can write in the name of your users: "+t, t)
	}
}

// checkKey wants a signing key of a domain just as it is.
func (s *Server) checkKey(domain string, key dkimkey.PublicKey) func(context.Context) finding {
	return func(ctx context.Context) finding {
		switch key.Look(ctx, domain, s.freshTXT) {
		case dkimkey.Found:
			return fine("")
		case dkimkey.Absent:
			return finding{verdict: RecordMissing, says: "there is no such record"}
		case dkimkey.Other:
			return wrong("there is another one, or one that was cut")
		}
		return finding{verdict: RecordUnknown, says: "the resolver does not answer", next: "Look at network.resolver, or try later."}
	}
}

// checkPolicy wants the announcement of our MTA-STS policy in a domain.
func (s *Server) checkPolicy(domain, record string) func(context.Context) finding {
	return func(ctx context.Context) finding {
		all, _, err := s.names.TXT(ctx, mtasts.RecordPrefix+domain)
		if err != nil {
			return recordError(err)
		}
		id, err := mtasts.ParseRecord(all)
		own, _ := mtasts.ParseRecord([]string{record})
		switch {
		case errs.KindOf(err) == errs.NotFound && len(all) == 0:
			return recordError(err)
		case err != nil:
			return wrong("what is there announces no policy", all...)
		case id != own:
			return wrong("its id is that of another policy: others do not fetch this one", all...)
		}
		return fine("")
	}
}

// checkReports wants an address for TLS reports, where the operator has one.
func (s *Server) checkReports(name string, wanted bool) func(context.Context) finding {
	return func(ctx context.Context) finding {
		t, f, ok := s.one(ctx, name, "v=TLSRPTv1")
		switch {
		case !ok && f.verdict == RecordMissing && !wanted:
			return finding{verdict: RecordNotNeeded, says: "there is none, and no address for reports is configured"}
		case !ok:
			return f
		case !strings.Contains(t, "rua="):
			return wrong("it names nobody to report to: "+t, t)
		}
		return fine("")
	}
}

// checkAlias wants a name that leads where the domain does.
func (s *Server) checkAlias(name string) func(context.Context) finding {
	return func(ctx context.Context) finding {
		found, err := s.addresses(ctx, name)
		if err != nil {
			return recordError(err)
		}
		own, err := s.addresses(ctx, s.c.Domain)
		switch {
		case errs.KindOf(err) == errs.NotFound:
			own = s.here()
		case err != nil:
			return recordError(err)
		}
		for _, a := range found {
			if slices.ContainsFunc(own, func(b netip.Addr) bool { return a.Unmap() == b.Unmap() }) {
				return fine("")
			}
		}
		return wrong("it leads to "+join(found)+", and the domain does not", texts(found)...)
	}
}

// checkPin wants the key of the certificate where DNSSEC vouches for the domain, and no
// other key anywhere: there it would keep mail away (RFC 7672 §2.2).
func (s *Server) checkPin(name string, sum []byte) func(context.Context) finding {
	return func(ctx context.Context) finding {
		list, _, err := s.names.TLSA(ctx, name)
		h, _ := s.names.Addresses(ctx, s.c.Domain)
		switch {
		case err != nil:
			f := recordError(err)
			if f.verdict == RecordMissing && !h.Authentic {
				return finding{verdict: RecordNotNeeded, says: "there is none, and DNSSEC is not seen to vouch for the domain"}
			}
			return f
		case slices.ContainsFunc(list, func(t dns.TLSA) bool {
			return t.Usage == 3 && t.Selector == 1 && t.Matching == 1 && bytes.Equal(t.Data, sum)
		}):
			return fine("")
		}
		f := wrong("the one there is not the key of this certificate")
		for _, t := range list {
			f.found = append(f.found, fmt.Sprintf("%d %d %d %x", t.Usage, t.Selector, t.Matching, t.Data))
		}
		if f.required = h.Authentic; f.required {
			f.says += ": hosts that look at DNSSEC refuse to deliver"
		}
		return f
	}
}

// leaf is the certificate that others are shown, nil while there is none but a stopgap.
func (s *Server) leaf() *x509.Certificate {
	if st := s.certs.Status(); st.Certs[0].Issuer == "" && st.Mode == tlsACME {
		return nil
	}
	p, err := s.certs.Config(tls.VersionTLS12).GetCertificate(&tls.ClientHelloInfo{ServerName: s.c.host()})
	if err != nil {
		return nil
	}
	return p.Leaf
}

// checkService wants a service at a port, or not at all (port 0).
func (s *Server) checkService(name string, port int) func(context.Context) finding {
	return func(ctx context.Context) finding {
		list, _, err := s.names.SRV(ctx, name)
		if err != nil {
			f := recordError(err)
			if f.verdict == RecordMissing && port == 0 {
				return finding{verdict: RecordNotNeeded, says: "there is none, and nothing is offered"}
			}
			return f
		}
		var found []string
		for _, v := range list {
			switch {
			case v.Target == "" && port == 0, v.Target == s.c.Domain && int(v.Port) == port:
			case v.Target == "":
				found = append(found, "none")
			default:
				found = append(found, fmt.Sprintf("%s port %d", v.Target, v.Port))
			}
		}
		if len(found) == 0 {
			return fine("")
		}
		return wrong("mail programs are sent to "+strings.Join(found, ", "), found...)
	}
}

// knownCAA are the tags that authorities understand; they refuse where another one is
// critical (RFC 8659 §4.1).
var knownCAA = []string{"issue", "issuewild", "issuemail", "issuevmc", "iodef", "contactemail", "contactphone"}

// checkAuthority wants the authority in use to be allowed, and to be the only one. What a
// domain does not say its parents say for it (RFC 8659 §3).
func (s *Server) checkAuthority(ca, account string) func(context.Context) finding {
	return func(ctx context.Context) finding {
		var list []dns.CAA
		for at := s.c.Domain; ; {
			var err error
			if list, _, err = s.names.CAA(ctx, at); err == nil {
				break
			} else if errs.KindOf(err) != errs.NotFound {
				return recordError(err)
			}
			var more bool
			if _, at, more = strings.Cut(at, "."); !more {
				return recordError(err)
			}
		}
		var found []string
		allowed, strict, issue := false, account == "", false
		for _, r := range list {
			found = append(found, r.Tag+" "+r.Value)
			if r.Critical && !slices.Contains(knownCAA, r.Tag) {
				f := wrong("a record that no authority understands forbids all: "+r.Tag, found...)
				f.required = true
				return f
			}
			if r.Tag != "issue" {
				continue
			}
			issue = true
			name, rest, _ := strings.Cut(r.Value, ";")
			if !strings.EqualFold(strings.TrimSpace(name), ca) {
				continue
			}
			uri, given := "", false
			for p := range strings.SplitSeq(rest, ";") {
				if k, v, ok := strings.Cut(p, "="); ok && strings.EqualFold(strings.TrimSpace(k), "accounturi") {
					uri, given = strings.TrimSpace(v), true
				}
			}
			allowed = allowed || !given || account == "" || uri == account
			strict = strict || given && uri == account
		}
		switch {
		case !issue:
			return finding{verdict: RecordMissing, says: "any authority may give out certificates", found: found}
		case !allowed:
			f := wrong("the authority in use may not give out certificates: "+strings.Join(found, ", "), found...)
			f.required = true // the next renewal fails
			return f
		case !strict:
			return finding{verdict: RecordOK, says: "to say which account as well, put the line above in its place", found: found}
		}
		return fine("")
	}
}

// printable replaces what could do harm on a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, text)
}
