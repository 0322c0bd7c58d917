package seal

import (
	"bytes"
	"strings"
	"testing"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// TestSealTo: what is sealed to a public half opens with its key alone, for one purpose and aad; it
// tells no more than a padded length.
func TestSealTo(t *testing.T) {
	o, other := testKey(t, 0x33), testKey(t, 0x44)
	sealed, err := SealTo(o.Public(), "purpose", []byte("aad"), []byte("plain"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := o.OpenTo("purpose", []byte("aad"), sealed); err != nil || string(plain) != "plain" {
		t.Fatalf("%q %v", plain, err)
	}
	longer, err := SealTo(o.Public(), "purpose", []byte("aad"), bytes.Repeat([]byte{1}, minRecord-1))
	if err != nil || len(longer) != len(sealed) || len(sealed) != toOverhead+minRecord || bytes.Contains(sealed, []byte("plain")) {
		t.Errorf("%d and %d bytes, %v", len(sealed), len(longer), err)
	}
	flip := func(i int) []byte { b := bytes.Clone(sealed); b[i] ^= 1; return b }
	for name, open := range map[string]func() ([]byte, error){
		"another key":     func() ([]byte, error) { return other.OpenTo("purpose", []byte("aad"), sealed) },
		"another purpose": func() ([]byte, error) { return o.OpenTo("purposf", []byte("aad"), sealed) },
		"another aad":     func() ([]byte, error) { return o.OpenTo("purpose", []byte("aae"), sealed) },
		"moved border":    func() ([]byte, error) { return o.OpenTo("purposea", []byte("ad"), sealed) },
		"version":         func() ([]byte, error) { return o.OpenTo("purpose", []byte("aad"), flip(0)) },
		"encapsulation":   func() ([]byte, error) { return o.OpenTo("purpose", []byte("aad"), flip(9)) },
		"text":            func() ([]byte, error) { return o.OpenTo("purpose", []byte("aad"), flip(len(sealed)-1)) },
		"short":           func() ([]byte, error) { return o.OpenTo("purpose", []byte("aad"), sealed[:100]) },
	} {
		if plain, err := open(); err == nil || errs.KindOf(err) != errs.Corrupt {
			t.Errorf("%s: %q %v", name, plain, err)
		}
	}
	if _, err := SealTo(o.Public()[1:], "purpose", nil, nil); err == nil || errs.KindOf(err) != errs.Corrupt {
		t.Errorf("no key: %v", err)
	}
	if _, err := SealTo(o.Public(), strings.Repeat("x", 256), nil, nil); err == nil || errs.KindOf(err) != errs.Invalid {
		t.Errorf("a long purpose: %v", err)
	}
	o.Close()
	if _, err := o.OpenTo("purpose", []byte("aad"), sealed); err == nil || errs.KindOf(err) != errs.Unavailable {
		t.Errorf("closed: %v", err)
	}
}

// TestTokenWrap: the seed comes back with the token and number that wrapped it, and with no others.
func TestTokenWrap(t *testing.T) {
	o := testKey(t, 0x33)
	token := strings.Repeat("t", 64)
	wrapped, err := o.WrapToken(token)
	if err != nil || len(wrapped) != TokenWrapLen {
		t.Fatalf("%d bytes, %v", len(wrapped), err)
	}
	got, err := UnwrapToken(o.ID(), token, wrapped, nil)
	if err != nil || !bytes.Equal(got.Public(), o.Public()) {
		t.Fatal(err)
	}
	strange := o.ID()
	strange[0] ^= 1
	for name, open := range map[string]func() (*Opened, error){
		"another token":  func() (*Opened, error) { return UnwrapToken(o.ID(), token[1:], wrapped, nil) },
		"another number": func() (*Opened, error) { return UnwrapToken(strange, token, wrapped, nil) },
	} {
		if _, err := open(); err == nil || errs.KindOf(err) != errs.Auth {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := UnwrapToken(o.ID(), token, wrapped[1:], nil); err == nil || errs.KindOf(err) != errs.Corrupt {
		t.Errorf("short: %v", err)
	}
}

// TestAliasHashes: places and tags of aliases are keyed, and canonical; each use has its own.
func TestAliasHashes(t *testing.T) {
	r, _ := NewRoot(bytes.Repeat([]byte{1}, KeyLen), nil)
	other, _ := NewRoot(bytes.Repeat([]byte{2}, KeyLen), nil)
	a, b := mail.Address{Local: "Alice", Domain: "Example.ORG"}, mail.Address{Local: "alice", Domain: "example.org"}
	x, y := AccountID{1}, AccountID{2}
	if r.AliasPlace(x, a) != r.AliasPlace(x, b) || r.AliasPlaceOf(x, r.NameKey(b)) != r.AliasPlace(x, b) || r.AliasTags(x, a) != r.AliasTags(x, b) {
		t.Error("capitals count")
	}
	p := r.AliasPlace(x, a)
	tags := r.AliasTags(x, a)
	if p == r.AliasPlace(y, a) || p == other.AliasPlace(x, a) || p == r.NameKey(a) || tags == r.AliasTags(y, a) || bytes.HasPrefix(p[:], tags[:]) {
		t.Error("owner, key or use do not count")
	}
	p1, s := r.TokenPlace("token")
	p2, _ := other.TokenPlace("token")
	if p1 == p2 || s >= 4096 {
		t.Error("the place of a token is not keyed")
	}
}
