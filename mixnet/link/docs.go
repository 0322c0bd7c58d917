package link

import (
	"context"
	"math"
	"sync"

	"postern.email/kit/errs"
)

// MaxRequest is the size of a request for a document: it is one frame.
const MaxRequest = bodyLen

// docs are the documents of one connection, in both directions: one request each.
type docs struct {
	mu sync.Mutex

	// What we asked for.
	asking  *ask   // nil: nothing
	request uint32 // the last number used
	slot    chan struct{}
	ended   bool

	// What we were asked for.
	asked   uint32 // the last number; 0: none yet
	busy    bool   // it is not answered yet
	ready   bool   // what follows is the answer
	answer  []byte
	code    uint8
	written int // bytes of answer
}

// ask is one request of ours.
type ask struct {
	request []byte // nil: it was sent
	total   uint32 // known from the first piece on
	pieces  bool   // one has come
	got     []byte
	gaveUp  bool // nobody waits; the pieces are dropped
	length  uint32
	done    chan error // receives once
}

// Fetch asks the peer for a document, and gives it as it came. One request is under
// way at a time, others wait. errs.NotFound, errs.Unavailable and errs.Denied are the
// peer's answers; errs.TooLarge for a request over MaxRequest.
func (c *Conn) Fetch(ctx context.Context, request []byte) ([]byte, error) {
	const op = "mixnet/link.Conn.Fetch"
	if len(request) > MaxRequest {
		return nil, errs.E(op, errs.TooLarge, "the request is too large", nil)
	}
	select {
	case c.docs.slots() <- struct{}{}: // given back with the last piece
	case <-ctx.Done():
		return nil, errs.E(op, errs.Canceled, "", ctx.Err())
	case <-c.dead:
		return nil, errs.Wrap(op, ErrEnded)
	}
	a := &ask{request: append([]byte{}, request...), done: make(chan error, 1)}
	if !c.docs.start(a) {
		return nil, errs.Wrap(op, ErrEnded)
	}
	c.kick()
	select {
	case err := <-a.done:
		if err != nil {
			return nil, errs.Wrap(op, err)
		}
		return a.got, nil
	case <-ctx.Done():
		c.docs.giveUp(a)
		return nil, errs.E(op, errs.Canceled, "", ctx.Err())
	}
}

func (d *docs) slots() chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.slot == nil {
		d.slot = make(chan struct{}, 1)
	}
	return d.slot
}

func (d *docs) start(a *ask) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended || d.request == math.MaxUint32 {
		return false
	}
	d.asking = a
	return true
}

// giveUp forgets a request: at once if it was not sent, else when all pieces have come.
func (d *docs) giveUp(a *ask) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.asking != a {
		return
	}
	if a.request != nil {
		d.asking = nil
		<-d.slot
		return
	}
	a.gaveUp, a.got = true, nil
}

// end fails what is under way: the connection is over.
func (d *docs) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
	if d.asking != nil {
		d.asking.done <- ErrEnded
		d.asking = nil
	}
	d.answer = nil
}

// quiet reports whether nothing is under way.
func (d *docs) quiet() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return (d.asking == nil || d.asking.request != nil) && !d.busy
}

// next puts a PIECE or, unless the connection comes to its end, a FETCH into a frame.
func (d *docs) next(h *head, body *[]byte, leave bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.ready:
		h.typ, h.request, h.code, h.total = typePiece, d.asked, d.code, uint32(len(d.answer))
		part := d.answer[d.written:]
		part = part[:min(len(part), bodyLen)]
		d.written += len(part)
		h.length = uint16(len(part))
		*body = padded(part)
		if d.written == len(d.answer) {
			d.busy, d.ready, d.answer = false, false, nil
		}
		return true
	case d.asking != nil && d.asking.request != nil && !leave:
		d.request++
		h.typ, h.request, h.length = typeFetch, d.request, uint16(len(d.asking.request))
		*body = padded(d.asking.request)
		d.asking.request = nil
		return true
	}
	return false
}

// padded gives a whole body. A full part is used as it is.
func padded(part []byte) []byte {
	if len(part) == bodyLen {
		return part
	}
	return append(make([]byte, 0, bodyLen), part...)[:bodyLen]
}

// fetched takes in a FETCH, and starts the look-up in a goroutine of the connection.
func (c *Conn) fetched(h *head, request []byte) error {
	d := &c.docs
	d.mu.Lock()
	if d.busy || h.request <= d.asked {
		d.mu.Unlock()
		return broken("a request out of turn")
	}
	d.busy, d.asked = true, h.request
	d.mu.Unlock()
	request = append([]byte{}, request...)
	c.tasks.Go(func() {
		var answer []byte
		err := error(errs.NotFound)
		if c.l.o.Documents != nil {
			answer, err = c.l.o.Documents(c.ctx, c.peer, request)
		}
		code := pieceCode(err)
		if code == 0 && uint64(len(answer)) > math.MaxUint32 {
			code = pieceRefused
		}
		if code != 0 {
			answer = nil
		}
		d.mu.Lock()
		d.ready, d.answer, d.code, d.written = true, answer, code, 0
		d.mu.Unlock()
		c.kick()
	})
	return nil
}

// pieceCode is the code for an error, 0 for none.
func pieceCode(err error) uint8 {
	if err == nil {
		return 0
	}
	switch errs.KindOf(err) {
	case errs.NotFound:
		return pieceNone
	case errs.Denied, errs.Invalid, errs.TooLarge, errs.Unsupported, errs.Exists, errs.Auth:
		return pieceRefused
	}
	return pieceLater
}

// pieceError is the error for a code.
func pieceError(code uint8) error {
	switch code {
	case pieceNone:
		return errs.E("mixnet/link", errs.NotFound, "the peer does not have the document", nil)
	case pieceRefused:
		return errs.E("mixnet/link", errs.Denied, "the peer refused the request", nil)
	}
	return errs.E("mixnet/link", errs.Unavailable, "the peer cannot answer the request now", nil)
}

// piece takes in a PIECE.
func (c *Conn) piece(h *head, part []byte) error {
	d := &c.docs
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.asking
	if a == nil || a.request != nil || h.request != d.request {
		return broken("a piece that nobody asked for")
	}
	last := func(err error) {
		d.asking = nil
		a.done <- err
		<-d.slot
	}
	if h.code != 0 {
		if a.pieces {
			return broken("a piece out of turn")
		}
		last(pieceError(h.code))
		return nil
	}
	if !a.pieces {
		a.pieces, a.total = true, h.total
		if uint64(h.total) > uint64(c.l.o.MaxDocument) {
			err := errs.E("mixnet/link", errs.TooLarge, "the document is larger than is taken", nil)
			last(err)
			return err
		}
	}
	if h.total != a.total || uint32(h.length) != min(a.total-a.length, bodyLen) {
		return broken("a piece out of turn")
	}
	a.length += uint32(h.length)
	if !a.gaveUp {
		a.got = append(a.got, part...)
	}
	if a.length == a.total {
		last(nil)
	}
	return nil
}
