package seal

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"io"

	"golang.org/x/crypto/chacha20poly1305"

	"postern.email/kit/errs"
	"postern.email/kit/secret"
	"postern.email/mail"
	"postern.email/store"
)

// KeyLen is the length in bytes of every symmetric key here.
const KeyLen = 32

// Version bytes of sealed records.
const (
	versionRoot   = 1
	versionRecord = 1
)

// Root is the random root key of a node. It is drawn once; only its wrapping by
// the node key changes (Rewrap). Safe for use by many goroutines.
type Root struct {
	secret.Hidden
	name    [KeyLen]byte
	shard   [KeyLen]byte
	seen    [KeyLen]byte
	named   [KeyLen]byte
	mix     [KeyLen]byte
	alias   [KeyLen]byte
	purpose [numPurposes]cipher.AEAD
	rand    io.Reader
}

// NewRoot makes a Root of its 32 bytes: for tests and vectors; servers use
// OpenRoot. rand nil means crypto/rand.
func NewRoot(key []byte, random io.Reader) (*Root, error) {
	const op = "seal.NewRoot"
	if len(key) != KeyLen {
		return nil, errs.E(op, errs.Invalid, "", nil)
	}
	if random == nil {
		random = rand.Reader
	}
	r := &Root{rand: random}
	for _, x := range []struct {
		out   []byte
		label string
	}{{r.name[:], labelRootName}, {r.shard[:], labelRootShard}, {r.seen[:], labelRootSeen}, {r.named[:], labelRootNamed}, {r.mix[:], labelRootMix}, {r.alias[:], labelRootAlias}} {
		if err := expandInto(x.out, key, x.label); err != nil {
			return nil, errs.E(op, errs.Internal, "", err)
		}
	}
	for p := range numPurposes {
		var k [KeyLen]byte
		if err := expandInto(k[:], key, labelRootPurpose+p.String()); err != nil {
			return nil, errs.E(op, errs.Internal, "", err)
		}
		aead, err := chacha20poly1305.NewX(k[:])
		clear(k[:])
		if err != nil {
			return nil, errs.E(op, errs.Internal, "", err)
		}
		r.purpose[p] = aead
	}
	return r, nil
}

// expandInto fills out from a uniformly random key (RFC 5869 §2.3, without the
// extract step, which such a key does not need).
func expandInto(out, key []byte, label string) error {
	b, err := hkdf.Expand(sha256.New, key, label, len(out))
	if err != nil {
		return err
	}
	copy(out, b)
	clear(b)
	return nil
}

// extractInto is expandInto of a secret that is long enough and not uniform (RFC 5869 §2).
func extractInto(out, secret []byte, label string) error {
	key, err := hkdf.Extract(sha256.New, secret, nil)
	if err != nil {
		return err
	}
	defer clear(key)
	return expandInto(out, key, label)
}

// NameKey is the keyed hash by which a name is stored: without the root key
// nobody can test whether an address is in the store. addr is made canonical.
func (r *Root) NameKey(addr mail.Address) [20]byte {
	var k [20]byte
	sum := r.nameSum(&r.name, addr)
	copy(k[:], sum[:])
	return k
}

// NameShard is the shard of the name record of addr.
func (r *Root) NameShard(addr mail.Address) store.Shard {
	sum := r.nameSum(&r.shard, addr)
	return store.Shard(binary.BigEndian.Uint16(sum[:2]) % store.Shards)
}

func (r *Root) nameSum(key *[KeyLen]byte, addr mail.Address) (sum [sha256.Size]byte) {
	c := addr.Canonical()
	m := hmac.New(sha256.New, key[:])
	m.Write([]byte(c.Local))
	m.Write([]byte{0}) // neither half can hold a NUL
	m.Write([]byte(c.Domain))
	m.Sum(sum[:0])
	return sum
}

// SeenMark is the keyed hash by which an account remembers a mail: without the root
// key nobody can test whether the account got a mail, nor see that two accounts got the
// same one. The parts are kept apart: ("ab", "c") is not ("a", "bc").
func (r *Root) SeenMark(id AccountID, parts ...[]byte) [16]byte {
	m := hmac.New(sha256.New, r.seen[:])
	m.Write(id[:])
	var n [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		m.Write(n[:])
		m.Write(p)
	}
	var sum [sha256.Size]byte
	return [16]byte(m.Sum(sum[:0]))
}

// Seal seals plain under the node key for purpose p; aad is bound to it and must
// be given to Open again. Layout: version byte, 24 random bytes, ciphertext
// (XChaCha20-Poly1305, the plain text padded like every record).
func (r *Root) Seal(p Purpose, aad, plain []byte) ([]byte, error) {
	out, err := sealX(r.purpose[p], versionRoot, r.rand, aad, plain)
	return out, errs.Wrap("seal.Root.Seal", err)
}

// Open opens what Seal made. errs.Corrupt when it was not made by this root for
// this purpose and aad.
func (r *Root) Open(p Purpose, aad, sealed []byte) ([]byte, error) {
	plain, err := openX(r.purpose[p], versionRoot, aad, sealed)
	return plain, errs.Wrap("seal.Root.Open", err)
}

// minRecord is the shortest padded record: shorter ones all look the same.
const minRecord = 32

// sealX is the one layout of sealed records.
func sealX(aead cipher.AEAD, version byte, random io.Reader, aad, plain []byte) ([]byte, error) {
	head := make([]byte, 1+chacha20poly1305.NonceSizeX)
	head[0] = version
	nonce := head[1:]
	if _, err := io.ReadFull(random, nonce); err != nil {
		return nil, errs.E("seal", errs.Internal, "", err)
	}
	out := appendPadded(head, plain, minRecord, chacha20poly1305.Overhead)
	body := out[len(head):]
	return aead.Seal(out[:len(head)], nonce, body, aad), nil
}

func openX(aead cipher.AEAD, version byte, aad, sealed []byte) ([]byte, error) {
	const head = 1 + chacha20poly1305.NonceSizeX
	if len(sealed) < head+chacha20poly1305.Overhead {
		return nil, errs.E("open", errs.Corrupt, "", errShort)
	}
	if sealed[0] != version {
		return nil, errs.E("open", errs.Corrupt, "", errVersion)
	}
	plain, err := aead.Open(nil, sealed[1:head], sealed[head:], aad)
	if err != nil {
		return nil, errs.E("open", errs.Corrupt, "", err)
	}
	return Unpad(plain)
}
