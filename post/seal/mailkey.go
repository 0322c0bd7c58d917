package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"io"
	"sync"

	"postern.email/kit/errs"
	"postern.email/kit/secret"
)

// Part is a part of a mail that is sealed on its own.
type Part uint8

// The parts of a mail.
const (
	PartSummary Part = 1 // envelope, structure, header, exact size and date
	PartBody    Part = 2 // the bytes, in chunks that open alone
)

// SealedOverhead is what SealPart adds to the padded length.
const SealedOverhead = 16

// SealedLen gives the length of SealPart's result for n bytes.
func SealedLen(n int) int { return PaddedLen(n) + SealedOverhead }

// MailKey is the key of one mail. AES-256-GCM, because the processor does it:
// a random or ratcheted key is used for one mail only, so the nonce can be the
// number of the part and chunk. Safe for use by many goroutines.
type MailKey struct {
	secret.Hidden
	key  [KeyLen]byte
	aead cipher.AEAD

	mu   sync.Mutex
	used map[[12]byte]struct{} // what this key has sealed; nil until the first
}

var errReused = errors.New("this part was sealed with this key before")

// NewMailKey draws a key that belongs to no chain: for a large body that several
// recipients share. random nil means crypto/rand.
func NewMailKey(random io.Reader) (*MailKey, error) {
	if random == nil {
		random = rand.Reader
	}
	var b [KeyLen]byte
	defer clear(b[:])
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return nil, errs.E("seal.NewMailKey", errs.Internal, "", err)
	}
	return MailKeyOf(b[:])
}

// MailKeyOf makes a key of the 32 bytes that Bytes gave.
func MailKeyOf(b []byte) (*MailKey, error) {
	const op = "seal.MailKeyOf"
	if len(b) != KeyLen {
		return nil, errs.E(op, errs.Invalid, "", nil)
	}
	block, err := aes.NewCipher(b)
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	k := new(MailKey)
	if k.aead, err = cipher.NewGCM(block); err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	copy(k.key[:], b)
	return k, nil
}

// Bytes gives a copy of the key, to be sealed inside another record.
func (k *MailKey) Bytes() []byte { return append([]byte(nil), k.key[:]...) }

// SealPart pads plain (Pad) and seals it. Each part and chunk can be sealed once:
// the second time is errs.Conflict, because two texts under one key and nonce
// would lay both open.
func (k *MailKey) SealPart(part Part, chunk uint32, plain []byte) ([]byte, error) {
	nonce := partNonce(part, chunk)
	k.mu.Lock()
	_, again := k.used[nonce]
	if !again {
		if k.used == nil {
			k.used = make(map[[12]byte]struct{}, 2)
		}
		k.used[nonce] = struct{}{}
	}
	k.mu.Unlock()
	if again {
		return nil, errs.E("seal.SealPart", errs.Conflict, "", errReused)
	}
	padded := appendPadded(nil, plain, 0, SealedOverhead)
	return k.aead.Seal(padded[:0], nonce[:], padded, nil), nil
}

// OpenPart opens what SealPart made, without the padding. errs.Corrupt when it
// was not made with this key for this part and chunk.
func (k *MailKey) OpenPart(part Part, chunk uint32, sealed []byte) ([]byte, error) {
	return k.open(nil, part, chunk, sealed)
}

// OpenPartInPlace is OpenPart over the memory of sealed, which it overwrites, also
// when it fails.
func (k *MailKey) OpenPartInPlace(part Part, chunk uint32, sealed []byte) ([]byte, error) {
	return k.open(sealed[:0], part, chunk, sealed)
}

// OpenPartInto is OpenPart into the memory of dst from its beginning; the result lies
// there when cap(dst) is not less than the padded length (the sealed length less
// SealedOverhead). sealed is not changed and must not overlap dst.
func (k *MailKey) OpenPartInto(dst []byte, part Part, chunk uint32, sealed []byte) ([]byte, error) {
	return k.open(dst[:0], part, chunk, sealed)
}

func (k *MailKey) open(dst []byte, part Part, chunk uint32, sealed []byte) ([]byte, error) {
	nonce := partNonce(part, chunk)
	plain, err := k.aead.Open(dst, nonce[:], sealed, nil)
	if err != nil {
		return nil, errs.E("seal.OpenPart", errs.Corrupt, "", err)
	}
	plain, err = Unpad(plain)
	return plain, errs.Wrap("seal.OpenPart", err)
}
