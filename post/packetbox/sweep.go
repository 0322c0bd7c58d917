package packetbox

import (
	"context"
	"time"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// Run removes packets that are too old, at the start and every SweepEvery, and names of packets
// that are not remembered any more, until ctx ends. It returns nil.
//
// No name is forgotten before SweepEvery has passed: after a pause of the server that was
// longer than names are remembered, a node may still put packets again that it had put before.
func (b *Boxes) Run(ctx context.Context) error {
	marks := false
	store.Every(ctx, b.o.Store, b.o.SweepEvery, b.o.Logger, "old packets were not all removed", func(ctx context.Context) error {
		err := b.sweep(ctx, marks)
		marks = true
		return err
	})
	return nil
}

func (b *Boxes) sweep(ctx context.Context, marks bool) error {
	if err := b.forgetInvites(ctx); err != nil {
		return errs.Wrap("post/packetbox.sweep", err)
	}
	return errs.Wrap("post/packetbox.sweep", b.each(ctx, func(id seal.AccountID) error {
		if err := b.expire(ctx, id); err != nil {
			return err
		}
		if !marks {
			return nil
		}
		return b.forget(ctx, id)
	}))
}

// expire removes the packets of an account whose time is over.
func (b *Boxes) expire(ctx context.Context, id seal.AccountID) error {
	for {
		old, err := b.old(ctx, id)
		if err != nil || len(old) == 0 {
			return err
		}
		n, err := b.remove(ctx, id, old)
		b.count.expired.Add(uint64(n))
		if err != nil {
			return err
		}
	}
}

// old gives some packets whose time is over. Packets are numbered in the order in which they
// came, so the first one that is not old ends the search, and one that cannot be read is as
// old as the next one that can.
func (b *Boxes) old(ctx context.Context, id seal.AccountID) (old []uint64, err error) {
	today, days := dayOf(b.o.Now()), int(b.o.Retention/(24*time.Hour))
	err = b.o.Store.View(ctx, id.Shard(), func(r store.Reader) error {
		old = nil
		var unread []uint64
		return r.Scan(packetKey(id, 0), ends(id, kindPacket), func(k, v []byte) (bool, error) {
			n, ok := number(k)
			if !ok {
				return true, nil
			}
			_, day, err := b.openPacket(id, n, v)
			if err != nil {
				unread = append(unread, n)
				return len(unread) < maxNext, nil
			}
			if !over(day, today, days) {
				return false, nil
			}
			old = append(append(old, unread...), n)
			unread = nil
			return len(old) < maxNext, nil
		})
	})
	return old, err
}

// markPage is how many names of packets are looked at under one snapshot.
const markPage = 4096

// forget removes the names of packets that are not remembered any more.
func (b *Boxes) forget(ctx context.Context, id seal.AccountID) error {
	for start := keyOf(id, kindMark); start != nil; {
		today := dayOf(b.o.Now())
		var old [][]byte
		var next []byte
		err := b.o.Store.View(ctx, id.Shard(), func(r store.Reader) error {
			old, next = nil, nil
			n := 0
			return r.Scan(start, ends(id, kindMark), func(k, v []byte) (bool, error) {
				if n++; n > markPage {
					next = append([]byte(nil), k...)
					return false, nil
				}
				if day, err := decodeMark(v); err == nil && over(day, today, b.o.Remember) { // Check names the unreadable
					old = append(old, append([]byte(nil), k...))
				}
				return true, nil
			})
		})
		if err == nil && len(old) > 0 {
			err = b.o.Store.Update(ctx, id.Shard(), func(tx store.Tx) error {
				var gone [][]byte // one may have been written anew
				err := tx.GetMany(old, func(i int, v []byte) (bool, error) {
					if day, err := decodeMark(v); err == nil && over(day, today, b.o.Remember) {
						gone = append(gone, old[i])
					}
					return true, nil
				})
				for _, k := range gone {
					if err == nil {
						err = tx.Delete(k)
					}
				}
				return err
			})
		}
		if err != nil {
			return err
		}
		start = next
	}
	return nil
}
