package align

import (
	"testing"

	"postern.email/mail"
)

// TestRelaxed: domains of one organization belong together, those below a public suffix do not.
func TestRelaxed(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"shop.example", "shop.example", true},
		{"mail.shop.example", "shop.example", true},
		{"a.b.shop.example", "c.shop.example", true},
		{"SHOP.example", "news.shop.EXAMPLE", true},
		{"shop.co.uk", "mail.shop.co.uk", true},
		{"shop.co.uk", "other.co.uk", false},
		{"co.uk", "shop.co.uk", false},
		{"co.uk", "co.uk", true},
		{"one.github.io", "two.github.io", false}, // a private suffix
		{"shop.example", "notshop.example", false},
		{"shop.example", "shop.example.evil.example", false},
		{"bücher.example", "mail.xn--bcher-kva.example", true},
		{"localhost", "localhost", true},
		{"localhost", "a.localhost", false},
		{"", "", false},
		{"[192.0.2.1]", "[192.0.2.1]", false},
	} {
		if got := Relaxed(c.a, c.b); got != c.want {
			t.Errorf("%s and %s: %v", c.a, c.b, got)
		}
		if Relaxed(c.b, c.a) != c.want {
			t.Errorf("%s and %s: not the same the other way round", c.b, c.a)
		}
	}
	for in, want := range map[string]string{"a.b.shop.co.uk": "shop.co.uk", "co.uk": "co.uk", "[IPv6:2001:db8::1]": "[ipv6:2001:db8::1]", "A.x.Example": "x.example"} {
		if got := Organization(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// FuzzRelaxed: an organization is its own, and whatever is below it belongs to it.
func FuzzRelaxed(f *testing.F) {
	for _, s := range []string{"shop.example", "a.b.co.uk", "x..y", ".", "ü.example", "[1.2.3.4]", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, d string) {
		org := Organization(d)
		a, err := mail.ParseAddress("x@" + d)
		if err != nil || a.Domain[0] == '[' {
			return
		}
		if Organization(org) != org {
			t.Errorf("%q: %q has an organization above it", d, org)
		}
		if !Relaxed(d, d) || !Relaxed(org, d) {
			t.Errorf("%q is not aligned with itself and %q", d, org)
		}
	})
}
