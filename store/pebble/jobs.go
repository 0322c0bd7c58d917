package pebble

import (
	"context"
	"maps"
	"sync"
)

// jobs knows which flushes and compactions run, from Pebble's events.
type jobs struct {
	mu      sync.Mutex
	running map[int]struct{}
	change  chan struct{} // closed and replaced at the next event; nil: nobody waits
}

func (j *jobs) begin(id int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.running == nil {
		j.running = make(map[int]struct{})
	}
	j.running[id] = struct{}{}
}

func (j *jobs) end(id int) {
	j.mu.Lock()
	delete(j.running, id)
	j.mu.Unlock()
	j.changed()
}

// changed wakes all waiters: a job ended or a file was deleted.
func (j *jobs) changed() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.change != nil {
		close(j.change)
		j.change = nil
	}
}

// watch gives a channel that is closed at the next event.
func (j *jobs) watch() <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.change == nil {
		j.change = make(chan struct{})
	}
	return j.change
}

// waitRunning waits until the jobs that run now have ended.
func (j *jobs) waitRunning(ctx context.Context) error {
	j.mu.Lock()
	old := maps.Clone(j.running)
	j.mu.Unlock()
	for {
		changed := j.watch()
		left := false
		j.mu.Lock()
		for id := range old {
			_, ok := j.running[id]
			left = left || ok
		}
		j.mu.Unlock()
		if !left {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
