package openpgp

import (
	"bytes"
	"io"

	pgp "github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"postern.email/kit/errs"
)

// maxArmored bounds a key in ASCII armor, in bytes.
const maxArmored = 2 * MaxKey

// Dearmor gives the binary form of a public key that is in ASCII armor (RFC 9580 §6.2) or is binary
// already. What the key holds is ParseKey's question. errs.Invalid; errs.TooLarge.
func Dearmor(b []byte) ([]byte, error) {
	const op = "mail/openpgp.Dearmor"
	if len(b) > maxArmored {
		return nil, errs.E(op, errs.TooLarge, "the OpenPGP key is too large", nil)
	}
	if !bytes.HasPrefix(bytes.TrimSpace(b), []byte("-----")) {
		return b, nil
	}
	block, err := armor.Decode(bytes.NewReader(b))
	if err != nil || block.Type != pgp.PublicKeyType {
		return nil, errs.E(op, errs.Invalid, "this is no public OpenPGP key", err)
	}
	out, err := io.ReadAll(io.LimitReader(block.Body, MaxKey+1))
	if err != nil {
		return nil, errs.E(op, errs.Invalid, "the OpenPGP key is malformed", err)
	}
	return out, nil
}
