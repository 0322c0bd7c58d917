package blacklist

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"postern.email/kit/errs"
	"postern.email/mail"
)

func parse(t testing.TB, text string) *List {
	t.Helper()
	l, err := Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestDenied: each kind of entry with what it denies and what it does not, as mixminiond's
// manual and sample file have it.
func TestDenied(t *testing.T) {
	for _, c := range []struct {
		entry     string
		deny, not []string
	}{
		{"Deny address onesuch@wangafu.net", []string{"onesuch@wangafu.net", "ONESUCH@Wangafu.NET"}, []string{"onesuch@mail.wangafu.net", "a.onesuch@wangafu.net", "onesuch@wangafu.network"}},
		{"Deny user fred", []string{"fred@fred.com", "FRED@alice.org"}, []string{"bob@fred", "mr-fred@alice.org", "fred.x@alice.org"}},
		{"deny USER Postmaster", []string{"postmaster@any.example"}, []string{"post@master.example"}},
		{"Deny onehost fred.com", []string{"bob@fred.com", "bob@FRED.com"}, []string{"bob@host.fred.com", "bob@fred.com.au", "fred.com@x.org"}},
		{"Deny allhosts foo.gov", []string{"bob@foo.gov", "bob@ftp.foo.gov", "bob@mail.subdomain.foo.gov"}, []string{"bob@gov", "bob@barfoo.gov", "bob@foo.gov.uk"}},
		{"Deny allhosts gov", []string{"bob@x.gov"}, []string{"gov@x.org"}},
		{"Deny pattern /spam/", []string{"spam@x.org", "x@antiSPAM.org"}, []string{"spa@m.org"}},
		{"Deny pattern /^(..)*$/", []string{"a@bc", "ab@c"}, []string{"a@b"}},
		{"Deny pattern /./", []string{"a@b.c"}, nil},
		{"Deny pattern /a b|x@y/", []string{"x@y.z"}, []string{"a@b.c"}},
		{"Deny onehost bücher.example", []string{"a@bücher.example", "a@xn--bcher-kva.example"}, []string{"a@example"}},
		{"Deny onehost [192.0.2.1]", []string{"a@[192.0.2.1]"}, []string{"a@[192.0.2.2]"}},
		{"Deny user JÜRGEN", []string{"jürgen@x.org"}, nil},
		{"Deny\taddress \t a@b.c  ", []string{"a@b.c"}, nil},
	} {
		l := parse(t, c.entry)
		for _, s := range c.deny {
			if !l.Denied(address(t, s)) {
				t.Errorf("%q does not deny %s", c.entry, s)
			}
		}
		for _, s := range c.not {
			if l.Denied(address(t, s)) {
				t.Errorf("%q denies %s", c.entry, s)
			}
		}
	}
	if (*List)(nil).Denied(address(t, "a@b.c")) || parse(t, "").Denied(address(t, "a@b.c")) {
		t.Error("no list denies somebody")
	}
	// Both kinds for one host, in either order: the wider one counts.
	for _, text := range []string{"Deny onehost a.b\nDeny allhosts a.b", "Deny allhosts a.b\nDeny onehost a.b"} {
		if !parse(t, text).Denied(address(t, "x@y.a.b")) {
			t.Errorf("%q", text)
		}
	}
}

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestFile: a file with comments, empty lines and line ends of both kinds.
func TestFile(t *testing.T) {
	l := parse(t, "# a comment\r\n\r\n  # another\n\nDeny user root\r\nDeny user postmaster\nDeny allhosts whitehouse.gov")
	for s, want := range map[string]bool{"root@x.org": true, "postmaster@y.org": true, "a@www.whitehouse.gov": true, "a@x.org": false} {
		if l.Denied(address(t, s)) != want {
			t.Errorf("%s: %v", s, !want)
		}
	}
}

// TestErrors: each mistake is told with its line.
func TestErrors(t *testing.T) {
	long := strings.Repeat("x", MaxPattern+1)
	var many strings.Builder
	for i := range MaxPatterns + 1 {
		fmt.Fprintf(&many, "Deny pattern /%d/\n", i)
	}
	for _, c := range []struct {
		text string
		kind errs.Kind
		want string
	}{
		{"Allow user a", errs.Invalid, "line 1: does not begin with Deny"},
		{"#\n\nDeny", errs.Invalid, "line 3: nothing to deny: write Deny, what it is, and its value"},
		{"Deny user", errs.Invalid, "line 1: nothing to deny: write Deny, what it is, and its value"},
		{"Deny user a\nDeny address nobody", errs.Invalid, "line 2: not a mail address"},
		{"Deny user a@b", errs.Invalid, "line 1: not the name of a user"},
		{"Deny user a b", errs.Invalid, "line 1: not the name of a user"},
		{"Deny onehost a..b", errs.Invalid, "line 1: not the name of a host"},
		{"Deny allhosts .gov", errs.Invalid, "line 1: not the name of a host"},
		{"Deny host x.org", errs.Invalid, "line 1: unknown kind of entry; did you mean onehost or allhosts?"},
		{"Deny everything x.org", errs.Invalid, "line 1: unknown kind of entry; there are address, user, onehost, allhosts and pattern"},
		{"Deny pattern spam", errs.Invalid, "line 1: a pattern stands between two /"},
		{"Deny pattern /", errs.Invalid, "line 1: a pattern stands between two /"},
		{"Deny pattern /(/", errs.Invalid, "line 1: not an expression of RE2"},
		{`Deny pattern /(.)\1/`, errs.Invalid, "line 1: not an expression of RE2"},
		{"Deny pattern /(?=x)/", errs.Invalid, "line 1: not an expression of RE2"},
		{"Deny pattern /" + long + "/", errs.TooLarge, "line 1: a pattern is longer than 512 bytes"},
		{many.String(), errs.TooLarge, "line 257: more than 256 patterns"},
		{"\n" + strings.Repeat("#", MaxLine+1), errs.TooLarge, "line 2: longer than 1024 bytes"},
		{strings.Repeat("Deny user a\n", MaxEntries+1), errs.TooLarge, "line 65537: more than 65536 entries"},
	} {
		_, err := Parse(strings.NewReader(c.text))
		if errs.KindOf(err) != c.kind || errs.Public(err) != c.want {
			t.Errorf("%.40q: %v", c.text, err)
		}
	}
	broken := errors.New("broken")
	if _, err := Parse(io.MultiReader(strings.NewReader("Deny user a\n"), iotest.ErrReader(broken))); errs.KindOf(err) != errs.Unavailable || !errors.Is(err, broken) {
		t.Errorf("a reader that fails: %v", err)
	}
}

// FuzzParse: any file is a list or an error with a line, and a list answers for any address.
func FuzzParse(f *testing.F) {
	f.Add("# c\nDeny user root\nDeny allhosts whitehouse.gov\nDeny address a@b.c\n", "root@x.org")
	f.Add("Deny pattern /(a{1000}){1000}/", "a@b")
	f.Add("Deny pattern /^(..)*$/\nDeny onehost [IPv6:::1]", "a@[IPv6:::1]")
	f.Fuzz(func(t *testing.T, text, addr string) {
		l, err := Parse(strings.NewReader(text))
		if err != nil {
			if !strings.HasPrefix(errs.Public(err), "line ") {
				t.Errorf("no line in %v", err)
			}
			return
		}
		a, err := mail.ParseAddress(addr)
		if err != nil {
			return
		}
		upper := mail.Address{Local: a.Local, Domain: strings.ToUpper(a.Domain)}
		if b, err := mail.ParseAddress(upper.String()); err == nil && b.Equal(a) && len(l.patterns) == 0 && l.Denied(a) != l.Denied(b) {
			t.Errorf("%v and %v are not the same", a, b)
		}
		l.Denied(a)
	})
}
