package pool

import (
	"math/rand/v2"
	"time"
)

// rounds are the three rules that send once in an interval.
type rounds[T any] struct {
	c    Config
	rng  *rand.Rand
	next time.Time
	held []T
}

func (p *rounds[T]) Add(_ time.Time, v T) { p.held = append(p.held, v) }

func (p *rounds[T]) Len() int { return len(p.held) }

func (p *rounds[T]) Next() (time.Time, bool) { return p.next, true }

func (p *rounds[T]) Take(out []T) []T {
	out = append(out, p.held...)
	p.keep(p.held[:0])
	return out
}

// Due holds one round when it is time, also where several were missed: a round that is
// made up for would mix with nothing new.
func (p *rounds[T]) Due(now time.Time, out []T) []T {
	if now.Before(p.next) {
		if latest := now.Add(p.c.Interval); p.next.After(latest) {
			p.next = latest // the clock was set back
		}
		return out
	}
	if p.next = p.next.Add(p.c.Interval); !p.next.After(now) {
		p.next = now.Add(p.c.Interval)
	}
	return p.round(out)
}

// round takes out what leaves, of N that are held:
//
//	Timed                all N
//	DynamicPool          n of them, at random
//	BinomialDynamicPool  each with probability n/N, whatever becomes of the others
func (p *rounds[T]) round(out []T) []T {
	n := p.quota(len(p.held))
	if n == 0 {
		return out
	}
	if p.c.Algorithm == BinomialDynamicPool {
		all, from := len(p.held), len(out)
		kept := p.held[:0]
		for _, v := range p.held {
			if p.rng.IntN(all) < n {
				out = append(out, v)
			} else {
				kept = append(kept, v)
			}
		}
		p.keep(kept)
		shuffle(p.rng, out[from:])
		return out
	}
	// The first n of a random order (Fisher and Yates).
	for i := range n {
		j := i + p.rng.IntN(len(p.held)-i)
		p.held[i], p.held[j] = p.held[j], p.held[i]
	}
	out = append(out, p.held[:n]...)
	p.keep(append(p.held[:0], p.held[n:]...))
	return out
}

func (p *rounds[T]) keep(kept []T) {
	clear(p.held[len(kept):])
	p.held = kept
}

// quota is n: with N held, and N ≥ min+1, n = min(N−min, max(1, ⌊N·rate⌋)), else 0; with
// Timed it is N.
func (p *rounds[T]) quota(held int) int {
	if p.c.Algorithm == Timed {
		return held
	}
	if held < p.c.MinSize+1 {
		return 0
	}
	return min(held-p.c.MinSize, max(1, held*p.c.Rate/WholeRate))
}
