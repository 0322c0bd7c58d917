package mail

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"postern.email/kit/errs"
)

func TestParseAddress(t *testing.T) {
	long := strings.Repeat("a", 64)
	label := strings.Repeat("b", 63)
	for _, c := range []struct {
		in            string
		local, domain string
		kind          error // nil: accepted
	}{
		{in: "a@b", local: "a", domain: "b"},
		{in: "First.Last+tag@Example.ORG", local: "First.Last+tag", domain: "Example.ORG"},
		{in: "!#$%&'*+-/=?^_`{|}~@x.y", local: "!#$%&'*+-/=?^_`{|}~", domain: "x.y"},
		{in: `"a b"@x.y`, local: "a b", domain: "x.y"},
		{in: `"a\"b\\c"@x.y`, local: `a"b\c`, domain: "x.y"},
		{in: `"a@b>"@x.y`, local: "a@b>", domain: "x.y"},
		{in: `"a..b"@x.y`, local: "a..b", domain: "x.y"},
		{in: "a@_test.example", local: "a", domain: "_test.example"},
		{in: "a@[192.0.2.1]", local: "a", domain: "[192.0.2.1]"},
		{in: "a@[IPv6:2001:db8::1]", local: "a", domain: "[IPv6:2001:db8::1]"},
		{in: "用户@例え.jp", local: "用户", domain: "例え.jp"},
		{in: "é@bücher.example", local: "é", domain: "bücher.example"},
		{in: long + "@b", local: long, domain: "b"},
		{in: "a@" + label + "." + label + "." + label, local: "a", domain: label + "." + label + "." + label},

		{in: "", kind: errs.Invalid},
		{in: "a", kind: errs.Invalid},
		{in: "@b", kind: errs.Invalid},
		{in: "a@", kind: errs.Invalid},
		{in: "a@b@c", kind: errs.Invalid},
		{in: ".a@b", kind: errs.Invalid},
		{in: "a.@b", kind: errs.Invalid},
		{in: "a..b@c", kind: errs.Invalid},
		{in: "a b@c", kind: errs.Invalid},
		{in: " a@c", kind: errs.Invalid},
		{in: "a@c ", kind: errs.Invalid},
		{in: "a(c)@b", kind: errs.Invalid},
		{in: "<a@b>", kind: errs.Invalid},
		{in: `""@b`, kind: errs.Invalid},
		{in: `"a@b`, kind: errs.Invalid},
		{in: `"a"b@c`, kind: errs.Invalid},
		{in: "\"a\r\nb\"@c", kind: errs.Invalid},
		{in: "\"a\\\nb\"@c", kind: errs.Invalid},
		{in: "a\x00@b", kind: errs.Invalid},
		{in: "a\u0085b@c", kind: errs.Invalid},
		{in: "\xff@b", kind: errs.Invalid},
		{in: "a@b..c", kind: errs.Invalid},
		{in: "a@b.", kind: errs.Invalid},
		{in: "a@-b.c", kind: errs.Invalid},
		{in: "a@b-.c", kind: errs.Invalid},
		{in: "a@b c", kind: errs.Invalid},
		{in: "a@b＠c", kind: errs.Invalid}, // a full-width @ that IDNA would map to "@"
		{in: "a@" + label + "x.y", kind: errs.Invalid},
		{in: "a@[1.2.3]", kind: errs.Invalid},
		{in: "a@[1.2.3.4", kind: errs.Invalid},
		{in: "a@[01.2.3.4]", kind: errs.Invalid},
		{in: "a@[2001:db8::1]", kind: errs.Invalid},
		{in: "a@[IPv6:1.2.3.4]", kind: errs.Invalid},
		{in: "a@[IPv6:fe80::1%eth0]", kind: errs.Invalid},
		{in: "a@[x:y]", kind: errs.Invalid},

		{in: long + "a@b", kind: errs.TooLarge},
		{in: long + "@" + label + "." + label + "." + label[1:], kind: errs.TooLarge}, // 255 in all
		{in: long + "@" + strings.Repeat(label+".", 4) + "x", kind: errs.Invalid},     // domain over 255
		{in: strings.Repeat("a", 1000), kind: errs.TooLarge},
	} {
		a, err := ParseAddress(c.in)
		if c.kind != nil {
			if !errors.Is(err, c.kind) || a != (Address{}) {
				t.Errorf("%q: %v, %v; want %v", c.in, a, err, c.kind)
			}
			continue
		}
		if err != nil || a != (Address{c.local, c.domain}) {
			t.Errorf("%q: %+v, %v", c.in, a, err)
		}
		if got := a.String(); got != c.in {
			t.Errorf("%q: String gives %q", c.in, got)
		}
	}
}

func TestParsePath(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Address
		ok   bool
	}{
		{"<>", Address{}, true},
		{"<a@b.c>", Address{"a", "b.c"}, true},
		{"<@x.y:a@b.c>", Address{"a", "b.c"}, true},
		{"<@x.y,@[192.0.2.1]:a@b.c>", Address{"a", "b.c"}, true},
		{`<"a>b"@c>`, Address{"a>b", "c"}, true},
		{`<"a\">"@c>`, Address{`a">`, "c"}, true},
		{"<PostMaster>", Address{Local: "postmaster"}, true},
		{"", Address{}, false},
		{"<", Address{}, false},
		{"<a@b", Address{}, false},
		{"a@b", Address{}, false},
		{"<a@b>x", Address{}, false},
		{"<a@b> SIZE=1", Address{}, false},
		{"< a@b>", Address{}, false},
		{"<@x a@b>", Address{}, false},
		{"<@:a@b>", Address{}, false},
		{"<@x.y,>", Address{}, false},
		{"<@x.y,a@b>", Address{}, false},
		{"<@x.y>", Address{}, false},
		{"<@x.y:>", Address{}, false},
		{"<@x.y:@z.y:a@b>", Address{}, false},
		{"<root>", Address{}, false},
		{"<@" + strings.Repeat("x,@", 3000) + "x:a@b>", Address{}, false},
	} {
		a, err := ParsePath(c.in)
		if (err == nil) != c.ok || a != c.want {
			t.Errorf("%q: %+v, %v", c.in, a, err)
		}
	}
}

func TestCutPath(t *testing.T) {
	path, rest, ok := CutPath(`<"> "@b> SIZE=1`)
	if path != `<"> "@b>` || rest != " SIZE=1" || !ok {
		t.Errorf("%q %q %v", path, rest, ok)
	}
	if _, rest, ok := CutPath("a@b"); ok || rest != "a@b" {
		t.Errorf("%q %v", rest, ok)
	}
}

func TestCanonical(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"Joe@EXAMPLE.org", "joe@example.org"},
		{"Joé@EXAMPLE.org", "joé@example.org"},
		{"\u212A@x.y", "\u212A@x.y"}, // the Kelvin sign is not the letter k
		{"a@BÜCHER.example", "a@xn--bcher-kva.example"},
		{"a@XN--BCHER-KVA.example", "a@xn--bcher-kva.example"},
		{"a@bücher。example", "a@xn--bcher-kva.example"},
		{"a@faß.example", "a@xn--fa-hia.example"},
		{"a@[IPv6:2001:DB8:0::1]", "a@[ipv6:2001:db8::1]"},
		{"a@[192.0.2.1]", "a@[192.0.2.1]"},
	} {
		a, err := ParseAddress(c.in)
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		if got := a.Canonical().String(); got != c.want {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
		if b, err := ParseAddress(c.want); err != nil || !a.Equal(b) {
			t.Errorf("%q does not equal %q (%v)", c.in, c.want, err)
		}
	}
	if (Address{"a", "b"}).Equal(Address{"a", "c"}) || (Address{"a", "b"}).Equal(Address{}) {
		t.Error("different addresses are equal")
	}
	if !(Address{}).IsZero() || (Address{Local: "a"}).IsZero() || (Address{}).String() != "" {
		t.Error("zero address")
	}
	// A domain that IDNA refuses is folded and nothing else.
	if got := CanonicalDomain("A..Ö"); got != "a..Ö" {
		t.Errorf("%q", got)
	}
}

// Any local part of printable characters survives String and ParseAddress.
func TestAddressRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		local := rapid.StringOfN(rapid.RuneFrom([]rune(` abZ.09"\@<>()[],;:é用`)), 1, 20, MaxLocal).Draw(t, "local")
		a := Address{local, "example.org"}
		b, err := ParseAddress(a.String())
		if err != nil || a != b {
			t.Fatalf("%q -> %q -> %+v, %v", local, a.String(), b, err)
		}
		if p, err := ParsePath("<" + a.String() + ">"); err != nil || p != a {
			t.Fatalf("path: %+v, %v", p, err)
		}
	})
}

func FuzzAddress(f *testing.F) {
	for _, s := range []string{"a@b.c", `"a b"@c`, "<@x:a@b>", "<>", "a@[IPv6:::1]", "é@bücher.example", `<"\>`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := ParsePath(s); err == nil && !p.IsZero() && p.Domain != "" {
			if q, err := ParseAddress(p.String()); err != nil || q != p {
				t.Fatalf("path %q: %+v then %+v, %v", s, p, q, err)
			}
		}
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		if len(a.Local) > MaxLocal || len(a.Domain) > MaxDomain || a.Local == "" || a.Domain == "" {
			t.Fatalf("%q: %+v", s, a)
		}
		if b, err := ParseAddress(a.String()); err != nil || a != b {
			t.Fatalf("%q: %q gives %+v, %v", s, a.String(), b, err)
		}
		c := a.Canonical()
		if d, err := ParseAddress(c.String()); len(c.Domain) <= MaxDomain-MaxLocal && (err != nil || d.Canonical() != c) {
			t.Fatalf("%q: canonical %+v gives %+v, %v", s, c, d, err)
		}
		if strings.ContainsAny(c.Domain, "@<> \r\n") {
			t.Fatalf("%q: domain %q", s, c.Domain)
		}
	})
}
