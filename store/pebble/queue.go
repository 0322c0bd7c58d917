package pebble

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"postern.email/store"
)

// States of a request.
const (
	reqQueued = iota
	reqTaken
	reqCanceled
)

// request is one Update that waits for the committer.
type request struct {
	ctx   context.Context
	shard store.Shard
	fn    func(store.Tx) error
	state atomic.Int32
	done  chan error // capacity 1: the one answer
}

// queue holds the waiting requests, MaxQueue at most.
type queue struct {
	slots chan struct{} // one token a request in items
	wake  chan struct{} // capacity 1: something changed for the committer

	mu    sync.Mutex
	items []*request
	gone  error // no new requests: why
}

func (q *queue) init() {
	q.slots = make(chan struct{}, MaxQueue)
	q.wake = make(chan struct{}, 1)
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// push queues r. The caller holds a slot, which pop gives back.
func (q *queue) push(r *request) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.gone != nil {
		<-q.slots
		return q.gone
	}
	q.items = append(q.items, r)
	q.signal()
	return nil
}

// pop takes the next request that was not canceled, or nil.
func (q *queue) pop() *request {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.items) > 0 {
		r := q.items[0]
		q.items[0] = nil
		q.items = q.items[1:]
		<-q.slots
		if r.state.CompareAndSwap(reqQueued, reqTaken) {
			return r
		}
	}
	q.items = nil // lets the array go
	return nil
}

func (q *queue) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

// shut refuses new requests with err and gives those that wait.
func (q *queue) shut(err error) (waiting []*request) {
	q.mu.Lock()
	q.gone = err
	q.mu.Unlock()
	for r := q.pop(); r != nil; r = q.pop() {
		waiting = append(waiting, r)
	}
	return waiting
}

// intents counts callers that announced an Update. An announced Update holds a
// group open once, for GatherMax at most: when that time runs out, all intents
// that were open then no longer count.
type intents struct {
	mu    sync.Mutex
	epoch uint64
	open  int // announced in this epoch and not done
}

func (i *intents) announce() (epoch uint64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.open++
	return i.epoch
}

func (i *intents) done(epoch uint64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if epoch == i.epoch {
		i.open--
	}
}

func (i *intents) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.open
}

// forget starts a new epoch: the intents of the old one came too late.
func (i *intents) forget() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.epoch++
	i.open = 0
}

// Intend implements store.Store. Announce when the Update is a millisecond away,
// not when a slow sender begins: each intent may delay others once by GatherMax.
func (d *DB) Intend() (done func()) {
	epoch := d.intents.announce()
	return sync.OnceFunc(func() {
		d.intents.done(epoch)
		d.queue.signal()
	})
}

// gather waits until a group is worth taking; false means the store stops.
func (d *DB) gather() bool {
	for d.queue.size() == 0 {
		select {
		case <-d.queue.wake:
		case <-d.closing:
			return false
		case <-d.guard.tripped:
			return false
		}
	}
	if d.o.GatherMax < 0 || !d.expecting() {
		return true
	}
	t := time.NewTimer(d.o.GatherMax)
	defer t.Stop()
	for d.expecting() {
		select {
		case <-d.queue.wake:
		case <-t.C:
			d.intents.forget()
			return true
		case <-d.closing:
			return false
		case <-d.guard.tripped:
			return false
		}
	}
	return true
}

// expecting reports whether more Updates are announced than are waiting.
func (d *DB) expecting() bool {
	n := d.queue.size()
	return n < d.o.MaxGroup && d.intents.count() > n
}
