package client

import (
	"math"
	"time"

	"postern.email/mixnet/directory"
)

// Forecast is when something can be expected.
type Forecast struct {
	Mean time.Duration
	P95  time.Duration // 95 of 100 take no longer
}

// DelayedHops is how many hops of a whole way delay a packet: all but the last.
const DelayedHops = 4

// Expect tells how long a message of some packets takes from now until the last of them is
// in the mailbox, where nothing else waits: each packet waits for a tick of the payload clock,
// and then for the delays of its hops. Pools and links are not in it.
//
// The sum of exponential times of two means is taken as the Gamma distribution with the
// same mean and variance, which is exact where there is only one of both.
func Expect(p directory.Parameters, packets, hops int) Forecast {
	wait := float64(p.Get(directory.PayloadInterval)) * float64(time.Millisecond)
	delay := float64(p.Get(directory.Delay)) * float64(time.Millisecond)
	n, k := float64(packets), float64(hops)
	return gammaForecast(n*wait+k*delay, n*wait*wait+k*delay*delay)
}

// ExpectDelays is the part of Expect that the hops' delays make up.
func ExpectDelays(p directory.Parameters, hops int) Forecast { return Expect(p, 0, hops) }

func gammaForecast(mean, variance float64) Forecast {
	if mean <= 0 || variance <= 0 {
		return Forecast{}
	}
	shape, scale := mean*mean/variance, variance/mean
	return Forecast{Mean: time.Duration(mean), P95: time.Duration(scale * gammaQuantile(shape, 0.95))}
}

// gammaQuantile is the inverse of gammaCDF, by bisection.
func gammaQuantile(shape, p float64) float64 {
	lo, hi := 0.0, shape+1
	for gammaCDF(shape, hi) < p {
		hi *= 2
	}
	for range 100 {
		mid := (lo + hi) / 2
		if gammaCDF(shape, mid) < p {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi
}

// gammaCDF is the distribution function of the Gamma distribution with scale 1: the lower
// incomplete gamma function by its series (DLMF 8.7.1), or the upper one by its continued
// fraction (DLMF 8.9.2), each where it converges quickly.
func gammaCDF(shape, x float64) float64 {
	if x <= 0 {
		return 0
	}
	lg, _ := math.Lgamma(shape)
	front := math.Exp(shape*math.Log(x) - x - lg)
	const steps, precise = 10_000, 1e-15
	if x < shape+1 {
		term := 1 / shape
		sum := term
		for n := 1.0; n < steps && term > sum*precise; n++ {
			term *= x / (shape + n)
			sum += term
		}
		return front * sum
	}
	// Lentz's method.
	const tiny = 1e-300
	b := x + 1 - shape
	c, d := 1/tiny, 1/b
	h := d
	for i := 1.0; i < steps; i++ {
		a := -i * (i - shape)
		b += 2
		d = 1 / nonZero(a*d+b, tiny)
		c = nonZero(b+a/c, tiny)
		delta := c * d
		h *= delta
		if math.Abs(delta-1) < precise {
			break
		}
	}
	return 1 - front*h
}

func nonZero(x, tiny float64) float64 {
	if math.Abs(x) < tiny {
		return tiny
	}
	return x
}
