package openpgp

import (
	"bytes"
	"crypto/dsa" //lint:ignore SA1019 such keys exist; here they are only measured
	"math/big"
	"slices"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// TestCostly: keys whose numbers are so large that a check takes minutes are refused before that, also
// behind another key; those that people use are not.
func TestCostly(t *testing.T) {
	_, good := owner(t)
	of := func(p, q uint) []byte {
		one := big.NewInt(1)
		k := dsa.PublicKey{Parameters: dsa.Parameters{P: new(big.Int).Lsh(one, p-1), Q: new(big.Int).Lsh(one, q-1), G: one}, Y: one}
		var b bytes.Buffer
		must(t, packet.NewDSAPublicKey(now, &k).Serialize(&b))
		return b.Bytes()
	}
	for _, c := range []struct {
		b    []byte
		kind errs.Kind
	}{{of(maxModulus+1, 256), errs.TooLarge}, {of(2048, maxOrder+1), errs.TooLarge}, {slices.Concat(good, of(maxModulus+1, 256)), errs.TooLarge}, {of(maxModulus, maxOrder), errs.Invalid}} {
		if _, err := ParseKey(c.b, now); errs.KindOf(err) != c.kind {
			t.Errorf("%d bytes: %v", len(c.b), err)
		}
		if _, err := ForAddress(c.b, mail.Address{Local: "x", Domain: "y.example"}, now); errs.KindOf(err) != c.kind {
			t.Errorf("%d bytes: %v", len(c.b), err)
		}
	}
}
