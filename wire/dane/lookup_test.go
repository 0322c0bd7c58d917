package dane

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"postern.email/kit/errs"
	"postern.email/wire/dns"
	"postern.email/wire/dns/dnstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ Resolver = new(dns.Resolver)

// TestLookup: where records are looked for, and what is a reason not to deliver (RFC 7672
// §2.1.2, §2.2.3). Names under signed.example are signed.
func TestLookup(t *testing.T) {
	const tlsa = " 300 TLSA 3 1 1 "
	sum := func(c string) string { return strings.Repeat(c, 32) }
	records := []string{
		"plain.signed.example 300 A 192.0.2.1", "_25._tcp.plain.signed.example" + tlsa + sum("01"), "_465._tcp.plain.signed.example" + tlsa + sum("02"),
		"bare.signed.example 300 A 192.0.2.1",
		"in.example 300 A 192.0.2.1", "_25._tcp.in.example" + tlsa + sum("03"),
		"alias.signed.example 300 CNAME plain.signed.example", "_25._tcp.alias.signed.example" + tlsa + sum("04"),
		"second.signed.example 300 CNAME bare.signed.example", "_25._tcp.second.signed.example" + tlsa + sum("05"),
		"out.signed.example 300 CNAME in.example", "_25._tcp.out.signed.example" + tlsa + sum("06"),
		"outbare.signed.example 300 CNAME in.example",
		"into.example 300 CNAME plain.signed.example", "_25._tcp.into.example" + tlsa + sum("07"),
		"far.signed.example 300 A 192.0.2.1", "_25._tcp.far.signed.example 300 CNAME tlsa.elsewhere.example", "tlsa.elsewhere.example" + tlsa + sum("08"),
		"kept.signed.example 300 A 192.0.2.1", "_25._tcp.kept.signed.example 300 CNAME tlsa.signed.example", "tlsa.signed.example" + tlsa + sum("09"),
		"unusable.signed.example 300 A 192.0.2.1", "_25._tcp.unusable.signed.example 300 TLSA 1 1 1 " + sum("0a"),
	}
	type result struct {
		base, data string // of the first record
		kind       errs.Kind
	}
	for _, c := range []struct {
		host string
		port uint16
		fail string // a question that fails: "name type"
		want result
	}{
		{"plain.signed.example", 25, "", result{"plain.signed.example", "\x01", 0}},
		{"plain.signed.example", 465, "", result{"plain.signed.example", "\x02", 0}},
		{"bare.signed.example", 25, "", result{}},
		{"in.example", 25, "", result{}},
		{"in.example", 25, "_25._tcp.in.example TLSA", result{}}, // not asked for
		{"alias.signed.example", 25, "", result{"plain.signed.example", "\x01", 0}},
		{"second.signed.example", 25, "", result{"second.signed.example", "\x05", 0}},
		{"out.signed.example", 25, "", result{"out.signed.example", "\x06", 0}},
		{"outbare.signed.example", 25, "", result{}},
		{"into.example", 25, "", result{}},
		{"far.signed.example", 25, "", result{}},
		{"kept.signed.example", 25, "", result{"kept.signed.example", "\x09", 0}},
		{"unusable.signed.example", 25, "", result{"unusable.signed.example", "\x0a", 0}},
		{"plain.signed.example", 25, "_25._tcp.plain.signed.example TLSA", result{kind: errs.Unavailable}},
		{"bare.signed.example", 25, "_25._tcp.bare.signed.example TLSA", result{kind: errs.Unavailable}},
		{"alias.signed.example", 25, "_25._tcp.plain.signed.example TLSA", result{kind: errs.Unavailable}},
		{"second.signed.example", 25, "_25._tcp.second.signed.example TLSA", result{kind: errs.Unavailable}},
		{"out.signed.example", 25, "out.signed.example CNAME", result{kind: errs.Unavailable}},
	} {
		for _, failure := range []dnstest.Failure{dnstest.ServFail, dnstest.Bogus, dnstest.Refused} {
			s := dnstest.New(t, records...)
			s.Secure("signed.example")
			r, err := dns.New(dns.Options{Server: s.Addr})
			if err != nil {
				t.Fatal(err)
			}
			h, err := r.Addresses(t.Context(), c.host)
			if err != nil {
				t.Fatal(err)
			}
			name, typ, _ := strings.Cut(c.fail, " ")
			if name != "" {
				s.Fail(name, typ, failure)
			}
			p, err := Lookup(t.Context(), r, h, c.port)
			got := result{base: p.Base}
			if err != nil {
				got.kind = errs.KindOf(err)
			}
			if len(p.Records) > 0 {
				got.data = string(p.Records[0].Data[:1])
			}
			if got != c.want || (got.kind == 0) != (err == nil) || p.Applies() != (c.want.base != "") {
				t.Errorf("%s port %d, failing %q: %+v, %v, want %+v", c.host, c.port, c.fail, got, err, c.want)
			}
			if strings.HasPrefix(c.host, "unusable") == p.Authenticates() && p.Applies() {
				t.Errorf("%s: Authenticates is %v", c.host, p.Authenticates())
			}
			if c.fail == "" {
				break
			}
		}
	}
}

// TestLookupTexts: what is said when it cannot be told, and who gave up.
func TestLookupTexts(t *testing.T) {
	s := dnstest.New(t)
	s.Fail("", "", dnstest.ServFail)
	r, err := dns.New(dns.Options{Server: s.Addr})
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, h := range []struct {
		dns.Host
		says string
	}{
		{dns.Host{Name: "mx.example", Canonical: "mx.example", Authentic: true}, "the TLSA records of the mail server cannot be had now"},
		{dns.Host{Name: "mx.example", Canonical: "other.example"}, "it cannot be told whether the mail server has TLSA records"},
	} {
		if p, err := Lookup(t.Context(), r, h.Host, 25); errs.KindOf(err) != errs.Unavailable || errs.Public(err) != h.says || !reflect.DeepEqual(p, Policy{}) {
			t.Errorf("%+v, %v", p, err)
		}
		if _, err := Lookup(gone, r, h.Host, 25); errs.KindOf(err) != errs.Canceled {
			t.Errorf("given up: %v", err)
		}
	}
	// A name that is too long for the labels in front of it has no records.
	long := strings.Repeat("a23456789.", 24) + "example"
	if p, err := Lookup(t.Context(), r, dns.Host{Name: long, Canonical: long, Authentic: true}, 25); err != nil || p.Applies() {
		t.Errorf("%+v, %v", p, err)
	}
}
