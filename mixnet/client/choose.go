package client

import (
	"io"
	"math"
	"math/rand/v2"
	"time"

	"postern.email/kit/errs"
)

// Chooser gives numbers from 0 to less than 1, each equally likely. *rand.Rand is one. A
// client that sends real packets takes one of NewChooser.
type Chooser interface {
	Float64() float64
}

// NewChooser gives a Chooser that nobody can predict who does not know the 32 bytes that it
// takes from random. It must not be used by several goroutines at once.
func NewChooser(random io.Reader) (*rand.Rand, error) {
	var seed [32]byte
	if _, err := io.ReadFull(random, seed[:]); err != nil {
		return nil, errs.E("mixnet/client.NewChooser", errs.Internal, "", err)
	}
	return rand.New(rand.NewChaCha8(seed)), nil
}

// CutMeans is where delays are cut, in means: of 10¹² delays one would be longer. A cut near
// the mean would take from the distribution that it has no memory.
const CutMeans = 27.63

// interval draws from the exponential distribution.
func interval(r Chooser, mean time.Duration) time.Duration {
	return time.Duration(-math.Log1p(-r.Float64()) * float64(mean))
}

// Delay draws how long a hop shall keep a packet: exponentially distributed, in whole
// milliseconds, on the condition that it is not longer than CutMeans means nor than limit.
func Delay(r Chooser, mean, limit time.Duration) time.Duration {
	m := float64(mean)
	most := min(CutMeans, float64(limit)/m)
	// The inverse of the distribution function, up to its value at the cut.
	x := -math.Log1p(r.Float64()*math.Expm1(-most)) * m
	return min(time.Duration(x), limit).Truncate(time.Millisecond)
}
