package deliver

import (
	"context"
	"io"

	"postern.email/kit/errs"
	"postern.email/post/mailbox"
	"postern.email/store"
)

// maxTries bounds how often a part of a split mail is tried again.
const maxTries = 3

// placer is the part of a mailbox.Delivery that the transaction needs.
type placer interface {
	Put(tx store.Tx, i int) (mailbox.Placed, error)
}

// commit writes all copies. Where all shards share one log that is one
// transaction; where they do not, one for each shard.
func (d *Deliver) commit(ctx context.Context, p placer, to []mailbox.Target) error {
	home := to[0].ID.Shard()
	err := d.o.Store.Update(ctx, home, func(tx store.Tx) error {
		for i := range to {
			in := tx
			if s := to[i].ID.Shard(); s != home {
				var err error
				if in, err = tx.Other(s); err != nil {
					return err
				}
			}
			if _, err := p.Put(in, i); err != nil {
				return err
			}
		}
		return nil
	})
	switch k := errs.KindOf(err); {
	case k == errs.Unsupported, k == errs.TooLarge && len(to) > 1:
		// No common log, or more bytes than one transaction may hold (many
		// recipients of a body that is just small enough to be stored per recipient).
		return d.commitSplit(ctx, p, to)
	}
	return err
}

// markPrefix begins the keys that say "this copy was delivered". They live only
// while a split mail is being delivered.
const markPrefix = 'd'

// mailID is the random number of a mail whose copies need several transactions.
type mailID [16]byte

func (m mailID) key(to mailbox.Target) []byte {
	k := append(make([]byte, 0, 1+len(m)+len(to.ID)), markPrefix)
	return append(append(k, m[:]...), to.ID[:]...)
}

// commitSplit delivers one shard after the other. Each copy carries a mark (mail,
// recipient) in its own transaction, so that a part whose outcome is unknown can be tried
// again without doubling it. If a part fails for good the sender hears so, although
// earlier parts lie in their mailboxes: only a queue can do better.
func (d *Deliver) commitSplit(ctx context.Context, p placer, to []mailbox.Target) error {
	const op = "agent/deliver.commitSplit"
	var id mailID
	if _, err := io.ReadFull(d.o.Rand, id[:]); err != nil {
		return errs.E(op, errs.Internal, "", err)
	}
	parts := make(map[store.Shard][]int)
	var order []store.Shard
	for i := range to {
		s := to[i].ID.Shard()
		if parts[s] == nil {
			order = append(order, s)
		}
		parts[s] = append(parts[s], i)
	}
	for _, s := range order {
		if err := d.part(ctx, s, id, p, to, parts[s]); err != nil {
			return errs.Wrap(op, err)
		}
	}
	for _, s := range order {
		err := d.o.Store.Update(ctx, s, func(tx store.Tx) error {
			for _, i := range parts[s] {
				if err := tx.Delete(id.key(to[i])); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil { // the mail is delivered; a mark that stays says nothing and harms nothing
			d.o.Logger.Debug("deliver: a mark stays", "error", err)
		}
	}
	return nil
}

func (d *Deliver) part(ctx context.Context, s store.Shard, id mailID, p placer, to []mailbox.Target, idx []int) error {
	var err error
	for range maxTries {
		err = d.o.Store.Update(ctx, s, func(tx store.Tx) error {
			for _, i := range idx {
				_, err := tx.Get(id.key(to[i]))
				if err == nil {
					continue
				}
				if errs.KindOf(err) != errs.NotFound {
					return err
				}
				if _, err := p.Put(tx, i); err != nil {
					return err
				}
				if err := tx.Set(id.key(to[i]), []byte{1}); err != nil {
					return err
				}
			}
			return nil
		})
		if k := errs.KindOf(err); err == nil || k != errs.Unavailable && k != errs.Conflict {
			return err
		}
	}
	return err
}
