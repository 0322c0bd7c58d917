package road

import (
	"context"
	"fmt"

	"net/netip"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"

	"postern.email/wire/dns/dnstest"
	"postern.email/wire/mtasts"
	"postern.email/wire/smtp"
)

var errNoPolicy = errs.E("test", errs.NotFound, "", nil)

// text gives an outcome in one line.
func text(o Outcome) string {
	if o.Unreached != nil {
		return "unreached: " + o.Unreached.String()
	}
	var list []string
	for _, a := range o.Answers {
		list = append(list, a.String())
	}
	return strings.Join(list, "; ")
}

func wants(t *testing.T, what string, o Outcome, want string) {
	t.Helper()
	if got := text(o); !strings.HasPrefix(got, want) {
		t.Errorf("%s: %s\nwant %s", what, got, want)
	}
}

// records names a host's address.
func (w *world) at(name string, h *host) { w.dns.Add(w.t, name+". 60 A "+h.addr) }

// TestNoWay: domains that mail cannot go to, in the words of the reference where it has some.
func TestNoWay(t *testing.T) {
	w := newWorld(t, "null.example. 60 MX 0 .", "self.example. 60 MX 10 us.example.", "noaddr.example. 60 MX 10 mx.noaddr.example.",
		"mx.noaddr.example. 60 TXT x", "loop.example. 60 MX 10 mx.loop.example.", "mx.loop.example. 60 A 127.0.9.200", "fail.example. 60 TXT x",
		"soa.example. 60 SOA ns. admin. 1 2 3 4 5")
	w.dns.Fail("fail.example", "MX", dnstest.ServFail)
	r := w.roads(func(o *Options) {
		o.Us = func(a netip.AddrPort) bool { return a.Addr().String() == "127.0.9.200" }
	})
	for domain, want := range map[string]string{
		"null.example":     "unreached: 556 5.1.10 Domain null.example does not accept mail (null MX)",
		"gone.soa.example": "unreached: 512 5.1.2 Domain gone.soa.example does not exist",
		"fail.example":     "unreached: 421 4.4.3 DNS resolution failed for fail.example: the resolver has no answer now",
		"self.example":     "unreached: 554 5.4.6 Mail for self.example loops back to this host",
		"loop.example":     "unreached: 451 4.4.6 Mail for loop.example loops back to this host",
		"noaddr.example":   "unreached: 451 4.4.4 mx.noaddr.example has no address",
		"[127.0.9.201]":    "unreached: 421 4.4.1 Failed to connect to any mail server; 127.0.9.201 does not answer",
	} {
		wants(t, domain, send(t, r, job(domain, "x")), want)
	}
}

// TestHosts: the best host first, the next one when it does not answer, hosts that are not better
// than this one never, and the domain itself where there is no MX.
func TestHosts(t *testing.T) {
	w := newWorld(t, "a.example. 60 MX 20 two.example.", "a.example. 60 MX 10 dead.example.", "a.example. 60 MX 30 us.example.", "a.example. 60 MX 40 three.example.",
		"dead.example. 60 A 127.0.9.250")
	two, three, bare := w.newHost("two.example"), w.newHost("three.example"), w.newHost("bare.example")
	w.at("two.example", two)
	w.at("three.example", three)
	w.at("bare.example", bare)
	w.dns.Add(t, "alias.example. 60 CNAME a.example.")
	for _, h := range []*host{two, three, bare} {
		w.serveSMTP(h)
	}
	r := w.roads(nil)
	wants(t, "the second", send(t, r, job("a.example", "x", "y")), "250 2.0.0")
	wants(t, "no MX", send(t, r, job("bare.example", "x")), "250 2.0.0")
	wants(t, "an alias", send(t, r, job("alias.example", "z")), "250 2.0.0")
	if got := fmt.Sprint(len(two.mails()), len(three.mails()), len(bare.mails())); got != "2 0 1" {
		t.Error(got)
	}
	if got := two.mails()[0]; got != "smtp x,y: Subject: x\r\n\r\nbody\r\n" {
		t.Errorf("%q", got)
	}
}

// TestFamilies: IPv6 comes first, and a family that does not answer costs no mail.
func TestFamilies(t *testing.T) {
	w := newWorld(t, "six.example. 60 AAAA ::1", "both.example. 60 AAAA ::1", "dead.example. 60 AAAA 100::1", "dead.example. 60 AAAA ::1")
	six, four := w.newHost("six.example", "both.example", "dead.example"), w.newHost("both.example")
	six.addr = "::1"
	w.at("both.example", four)
	w.serveSMTP(six)
	w.serveSMTP(four)
	r := w.roads(func(o *Options) { o.Connect = 200 * time.Millisecond })
	for _, domain := range []string{"six.example", "both.example", "dead.example", "[IPv6:::1]"} {
		wants(t, domain, send(t, r, job(domain, "x")), "250 2.0.0")
	}
	if len(six.mails()) != 4 || len(four.mails()) != 0 {
		t.Errorf("%d by IPv6, %d by IPv4", len(six.mails()), len(four.mails()))
	}
	got := fmt.Sprint(interleave([]netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("::ffff:192.0.2.3"), netip.MustParseAddr("2001:db8::1")}))
	if got != "[2001:db8::1 192.0.2.1 192.0.2.2 192.0.2.3]" {
		t.Error(got)
	}
}

// TestTLSIsNeeded: nothing leaves without TLS and a certificate that is vouched for, for that name,
// unless the operator or the kind of name says otherwise.
func TestTLSIsNeeded(t *testing.T) {
	w := newWorld(t)
	plain, unknown, other, good := w.newHost("plain.example"), w.newHost(), w.newHost("else.example"), w.newHost("good.example")
	plain.noTLS = true
	for name, h := range map[string]*host{"plain.example": plain, "unknown.example": unknown, "_unknown.example": unknown, "other.example": other, "good.example": good} {
		w.at(name, h)
	}
	for _, h := range []*host{plain, unknown, other, good} {
		w.serveSMTP(h)
	}
	literal := "[" + unknown.addr + "]"
	strict := w.roads(func(o *Options) { o.NoBare = true })
	for domain, want := range map[string]string{
		"plain.example":    "unreached: 451 4.7.4 plain.example does not offer TLS; mail is not sent without it",
		"unknown.example":  "unreached: 451 4.7.5 The TLS certificate of unknown.example is not trusted: ",
		"_unknown.example": "unreached: 451 4.7.5 The TLS certificate of _unknown.example is not trusted: ",
		literal:            "unreached: 451 4.7.5 The TLS certificate of " + unknown.addr + " is not trusted: ",
		"other.example":    "unreached: 451 4.7.5 The TLS certificate of other.example is not trusted: it is for another name",
		"good.example":     "250 2.0.0",
	} {
		wants(t, domain, send(t, strict, job(domain, "x")), want)
	}
	if n := len(plain.mails()) + len(unknown.mails()) + len(other.mails()); n != 0 {
		t.Fatalf("%d mails left all the same", n)
	}
	usual := w.roads(nil)
	wants(t, "a name that cannot be certified", send(t, usual, job("_unknown.example", "x")), "250 2.0.0")
	wants(t, "an address", send(t, usual, job(literal, "x")), "250 2.0.0")
	wants(t, "any other name", send(t, usual, job("unknown.example", "x")), "unreached: 451 4.7.5")
	routes, err := ParseRoutes([]string{"plain.example tls=none", "unknown.example tls=any", "other.example name=else.example",
		"far.example host=" + good.addr + " name=good.example"})
	if err != nil {
		t.Fatal(err)
	}
	told := w.roads(func(o *Options) { o.Routes = routes })
	for domain := range routes {
		wants(t, "told: "+domain, send(t, told, job(domain, "x")), "250 2.0.0")
	}
}

// TestDANE: under DNSSEC a host is what its TLSA records say, whoever signed its certificate; records
// that do not fit, or cannot be looked up, keep mail back; without DNSSEC they say nothing.
func TestDANE(t *testing.T) {
	w := newWorld(t)
	self, good := w.newHost(), w.newHost("good.example")
	w.serveSMTP(self)
	w.serveSMTP(good)
	name := fmt.Sprintf("_%d._tcp.", w.smtp)
	for domain, x := range map[string]struct {
		h    *host
		tlsa string
	}{"self.example": {self, self.tlsa()}, "wrong.example": {self, good.tlsa()}, "good.example": {good, self.tlsa()}, "lost.example": {self, self.tlsa()},
		"open.example": {self, self.tlsa()}} {
		w.dns.Add(t, domain+". 60 MX 10 "+domain+".")
		w.at(domain, x.h)
		w.dns.Add(t, name+domain+". 60 TLSA "+x.tlsa)
	}
	w.dns.Secure("self.example", "wrong.example", "good.example", "lost.example")
	w.dns.Fail(name+"lost.example", "TLSA", dnstest.ServFail)
	r := w.roads(nil)
	for domain, want := range map[string]string{
		"self.example":  "250 2.0.0",
		"wrong.example": "unreached: 451 4.7.5 The TLS certificate of wrong.example is not trusted: it does not fit the TLSA records",
		"good.example":  "unreached: 451 4.7.5 The TLS certificate of good.example is not trusted: it does not fit the TLSA records",
		"lost.example":  "unreached: 451 4.7.5 The TLSA records of lost.example cannot be looked up now",
		"open.example":  "unreached: 451 4.7.5 The TLS certificate of open.example is not trusted: ",
	} {
		wants(t, domain, send(t, r, job(domain, "x")), want)
	}
	// Whichever is stricter: a policy wants an authority too.
	both := w.roads(func(o *Options) {
		o.Policies = fixedPolicies{"self.example": {Mode: mtasts.Enforce, MX: []string{"self.example"}}}
	})
	wants(t, "DANE and MTA-STS", send(t, both, job("self.example", "x")), "unreached: 451 4.7.5 The TLS certificate of self.example")
}

// TestPolicy: an enforced MTA-STS policy names the hosts; one that cannot be told keeps mail back.
func TestPolicy(t *testing.T) {
	w := newWorld(t, "a.example. 60 MX 10 evil.example.", "a.example. 60 MX 20 mx.a.example.", "b.example. 60 MX 10 evil.example.")
	evil, mx := w.newHost("evil.example"), w.newHost("mx.a.example")
	w.at("evil.example", evil)
	w.at("mx.a.example", mx)
	w.serveSMTP(evil)
	w.serveSMTP(mx)
	with := func(p Policies) *Roads { return w.roads(func(o *Options) { o.Policies = p }) }
	enforce := with(fixedPolicies{"a.example": {Mode: mtasts.Enforce, MX: []string{"*.a.example"}}, "b.example": {Mode: mtasts.Enforce, MX: []string{"mx.b.example"}}})
	wants(t, "enforced", send(t, enforce, job("a.example", "x")), "250 2.0.0")
	wants(t, "no host of the policy", send(t, enforce, job("b.example", "x")), "unreached: 451 4.7.5 No mail server of b.example is one of its MTA-STS policy")
	if len(evil.mails()) != 0 || len(mx.mails()) != 1 {
		t.Errorf("%d and %d mails", len(evil.mails()), len(mx.mails()))
	}
	testing := with(fixedPolicies{"a.example": {Mode: mtasts.Testing, MX: []string{"*.a.example"}}})
	wants(t, "only tried", send(t, testing, job("a.example", "x")), "250 2.0.0")
	wants(t, "none", send(t, with(fixedPolicies{}), job("a.example", "x")), "250 2.0.0")
	wants(t, "hidden", send(t, with(hiddenPolicies{}), job("a.example", "x")), "unreached: 421 4.4.3 The MTA-STS policy of a.example cannot be looked up now")
}

type hiddenPolicies struct{}

func (hiddenPolicies) Policy(context.Context, string) (mtasts.Policy, error) {
	return mtasts.Policy{}, errs.E("test", errs.Unavailable, "", nil)
}

// TestWebFirst: a host is asked over HTTPS first; what it says there counts, and where it does not
// take mail this way SMTP follows, which is remembered for a while.
func TestWebFirst(t *testing.T) {
	w := newWorld(t)
	both, smtpOnly, pages := w.newHost("both.example"), w.newHost("smtp.example"), w.newHost("pages.example")
	pages.webStatus, pages.webAnswer = 200, "<html>It works</html>"
	both.refuse["nobody"] = &smtp.Reply{Code: 550, Enhanced: "5.1.1", Text: "no such user"}
	for name, h := range map[string]*host{"both.example": both, "smtp.example": smtpOnly, "pages.example": pages} {
		w.at(name, h)
		w.serveSMTP(h)
	}
	w.serveWeb(both)
	w.serveWeb(pages)
	now := time.Now()
	r := w.roads(func(o *Options) { o.Now = func() time.Time { return now } })
	wants(t, "HTTPS", send(t, r, job("both.example", "x", "y")), "250 2.0.0 OK (HTTPS); 250 2.0.0 OK (HTTPS)")
	wants(t, "refused", send(t, r, job("both.example", "nobody")), "550 5.1.1 no such user")
	wants(t, "one of three refused", send(t, r, job("both.example", "a", "nobody", "b")), "250 2.0.0 OK (HTTPS); 550 5.1.1 no such user; 250 2.0.0 OK (HTTPS)")
	if both.conns != 0 {
		t.Error("SMTP was used")
	}
	wants(t, "SMTP", send(t, r, job("smtp.example", "x")), "250 2.0.0")
	for range 3 {
		wants(t, "pages", send(t, r, job("pages.example", "x")), "250 2.0.0")
	}
	if pages.posts != 1 || len(pages.mails()) != 3 {
		t.Errorf("%d posts, %d mails", pages.posts, len(pages.mails()))
	}
	now = now.Add(DefaultRemember)
	wants(t, "pages, later", send(t, r, job("pages.example", "x")), "250 2.0.0")
	if pages.posts != 2 {
		t.Errorf("%d posts after the memory's time", pages.posts)
	}
	never := w.roads(func(o *Options) { o.NoWeb = true })
	wants(t, "no HTTPS", send(t, never, job("both.example", "x")), "250 2.0.0 OK")
	if both.conns == 0 {
		t.Error("HTTPS was used")
	}
	routes, err := ParseRoutes([]string{"both.example smtp=off", "smtp.example smtp=off", "unknown.example smtp=off host=" + both.addr})
	if err != nil {
		t.Fatal(err)
	}
	only := w.roads(func(o *Options) { o.Routes = routes })
	wants(t, "only HTTPS", send(t, only, job("both.example", "x")), "250 2.0.0 OK (HTTPS)")
	wants(t, "only HTTPS, not there", send(t, only, job("smtp.example", "x")), "unreached: 421 4.4.1 smtp.example does not answer over HTTPS with a certificate that is trusted")
	wants(t, "only HTTPS, another name", send(t, only, job("unknown.example", "x")), "unreached: 421 4.4.1 "+both.addr+" does not answer over HTTPS with a certificate that is trusted")
}

// TestHalf: each recipient has its own answer, in several transactions where the host takes few at
// one time; the connection serves the next mail too.
func TestHalf(t *testing.T) {
	w := newWorld(t)
	h := w.newHost("a.example")
	h.rcptMax = 2
	h.refuse["no"] = &smtp.Reply{Code: 550, Enhanced: "5.1.1", Text: "no such user"}
	h.refuse["later"] = &smtp.Reply{Code: 450, Enhanced: "4.2.0", Text: "greylisted"}
	w.at("a.example", h)
	w.serveSMTP(h)
	s := w.roads(nil).Session("a.example")
	defer s.Close()
	out := s.Send(t.Context(), job("a.example", "a", "no", "b", "later", "c"))
	wants(t, "five", out, "250 2.0.0 OK; 550 5.1.1 no such user; 250 2.0.0 OK; 450 4.2.0 greylisted; 250 2.0.0 OK")
	if out.Host != "a.example" || !out.Reports {
		t.Errorf("%q, reports %v", out.Host, out.Reports)
	}
	wants(t, "once more", s.Send(t.Context(), job("a.example", "d")), "250 2.0.0")
	h.refuse["(data)"] = &smtp.Reply{Code: 523, Text: "Encryption Needed: Invalid Unencrypted Mail"}
	wants(t, "refused as a whole", s.Send(t.Context(), job("a.example", "a", "b")), "523 Encryption Needed: Invalid Unencrypted Mail; 523 Encryption Needed")
	if h.conns > 2 { // one session before STARTTLS, one after
		t.Errorf("%d sessions", h.conns)
	}
}

// TestRequireTLS: a mail that asks for it goes by SMTP, only where somebody vouches for the hosts, and
// with the word.
func TestRequireTLS(t *testing.T) {
	w := newWorld(t)
	h := w.newHost("a.example", "b.example")
	w.at("a.example", h)
	w.at("b.example", h)
	w.serveSMTP(h)
	w.serveWeb(h)
	r := w.roads(func(o *Options) {
		o.Policies = fixedPolicies{"a.example": {Mode: mtasts.Enforce, MX: []string{"a.example"}}}
	})
	for domain, want := range map[string]string{"a.example": "250 2.0.0", "b.example": "550 5.7.30 REQUIRETLS is needed, and nothing vouches for the mail servers of b.example"} {
		j := job(domain, "x")
		j.Options.RequireTLS = true
		wants(t, domain, send(t, r, j), want)
	}
	if h.posts != 0 || len(h.secure) != 1 || !h.secure[0] {
		t.Errorf("%d posts, %v", h.posts, h.secure)
	}
}

// TestClosedMeanwhile: a kept connection that the other side has closed costs nothing but a new one.
func TestClosedMeanwhile(t *testing.T) {
	w := newWorld(t)
	h := w.newHost("a.example")
	w.at("a.example", h)
	w.serveSMTP(h)
	s := w.roads(nil).Session("a.example")
	defer s.Close()
	wants(t, "first", s.Send(t.Context(), job("a.example", "x")), "250 2.0.0")
	s.c.Close()
	wants(t, "second", s.Send(t.Context(), job("a.example", "x")), "250 2.0.0")
}

// TestSlow: hosts that do not speak end within the time to reach a domain.
func TestSlow(t *testing.T) {
	w := newWorld(t)
	h := w.newHost("a.example")
	w.at("a.example", h)
	l := w.listen(h, w.smtp)
	defer l.Close()
	r := w.roads(func(o *Options) { o.Reach, o.NoWeb = 50*time.Millisecond, true })
	wants(t, "silent", send(t, r, job("a.example", "x")), "unreached: 421 4.4.1 a.example does not answer in time")
}

func TestParseRoute(t *testing.T) {
	for s, want := range map[string]Route{
		"Example.ORG host=10.0.0.7 smtp=2525 https=off name=mail.example.org tls=verify": {Domain: "example.org", Host: "10.0.0.7", SMTP: 2525, NoWeb: true, Name: "mail.example.org"},
		"* smtp=26": {Domain: "*", SMTP: 26},
		"[192.0.2.1] host=[2001:db8::1] tls=none": {Domain: "[192.0.2.1]", Host: "2001:db8::1", Trust: Plain},
		"bücher.example tls=any https=444":        {Domain: "xn--bcher-kva.example", Trust: Encrypted, HTTPS: 444},
		"x.example smtp=off":                      {Domain: "x.example", NoSMTP: true},
	} {
		if got, err := ParseRoute(s); err != nil || got != want {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	for s, want := range map[string]string{
		"": "a route is a domain and", "x.example": "a route is a domain and", "a b tls=any": "is not", "x..y tls=any": `"x..y" is not a domain`,
		"x.example port=1": "the words of a route are", "x.example tls=maybe": "tls is verify, any or none", "x.example smtp=0": "write a port from 1 to 65535, or off",
		"x.example smtp=99999": "write a port", "x.example smtp=1 smtp=2": "at most once", "x.example host=": "with a value", "x.example host=a..b": "not the name or address of a host",
		"x.example smtp=off https=off": "leads nowhere",
	} {
		if _, err := ParseRoute(s); errs.KindOf(err) != errs.Invalid || !strings.Contains(errs.Public(err), want) && s != "a b tls=any" {
			t.Errorf("%q: %v", s, err)
		}
	}
	if _, err := ParseRoutes([]string{"a.example tls=any", "A.example tls=none"}); !strings.Contains(errs.Public(err), "two routes") {
		t.Error(err)
	}
	if _, err := ParseRoutes(make([]string, MaxRoutes+1)); errs.KindOf(err) != errs.TooLarge {
		t.Error(err)
	}
}

// TestMemoryIsBounded: what is remembered of hosts has a bound.
func TestMemoryIsBounded(t *testing.T) {
	now := time.Now()
	m := newMemory(time.Minute, func() time.Time { return now })
	for i := range maxHostsKnown + 100 {
		m.bySMTP(fmt.Sprint(i))
	}
	if len(m.hosts) > maxHostsKnown || !m.skipWeb(fmt.Sprint(maxHostsKnown+99)) {
		t.Errorf("%d hosts", len(m.hosts))
	}
}

func FuzzParseRoute(f *testing.F) {
	f.Add("example.org host=10.0.0.7 smtp=2525 https=off name=mail.example.org tls=verify")
	f.Add("* tls=none")
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := ParseRoute(s); err == nil && (r.Domain == "" || r.NoSMTP && r.NoWeb) {
			t.Errorf("%q: %+v", s, r)
		}
	})
}
