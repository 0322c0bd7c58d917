package sim

import (
	"context"
	"math/rand/v2"
	"time"

	"postern.email/mixnet/client"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/pool"
)

// oneMix is what an observer of one mix sees.
type oneMix struct {
	Bits float64 // entropy of a packet that leaves, on average
	Low  float64 // one in a hundred has less
	Held float64 // packets in the mix, averaged over time
	Stay float64 // mean stay of a packet, in units: the mean delay, or the interval
}

// unit is what oneMix and the likelihood take as the unit of time: long, so that whole milliseconds are
// fine enough for everything.
const unit = 1000 * time.Second

// clocked gives parameters for a client that sends so many packets in a unit of time, in the
// proportions of the profiles: three of five at the payload clock, one at each of the others.
func clocked(perUnit, delayUnits float64) directory.Parameters {
	ms := func(units float64) uint64 { return max(1, uint64(units*float64(unit/time.Millisecond)+0.5)) }
	return directory.Parameters{
		{Name: directory.Delay, Value: ms(delayUnits)},
		{Name: directory.DropInterval, Value: ms(5 / perUnit)},
		{Name: directory.LoopInterval, Value: ms(5 / perUnit)},
		{Name: directory.MaxDelay, Value: 1<<32 - 1},
		{Name: directory.PayloadInterval, Value: ms(5 / (3 * perUnit))},
	}
}

// runOneMix has packets come at random at a rate, in packets a unit, into a mix with that
// rule. The mean delay of Poisson, and the interval of the others, is one unit. departures are
// counted after 20 units.
func runOneMix(ctx context.Context, a pool.Algorithm, rate float64, departures int, seed [32]byte) (oneMix, error) {
	config := pool.Default(a)
	config.Interval = unit
	rng := rand.New(rand.NewChaCha8(seed))
	seed[0]++ // the mix's own choices are others
	began := time.Unix(1_800_000_000, 0)
	p, err := pool.New[time.Time](config, began, rand.NewChaCha8(seed))
	if err != nil {
		return oneMix{}, err
	}
	clocks := client.NewClocks(clocked(rate, 1), began, rng)
	var seen leaving
	var all histogram
	var m oneMix
	var out []time.Time
	warm := began.Add(20 * unit)
	last, area, counted, from := began, 0.0, 0, began
	pass := func(now time.Time) {
		if from.Before(warm) {
			from = now
		} else {
			area += float64(p.Len()) * now.Sub(last).Seconds()
		}
		last = now
	}
	for n := 0; counted < departures || !from.Before(last); n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return oneMix{}, ctx.Err()
		}
		next := clocks.Peek().At
		if due, ok := p.Next(); ok && !due.After(next) {
			pass(due)
			out = p.Due(due, out[:0])
			// What leaves in one round leaves together; a Poisson mix lets go one by one, also where
			// two are due in the same millisecond.
			for i := 0; i < len(out); {
				k := 1
				if a != pool.Poisson {
					k = len(out)
				}
				h := seen.left(p.Len() + len(out) - i - k)
				for _, came := range out[i : i+k] {
					if due.Before(warm) {
						continue
					}
					m.Bits += h
					m.Stay += due.Sub(came).Seconds()
					all.add(h)
					counted++
				}
				i += k
			}
			continue
		}
		clocks.Next()
		pass(next)
		seen.came()
		p.Add(next.Add(client.Delay(rng, unit, 100*unit)), next)
	}
	m.Bits /= float64(counted)
	m.Stay /= float64(counted) * unit.Seconds()
	m.Low = all.quantile(0.01)
	m.Held = area / last.Sub(from).Seconds()
	return m, nil
}

// histogram keeps values from 0 to 32 in steps of 1/256: bounded memory, whatever is
// counted.
type histogram struct {
	cells [32 * 256]int
	n     int
}

func (h *histogram) add(v float64) {
	h.cells[min(max(int(v*256), 0), len(h.cells)-1)]++
	h.n++
}

func (h *histogram) quantile(q float64) float64 {
	left := int(q * float64(h.n))
	for i, c := range h.cells {
		if left -= c; left < 0 {
			return float64(i) / 256
		}
	}
	return 0
}
