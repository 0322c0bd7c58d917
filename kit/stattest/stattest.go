// Package stattest compares samples with distributions, for tests. The seeds of such tests are
// fixed, so that a test passes always or never.
package stattest

import (
	"math"
	"slices"
	"testing"
)

// ChiSquare fails the test when counts are not what the expected numbers would give in all
// but one of 10,000 cases. Cells with fewer than 8 expected are taken together with the next.
func ChiSquare(t testing.TB, what string, counts []int, expected []float64) {
	t.Helper()
	x, cells := 0.0, 0
	restN, restE := 0, 0.0
	for i, e := range expected {
		restN, restE = restN+counts[i], restE+e
		if restE < 8 { // too few for the approximation
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

// KS compares a sample, which it sorts, with a distribution function (Kolmogorov and Smirnov),
// at 1 in 10,000.
func KS(t testing.TB, what string, sample []float64, cdf func(float64) float64) {
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

// TwoSamples compares two samples, which it sorts (Kolmogorov and Smirnov): d is the largest
// difference of their distribution functions, p the chance of at least that much where both are
// from one distribution. p is good to some percent from 50 of each on.
func TwoSamples(a, b []float64) (d, p float64) {
	slices.Sort(a)
	slices.Sort(b)
	n, m := float64(len(a)), float64(len(b))
	for i, j := 0, 0; i < len(a) && j < len(b); {
		x := min(a[i], b[j])
		for i < len(a) && a[i] <= x {
			i++
		}
		for j < len(b) && b[j] <= x {
			j++
		}
		d = max(d, math.Abs(float64(i)/n-float64(j)/m))
	}
	e := math.Sqrt(n * m / (n + m))
	return d, kolmogorov((e + 0.12 + 0.11/e) * d) // Stephens, 1970
}

// kolmogorov is the chance that Kolmogorov's statistic is more than x.
func kolmogorov(x float64) float64 {
	if x < 0.2 {
		return 1 // the series does not converge there, and this is it to 12 digits
	}
	sum, sign := 0.0, 1.0
	for k := 1.0; k <= 100; k++ {
		term := math.Exp(-2 * k * k * x * x)
		sum += sign * term
		if sign = -sign; term < 1e-16*sum {
			break
		}
	}
	return min(1, 2*sum)
}
