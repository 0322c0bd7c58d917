package sim

import "math"

// leaving is what an observer of one mix cannot know about each packet that leaves: which of
// those that came in it is. Of fresh packets that came since the last one left and old ones
// that were there before, each is as likely, and of the old ones nobody knew before either, so
// that the entropy, in bits, is
//
//	H(fresh/(fresh+old), old/(fresh+old)) + fresh/(fresh+old)·log2 fresh + old/(fresh+old)·H'
//
// where H' is that of the packet before (Loopix, appendix A.1; Serjantov and Newman 2003 for
// pools). It holds for each rule that treats alike what it holds: for Poisson because an
// exponential delay has no memory, for the others because they choose at random.
type leaving struct {
	h          float64
	fresh, old int
}

// came counts a packet that came.
func (l *leaving) came() { l.fresh++ }

// left gives the entropy of each of the packets that left together; held stayed.
func (l *leaving) left(held int) float64 {
	n := float64(l.fresh + l.old)
	if l.fresh > 0 {
		f, o := float64(l.fresh)/n, float64(l.old)/n
		h := f*math.Log2(float64(l.fresh)) - f*math.Log2(f)
		if l.old > 0 {
			h += o*l.h - o*math.Log2(o)
		}
		l.h = h
	}
	l.fresh, l.old = 0, held
	return l.h
}

// Law of one Poisson mix with λ/μ packets on average: log2(e·λ/μ) bits (Danezis 2004, §2.1).
// It is an approximation, good for 5 and more.
func oneMixLaw(held float64) float64 { return math.Log2(math.E * held) }

// throughLaw is the entropy, in bits, of a packet among all that pass a network at a rate
// (packets a second) with n exponential delays of one mean (seconds) one after the other, where
// every mix mixes with every other: log2(rate) and the differential entropy of the Gamma
// law, n + ln mean + ln (n-1)! + (1-n)ψ(n) nats. No network of this traffic hides more.
func throughLaw(rate, mean float64, n int) float64 {
	lg, _ := math.Lgamma(float64(n))
	psi := -0.57721566490153286 // ψ(n) = -γ + 1 + 1/2 + … + 1/(n-1)
	for i := 1; i < n; i++ {
		psi += 1 / float64(i)
	}
	nats := float64(n) + math.Log(mean) + lg + float64(1-n)*psi
	return max(0, math.Log2(rate)+nats/math.Ln2)
}

// gammaLaw is the chance that n exponential delays of mean 1 are at most x together.
func gammaLaw(n int, x float64) float64 {
	if x <= 0 {
		return 0
	}
	term, sum := 1.0, 1.0
	for i := 1; i < n; i++ {
		term *= x / float64(i)
		sum += term
	}
	return 1 - math.Exp(-x)*sum
}

// bits is the entropy of a distribution, which need not add up to 1.
func bits(p []float64) float64 {
	sum, h := 0.0, 0.0
	for _, v := range p {
		sum += v
	}
	if sum <= 0 {
		return 0
	}
	for _, v := range p {
		if v > 0 {
			v /= sum
			h -= v * math.Log2(v)
		}
	}
	return h
}
