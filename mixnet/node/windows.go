package node

import (
	"container/list"
	"context"
	"math/bits"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

// Bounds of what a node remembers of windows (docs/content.md §7). It is in memory only: after a
// crash the sender is told less than there is, and sends again what need not have been sent.
const (
	windowsOpen = 1 << 12        // windows that are to be acknowledged, with their reply blocks; beyond, what is there is told at once
	windowsKept = 1 << 14        // others; beyond, the one that was heard of longest ago is forgotten
	windowAge   = 24 * time.Hour // how long after the last news a window is forgotten
)

// windowKey names a window. One that is said to have another number of packets is another.
type windowKey struct {
	use     uint8
	mailbox packet.ID
	id      [16]byte
	count   int
}

// window is what is known of one.
type window struct {
	key     windowKey
	durable uint8 // bit i: packet i is where it was to go
	heard   time.Time
	at      *list.Element // in kept or in open

	// The packet that holds the reply block; it stays in the log until the answer is there.
	surb  *packet.SURB // nil: nothing waits
	w     waiting
	until time.Time // the answer is given by then
}

func (x *window) whole() bool { return bits.OnesCount8(x.durable) == x.key.count }

// windows are those of which packets have ended here.
type windows struct {
	e    *ends
	wake chan struct{} // capacity 1

	mostOpen, mostKept int

	mu         sync.Mutex
	all        map[windowKey]*window
	kept, open *list.List // of *window: by the last news; by when the block came
}

func newWindows(e *ends) *windows {
	return &windows{e: e, wake: make(chan struct{}, 1), mostOpen: windowsOpen, mostKept: windowsKept, all: make(map[windowKey]*window), kept: list.New(), open: list.New()}
}

// note notes that a packet of a window is durable where it was to go. surb is the reply block
// in it, if there is one: then w is ended by an answer, else at once. It gives the answers that
// are due now.
func (s *windows) note(mailbox packet.ID, place content.Window, surb *packet.SURB, w waiting) (ready []answer) {
	if surb == nil {
		defer w.p.Sent()
	}
	n := s.e.n
	now := n.o.Now()
	wait := content.WindowWait * n.view.Load().milliseconds(directory.Delay)
	k := windowKey{w.p.Entry.Use, mailbox, place.ID, place.Count}
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.all[k]
	if x == nil {
		s.forget(now)
		x = &window{key: k}
		x.at = s.kept.PushBack(x)
		s.all[k] = x
	}
	x.durable, x.heard = x.durable|1<<place.Index, now
	if x.surb == nil {
		s.kept.MoveToBack(x.at)
	}
	if surb != nil {
		if x.surb != nil {
			ready = append(ready, s.take(x)) // two blocks: two answers
		}
		s.hold(x, surb, w, now.Add(wait))
	}
	if x.surb != nil && (x.whole() || s.open.Len() > s.mostOpen) {
		ready = append(ready, s.take(x))
	}
	return ready
}

// hold has a window wait for the rest of its packets.
func (s *windows) hold(x *window, surb *packet.SURB, w waiting, until time.Time) {
	s.kept.Remove(x.at)
	x.at = s.open.PushBack(x)
	x.surb, x.w, x.until = surb, w, until
	w.p.Unload() // the block is here, the rest is not needed
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take gives the answer of a window that waits. It is remembered on: packets that are sent again
// may come, and another block.
func (s *windows) take(x *window) answer {
	a := answer{x.surb, content.NewAck(x.durable), x.w}
	s.open.Remove(x.at)
	x.at = s.kept.PushBack(x)
	x.surb, x.w, x.until = nil, waiting{}, time.Time{}
	return a
}

// forget makes room for one more window, and drops what is too old.
func (s *windows) forget(now time.Time) {
	for f := s.kept.Front(); f != nil; f = s.kept.Front() {
		x := f.Value.(*window)
		if s.kept.Len() < s.mostKept && now.Sub(x.heard) < windowAge {
			return
		}
		s.kept.Remove(f)
		delete(s.all, x.key)
	}
}

// due gives the answers whose time has come, and how long nothing is to be done.
func (s *windows) due(now time.Time) (ready []answer, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := s.open.Front(); f != nil; f = s.open.Front() {
		x := f.Value.(*window)
		if d := x.until.Sub(now); d > 0 {
			return ready, d
		}
		ready = append(ready, s.take(x))
	}
	return ready, time.Hour
}

// run answers for windows that were not whole in time, until ctx ends.
func (s *windows) run(ctx context.Context) error {
	return again(ctx, s.wake, func() time.Duration {
		ready, wait := s.due(s.e.n.o.Now())
		if unsent, err := s.e.answer(ready); len(unsent) > 0 {
			s.e.n.o.Logger.Warn("packets could not be acknowledged; it is tried again", "error", errs.Public(err))
			for _, w := range unsent {
				s.e.queueOf(w).retry(w, err)
			}
		}
		return wait
	})
}

// waiting is how many windows are to be acknowledged.
func (s *windows) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open.Len()
}
