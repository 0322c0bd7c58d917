package link

import (
	"context"
	"sync"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// Answers to who sends.
var (
	// ErrLater: the peer does not take the unit now, and has kept nothing of it.
	ErrLater error = errs.E("mixnet/link", errs.Busy, "the peer does not take packets now", nil)
	// ErrQueue: as many units wait for this peer as may.
	ErrQueue error = errs.E("mixnet/link", errs.Busy, "too many packets wait for this peer", nil)
	// ErrEnded: the connection or the line is over. Whether the peer has the unit is not known.
	ErrEnded error = errs.E("mixnet/link", errs.Unavailable, "the link to the peer has ended", nil)

	errUnitSize = errs.E("mixnet/link", errs.Invalid, "not a unit: the size is wrong", nil)
)

// State of an item.
const (
	free uint8 = iota
	waiting
	writing
	sent
)

// item is one unit on its way.
type item struct {
	unit   []byte
	done   func(error)
	state  uint8
	over   bool  // while writing: the result is known, and told when the write has ended
	result error // of over
}

// outbox holds the units for one peer, in order, until they are answered. It outlives
// connections: after one has ended, rewind makes all unanswered units wait again. A
// position names an item for good.
type outbox struct {
	mu               sync.Mutex
	ring             []item // position p lies at p % len
	head, next, tail uint64 // oldest item; next that may wait; next that is free
	closed           error
	wake             func() // tells the connection; nil: none is there
}

func newOutbox(size int) *outbox { return &outbox{ring: make([]item, size)} }

func (o *outbox) at(pos uint64) *item { return &o.ring[pos%uint64(len(o.ring))] }

// post lets a unit wait. done is called once, unless there is an error.
func (o *outbox) post(unit []byte, done func(error)) (pos uint64, err error) {
	if len(unit) != packet.Size {
		return 0, errUnitSize
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed != nil:
		return 0, o.closed
	case o.tail-o.head == uint64(len(o.ring)):
		return 0, ErrQueue
	}
	pos = o.tail
	o.tail++
	*o.at(pos) = item{unit: unit, done: done, state: waiting}
	if o.wake != nil {
		o.wake()
	}
	return pos, nil
}

// send is post, and waits. When ctx ends, the unit is the caller's again, and whether
// the peer has it is not known.
func (o *outbox) send(ctx context.Context, op string, unit []byte) error {
	result := make(chan error, 1)
	pos, err := o.post(unit, func(err error) { result <- err })
	if err != nil {
		return errs.Wrap(op, err)
	}
	select {
	case err = <-result:
	case <-ctx.Done():
		o.settle(pos, errs.E(op, errs.Canceled, "", ctx.Err()))
		err = <-result
	}
	return errs.Wrap(op, err)
}

// take gives the next unit that waits. It must not be changed until wrote was called.
func (o *outbox) take() (unit []byte, pos uint64, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for ; o.next < o.tail; o.next++ {
		if it := o.at(o.next); it.state == waiting {
			it.state = writing
			pos = o.next
			o.next++
			return it.unit, pos, true
		}
	}
	return nil, 0, false
}

// some reports whether a unit waits.
func (o *outbox) some() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for ; o.next < o.tail; o.next++ {
		if o.at(o.next).state == waiting {
			return true
		}
	}
	return false
}

// wrote says that the unit was written to the connection.
func (o *outbox) wrote(pos uint64) {
	o.mu.Lock()
	it := o.at(pos)
	it.state = sent
	if !it.over {
		o.mu.Unlock()
		return
	}
	tell := o.finish(pos, it.result)
	o.mu.Unlock()
	tell()
}

// settle ends an item, with the peer's answer or because nobody waits for it any more.
// An item that is over stays as it is.
func (o *outbox) settle(pos uint64, err error) {
	o.mu.Lock()
	it := o.at(pos)
	if pos < o.head || it.state == free {
		o.mu.Unlock()
		return
	}
	if it.state == writing {
		if !it.over {
			it.over, it.result = true, err
		}
		o.mu.Unlock()
		return
	}
	tell := o.finish(pos, err)
	o.mu.Unlock()
	tell()
}

// finish frees an item. What it gives is to be called without the lock.
func (o *outbox) finish(pos uint64, err error) (tell func()) {
	it := o.at(pos)
	done := it.done
	*it = item{}
	for o.head < o.tail && o.at(o.head).state == free {
		o.head++
	}
	o.next = max(o.next, o.head)
	return func() { done(err) }
}

// attach lets a connection take from the outbox; wake is called when a unit comes. It
// rewinds first.
func (o *outbox) attach(wake func()) {
	o.rewind()
	o.mu.Lock()
	o.wake = wake
	o.mu.Unlock()
	wake()
}

// rewind is called when a connection has ended, and nothing writes any more. It gives
// the number of units that will be sent again.
func (o *outbox) rewind() (again int) {
	o.mu.Lock()
	o.wake = nil
	var tells []func()
	for pos := o.head; pos < o.next; pos++ {
		switch it := o.at(pos); {
		case it.state == writing && it.over:
			tells = append(tells, o.finish(pos, it.result))
		case it.state == writing || it.state == sent:
			it.state = waiting
			again++
		}
	}
	o.next = o.head
	o.mu.Unlock()
	for _, tell := range tells {
		tell()
	}
	return again
}

// close ends everything with err. Nothing may write any more.
func (o *outbox) close(err error) {
	o.rewind()
	o.mu.Lock()
	o.closed = err
	var tells []func()
	for pos := o.head; pos < o.tail; pos++ {
		if o.at(pos).state != free {
			tells = append(tells, o.finish(pos, err))
		}
	}
	o.mu.Unlock()
	for _, tell := range tells {
		tell()
	}
}

// waits gives the number of units that are not answered yet.
func (o *outbox) waits() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for pos := o.head; pos < o.tail; pos++ {
		if o.at(pos).state != free {
			n++
		}
	}
	return n
}
