package mbox

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"

	"postern.email/kit/errs"
)

// TestAddresses: an address file as mixminiond's manual shows it, and as people write them.
func TestAddresses(t *testing.T) {
	a, err := ParseAddresses(strings.NewReader("# people\n\nmysteryfred: fred@fred.com\r\n  bob =\tbob@example.org   # that Bob\nBob: other@example.org\nroot:root\nbob: last@example.org"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"mysteryfred": "fred@fred.com", "bob": "last@example.org", "Bob": "other@example.org", "root": "root@localhost"} {
		if got, ok := a.Find(name); !ok || got.String() != want {
			t.Errorf("%s: %v, %v", name, got, ok)
		}
	}
	if _, ok := a.Find("nobody"); ok || a.Len() != 4 {
		t.Errorf("%d names", a.Len())
	}
}

// TestAddressErrors: each mistake is told with its line, without the address.
func TestAddressErrors(t *testing.T) {
	var many strings.Builder
	for i := range MaxNames + 1 {
		fmt.Fprintf(&many, "n%d:a@b\n", i)
	}
	for _, c := range []struct {
		text string
		kind errs.Kind
		want string
	}{
		{"fred fred@fred.com", errs.Invalid, "line 1: not of the form name: address"},
		{"#\n: a@b", errs.Invalid, "line 2: not a name of up to 255 bytes without white space"},
		{"two words: a@b", errs.Invalid, "line 1: not a name of up to 255 bytes without white space"},
		{strings.Repeat("x", 256) + ":a@b", errs.Invalid, "line 1: not a name of up to 255 bytes without white space"},
		{"a: b@c d@e", errs.Invalid, "line 1: more than one address"},
		{"a:", errs.Invalid, "line 1: not a mail address"},
		{"a: b@", errs.Invalid, "line 1: not a mail address"},
		{"a: <b@c>", errs.Invalid, "line 1: not a mail address"},
		{"\na: " + strings.Repeat("x", MaxLine), errs.TooLarge, "line 2: longer than 1024 bytes"},
		{many.String(), errs.TooLarge, "line 65537: more than 65536 names"},
	} {
		_, err := ParseAddresses(strings.NewReader(c.text))
		if errs.KindOf(err) != c.kind || errs.Public(err) != c.want {
			t.Errorf("%.30q: %v", c.text, err)
		}
	}
	if _, err := ParseAddresses(iotest.ErrReader(errors.New("broken"))); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("a reader that fails: %v", err)
	}
}

// FuzzAddresses: any file gives names with addresses that can be written, or an error with a line.
func FuzzAddresses(f *testing.F) {
	f.Add("mysteryfred: fred@fred.com\nroot = root")
	f.Add("a:b:c\n#\n\x00:\xff@b")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseAddresses(strings.NewReader(text))
		if err != nil {
			if !strings.HasPrefix(errs.Public(err), "line ") {
				t.Errorf("no line in %v", err)
			}
			return
		}
		for name, addr := range a.names {
			if name == "" || addr.Local == "" || addr.Domain == "" {
				t.Errorf("%q: %+v", name, addr)
			}
		}
	})
}
