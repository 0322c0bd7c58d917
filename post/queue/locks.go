package queue

import (
	"context"
	"sync"

	"postern.email/kit/errs"
)

// locks lets one at a time change the records of a mail, so that what was read and sealed
// before a transaction still holds in it. The zero value is ready.
type locks struct {
	mu   sync.Mutex
	held map[ID]*turn
}

type turn struct {
	free  chan struct{} // capacity 1; holds a token while nobody has the lock
	users int           // holder and waiters
}

// acquire waits for the lock of a mail. Call unlock once.
func (l *locks) acquire(ctx context.Context, id ID) (unlock func(), err error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = make(map[ID]*turn)
	}
	t := l.held[id]
	if t == nil {
		t = &turn{free: make(chan struct{}, 1)}
		t.free <- struct{}{}
		l.held[id] = t
	}
	t.users++
	l.mu.Unlock()
	select {
	case <-t.free:
		return func() { l.release(id, t, true) }, nil
	case <-ctx.Done():
		l.release(id, t, false)
		return nil, errs.E("post/queue.lock", errs.Canceled, "", ctx.Err())
	}
}

func (l *locks) release(id ID, t *turn, had bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if had {
		t.free <- struct{}{}
	}
	if t.users--; t.users == 0 {
		delete(l.held, id)
	}
}
