package pool

import (
	"math"
	"slices"
	"testing"
)

// chiSquare fails the test when counts are not what the expected numbers would give in all
// but one of 10,000 cases. The seeds are fixed, so a test passes always or never.
func chiSquare(t testing.TB, what string, counts []int, expected []float64) {
	t.Helper()
	x, cells := 0.0, 0
	restN, restE := 0, 0.0
	for i, e := range expected {
		restN, restE = restN+counts[i], restE+e
		if restE < 8 { // too few for the approximation: with the next
			continue
		}
		d := float64(restN) - restE
		x += d * d / restE
		cells++
		restN, restE = 0, 0
	}
	df := float64(cells - 1)
	// Wilson and Hilferty.
	limit := df * math.Pow(1-2/(9*df)+3.719*math.Sqrt(2/(9*df)), 3)
	if cells < 2 || x > limit {
		t.Errorf("%s: χ² is %.1f in %d cells, limit %.1f", what, x, cells, limit)
	}
}

// uniform is the same expectation for each cell.
func uniform(cells, n int) []float64 {
	return slices.Repeat([]float64{float64(n) / float64(cells)}, cells)
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

// poissonPMF is the chance of k at a mean.
func poissonPMF(mean float64, k int) float64 {
	lg, _ := math.Lgamma(float64(k + 1))
	return math.Exp(float64(k)*math.Log(mean) - mean - lg)
}

// binomialPMF is the chance of k of n at p each.
func binomialPMF(n, k int, p float64) float64 {
	c := 1.0
	for i := range k {
		c *= float64(n-i) / float64(i+1)
	}
	return c * math.Pow(p, float64(k)) * math.Pow(1-p, float64(n-k))
}
