package openpgp

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// FuzzForAddress: what is chosen from whatever a domain shows is one key that can be read again, and no
// longer than it was.
func FuzzForAddress(f *testing.F) {
	e, key := owner(f)
	var id string
	for _, i := range e.Identities {
		id = i.UserId.Email
	}
	a, err := mail.ParseAddress(id)
	must(f, err)
	now := time.Now()
	if got, err := ForAddress(key, a, now); err != nil || len(got) == 0 {
		f.Fatal(err)
	}
	f.Add(key)
	f.Add(append(bytes.Clone(key), key...))
	f.Add([]byte("<html>"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ForAddress(b, a, now)
		if err != nil {
			return
		}
		if _, err := ParseKey(got, now); err != nil {
			t.Error(err)
		}
	})
}

// TestForAddress: a revoked key that stands before the good one is passed over, and a user ID that names
// somebody else goes.
func TestForAddress(t *testing.T) {
	revoked, _ := owner(t)
	must(t, revoked.RevokeKey(packet.KeyCompromised, "", nil))
	good, _ := owner(t)
	var a mail.Address
	for _, i := range good.Identities {
		var err error
		a, err = mail.ParseAddress(i.UserId.Email)
		must(t, err)
	}
	must(t, good.AddUserId("Some", "", "secret@other.example", nil))
	var old, b bytes.Buffer
	must(t, revoked.Serialize(&old))
	must(t, good.Serialize(&b))
	now := time.Now()
	key, err := ForAddress(slices.Concat(old.Bytes(), b.Bytes()), a, now)
	must(t, err)
	k, err := ParseKey(key, now)
	must(t, err)
	if want := (&Key{good}).Fingerprint(); k.Fingerprint() != want || bytes.Contains(key, []byte("secret@")) {
		t.Errorf("%s, want %s: %q", k.Fingerprint(), want, key)
	}
	for _, c := range []struct {
		b    []byte
		a    mail.Address
		kind errs.Kind
	}{{old.Bytes(), a, errs.Invalid}, {b.Bytes(), mail.Address{Local: "x", Domain: "y.example"}, errs.Invalid}, {nil, a, errs.Invalid}, {make([]byte, MaxKeys+1), a, errs.TooLarge}} {
		if _, err := ForAddress(c.b, c.a, now); errs.KindOf(err) != c.kind {
			t.Errorf("%d bytes for %v: %v", len(c.b), c.a, err)
		}
	}
}
