package seal

import (
	"bytes"
	"testing"

	"postern.email/kit/errs"
)

// TestNamed: a record is found and opened by its name alone, under the same root key alone.
func TestNamed(t *testing.T) {
	root := func(b byte) *Root {
		r, err := NewRoot(bytes.Repeat([]byte{b}, KeyLen), nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	named := func(r *Root, name string) *Named {
		n, err := r.Named(name)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	a := named(root(1), "example.org")
	sealed, err := a.Seal([]byte("the policy"))
	if err != nil || bytes.Contains(sealed, []byte("policy")) {
		t.Fatalf("%q, %v", sealed, err)
	}
	same := named(root(1), "example.org")
	if got, err := same.Open(sealed); err != nil || string(got) != "the policy" || same.Place != a.Place || same.Shard != a.Shard {
		t.Errorf("%q, %v", got, err)
	}
	for _, n := range []*Named{named(root(1), "example.com"), named(root(2), "example.org")} {
		if _, err := n.Open(sealed); errs.KindOf(err) != errs.Corrupt || n.Place == a.Place {
			t.Errorf("opened for another name or root: %v", err)
		}
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := a.Open(sealed); errs.KindOf(err) != errs.Corrupt {
		t.Error(err)
	}
}
