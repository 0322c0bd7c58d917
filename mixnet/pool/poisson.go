package pool

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

// stopAndGo is the Poisson mix: each packet waits for as long as its sender drew from an
// exponential distribution (Kesdogan 1998; Loopix 2017, §4).
type stopAndGo[T any] struct {
	rng *rand.Rand
	due timeline[T]
}

func (p *stopAndGo[T]) Add(due time.Time, v T) { heap.Push(&p.due, timed[T]{due, v}) }

func (p *stopAndGo[T]) Due(now time.Time, out []T) []T {
	from := len(out)
	for len(p.due) > 0 && !p.due[0].at.After(now) {
		out = append(out, heap.Pop(&p.due).(timed[T]).v)
	}
	shuffle(p.rng, out[from:]) // what leaves together tells no order
	return out
}

func (p *stopAndGo[T]) Take(out []T) []T {
	for _, t := range p.due {
		out = append(out, t.v)
	}
	clear(p.due)
	p.due = p.due[:0]
	return out
}

func (p *stopAndGo[T]) Next() (time.Time, bool) {
	if len(p.due) == 0 {
		return time.Time{}, false
	}
	return p.due[0].at, true
}

func (p *stopAndGo[T]) Len() int { return len(p.due) }

type timed[T any] struct {
	at time.Time
	v  T
}

// timeline is a heap by time.
type timeline[T any] []timed[T]

func (h timeline[T]) Len() int           { return len(h) }
func (h timeline[T]) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timeline[T]) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push is for container/heap.
func (h *timeline[T]) Push(x any) { *h = append(*h, x.(timed[T])) }

// Pop is for container/heap.
func (h *timeline[T]) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	(*h)[last] = timed[T]{}
	*h = (*h)[:last]
	return x
}
