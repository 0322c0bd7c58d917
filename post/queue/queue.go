package queue

import (
	"context"
	"sync"

	"postern.email/kit/errs"
	"postern.email/post/blob"
	"postern.email/post/seal"
	"postern.email/store"
)

// Queue is the mails that wait for other hosts. All methods may be called by many goroutines.
type Queue struct {
	o       Options
	files   *blob.Files
	locks   locks
	changed chan struct{}

	ctx    context.Context // of reads that have no caller's; ends with Close
	cancel context.CancelFunc

	mu       sync.Mutex
	s        schedule
	reserved room            // of entries that are prepared and not committed
	damaged  map[ID]*damaged // what cannot be read, in whole or in part
}

// damaged is a mail of which something cannot be read.
type damaged struct {
	shard store.Shard
	what  string
}

// Words for damage; part of what List and Check say.
const (
	damagedMail    = "its record cannot be read"
	damagedRcpt    = "the record of a recipient cannot be read"
	damagedNoRcpts = "it has no recipients"
	damagedNoMail  = "recipients are left and the mail is not"
	damagedBody    = "its body cannot be read"
)

// Open opens the queue of a store and builds its schedule from it. What cannot be read is
// set aside, counted and logged; it never keeps the rest from being sent. Nothing else
// may change the queue's records. Call Run to remove leftover files and Close at the end.
func Open(ctx context.Context, o Options) (*Queue, error) {
	const op = "post/queue.Open"
	if o.Store == nil || o.Root == nil || o.Dir == "" {
		return nil, errs.E(op, errs.Invalid, "", nil)
	}
	o = o.withDefaults()
	files, err := blob.New(o.FS, o.Dir, o.Rand)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	q := &Queue{o: o, files: files, changed: make(chan struct{}, 1), s: newSchedule(), damaged: make(map[ID]*damaged)}
	if err := q.loadAll(ctx); err != nil {
		files.Close()
		return nil, errs.Wrap(op, err)
	}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	if n := len(q.damaged); n > 0 {
		o.Logger.Warn("mails in the queue cannot be read and are set aside; see: postern store check", "mails", n)
	}
	q.wake()
	return q, nil
}

func (q *Queue) loadAll(ctx context.Context) error {
	shards, err := q.o.Store.Occupied(ctx)
	if err != nil {
		return err
	}
	for _, s := range shards {
		if err := q.load(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// loading is a mail whose records are being read.
type loading struct {
	m     mailRecord
	bytes int64
	rows  []row
	dests []string
}

// load reads one shard. It looks at no body.
func (q *Queue) load(ctx context.Context, s store.Shard) error {
	return q.o.Store.View(ctx, s, func(r store.Reader) error {
		mails := make(map[ID]*loading)
		err := scan(r, func(id ID, v []byte) error {
			m, err := openMail(q.o.Root, s, id, v)
			if err != nil {
				q.damage(id, s, damagedMail)
				return nil
			}
			mails[id] = &loading{m: m, bytes: int64(len(v)) + bodyLen(m.Size)}
			return nil
		}, func(id ID, n uint16, v []byte) error {
			l := mails[id]
			if l == nil {
				q.damage(id, s, damagedNoMail)
				return nil
			}
			l.bytes += int64(len(v))
			w, err := openRcpt(q.o.Root, id, n, v)
			if err != nil {
				q.damage(id, s, damagedRcpt)
				return nil
			}
			l.rows = append(l.rows, row{due: w.due, n: n, notify: w.Notify, held: w.held, warned: w.Warned})
			l.dests = append(l.dests, w.Dest)
			return nil
		}, func() {
			q.o.Logger.Debug("a key of the queue has the wrong form", "shard", s)
		})
		if err != nil {
			return err
		}
		for id, l := range mails {
			if len(l.rows) == 0 {
				q.damage(id, s, damagedNoRcpts)
				continue
			}
			e := newEntry(id, s, l.m.Created, l.m.Expires, l.rows, l.dests)
			e.bytes, e.large = l.bytes, l.m.Size > blob.MaxInline
			q.s.add(e)
		}
		return nil
	})
}

// damage notes that a mail cannot be read in whole; what was said first stays. Open calls
// it alone, everybody else under mu.
func (q *Queue) damage(id ID, s store.Shard, what string) {
	if q.damaged[id] == nil {
		q.damaged[id] = &damaged{s, what}
	}
}

// setAside stops a mail from being handed out.
func (q *Queue) setAside(e *entry, what string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e.gone {
		return
	}
	e.aside = true
	q.damage(e.id, e.shard, what)
	for i := range e.slots {
		q.s.place(&e.slots[i])
	}
	q.o.Logger.Warn("a mail in the queue cannot be read and is set aside; see: postern queue list")
}

// bodyLen gives the stored bytes of a body of n bytes.
func bodyLen(n int64) int64 {
	if n > blob.MaxInline {
		return blob.FileLen(n)
	}
	return int64(seal.SealedLen(int(n)))
}

// Close gives back what Open took; the store stays open. Nothing may be running.
func (q *Queue) Close() error {
	q.cancel()
	return errs.Wrap("post/queue.Close", q.files.Close())
}

// Run removes files that no mail refers to, at once and then every Options.SweepEvery,
// until ctx ends. It returns nil.
func (q *Queue) Run(ctx context.Context) error {
	store.Every(ctx, q.o.Store, q.o.SweepEvery, q.o.Logger, "leftover files of the queue were not all removed", q.sweep)
	return nil
}

// sweep asks the store and not the schedule which files are needed: what is set aside and
// what was committed by an entry nobody ended belong to it too.
func (q *Queue) sweep(ctx context.Context) error {
	return q.files.Sweep(q.o.Store, func(named func(blob.Name)) error {
		shards, err := q.o.Store.Occupied(ctx)
		if err != nil {
			return err
		}
		for _, s := range shards {
			err := q.o.Store.View(ctx, s, func(r store.Reader) error {
				return scan(r, func(id ID, _ []byte) error { named(blob.Name(id)); return nil },
					func(id ID, _ uint16, _ []byte) error { named(blob.Name(id)); return nil }, func() {})
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// wake tells the reader of Changed.
func (q *Queue) wake() {
	select {
	case q.changed <- struct{}{}:
	default:
	}
}

// now is the time in the schedule's unit.
func (q *Queue) now() int64 { return q.o.Now().UnixMilli() }

// Stats gives the counts of the moment. Oldest costs a look at every mail.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	st := Stats{Mails: len(q.s.entries), Recipients: q.s.rows, Held: q.s.held, Leased: q.s.leased,
		Damaged: len(q.damaged), Bytes: q.s.bytes}
	oldest := int64(never)
	for _, e := range q.s.entries {
		oldest = min(oldest, e.created)
	}
	if oldest != never {
		st.Oldest = timeOf(oldest)
	}
	for id := range q.damaged {
		if q.s.entries[id] == nil {
			st.Mails++
		}
	}
	return st
}
