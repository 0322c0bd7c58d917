package dns_test

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail/dkim"
	"postern.email/wire/dns"
	"postern.email/wire/dns/dnstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ dkim.Lookup = new(dns.Resolver).TXT

// resolver asks s alone.
func resolver(t testing.TB, s *dnstest.Server, change ...func(*dns.Options)) *dns.Resolver {
	t.Helper()
	o := dns.Options{Server: s.Addr}
	for _, c := range change {
		c(&o)
	}
	r, err := dns.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func trust(word string) func(*dns.Options) { return func(o *dns.Options) { o.TrustAD = word } }

// check compares what a look-up gave; want is nil where an error of that kind is wanted.
func check(t *testing.T, what string, got any, err error, want any, kind errs.Kind) {
	t.Helper()
	switch {
	case want == nil && (err == nil || errs.KindOf(err) != kind):
		t.Errorf("%s: %v, %v, want an error of kind %v", what, got, err, kind)
	case want != nil && (err != nil || !reflect.DeepEqual(got, want)):
		t.Errorf("%s: %+v, %v, want %+v", what, got, err, want)
	}
}

// TestRecords: every type, with names without last dot and in lower case.
func TestRecords(t *testing.T) {
	long := strings.Repeat("0123456789", 70) + "\x00\xff\"\\\\001;\n" + "ü"
	s := dnstest.New(t,
		"a.example 300 A 192.0.2.1", "a.example 300 AAAA 2001:db8::1", "A.example 300 A 192.0.2.2",
		"m.example 300 MX 20 second.Example", "m.example 300 MX 10 First.Example", "m.example 300 MX 20 third.example",
		"null.example 300 MX 5 .", "mixed.example 300 MX 0 .", "mixed.example 300 MX 7 mx.example",
		`odd.example 300 MX 1 b\032d.example`, "odd.example 300 MX 2 good.example", `worse.example 300 MX 1 b\032d.example`,
		"_25._tcp.a.example 300 TLSA 3 1 1 "+strings.Repeat("ab", 32), "_25._tcp.a.example 300 TLSA 2 0 0 00",
		"_imaps._tcp.a.example 300 SRV 20 1 993 Two.example", "_imaps._tcp.a.example 300 SRV 10 5 993 one.example", "_pop3._tcp.a.example 300 SRV 0 0 0 .",
		`a.example 300 CAA 128 Issue "ca.example; x=\"y\""`, `a.example 300 CAA 0 iodef "mailto:x"`,
		"1.2.0.192.in-addr.arpa 300 PTR Mail.Example",
		"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa 300 PTR six.example",
		"alias.example 300 CNAME A.example", "example 300 NS ns1.Example", "example 300 NS ns2.example",
		`t.example 300 TXT "one " "record"`, `t.example 300 TXT "another"`, `t.example 300 TXT ""`)
	s.AddTXT(t, "long.example", long)
	r := resolver(t, s)
	ctx := t.Context()

	h, err := r.Addresses(ctx, "a.example")
	check(t, "Addresses", h, err, dns.Host{Name: "a.example", Canonical: "a.example",
		Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::1")}}, 0)
	h, err = r.Addresses(ctx, "Alias.Example.")
	if err != nil || h.Name != "alias.example" || h.Canonical != "a.example" || len(h.Addrs) != 3 {
		t.Errorf("an alias: %+v, %v", h, err)
	}
	for name, want := range map[string]any{
		"m.example":     []dns.MX{{Host: "first.example", Pref: 10}, {Host: "second.example", Pref: 20}, {Host: "third.example", Pref: 20}},
		"null.example":  []dns.MX{{}},
		"mixed.example": []dns.MX{{Host: "mx.example", Pref: 7}},
		"odd.example":   []dns.MX{{Host: "good.example", Pref: 2}},
		"worse.example": nil,
	} {
		mx, _, err := r.MX(ctx, name)
		check(t, name, mx, err, want, errs.Unavailable)
	}
	tlsa, _, err := r.TLSA(ctx, "_25._tcp.a.example")
	check(t, "TLSA", tlsa, err, []dns.TLSA{{Usage: 3, Selector: 1, Matching: 1, Data: []byte(strings.Repeat("\xab", 32))}, {Usage: 2, Data: []byte{0}}}, 0)
	srv, _, err := r.SRV(ctx, "_imaps._tcp.a.example")
	check(t, "SRV", srv, err, []dns.SRV{{Target: "one.example", Port: 993, Priority: 10, Weight: 5}, {Target: "two.example", Port: 993, Priority: 20, Weight: 1}}, 0)
	srv, _, err = r.SRV(ctx, "_pop3._tcp.a.example")
	check(t, "SRV of nothing", srv, err, []dns.SRV{{}}, 0)
	caa, _, err := r.CAA(ctx, "a.example")
	check(t, "CAA", caa, err, []dns.CAA{{Critical: true, Tag: "issue", Value: `ca.example; x="y"`}, {Tag: "iodef", Value: "mailto:x"}}, 0)
	for addr, want := range map[string]any{"192.0.2.1": []string{"mail.example"}, "::ffff:192.0.2.1": []string{"mail.example"}, "2001:db8::1": []string{"six.example"}, "192.0.2.9": nil} {
		ptr, _, err := r.PTR(ctx, netip.MustParseAddr(addr))
		check(t, "PTR "+addr, ptr, err, want, errs.NotFound)
	}
	if _, _, err := r.PTR(ctx, netip.Addr{}); errs.KindOf(err) != errs.Invalid {
		t.Errorf("PTR of no address: %v", err)
	}
	target, _, err := r.CNAME(ctx, "alias.example")
	check(t, "CNAME", target, err, "a.example", 0)
	target, _, err = r.CNAME(ctx, "a.example")
	check(t, "CNAME of none", target, err, nil, errs.NotFound)
	ns, _, err := r.NS(ctx, "example")
	check(t, "NS", ns, err, []string{"ns1.example", "ns2.example"}, 0)
	txt, _, err := r.TXT(ctx, "t.example")
	check(t, "TXT", txt, err, []string{"one record", "another", ""}, 0)
	txt, _, err = r.TXT(ctx, "long.example")
	check(t, "TXT of any bytes", txt, err, []string{long}, 0)
}

// TestNames: U-labels are asked for as A-labels, and what is no name is not asked for.
func TestNames(t *testing.T) {
	s := dnstest.New(t, "xn--bcher-kva.example 300 MX 1 mx.example")
	r := resolver(t, s)
	for _, name := range []string{"bücher.example", "BÜCHER.example.", "xn--bcher-kva.example"} {
		if mx, _, err := r.MX(t.Context(), name); err != nil || mx[0].Host != "mx.example" {
			t.Errorf("%s: %v, %v", name, mx, err)
		}
	}
	for _, name := range []string{"", ".", "a..b", ".a", "a b.example", `a\.b.example`, "[192.0.2.1]", "a\x00.example", "\xff.example",
		strings.Repeat("a", 64) + ".example", strings.Repeat("abcdefghi.", 26) + "example", "*.example", "a/b.example"} {
		if _, _, err := r.MX(t.Context(), name); errs.KindOf(err) != errs.Invalid || errs.Public(err) != "not a domain name" {
			t.Errorf("%q: %v", name, err)
		}
	}
	if n := s.Asked("xn--bcher-kva.example", "MX"); n != 1 {
		t.Errorf("three writings of a name were asked for %d times", n)
	}
	for name, want := range map[string]bool{"localhost": true, "a.LocalHost.": true, "notlocalhost": false, "localhost.example": false, "": false} {
		if dns.IsLocal(name) != want {
			t.Errorf("IsLocal(%q) is %v", name, !want)
		}
	}
	h, err := r.Addresses(t.Context(), "postern.localhost")
	if err != nil || len(h.Addrs) != 2 || !h.Addrs[0].IsLoopback() || !h.Addrs[1].IsLoopback() || s.Asked("postern.localhost", "A") != 0 {
		t.Errorf("localhost: %v, %v", h, err)
	}
}

// TestMissing: no such name and no such record are both errs.NotFound, and told apart.
func TestMissing(t *testing.T) {
	s := dnstest.New(t, "here.example 300 A 192.0.2.1", "alias.example 300 CNAME gone.example", "below.deep.example 300 A 192.0.2.1")
	s.Secure("gone.example", "here.example")
	r := resolver(t, s)
	for name, noDomain := range map[string]bool{"here.example": false, "gone.example": true, "alias.example": true, "deep.example": false} {
		_, authentic, err := r.TXT(t.Context(), name)
		if errs.KindOf(err) != errs.NotFound || dns.NoDomain(err) != noDomain || errs.Public(err) != "the name has no such record" {
			t.Errorf("%s: %v", name, err)
		}
		if authentic != (name == "gone.example" || name == "here.example") {
			t.Errorf("%s: authentic is %v", name, authentic)
		}
		_, err = r.Addresses(t.Context(), name)
		if ok := name == "here.example"; (err == nil) != ok || !ok && (errs.KindOf(err) != errs.NotFound || dns.NoDomain(err) != noDomain) {
			t.Errorf("addresses of %s: %v", name, err)
		}
	}
	if dns.NoDomain(nil) {
		t.Error("no error is taken for a missing domain")
	}
}

// TestFailures: what comes of a server that does not answer well.
func TestFailures(t *testing.T) {
	for _, c := range []struct {
		f     dnstest.Failure
		says  string // public text of the error; empty: it works all the same
		asked int    // questions for the name
	}{
		{dnstest.None, "", 1},
		{dnstest.ServFail, "the resolver has no answer now", 1},
		{dnstest.Refused, "the resolver refuses to answer", 1},
		{dnstest.Lame, "the resolver refuses to answer", 1},
		{dnstest.Bogus, "the resolver finds that the answer is not what the domain's owner signed", 1},
		{dnstest.Mangled, "the resolver does not answer", 2},
		{dnstest.Silent, "the resolver does not answer", 2},
		{dnstest.Spoofed, "", 1},
		{dnstest.Truncated, "", 2},
		{dnstest.Old, "", 2},
	} {
		s := dnstest.New(t, "x.example 300 TXT hello")
		s.Fail("x.example", "TXT", c.f)
		r := resolver(t, s, func(o *dns.Options) { o.Timeout = 300 * time.Millisecond })
		if c.says == "" {
			r = resolver(t, s)
		}
		txt, _, err := r.TXT(t.Context(), "x.example")
		switch {
		case c.says == "" && (err != nil || txt[0] != "hello"):
			t.Errorf("failure %d: %q, %v", c.f, txt, err)
		case c.says != "" && (errs.KindOf(err) != errs.Unavailable || errs.Public(err) != c.says):
			t.Errorf("failure %d: %v", c.f, err)
		}
		if n := s.Asked("x.example", "TXT"); n != c.asked {
			t.Errorf("failure %d: asked %d times, want %d", c.f, n, c.asked)
		}
	}
}

// TestLongAnswer: what does not fit into a datagram comes by TCP.
func TestLongAnswer(t *testing.T) {
	s := dnstest.New(t)
	for i := range 40 {
		s.AddTXT(t, "many.example", fmt.Sprintf("%03d%s", i, strings.Repeat("x", 200)))
	}
	txt, _, err := resolver(t, s).TXT(t.Context(), "many.example")
	if err != nil || len(txt) != 40 || s.Asked("many.example", "TXT") != 2 {
		t.Errorf("%d texts, %v, asked %d times", len(txt), err, s.Asked("many.example", "TXT"))
	}
}

// TestCanceled: a caller that gives up gets errs.Canceled at once; one whose time is
// over, errs.Unavailable.
func TestCanceled(t *testing.T) {
	s := dnstest.New(t)
	s.Fail("", "", dnstest.Silent)
	r := resolver(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := r.TXT(ctx, "x.example"); errs.KindOf(err) != errs.Canceled {
		t.Errorf("given up: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.Addresses(ctx, "x.example"); errs.KindOf(err) != errs.Unavailable || errs.Public(err) != "the resolver does not answer" {
		t.Errorf("no time left: %v", err)
	}
}

// TestAliases: chains are followed, also where the server does not do it, but not round
// in a circle or without end.
func TestAliases(t *testing.T) {
	s := dnstest.New(t, "a.example 300 CNAME b.example", "b.example 300 CNAME c.example", "c.example 300 TXT end", "c.example 300 A 192.0.2.1",
		"loop.example 300 CNAME pool.example", "pool.example 300 CNAME loop.example", "self.example 300 CNAME self.example",
		"n0.example 300 TXT end", "root.example 300 CNAME .", `odd.example 300 CNAME x\.y.example`, `x\.y.example 300 TXT odd`)
	for i := range dns.MaxChain + 1 {
		s.Add(t, fmt.Sprintf("n%d.example 300 CNAME n%d.example", i+1, i))
	}
	for _, f := range []dnstest.Failure{dnstest.None, dnstest.Bare} {
		s.Fail("", "", f)
		r := resolver(t, s)
		for name, want := range map[string]string{"a.example": "end", fmt.Sprintf("n%d.example", dns.MaxChain): "end", fmt.Sprintf("n%d.example", dns.MaxChain+1): "",
			"loop.example": "", "self.example": "", "root.example": "", "odd.example": "odd"} {
			txt, _, err := r.TXT(t.Context(), name)
			if want == "" && (errs.KindOf(err) != errs.Unavailable || errs.Public(err) != "the resolver's answer makes no sense") || want != "" && (err != nil || txt[0] != want) {
				t.Errorf("failure %d, %s: %q, %v", f, name, txt, err)
			}
		}
		if h, err := r.Addresses(t.Context(), "a.example"); err != nil || h.Canonical != "c.example" {
			t.Errorf("failure %d: %+v, %v", f, h, err)
		}
		if c, _, err := r.CNAME(t.Context(), "a.example"); err != nil || c != "b.example" {
			t.Errorf("failure %d: one step is %q, %v", f, c, err)
		}
	}
}

// TestAuthentic: an answer is authentic when the server says so of all its parts, and
// the server is believed.
func TestAuthentic(t *testing.T) {
	s := dnstest.New(t, "in.signed.example 300 TXT x", "in.signed.example 300 A 192.0.2.1", "in.signed.example 300 AAAA 2001:db8::1",
		"out.example 300 TXT x", "out.example 300 A 192.0.2.1",
		"toout.signed.example 300 CNAME out.example", "toin.example 300 CNAME in.signed.example", "both.signed.example 300 CNAME in.signed.example",
		". 300 SOA ns. admin. 1 2 3 4 5")
	s.Secure("signed.example")
	for _, f := range []dnstest.Failure{dnstest.None, dnstest.Bare, dnstest.Truncated} {
		s.Fail("", "", f)
		for word, believed := range map[string]bool{"": true, dns.TrustAuto: true, dns.TrustYes: true, dns.TrustNo: false} {
			r := resolver(t, s, trust(word))
			if r.Trusts() != believed {
				t.Errorf("%q: Trusts is %v", word, r.Trusts())
			}
			for name, want := range map[string]bool{"in.signed.example": true, "both.signed.example": true, "out.example": false, "toout.signed.example": false, "toin.example": false} {
				if _, authentic, err := r.TXT(t.Context(), name); err != nil || authentic != (want && believed) {
					t.Errorf("%q, failure %d, %s: authentic is %v, %v", word, f, name, authentic, err)
				}
				if h, err := r.Addresses(t.Context(), name); err != nil || h.Authentic != (want && believed) {
					t.Errorf("%q, failure %d, addresses of %s: %+v, %v", word, f, name, h, err)
				}
			}
		}
	}
	s.Fail("", "", dnstest.None)
	for _, signed := range []bool{false, true} {
		if signed {
			s.Secure(".")
		}
		for _, word := range []string{dns.TrustYes, dns.TrustNo} {
			if got, err := resolver(t, s, trust(word)).DNSSEC(t.Context()); err != nil || got != signed {
				t.Errorf("signed root %v, trust %s: validates is %v, %v", signed, word, got, err)
			}
		}
	}
	s.Fail("", "", dnstest.ServFail)
	if _, err := resolver(t, s).DNSSEC(t.Context()); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("DNSSEC of a server that fails: %v", err)
	}
}

// TestHalfOfAddresses: one kind of address is given when the other cannot be had, but
// not in a signed zone, and not for ever.
func TestHalfOfAddresses(t *testing.T) {
	for _, typ := range []string{"A", "AAAA"} {
		s := dnstest.New(t, "two.example 300 A 192.0.2.1", "two.example 300 AAAA 2001:db8::1", "two.signed.example 300 A 192.0.2.1", "two.signed.example 300 AAAA 2001:db8::1",
			"half.signed.example 300 A 192.0.2.1", "none.example 300 TXT x")
		s.Secure("signed.example")
		s.Fail("", typ, dnstest.ServFail)
		r := resolver(t, s)
		for range 2 {
			if h, err := r.Addresses(t.Context(), "two.example"); err != nil || len(h.Addrs) != 1 || h.Authentic || h.Name != "two.example" {
				t.Errorf("without %s: %+v, %v", typ, h, err)
			}
		}
		if n := s.Asked("two.example", "A") + s.Asked("two.example", "AAAA"); n != 4 {
			t.Errorf("half an answer was kept: asked %d times", n)
		}
		for _, name := range []string{"two.signed.example", "half.signed.example", "none.example"} {
			if h, err := r.Addresses(t.Context(), name); errs.KindOf(err) != errs.Unavailable {
				t.Errorf("without %s, %s: %+v, %v", typ, name, h, err)
			}
		}
		s.Fail("", typ, dnstest.None)
		if h, err := r.Addresses(t.Context(), "two.signed.example"); err != nil || len(h.Addrs) != 2 || !h.Authentic {
			t.Errorf("with both again: %+v, %v", h, err)
		}
	}
}

// TestOptions: what New refuses.
func TestOptions(t *testing.T) {
	for _, o := range []dns.Options{{Server: "192.0.2.1"}, {Server: "192.0.2.1:0"}, {Server: "localhost:53"}, {Server: "192.0.2.1:53", TrustAD: "maybe"}} {
		if _, err := dns.New(o); errs.KindOf(err) != errs.Invalid || strings.Contains(errs.Public(err), "192") {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for server, want := range map[string]bool{"127.0.0.9:53": true, "[::1]:53": true, "[::ffff:127.0.0.1]:53": true, "192.0.2.1:53": false, "[2001:db8::1]:53": false} {
		for word, sure := range map[string]*bool{dns.TrustAuto: nil, dns.TrustYes: new(true), dns.TrustNo: new(false)} {
			r, err := dns.New(dns.Options{Server: server, TrustAD: word, FS: vfs.NewCrashDisk()})
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Trusts(); sure == nil && got != want || sure != nil && got != *sure {
				t.Errorf("%s, %s: believed is %v", server, word, got)
			}
		}
	}
}
