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
type snapshots struct {
	mu      sync.Mutex
	cur     *handle
	old     map[*handle]struct{} // no longer newest, still read
	closed  bool
	changed chan struct{} // closed and replaced when an old one is dropped
}

// publish makes snap the newest durable state.
func (s *snapshots) publish(snap *pebble.Snapshot) {
	s.mu.Lock()
	last := s.cur
	s.cur = &handle{snap: snap, refs: 1}
	if last != nil {
		s.cur.gen = last.gen + 1
		if last.refs > 1 {
			s.old[last] = struct{}{}
		}
	}
	s.mu.Unlock()
	if last != nil {
		s.release(last)
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
	return s.cur, nil
}

func (s *snapshots) release(h *handle) {
	s.mu.Lock()
	h.refs--
	last := h.refs == 0
	if last {
		delete(s.old, h)
	}
	s.mu.Unlock()
	if !last {
		return
	}
	_ = h.snap.Close() // its only error is a second Close
	s.mu.Lock()
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
	s.mu.Unlock()
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

// close refuses new readers and waits for the running ones.
func (s *snapshots) close() {
	s.mu.Lock()
	s.closed = true
	last := s.cur
	if last.refs > 1 {
		s.old[last] = struct{}{}
	}
	s.mu.Unlock()
	s.release(last)
	for {
		s.mu.Lock()
		if len(s.old) == 0 {
			s.mu.Unlock()
			return
		}
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		c := s.changed
		s.mu.Unlock()
		<-c
	}
}
