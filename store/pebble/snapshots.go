package pebble

import (
	"context"
	"sync"

	"postern.email/kit/errs"

	"github.com/cockroachdb/pebble/v2"
)

// handle is one durable state that readers share.
type handle struct {
	snap *pebble.Snapshot
	gen  uint64 // counts up with each commit
	refs int    // readers, and one while it is the newest
}

// snapshots keeps the newest durable state and the older ones that readers still
// use. There are never more of them than running readers, plus one.
//
// A goroutine of its own (sweep) closes those that nobody reads: closing one makes
// Pebble look for compactions, and that can wait for a write of the MANIFEST. No
// acknowledgement and no reader waits with it.
type snapshots struct {
	mu      sync.Mutex
	cur     *handle
	old     map[*handle]struct{} // no longer newest, not closed yet
	unread  []*handle            // those of old that nobody reads
	closed  bool
	changed chan struct{} // closed and replaced when an old one was closed

	readers sync.WaitGroup // Add only while not closed

	wake  chan struct{} // capacity 1: unread has something
	swept chan struct{} // closed when sweep has ended
}

func (s *snapshots) init() {
	s.old = make(map[*handle]struct{})
	s.wake = make(chan struct{}, 1)
	s.swept = make(chan struct{})
}

// publish makes snap the newest durable state.
func (s *snapshots) publish(snap *pebble.Snapshot) {
	s.mu.Lock()
	last := s.cur
	s.cur = &handle{snap: snap, refs: 1}
	if last != nil {
		s.cur.gen = last.gen + 1
	}
	s.mu.Unlock()
	if last != nil {
		s.drop(last)
	}
}

// acquire gives the newest durable state to a reader, who must release it.
func (s *snapshots) acquire() (*handle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errs.E("store/pebble", errs.Unavailable, publicClosed, nil)
	}
	s.cur.refs++
	s.readers.Add(1)
	return s.cur, nil
}

// release is for readers.
func (s *snapshots) release(h *handle) {
	s.drop(h)
	s.readers.Done()
}

func (s *snapshots) drop(h *handle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.refs--
	if h != s.cur {
		s.old[h] = struct{}{}
	}
	if h.refs == 0 {
		s.unread = append(s.unread, h)
		s.signal()
	}
}

func (s *snapshots) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// sweep closes what nobody reads, until close was called and all are closed.
func (s *snapshots) sweep() {
	defer close(s.swept)
	for range s.wake {
		s.mu.Lock()
		unread := s.unread
		s.unread = nil
		s.mu.Unlock()
		for _, h := range unread {
			_ = h.snap.Close() // its only error is a second Close
		}
		s.mu.Lock()
		for _, h := range unread {
			delete(s.old, h)
		}
		if s.changed != nil && len(unread) > 0 {
			close(s.changed)
			s.changed = nil
		}
		done := s.cur == nil && len(s.old) == 0 // only after close
		s.mu.Unlock()
		if done {
			return
		}
	}
}

// waitOlder waits until no state older than now is read any more.
func (s *snapshots) waitOlder(ctx context.Context, tripped <-chan struct{}) error {
	s.mu.Lock()
	now := s.cur.gen
	s.mu.Unlock()
	for {
		s.mu.Lock()
		older := false
		for h := range s.old {
			older = older || h.gen < now
		}
		if !older {
			s.mu.Unlock()
			return nil
		}
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		c := s.changed
		s.mu.Unlock()
		select {
		case <-c:
		case <-tripped:
			return nil // the caller asks the guard
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// close refuses new readers, waits for the running ones and hands the newest state
// to sweep, which then ends.
func (s *snapshots) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.readers.Wait()
	s.mu.Lock()
	last := s.cur
	s.cur = nil
	s.mu.Unlock()
	s.drop(last)
}
