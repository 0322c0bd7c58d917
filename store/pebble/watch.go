package pebble

import (
	"sync"

	"postern.email/store"
)

// watches maps a full key to the channels that wait for it.
type watches struct {
	mu sync.Mutex
	m  map[string]map[chan struct{}]struct{}
}

func (w *watches) add(key string) *store.Watch {
	c := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.m == nil {
		w.m = make(map[string]map[chan struct{}]struct{})
	}
	set := w.m[key]
	if set == nil {
		set = make(map[chan struct{}]struct{}, 1)
		w.m[key] = set
	}
	set[c] = struct{}{}
	return store.NewWatch(c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		set := w.m[key]
		delete(set, c)
		if len(set) == 0 {
			delete(w.m, key)
		}
	})
}

// fire wakes the watchers of every key that the transactions set or deleted. A
// channel that is full stays full: its watcher has not looked yet and will see
// this commit too.
func (w *watches) fire(txs []*txCore) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.m) == 0 {
		return
	}
	for _, t := range txs {
		if t.engine {
			continue
		}
		for key := range t.points {
			for c := range w.m[key] {
				select {
				case c <- struct{}{}:
				default:
				}
			}
		}
	}
}
