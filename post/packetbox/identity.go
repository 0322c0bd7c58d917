package packetbox

import (
	"context"
	"encoding/binary"
	"time"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// Lengths in bytes of the keys of an Identity: those of mixnet/letter.PublicKeyLen and of the
// two keys of mixnet/directory.PublicKey.
const (
	LetterLen  = 1216
	Ed25519Len = 32
	MLDSALen   = 1952
)

// Identity is what others seal letters to an account to, and verify its letters with. An account
// that has one is read with a mail proxy: mail for it goes into its packet box. This package
// keeps the keys and does not look into them.
type Identity struct {
	Letter  [LetterLen]byte
	Ed25519 [Ed25519Len]byte
	MLDSA   [MLDSALen]byte
	Publish bool // strangers who know the address may be told the keys

	// Serial counts the identities that the account had, this one included. It is set here.
	Serial uint64
	day    uint32
}

// Since is the day on which these keys were registered, midnight UTC.
func (i *Identity) Since() time.Time { return time.Unix(int64(i.day)*24*60*60, 0).UTC() }

func (i *Identity) sameKeys(o *Identity) bool {
	return i.Letter == o.Letter && i.Ed25519 == o.Ed25519 && i.MLDSA == o.MLDSA
}

const (
	kindIdentity    = 'i'
	identityPublish = 1
	identityLen     = 1 + 1 + 4 + 8 + LetterLen + Ed25519Len + MLDSALen // version, flags, day, serial, keys
)

func identityKey(id seal.AccountID) []byte { return keyOf(id, kindIdentity) }

func (i *Identity) encode() []byte {
	var flags byte
	if i.Publish {
		flags = identityPublish
	}
	b := append(make([]byte, 0, identityLen), version, flags)
	b = binary.BigEndian.AppendUint32(b, i.day)
	b = binary.BigEndian.AppendUint64(b, i.Serial)
	return append(append(append(b, i.Letter[:]...), i.Ed25519[:]...), i.MLDSA[:]...)
}

func decodeIdentity(b []byte) (i Identity, err error) {
	if len(b) != identityLen || b[0] != version || b[1]&^identityPublish != 0 {
		return i, corrupt("post/packetbox.decodeIdentity", nil)
	}
	i.Publish, i.day, i.Serial = b[1] == identityPublish, binary.BigEndian.Uint32(b[2:]), binary.BigEndian.Uint64(b[6:])
	b = b[14:]
	n := copy(i.Letter[:], b)
	n += copy(i.Ed25519[:], b[n:])
	copy(i.MLDSA[:], b[n:])
	return i, nil
}

// RegisterProxy is Register for a client that is a mail proxy: it sets the account's identity too,
// in the same transaction. Other keys than before take their place, under the next serial; the
// same ones change at most Publish.
func (b *Boxes) RegisterProxy(ctx context.Context, id seal.AccountID, key [KeyLen]byte, ident Identity) (mailbox [KeyLen]byte, err error) {
	return b.register(ctx, id, key, &ident)
}

// setIdentity writes ident in a transaction in the account's shard.
func (b *Boxes) setIdentity(tx store.Tx, id seal.AccountID, ident Identity, today uint32) error {
	ident.Serial, ident.day = 1, today
	had, err := b.identity(tx, id)
	switch {
	case err == nil && had.sameKeys(&ident):
		if had.Publish == ident.Publish {
			return nil
		}
		ident.Serial, ident.day = had.Serial, had.day
	case err == nil:
		ident.Serial = had.Serial + 1
	case errs.KindOf(err) != errs.NotFound && errs.KindOf(err) != errs.Corrupt: // a damaged one is written anew
		return err
	}
	sealed, err := b.o.Root.Seal(seal.PurposeMixIdentity, id[:], ident.encode())
	if err != nil {
		return err
	}
	return tx.Set(identityKey(id), sealed)
}

func (b *Boxes) identity(r store.Reader, id seal.AccountID) (Identity, error) {
	sealed, err := r.Get(identityKey(id))
	if err != nil {
		return Identity{}, err
	}
	plain, err := b.o.Root.Open(seal.PurposeMixIdentity, id[:], sealed)
	if err != nil {
		return Identity{}, err
	}
	return decodeIdentity(plain)
}

// Identity gives the identity of an account. errs.NotFound when it has none: no proxy reads it.
func (b *Boxes) Identity(ctx context.Context, id seal.AccountID) (i Identity, err error) {
	err = b.o.Store.View(ctx, id.Shard(), func(r store.Reader) error {
		i, err = b.identity(r, id)
		return err
	})
	return i, errs.Wrap("post/packetbox.Identity", err)
}
