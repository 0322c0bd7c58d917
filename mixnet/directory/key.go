package directory

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"io"

	"filippo.io/mldsa"
	"postern.email/kit/errs"
	"postern.email/kit/secret"
	"postern.email/mixnet/packet"
)

// Sizes of keys and signatures, in bytes.
const (
	edKeyLen   = ed25519.PublicKeySize
	edSigLen   = ed25519.SignatureSize
	mlKeyLen   = mldsa.MLDSA65PublicKeySize
	mlSigLen   = mldsa.MLDSA65SignatureSize
	PrivateLen = ed25519.SeedSize + mldsa.PrivateKeySize // the two seeds of a PrivateKey
)

// Labels keep what is hashed or signed here apart from everything else (docs/directory.md §3).
const (
	labelIdentity = "postern/directory identity\n"
	labelSign     = "postern/directory signature\n"
	labelCommit   = "postern/directory commit\n"
	labelReveal   = "postern/directory reveal\n"
	labelRandom   = "postern/directory shared random\n"
	labelLayer    = "postern/directory layer\n"
	labelGossip   = "postern/directory gossip\n"
)

// PublicKey is the pair of verification keys of a node, an authority or a relay's names:
// Ed25519 and ML-DSA-65 (FIPS 204). What it signs is valid only if both signatures are.
type PublicKey struct {
	ed ed25519.PublicKey
	ml *mldsa.PublicKey
	id packet.ID
}

// Signature is a pair of signatures.
type Signature struct {
	Signer  packet.ID
	Ed25519 [edSigLen]byte
	MLDSA   [mlSigLen]byte
}

// NewPublicKey takes the 32 and 1,952 bytes of a pair of keys. errs.Invalid for what is none.
func NewPublicKey(ed, ml []byte) (*PublicKey, error) {
	const op = "directory.NewPublicKey"
	if len(ed) != edKeyLen {
		return nil, errs.E(op, errs.Invalid, "", nil)
	}
	m, err := mldsa.NewPublicKey(mldsa.MLDSA65(), ml)
	if err != nil {
		return nil, errs.E(op, errs.Invalid, "", err)
	}
	h := sha256.New()
	h.Write([]byte(labelIdentity))
	h.Write(ed)
	h.Write(ml)
	k := &PublicKey{ed: bytes.Clone(ed), ml: m}
	h.Sum(k.id[:0])
	return k, nil
}

// ID is the name of the key, which follows from it: a node's ID in packets, an authority's
// in documents.
func (k *PublicKey) ID() packet.ID { return k.id }

// Ed25519 gives a copy of the 32 bytes of the one key, MLDSA of the 1,952 of the other.
func (k *PublicKey) Ed25519() []byte { return bytes.Clone(k.ed) }

// MLDSA gives a copy of the ML-DSA-65 key.
func (k *PublicKey) MLDSA() []byte { return k.ml.Bytes() }

// Verify reports whether both signatures of s are valid for body, and are of this key.
func (k *PublicKey) Verify(body []byte, s *Signature) bool {
	if s.Signer != k.id {
		return false
	}
	m := signed(body)
	return ed25519.Verify(k.ed, m, s.Ed25519[:]) && mldsa.Verify(k.ml, m, s.MLDSA[:], nil) == nil
}

// signed is what is signed for a body.
func signed(body []byte) []byte { return append([]byte(labelSign), body...) }

// Signer signs documents. PrivateKey is one; a key in other hardware may be another. It
// must give the same signature for the same body each time, or at least valid ones.
type Signer interface {
	Public() *PublicKey
	Sign(body []byte) (Signature, error)
}

// PrivateKey is the private pair of an identity. It shows nothing of itself when printed.
type PrivateKey struct {
	secret.Hidden
	ed  ed25519.PrivateKey
	ml  *mldsa.PrivateKey
	pub *PublicKey
}

// NewPrivateKey gives the pair that follows from PrivateLen bytes, the seed of the Ed25519
// key and that of the other. errs.Invalid for another length.
func NewPrivateKey(seed []byte) (*PrivateKey, error) {
	const op = "directory.NewPrivateKey"
	if len(seed) != PrivateLen {
		return nil, errs.E(op, errs.Invalid, "", nil)
	}
	ml, err := mldsa.NewPrivateKey(mldsa.MLDSA65(), seed[ed25519.SeedSize:])
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	k := &PrivateKey{ed: ed25519.NewKeyFromSeed(seed[:ed25519.SeedSize]), ml: ml}
	k.pub, err = NewPublicKey(k.ed.Public().(ed25519.PublicKey), ml.PublicKey().Bytes())
	return k, errs.Wrap(op, err)
}

// GenerateKey makes a pair from PrivateLen bytes of random.
func GenerateKey(random io.Reader) (*PrivateKey, error) {
	const op = "directory.GenerateKey"
	var seed [PrivateLen]byte
	defer clear(seed[:])
	if _, err := io.ReadFull(random, seed[:]); err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	k, err := NewPrivateKey(seed[:])
	return k, errs.Wrap(op, err)
}

// Seed gives a copy of the PrivateLen bytes, for whoever keeps the key.
func (k *PrivateKey) Seed() []byte { return append(k.ed.Seed(), k.ml.Bytes()...) }

// Public gives the public half.
func (k *PrivateKey) Public() *PublicKey { return k.pub }

// Sign signs a body. Both signatures are deterministic (FIPS 204 §3.4 allows it): an
// authority that restarts signs the same document in the same bytes.
func (k *PrivateKey) Sign(body []byte) (s Signature, err error) {
	m := signed(body)
	s.Signer = k.pub.id
	copy(s.Ed25519[:], ed25519.Sign(k.ed, m))
	ml, err := k.ml.SignDeterministic(m, nil)
	if err != nil {
		return s, errs.E("directory.PrivateKey.Sign", errs.Internal, "", err)
	}
	copy(s.MLDSA[:], ml)
	return s, nil
}

func compareID(a, b packet.ID) int { return bytes.Compare(a[:], b[:]) }
