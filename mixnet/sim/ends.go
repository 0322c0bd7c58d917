package sim

import (
	"context"
	"fmt"
	"math"
	"slices"

	"postern.email/kit/errs"
	"postern.email/mixnet/client"
)

// Ends is what an observer of the whole network makes of a message that came out of it: who
// sent it?
type Ends struct {
	Senders    float64 `json:"senders_bits"`      // entropy over the users, on average
	SendersLow float64 `json:"senders_bits_low"`  // one message in twenty has less
	Packets    float64 `json:"packets_bits"`      // entropy over all packets that were sent
	Guess      float64 `json:"guess"`             // chance that the best guess is right
	Traced     float64 `json:"traced"`            // part of the messages whose sender is certain
	Lost       float64 `json:"lost_before_begin"` // chance that fell before the begin; small, or the run was too short
	Messages   int     `json:"messages"`          // that were looked at
	Truth      float64 `json:"-"`                 // mean chance that the observer gives the true sender
	Expected   float64 `json:"-"`                 // what Truth must be on average if its chances are right
}

// Effort is how much is simulated for one number.
type Effort struct {
	Runs    int // with other nodes corrupt, and other choices
	Targets int // messages of each
}

// window is how far back, in mean delays, the observer's knowledge reaches: four delays together
// are longer once in 300,000.
const window = 20

// maxMoves bounds the memory of a trace to 128 MiB.
const maxMoves = 8 << 20

// certain is from where on a sender counts as found.
const certain = 0.999

// runEnds asks for messages that came out of the network who sent them.
func runEnds(ctx context.Context, s Setup, e Effort, whole uint64, part string) (Ends, error) {
	var sum Ends
	var senders []float64
	for r := range e.Runs {
		if err := oneRun(ctx, s, e.Targets, whole, fmt.Sprintf("%s/run %d", part, r), &sum, &senders); err != nil {
			return Ends{}, err
		}
	}
	if sum.Messages == 0 {
		return Ends{}, errs.E("mixnet/sim.Ends", errs.Invalid, "no message came out of the network: too few users for these clocks", nil)
	}
	n := float64(sum.Messages)
	for _, v := range []*float64{&sum.Senders, &sum.Packets, &sum.Guess, &sum.Traced, &sum.Lost, &sum.Truth, &sum.Expected} {
		*v /= n
	}
	slices.Sort(senders)
	sum.SendersLow = senders[len(senders)/20]
	return sum, nil
}

// oneRun adds one run to the sums.
func oneRun(ctx context.Context, s Setup, targets int, whole uint64, part string, sum *Ends, senders *[]float64) error {
	w, err := newWorld(s, whole, part)
	if err != nil {
		return err
	}
	tr := &trace{most: maxMoves}
	type arrival struct {
		at   int // move
		user int32
	}
	var arrivals []arrival
	mean := s.delay()
	warm := s.settle()
	w.step = func(m move, _ int32, p *parcel) error {
		if m.to == end && w.now > warm && p.slot == client.Payload {
			arrivals = append(arrivals, arrival{len(tr.moves), p.user})
		}
		return tr.add(m)
	}
	// Long enough that those that are looked at are far from each other, and that the pools have had
	// other contents between them.
	payload := float64(s.Users) * s.rate() * 0.6 / 1e9 // in a nanosecond
	span := max(5*mean, int64(4*float64(targets)/payload))
	if err := w.run(ctx, warm+span); err != nil {
		return err
	}
	if len(arrivals) == 0 {
		return nil
	}
	// Evenly over the span: they come at random moments.
	n := min(targets, len(arrivals))
	moves, truth := make([]int, n), make([]int32, n)
	for i := range n {
		a := arrivals[i*len(arrivals)/n]
		moves[i], truth[i] = a.at, a.user
	}
	for i, x := range tr.backwards(moves, len(w.nodes), s.Users, w.mine) {
		h := bits(x.users)
		found, best, square := 1-x.lost, 0.0, 0.0
		for _, v := range x.users {
			best, square = max(best, v/found), square+v*v/found/found
		}
		sum.Senders += h
		sum.Packets += x.packets
		sum.Guess += best
		sum.Lost += x.lost
		sum.Truth += x.users[truth[i]] / found
		sum.Expected += square
		if best > certain {
			sum.Traced++
		}
		sum.Messages++
		*senders = append(*senders, h)
	}
	return nil
}

// hidden is the number of people that so many bits of entropy are worth.
func hidden(bits float64) float64 { return math.Exp2(bits) }
