package dns_test

import (
	"strings"
	"testing"

	"postern.email/kit/errs"
	"postern.email/wire/dns"
	"postern.email/wire/dns/dnstest"
)

// TestUnbound: what Debian's unbound validates is authentic, what it finds forged is not
// an answer, and what nobody signed is an answer that is not authentic.
func TestUnbound(t *testing.T) {
	zones := []string{"good.test", "bogus.test", "othersigned.test", "plain.test"}
	s := dnstest.New(t, "plain.test 300 SOA ns.plain.test a.plain.test 1 300 300 300 60", "plain.test 300 NS ns.plain.test", "ns.plain.test 300 A 127.0.0.1")
	for _, z := range zones {
		s.Add(t, z+" 300 MX 10 mx."+z, "mx."+z+" 300 A 192.0.2.1", "mx."+z+" 300 AAAA 2001:db8::1", "four."+z+" 300 A 192.0.2.4",
			"_25._tcp.mx."+z+" 300 TLSA 3 1 1 "+strings.Repeat("ab", 32), z+` 300 TXT "v=spf1 -all"`, "toplain."+z+" 300 CNAME mx.plain.test", "togood."+z+" 300 CNAME mx.good.test")
	}
	good, bogus := s.Sign(t, "good.test"), s.Sign(t, "bogus.test")
	s.Sign(t, "othersigned.test") // but another key is trusted, which signs nothing
	other := strings.Replace(dnstest.New(t).Sign(t, "othersigned.test"), "\t", " ", -1)
	for _, name := range []string{"bogus.test", "mx.bogus.test", "_25._tcp.mx.bogus.test", "none.bogus.test", "four.bogus.test"} {
		for _, typ := range []string{"MX", "A", "AAAA", "TXT", "TLSA"} {
			s.Fail(name, typ, dnstest.Forged)
		}
	}
	r, err := dns.New(dns.Options{Server: s.Unbound(t, "127.0.0.1", zones, []string{good, bogus, other})})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for zone, want := range map[string]struct {
		kind      errs.Kind
		authentic bool
	}{"good.test": {0, true}, "plain.test": {0, false}, "bogus.test": {errs.Unavailable, false}, "othersigned.test": {errs.Unavailable, false}} {
		verdict := func(what string, found int, authentic bool, err error) {
			t.Helper()
			switch {
			case want.kind == 0 && (err != nil || found == 0 || authentic != want.authentic):
				t.Errorf("%s: %s: %d records, authentic %v, %v", zone, what, found, authentic, err)
			case want.kind != 0 && (errs.KindOf(err) != want.kind || errs.Public(err) != "the resolver finds that the answer is not what the domain's owner signed"):
				t.Errorf("%s: %s: %d records, %v", zone, what, found, err)
			}
		}
		mx, authentic, err := r.MX(ctx, zone)
		verdict("MX", len(mx), authentic, err)
		h, err := r.Addresses(ctx, "mx."+zone)
		verdict("addresses", len(h.Addrs), h.Authentic, err)
		h, err = r.Addresses(ctx, "four."+zone) // the denial of AAAA is signed too
		verdict("one address", len(h.Addrs), h.Authentic, err)
		tlsa, authentic, err := r.TLSA(ctx, "_25._tcp.mx."+zone)
		verdict("TLSA", len(tlsa), authentic, err)
		txt, authentic, err := r.TXT(ctx, zone)
		verdict("TXT", len(txt), authentic, err)
		for name, noDomain := range map[string]bool{"mx." + zone: false, "none." + zone: true} {
			_, authentic, err := r.TXT(ctx, name)
			kind := want.kind
			if kind == 0 {
				kind = errs.NotFound
			}
			if errs.KindOf(err) != kind || kind == errs.NotFound && (authentic != want.authentic || dns.NoDomain(err) != noDomain) {
				t.Errorf("%s: denial of %s: authentic %v, %v", zone, name, authentic, err)
			}
		}
	}
	for name, want := range map[string]bool{"toplain.good.test": false, "togood.good.test": true, "togood.plain.test": false} {
		if h, err := r.Addresses(ctx, name); err != nil || h.Authentic != want || !strings.HasPrefix(h.Canonical, "mx.") {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
	// The alias itself is signed where it leads out: what DANE asks for then.
	if to, authentic, err := r.CNAME(ctx, "toplain.good.test"); err != nil || !authentic || to != "mx.plain.test" {
		t.Errorf("the alias: %q, authentic %v, %v", to, authentic, err)
	}
}
