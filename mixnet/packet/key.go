package packet

import (
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"io"

	"postern.email/kit/errs"
	"postern.email/kit/secret"
)

// Sizes of keys, in bytes.
const (
	PublicKeyLen  = 1216 // X-Wing: ML-KEM-768 encapsulation key 1,184, X25519 32
	PrivateKeyLen = 32   // X-Wing: the seed
)

// PublicKey is the packet key of a hop, as its descriptor publishes it.
type PublicKey struct {
	key hpke.PublicKey
	id  uint32
}

// PrivateKey opens one layer of the packets that are sealed to its public half. It
// shows nothing of itself when printed.
type PrivateKey struct {
	secret.Hidden
	key hpke.PrivateKey
	pub *PublicKey
}

// ParsePublicKey reads the PublicKeyLen bytes of a public key. errs.Invalid for what is
// none.
func ParsePublicKey(b []byte) (*PublicKey, error) {
	key, err := hpke.MLKEM768X25519().NewPublicKey(b)
	if err != nil {
		return nil, errs.E("packet.ParsePublicKey", errs.Invalid, "", errPublicKey)
	}
	return newPublicKey(key), nil
}

func newPublicKey(key hpke.PublicKey) *PublicKey {
	h := sha256.New()
	h.Write([]byte(labelKeyID))
	h.Write(key.Bytes())
	return &PublicKey{key: key, id: binary.BigEndian.Uint32(h.Sum(nil))}
}

// Bytes gives the key in the form that ParsePublicKey reads.
func (p *PublicKey) Bytes() []byte { return p.key.Bytes() }

// ID names the key among those of one node (docs/packet.md §3.1). It follows from the
// key; a node whose live keys have the same ID makes another key.
func (p *PublicKey) ID() uint32 { return p.id }

// NewPrivateKey gives the key that follows from a seed of PrivateKeyLen bytes.
// errs.Invalid for another length.
func NewPrivateKey(seed []byte) (*PrivateKey, error) {
	key, err := hpke.MLKEM768X25519().NewPrivateKey(seed)
	if err != nil {
		return nil, errs.E("packet.NewPrivateKey", errs.Invalid, "", err)
	}
	return &PrivateKey{key: key, pub: newPublicKey(key.PublicKey())}, nil
}

// GeneratePrivateKey makes a key from PrivateKeyLen bytes of random.
func GeneratePrivateKey(random io.Reader) (*PrivateKey, error) {
	const op = "packet.GeneratePrivateKey"
	var seed [PrivateKeyLen]byte
	defer clear(seed[:])
	if _, err := io.ReadFull(random, seed[:]); err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	k, err := NewPrivateKey(seed[:])
	return k, errs.Wrap(op, err)
}

// Seed gives a copy of the seed, for whoever keeps the key.
func (k *PrivateKey) Seed() ([]byte, error) {
	b, err := k.key.Bytes()
	if err != nil {
		return nil, errs.E("packet.PrivateKey.Seed", errs.Internal, "", err)
	}
	return append([]byte(nil), b...), nil
}

// Public gives the public half.
func (k *PrivateKey) Public() *PublicKey { return k.pub }

// ID is the ID of the public half.
func (k *PrivateKey) ID() uint32 { return k.pub.id }

// hopKeys are what the encapsulation of one layer gives: the key of the header and the
// replay tag.
type hopKeys struct {
	header [keyLen]byte
	tag    Tag
}

// exporter is either side of an encapsulation.
type exporter interface {
	Export(context string, length int) ([]byte, error)
}

func exportHop(e exporter) (k hopKeys, err error) {
	b, err := e.Export(labelHopExport, keyLen+len(k.tag))
	if err != nil {
		return k, err
	}
	copy(k.header[:], b)
	copy(k.tag[:], b[keyLen:])
	clear(b)
	return k, nil
}

// encapsulate makes the keys of a layer for the owner of p. It draws from the standard
// library's own randomness.
func (p *PublicKey) encapsulate() (enc []byte, k hopKeys, err error) {
	enc, s, err := hpke.NewSender(p.key, hpke.HKDFSHA256(), hpke.ExportOnly(), []byte(labelHopInfo))
	if err != nil {
		return nil, k, err
	}
	k, err = exportHop(s)
	return enc, k, err
}

// decapsulate gives the keys of a layer. It fails only for points of X25519 that no
// honest sender chooses; any other wrong enc gives keys that open nothing.
func (k *PrivateKey) decapsulate(enc []byte) (hopKeys, error) {
	r, err := hpke.NewRecipient(enc, k.key, hpke.HKDFSHA256(), hpke.ExportOnly(), []byte(labelHopInfo))
	if err != nil {
		return hopKeys{}, err
	}
	return exportHop(r)
}
