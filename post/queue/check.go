package queue

import (
	"context"
	"fmt"
	"io"
	"time"

	"postern.email/kit/errs"
	"postern.email/post/blob"
	"postern.email/post/seal"
	"postern.email/store"
)

// Leftover is what Check says about a body file that was synced before a crash and whose
// mail was never committed. Run removes it; it is no damage.
const Leftover = "a body file of the queue belongs to no mail"

// Check reads every record and every body and reports what is wrong, in words that name
// mails by number. It may run beside a working queue and changes nothing.
func (q *Queue) Check(ctx context.Context, report func(string)) error {
	const op = "post/queue.Check"
	// The files are listed before the records are read: a file that is listed and not being
	// prepared has its record by then, or lost it.
	files, err := q.files.List()
	if err != nil {
		return errs.Wrap(op, err)
	}
	large := make(map[blob.Name]bool)
	shards, err := q.o.Store.Occupied(ctx)
	if err != nil {
		return errs.Wrap(op, err)
	}
	for _, s := range shards {
		c := &shardCheck{q: q, shard: s, mails: make(map[ID]*checkedMail), report: report}
		if err := q.o.Store.View(ctx, s, c.read); err != nil {
			return errs.Wrap(op, err)
		}
		if err := c.judge(ctx, large); err != nil {
			return errs.Wrap(op, err)
		}
	}
	for _, n := range files {
		if large[n] {
			continue
		}
		// Its mail may have been settled since the listing; then the file is gone too.
		if _, err := q.files.Size(n); err == nil {
			report(Leftover)
		}
	}
	return nil
}

// shardCheck gathers the records of one shard.
type shardCheck struct {
	q      *Queue
	shard  store.Shard
	mails  map[ID]*checkedMail
	order  []ID // as the records come
	report func(string)
}

type checkedMail struct {
	record bool // there is one
	opens  bool
	key    *seal.MailKey
	size   int64
	rcpts  int
	text   bool
}

func (c *shardCheck) say(id ID, what string) { c.report(fmt.Sprintf("queued mail %s: %s", id, what)) }

func (c *shardCheck) at(id ID) *checkedMail {
	m := c.mails[id]
	if m == nil {
		m = &checkedMail{}
		c.mails[id] = m
		c.order = append(c.order, id)
	}
	return m
}

func (c *shardCheck) read(r store.Reader) error {
	root := c.q.o.Root
	err := scan(r, func(id ID, v []byte) error {
		m := c.at(id)
		m.record = true
		rec, err := openMail(root, c.shard, id, v)
		if err != nil {
			c.say(id, damagedMail)
			return nil
		}
		if m.key, err = openBodyKey(root, id, v); err != nil {
			c.say(id, damagedBody)
			return nil
		}
		m.opens, m.size = true, rec.Size
		return nil
	}, func(id ID, n uint16, v []byte) error {
		c.at(id).rcpts++
		if _, err := openRcpt(root, id, n, v); err != nil {
			c.say(id, damagedRcpt)
		}
		return nil
	}, func() { c.report("a record of the queue has a key of the wrong form") })
	if err != nil {
		return err
	}
	return r.Scan(kindKey(kindText), []byte{letter + 1}, func(k, v []byte) (bool, error) {
		kind, id, _, ok := parseKey(k)
		if !ok || kind != kindText {
			c.report("a record of the queue has a key of the wrong form")
			return true, nil
		}
		m := c.at(id)
		m.text = true
		switch {
		case !m.record || m.opens && m.size > blob.MaxInline:
			c.say(id, "a body belongs to no mail")
		case m.opens:
			if _, err := openText(m.key, m.size, append([]byte(nil), v...)); err != nil {
				c.say(id, damagedBody)
			}
		}
		return true, nil
	})
}

// judge compares what was gathered, and reads the files.
func (c *shardCheck) judge(ctx context.Context, large map[blob.Name]bool) error {
	for _, id := range c.order {
		m := c.mails[id]
		switch {
		case !m.record && m.rcpts > 0:
			c.say(id, damagedNoMail)
		case m.record && m.rcpts == 0:
			c.say(id, damagedNoRcpts)
		}
		// The file of what cannot be opened, or is there in part, is kept too.
		large[blob.Name(id)] = true
		if !m.opens || m.text {
			continue
		}
		if m.size <= blob.MaxInline {
			c.say(id, "its body is missing")
			continue
		}
		if err := c.file(ctx, id, m); err != nil {
			return err
		}
	}
	return nil
}

// file reads the file of a mail to its end. The mail may have been settled meanwhile.
func (c *shardCheck) file(ctx context.Context, id ID, m *checkedMail) error {
	f, err := c.q.files.Open(blob.Name(id), m.key, m.size)
	if err == nil {
		_, err = f.WriteTo(stopper{ctx})
		f.Close()
	}
	what := ""
	switch k := errs.KindOf(err); {
	case err == nil:
		return nil
	case k == errs.NotFound:
		what = "its body is missing"
	case k == errs.Corrupt:
		what = damagedBody
	default:
		return err
	}
	_, err = c.q.record(ctx, c.shard, id)
	switch {
	case err == nil:
		c.say(id, what)
	case errs.KindOf(err) != errs.NotFound:
		return err
	}
	return nil
}

// stopper reads nothing into memory, and ends with its context.
type stopper struct{ ctx context.Context }

func (s stopper) Write(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return io.Discard.Write(p)
}

// Reveal gives everything of the queue that the node key opens, for `postern store reveal`.
// kind is the Name of a seal.Purpose. What cannot be opened is given with the kind and
// the words "cannot be opened".
func (q *Queue) Reveal(ctx context.Context, emit func(kind, text string)) error {
	const op = "post/queue.Reveal"
	const shut = "cannot be opened"
	type line struct{ kind, text string }
	shards, err := q.o.Store.Occupied(ctx)
	if err != nil {
		return errs.Wrap(op, err)
	}
	for _, s := range shards {
		var lines []line // emitted outside of the View, whose state is kept as long
		say := func(p seal.Purpose, format string, args ...any) {
			lines = append(lines, line{p.String(), fmt.Sprintf(format, args...)})
		}
		err := q.o.Store.View(ctx, s, func(r store.Reader) error {
			lines = lines[:0]
			return scan(r, func(id ID, v []byte) error {
				text := shut
				m, err := openMail(q.o.Root, s, id, v)
				if err == nil {
					text = fmt.Sprintf("from=<%s> kind=%s size=%d created=%s expires=%s 8bit=%t utf8=%t requiretls=%t verified=%t return=%d envid=%q tell=<%s> as=%q", m.From, m.Kind,
						m.Size, stamp(m.Created), stamp(m.Expires), m.EightBit, m.UTF8, m.RequireTLS, m.Verified, m.Return, m.EnvID, m.Tell, m.TellID)
				}
				say(seal.PurposeQueueMail, "queued mail %s: %s", id, text)
				text = shut
				if _, err := openBodyKey(q.o.Root, id, v); err == nil {
					text = "the key of its bytes"
				}
				say(seal.PurposeQueueBody, "queued mail %s: %s", id, text)
				return nil
			}, func(id ID, n uint16, v []byte) error {
				text := shut
				if w, err := openRcpt(q.o.Root, id, n, v); err == nil {
					text = fmt.Sprintf("to=<%s> destination=%s tries=%d due=%s held=%t notify=%d orcpt=%q last=%q", w.To, w.Dest, w.Tries,
						stamp(timeOf(w.due)), w.held, w.Notify, w.OriginalType+";"+w.OriginalAddress, w.LastWhy)
				}
				say(seal.PurposeQueueRcpt, "queued mail %s recipient %d: %s", id, n, text)
				return nil
			}, func() {})
		})
		if err != nil {
			return errs.Wrap(op, err)
		}
		for _, l := range lines {
			emit(l.kind, l.text)
		}
	}
	return nil
}

// stamp is a time as Reveal prints it.
func stamp(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}
