package mailbox

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"postern.email/post/blob"
	"postern.email/post/seal"
	"postern.email/store"
)

// purger remembers whether bytes were deleted since the store was last purged.
type purger struct{ needed atomic.Bool }

// newPurger begins with a purge, because the process before this one may have ended
// between a deletion and its purge.
func newPurger() *purger {
	p := &purger{}
	p.needed.Store(true)
	return p
}

func (p *purger) note() { p.needed.Store(true) }

// NoteDeleted says that somebody else deleted bytes of the same store: Run takes them out
// of its files with the next purge.
func (b *Boxes) NoteDeleted() { b.purge.note() }

// Run deletes what is too old or over quota, takes deleted bytes out of the store's
// files, and removes blob files nobody refers to, until ctx ends. It returns nil.
func (b *Boxes) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	// Purge has its own goroutine: rewriting a large store takes a while, and a long
	// walk over all accounts must not keep deleted bytes on the disk.
	wg.Go(func() { b.every(ctx, b.o.PurgeEvery, b.purgeOnce) })
	wg.Go(func() { b.every(ctx, b.o.SweepEvery, b.sweep) })
	wg.Go(func() { b.trimFull(ctx) })
	b.every(ctx, b.o.ExpireEvery, b.expireAll)
	wg.Wait()
	return nil
}

// every calls fn now and then in each interval.
func (b *Boxes) every(ctx context.Context, interval time.Duration, fn func(context.Context) error) {
	store.Every(ctx, b.o.Store, interval, b.o.Logger, "cleaning the mailboxes failed", fn)
}

// purgeOnce takes deleted bytes out of the store's files, if there are any.
func (b *Boxes) purgeOnce(ctx context.Context) error {
	b.o.Chains.Expire()
	if !b.purge.needed.Swap(false) {
		return nil
	}
	if err := b.o.Store.Purge(ctx); err != nil {
		b.purge.note()
		return err
	}
	return nil
}

// trimFull trims the accounts that Room found nearly full.
func (b *Boxes) trimFull(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-b.full:
			if err := b.trim(ctx, f.id, f.limit); err != nil && ctx.Err() == nil {
				b.o.Logger.Debug("trimming an account failed", "err", err)
			}
		}
	}
}

// accounts calls fn for each account in the store, by shard and number.
func (b *Boxes) accounts(ctx context.Context, fn func(id seal.AccountID) error) error {
	return seal.EachAccount(ctx, b.o.Store, func(_ store.Shard, id seal.AccountID) error { return fn(id) })
}

// sweep removes blob files that no record names.
func (b *Boxes) sweep(ctx context.Context) error {
	return b.blobs.Sweep(b.o.Store, func(named func(blob.Name)) error {
		return b.accounts(ctx, func(id seal.AccountID) error {
			return b.o.Store.View(ctx, id.Shard(), func(r store.Reader) error {
				start := key(id, kindBlob)
				return r.Scan(start, after(start), func(k, _ []byte) (bool, error) {
					if _, _, rest, ok := kindOf(k); ok && len(rest) == len(blob.Name{}) {
						named(blob.Name(rest))
					}
					return true, nil
				})
			})
		})
	})
}
