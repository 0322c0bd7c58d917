package aliasname

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"math"
	"math/bits"
	mathrand "math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// TestTokens: a token is 64 letters and digits, each of the 62 as likely as the others (IM-57,
// IM-63: the program before took them modulo, and a and b came twice as often).
func TestTokens(t *testing.T) {
	r := mathrand.NewChaCha8([32]byte{1})
	seen := make(map[byte]int)
	const n = 4000
	for range n {
		token, err := NewToken(r)
		if err != nil || !TokenForm(token) {
			t.Fatalf("%q: %v", token, err)
		}
		for i := range len(token) {
			seen[token[i]]++
		}
	}
	if len(seen) != 62 {
		t.Fatalf("%d characters occur", len(seen))
	}
	// Chi squared with 61 degrees of freedom; 120 is beyond 0.001 %.
	chi, want := 0.0, float64(n*TokenLen)/62
	for _, c := range seen {
		chi += (float64(c) - want) * (float64(c) - want) / want
	}
	if chi > 120 {
		t.Errorf("chi squared is %.0f", chi)
	}
	token, _ := NewToken(r)
	for _, s := range []string{"", token[1:], token + "a", token[:63] + "-", token[:62] + "é"} {
		if TokenForm(s) {
			t.Errorf("%q passes for a token", s)
		}
	}
}

// TestDraw: what would make some numbers likelier is drawn again.
func TestDraw(t *testing.T) {
	in := bytes.NewReader([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 61})
	if n, err := draw(in, 62); err != nil || n != 61 || in.Len() != 0 {
		t.Errorf("%d, %v, %d bytes left", n, err, in.Len())
	}
	if n, err := draw(bytes.NewReader([]byte{0xff, 0xff, 0xff, 0xff}), 32); err != nil || n != 31 {
		t.Errorf("%d, %v: of a power of two nothing is drawn again", n, err)
	}
}

// TestNoRandom: without random numbers there is no name.
func TestNoRandom(t *testing.T) {
	broken := iotest.ErrReader(errors.New("no entropy"))
	for name, fn := range map[string]func(io.Reader) (string, error){
		"token": NewToken, "random": Random, "words": Words, "site": func(r io.Reader) (string, error) { return Site(r, "shop.example") },
	} {
		if s, err := fn(broken); s != "" || errs.KindOf(err) != errs.Unavailable {
			t.Errorf("%s: %q, %v", name, s, err)
		}
	}
}

func TestRandom(t *testing.T) {
	form := regexp.MustCompile(`^[a-z0-9]{18}$`)
	one, err := Random(rand.Reader)
	two, _ := Random(rand.Reader)
	if err != nil || !form.MatchString(one) || one == two || DerivedForm(one) {
		t.Errorf("%q, %q, %v", one, two, err)
	}
}

func TestWords(t *testing.T) {
	first, second := firstWords(), secondWords()
	if n := uint64(len(first)) * uint64(len(second)) * wordDigits; n < 1<<35 {
		t.Errorf("there are 2^%d possibilities", bits.Len64(n)-1)
	}
	word := regexp.MustCompile(`^[a-z]{3,8}$`)
	for _, list := range [][]string{first, second} {
		if !slices.IsSorted(list) || len(slices.Compact(slices.Clone(list))) != len(list) {
			t.Error("a word stands in a list twice, or out of order")
		}
		for _, w := range list {
			if !word.MatchString(w) {
				t.Errorf("%q is no short plain word", w)
			}
		}
	}
	form := regexp.MustCompile(`^[a-z]{3,8}-[a-z]{3,8}-[0-9]{5}$`)
	r := mathrand.NewChaCha8([32]byte{2})
	for range 1000 {
		w, err := Words(r)
		if err != nil || !form.MatchString(w) || DerivedForm(w) {
			t.Fatalf("%q: %v", w, err)
		}
		if again, err := Custom(w); err != nil || again != w {
			t.Fatalf("%q cannot be said again: %v", w, err)
		}
	}
}

func TestSite(t *testing.T) {
	for site, want := range map[string]string{
		"shop.example": "shop", "https://www.Shop.example:8443/sign-up?x=1": "shop", "login.shop.co.uk": "shop", "a.b.shop.example.": "shop",
		"my-shop.example": "myshop", "münchen.example": "munchen", "xn--mnchen-3ya.example": "munchen", "日本.example": "site", "192.0.2.1": "site", "localhost": "localhost",
		"a-very-long-name-that-goes-on-and-on.example": "averylongnamethatgoesona",
	} {
		got, err := Site(zeros{}, site)
		if err != nil || got != want+"-000000a" {
			t.Errorf("%s: %q, %v", site, got, err)
		}
		if _, err := Custom(got); err != nil || DerivedForm(got) {
			t.Errorf("%s: %q is no handle: %v", site, got, err)
		}
	}
	for _, site := range []string{"", " ", "https://", "a b.example", "192.0.2.1:80x", "[::1]", "@", "ex ample", strings.Repeat("a.", MaxSite) + "example"} {
		if got, err := Site(zeros{}, site); errs.KindOf(err) != errs.Invalid || got != "" {
			t.Errorf("%q: %q, %v", site, got, err)
		}
	}
	if n := math.Log2(siteDigits * float64(len(lower))); n < 20 {
		t.Errorf("%.1f random bits", n)
	}
}

func TestStyles(t *testing.T) {
	forms := map[Style]string{StyleWords: `^\w+-\w+-\d{5}$`, StyleRandom: `^[a-z0-9]{18}$`, StyleSite: `^shop-\d{6}[a-z]$`}
	for style, form := range forms {
		got, err := ParseStyle(string(style))
		if err != nil || got != style {
			t.Errorf("%q, %v", got, err)
		}
		if name, err := Make(rand.Reader, style, "shop.example"); err != nil || !regexp.MustCompile(form).MatchString(name) {
			t.Errorf("%s: %q, %v", style, name, err)
		}
	}
	if s, err := ParseStyle(""); err != nil || s != StyleWords {
		t.Errorf("%q, %v", s, err)
	}
	if _, err := ParseStyle("uuid"); errs.KindOf(err) != errs.Invalid {
		t.Error(err)
	}
}

func TestCustom(t *testing.T) {
	key := testKey(8)
	derived := Derive(&key, "example.org", "x", 0)
	for handle, want := range map[string]string{
		"Anna": "anna", "a.b-c_d": "a.b-c_d", "123": "123", strings.Repeat("a", 64): strings.Repeat("a", 64), "owner": "owner",
	} {
		if got, err := Custom(handle); err != nil || got != want {
			t.Errorf("%q: %q, %v", handle, got, err)
		}
	}
	for handle, kind := range map[string]errs.Kind{
		"": errs.Invalid, "ab": errs.Invalid, strings.Repeat("a", 65): errs.Invalid, ".abc": errs.Invalid, "abc.": errs.Invalid, "a..b": errs.Invalid,
		"a+b": errs.Invalid, "a b": errs.Invalid, "ånna": errs.Invalid, "a@b": errs.Invalid, "abc\n": errs.Invalid,
		"Postmaster": errs.Denied, "abuse": errs.Denied, "MAILER-DAEMON": errs.Denied, "hostmaster": errs.Denied, "webmaster": errs.Denied, "root": errs.Denied,
		"admin": errs.Denied, "list-owner": errs.Denied, "owner-list": errs.Denied, derived: errs.Denied, strings.ToUpper(derived): errs.Denied,
		"anonymous": errs.Denied, "bounce." + strings.Repeat("a", 47): errs.Denied, "re." + strings.Repeat("a", 42): errs.Denied,
	} {
		if got, err := Custom(handle); errs.KindOf(err) != kind || got != "" || errs.Public(err) == "" {
			t.Errorf("%q: %q, %v", handle, got, err)
		}
	}
}

// FuzzNames: what a user or a site says makes a handle that every form takes, or an error.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"shop.example", "https://www.shop.example/x", "münchen.example", "anna", "a..b", "xn--", "http://[::1]:1/", "%", "://"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if h, err := Custom(s); err == nil && (!mail.PlainLocal(h) || len(h) > MaxCustom) {
			t.Fatalf("%q", h)
		}
		if h, err := Site(zeros{}, s); err == nil {
			if _, err := Custom(h); err != nil {
				t.Fatalf("%q: %q, %v", s, h, err)
			}
			if _, err := SiteHost(s); err != nil {
				t.Fatal(err)
			}
		}
	})
}
