package packetbox

import (
	"context"
	"slices"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// Item is one packet that waits.
type Item struct {
	Number  uint64 // grows with each packet of an account, and is never used twice
	Reply   bool   // it came by a reply block
	Mark    [markLen]byte
	Payload []byte // PayloadLen bytes, the caller's own
}

// maxNext bounds what one Next gives, whatever is asked for: 64 packets are 1.7 MB.
const maxNext = 64

// Next gives up to limit packets of an account with numbers above after, in their order; at
// most 64 at a time. None is no error. One that cannot be read is passed over; Check names it.
func (b *Boxes) Next(ctx context.Context, id seal.AccountID, after uint64, limit int) (list []Item, err error) {
	const op = "post/packetbox.Next"
	if limit = min(limit, maxNext); limit <= 0 || after+1 == 0 {
		return nil, nil
	}
	err = b.o.Store.View(ctx, id.Shard(), func(r store.Reader) error {
		list = nil
		return r.Scan(packetKey(id, after+1), ends(id, kindPacket), func(k, v []byte) (bool, error) {
			if n, ok := number(k); ok {
				if it, _, err := b.openPacket(id, n, v); err == nil {
					list = append(list, it)
				}
			}
			return len(list) < limit, nil
		})
	})
	return list, errs.Wrap(op, err)
}

// Remove deletes packets that their client has. Numbers that are not there are no error.
func (b *Boxes) Remove(ctx context.Context, id seal.AccountID, numbers []uint64) error {
	n, err := b.remove(ctx, id, numbers)
	b.count.taken.Add(uint64(n))
	return errs.Wrap("post/packetbox.Remove", err)
}

func (b *Boxes) remove(ctx context.Context, id seal.AccountID, numbers []uint64) (removed int, err error) {
	numbers = slices.Compact(slices.Sorted(slices.Values(numbers)))
	keys := make([][]byte, len(numbers))
	for i, n := range numbers {
		keys[i] = packetKey(id, n)
	}
	err = b.o.Store.Update(ctx, id.Shard(), func(tx store.Tx) error {
		removed = 0
		there := make([]bool, len(keys))
		if err := tx.GetMany(keys, func(i int, _ []byte) (bool, error) { there[i] = true; return true, nil }); err != nil {
			return err
		}
		for i, k := range keys {
			if !there[i] {
				continue
			}
			if err := tx.Delete(k); err != nil {
				return err
			}
			removed++
		}
		if removed == 0 {
			return nil
		}
		st, err := getState(tx, id)
		if err != nil {
			return err
		}
		st.waiting -= min(st.waiting, uint32(removed))
		return tx.Set(stateKey(id), st.encode())
	})
	if err != nil {
		return 0, err
	}
	if removed > 0 {
		b.count.waiting.Add(-int64(removed))
		b.o.Deleted()
	}
	return removed, nil
}

// Watch fires when something was put into an account's mailbox or taken out of it. The caller
// closes it.
func (b *Boxes) Watch(id seal.AccountID) *store.Watch {
	return b.o.Store.Watch(id.Shard(), stateKey(id))
}
