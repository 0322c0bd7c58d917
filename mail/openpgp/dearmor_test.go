package openpgp

import (
	"bytes"
	"testing"

	pgp "github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"postern.email/kit/errs"
)

// TestDearmor: a key comes in either form; a private key, and what is cut off, is refused.
func TestDearmor(t *testing.T) {
	_, pub := owner(t)
	armored := func(kind string) []byte {
		var b bytes.Buffer
		w, err := armor.Encode(&b, kind, nil)
		must(t, err)
		_, err = w.Write(pub)
		must(t, err)
		must(t, w.Close())
		return b.Bytes()
	}
	for _, b := range [][]byte{pub, armored(pgp.PublicKeyType), append([]byte("\r\n "), armored(pgp.PublicKeyType)...)} {
		if got, err := Dearmor(b); err != nil || !bytes.Equal(got, pub) {
			t.Errorf("%.40q: %v", b, err)
		}
	}
	for kind, b := range map[errs.Kind][]byte{errs.TooLarge: make([]byte, maxArmored+1), errs.Invalid: armored(pgp.PrivateKeyType)} {
		if _, err := Dearmor(b); errs.KindOf(err) != kind {
			t.Errorf("%v: %v", kind, err)
		}
	}
	cut := armored(pgp.PublicKeyType)
	if got, err := Dearmor(cut[:len(cut)/2]); err == nil {
		if _, err := ParseKey(got, now); err == nil {
			t.Error("half a key is one")
		}
	}
}
