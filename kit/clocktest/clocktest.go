// Package clocktest is a clock for tests, which only the test moves.
package clocktest

import (
	"sync"
	"time"
)

// Clock is a clock that stands still. It may be used by many goroutines.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// New gives a clock that shows t.
func New(t time.Time) *Clock { return &Clock{now: t} }

// Now gives the time shown.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Add moves the clock; a negative d sets it back.
func (c *Clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
