package stattest

import (
	"math"
	"math/rand/v2"
	"testing"

	"postern.email/kit/racetest"
)

// probe is a test that only notes whether it has failed.
type probe struct {
	testing.TB
	failed bool
}

func (p *probe) Helper()               {}
func (p *probe) Errorf(string, ...any) { p.failed = true }

// TestBothBite: what is drawn from the distribution passes, what is a little off does not.
func TestBothBite(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	counts := make([]int, 10)
	for range 20_000 {
		counts[r.IntN(10)]++
	}
	even := make([]float64, 10)
	for i := range even {
		even[i] = 2000
	}
	ChiSquare(t, "even", counts, even)
	counts[3] += 400
	p := &probe{}
	if ChiSquare(p, "", counts, even); !p.failed {
		t.Error("400 of 2,000 too many pass")
	}
	p = &probe{}
	if ChiSquare(p, "", []int{5}, []float64{5}); !p.failed {
		t.Error("one cell passes")
	}
	sample := make([]float64, 20_000)
	for i := range sample {
		sample[i] = r.ExpFloat64()
	}
	KS(t, "exponential", sample, func(x float64) float64 { return -math.Expm1(-x) })
	p = &probe{}
	if KS(p, "", sample, func(x float64) float64 { return -math.Expm1(-x / 1.05) }); !p.failed {
		t.Error("a mean that is a twentieth off passes")
	}
}

// TestTwoSamples: the chance that it tells is that of samples from one distribution; a difference is
// found.
func TestTwoSamples(t *testing.T) {
	for x, want := range map[float64]float64{1.2239: 0.1, 1.3581: 0.05, 1.6276: 0.01, 1.9495: 0.001, 0.5712: 0.9, 0.1: 1} { // tables of the distribution
		if p := kolmogorov(x); math.Abs(p-want) > want/500 {
			t.Errorf("%v: %v, want %v", x, p, want)
		}
	}
	r := rand.New(rand.NewPCG(3, 4))
	draw := func(n int, mean float64) []float64 {
		out := make([]float64, n)
		for i := range out {
			out[i] = mean * r.ExpFloat64()
		}
		return out
	}
	tries, large, small := 4000, 300, 200
	if racetest.Enabled {
		tries, large, small = 1500, 120, 80
	}
	below := map[float64]int{0.5: 0, 0.1: 0, 0.01: 0}
	for range tries {
		_, p := TwoSamples(draw(large, 1), draw(small, 1))
		for limit := range below {
			if p < limit {
				below[limit]++
			}
		}
	}
	for limit, n := range below {
		want := limit * float64(tries)
		if sigma := math.Sqrt(want * (1 - limit)); math.Abs(float64(n)-want) > 4*sigma+0.1*want {
			t.Errorf("p is below %v in %d of %d cases", limit, n, tries)
		}
	}
	if d, p := TwoSamples(draw(10_000, 1), draw(10_000, 1.2)); p > 1e-6 || d < 0.02 {
		t.Errorf("a mean a fifth off: D %v, p %v", d, p)
	}
	if d, p := TwoSamples([]float64{1, 2}, []float64{3, 4}); d != 1 || p > 0.3 {
		t.Errorf("%v %v", d, p)
	}
	if d, p := TwoSamples([]float64{1, 1, 2}, []float64{1, 1, 2}); d != 0 || p != 1 {
		t.Errorf("%v %v", d, p)
	}
}
