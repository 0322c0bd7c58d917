// Package flight joins equal questions that are asked at one time: one caller does the
// work, the others wait for what comes of it. It starts no goroutine: the work is done
// by the first caller, and when that one gives up, by the next.
package flight

import (
	"context"
	"sync"
)

// Group joins by key. The zero Group is ready; it may be used by many goroutines.
type Group[K comparable, V any] struct {
	mu    sync.Mutex
	calls map[K]*call[V]
}

type call[V any] struct {
	done   chan struct{}
	v      V
	err    error
	gaveUp bool // the one who does the work did: what came of it is nobody else's
}

// Do gives what work gives, to all who ask for k meanwhile. The error is that of ctx
// when it ends while another does the work.
func (g *Group[K, V]) Do(ctx context.Context, k K, work func(context.Context) (V, error)) (v V, err error) {
	for {
		g.mu.Lock()
		c := g.calls[k]
		if c == nil {
			c = &call[V]{done: make(chan struct{}), gaveUp: true}
			if g.calls == nil {
				g.calls = make(map[K]*call[V])
			}
			g.calls[k] = c
			g.mu.Unlock()
			return g.lead(ctx, k, c, work)
		}
		g.mu.Unlock()
		select {
		case <-c.done:
		case <-ctx.Done():
			return v, ctx.Err()
		}
		if !c.gaveUp {
			return c.v, c.err
		}
	}
}

func (g *Group[K, V]) lead(ctx context.Context, k K, c *call[V], work func(context.Context) (V, error)) (V, error) {
	defer func() { // also when work panics
		g.mu.Lock()
		if g.calls[k] == c {
			delete(g.calls, k)
		}
		g.mu.Unlock()
		close(c.done)
	}()
	c.v, c.err = work(ctx)
	c.gaveUp = c.err != nil && ctx.Err() != nil
	return c.v, c.err
}

// Forget makes the next who asks for k do the work anew. Those who wait already get
// what they waited for.
func (g *Group[K, V]) Forget(k K) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.calls, k)
}
