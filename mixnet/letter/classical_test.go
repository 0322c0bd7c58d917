package letter

import (
	"bytes"
	"crypto/ecdh"
	"testing"

	"postern.email/kit/errs"
)

// TestClassical: a letter to the bare X25519 half of a key is opened by the whole one, and says
// so; nobody else opens it; what is signed for one form is not for the other.
func TestClassical(t *testing.T) {
	bob := testKey(t, "bob")
	whole := bob.Public().Bytes()
	half, err := ParseClassicalKey(whole[PublicKeyLen-ClassicalKeyLen:])
	must(t, err)
	if !half.Classical() || bob.Public().Classical() || !half.Equal(bob.Public().ClassicalHalf()) || !half.Equal(half.ClassicalHalf()) ||
		!half.Equal(bob.halfPub) || half.Equal(bob.Public()) || half.Fingerprint() == bob.Public().Fingerprint() {
		t.Error("the half of a key is another key")
	}
	if len(half.Bytes()) != ClassicalKeyLen || (Address{Key: half}).String() != "" {
		t.Error("a classical key has the form of another")
	}
	m := Message{Content: noise(60_000), Date: now, Signer: testSigner(t, "alice"), Sender: "alice@example.org"}
	for _, o := range []Options{acked, coded} {
		for _, to := range []*PublicKey{half, bob.Public()} {
			s, err := Seal(to, m, o)
			must(t, err)
			for _, b := range s.Bodies {
				if len(b) != o.Room {
					t.Fatalf("a body has %d bytes, its room %d", len(b), o.Room)
				}
			}
			list := openAll(t, bob, s)
			stored, err := list[0].AppendBinary(nil) // as a client keeps it
			must(t, err)
			list[0], err = ParseOpened(stored)
			must(t, err)
			l := assemble(t, NewAssembler(Limits{}), list)
			if l == nil || !bytes.Equal(l.Content, m.Content) || l.From == nil {
				t.Fatal("it did not arrive")
			}
			if l.Classical(bob) != to.Classical() {
				t.Errorf("sealed to a classical key: %v, and says %v", to.Classical(), l.Classical(bob))
			}
			_, err = Open(testKey(t, "carol"), s.Bodies[0])
			wantKind(t, err, errs.Auth)
			s.Bodies[0][len(s.Bodies[0])-1] ^= 1
			_, err = Open(bob, s.Bodies[0])
			wantKind(t, err, errs.Auth)
		}
	}
	b, err := encode(m, ID{1}, half)
	must(t, err)
	_, err = decode(b, ID{1}, &bob.pub.name)
	wantKind(t, err, errs.Auth)
	for name, b := range map[string][]byte{"short": whole[:31], "long": whole[:33], "zero": make([]byte, 32), "one": append([]byte{1}, make([]byte, 31)...)} {
		if _, err := ParseClassicalKey(b); errs.KindOf(err) != errs.Invalid || errs.Public(err) != "the key is malformed" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Seal(half, m, Options{Room: sealLen}); errs.KindOf(err) != errs.Invalid {
		t.Errorf("%v", err)
	}
}

// TestClassicalHalf: the X25519 key of a seed is the one that its X-Wing key holds (appendix C of
// the X-Wing draft has such keys; packet's vectors check the whole).
func TestClassicalHalf(t *testing.T) {
	for _, name := range []string{"a", "b", "c"} {
		k := testKey(t, name)
		raw, err := k.half.Bytes()
		must(t, err)
		x, err := ecdh.X25519().NewPrivateKey(raw)
		must(t, err)
		if !bytes.Equal(x.PublicKey().Bytes(), k.Public().Bytes()[PublicKeyLen-ClassicalKeyLen:]) {
			t.Errorf("%s: another key", name)
		}
	}
}
