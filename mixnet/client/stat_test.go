package client

import (
	"math"
	"slices"
	"testing"
)

// chiSquare fails the test when counts are not what the expected numbers would give in all
// but one of 10,000 cases. The seeds are fixed, so a test passes always or never.
func chiSquare(t testing.TB, what string, counts []int, expected []float64) {
	t.Helper()
	x := 0.0
	for i, e := range expected {
		if e < 8 {
			t.Fatalf("%s: %.1f expected in cell %d are too few", what, e, i)
		}
		d := float64(counts[i]) - e
		x += d * d / e
	}
	df := float64(len(expected) - 1)
	// Wilson and Hilferty.
	if limit := df * math.Pow(1-2/(9*df)+3.719*math.Sqrt(2/(9*df)), 3); x > limit {
		t.Errorf("%s: χ² is %.1f in %d cells, limit %.1f", what, x, len(expected), limit)
	}
}

// ksTest compares a sample with a distribution (Kolmogorov and Smirnov), at 1 in 10,000.
func ksTest(t testing.TB, what string, sample []float64, cdf func(float64) float64) {
	t.Helper()
	slices.Sort(sample)
	n, d := float64(len(sample)), 0.0
	for i, x := range sample {
		f := cdf(x)
		d = max(d, f-float64(i)/n, float64(i+1)/n-f)
	}
	if limit := 2.225 / math.Sqrt(n); d > limit {
		t.Errorf("%s: D is %.5f, limit %.5f", what, d, limit)
	}
}

func exponential(mean float64) func(float64) float64 {
	return func(x float64) float64 { return -math.Expm1(-x / mean) }
}
