package client

import (
	"time"

	"postern.email/mixnet/directory"
)

// Slot is the sort of a moment at which a packet leaves.
type Slot uint8

// Slots. In each a packet leaves, whatever waits: only what is in it differs.
const (
	Payload Slot = iota // mail if some waits, else a drop (λ_P)
	Loop                // a packet to oneself (λ_L)
	Cover               // a drop (λ_D)
	slots
)

// Load is what a packet is made of.
type Load uint8

// Loads of packets.
const (
	Mail Load = iota + 1
	Round
	Nothing
)

// Load says what leaves in a slot. That something leaves does not depend on waiting.
func (s Slot) Load(waiting bool) Load {
	switch {
	case s == Loop:
		return Round
	case s == Payload && waiting:
		return Mail
	}
	return Nothing
}

// Tick is a moment at which a packet leaves.
type Tick struct {
	At   time.Time
	Slot Slot
}

// Clocks are the three clocks of a client. Each ticks after times from an exponential
// distribution, whatever there is to send. They are not for several goroutines.
type Clocks struct {
	r    Chooser
	mean [slots]time.Duration
	next [slots]time.Time
}

// NewClocks makes clocks that begin now, with the means of a network.
func NewClocks(p directory.Parameters, now time.Time, r Chooser) *Clocks {
	c := &Clocks{r: r}
	c.Set(p, now)
	return c
}

// means are the means of the clocks.
func means(p directory.Parameters) (m [slots]time.Duration) {
	for s, name := range [slots]string{Payload: directory.PayloadInterval, Loop: directory.LoopInterval, Cover: directory.DropInterval} {
		m[s] = time.Duration(p.Get(name)) * time.Millisecond
	}
	return m
}

// Set takes the means of another consensus. A clock whose mean has changed begins anew,
// which nobody can notice: what it has waited for so far tells nothing about what is to come.
func (c *Clocks) Set(p directory.Parameters, now time.Time) {
	for s, mean := range means(p) {
		if mean != c.mean[s] {
			c.mean[s] = mean
			c.next[s] = now.Add(interval(c.r, mean))
		}
	}
}

// Peek gives the next tick.
func (c *Clocks) Peek() Tick {
	first := Payload
	for s := Loop; s < slots; s++ {
		if c.next[s].Before(c.next[first]) {
			first = s
		}
	}
	return Tick{At: c.next[first], Slot: first}
}

// Next gives the next tick, and goes on to the one after it.
func (c *Clocks) Next() Tick {
	t := c.Peek()
	c.next[t.Slot] = t.At.Add(interval(c.r, c.mean[t.Slot]))
	return t
}

// Skip passes over all ticks before a time, as after a pause of the whole machine: what was
// missed is not made up for.
func (c *Clocks) Skip(now time.Time) {
	for s := range c.next {
		if c.next[s].Before(now) {
			c.next[s] = now.Add(interval(c.r, c.mean[s]))
		}
	}
}

// Rate is how many packets leave in a time, on average.
func Rate(p directory.Parameters, in time.Duration) float64 {
	sum := 0.0
	for _, m := range means(p) {
		sum += float64(in) / float64(m)
	}
	return sum
}
