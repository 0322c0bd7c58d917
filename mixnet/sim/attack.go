package sim

import (
	"context"
	"fmt"
	"math"
	"slices"

	"postern.email/mixnet/client"
)

// An (n-1) attack follows one packet through a mix: the attacker keeps all others out, waits until the
// mix is empty, lets the packet in, and sees where the only one that leaves goes. Meanwhile
// the loops that should come to the mix do not.

// siege is what became of one such attack on one mix.
type siege struct {
	Lasted float64   // seconds, from the first packet that is kept out until the target leaves
	Missed []float64 // when the mix itself misses the loops of its own that were kept out, in seconds from the begin
}

// runSieges attacks a mix of a layer several times, each time in a network that has run for long
// enough. Times are those within limit seconds.
func runSieges(ctx context.Context, s Setup, layer, runs int, limit float64, whole uint64, part string) ([]siege, error) {
	list := make([]siege, 0, runs)
	for r := range runs {
		one, err := runSiege(ctx, s, layer, limit, whole, fmt.Sprintf("%s/run %d", part, r))
		if err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	return list, nil
}

func runSiege(ctx context.Context, s Setup, layer int, limit float64, whole uint64, part string) (siege, error) {
	w, err := newWorld(s, whole, part)
	if err == nil {
		err = w.addProbes()
	}
	if err != nil {
		return siege{}, err
	}
	begin := s.settle()
	mix := int32(s.Relays + (layer-1)*s.Mixes)
	var out siege
	inside, done := false, int64(0) // the target
	w.back = func(*parcel) {}
	w.admit = func(p *parcel, node int32) bool {
		if node != mix || w.now < begin {
			return true
		}
		if done == 0 && !inside && w.nodes[mix].Len() == 0 && p.user != end && p.slot == client.Payload {
			// The attacker held the target back until the mix was empty. It cannot know what is mail and
			// what is cover; that the next one is the target is in its favour.
			inside, p.marked = true, true
			return true
		}
		if p.user == end && p.probe == mix && p.i == p.n {
			// A mix knows the delays of its own loops, and so when each must be back.
			out.Missed = append(out.Missed, float64(p.born+p.stay()-begin)/1e9)
		}
		return false
	}
	w.step = func(m move, _ int32, p *parcel) error {
		if inside && m.from == mix && p.marked {
			inside, done = false, w.now
		}
		return nil
	}
	for until := begin; done == 0 || until < begin+int64(limit*1e9); {
		until += s.delay()
		if err := w.run(ctx, until); err != nil {
			return siege{}, err
		}
	}
	out.Lasted = float64(done-begin) / 1e9
	return out, nil
}

// by is the part of values that are at most x.
func by(values []float64, x float64) float64 {
	n := 0
	for _, v := range values {
		if v <= x {
			n++
		}
	}
	return float64(n) / float64(len(values))
}

// usual is the part of loops that a sound network loses, and falseAlarm how seldom an hour of a sound
// network may look like an attack: one in ten thousand.
const (
	usual      = 0.01
	falseAlarm = 1e-4
)

// suspicious is how many of so many loops must be missing for the observation to be one that a sound
// network shows less often than falseAlarm.
func suspicious(sent int) int {
	tail := 1.0 // chance of k and more
	p := math.Pow(1-usual, float64(sent))
	for k := 0; k <= sent; k++ {
		if tail < falseAlarm {
			return k
		}
		tail -= p
		p *= float64(sent-k) / float64(k+1) * usual / (1 - usual)
	}
	return sent + 1
}

// noticeLaw is the chance that a mix which loses a part of all packets is noticed when on average
// so many loops have been sent through it.
func noticeLaw(loops, part float64) float64 {
	// How many were sent is Poisson: summed over ten deviations around its mean.
	chance := 0.0
	lo, hi := int(max(0, loops-10*math.Sqrt(loops)-10)), int(loops+10*math.Sqrt(loops)+10)
	for n := lo; n <= hi; n++ {
		lg, _ := math.Lgamma(float64(n + 1))
		chance += math.Exp(float64(n)*math.Log(loops)-loops-lg) * binomialTail(n, suspicious(n), part)
	}
	return min(1, chance)
}

// binomialTail is the chance of at least k of n.
func binomialTail(n, k int, p float64) float64 {
	if k <= 0 {
		return 1
	}
	if p <= 0 || k > n {
		return 0
	}
	if p >= 1 {
		return 1
	}
	ln, _ := math.Lgamma(float64(n + 1))
	sum := 0.0
	for i := n; i >= k; i-- {
		li, _ := math.Lgamma(float64(i + 1))
		lr, _ := math.Lgamma(float64(n - i + 1))
		sum += math.Exp(ln - li - lr + float64(i)*math.Log(p) + float64(n-i)*math.Log1p(-p))
	}
	return min(1, sum)
}

// loopsThrough is how many loops of all nodes pass a mix of a layer in an hour, on average.
func (s *Setup) loopsThrough(layer int, interval float64) float64 {
	relays := float64(s.Relays) * float64(mixLayers*s.Mixes) / float64(s.Mixes)
	for above := layer + 1; above <= mixLayers; above++ {
		relays += float64(s.Relays + (above-1)*s.Mixes) // of all mixes of that layer together, one in Mixes of them
	}
	return relays / interval * 3600
}

// runLosses has one mix lose a part, in ten thousandths, of what comes in, and tells in how many of the
// runs the loops of one hour show it.
func runLosses(ctx context.Context, s Setup, layer, tenThousandths, runs int, whole uint64, part string) (float64, error) {
	noticed := 0
	for r := range runs {
		w, err := newWorld(s, whole, fmt.Sprintf("%s/run %d", part, r))
		if err == nil {
			err = w.addProbes()
		}
		if err != nil {
			return 0, err
		}
		mix := int32(s.Relays + (layer-1)*s.Mixes)
		sent, lost := 0, 0
		const hour = 3600 * 1e9
		through := func(p *parcel) bool {
			return slices.ContainsFunc(p.stops[:p.n], func(s stop) bool { return s.node == mix })
		}
		w.admit = func(p *parcel, node int32) bool {
			if p.user != end || p.born > hour {
				return true
			}
			if p.i == 0 && through(p) {
				sent++
			}
			if node == mix && p.i < p.n && w.rng.IntN(10_000) < tenThousandths {
				lost++
				return false
			}
			return true
		}
		w.back = func(*parcel) {}
		if err := w.run(ctx, hour+s.settle()); err != nil {
			return 0, err
		}
		if lost >= suspicious(sent) {
			noticed++
		}
	}
	return float64(noticed) / float64(runs), nil
}
