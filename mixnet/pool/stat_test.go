package pool

import (
	"math"
	"slices"
)

// uniform is the same expectation for each cell.
func uniform(cells, n int) []float64 {
	return slices.Repeat([]float64{float64(n) / float64(cells)}, cells)
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
