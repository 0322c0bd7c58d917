package queue

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/store"
)

// MaxPage is the largest page of List.
const MaxPage = 1000

// Filter says which recipients of which mails are meant: those that fit in everything that
// is set. The zero Filter means all.
type Filter struct {
	ID      ID           // this mail
	Dest    string       // canonical destination: only the recipients there
	Sender  mail.Address // compared in canonical form; a null sender cannot be asked for
	Held    bool         // only held recipients
	Damaged bool         // only mails that cannot be read
}

// Recipient is a recipient as an operator sees it.
type Recipient struct {
	Waiting
	Due          time.Time // when the next try is due
	Held, Leased bool
	// Paused is why the whole destination is kept back (Pause), or was until Due and nobody has tried
	// again since; empty: it is not.
	Paused string
}

// Listed is a mail as an operator sees it.
type Listed struct {
	ID      ID
	Mail    Info // with Damaged, what could be read
	Rcpts   []Recipient
	Damaged string // what cannot be read, in words; empty: nothing
}

// place is where a mail stands in the list: the oldest first.
type place struct {
	created int64
	id      ID
	shard   store.Shard
}

func (p place) compare(o place) int {
	return cmp.Or(cmp.Compare(p.created, o.created), slices.Compare(p.id[:], o.id[:]))
}

// List gives up to limit mails (at most MaxPage) that have a recipient that fits f, behind the
// cursor ("" to begin), those that cannot be read first and then the oldest first, and the
// next cursor, "" at the end. All recipients of a mail are given.
func (q *Queue) List(ctx context.Context, f Filter, cursor string, limit int) (page []Listed, next string, err error) {
	const op = "post/queue.List"
	after, err := parseCursor(cursor)
	if err != nil {
		return nil, "", errs.Wrap(op, err)
	}
	limit = min(max(limit, 1), MaxPage)
	for _, p := range q.places(f, after) {
		if len(page) == limit {
			return page, next, nil
		}
		l, err := q.look(ctx, p.id, p.shard)
		if errs.KindOf(err) == errs.NotFound && err != nil {
			continue // sent meanwhile
		}
		if err != nil {
			return nil, "", errs.Wrap(op, err)
		}
		if f.fits(&l.Mail) {
			page, next = append(page, l), fmt.Sprintf("%d-%s", p.created, p.id)
		}
	}
	return page, "", nil
}

// fits compares what only the records tell.
func (f *Filter) fits(m *Info) bool { return f.Sender.IsZero() || f.Sender.Equal(m.From) }

// picks reports whether recipient r of s fits what the schedule tells.
func (f *Filter) picks(s *slot, r *row) bool {
	return (f.Dest == "" || f.Dest == s.d.name) && (!f.Held || r.held)
}

// places gives the mails behind after with a recipient that fits what the schedule tells,
// in the order of the list.
func (q *Queue) places(f Filter, after place) []place {
	var out []place
	add := func(p place) {
		if p.compare(after) > 0 {
			out = append(out, p)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for id, d := range q.damaged {
		if f.ID != id && !f.ID.IsZero() || f.Dest != "" || f.Held {
			continue
		}
		add(place{0, id, d.shard})
	}
	if f.Damaged {
		slices.SortFunc(out, place.compare)
		return out
	}
	for id, e := range q.s.entries {
		if f.ID != id && !f.ID.IsZero() || q.damaged[id] != nil && f.Dest == "" && !f.Held {
			continue
		}
		if e.any(func(s *slot, r *row) bool { return f.picks(s, r) }) {
			add(place{e.created, id, e.shard})
		}
	}
	slices.SortFunc(out, place.compare)
	return out
}

// any reports whether fn holds for a recipient.
func (e *entry) any(fn func(*slot, *row) bool) bool {
	for i := range e.slots {
		for j := range e.slots[i].rows {
			if fn(&e.slots[i], &e.slots[i].rows[j]) {
				return true
			}
		}
	}
	return false
}

func parseCursor(c string) (place, error) {
	if c == "" {
		return place{created: -1}, nil
	}
	at, id, ok := strings.Cut(c, "-")
	created, err := strconv.ParseInt(at, 10, 64)
	p := place{created: created}
	var err2 error
	p.id, err2 = ParseID(id)
	if !ok || err != nil || err2 != nil || created < 0 {
		return place{}, errs.E("post/queue.parseCursor", errs.Invalid, "this is no place in the list", nil)
	}
	return p, nil
}

// Show gives one mail, or errs.NotFound.
func (q *Queue) Show(ctx context.Context, id ID) (Listed, error) {
	const op = "post/queue.Show"
	s, err := q.shardOf(id)
	if err != nil {
		return Listed{}, errs.Wrap(op, err)
	}
	l, err := q.look(ctx, id, s)
	return l, errs.Wrap(op, err)
}

// MinPrefix is how many digits of a number Find needs.
const MinPrefix = 4

// Find gives the mail whose number begins with a prefix of hex digits. errs.NotFound: there
// is none, errs.Invalid: it is no such prefix, or more than one mail has it.
func (q *Queue) Find(prefix string) (ID, error) {
	const op = "post/queue.Find"
	prefix = strings.ToLower(prefix)
	if len(prefix) < MinPrefix || strings.Trim(prefix, "0123456789abcdef") != "" {
		return ID{}, errs.E(op, errs.Invalid, "the number of a queued mail is 32 hex digits, of which the first ones are enough", nil)
	}
	var found []ID
	look := func(id ID) {
		if strings.HasPrefix(id.String(), prefix) && !slices.Contains(found, id) {
			found = append(found, id)
		}
	}
	q.mu.Lock()
	for id := range q.s.entries {
		look(id)
	}
	for id := range q.damaged {
		look(id)
	}
	q.mu.Unlock()
	switch len(found) {
	case 0:
		return ID{}, errs.E(op, errs.NotFound, "no such mail in the queue", nil)
	case 1:
		return found[0], nil
	}
	return ID{}, errs.E(op, errs.Invalid, "more than one mail in the queue begins so: give more digits", nil)
}

// shardOf finds a mail.
func (q *Queue) shardOf(id ID) (store.Shard, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e := q.s.entries[id]; e != nil {
		return e.shard, nil
	}
	if d := q.damaged[id]; d != nil {
		return d.shard, nil
	}
	return 0, errs.E("post/queue.shardOf", errs.NotFound, "no such mail in the queue", nil)
}

// look reads a mail's records; of a damaged one what can be read.
func (q *Queue) look(ctx context.Context, id ID, s store.Shard) (Listed, error) {
	l := Listed{ID: id}
	found := false
	err := q.o.Store.View(ctx, s, func(r store.Reader) error {
		l.Mail, l.Rcpts, found = Info{Shard: s}, nil, false
		b, err := r.Get(mailKey(id))
		if err == nil {
			found = true
			if m, err := openMail(q.o.Root, s, id, b); err == nil {
				l.Mail = m.Info
			}
		} else if errs.KindOf(err) != errs.NotFound {
			return err
		}
		return eachRcpt(r, id, func(_ []byte, n uint16, v []byte) error {
			found = true
			if w, err := openRcpt(q.o.Root, id, n, v); err == nil {
				l.Rcpts = append(l.Rcpts, Recipient{Waiting: w.Waiting, Due: timeOf(w.due), Held: w.held})
			}
			return nil
		})
	})
	if err != nil {
		return l, err
	}
	if !found {
		return l, errs.E("post/queue.look", errs.NotFound, "no such mail in the queue", nil)
	}
	q.annotate(&l)
	return l, nil
}

// annotate adds what is not in the records.
func (q *Queue) annotate(l *Listed) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if d := q.damaged[l.ID]; d != nil {
		l.Damaged = d.what
	}
	e := q.s.entries[l.ID]
	if e == nil {
		return
	}
	for i := range e.slots {
		s := &e.slots[i]
		for _, r := range s.rows {
			at := slices.IndexFunc(l.Rcpts, func(w Recipient) bool { return w.N == int(r.n) })
			if at >= 0 {
				l.Rcpts[at].Due, l.Rcpts[at].Leased = timeOf(r.due), s.leased
				if p := s.d.pause; p != nil {
					l.Rcpts[at].Paused, l.Rcpts[at].Due = p.why, timeOf(max(r.due, p.until))
				}
			}
		}
	}
}

// eachRcpt calls fn for each recipient's record of a mail.
func eachRcpt(r store.Reader, id ID, fn func(k []byte, n uint16, v []byte) error) error {
	start, end := rcptKey(id, 0), append(rcptKey(id, 1<<16-1), 0)
	return r.Scan(start, end, func(k, v []byte) (bool, error) {
		_, _, n, ok := parseKey(k)
		if !ok {
			return true, nil
		}
		err := fn(k, n, v)
		return err == nil, err
	})
}
