package queue

import (
	"context"

	"postern.email/kit/errs"
	"postern.email/post/blob"
	"postern.email/store"
)

// change is what a transaction does to one recipient.
type change struct {
	n      uint16
	sealed []byte // the new record; nil: it is deleted
	old    int64  // length of the record it replaces
	due    int64  // keepDue: as before
	held   bool
	warned bool
}

const keepDue = -1

// Settle notes what became of recipients of a leased mail, in one transaction: rows are
// deleted or updated, and the last one takes the mail along. also, if not nil, runs in the
// same transaction, in the mail's shard (Info.Shard): an Entry.Put of a report. It may be run
// more than once. When Settle returns nil the lease has ended, and recipients without a
// result are due as before.
//
// On an error nothing was written and the lease goes on: call Settle again or Release.
// errs.NotFound: an operator dropped the mail; the lease has ended and also was not run.
// errs.Invalid: the lease has ended already, or a result is not of this item.
func (q *Queue) Settle(ctx context.Context, it *Item, rs []Result, also func(store.Tx) error) error {
	const op = "post/queue.Settle"
	s := it.slot
	if s == nil {
		return errs.E(op, errs.Invalid, "", nil)
	}
	unlock, err := q.locks.acquire(ctx, it.ID)
	if err != nil {
		return errs.Wrap(op, err)
	}
	defer unlock()
	q.mu.Lock()
	gone, held := s.e.gone, make(map[uint16]bool)
	for _, r := range s.rows {
		held[r.n] = r.held
	}
	q.mu.Unlock()
	if gone {
		it.slot = nil
		return errs.E(op, errs.NotFound, "the mail was dropped", nil)
	}
	changes, err := q.changes(it, rs, held)
	if err != nil {
		return errs.Wrap(op, err)
	}
	last := q.isLast(s.e, changes)
	if err := q.apply(ctx, s.e, changes, last, also); err != nil {
		return errs.Wrap(op, err)
	}
	it.slot = nil
	q.mu.Lock()
	q.s.endLease(s)
	q.mu.Unlock()
	q.wake()
	return nil
}

// changes seals the new rows. held is what operators did meanwhile.
func (q *Queue) changes(it *Item, rs []Result, held map[uint16]bool) ([]change, error) {
	const op = "post/queue.changes"
	seen := make(map[int]bool, len(rs))
	out := make([]change, 0, len(rs))
	for _, r := range rs {
		var w *rcptRecord
		for i := range it.rows {
			if it.rows[i].N == r.N {
				w = &it.rows[i]
			}
		}
		if w == nil || seen[r.N] {
			return nil, errs.E(op, errs.Invalid, "", nil)
		}
		seen[r.N] = true
		n := uint16(r.N)
		c := change{n: n, old: w.stored}
		switch r.Outcome {
		case Delivered, Failed:
		case Deferred, Warned:
			next := *w
			next.held, c.due = held[n], keepDue
			if r.Outcome == Warned {
				next.Warned = true
			} else {
				next.Tries = min(next.Tries+1, maxTries)
				next.LastWhy = oneLine(r.Why, MaxWhy)
				next.Since = q.o.Now()
				if next.due = millis(r.Due); next.due == 0 {
					return nil, errs.E(op, errs.Invalid, "", nil)
				}
				c.due = next.due
			}
			sealed, err := sealRcpt(q.o.Root, it.ID, n, &next)
			if err != nil {
				return nil, err
			}
			c.sealed, c.held, c.warned = sealed, next.held, next.Warned
		default:
			return nil, errs.E(op, errs.Invalid, "", nil)
		}
		out = append(out, c)
	}
	return out, nil
}

// isLast reports whether nothing of a mail is left after changes. A recipient whose record
// cannot be read keeps the mail.
func (q *Queue) isLast(e *entry, changes []change) bool {
	deleted := 0
	for _, c := range changes {
		if c.sealed == nil {
			deleted++
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	d := q.damaged[e.id]
	return deleted == e.left() && (d == nil || d.what == damagedBody)
}

// apply commits changes of a mail and then brings the schedule up to them. The caller has
// the mail's lock.
func (q *Queue) apply(ctx context.Context, e *entry, changes []change, last bool, also func(store.Tx) error) error {
	deleted := last
	err := q.o.Store.Update(ctx, e.shard, func(tx store.Tx) error {
		for _, c := range changes {
			var err error
			if c.sealed == nil {
				err = tx.Delete(rcptKey(e.id, c.n))
			} else {
				err = tx.Set(rcptKey(e.id, c.n), c.sealed)
			}
			if err != nil {
				return err
			}
		}
		if last {
			if err := deleteMail(tx, e.id); err != nil {
				return err
			}
		}
		if also != nil {
			return also(tx)
		}
		return nil
	})
	if err != nil {
		return err
	}
	q.mu.Lock()
	for _, c := range changes {
		delta := int64(len(c.sealed)) - c.old
		e.bytes += delta
		q.s.bytes += delta
		deleted = deleted || c.sealed == nil
		q.s.change(e, c)
	}
	if last {
		q.s.remove(e)
		delete(q.damaged, e.id)
	}
	q.mu.Unlock()
	if last {
		q.removeFile(e.id, e.large)
	}
	if deleted {
		q.o.Deleted()
	}
	return nil
}

// change brings the row of a recipient up to what was committed.
func (q *schedule) change(e *entry, c change) {
	for i := range e.slots {
		s := &e.slots[i]
		at := s.find(c.n)
		if at < 0 {
			continue
		}
		if c.sealed == nil {
			q.dropRow(s, at)
		} else {
			r := &s.rows[at]
			if r.held != c.held {
				q.held += map[bool]int{true: 1, false: -1}[c.held]
			}
			r.held, r.warned = c.held, c.warned
			if c.due != keepDue {
				r.due = c.due
			}
		}
		q.place(s)
	}
}

// deleteMail deletes the records of a mail but those of recipients.
func deleteMail(tx store.Tx, id ID) error {
	if err := tx.Delete(mailKey(id)); err != nil {
		return err
	}
	return tx.Delete(textKey(id))
}

// removeFile removes the file of a mail that is gone. What fails is swept later.
func (q *Queue) removeFile(id ID, large bool) {
	if !large {
		return
	}
	if err := q.files.Remove(blob.Name(id)); err != nil {
		q.o.Logger.Debug("cannot remove the file of a sent mail", "err", err)
	}
}
