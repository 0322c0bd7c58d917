package queue

import (
	"cmp"
	"context"
	"io"
	"slices"
	"time"

	"postern.email/kit/errs"
	"postern.email/post/blob"
	"postern.email/post/seal"
	"postern.email/store"
)

// MaxDue is how many destinations Due gives at once. Those beyond show up when the
// caller asks again after having leased from some.
const MaxDue = 10_000

// Changed fires after anything that may make something due earlier than the last Due said.
// Several changes may fire it once. It is for one reader, which calls Due.
func (q *Queue) Changed() <-chan struct{} { return q.changed }

// Due gives the destinations with something due that is neither leased nor held, longest due
// first, and when the next one becomes due; zero: nothing else waits.
func (q *Queue) Due() (dests []string, next time.Time) {
	type late struct {
		name string
		when int64
	}
	var found []late
	q.mu.Lock()
	at := q.s.due(q.now(), func(d *dest) { found = append(found, late{d.name, d.when()}) })
	q.mu.Unlock()
	slices.SortFunc(found, func(a, b late) int { return cmp.Or(cmp.Compare(a.when, b.when), cmp.Compare(a.name, b.name)) })
	for _, l := range found[:min(len(found), MaxDue)] {
		dests = append(dests, l.name)
	}
	if at != never {
		next = timeOf(at)
	}
	return dests, next
}

// Lease takes up to most mails that are due at a destination, longest due first. Each is not
// handed out again before Settle or Release ended its Item. A mail that has expired is due,
// with all its recipients that are not held: see Info.Expires. A mail that cannot be read is
// set aside.
func (q *Queue) Lease(dest string, most int) []*Item {
	now := q.now()
	q.mu.Lock()
	slots := q.s.lease(dest, now, most)
	rows := make([][]uint16, len(slots))
	for i, s := range slots {
		rows[i] = s.dueRows(now)
	}
	q.mu.Unlock()
	return q.items(slots, rows)
}

// Late leases up to most mails that came before a time and still wait, with those of their
// recipients whose Rcpt.Notify has a bit of notify, whose sender was not told yet (Warned), and
// that are not held. Whether they are due, or their destination is kept back, is nothing to it; what is
// being delivered at this moment or has expired is left out. It looks at every mail.
func (q *Queue) Late(notify uint8, before time.Time, most int) []*Item {
	now, then := q.now(), before.UnixMilli()
	var slots []*slot
	var rows [][]uint16
	q.mu.Lock()
	for _, e := range q.s.entries {
		if e.created >= then || e.expires <= now || e.aside {
			continue
		}
		for i := range e.slots {
			s := &e.slots[i]
			ns := s.unwarned(notify)
			if len(slots) < most && len(ns) > 0 && !s.leased {
				q.s.take(s)
				slots, rows = append(slots, s), append(rows, ns)
			}
		}
		if len(slots) >= most {
			break
		}
	}
	q.mu.Unlock()
	return q.items(slots, rows)
}

// items reads leased slots; a lease of what cannot be read ends.
func (q *Queue) items(slots []*slot, rows [][]uint16) []*Item {
	items := make([]*Item, 0, len(slots))
	for i, s := range slots {
		it, err := q.item(s, s.d.name, rows[i])
		if err != nil {
			q.o.Logger.Debug("a mail in the queue cannot be leased", "err", err)
		}
		if it == nil {
			q.release(s, err == nil)
			continue
		}
		items = append(items, it)
	}
	return items
}

// Pause keeps everything for a destination back until a time, because it cannot be reached:
// that is no news about any single mail, and nothing is written. why is what List says
// of the mails; it is cut like Result.Why. A pause is forgotten by Retry, with the last mail for the
// destination, and by a restart. Mails that expire meanwhile are leased after it.
func (q *Queue) Pause(dest string, until time.Time, why string) {
	q.mu.Lock()
	if d := q.s.dests[dest]; d != nil {
		q.s.setPause(d, &pause{millis(until), oneLine(why, MaxWhy)})
	}
	q.mu.Unlock()
}

// Unpause ends a pause early: the destination was reached.
func (q *Queue) Unpause(dest string) {
	q.mu.Lock()
	d := q.s.dests[dest]
	paused := d != nil && d.pause != nil
	if paused {
		q.s.setPause(d, nil)
	}
	q.mu.Unlock()
	if paused {
		q.wake()
	}
}

// item reads what the schedule does not hold. It gives nil when nothing can be leased: the
// mail was dropped meanwhile, cannot be read, or the store is closing.
func (q *Queue) item(s *slot, dest string, rows []uint16) (*Item, error) {
	it, lost, err := q.read(s, dest, rows)
	if lost {
		// Being dropped or settled just now, or really lost: under the lock it shows.
		unlock, lerr := q.locks.acquire(q.ctx, s.e.id)
		if lerr != nil {
			return nil, lerr
		}
		defer unlock()
		if it, lost, err = q.read(s, dest, rows); lost {
			q.setAside(s.e, damagedMail) // unless it is gone
			return nil, nil
		}
	}
	return it, err
}

// read reads the records of an item. lost: one is not there.
func (q *Queue) read(s *slot, dest string, rows []uint16) (it *Item, lost bool, err error) {
	e := s.e
	it = &Item{ID: e.id, Dest: dest, slot: s}
	var bad []uint16
	err = q.o.Store.View(q.ctx, e.shard, func(r store.Reader) error {
		b, err := r.Get(mailKey(e.id))
		if err != nil {
			return err
		}
		m, err := openMail(q.o.Root, e.shard, e.id, b)
		if err != nil {
			return err
		}
		it.Mail = m.Info
		it.Rcpts, it.rows, bad = nil, nil, nil
		for _, n := range rows {
			b, err := r.Get(rcptKey(e.id, n))
			if err != nil {
				return err
			}
			w, err := openRcpt(q.o.Root, e.id, n, b)
			if err != nil {
				bad = append(bad, n)
				continue
			}
			it.Rcpts, it.rows = append(it.Rcpts, w.Waiting), append(it.rows, w)
		}
		return nil
	})
	switch k := errs.KindOf(err); {
	case err == nil:
	case k == errs.NotFound:
		return nil, true, err
	case k == errs.Corrupt:
		q.setAside(e, damagedMail)
		return nil, false, nil
	default:
		return nil, false, err
	}
	if len(bad) > 0 {
		q.dropBad(s, bad)
	}
	if len(it.Rcpts) == 0 {
		return nil, false, nil
	}
	return it, false, nil
}

// dropBad takes recipients out of the schedule whose records cannot be read. The records
// stay, and with them the mail, for an operator to look at.
func (q *Queue) dropBad(s *slot, bad []uint16) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s.e.gone {
		return
	}
	q.damage(s.e.id, s.e.shard, damagedRcpt)
	for _, n := range bad {
		if i := s.find(n); i >= 0 {
			q.s.dropRow(s, i)
		}
	}
	q.s.place(s)
}

// Release ends a lease without a result: the mail stays due. After Settle it does nothing,
// so `defer q.Release(it)` is right.
func (q *Queue) Release(it *Item) {
	if it.slot == nil {
		return
	}
	s := it.slot
	it.slot = nil
	q.release(s, true)
}

func (q *Queue) release(s *slot, tell bool) {
	q.mu.Lock()
	if !s.e.gone {
		q.s.endLease(s)
	}
	q.mu.Unlock()
	if tell {
		q.wake()
	}
}

// Body is the open bytes of a mail.
type Body = blob.Body

// Body opens the bytes of a leased mail; chunks of large ones are opened as they are read.
// errs.NotFound: it was dropped meanwhile. errs.Corrupt, here or from reading: it
// cannot be read; it was set aside, and Release ends the lease.
func (q *Queue) Body(ctx context.Context, it *Item) (Body, error) {
	const op = "post/queue.Body"
	b, err := q.body(ctx, it.Mail.Shard, it.ID)
	if errs.KindOf(err) == errs.Corrupt && err != nil && it.slot != nil {
		q.setAside(it.slot.e, damagedBody)
	}
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if _, all := b.(blob.Memory); !all && it.slot != nil {
		b = &watched{b, q, it.slot.e}
	}
	return b, nil
}

// watched is the body of a leased mail in a file, of which only what was read is known
// to be well.
type watched struct {
	Body
	q *Queue
	e *entry
}

func (b *watched) note(err error) {
	if err != nil && errs.KindOf(err) == errs.Corrupt {
		b.q.setAside(b.e, damagedBody)
	}
}

// ReadAt implements Body.
func (b *watched) ReadAt(p []byte, off int64) (n int, err error) {
	n, err = b.Body.ReadAt(p, off)
	b.note(err)
	return n, err
}

// WriteTo implements Body.
func (b *watched) WriteTo(w io.Writer) (n int64, err error) {
	n, err = b.Body.WriteTo(w)
	b.note(err)
	return n, err
}

// body opens the bytes of a mail.
func (q *Queue) body(ctx context.Context, s store.Shard, id ID) (Body, error) {
	const op = "post/queue.body"
	var k *seal.MailKey
	var size int64
	var plain []byte
	err := q.o.Store.View(ctx, s, func(r store.Reader) error {
		b, err := r.Get(mailKey(id))
		if err != nil {
			return err
		}
		m, err := openMail(q.o.Root, s, id, b)
		if err != nil {
			return err
		}
		size = m.Size
		if k, err = openBodyKey(q.o.Root, id, b); err != nil || size > blob.MaxInline {
			return err
		}
		sealed, err := r.Get(textKey(id))
		if err != nil {
			return lostBody(op, err)
		}
		plain, err = openText(k, size, sealed)
		return err
	})
	if err != nil {
		return nil, err
	}
	if size <= blob.MaxInline {
		return blob.Memory(plain), nil
	}
	f, err := q.files.Open(blob.Name(id), k, size)
	if errs.KindOf(err) == errs.NotFound && err != nil {
		// Gone because the mail is gone, or lost?
		if _, gone := q.record(ctx, s, id); gone != nil {
			return nil, gone
		}
		return nil, lostBody(op, err)
	}
	return f, err
}

// lostBody makes of "not there" what it is where the mail's record is there.
func lostBody(op string, err error) error {
	if errs.KindOf(err) == errs.NotFound {
		return errs.E(op, errs.Corrupt, "", err)
	}
	return err
}

// openText opens a body record, which is overwritten.
func openText(k *seal.MailKey, size int64, sealed []byte) ([]byte, error) {
	plain, err := k.OpenPartInPlace(seal.PartBody, 0, sealed)
	if err == nil && int64(len(plain)) != size {
		err = errs.E("post/queue.openText", errs.Corrupt, "", nil)
	}
	return plain, err
}

// record gives a mail's record as it lies in the store.
func (q *Queue) record(ctx context.Context, s store.Shard, id ID) (v []byte, err error) {
	err = q.o.Store.View(ctx, s, func(r store.Reader) error {
		v, err = r.Get(mailKey(id))
		return err
	})
	return v, err
}
