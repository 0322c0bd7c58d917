package imap

import (
	"context"
	"sync"
	"time"
)

// lifetime ends many sessions together: one for a listener, so that a session that
// waits does not hold contexts of its own.
type lifetime struct {
	running context.Context // for commands; it outlives the end by the grace
	kill    context.CancelFunc
	grace   time.Duration
	stop    func() bool

	mu      sync.Mutex
	ending  bool
	closed  bool
	timer   *time.Timer
	members map[*conn]struct{} // bounded by the number of connections
}

// newLifetime ends when ctx does. close must follow.
func newLifetime(ctx context.Context, grace time.Duration) *lifetime {
	l := &lifetime{grace: grace, members: make(map[*conn]struct{})}
	l.running, l.kill = context.WithCancel(context.WithoutCancel(ctx))
	l.stop = context.AfterFunc(ctx, l.end)
	return l
}

// end asks all sessions to end; after the grace it closes them.
func (l *lifetime) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.ending = true
	for c := range l.members {
		c.stop()
	}
	l.timer = time.AfterFunc(l.grace, l.cut)
}

func (l *lifetime) cut() {
	l.kill()
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.members {
		_ = c.raw.Close()
	}
}

func (l *lifetime) add(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.members[c] = struct{}{}
	if l.ending {
		c.stop()
	}
}

func (l *lifetime) remove(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.members, c)
}

// close gives back what newLifetime took, when all sessions have ended.
func (l *lifetime) close() {
	l.stop()
	l.kill()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
	}
}
