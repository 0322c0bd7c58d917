package limits

import (
	"sync"
	"sync/atomic"
)

// Bytes is a budget of memory that several owners share, for example all mails that
// are being received. A nil *Bytes is without bound.
type Bytes struct {
	max  int64
	used atomic.Int64

	mu   sync.Mutex
	held map[string]int64 // by network, of those that share; no entry is 0
}

// NewBytes makes a budget of max bytes.
func NewBytes(max int64) *Bytes { return &Bytes{max: max} }

// Acquire takes n bytes, or nothing when they would exceed the budget.
func (b *Bytes) Acquire(n int64) bool {
	if b == nil {
		return true
	}
	if b.used.Add(n) > b.max {
		b.used.Add(-n)
		return false
	}
	return true
}

// AcquireHalf is Acquire for those who may use only the first half of the budget, so
// that the other half stays for others.
func (b *Bytes) AcquireHalf(n int64) bool {
	if b == nil {
		return true
	}
	if b.used.Add(n) > b.max/2 {
		b.used.Add(-n)
		return false
	}
	return true
}

// Release gives n acquired bytes back.
func (b *Bytes) Release(n int64) {
	if b != nil {
		b.used.Add(-n)
	}
}

// Used gives the bytes taken now.
func (b *Bytes) Used() int64 {
	if b == nil {
		return 0
	}
	return b.used.Load()
}

// Share is what one peer takes from a budget: never more, together with all others of its
// network, than perNetwork bytes, so that one network cannot take the budget from the rest. It
// is a view without state of its own.
type Share struct {
	b          *Bytes
	network    string // "": no bound
	perNetwork int64
}

// Share gives the peer's share. perNetwork 0 or less, or a peer without network (see
// Peer.Network): bounded by the budget alone. All shares of a network in one budget are counted
// together, also where perNetwork differs.
func (b *Bytes) Share(p Peer, perNetwork int64) Share {
	s := Share{b: b, perNetwork: perNetwork}
	if b != nil && perNetwork > 0 {
		s.network = p.Network()
	}
	return s
}

// Acquire takes n bytes, or nothing when they would exceed the share or the budget.
func (s Share) Acquire(n int64) bool { return s.take(n, false) }

// AcquireHalf is Acquire for those who may use only the first half of the budget.
func (s Share) AcquireHalf(n int64) bool { return s.take(n, true) }

func (s Share) take(n int64, half bool) bool {
	acquire := func() bool {
		if half {
			return s.b.AcquireHalf(n)
		}
		return s.b.Acquire(n)
	}
	if s.network == "" {
		return acquire()
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if s.b.held[s.network]+n > s.perNetwork || !acquire() {
		return false
	}
	if s.b.held == nil {
		s.b.held = make(map[string]int64)
	}
	s.b.held[s.network] += n
	return true
}

// Release gives n acquired bytes back.
func (s Share) Release(n int64) {
	if n == 0 {
		return
	}
	s.b.Release(n)
	if s.network == "" {
		return
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if s.b.held[s.network] -= n; s.b.held[s.network] <= 0 {
		delete(s.b.held, s.network)
	}
}
