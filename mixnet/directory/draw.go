package directory

import (
	"math"
	"time"
)

// CutMeans is where delays are cut, in means: of 10¹² delays one would be longer. A cut near
// the mean would take from the distribution that it has no memory.
const CutMeans = 27.63

// DrawInterval gives the time of an exponential distribution with that mean which belongs to
// a number u from 0 to less than 1 that was drawn: the parameters that end in -interval are
// such means. It is not longer than a Duration can say.
func DrawInterval(u float64, mean time.Duration) time.Duration {
	if x := -math.Log1p(-u) * float64(mean); x < math.MaxInt64 {
		return time.Duration(x)
	}
	return math.MaxInt64
}

// DrawDelay gives how long a hop shall keep a packet, for a number u from 0 to less than 1 that
// was drawn: exponentially distributed with that mean, in whole milliseconds, on the condition
// that it is not longer than CutMeans means nor than limit. Everybody who builds packets
// draws delays here, so that those of loops, answers and mail are alike.
func DrawDelay(u float64, mean, limit time.Duration) time.Duration {
	m := float64(mean)
	most := min(CutMeans, float64(limit)/m)
	// The inverse of the distribution function, up to its value at the cut.
	x := -math.Log1p(u*math.Expm1(-most)) * m
	return min(time.Duration(x), limit).Truncate(time.Millisecond)
}
