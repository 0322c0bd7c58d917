package deliver

import (
	"context"
	"errors"

	"postern.email/post/queue"
	"postern.email/post/seal"
	"postern.email/store"
)

// localCopy is one account's copy of a mail, on its way into its mailbox or packet box, or that for
// a reply address.
type localCopy struct {
	id    seal.AccountID // zero: it is for a reply address
	shard store.Shard
	put   func(tx store.Tx) error // in shard; it may be run again
	// durable is called when the transaction is; nil: nobody is told.
	durable func()
}

func (c localCopy) committed() {
	if c.durable != nil {
		c.durable()
	}
}

// writes is everything that one transaction writes. discard must follow.
type writes struct {
	copies  []localCopy
	entries []*queue.Entry
	unused  []func() // give back what no transaction has taken over

	// once reports whether this comes for the first time, in a transaction in shard; errKnown
	// ends the whole otherwise. nil: it always does.
	once  func(tx store.Tx) error
	shard store.Shard
}

// errKnown ends a transaction that would write what was written before.
var errKnown = errors.New("known")

func (w *writes) empty() bool { return len(w.copies)+len(w.entries) == 0 && w.once == nil }

// home is the shard whose log the transaction is in.
func (w *writes) home() store.Shard {
	switch {
	case w.once != nil:
		return w.shard
	case len(w.entries) > 0:
		return w.entries[0].Shard()
	}
	return w.copies[0].shard
}

// put writes all; tx lies in the shard at. A function that calls it may be run again.
func (w *writes) put(tx store.Tx, at store.Shard) error {
	in := func(s store.Shard) (store.Tx, error) {
		if s == at {
			return tx, nil
		}
		return tx.Other(s)
	}
	if w.once != nil {
		t, err := in(w.shard)
		if err == nil {
			err = w.once(t)
		}
		if err != nil {
			return err
		}
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
		t, err := in(c.shard)
		if err == nil {
			err = c.put(t)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// committed is called when the transaction is durable.
func (w *writes) committed() {
	for _, e := range w.entries {
		e.Committed()
	}
	for _, c := range w.copies {
		c.committed()
	}
}

// discard gives back what no transaction has taken over.
func (w *writes) discard() {
	for _, e := range w.entries {
		e.Discard()
	}
	for _, fn := range w.unused {
		fn()
	}
}

// commit writes all in one transaction.
func (d *Deliver) commit(ctx context.Context, w *writes) error {
	home := w.home()
	return d.o.Store.Update(ctx, home, func(tx store.Tx) error { return w.put(tx, home) })
}
