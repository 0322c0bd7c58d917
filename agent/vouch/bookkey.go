package vouch

import (
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mixnet/letter"
	"postern.email/post/keybook"
)

// ParseKey reads the keys that a key book holds (keybook.Options.Parse): an Identity, or a bare
// X25519 key (ParseClassical), which is marked as such.
func ParseKey(text []byte) (keybook.Key, error) {
	const op = "agent/vouch.ParseKey"
	if k, err := ParseClassical(text); err == nil {
		h := sha256.New()
		h.Write([]byte(labelFingerprint))
		h.Write(k)
		return keybook.Key{Text: base64.StdEncoding.EncodeToString(k), Type: ClassicalPEMType, Bytes: k,
			Fingerprint: letter.FormatFingerprint([sha256.Size]byte(h.Sum(nil))), Classical: true}, nil
	}
	i, err := ParseIdentity(text)
	if err != nil {
		return keybook.Key{}, errs.Wrap(op, err)
	}
	return i.BookKey(), nil
}

// BookKey gives the identity as a key book holds it.
func (i *Identity) BookKey() keybook.Key {
	return keybook.Key{Text: i.String(), Type: PEMType, Bytes: i.Bytes(), Fingerprint: i.Fingerprint()}
}

// BookKey gives what the relay vouches for as a key book holds it.
func (c *Certificate) BookKey() keybook.Key {
	k := c.Identity.BookKey()
	k.Certified = c.From
	return k
}

// ClassicalPEMType is the type of the PEM block in which mailproxy kept its keys.
const ClassicalPEMType = "X25519 PUBLIC KEY"

const classicalLen = 32

// ParseClassical reads a bare X25519 key as mailproxy took it: 32 bytes in hexadecimal digits,
// in Base64 with or without padding, or in a PEM block. errs.Invalid.
func ParseClassical(text []byte) ([]byte, error) {
	const op = "agent/vouch.ParseClassical"
	s := strings.TrimSpace(string(text))
	var b []byte
	if block, rest := pem.Decode([]byte(s)); block != nil && block.Type == ClassicalPEMType && len(strings.TrimSpace(string(rest))) == 0 {
		b = block.Bytes
	} else if len(s) == hex.EncodedLen(classicalLen) {
		b, _ = hex.DecodeString(s)
	} else {
		s = strings.TrimRight(s, "=")
		for _, e := range []*base64.Encoding{base64.RawStdEncoding.Strict(), base64.RawURLEncoding.Strict()} {
			if d, err := e.DecodeString(s); err == nil && len(s) == e.EncodedLen(classicalLen) {
				b = d
			}
		}
	}
	if _, err := ecdh.X25519().NewPublicKey(b); err != nil {
		return nil, errs.E(op, errs.Invalid, "this is no X25519 key", errors.New("its length"))
	}
	return b, nil
}
