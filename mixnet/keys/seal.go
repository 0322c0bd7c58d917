package keys

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"

	"postern.email/kit/errs"
)

const (
	nonceLen = chacha20poly1305.NonceSizeX
	tagLen   = chacha20poly1305.Overhead
	saltLen  = 16

	labelFiles = "postern/mix keys: files"
)

// Cost is that of a passphrase: Argon2id (RFC 9106). It is paid once a start.
type Cost struct {
	Time    uint32 // passes
	Memory  uint32 // KiB
	Threads uint8
}

// Bounds of a cost. A file that names more is refused before any memory is taken.
const (
	maxTime    = 16
	maxMemory  = 1 << 20 // KiB
	maxThreads = 4
)

// DefaultCost is 4 passes over 64 MiB by one thread.
func DefaultCost() Cost { return Cost{Time: 4, Memory: 64 << 10, Threads: 1} }

func (c Cost) valid() bool {
	return c.Time >= 1 && c.Time <= maxTime && c.Threads >= 1 && c.Threads <= maxThreads &&
		c.Memory >= 8*uint32(c.Threads) && c.Memory <= maxMemory
}

func (c Cost) String() string {
	return fmt.Sprintf("argon2id t=%d m=%d p=%d", c.Time, c.Memory, c.Threads)
}

// cost reads what String wrote, and the salt behind it.
func (l *lines) cost(s string) (c Cost, salt []byte) {
	at := strings.LastIndexByte(s, ' ')
	if at < 0 {
		l.bad = true
		return c, nil
	}
	_, err := fmt.Sscanf(s[:at], "argon2id t=%d m=%d p=%d", &c.Time, &c.Memory, &c.Threads)
	if err != nil || c.String() != s[:at] || !c.valid() {
		l.bad = true
	}
	return c, l.base64(s[at+1:], saltLen)
}

// key derives the key of a file from a passphrase.
func (c Cost) key(phrase, salt []byte) []byte {
	return argon2.IDKey(phrase, salt, c.Time, c.Memory, c.Threads, chacha20poly1305.KeySize)
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
func (f *file) sealPhrase(phrase []byte, c Cost, random io.Reader) ([]byte, error) {
	salt := make([]byte, saltLen)
	if _, err := io.ReadFull(random, salt); err != nil {
		return nil, errs.E("mixnet/keys.sealPhrase", errs.Internal, "", err)
	}
	key := c.key(phrase, salt)
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
