package seal

import (
	"crypto/cipher"
	"crypto/rand"
	"io"

	"golang.org/x/crypto/chacha20poly1305"

	"postern.email/kit/errs"
)

// TokenWrapLen is the length of what WrapToken gives.
const TokenWrapLen = 1 + chacha20poly1305.NonceSizeX + SeedLen + chacha20poly1305.Overhead

// versionToken is the format of a seed that a token wraps.
const versionToken = 1

// WrapToken seals the seed under a token: a long secret drawn at random (at least 128 bits), which
// needs no slow hash. Layout: version, 24 bytes of nonce, the sealed seed (XChaCha20-Poly1305 under
// HKDF-SHA256 of the token). The number is bound to it.
func (o *Opened) WrapToken(token string) ([]byte, error) {
	const op = "seal.WrapToken"
	out := make([]byte, 1+chacha20poly1305.NonceSizeX, TokenWrapLen)
	out[0] = versionToken
	if _, err := io.ReadFull(o.rand, out[1:]); err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	aead, err := tokenAEAD(token)
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	err = o.withSeed(func(seed []byte) error {
		out = aead.Seal(out, out[1:], seed, o.id[:])
		return nil
	})
	return out, errs.Wrap(op, err)
}

// UnwrapToken opens what WrapToken made for the number. errs.Auth when the token is another.
// random nil means crypto/rand.
func UnwrapToken(id AccountID, token string, wrapped []byte, random io.Reader) (*Opened, error) {
	const op = "seal.UnwrapToken"
	if random == nil {
		random = rand.Reader
	}
	if len(wrapped) != TokenWrapLen || wrapped[0] != versionToken {
		return nil, errs.E(op, errs.Corrupt, "", errVersion)
	}
	aead, err := tokenAEAD(token)
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	const head = 1 + chacha20poly1305.NonceSizeX
	seed, err := aead.Open(nil, wrapped[1:head], wrapped[head:], id[:])
	if err != nil {
		return nil, errs.E(op, errs.Auth, "", nil)
	}
	defer clear(seed)
	o, err := FromSeed(id, seed, random)
	return o, errs.Wrap(op, err)
}

func tokenAEAD(token string) (cipher.AEAD, error) {
	var k [KeyLen]byte
	defer clear(k[:])
	if err := extractInto(k[:], []byte(token), labelTokenWrap); err != nil {
		return nil, err
	}
	return chacha20poly1305.NewX(k[:])
}
