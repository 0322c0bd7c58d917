package seal

import (
	"crypto/cipher"
	"crypto/hpke"
	"crypto/rand"
	"crypto/subtle"
	"io"

	"golang.org/x/crypto/chacha20poly1305"

	"postern.email/kit/errs"
	"postern.email/kit/passhash"
)

// versionWrap is the format of a wrapped seed.
const versionWrap = 1

// Wrap seals the seed under password. Layout: version, length and text of the
// parameters, 16 bytes of salt, 24 of nonce, the sealed seed (48 bytes).
// The account's number and public half are bound to it.
func (o *Opened) Wrap(password string, p passhash.Cost) ([]byte, error) {
	const op = "seal.Wrap"
	if !p.Valid() {
		return nil, errs.E(op, errs.Invalid, "", nil)
	}
	name := p.String()
	out := append([]byte{versionWrap, byte(len(name))}, name...)
	random := make([]byte, passhash.SaltLen+chacha20poly1305.NonceSizeX)
	if _, err := io.ReadFull(o.rand, random); err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	out = append(out, random...)
	aead, err := wrapAEAD(password, p, random[:passhash.SaltLen])
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	err = o.withSeed(func(seed []byte) error {
		out = aead.Seal(out, random[passhash.SaltLen:], seed, wrapAAD(o.id, o.pub))
		return nil
	})
	return out, errs.Wrap(op, err)
}

// Wrapped is a decoded wrapped seed.
type Wrapped struct {
	Params passhash.Cost
	salt   []byte
	nonce  []byte
	sealed []byte
}

// ParseWrapped checks the form of what Wrap made. It does not copy.
func ParseWrapped(b []byte) (Wrapped, error) {
	const op = "seal.ParseWrapped"
	if len(b) < 2 || b[0] != versionWrap {
		return Wrapped{}, errs.E(op, errs.Corrupt, "", errVersion)
	}
	n := int(b[1])
	const tail = passhash.SaltLen + chacha20poly1305.NonceSizeX + SeedLen + chacha20poly1305.Overhead
	if len(b) != 2+n+tail {
		return Wrapped{}, errs.E(op, errs.Corrupt, "", errShort)
	}
	p, err := passhash.Parse(string(b[2 : 2+n]))
	if err != nil {
		return Wrapped{}, errs.Wrap(op, err)
	}
	b = b[2+n:]
	return Wrapped{Params: p, salt: b[:passhash.SaltLen], nonce: b[passhash.SaltLen : passhash.SaltLen+chacha20poly1305.NonceSizeX],
		sealed: b[passhash.SaltLen+chacha20poly1305.NonceSizeX:]}, nil
}

// Unwrap opens the seed with password: errs.Auth when the password is wrong,
// which cannot be told from a record of another account. It costs one run of the
// password hash; callers bound how many run at once.
func (w Wrapped) Unwrap(id AccountID, pub PublicKey, password string) (*Opened, error) {
	const op = "seal.Unwrap"
	aead, err := wrapAEAD(password, w.Params, w.salt)
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	seed, err := aead.Open(nil, w.nonce, w.sealed, wrapAAD(id, pub))
	if err != nil {
		return nil, errs.E(op, errs.Auth, "", nil)
	}
	defer clear(seed)
	o, err := FromSeed(id, seed, rand.Reader)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if subtle.ConstantTimeCompare(o.pub, pub) != 1 {
		return nil, errs.E(op, errs.Corrupt, "", nil)
	}
	return o, nil
}

func wrapAEAD(password string, p passhash.Cost, salt []byte) (cipher.AEAD, error) {
	k := p.Key([]byte(password), salt)
	defer clear(k)
	return chacha20poly1305.NewX(k)
}

func wrapAAD(id AccountID, pub PublicKey) []byte {
	b := make([]byte, 0, len(labelSeedWrap)+1+len(id)+len(pub))
	b = append(b, labelSeedWrap...)
	b = append(b, 0)
	b = append(b, id[:]...)
	return append(b, pub...)
}

// ValidPublicKey reports whether pub can be encapsulated to.
func ValidPublicKey(pub PublicKey) bool {
	_, err := hpke.MLKEM768X25519().NewPublicKey(pub)
	return err == nil
}
