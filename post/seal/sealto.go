package seal

import (
	"crypto/hpke"

	"golang.org/x/crypto/chacha20poly1305"

	"postern.email/kit/errs"
)

// versionTo is the format of a record that was sealed to a public key.
const versionTo = 1

// toOverhead is what SealTo adds to the padded length.
const toOverhead = 1 + EncapLen + chacha20poly1305.Overhead

// SealTo seals a record of an owner who is away: with the public half alone, so that only
// Opened.OpenTo of the same key opens it. purpose and aad are bound to it; purpose has at most
// 255 bytes. Layout: version byte, encapsulation (1,120 bytes), ciphertext; it is HPKE in base
// mode (RFC 9180 §5.1.1) with MLKEM768-X25519, HKDF-SHA256 and ChaCha20-Poly1305, the plain text
// padded like every record. errs.Corrupt when pub is no key. It costs about 0.1 ms.
func SealTo(pub PublicKey, purpose string, aad, plain []byte) ([]byte, error) {
	const op = "seal.SealTo"
	full, err := recordAAD(purpose, aad)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	key, err := hpke.MLKEM768X25519().NewPublicKey(pub)
	if err != nil {
		return nil, errs.E(op, errs.Corrupt, "", err)
	}
	enc, s, err := hpke.NewSender(key, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), []byte(labelTo))
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	body, err := s.Seal(full, appendPadded(nil, plain, minRecord, 0))
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	out := append(make([]byte, 0, 1+len(enc)+len(body)), versionTo)
	return append(append(out, enc...), body...), nil
}

// OpenTo opens what SealTo made with the same purpose and aad. errs.Corrupt when it was not
// sealed to this key, purpose and aad.
func (o *Opened) OpenTo(purpose string, aad, sealed []byte) ([]byte, error) {
	const op = "seal.OpenTo"
	full, err := recordAAD(purpose, aad)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if len(sealed) < toOverhead+minRecord {
		return nil, errs.E(op, errs.Corrupt, "", errShort)
	}
	if sealed[0] != versionTo {
		return nil, errs.E(op, errs.Corrupt, "", errVersion)
	}
	priv, err := o.private()
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	r, err := hpke.NewRecipient(sealed[1:1+EncapLen], priv, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), []byte(labelTo))
	if err != nil {
		return nil, errs.E(op, errs.Corrupt, "", err)
	}
	plain, err := r.Open(full, sealed[1+EncapLen:])
	if err != nil {
		return nil, errs.E(op, errs.Corrupt, "", err)
	}
	plain, err = Unpad(plain)
	return plain, errs.Wrap(op, err)
}

// private makes the private half anew from the seed: it is large, and seldom needed.
func (o *Opened) private() (priv hpke.PrivateKey, err error) {
	err = o.withSeed(func(seed []byte) (err error) {
		priv, err = hpke.MLKEM768X25519().NewPrivateKey(seed)
		return err
	})
	return priv, err
}
