package letter

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/base32"
	"io"

	"postern.email/kit/errs"
	"postern.email/kit/secret"
)

// Sizes of keys, in bytes.
const (
	PublicKeyLen  = 1216 // X-Wing: ML-KEM-768 1,184, X25519 32
	PrivateKeyLen = 32   // X-Wing: the seed
	encLen        = 1120 // an encapsulation

	ClassicalKeyLen = 32 // X25519
	classicalEncLen = 32
)

// PublicKey is what letters to somebody are sealed to: an X-Wing key, or a classical one.
type PublicKey struct {
	key       hpke.PublicKey
	name      [sha256.Size]byte // of the key's bytes
	classical bool
}

// ParsePublicKey reads the PublicKeyLen bytes of a key. errs.Invalid for what is none.
func ParsePublicKey(b []byte) (*PublicKey, error) {
	key, err := hpke.MLKEM768X25519().NewPublicKey(b)
	if err != nil {
		return nil, errs.E("mixnet/letter.ParsePublicKey", errs.Invalid, "the key is malformed", err)
	}
	return newPublicKey(key), nil
}

func newPublicKey(key hpke.PublicKey) *PublicKey {
	return &PublicKey{key: key, name: sha256.Sum256(key.Bytes())}
}

// ParseClassicalKey reads a bare X25519 key of ClassicalKeyLen bytes, as older mail proxies use
// it. Letters to it are opened by the PrivateKey whose X-Wing key has it as its X25519 half. Who
// records them, and has a quantum computer later, reads them. errs.Invalid for what is none.
func ParseClassicalKey(b []byte) (*PublicKey, error) {
	const op = "mixnet/letter.ParseClassicalKey"
	if len(b) != ClassicalKeyLen {
		return nil, errs.E(op, errs.Invalid, "the key is malformed", nil)
	}
	key, err := hpke.DHKEM(ecdh.X25519()).NewPublicKey(b)
	if err != nil {
		return nil, errs.E(op, errs.Invalid, "the key is malformed", err)
	}
	p := newPublicKey(key)
	p.classical = true
	// A point of low order gives the same secret with every key: sealing to it seals nothing.
	if _, _, err := p.encapsulate(); err != nil {
		return nil, errs.E(op, errs.Invalid, "the key is malformed", err)
	}
	return p, nil
}

// Classical reports whether the key is a bare X25519 key.
func (p *PublicKey) Classical() bool { return p.classical }

// ClassicalHalf is the X25519 key of an X-Wing key, under which somebody may be known as well.
func (p *PublicKey) ClassicalHalf() *PublicKey {
	if p.classical {
		return p
	}
	b := p.key.Bytes()
	half, err := ParseClassicalKey(b[PublicKeyLen-ClassicalKeyLen:])
	if err != nil {
		return nil // of a key whose half is no key
	}
	return half
}

// Bytes gives the key in the form that ParsePublicKey reads.
func (p *PublicKey) Bytes() []byte { return p.key.Bytes() }

// Equal reports whether both are the same key.
func (p *PublicKey) Equal(q *PublicKey) bool { return p.name == q.name }

var fingerprintDigits = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Fingerprint is a short form for people to compare: five groups of five characters, 125 bits of
// the SHA-256 of the key.
func (p *PublicKey) Fingerprint() string { return FormatFingerprint(p.name) }

// FormatFingerprint gives the first 125 bits of a hash as people compare them.
func FormatFingerprint(sum [sha256.Size]byte) string {
	d := fingerprintDigits.EncodeToString(sum[:])[:25]
	return d[:5] + "-" + d[5:10] + "-" + d[10:15] + "-" + d[15:20] + "-" + d[20:]
}

// PrivateKey opens letters, sealed to its X-Wing key or to the X25519 half of it. It shows nothing
// of itself when printed.
type PrivateKey struct {
	secret.Hidden
	key     hpke.PrivateKey
	pub     *PublicKey
	half    hpke.PrivateKey
	halfPub *PublicKey
}

// NewPrivateKey gives the key that follows from a seed of PrivateKeyLen bytes. errs.Invalid
// for another length.
func NewPrivateKey(seed []byte) (*PrivateKey, error) {
	key, err := hpke.MLKEM768X25519().NewPrivateKey(bytes.Clone(seed))
	if err != nil {
		return nil, errs.E("mixnet/letter.NewPrivateKey", errs.Invalid, "", err)
	}
	half, err := classicalHalf(seed)
	if err != nil {
		return nil, errs.E("mixnet/letter.NewPrivateKey", errs.Internal, "", err)
	}
	halfPub := newPublicKey(half.PublicKey())
	halfPub.classical = true
	return &PrivateKey{key: key, pub: newPublicKey(key.PublicKey()), half: half, halfPub: halfPub}, nil
}

// classicalHalf is the X25519 key of an X-Wing seed (draft-connolly-cfrg-xwing-kem §5.2: the last 32
// of 96 bytes of SHAKE256).
func classicalHalf(seed []byte) (hpke.PrivateKey, error) {
	b := sha3.SumSHAKE256(seed, 96)
	defer clear(b)
	return hpke.DHKEM(ecdh.X25519()).NewPrivateKey(b[64:])
}

// GenerateKey makes a key from PrivateKeyLen bytes of random.
func GenerateKey(random io.Reader) (*PrivateKey, error) {
	const op = "mixnet/letter.GenerateKey"
	var seed [PrivateKeyLen]byte
	defer clear(seed[:])
	if _, err := io.ReadFull(random, seed[:]); err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	k, err := NewPrivateKey(seed[:])
	return k, errs.Wrap(op, err)
}

// Public gives the public half.
func (k *PrivateKey) Public() *PublicKey { return k.pub }

// Labels keep what is derived and signed here apart from everything else (docs/letter.md).
// A test checks that none is the beginning of another.
const (
	labelInfo      = "postern/letter: encapsulation"
	labelClassical = "postern/letter: classical encapsulation"
	labelExport    = "postern/letter: keys"
	labelSignature = "postern/letter: signature\n"
	labelReplyKey  = "postern/letter: key of a reply block"
	labelAddress   = "postern/letter: address\n"
	labelBlock     = "postern/letter: reply block\n"
)

// secrets are what one encapsulation gives: the letter's name and the keys of its fragments.
type secrets struct {
	id    ID
	seal  [32]byte // AES-256-GCM
	nonce [32]byte // HMAC-SHA256
}

func exportSecrets(e interface {
	Export(context string, length int) ([]byte, error)
}) (s secrets, err error) {
	b, err := e.Export(labelExport, len(s.id)+len(s.seal)+len(s.nonce))
	if err != nil {
		return s, err
	}
	n := copy(s.id[:], b)
	n += copy(s.seal[:], b[n:])
	copy(s.nonce[:], b[n:])
	clear(b)
	return s, nil
}

// encLen is the size of an encapsulation to p.
func (p *PublicKey) encLen() int {
	if p.classical {
		return classicalEncLen
	}
	return encLen
}

// info keeps the two forms apart.
func (p *PublicKey) info() []byte {
	if p.classical {
		return []byte(labelClassical)
	}
	return []byte(labelInfo)
}

// encapsulate makes the secrets of a letter to the owner of p. It draws from the standard
// library's own randomness.
func (p *PublicKey) encapsulate() (enc []byte, s secrets, err error) {
	enc, sender, err := hpke.NewSender(p.key, hpke.HKDFSHA256(), hpke.ExportOnly(), p.info())
	if err != nil {
		return nil, s, err
	}
	s, err = exportSecrets(sender)
	return enc, s, err
}

// decapsulate opens what was made for one of the two public keys, of which p is one.
func (k *PrivateKey) decapsulate(p *PublicKey, enc []byte) (s secrets, err error) {
	key := k.key
	if p.classical {
		key = k.half
	}
	r, err := hpke.NewRecipient(enc, key, hpke.HKDFSHA256(), hpke.ExportOnly(), p.info())
	if err != nil {
		return s, err
	}
	return exportSecrets(r)
}
