package seal

import (
	"crypto/cipher"
	"crypto/hpke"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"io"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"

	"postern.email/kit/errs"
)

// Bounds of the password hash's parameters. A record that names more is refused
// before any memory is taken, so a damaged disk cannot exhaust the machine.
const (
	MaxPasswordTime    = 16
	MaxPasswordMemory  = 64 << 10 // KiB
	MaxPasswordThreads = 4
	saltLen            = 16
)

// Params are the cost of the password hash (Argon2id, RFC 9106), stored by name
// with each account.
type Params struct {
	Time    uint32 // passes
	Memory  uint32 // KiB
	Threads uint8
}

// DefaultParams is what new passwords get: 2 passes over 19 MiB by one thread.
func DefaultParams() Params { return Params{Time: 2, Memory: 19 << 10, Threads: 1} }

// Valid reports whether p lies within the bounds.
func (p Params) Valid() bool {
	return p.Time >= 1 && p.Time <= MaxPasswordTime && p.Threads >= 1 && p.Threads <= MaxPasswordThreads &&
		p.Memory >= 8*uint32(p.Threads) && p.Memory <= MaxPasswordMemory
}

// String gives the stored form: "argon2id t=2 m=19456 p=1".
func (p Params) String() string {
	return fmt.Sprintf("argon2id t=%d m=%d p=%d", p.Time, p.Memory, p.Threads)
}

// ParseParams reads exactly what String gives.
func ParseParams(s string) (Params, error) {
	var p Params
	_, err := fmt.Sscanf(s, "argon2id t=%d m=%d p=%d", &p.Time, &p.Memory, &p.Threads)
	if err != nil || p.String() != s || !p.Valid() {
		return Params{}, errs.E("seal.ParseParams", errs.Corrupt, "", err)
	}
	return p, nil
}

func (p Params) key(password string, salt []byte) []byte {
	return argon2.IDKey([]byte(password), salt, p.Time, p.Memory, p.Threads, chacha20poly1305.KeySize)
}

// Burn costs as much as Unwrap of a record with parameters p: for names that do
// not exist, which must look like wrong passwords.
func (p Params) Burn(password string) {
	var salt [saltLen]byte
	clear(p.key(password, salt[:]))
}

// versionWrap is the format of a wrapped seed.
const versionWrap = 1

// Wrap seals the seed under password. Layout: version, length and text of the
// parameters, 16 bytes of salt, 24 of nonce, the sealed seed (48 bytes).
// The account's number and public half are bound to it.
func (o *Opened) Wrap(password string, p Params) ([]byte, error) {
	const op = "seal.Wrap"
	if !p.Valid() {
		return nil, errs.E(op, errs.Invalid, "", nil)
	}
	name := p.String()
	out := append([]byte{versionWrap, byte(len(name))}, name...)
	random := make([]byte, saltLen+chacha20poly1305.NonceSizeX)
	if _, err := io.ReadFull(o.rand, random); err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	out = append(out, random...)
	aead, err := wrapAEAD(password, p, random[:saltLen])
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	err = o.withSeed(func(seed []byte) error {
		out = aead.Seal(out, random[saltLen:], seed, wrapAAD(o.id, o.pub))
		return nil
	})
	return out, errs.Wrap(op, err)
}

// Wrapped is a decoded wrapped seed.
type Wrapped struct {
	Params Params
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
	const tail = saltLen + chacha20poly1305.NonceSizeX + SeedLen + chacha20poly1305.Overhead
	if len(b) != 2+n+tail {
		return Wrapped{}, errs.E(op, errs.Corrupt, "", errShort)
	}
	p, err := ParseParams(string(b[2 : 2+n]))
	if err != nil {
		return Wrapped{}, errs.Wrap(op, err)
	}
	b = b[2+n:]
	return Wrapped{Params: p, salt: b[:saltLen], nonce: b[saltLen : saltLen+chacha20poly1305.NonceSizeX],
		sealed: b[saltLen+chacha20poly1305.NonceSizeX:]}, nil
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

func wrapAEAD(password string, p Params, salt []byte) (cipher.AEAD, error) {
	k := p.key(password, salt)
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
