package anon

import (
	"strings"
	"testing"
	"unicode/utf8"

	"postern.email/mail"
)

var ret = mail.Address{Local: "anonymous", Domain: "one.example"}

// TestFrom: the tag is written once, the name cannot pass for an address or another tag.
func TestFrom(t *testing.T) {
	for name, want := range map[string]string{
		"Fox":                      `"[Anon] Fox" <anonymous@one.example>`,
		"":                         `"[Anon]" <anonymous@one.example>`,
		"fox@den.example":          `"[Anon] fox" <anonymous@one.example>`,
		"[Admin] Fox":              `"[Anon] Admin Fox" <anonymous@one.example>`,
		`a"b\c<d>`:                 `"[Anon] abcd" <anonymous@one.example>`,
		"a\r\nBcc: x":              `"[Anon] a Bcc x" <anonymous@one.example>`,
		"=?utf-8?q?ceo?=":          `"[Anon] utf-8?q?ceo?=" <anonymous@one.example>`,
		"==??x":                    `"[Anon] x" <anonymous@one.example>`,
		"a\u202eb\u2028c":          `"[Anon] a b c" <anonymous@one.example>`,
		strings.Repeat("f", 65):    `"[Anon] ` + strings.Repeat("f", 64) + `" <anonymous@one.example>`,
		strings.Repeat(" f\t ", 3): `"[Anon] f f f" <anonymous@one.example>`,
		"Füchsin":                  "=?utf-8?b?W0Fub25dIEbDvGNoc2lu?= <anonymous@one.example>",
	} {
		got := From("", name, ret)
		if got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
		if n, a, ok := Parse(got); !ok || n != Name(name) || a != ret {
			t.Errorf("%q: %q %v %v", name, n, a, ok)
		}
	}
	if got := From("[Mix]", "Fox", ret); got != `"[Mix] Fox" <anonymous@one.example>` {
		t.Error(got)
	} else if _, _, ok := Parse(got); ok {
		t.Error("another tag is taken")
	}
	if got := Bare("", ret); got != "<anonymous@one.example>" {
		t.Error(got)
	}
}

// FuzzParse: whatever is taken is what From writes, on one line, and whatever From writes is
// taken.
func FuzzParse(f *testing.F) {
	for _, s := range []string{`"[Anon] Fox" <anonymous@one.example>`, `"[Anon]" <a@b>`, "[Anon] <a@b>", "=?utf-8?b?W0Fub25dIEbDvGNoc2lu?= <anonymous@one.example>", "Fox", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if name, a, ok := Parse(s); ok {
			if From("", name, a) != s || Name(name) != name || strings.ContainsAny(s, "\r\n") || utf8.RuneCountInString(name) > MaxName {
				t.Fatalf("%q: %q %v", s, name, a)
			}
		}
		from := From("", s, ret)
		if name, a, ok := Parse(from); !ok || name != Name(s) || a != ret {
			t.Fatalf("%q: %q is not read back: %q %v", s, from, name, ok)
		}
	})
}
