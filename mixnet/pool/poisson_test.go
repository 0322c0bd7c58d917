package pool

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"postern.email/kit/stattest"
)

// traffic is a Poisson mix in virtual time: packets arrive at rate lambda a second and
// draw delays of mean 1 s. depart is called for each that leaves.
func traffic(t testing.TB, lambda float64, departures int, seed byte, arrive func(), depart func(now time.Time, came time.Time, held int)) {
	t.Helper()
	rng := rand.New(source(seed))
	p := newPool[time.Time](t, Default(Poisson), seed+1)
	seconds := func(x float64) time.Duration { return time.Duration(x * float64(time.Second)) }
	next := began.Add(seconds(rng.ExpFloat64() / lambda))
	var out []time.Time
	for n := 0; n < departures; {
		if due, ok := p.Next(); ok && !due.After(next) {
			out = p.Due(due, out[:0])
			for i, came := range out {
				depart(due, came, p.Len()+len(out)-1-i)
				n++
			}
			continue
		}
		arrive()
		p.Add(next.Add(seconds(rng.ExpFloat64())), next)
		next = next.Add(seconds(rng.ExpFloat64() / lambda))
	}
}

// TestPoissonDelays: packets stay as long as their senders drew, what leaves is a Poisson
// process again, and the number held is Poisson with mean λ/μ (Mirasol 1963): a mix
// whose scheduler bent the delays would show in one of the three.
func TestPoissonDelays(t *testing.T) {
	const lambda, departures = 8, 40_000
	var stays, gaps []float64
	counts := make([]int, 32)
	var last time.Time
	n, samples := 0, 0
	traffic(t, lambda, departures, 10, func() {}, func(now, came time.Time, held int) {
		if n++; n < 1000 {
			last = now
			return
		}
		stays = append(stays, now.Sub(came).Seconds())
		gaps = append(gaps, now.Sub(last).Seconds())
		last = now
		if n%80 == 0 { // ten delays apart, so that the samples do not depend on each other
			counts[min(held, len(counts)-1)]++
			samples++
		}
	})
	stattest.KS(t, "stays", stays, func(x float64) float64 { return 1 - math.Exp(-x) })
	stattest.KS(t, "gaps", gaps, func(x float64) float64 { return 1 - math.Exp(-lambda*x) })
	expected := make([]float64, len(counts))
	for k := range expected {
		expected[k] = float64(samples) * poissonPMF(lambda, k)
	}
	stattest.ChiSquare(t, "held", counts, expected)
}

// TestPoissonEntropy: the entropy of one mix (Loopix §4.1) in bits, in steady state, is that
// of the reference run within 0.05 bit, and log2(e·λ/μ) where λ/μ is large. An observer who
// sees a packet leave does not know which it was: of k that came since the last left, and
// l that were there before, each is as likely; of the l, nobody knew before either.
func TestPoissonEntropy(t *testing.T) {
	for i, c := range []struct{ ratio, want float64 }{{5, 3.75}, {10, 4.76}, {20, 5.77}, {50, 7.09}, {100, 8.09}, {200, 9.09}} {
		const departures = 60_000
		warm := int(c.ratio * 20) // twenty delays
		var h, sum float64
		k, l, n := 0, 0, 0
		traffic(t, c.ratio, departures+warm, byte(20+2*i), func() { k++ }, func(_, _ time.Time, held int) {
			h = entropy(h, k, l)
			k, l = 0, held
			if n++; n > warm {
				sum += h
			}
		})
		mean := sum / departures
		if math.Abs(mean-c.want) > 0.05 {
			t.Errorf("λ/μ = %v: %.3f bits, want %.2f", c.ratio, mean, c.want)
		}
		if theory := math.Log2(math.E * c.ratio); c.ratio >= 50 && math.Abs(mean-theory) > 0.05 {
			t.Errorf("λ/μ = %v: %.3f bits, theory %.3f", c.ratio, mean, theory)
		}
	}
}

// entropy is H_t = H(k/(k+l)) + k/(k+l)·log2 k + l/(k+l)·H_{t−1}.
func entropy(before float64, k, l int) float64 {
	p := float64(k) / float64(k+l)
	h := 0.0
	if k > 0 {
		h += p * math.Log2(float64(k))
	}
	if k > 0 && l > 0 {
		h -= p*math.Log2(p) + (1-p)*math.Log2(1-p)
	}
	return h + (1-p)*before
}
