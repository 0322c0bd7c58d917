package queue

import (
	"context"
	"io"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/blob"
	"postern.email/post/seal"
	"postern.email/store"
)

// room is a part of the queue's bounds.
type room struct {
	mails, rows int
	bytes       int64
}

func (r *room) add(n room, sign int) {
	r.mails += sign * n.mails
	r.rows += sign * n.rows
	r.bytes += int64(sign) * n.bytes
}

// Entry is a mail on its way into the queue. It is for one goroutine at a time.
type Entry struct {
	q         *Queue
	e         *entry
	need      room
	meta      []byte
	body      []byte // the body record; nil with a file
	rows      [][]byte
	committed bool
	ended     bool
}

// Prepare seals a mail and writes what is too large for the store to a synced file. It
// needs no transaction. Every Entry must be ended by Discard. Errors: errs.Invalid (no
// recipients, no destination, unknown kind, …), errs.TooLarge (a bound of one mail),
// errs.Busy (the queue is full), errs.NoSpace, errs.Unavailable (disk), errs.Canceled.
func (q *Queue) Prepare(ctx context.Context, m Mail) (*Entry, error) {
	const op = "post/queue.Prepare"
	if err := ctx.Err(); err != nil {
		return nil, errs.E(op, errs.Canceled, "", err)
	}
	rcpts, err := check(&m)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if m.Created.IsZero() {
		m.Created = q.o.Now()
	}
	var id ID
	for id.IsZero() {
		if _, err := io.ReadFull(q.o.Rand, id[:]); err != nil {
			return nil, errs.E(op, errs.Internal, "", err)
		}
	}
	k, err := seal.NewMailKey(q.o.Rand)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	x := &Entry{q: q}
	size := int64(len(m.Head) + len(m.Tail))
	if err := x.seal(id, k, &m, rcpts, size); err != nil {
		return nil, errs.Wrap(op, err)
	}
	if !q.reserve(x.need, m.Kind) {
		return nil, errs.E(op, errs.Busy, "the queue is full, try again later", nil)
	}
	if x.e.large {
		_, err = q.files.Write(k, []blob.Name{blob.Name(id)}, m.Head, m.Tail)
	} else {
		x.body, err = k.SealPart(seal.PartBody, 0, joined(m.Head, m.Tail))
	}
	if err != nil {
		q.unreserve(x.need)
		return nil, errs.Wrap(op, err)
	}
	return x, nil
}

// joined avoids the copy where there is one piece.
func joined(head, tail []byte) []byte {
	switch {
	case len(tail) == 0:
		return head
	case len(head) == 0:
		return tail
	}
	return append(append(make([]byte, 0, len(head)+len(tail)), head...), tail...)
}

// check holds a mail against the bounds of the format and gives its recipients with their
// destinations filled in.
func check(m *Mail) ([]Rcpt, error) {
	const op = "post/queue.check"
	invalid := func(public string) error { return errs.E(op, errs.Invalid, public, nil) }
	large := func(a mail.Address) bool { return len(a.Local) > mail.MaxLocal || len(a.Domain) > mail.MaxDomain }
	switch {
	case len(m.Rcpts) == 0:
		return nil, invalid("no recipients")
	case len(m.Rcpts) > MaxRcpts:
		return nil, errs.E(op, errs.TooLarge, "too many recipients", nil)
	case !m.Kind.valid(), m.Return > ReturnHeaders, m.Shard >= store.Shards:
		return nil, invalid("")
	case m.Tell.IsZero() && m.TellID != "":
		return nil, invalid("")
	case len(m.TellID) > MaxTellID:
		return nil, errs.E(op, errs.TooLarge, "Message-ID too long", nil)
	case large(m.From), large(m.Tell):
		return nil, errs.E(op, errs.TooLarge, "address too long", nil)
	case len(m.EnvID) > MaxEnvID:
		return nil, errs.E(op, errs.TooLarge, "ENVID too long", nil)
	}
	rcpts := append([]Rcpt(nil), m.Rcpts...)
	for i := range rcpts {
		r := &rcpts[i]
		if r.Dest == "" {
			r.Dest = mail.CanonicalDomain(r.To.Domain)
		}
		switch {
		case r.Dest == "":
			return nil, invalid("a recipient has no domain")
		case large(r.To), len(r.Dest) > mail.MaxDomain:
			return nil, errs.E(op, errs.TooLarge, "address too long", nil)
		case len(r.OriginalType) > MaxOriginal, len(r.OriginalAddress) > MaxOriginal:
			return nil, errs.E(op, errs.TooLarge, "ORCPT too long", nil)
		}
	}
	return rcpts, nil
}

// seal makes the records but the body, and the entry of the schedule.
func (x *Entry) seal(id ID, k *seal.MailKey, m *Mail, rcpts []Rcpt, size int64) (err error) {
	root := x.q.o.Root
	rec := mailRecord{Info{From: m.From, Tell: m.Tell, TellID: m.TellID, EightBit: m.EightBit, UTF8: m.UTF8, RequireTLS: m.RequireTLS, Verified: m.Verified, Return: m.Return,
		EnvID: m.EnvID, Kind: m.Kind, Created: m.Created, Expires: m.Expires, Size: size}}
	if x.meta, err = sealMail(root, id, k, &rec); err != nil {
		return err
	}
	due := millis(m.Created)
	rows, dests := make([]row, len(rcpts)), make([]string, len(rcpts))
	x.rows = make([][]byte, len(rcpts))
	x.need = room{mails: 1, rows: len(rcpts), bytes: int64(len(x.meta)) + bodyLen(size)}
	for n, r := range rcpts {
		w := rcptRecord{Waiting: Waiting{Rcpt: r, Since: m.Created}, due: due}
		if x.rows[n], err = sealRcpt(root, id, uint16(n), &w); err != nil {
			return err
		}
		x.need.bytes += int64(len(x.rows[n]))
		rows[n], dests[n] = row{due: due, n: uint16(n), notify: r.Notify}, r.Dest
	}
	x.e = newEntry(id, m.Shard, m.Created, m.Expires, rows, dests)
	x.e.bytes, x.e.large = x.need.bytes, size > blob.MaxInline
	return nil
}

// reserve takes room for a mail, or nothing when a bound would be exceeded.
func (q *Queue) reserve(n room, k Kind) bool {
	limit := room{q.o.MaxMails, q.o.MaxRecipients, q.o.MaxBytes}
	if k == Report {
		limit.add(room{max(limit.mails/reserve, 1), max(limit.rows/reserve, 1), limit.bytes / reserve}, 1)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	r := q.reserved
	r.add(n, 1)
	if len(q.s.entries)+r.mails > limit.mails || q.s.rows+r.rows > limit.rows || q.s.bytes+r.bytes > limit.bytes {
		return false
	}
	q.reserved = r
	return true
}

func (q *Queue) unreserve(n room) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reserved.add(n, -1)
}

// ID gives the mail's number.
func (x *Entry) ID() ID { return x.e.id }

// Shard is where the mail lies.
func (x *Entry) Shard() store.Shard { return x.e.shard }

// Put writes the mail's records; tx lies in Shard(). A function that calls it may be run
// again.
func (x *Entry) Put(tx store.Tx) error {
	const op = "post/queue.Put"
	if err := tx.Set(mailKey(x.e.id), x.meta); err != nil {
		return errs.Wrap(op, err)
	}
	if !x.e.large {
		if err := tx.SetShared(textKey(x.e.id), x.body); err != nil {
			return errs.Wrap(op, err)
		}
	}
	for n, v := range x.rows {
		if err := tx.Set(rcptKey(x.e.id, uint16(n)), v); err != nil {
			return errs.Wrap(op, err)
		}
	}
	return nil
}

// Committed says that the transaction with Put is durable: the mail enters the schedule.
// Call it right after Update returned nil.
func (x *Entry) Committed() {
	if x.committed || x.ended {
		return
	}
	x.committed = true
	if x.e.large {
		x.q.files.Landed(blob.Name(x.e.id))
	}
	q := x.q
	q.mu.Lock()
	q.reserved.add(x.need, -1)
	q.s.add(x.e)
	q.mu.Unlock()
	q.wake()
}

// Discard ends the entry: call it once, when no transaction with its Put is running or
// will follow. It removes the file that no commit refers to, so `defer e.Discard()` is
// right after success and failure alike. A mail whose commit nobody told of is found in the
// store and enters the schedule.
func (x *Entry) Discard() {
	if x.ended {
		return
	}
	defer func() { x.ended, x.meta, x.body, x.rows = true, nil, nil, nil }()
	if x.committed {
		return
	}
	q := x.q
	if q.o.Store.Health() == nil {
		err := q.o.Store.View(context.Background(), x.e.shard, func(r store.Reader) error {
			_, err := r.Get(mailKey(x.e.id))
			return err
		})
		if err == nil {
			x.Committed()
			return
		}
	}
	if x.e.large {
		q.files.EndFlight(q.o.Store, x.e.shard, mailKey(x.e.id), blob.Name(x.e.id))
	}
	q.unreserve(x.need)
}
