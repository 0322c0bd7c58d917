package seal

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"io"

	"golang.org/x/crypto/chacha20poly1305"

	"postern.email/kit/errs"
	"postern.email/store"
)

// Named seals a record that is looked up by a name, such as a domain. Place and key are both made
// of root key and name, so that neither the disk nor the root key tells the name: only who
// guesses it can find the record and open it.
type Named struct {
	Place [20]byte    // the record's key
	Shard store.Shard // where it lies
	aead  cipher.AEAD
	rand  io.Reader
}

// Named gives what seals the record of a name; the caller makes the name canonical.
func (r *Root) Named(name string) (*Named, error) {
	m := hmac.New(sha256.New, r.named[:])
	m.Write([]byte(name))
	var own [sha256.Size]byte
	m.Sum(own[:0])
	defer clear(own[:])
	var out [20 + 2 + KeyLen]byte
	if err := expandInto(out[:], own[:], labelRootNamed); err != nil {
		return nil, errs.E("seal.Root.Named", errs.Internal, "", err)
	}
	defer clear(out[:])
	n := &Named{rand: r.rand, Shard: store.Shard(binary.BigEndian.Uint16(out[20:]) % store.Shards)}
	copy(n.Place[:], out[:20])
	var err error
	if n.aead, err = chacha20poly1305.NewX(out[22:]); err != nil {
		return nil, errs.E("seal.Root.Named", errs.Internal, "", err)
	}
	return n, nil
}

// Seal seals plain, as Root.Seal does.
func (n *Named) Seal(plain []byte) ([]byte, error) {
	out, err := sealX(n.aead, versionRecord, n.rand, n.Place[:], plain)
	return out, errs.Wrap("seal.Named.Seal", err)
}

// Open opens what Seal made. errs.Corrupt when it was not made for this name.
func (n *Named) Open(sealed []byte) ([]byte, error) {
	plain, err := openX(n.aead, versionRecord, n.Place[:], sealed)
	return plain, errs.Wrap("seal.Named.Open", err)
}
