package stattest

import (
	"math"
	"math/rand/v2"
	"testing"
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
