package names

import (
	"context"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/seal"
	"postern.email/store"
)

// Names is the register. It keeps nothing in memory, and may be used by many goroutines.
type Names struct {
	st   store.Store
	root *seal.Root
}

// New opens the register in st.
func New(st store.Store, root *seal.Root) *Names { return &Names{st, root} }

// Place is where the record of a name lies. The zero Place is before all others.
type Place struct {
	Shard store.Shard
	Key   [20]byte // keyed hash of the name
}

// Place gives the place of a name.
func (n *Names) Place(addr mail.Address) Place {
	return Place{n.root.NameShard(addr), n.root.NameKey(addr)}
}

// Shard is where the record of a name lies.
func (n *Names) Shard(addr mail.Address) store.Shard { return n.root.NameShard(addr) }

// Lookup reads the record of a name. errs.NotFound when it was never given out,
// errs.Corrupt when the record cannot be read.
func (n *Names) Lookup(ctx context.Context, addr mail.Address) (Record, error) {
	r, err := n.At(ctx, n.Place(addr))
	return r, errs.Wrap("post/names.Lookup", err)
}

// At is Lookup by place.
func (n *Names) At(ctx context.Context, p Place) (rec Record, err error) {
	err = n.st.View(ctx, p.Shard, func(r store.Reader) error {
		rec, err = n.GetAt(r, p)
		return err
	})
	return rec, err
}

// Get is Lookup in a transaction or view of the name's shard.
func (n *Names) Get(r store.Reader, addr mail.Address) (Record, error) {
	return n.GetAt(r, n.Place(addr))
}

// GetAt is Get by place.
func (n *Names) GetAt(r store.Reader, p Place) (Record, error) {
	sealed, err := r.Get(recordKey(p.Key))
	if err != nil {
		return Record{}, err
	}
	return n.open(p.Key, sealed)
}

// Set writes the record of a name over what was there. tx is in the name's shard.
func (n *Names) Set(tx store.Tx, addr mail.Address, r Record) error {
	return n.SetAt(tx, n.Place(addr), r)
}

// SetAt is Set by place.
func (n *Names) SetAt(tx store.Tx, p Place, r Record) error {
	sealed, err := n.root.Seal(seal.PurposeName, p.Key[:], r.encode())
	if err != nil {
		return err
	}
	return tx.Set(recordKey(p.Key), sealed)
}

// Claim gives a name out: it writes r, if the name was never given out, or if reusable (nil:
// never) says of its record that it may be given out again. Else errs.Exists when it is in use, and
// errs.Denied when its record is a tombstone. tx is in the name's shard.
func (n *Names) Claim(tx store.Tx, addr mail.Address, r Record, reusable func(Record) bool) error {
	const op = "post/names.Claim"
	p := n.Place(addr)
	was, err := n.GetAt(tx, p)
	switch {
	case errs.KindOf(err) == errs.NotFound && err != nil:
	case err != nil:
		return err
	case reusable != nil && reusable(was):
	case was.Kind.Dead():
		return errs.E(op, errs.Denied, textGone, nil)
	default:
		return errs.E(op, errs.Exists, textTaken, nil)
	}
	return n.SetAt(tx, p, r)
}

// DeleteAt removes the record of a name, so that it may be given out again.
func (n *Names) DeleteAt(tx store.Tx, p Place) error { return tx.Delete(recordKey(p.Key)) }

// Public texts.
const (
	textGone  = "this name was deleted and is not given out again"
	textTaken = "this name is taken"
)

func (n *Names) open(key [20]byte, sealed []byte) (Record, error) {
	plain, err := n.root.Open(seal.PurposeName, key[:], sealed)
	if err != nil {
		return Record{}, err
	}
	return decode(plain)
}
