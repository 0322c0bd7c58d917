package packet

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"

	"postern.email/kit/errs"
)

func TestKeys(t *testing.T) {
	k, err := GeneratePrivateKey(bytes.NewReader(bytes.Repeat([]byte{7}, PrivateKeyLen)))
	must(t, err)
	seed, err := k.Seed()
	must(t, err)
	if !bytes.Equal(seed, bytes.Repeat([]byte{7}, PrivateKeyLen)) {
		t.Fatalf("seed %x", seed)
	}
	clear(seed) // a copy: the key stays what it is
	again, err := k.Seed()
	must(t, err)
	same, err := NewPrivateKey(again)
	must(t, err)
	pub := k.Public().Bytes()
	parsed, err := ParsePublicKey(pub)
	must(t, err)
	if len(pub) != PublicKeyLen || !bytes.Equal(same.Public().Bytes(), pub) || same.ID() != k.ID() || parsed.ID() != k.ID() {
		t.Error("a key is another one after it was written and read")
	}
	other, err := GeneratePrivateKey(rand.Reader)
	must(t, err)
	if other.ID() == k.ID() {
		t.Error("two keys have one ID")
	}
}

func TestKeysRefused(t *testing.T) {
	k, err := GeneratePrivateKey(rand.Reader)
	must(t, err)
	pub := k.Public().Bytes()
	for _, i := range []int{0, 1, fieldN - 1} {
		if _, err := ParsePublicKey(withNumber(pub, i, fieldQ-1)); err != nil {
			t.Errorf("number %d is q-1: %v", i, err)
		}
	}
	for name, b := range map[string][]byte{"empty": nil, "short": pub[1:], "long": append(bytes.Clone(pub), 0),
		"q": withNumber(pub, fieldN/2, fieldQ), "4095": withNumber(pub, fieldN-1, 4095)} {
		if p, err := ParsePublicKey(b); errs.KindOf(err) != errs.Invalid || p != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, n := range []int{0, 31, 33} {
		if k, err := NewPrivateKey(make([]byte, n)); errs.KindOf(err) != errs.Invalid || k != nil {
			t.Errorf("seed of %d bytes: %v", n, err)
		}
	}
	if k, err := GeneratePrivateKey(bytes.NewReader(make([]byte, 31))); errs.KindOf(err) != errs.Internal || k != nil {
		t.Errorf("without randomness: %v", err)
	}
}

func TestLabels(t *testing.T) {
	for i, a := range labels() {
		for k, b := range labels() {
			if i != k && strings.HasPrefix(b, a) {
				t.Errorf("%q begins with %q", b, a)
			}
		}
	}
}
