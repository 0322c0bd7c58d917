package imap

import "context"

// aheadMax is how many messages of a FETCH are looked ahead. How many bodies are
// open at a time is for the backend to bound.
const aheadMax = 64

// bodyQueue holds the next messages of a FETCH that surely reads their bodies, so
// that these are opened together.
type bodyQueue struct {
	bodies Bodies // nil: nothing is read ahead
	seqs   []uint32
	es     []Entry
}

func (q *bodyQueue) open(m Mailbox) { q.bodies = m.Bodies() }

func (q *bodyQueue) close() { q.bodies.Close() }

// readyBody is a body, or the error of its opening; neither: it was not opened yet.
type readyBody struct {
	body Body
	err  error
}

// next writes the response for the next message, or puts it off until more are known.
func (f *fetch) next(seq uint32, e Entry) error {
	q := &f.ahead
	if q.bodies == nil {
		return f.message(seq, e, readyBody{})
	}
	q.seqs, q.es = append(q.seqs, seq), append(q.es, e)
	if len(q.es) < aheadMax {
		return nil
	}
	return f.rest()
}

// rest writes the responses that were put off.
func (f *fetch) rest() error {
	q := &f.ahead
	for done := 0; done < len(q.es); {
		n, err := q.bodies.Open(f.ctx, q.es[done:])
		if err != nil {
			return err
		}
		for i := range n {
			var ready readyBody
			ready.body, ready.err = q.bodies.At(i)
			if err := f.message(q.seqs[done+i], q.es[done+i], ready); err != nil {
				return err
			}
			if f.c.w.err != nil {
				return f.c.w.err
			}
		}
		done += n
	}
	q.seqs, q.es = q.seqs[:0], q.es[:0]
	return nil
}

// lazyBody opens a body when it is first needed.
type lazyBody struct {
	ctx     context.Context
	mailbox Mailbox
	entry   Entry
	ready   readyBody
	body    Body
}

func (l *lazyBody) get() (Body, error) {
	if l.body == nil && (l.ready.body != nil || l.ready.err != nil) {
		l.body = l.ready.body
		return l.body, l.ready.err
	}
	if l.body == nil {
		b, err := l.mailbox.Body(l.ctx, l.entry)
		if err != nil {
			return nil, err
		}
		l.body = b
	}
	return l.body, nil
}

func (l *lazyBody) close() {
	if l.body != nil && l.ready.body == nil { // else it is not ours to close
		_ = l.body.Close()
	}
}
