package seal

import (
	"crypto/cipher"
	"crypto/hpke"
	"crypto/rand"
	"encoding/binary"
	"io"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"

	"postern.email/kit/errs"
	"postern.email/kit/secret"
)

// PublicKey is an account's X-Wing encapsulation key (MLKEM768-X25519 of
// crypto/hpke), PublicKeyLen bytes. What arrives for an account is sealed to it.
type PublicKey []byte

// Lengths in bytes of the KEM's values.
const (
	SeedLen      = 32
	PublicKeyLen = 1216
	EncapLen     = 1120
)

// Opened is an account key that its owner's password has opened: the seed, from
// which the private half and the key for the owner's records come. Safe for use
// by many goroutines. After Close every method fails with errs.Unavailable.
type Opened struct {
	secret.Hidden
	id   AccountID
	pub  PublicKey
	rand io.Reader

	mu     sync.RWMutex // guards closed and the secrets against Close
	closed bool
	seed   [SeedLen]byte
	record [KeyLen]byte

	chains chainCache
}

// Generate draws a new account key. random nil means crypto/rand.
func Generate(id AccountID, random io.Reader) (*Opened, error) {
	if random == nil {
		random = rand.Reader
	}
	var seed [SeedLen]byte
	defer clear(seed[:])
	if _, err := io.ReadFull(random, seed[:]); err != nil {
		return nil, errs.E("seal.Generate", errs.Internal, "", err)
	}
	return FromSeed(id, seed[:], random)
}

// FromSeed makes the account key of a 32-byte seed, which is copied.
func FromSeed(id AccountID, seed []byte, random io.Reader) (*Opened, error) {
	const op = "seal.FromSeed"
	if random == nil {
		random = rand.Reader
	}
	if len(seed) != SeedLen {
		return nil, errs.E(op, errs.Invalid, "", nil)
	}
	priv, err := hpke.MLKEM768X25519().NewPrivateKey(seed)
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	o := &Opened{id: id, pub: priv.PublicKey().Bytes(), rand: random}
	copy(o.seed[:], seed)
	if err := expandInto(o.record[:], seed, labelRecord); err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	return o, nil
}

// ID is the account's number.
func (o *Opened) ID() AccountID { return o.id }

// Public is the account's public half. Do not change it.
func (o *Opened) Public() PublicKey { return o.pub }

// SealRecord seals a record of the account's owner (folder name, keywords,
// metadata) so that only the opened account key opens it. purpose and aad are
// bound to it; purpose has at most 255 bytes. Layout as Root.Seal, padded.
func (o *Opened) SealRecord(purpose string, aad, plain []byte) ([]byte, error) {
	return o.withRecord("seal.SealRecord", purpose, aad, func(aead cipher.AEAD, full []byte) ([]byte, error) {
		return sealX(aead, versionRecord, o.rand, full, plain)
	})
}

// OpenRecord opens what SealRecord made with the same purpose and aad.
func (o *Opened) OpenRecord(purpose string, aad, sealed []byte) ([]byte, error) {
	return o.withRecord("seal.OpenRecord", purpose, aad, func(aead cipher.AEAD, full []byte) ([]byte, error) {
		return openX(aead, versionRecord, full, sealed)
	})
}

// withRecord runs fn with the key for the owner's records while it is open.
func (o *Opened) withRecord(op, purpose string, aad []byte, fn func(aead cipher.AEAD, full []byte) ([]byte, error)) ([]byte, error) {
	full, err := recordAAD(purpose, aad)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	o.mu.RLock()
	defer o.mu.RUnlock()
	if o.closed {
		return nil, errs.E(op, errs.Unavailable, "", errClosed)
	}
	aead, err := chacha20poly1305.NewX(o.record[:])
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	out, err := fn(aead, full)
	return out, errs.Wrap(op, err)
}

// recordAAD joins purpose and aad without ambiguity.
func recordAAD(purpose string, aad []byte) ([]byte, error) {
	if len(purpose) > 255 {
		return nil, errs.E("seal", errs.Invalid, "", nil)
	}
	b := make([]byte, 0, 1+len(purpose)+len(aad))
	b = append(b, byte(len(purpose)))
	b = append(b, purpose...)
	return append(b, aad...), nil
}

// withSeed runs fn with the seed while it is open.
func (o *Opened) withSeed(fn func(seed []byte) error) error {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if o.closed {
		return errs.E("seal.Opened", errs.Unavailable, "", errClosed)
	}
	return fn(o.seed[:])
}

// AppendSeed appends the seed to dst: only for handing opened keys to the next
// process (account.ExportKeys).
func (o *Opened) AppendSeed(dst []byte) ([]byte, error) {
	err := o.withSeed(func(seed []byte) error { dst = append(dst, seed...); return nil })
	return dst, err
}

// Close erases the seed and all that was derived from it. It may be called more
// than once.
func (o *Opened) Close() {
	o.mu.Lock()
	o.closed = true
	clear(o.seed[:])
	clear(o.record[:])
	o.mu.Unlock()
	o.chains.drop()
}

// Trim erases what can be derived again from the seed: for a key that is kept
// only because its owner may soon come back.
func (o *Opened) Trim() { o.chains.drop() }

// chainInfo is what an encapsulation is bound to: the account and the chain, so
// that one written for another account or chain opens nothing.
func chainInfo(id AccountID, chain ChainID) []byte {
	b := make([]byte, 0, len(labelChainInfo)+1+len(id)+len(chain))
	b = append(b, labelChainInfo...)
	b = append(b, 0)
	b = append(b, id[:]...)
	return append(b, chain[:]...)
}

// partNonce is the AEAD nonce of a mail's part: the key is used for one mail
// only, so the number of the part and chunk is unique under it.
func partNonce(part Part, chunk uint32) (n [12]byte) {
	n[0] = byte(part)
	binary.BigEndian.PutUint32(n[8:], chunk)
	return n
}
