package sim

import (
	"context"
	"fmt"
	"math"

	"postern.email/mixnet/directory"
	"postern.email/mixnet/pool"
)

// Figures of others, drawn with this program's code and, where they are known, their parameters.

// drawLoopixRate is figure 4 of Loopix.
func drawLoopixRate(p *plan) *Figure {
	f := &Figure{Title: "Loopix, figure 4: entropy of one mix", X: Axis{Label: "packets that come in a unit of time, λ"}, Y: Axis{Label: "entropy, bits", To: 18}}
	rates := []float64{100, 200, 300, 400, 500}
	for _, mu := range []float64{200, 20, 2, 0.2, 0.02} {
		p.curve(f, fmt.Sprintf("μ = %v", mu), rates, func(ctx context.Context, x float64, part string) (Point, error) {
			m, err := runOneMix(ctx, pool.Poisson, x/mu, p.e.departures, seed(p.o.Seed, part))
			return at(x, m.Bits), err
		})
	}
	return f
}

// loopix is the network of Loopix, §4.3: 100 users that send 2 packets in a unit of time, 3 mixes in a
// layer. Its providers do not mix, so the relays here are the observer's.
func loopix(layers int, mu float64) Setup {
	return Setup{Users: loopixUsers, Relays: 2, Mixes: 3, Layers: layers, Parameters: clocked(loopixRate, 1/mu), Pool: pool.Default(pool.Poisson), CorruptRelays: true}
}

func (p *plan) likelihoods(f *Figure, xs []float64, of func(x float64) Setup) *Figure {
	p.curve(f, "ε", xs, func(ctx context.Context, x float64, part string) (Point, error) {
		l, err := runLikelihood(ctx, of(x), p.e.likelihood, p.o.Seed, part)
		return between(x, l.Mean, max(0, l.Mean-l.Deviation), l.Mean+l.Deviation), err
	})
	f.Note = fmt.Sprintf("Mean and standard deviation of %d runs, each with 100 users, λ = 2, and two of them with a message every unit of time.", p.e.likelihood)
	return f
}

// drawLoopixDelay is figure 5 of Loopix.
func drawLoopixDelay(p *plan) *Figure {
	return p.likelihoods(&Figure{Title: "Loopix, figure 5: likelihood difference against the delay", X: Axis{Label: "μ: one over the mean delay of a mix", To: 2}, Y: Axis{Label: "likelihood difference ε"}},
		[]float64{0.2, 0.4, 0.6, 0.8, 1, 1.2, 1.4, 1.6, 1.8, 2}, func(x float64) Setup { return loopix(mixLayers, x) })
}

// drawLoopixLayers is figure 6 of Loopix, as far as it is of use here: packets pass 3 layers. More are two
// ways and more, one behind the other.
func drawLoopixLayers(p *plan) *Figure {
	return p.likelihoods(&Figure{Title: "Loopix, figure 6: likelihood difference against the layers", X: Axis{Label: "layers of mixes", To: MaxLayers}, Y: Axis{Label: "likelihood difference ε"}},
		[]float64{1, 2, 3, 4, 6, 9, 12}, func(x float64) Setup { return loopix(int(x), 1) })
}

// drawLoopixCorrupt is figure 7 of Loopix.
func drawLoopixCorrupt(p *plan) *Figure {
	return p.likelihoods(&Figure{Title: "Loopix, figure 7: likelihood difference against corrupt mixes", X: Axis{Label: "corrupt mixes, %", To: 100}, Y: Axis{Label: "likelihood difference ε"}},
		[]float64{0, 20, 40, 60, 80, 100}, func(x float64) Setup {
			s := loopix(mixLayers, 1)
			s.Corrupt = x / 100
			return s
		})
}

// drawNymUsers is what Piotrowska 2021 simulates as Nym: 1 packet a second for each user, a mean delay
// of 0.1 s, and as many mixes as it takes for each to have at most 1,000 packets a second.
func drawNymUsers(p *plan) *Figure {
	f := &Figure{Title: "Piotrowska 2021, Nym: entropy against users", X: Axis{Label: "users", Log: true}, Y: Axis{Label: "entropy over all packets, bits", To: 20},
		Note: "3 layers, at most 1,000 packets a second for a mix, mean delay 0.1 s, each user 1 packet a second. No node is corrupt but the relays, which do not delay there."}
	counts := []float64{100, 300, 1000, 3000, 10_000}
	if p.e.users > 1000 {
		counts = append(counts, 30_000, 100_000)
	}
	p.curve(f, "simulated", counts, func(ctx context.Context, x float64, part string) (Point, error) {
		s := Setup{Users: int(x), Relays: 2, Mixes: int(math.Ceil(x / 1000)), Layers: mixLayers, Pool: pool.Default(pool.Poisson), CorruptRelays: true}
		s.Parameters = directory.Parameters{{Name: directory.Delay, Value: 100}, {Name: directory.DropInterval, Value: 5000}, {Name: directory.LoopInterval, Value: 5000},
			{Name: directory.MaxDelay, Value: 1<<32 - 1}, {Name: directory.PayloadInterval, Value: 1667}}
		effort := p.e.ends
		effort.Runs = 1
		e, err := runEnds(ctx, s, effort, p.o.Seed, part)
		return at(x, e.Packets), err
	})
	f.law("law: Gamma, 3 delays", counts, func(x float64) float64 { return throughLaw(x, 0.1, mixLayers) })
	return f
}
