package deliver

import (
	"context"

	"postern.email/post/mailbox"
	"postern.email/post/queue"
	"postern.email/store"
)

// placer is the part of a mailbox.Delivery that the transaction needs.
type placer interface {
	Put(tx store.Tx, i int) (mailbox.Placed, error)
}

// mailCopies is one mail on its way into mailboxes.
type mailCopies struct {
	placer
	delivery *mailbox.Delivery
	to       []mailbox.Target
}

// writes is everything that one transaction writes. discard must follow.
type writes struct {
	copies  []mailCopies
	entries []*queue.Entry
}

func (w *writes) empty() bool { return len(w.copies)+len(w.entries) == 0 }

// home is the shard whose log the transaction is in.
func (w *writes) home() store.Shard {
	if len(w.entries) > 0 {
		return w.entries[0].Shard()
	}
	return w.copies[0].to[0].ID.Shard()
}

// put writes all; tx lies in the shard at. A function that calls it may be run again.
func (w *writes) put(tx store.Tx, at store.Shard) error {
	in := func(s store.Shard) (store.Tx, error) {
		if s == at {
			return tx, nil
		}
		return tx.Other(s)
	}
	for _, e := range w.entries {
		t, err := in(e.Shard())
		if err == nil {
			err = e.Put(t)
		}
		if err != nil {
			return err
		}
	}
	for _, c := range w.copies {
		for i := range c.to {
			t, err := in(c.to[i].ID.Shard())
			if err == nil {
				_, err = c.Put(t, i)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// committed is called when the transaction is durable.
func (w *writes) committed() {
	for _, e := range w.entries {
		e.Committed()
	}
}

// discard gives back what no transaction has taken over.
func (w *writes) discard() {
	for _, e := range w.entries {
		e.Discard()
	}
	for _, c := range w.copies {
		c.delivery.Discard()
	}
}

// commit writes all in one transaction.
func (d *Deliver) commit(ctx context.Context, w *writes) error {
	home := w.home()
	return d.o.Store.Update(ctx, home, func(tx store.Tx) error { return w.put(tx, home) })
}
