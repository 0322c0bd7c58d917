// Package policybook keeps what other domains say about how mail to them must be delivered
// (MTA-STS, RFC 8461), over restarts: who can suppress a policy in the DNS must not be able
// to turn it off by waiting for one.
//
// A record lies where its domain's name says and is sealed under a key made of that name
// (seal.Named), so that neither the disk nor the node key tells which domains the users
// of this relay wrote to:
//
//	key                value                                             readable
//	p place (20 bytes) version; day on which the policy ends (uint32);    the day
//	                   the sealed record
package policybook

import (
	"context"
	"encoding/binary"
	"log/slog"
	"time"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// Limits and times.
const (
	MaxRecord         = 128 << 10 // bytes of one record
	DefaultSweepEvery = 24 * time.Hour
)

const (
	letter  = 'p'
	version = 1
	head    = 1 + 4
	keyLen  = 1 + 20
)

// Options of a Book. Store, Root and Ends are needed.
type Options struct {
	Store store.Store
	Root  *seal.Root
	// Ends tells when a record may be deleted (mtasts.RecordEnds).
	Ends func(record []byte) (time.Time, error)

	SweepEvery time.Duration
	Deleted    func() // called after each commit that deleted something; nil: nobody is told
	Now        func() time.Time
	Logger     *slog.Logger // nil: nothing is logged
}

// Book is the store of policies. It may be used by many goroutines.
type Book struct{ o Options }

// New makes a Book.
func New(o Options) *Book {
	if o.SweepEvery <= 0 {
		o.SweepEvery = DefaultSweepEvery
	}
	if o.Deleted == nil {
		o.Deleted = func() {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Book{o: o}
}

// Load gives the record of a canonical domain. errs.NotFound: there is none; errs.Corrupt: it
// cannot be read.
func (b *Book) Load(ctx context.Context, domain string) (record []byte, err error) {
	const op = "post/policybook.Load"
	n, err := b.o.Root.Named(domain)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	err = b.o.Store.View(ctx, n.Shard, func(r store.Reader) error {
		v, err := r.Get(key(n))
		if err != nil {
			return err
		}
		if len(v) < head || v[0] != version {
			return errs.E(op, errs.Corrupt, "", nil)
		}
		record, err = n.Open(v[head:])
		return err
	})
	return record, errs.Wrap(op, err)
}

// Save puts the record of a domain in the place of the one before. errs.TooLarge beyond
// MaxRecord.
func (b *Book) Save(ctx context.Context, domain string, record []byte) error {
	const op = "post/policybook.Save"
	if len(record) > MaxRecord {
		return errs.E(op, errs.TooLarge, "", nil)
	}
	ends, err := b.o.Ends(record)
	if err != nil {
		return errs.Wrap(op, err)
	}
	n, err := b.o.Root.Named(domain)
	if err != nil {
		return errs.Wrap(op, err)
	}
	sealed, err := n.Seal(record)
	if err != nil {
		return errs.Wrap(op, err)
	}
	v := append(binary.BigEndian.AppendUint32([]byte{version}, day(ends)), sealed...)
	err = b.o.Store.Update(ctx, n.Shard, func(tx store.Tx) error { return tx.Set(key(n), v) })
	return errs.Wrap(op, err)
}

func key(n *seal.Named) []byte { return append([]byte{letter}, n.Place[:]...) }

// day gives the days since 1970 in UTC.
func day(t time.Time) uint32 { return uint32(max(t.Unix()/(24*60*60), 0)) }

// Run removes policies that have ended, every SweepEvery until ctx ends. It returns nil.
func (b *Book) Run(ctx context.Context) error {
	t := time.NewTicker(b.o.SweepEvery)
	defer t.Stop()
	for {
		if err := b.sweep(ctx); err != nil && ctx.Err() == nil {
			b.o.Logger.Warn("policies that have ended were not all removed; it is tried again", "kind", errs.KindOf(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// sweepPage is how many records one transaction removes.
const sweepPage = 512

func (b *Book) sweep(ctx context.Context) error {
	const op = "post/policybook.sweep"
	today := day(b.o.Now())
	shards, err := b.o.Store.Occupied(ctx)
	if err != nil {
		return errs.Wrap(op, err)
	}
	for _, s := range shards {
		var old [][]byte
		err := b.o.Store.View(ctx, s, func(r store.Reader) error {
			old = nil
			return r.Scan([]byte{letter}, []byte{letter + 1}, func(k, v []byte) (bool, error) {
				if len(v) >= head && binary.BigEndian.Uint32(v[1:]) < today { // Check names the unreadable
					old = append(old, append([]byte(nil), k...))
				}
				return len(old) < sweepPage, nil
			})
		})
		if err == nil && len(old) > 0 {
			err = b.o.Store.Update(ctx, s, func(tx store.Tx) error {
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
			b.o.Deleted()
		}
		if err != nil {
			return errs.Wrap(op, err)
		}
	}
	return nil
}

// Check reports records that have no proper form; what is sealed in them nobody can open
// without the domain's name. It changes nothing.
func (b *Book) Check(ctx context.Context, report func(string)) error {
	const op = "post/policybook.Check"
	shards, err := b.o.Store.Occupied(ctx)
	if err != nil {
		return errs.Wrap(op, err)
	}
	for _, s := range shards {
		err := b.o.Store.View(ctx, s, func(r store.Reader) error {
			return r.Scan([]byte{letter}, []byte{letter + 1}, func(k, v []byte) (bool, error) {
				if len(k) != keyLen || len(v) <= head || v[0] != version {
					report("the record of a domain's policy cannot be read")
				}
				return true, nil
			})
		})
		if err != nil {
			return errs.Wrap(op, err)
		}
	}
	return nil
}
