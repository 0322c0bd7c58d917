package queue

import (
	"context"
	"slices"
	"sync"

	"postern.email/kit/errs"
	"postern.email/store"
)

// changers is how many mails Hold and Unhold change at the same time, so that they share
// the syncs of the store.
const changers = 32

// Retry makes the recipients that f means due now, held ones excepted, and gives a mail that
// was set aside another chance. It gives their number. It is not written down: after a
// restart the times of before hold again.
func (q *Queue) Retry(ctx context.Context, f Filter) (int, error) {
	const op = "post/queue.Retry"
	ids, err := q.match(ctx, f)
	if err != nil {
		return 0, errs.Wrap(op, err)
	}
	now, n := q.now(), 0
	q.mu.Lock()
	for _, id := range ids {
		e := q.s.entries[id]
		if e == nil {
			continue
		}
		if e.aside {
			e.aside = false
			delete(q.damaged, id) // what still cannot be read is set aside again
		}
		for i := range e.slots {
			s := &e.slots[i]
			for j := range s.rows {
				if r := &s.rows[j]; !r.held && f.picks(s, r) {
					r.due = min(r.due, now)
					s.d.pause = nil
					n++
				}
			}
			q.s.place(s) // and the destination
		}
	}
	q.mu.Unlock()
	q.wake()
	return n, nil
}

// match gives the mails with a recipient that f means. errs.NotFound: f names a mail that
// is not there.
func (q *Queue) match(ctx context.Context, f Filter) ([]ID, error) {
	if !f.ID.IsZero() {
		if _, err := q.shardOf(f.ID); err != nil {
			return nil, err
		}
	}
	var ids []ID
	for _, p := range q.places(f, place{created: -1}) {
		if !f.Sender.IsZero() {
			l, err := q.look(ctx, p.id, p.shard)
			if errs.KindOf(err) == errs.NotFound && err != nil {
				continue
			}
			if err != nil {
				return nil, err
			}
			if !f.fits(&l.Mail) {
				continue
			}
		}
		ids = append(ids, p.id)
	}
	return ids, nil
}

// Hold keeps the recipients that f means from being handed out, also when they expire, until
// Unhold, and gives the number of those that were not held before. What is being delivered
// goes on, and is held if it is deferred.
func (q *Queue) Hold(ctx context.Context, f Filter) (int, error) {
	n, err := q.setHeld(ctx, f, true)
	return n, errs.Wrap("post/queue.Hold", err)
}

// Unhold ends Hold. What became due meanwhile is due now.
func (q *Queue) Unhold(ctx context.Context, f Filter) (int, error) {
	n, err := q.setHeld(ctx, f, false)
	q.wake()
	return n, errs.Wrap("post/queue.Unhold", err)
}

// setHeld changes mail by mail, several at a time. After an error it starts no more; what was
// changed stays changed.
func (q *Queue) setHeld(ctx context.Context, f Filter, held bool) (int, error) {
	ids, err := q.match(ctx, f)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	var wg sync.WaitGroup
	total := 0
	jobs := make(chan ID)
	for range min(changers, len(ids)) {
		wg.Go(func() {
			for id := range jobs {
				n, err := q.holdMail(ctx, f, id, held)
				if err != nil {
					cancel(err)
				}
				mu.Lock()
				total += n
				mu.Unlock()
			}
		})
	}
feed:
	for _, id := range ids {
		select {
		case jobs <- id:
		case <-ctx.Done():
			break feed
		}
	}
	close(jobs)
	wg.Wait()
	if ctx.Err() != nil {
		return total, context.Cause(ctx)
	}
	return total, nil
}

func (q *Queue) holdMail(ctx context.Context, f Filter, id ID, held bool) (int, error) {
	unlock, err := q.locks.acquire(ctx, id)
	if err != nil {
		return 0, err
	}
	defer unlock()
	var ns []uint16
	q.mu.Lock()
	e := q.s.entries[id]
	if e != nil {
		e.any(func(s *slot, r *row) bool {
			if r.held != held && f.picks(s, r) {
				ns = append(ns, r.n)
			}
			return false
		})
	}
	q.mu.Unlock()
	if len(ns) == 0 {
		return 0, nil
	}
	changes := make([]change, 0, len(ns))
	err = q.o.Store.View(ctx, e.shard, func(r store.Reader) error {
		changes = changes[:0]
		for _, n := range ns {
			v, err := r.Get(rcptKey(id, n))
			if err != nil {
				return err
			}
			w, err := openRcpt(q.o.Root, id, n, v)
			if err != nil {
				return err
			}
			w.held = held
			c := change{n: n, old: w.stored, due: keepDue, held: held, warned: w.Warned}
			if c.sealed, err = sealRcpt(q.o.Root, id, n, &w); err != nil {
				return err
			}
			changes = append(changes, c)
		}
		return nil
	})
	switch k := errs.KindOf(err); {
	case err != nil && (k == errs.Corrupt || k == errs.NotFound):
		q.setAside(e, damagedRcpt)
		return 0, nil
	case err != nil:
		return 0, err
	}
	return len(changes), q.apply(ctx, e, changes, false, nil)
}

// Drop removes a mail without any report, also one that is being delivered (which may still
// succeed) or cannot be read. errs.NotFound: it is not there.
func (q *Queue) Drop(ctx context.Context, id ID) error {
	const op = "post/queue.Drop"
	s, unlock, err := q.lock(ctx, id)
	if err != nil {
		return errs.Wrap(op, err)
	}
	defer unlock()
	return errs.Wrap(op, q.drop(ctx, s, id, nil))
}

// lock takes a mail's lock, until unlock, and tells where the mail is. errs.NotFound: it is not there.
func (q *Queue) lock(ctx context.Context, id ID) (s store.Shard, unlock func(), err error) {
	if unlock, err = q.locks.acquire(ctx, id); err != nil {
		return s, nil, err
	}
	if s, err = q.shardOf(id); err != nil {
		unlock()
		return s, nil, err
	}
	return s, unlock, nil
}

// DropWith removes a mail as Drop does, in one transaction with a report that it was removed: report is given
// the mail, of which nobody delivers anything meanwhile, and gives what is also to be written, in the
// mail's shard; that may be run more than once, and may be nil. errs.Busy: it is being delivered at this
// moment, so that nobody can say what becomes of it. errs.Corrupt: it cannot be read, so that nobody can be
// told. errs.NotFound: it is not there. On an error, report's own too, nothing was removed.
func (q *Queue) DropWith(ctx context.Context, id ID, report func(Listed) (also func(store.Tx) error, err error)) error {
	const op = "post/queue.DropWith"
	s, unlock, err := q.lock(ctx, id)
	if err != nil {
		return errs.Wrap(op, err)
	}
	defer unlock()
	q.mu.Lock()
	e := q.s.entries[id]
	known, free := e != nil && q.damaged[id] == nil, true
	if known {
		free = !slices.ContainsFunc(e.slots, func(s slot) bool { return s.leased })
		for i := range e.slots {
			if free {
				q.s.take(&e.slots[i])
			}
		}
	}
	q.mu.Unlock()
	switch {
	case !known:
		return errs.E(op, errs.Corrupt, "the mail cannot be read, so nobody can be told", nil)
	case !free:
		return errs.E(op, errs.Busy, "the mail is being sent at this moment", nil)
	}
	l, err := q.look(ctx, id, s)
	if err == nil {
		var also func(store.Tx) error
		if also, err = report(l); err == nil {
			err = q.drop(ctx, s, id, also)
		}
	}
	if err != nil {
		q.mu.Lock()
		for i := range e.slots {
			q.s.endLease(&e.slots[i])
		}
		q.mu.Unlock()
		q.wake()
	}
	return errs.Wrap(op, err)
}

// drop removes all of a mail. The caller has its lock.
func (q *Queue) drop(ctx context.Context, s store.Shard, id ID, also func(store.Tx) error) error {
	err := q.o.Store.Update(ctx, s, func(tx store.Tx) error {
		var keys [][]byte
		err := eachRcpt(tx, id, func(k []byte, _ uint16, _ []byte) error {
			keys = append(keys, slices.Clone(k))
			return nil
		})
		if err != nil {
			return err
		}
		for _, k := range keys {
			if err := tx.Delete(k); err != nil {
				return err
			}
		}
		if err := deleteMail(tx, id); err != nil || also == nil {
			return err
		}
		return also(tx)
	})
	if err != nil {
		return err
	}
	q.mu.Lock()
	large := true // of what cannot be read nobody knows
	if e := q.s.entries[id]; e != nil {
		large = e.large
		q.s.remove(e)
	}
	delete(q.damaged, id)
	q.mu.Unlock()
	q.removeFile(id, large)
	q.o.Deleted()
	return nil
}

// Export opens the bytes of a mail for an operator. errs.NotFound: it is not there.
// errs.Corrupt: it cannot be read.
func (q *Queue) Export(ctx context.Context, id ID) (Body, error) {
	const op = "post/queue.Export"
	s, err := q.shardOf(id)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	b, err := q.body(ctx, s, id)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	return b, nil
}
