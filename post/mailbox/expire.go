package mailbox

import (
	"cmp"
	"context"
	"slices"
	"time"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// expireAll goes over all accounts: old mails, full accounts, and deleted folders whose
// taking apart was interrupted. It needs no account's key.
func (b *Boxes) expireAll(ctx context.Context) error {
	return b.accounts(ctx, func(id seal.AccountID) error {
		err := b.reapDoomed(ctx, id)
		if err == nil {
			err = b.expire(ctx, id)
		}
		if err == nil {
			err = b.trim(ctx, id, 0)
		}
		if err != nil && ctx.Err() == nil && b.o.Store.Health() == nil {
			// One broken account must not keep the mails of all others for ever.
			b.o.Logger.Warn("cleaning one account failed", "kind", errs.KindOf(err))
			b.o.Logger.Debug("cleaning one account failed", "account", id.String(), "err", err)
			return nil
		}
		return err
	})
}

func (b *Boxes) reapDoomed(ctx context.Context, id seal.AccountID) error {
	var doomed []uint32
	err := b.o.Store.View(ctx, id.Shard(), func(r store.Reader) error {
		doomed = doomed[:0]
		start := key(id, kindDoomed)
		return r.Scan(start, after(start), func(k, _ []byte) (bool, error) {
			doomed = append(doomed, keyUID(k))
			return true, nil
		})
	})
	if err != nil {
		return err
	}
	for _, series := range doomed {
		if err := b.reap(ctx, id, series); err != nil {
			return err
		}
	}
	return nil
}

// hours gives an age in whole hours; negative ones mean never.
func hours(d time.Duration) int64 { return int64(d / time.Hour) }

// tooOld says whether a mail's time is over at hour now.
func (b *Boxes) tooOld(e *Entry, now uint32) bool {
	age := int64(now) - int64(e.Hour)
	switch {
	case b.o.MailAge > 0 && age > hours(b.o.MailAge):
		return true
	case b.o.LargeAge > 0 && age > hours(b.o.LargeAge):
		return e.Large() && e.Flags&Seen != 0
	}
	return false
}

// boxNumbers lists the mailboxes of an account that hold mail.
func (b *Boxes) boxNumbers(ctx context.Context, id seal.AccountID) ([]uint32, error) {
	var boxes []uint32
	err := b.o.Store.View(ctx, id.Shard(), func(r store.Reader) error {
		boxes = boxes[:0]
		start := key(id, kindState)
		return r.Scan(start, after(start), func(k, v []byte) (bool, error) {
			st, err := decodeState(v)
			if err == nil && st.messages > 0 {
				boxes = append(boxes, keyUID(k))
			}
			return true, err
		})
	})
	return boxes, err
}

// pick reads a mailbox page by page, without keeping it, and gives the rows that want takes. maybe
// looks at a page's head first.
func (b *Boxes) pick(ctx context.Context, id seal.AccountID, box uint32, maybe func(pageInfo) bool, want func(*Entry) bool) ([]Entry, error) {
	var out []Entry
	err := b.o.Store.View(ctx, id.Shard(), func(r store.Reader) error {
		out = nil
		st, err := getState(r, id, box)
		if err != nil {
			return err
		}
		var buf []Entry
		start, end := pageRange(id, st.series)
		return r.Scan(start, end, func(_, v []byte) (bool, error) {
			d := newDec(v)
			if in := decodeHead(d); !d.Bad() && !maybe(in) {
				return true, nil
			}
			rows, _, err := decodePage(buf[:0], v)
			for i := range rows {
				if want(&rows[i]) {
					out = append(out, rows[i])
				}
			}
			buf = rows
			return true, err
		})
	})
	if err != nil && errs.KindOf(err) == errs.NotFound {
		return nil, nil // deleted meanwhile
	}
	return out, err
}

// expire deletes the mails of an account whose time is over.
func (b *Boxes) expire(ctx context.Context, id seal.AccountID) error {
	ages := []time.Duration{b.o.MailAge, b.o.LargeAge}
	ages = slices.DeleteFunc(ages, func(d time.Duration) bool { return d <= 0 })
	if len(ages) == 0 {
		return nil
	}
	shortest := hours(slices.Min(ages))
	now := hour(b.o.Now())
	boxes, err := b.boxNumbers(ctx, id)
	if err != nil {
		return err
	}
	may := func(e *Entry) bool { return b.tooOld(e, now) }
	for _, box := range boxes {
		old, err := b.pick(ctx, id, box, func(in pageInfo) bool { return int64(now)-int64(in.oldest) > shortest }, may)
		if err != nil {
			return err
		}
		uids := make([]uint32, len(old))
		for i := range old {
			uids[i] = old[i].UID
		}
		if _, _, err := b.expunge(ctx, id, box, uids, may); err != nil && errs.KindOf(err) != errs.NotFound {
			return err
		}
	}
	return nil
}

// trim deletes the oldest mails of an account that is over 75 % of its quota until it is
// at 70 %, but none of the last 24 hours. limit 0 means the quota that the last delivery told.
func (b *Boxes) trim(ctx context.Context, id seal.AccountID, limit int64) error {
	c, err := b.counters(ctx, id)
	if err != nil {
		if errs.KindOf(err) == errs.NotFound {
			return nil // no mailboxes yet, or gone
		}
		return err
	}
	if limit == 0 {
		limit = c.limit
	}
	if limit <= 0 || c.used <= limit/100*trimAt {
		return nil
	}
	goal := limit / 100 * trimTo
	mails, err := b.oldMails(ctx, id)
	if err != nil {
		return err
	}
	for len(mails) > 0 && c.used > goal {
		// Take as many as surely are not too many; what a mail takes is only known to
		// its size class. Repeat for the rest.
		n, sum := 0, int64(0)
		for n < len(mails) && n < batchMails && (n == 0 || sum+mails[n].atMost() <= c.used-goal) {
			sum += mails[n].atMost()
			n++
		}
		if err := b.trimSome(ctx, id, mails[:n]); err != nil {
			return err
		}
		mails = mails[n:]
		if c, err = b.counters(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// placedMail is a mail and where it lies.
type placedMail struct {
	box uint32
	Entry
}

// atMost gives a bound on the stored bytes.
func (m *placedMail) atMost() int64 { return 2*BucketMax(m.Bucket) + 4096 }

// oldMails lists the mails that may be trimmed, oldest first.
func (b *Boxes) oldMails(ctx context.Context, id seal.AccountID) ([]placedMail, error) {
	boxes, err := b.boxNumbers(ctx, id)
	if err != nil {
		return nil, err
	}
	now := int64(hour(b.o.Now()))
	var mails []placedMail
	for _, box := range boxes {
		// One hour more, because the hour of arrival began up to an hour earlier.
		old := func(h uint32) bool { return now-int64(h) > hours(trimYoung) }
		rows, err := b.pick(ctx, id, box, func(in pageInfo) bool { return old(in.oldest) }, func(e *Entry) bool { return old(e.Hour) })
		if err != nil {
			return nil, err
		}
		for _, e := range rows {
			mails = append(mails, placedMail{box, e})
		}
	}
	slices.SortFunc(mails, func(x, y placedMail) int {
		return cmp.Or(cmp.Compare(x.Hour, y.Hour), cmp.Compare(x.Mid, y.Mid), cmp.Compare(x.box, y.box))
	})
	return mails, nil
}

func (b *Boxes) trimSome(ctx context.Context, id seal.AccountID, mails []placedMail) error {
	byBox := map[uint32][]uint32{}
	for _, m := range mails {
		byBox[m.box] = append(byBox[m.box], m.UID)
	}
	for box, uids := range byBox {
		_, _, err := b.expunge(ctx, id, box, ascending(uids), func(*Entry) bool { return true })
		if err != nil && errs.KindOf(err) != errs.NotFound {
			return err
		}
	}
	return nil
}

func (b *Boxes) counters(ctx context.Context, id seal.AccountID) (counters, error) {
	var c counters
	err := b.o.Store.View(ctx, id.Shard(), func(r store.Reader) (err error) {
		c, err = getCounters(r, id)
		return err
	})
	return c, err
}
