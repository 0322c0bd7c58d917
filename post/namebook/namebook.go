// Package namebook keeps records that are found by a name alone: a domain, an address. A record lies
// where its name says and is sealed under a key made of that name (seal.Named), so that neither the
// disk nor the node key tells which names there are:
//
//	key                     value                                             readable
//	letter place (20 bytes) version; day on which the record ends (uint32);   the day
//	                        the sealed record
//
// A record goes when its day is over.
package namebook

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"time"

	"postern.email/kit/day"
	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// DefaultSweepEvery is how often Run looks for what has ended.
const DefaultSweepEvery = 24 * time.Hour

const (
	version = 1
	head    = 1 + 4
	keyLen  = 1 + 20
)

// Options of a Book. Store, Root, Letter, MaxRecord and What are needed.
type Options struct {
	Store     store.Store
	Root      *seal.Root
	Letter    byte   // with which the keys begin; nobody else's begin so
	MaxRecord int    // bytes of one record
	What      string // what a record is, in words for reports: "the record of a domain's policy"

	SweepEvery time.Duration
	Deleted    func() // called after each commit that deleted something; nil: nobody is told
	Now        func() time.Time
	Logger     *slog.Logger // nil: nothing is logged
}

// Book is the store of such records. It may be used by many goroutines.
type Book struct{ o Options }

// New makes a Book.
func New(o Options) *Book {
	defaults.Positive(&o.SweepEvery, DefaultSweepEvery)
	if o.Deleted == nil {
		o.Deleted = func() {}
	}
	defaults.Clock(&o.Now)
	defaults.Logger(&o.Logger)
	return &Book{o: o}
}

// Load gives the record of a name and the day on which it ends (midnight UTC at its begin).
// errs.NotFound: there is none; errs.Corrupt: it cannot be read.
func (b *Book) Load(ctx context.Context, name string) (record []byte, ends time.Time, err error) {
	const op = "post/namebook.Load"
	n, err := b.o.Root.Named(name)
	if err != nil {
		return nil, ends, errs.Wrap(op, err)
	}
	v, err := b.value(ctx, n)
	if err != nil {
		return nil, ends, errs.Wrap(op, err)
	}
	record, ends, err = open(n, v)
	return record, ends, errs.Wrap(op, err)
}

// value reads what is stored for a name.
func (b *Book) value(ctx context.Context, n *seal.Named) (v []byte, err error) {
	err = b.o.Store.View(ctx, n.Shard, func(r store.Reader) error {
		v, err = r.Get(b.key(n))
		return err
	})
	return v, err
}

func open(n *seal.Named, v []byte) (record []byte, ends time.Time, err error) {
	if len(v) < head || v[0] != version {
		return nil, ends, errs.E("post/namebook.open", errs.Corrupt, "", nil)
	}
	record, err = n.Open(v[head:])
	return record, day.Day(binary.BigEndian.Uint32(v[1:])).Time(), err
}

// Save puts the record of a name in the place of the one before. errs.TooLarge beyond
// MaxRecord.
func (b *Book) Save(ctx context.Context, name string, record []byte, ends time.Time) error {
	const op = "post/namebook.Save"
	w, err := b.Prepare(name, record, ends)
	if err != nil {
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, b.o.Store.Update(ctx, w.shard, w.Put))
}

// Write is a record on its way into somebody's transaction.
type Write struct {
	shard      store.Shard
	key, value []byte
}

// Prepare seals a record; see Save.
func (b *Book) Prepare(name string, record []byte, ends time.Time) (*Write, error) {
	const op = "post/namebook.Prepare"
	n, err := b.o.Root.Named(name)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	w, err := b.prepare(n, record, ends)
	return w, errs.Wrap(op, err)
}

func (b *Book) prepare(n *seal.Named, record []byte, ends time.Time) (*Write, error) {
	const op = "post/namebook.prepare"
	if len(record) > b.o.MaxRecord {
		return nil, errs.E(op, errs.TooLarge, "", nil)
	}
	sealed, err := n.Seal(record)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	return &Write{shard: n.Shard, key: b.key(n), value: append(binary.BigEndian.AppendUint32([]byte{version}, uint32(day.Of(ends))), sealed...)}, nil
}

// Shard is where the transaction of Put must be.
func (w *Write) Shard() store.Shard { return w.shard }

// Put writes the record.
func (w *Write) Put(tx store.Tx) error { return tx.Set(w.key, w.value) }

// Committed is called after the transaction; nothing is left to do.
func (w *Write) Committed() {}

// maxChanges is how often Change begins anew before it gives up.
const maxChanges = 16

// Change puts what fn makes of a record in its place, nil for none any more. old is nil where there is
// none, or none that can be read. fn may be run again, when somebody else was faster; an error of it is
// given back, and nothing is written. errs.Conflict after many of them.
func (b *Book) Change(ctx context.Context, name string, fn func(old []byte) (record []byte, ends time.Time, err error)) error {
	const op = "post/namebook.Change"
	n, err := b.o.Root.Named(name)
	if err != nil {
		return errs.Wrap(op, err)
	}
	for range maxChanges {
		before, err := b.value(ctx, n)
		if err != nil && errs.KindOf(err) != errs.NotFound {
			return errs.Wrap(op, err)
		}
		old, _, err := open(n, before)
		if err != nil {
			old = nil
		}
		record, ends, err := fn(old)
		if err != nil {
			return errs.Wrap(op, err)
		}
		if record == nil && before == nil {
			return nil
		}
		w, err := b.prepare(n, record, ends)
		if err != nil {
			return errs.Wrap(op, err)
		}
		err = b.o.Store.Update(ctx, n.Shard, func(tx store.Tx) error {
			now, err := tx.Get(w.key)
			if err != nil && errs.KindOf(err) != errs.NotFound {
				return err
			}
			switch {
			case !bytes.Equal(now, before):
				return errs.E(op, errs.Conflict, "", nil)
			case record == nil:
				return tx.Delete(w.key)
			}
			return tx.Set(w.key, w.value)
		})
		if err == nil && record == nil {
			b.o.Deleted()
		}
		if err == nil || errs.KindOf(err) != errs.Conflict {
			return errs.Wrap(op, err)
		}
	}
	return errs.E(op, errs.Conflict, "", nil)
}

func (b *Book) key(n *seal.Named) []byte { return append([]byte{b.o.Letter}, n.Place[:]...) }

// Run removes what has ended, every SweepEvery until ctx ends. It returns nil.
func (b *Book) Run(ctx context.Context) error {
	store.Every(ctx, b.o.Store, b.o.SweepEvery, b.o.Logger.With("records", b.o.What), "records that have ended were not all removed", b.Sweep)
	return nil
}

// sweepPage is how many records one transaction removes.
const sweepPage = 512

// Sweep removes what has ended: of each shard up to sweepPage records.
func (b *Book) Sweep(ctx context.Context) error {
	const op = "post/namebook.Sweep"
	today := uint32(day.Of(b.o.Now()))
	return errs.Wrap(op, b.each(ctx, func(s store.Shard) error {
		var old [][]byte
		err := b.scan(ctx, s, func(k, v []byte) bool {
			if len(v) >= head && binary.BigEndian.Uint32(v[1:]) < today { // Check names the unreadable
				old = append(old, append([]byte(nil), k...))
			}
			return len(old) < sweepPage
		})
		if err != nil || len(old) == 0 {
			return err
		}
		defer b.o.Deleted()
		return b.o.Store.Update(ctx, s, func(tx store.Tx) error {
			for _, k := range old {
				v, err := tx.Get(k)
				if errs.KindOf(err) == errs.NotFound && err != nil {
					continue
				}
				if err != nil {
					return err
				}
				if binary.BigEndian.Uint32(v[1:]) >= today { // written anew meanwhile
					continue
				}
				if err := tx.Delete(k); err != nil {
					return err
				}
			}
			return nil
		})
	}))
}

// each calls fn for every shard in which something is.
func (b *Book) each(ctx context.Context, fn func(store.Shard) error) error {
	shards, err := b.o.Store.Occupied(ctx)
	if err != nil {
		return err
	}
	for _, s := range shards {
		if err := fn(s); err != nil {
			return err
		}
	}
	return nil
}

// scan looks at the records of a shard until fn says that it is enough.
func (b *Book) scan(ctx context.Context, s store.Shard, fn func(k, v []byte) bool) error {
	return b.o.Store.View(ctx, s, func(r store.Reader) error {
		return r.Scan([]byte{b.o.Letter}, []byte{b.o.Letter + 1}, func(k, v []byte) (bool, error) { return fn(k, v), nil })
	})
}

// Check reports records that have no proper form; what is sealed in them nobody can open
// without the name. It changes nothing.
func (b *Book) Check(ctx context.Context, report func(string)) error {
	return errs.Wrap("post/namebook.Check", b.each(ctx, func(s store.Shard) error {
		return b.scan(ctx, s, func(k, v []byte) bool {
			if len(k) != keyLen || len(v) <= head || v[0] != version {
				report(b.o.What + " cannot be read")
			}
			return true
		})
	}))
}
