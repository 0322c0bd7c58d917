package limits

import "sync/atomic"

// Bytes is a budget of memory that several owners share, for example all mails that
// are being received. A nil *Bytes is without bound.
type Bytes struct {
	max  int64
	used atomic.Int64
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
