package openpgp

import (
	"bytes"
	"time"

	pgp "github.com/ProtonMail/go-crypto/openpgp"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// MaxKeys bounds the keys that ForAddress chooses from, in bytes together.
const MaxKeys = 4 * MaxKey

// ForAddress gives the first of several keys in binary form that can encrypt at a time and names an
// address, without the user IDs that do not name it. Revoked keys may stand beside it
// (draft-koch-openpgp-webkey-service §3.1). errs.Invalid where none is one; errs.TooLarge.
func ForAddress(b []byte, a mail.Address, now time.Time) ([]byte, error) {
	const op = "mail/openpgp.ForAddress"
	if len(b) > MaxKeys || costly(b) {
		return nil, errs.E(op, errs.TooLarge, "the OpenPGP key is too large", nil)
	}
	list, err := pgp.ReadKeyRing(bytes.NewReader(b))
	if err != nil {
		return nil, errs.E(op, errs.Invalid, "the OpenPGP key is malformed", err)
	}
	err = errs.E(op, errs.Invalid, "the OpenPGP key does not name this address", nil)
	for _, e := range list {
		for name, id := range e.Identities {
			if u, bad := mail.ParseAddress(id.UserId.Email); bad != nil || !u.Equal(a) || id.SelfSignature == nil || id.Revoked(now) {
				delete(e.Identities, name)
				continue
			}
			// What others certified is of no use here, and can be large.
			id.Signatures = append(id.Signatures[:0:0], id.SelfSignature)
		}
		if len(e.Identities) == 0 || e.PrivateKey != nil {
			continue
		}
		var out bytes.Buffer
		if bad := e.Serialize(&out); bad != nil {
			err = errs.E(op, errs.Invalid, "the OpenPGP key is malformed", bad)
			continue
		}
		if _, bad := ParseKey(out.Bytes(), now); bad != nil {
			err = errs.Wrap(op, bad)
			continue
		}
		return out.Bytes(), nil
	}
	return nil, err
}
