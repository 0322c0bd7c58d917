package keys

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"

	"postern.email/kit/errs"
	"postern.email/kit/passhash"
)

const (
	nonceLen = chacha20poly1305.NonceSizeX
	tagLen   = chacha20poly1305.Overhead

	labelFiles = "postern/mix keys: files"
)

// cost reads a cost, and the salt behind it.
func (l *lines) cost(s string) (c passhash.Cost, salt []byte) {
	at := strings.LastIndexByte(s, ' ')
	if at < 0 {
		l.bad = true
		return c, nil
	}
	c, err := passhash.Parse(s[:at])
	l.bad = l.bad || err != nil
	return c, l.base64(s[at+1:], passhash.SaltLen)
}

// filesKey is the key that seals a node's other private files; it follows from the identity.
func filesKey(identitySeed []byte) ([]byte, error) {
	return hkdf.Key(sha256.New, identitySeed, nil, labelFiles, chacha20poly1305.KeySize)
}

// seal writes the file with its secret sealed: under the line that says how the key comes
// about. All lines before are bound to it.
func (f *file) seal(key []byte, under string, random io.Reader) ([]byte, error) {
	const op = "mixnet/keys.seal"
	a, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	nonce := make([]byte, nonceLen, nonceLen+len(f.secret)+tagLen)
	if _, err := io.ReadFull(random, nonce); err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	b := append(f.head(), under...)
	b = append(b, '\n')
	sealed := a.Seal(nonce, nonce, f.secret, b)
	b = append(b, "sealed "...)
	b = base64.RawStdEncoding.AppendEncode(b, sealed)
	return appendCheck(append(b, '\n')), nil
}

// sealPhrase seals under a passphrase.
func (f *file) sealPhrase(phrase []byte, c passhash.Cost, random io.Reader) ([]byte, error) {
	salt := make([]byte, passhash.SaltLen)
	if _, err := io.ReadFull(random, salt); err != nil {
		return nil, errs.E("mixnet/keys.sealPhrase", errs.Internal, "", err)
	}
	key := c.Key(phrase, salt)
	defer clear(key)
	return f.seal(key, fmt.Sprintf("passphrase %s %s", c, base64.RawStdEncoding.EncodeToString(salt)), random)
}

const underIdentity = "under identity"

// open opens the secret. errs.Auth: the key is another, or the file was changed.
func (f *sealedFile) open(key []byte) error {
	const op = "mixnet/keys.open"
	var a cipher.AEAD
	a, err := chacha20poly1305.NewX(key)
	if err != nil {
		return errs.E(op, errs.Internal, "", err)
	}
	if f.secret, err = a.Open(nil, f.sealed[:nonceLen], f.sealed[nonceLen:], f.head); err != nil {
		return errs.E(op, errs.Auth, "", nil)
	}
	return nil
}
