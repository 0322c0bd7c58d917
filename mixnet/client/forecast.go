package client

import (
	"math"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
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

// ExpectFor tells how long a message of some packets takes that is queued now, with the messages
// that wait already. Messages take turns: of each of them as many packets leave meanwhile as
// the new one has, or fewer.
func (c *Client) ExpectFor(packets int) Forecast {
	return Expect(c.o.Parameters(), packets+c.meanwhile(packets), DelayedHops)
}

// meanwhile is how many packets of the messages that wait leave in so many turns.
func (c *Client) meanwhile(turns int) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, left := range c.left {
		n += min(left, turns)
	}
	return n
}

// Messages are those of the Store, with when the rest of each that waits can be expected, or why it
// cannot be sent now.
func (c *Client) Messages() ([]Progress, error) {
	list, err := c.o.Store.List()
	if err != nil {
		return nil, errs.Wrap("mixnet/client.Messages", err)
	}
	c.mu.Lock()
	why := c.why
	c.mu.Unlock()
	for i := range list {
		if p := &list[i]; p.Result == "" {
			p.Why = why[p.Name]
			left := p.Packets - p.Sent
			p.Expect = Expect(c.o.Parameters(), max(left, c.meanwhile(left)), DelayedHops) // it is among those that wait itself
		}
	}
	return list, nil
}

// sizeShare is the part of the payload clock that one large mail may take: the rest is for what
// gets lost and is sent again, and for other mail.
const sizeShare = 0.6

// MaxBytes is how large a mail may be for the payload clock to carry it in a time, beside other
// mail: what a program that sends for its user says it takes. It is rounded down to two digits,
// as a number for people, and never more than a letter may hold.
func MaxBytes(p directory.Parameters, in time.Duration) int64 {
	packets := float64(in) / float64(p.Get(directory.PayloadInterval)) / float64(time.Millisecond)
	n := int64(min(sizeShare*packets*float64(letter.PartLen(letter.RoomACK)), letter.MaxContent))
	unit := int64(1)
	for n/unit >= 100 {
		unit *= 10
	}
	return n / unit * unit
}

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
