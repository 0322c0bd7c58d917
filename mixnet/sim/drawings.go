package sim

import (
	"context"
	"fmt"
	"math"
	"time"

	"postern.email/mixnet/client"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/pool"
)

// drawings are the figures. Those that do not reproduce a published one are of the network that was
// asked for, with what is on their axis changed.
var drawings = []struct {
	name string
	draw func(*plan) *Figure
}{
	{"one-mix", drawOneMix},
	{"senders", drawSenders},
	{"packets", drawPackets},
	{"users", drawUsers},
	{"delay", drawDelay},
	{"latency", drawLatency},
	{"acks", drawAcks},
	{"flood", drawFlood},
	{"loss", drawLoss},
	{"bandwidth", drawBandwidth},
	{"overhead", drawOverhead},
	{"mail-time", drawMailTime},
	{"queue", drawQueue},
	{"loopix-rate", drawLoopixRate},
	{"loopix-delay", drawLoopixDelay},
	{"loopix-layers", drawLoopixLayers},
	{"loopix-corrupt", drawLoopixCorrupt},
	{"nym-users", drawNymUsers},
}

func drawOneMix(p *plan) *Figure {
	f := &Figure{Title: "What one mix hides", X: Axis{Label: "packets in the mix, on average (Poisson: λ/μ)", Log: true}, Y: Axis{Label: "entropy of a packet that leaves, bits"},
		Note: "Bounds: one packet in a hundred has less than the lower one. Pools: interval one unit, 60 % and at least 5 stay."}
	ratios := []float64{1, 2, 5, 10, 20, 50, 100, 200, 500}
	p.curve(f, "Poisson", ratios, func(ctx context.Context, x float64, part string) (Point, error) {
		m, err := runOneMix(ctx, pool.Poisson, x, p.e.departures, seed(p.o.Seed, part))
		return between(x, m.Bits, m.Low, m.Bits), err
	})
	for _, a := range []pool.Algorithm{pool.Timed, pool.DynamicPool, pool.BinomialDynamicPool} {
		p.curve(f, string(a), []float64{2, 5, 10, 20, 50, 100, 200, 500}, func(ctx context.Context, x float64, part string) (Point, error) {
			m, err := runOneMix(ctx, a, x, p.e.departures, seed(p.o.Seed, part))
			return between(m.Held, m.Bits, m.Low, m.Bits), err
		})
	}
	f.law("law: log2(e·λ/μ)", ratios, oneMixLaw)
	return f
}

// layerSizes are how many mixes of a layer are compared.
var layerSizes = []int{2, 3, 10}

var corruptParts = []float64{0, 10, 20, 30, 40, 50}

func sizeName(mixes int) string { return fmt.Sprintf("3 × %d mixes", mixes) }

// overCorrupt has a curve for each size of a layer over the part of corrupt mixes, for an observer
// that runs the relays too.
func overCorrupt(p *plan, f *Figure, y func(x float64, e Ends) Point) {
	for _, mixes := range layerSizes {
		p.curve(f, sizeName(mixes), corruptParts, func(ctx context.Context, x float64, part string) (Point, error) {
			s := p.o.Setup
			s.Mixes, s.Corrupt, s.CorruptRelays = mixes, x/100, true
			effort := p.effort(s)
			effort.Runs *= 4 // which mixes are corrupt matters more than anything else
			effort.Targets = max(1, effort.Targets/2)
			e, err := runEnds(ctx, s, effort, p.o.Seed, part)
			return y(x, e), err
		})
	}
}

func drawSenders(p *plan) *Figure {
	f := &Figure{Title: fmt.Sprintf("Who sent it? %d users, all relays against them", p.o.Users), X: Axis{Label: "mixes that the observer runs, %"}, Y: Axis{Label: "entropy over the users, bits"},
		Note: "The observer sees all links, and runs the whole number of mixes that is nearest. Bounds: one message in twenty has less than the lower one."}
	overCorrupt(p, f, func(x float64, e Ends) Point { return between(x, e.Senders, e.SendersLow, e.Senders) })
	f.law("all users alike", []float64{0, 50}, func(float64) float64 { return math.Log2(float64(p.o.Users)) })
	return f
}

func drawPackets(p *plan) *Figure {
	f := &Figure{Title: fmt.Sprintf("Which packet was it? %d users, all relays against them", p.o.Users), X: Axis{Label: "mixes that the observer runs, %"}, Y: Axis{Label: "entropy over all packets, bits"},
		Note: "The observer sees all links, and runs the whole number of mixes that is nearest. The law is that of a network in which every mix mixes with every other, and none is corrupt."}
	overCorrupt(p, f, func(x float64, e Ends) Point { return at(x, e.Packets) })
	law := throughLaw(float64(p.o.Users)*p.o.rate(), p.o.seconds(directory.Delay), p.o.Layers)
	f.law("law: Gamma", []float64{0, 50}, func(float64) float64 { return law })
	return f
}

// profiles are both, by name.
var profiles = []struct {
	name string
	p    func() directory.Parameters
}{{"low", directory.ProfileLow}, {"full", directory.ProfileFull}}

func drawUsers(p *plan) *Figure {
	f := &Figure{Title: "How many people a message hides among", X: Axis{Label: "users", Log: true}, Y: Axis{Label: "people (2 to the entropy)", Log: true},
		Note: "The observer sees all links and runs all relays, and no mix. At most all users."}
	var counts []float64
	for n := 10.0; n <= float64(p.e.users); n *= 10 {
		counts = append(counts, n)
		if n*3 <= float64(p.e.users) {
			counts = append(counts, n*3)
		}
	}
	for _, profile := range profiles {
		for _, mixes := range []int{2, 10} {
			p.curve(f, fmt.Sprintf("%s, 3 × %d mixes", profile.name, mixes), counts, func(ctx context.Context, x float64, part string) (Point, error) {
				s := p.o.Setup
				s.Users, s.Mixes, s.Parameters, s.Corrupt, s.CorruptRelays = int(x), mixes, profile.p(), 0, true
				e, err := runEnds(ctx, s, p.effort(s), p.o.Seed, part)
				return between(x, hidden(e.Senders), hidden(e.SendersLow), hidden(e.Senders)), err
			})
		}
	}
	f.law("all users", counts, func(x float64) float64 { return x })
	return f
}

func drawDelay(p *plan) *Figure {
	f := &Figure{Title: "What a longer delay gives, profile low, 3 × 2 mixes", X: Axis{Label: "mean delay of a mix, seconds", Log: true}, Y: Axis{Label: "people it hides among, % of the users", To: 100},
		Note: "The observer sees all links and runs all relays, and no mix. Bounds: one message in twenty hides among fewer than the lower one."}
	for _, users := range []int{10, 100, 1000} {
		p.curve(f, fmt.Sprintf("%d users", users), []float64{1, 2, 5, 10, 20, 50, 100}, func(ctx context.Context, x float64, part string) (Point, error) {
			s := p.o.Setup
			s.Users, s.Mixes, s.Corrupt, s.CorruptRelays = users, 2, 0, true
			s.Parameters = put(directory.ProfileLow(), directory.Delay, uint64(x*1000))
			e, err := runEnds(ctx, s, p.effort(s), p.o.Seed, part)
			of := 100 / float64(users)
			return between(x, hidden(e.Senders)*of, hidden(e.SendersLow)*of, hidden(e.Senders)*of), err
		})
	}
	return f
}

func drawLatency(p *plan) *Figure {
	f := &Figure{Title: "How long packets take through the nodes", X: Axis{Label: "time, mean delays"}, Y: Axis{Label: "packets that have come, %"}}
	f.Series = make([]Series, 1, 2)
	p.add(func(ctx context.Context) error {
		times, err := runLatency(ctx, p.o.Setup, p.e.latency, p.o.Seed, "latency")
		if err != nil {
			return err
		}
		s := Series{Name: "simulated"}
		for x := 0.0; x <= 12; x += 0.5 {
			s.Points = append(s.Points, at(x, 100*by(times, x)))
		}
		f.Series[0] = s
		hops := 1 + p.o.Layers
		d, limit := kolmogorov(times, func(x float64) float64 { return gammaLaw(hops, x) })
		mean, deviation := moments(times)
		f.Note = fmt.Sprintf("%d packets: mean %.3f mean delays, standard deviation %.3f. Largest distance to the law: %.5f (Kolmogorov and Smirnov: %.5f at one in ten thousand).", len(times), mean, deviation, d, limit)
		return nil
	})
	var xs []float64
	for x := 0.0; x <= 12; x += 0.25 {
		xs = append(xs, x)
	}
	f.law(fmt.Sprintf("law: Gamma, %d delays", 1+p.o.Layers), xs, func(x float64) float64 { return 100 * gammaLaw(1+p.o.Layers, x) })
	return f
}

// kolmogorov gives the largest distance between a sorted sample and a law, and what one sample in
// ten thousand exceeds.
func kolmogorov(sorted []float64, law func(float64) float64) (d, limit float64) {
	n := float64(len(sorted))
	for i, x := range sorted {
		y := law(x)
		d = max(d, y-float64(i)/n, float64(i+1)/n-y)
	}
	return d, 2.225 / math.Sqrt(n)
}

func moments(sample []float64) (mean, deviation float64) {
	n := float64(len(sample))
	for _, x := range sample {
		mean += x / n
	}
	for _, x := range sample {
		deviation += (x - mean) * (x - mean) / n
	}
	return mean, math.Sqrt(deviation)
}

func drawFlood(p *plan) *Figure {
	f := &Figure{Title: "An attack that empties a mix, and when loops show it", X: Axis{Label: "seconds since it began", Log: true, From: 5, To: 2000}, Y: Axis{Label: "of all attacks, %", To: 100},
		Note: fmt.Sprintf("%d users, 3 × %d mixes, %d relays. Shown is when the attacker is done, and when three of the mix's own loops have not come back.", p.o.Users, p.o.Mixes, p.o.Relays)}
	moments := []float64{5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000, 1500, 2000}
	for _, profile := range profiles {
		for _, layer := range []int{1, 3} {
			done, seen := len(f.Series), len(f.Series)+1
			f.Series = append(f.Series, Series{}, Series{})
			if layer == 3 { // the attack takes as long in every layer
				f.Series = f.Series[:seen]
				seen = done
			}
			p.add(func(ctx context.Context) error {
				s := p.o.Setup
				s.Layers, s.Parameters = mixLayers, profile.p()
				// Three loops, and some more time than it takes on average until they are missing.
				watch := min(moments[len(moments)-1], 12*s.seconds(directory.MixLoopInterval)/float64(s.Relays+(layer-1)*s.Mixes)+300)
				list, err := runSieges(ctx, s, layer, p.e.sieges, watch, p.o.Seed, fmt.Sprintf("flood/%s/%d", profile.name, layer))
				if err != nil {
					return err
				}
				var lasted, third []float64
				for _, one := range list {
					lasted, third = append(lasted, one.Lasted), append(third, nth(one.Missed, 3))
				}
				ended, noticed := Series{Name: profile.name + ": done"}, Series{Name: fmt.Sprintf("%s: seen, layer %d", profile.name, layer)}
				for _, x := range moments {
					ended.Points = append(ended.Points, at(x, 100*by(lasted, x)))
					noticed.Points = append(noticed.Points, at(x, 100*by(third, x)))
				}
				f.Series[seen] = noticed
				if done != seen {
					f.Series[done] = ended
				}
				return nil
			})
		}
	}
	return f
}

// nth is the n-th smallest, or infinite.
func nth(values []float64, n int) float64 {
	if len(values) < n {
		return math.Inf(1)
	}
	sorted := append([]float64(nil), values...)
	for i := range n {
		for j := i + 1; j < len(sorted); j++ {
			if sorted[j] < sorted[i] {
				sorted[i], sorted[j] = sorted[j], sorted[i]
			}
		}
	}
	return sorted[n-1]
}

func drawLoss(p *plan) *Figure {
	f := &Figure{Title: "A mix that loses packets: do the loops of one hour show it?", X: Axis{Label: "packets that the mix loses, %", Log: true}, Y: Axis{Label: "chance that it shows, %", To: 100},
		Note: fmt.Sprintf("3 × %d mixes, %d relays, a mix of layer 2. It shows if more loops are missing than a network that loses 1 %% shows in one hour of ten thousand.", p.o.Mixes, p.o.Relays)}
	const layer = 2
	losses := []float64{1, 2, 3, 5, 7, 10, 15, 20, 30, 50}
	for _, profile := range profiles {
		s := p.o.Setup
		s.Users, s.Layers, s.Parameters = 1, mixLayers, profile.p()
		runs := p.e.losses
		if profile.name == "low" { // ten times fewer loops
			runs *= 5
		}
		p.curve(f, profile.name, losses, func(ctx context.Context, x float64, part string) (Point, error) {
			y, err := runLosses(ctx, s, layer, int(x*100), runs, p.o.Seed, part)
			return at(x, 100*y), err
		})
		loops := s.loopsThrough(layer, s.seconds(directory.MixLoopInterval))
		f.law(fmt.Sprintf("law: %s, %.0f loops", profile.name, loops), losses, func(x float64) float64 { return 100 * noticeLaw(loops, x/100) })
	}
	return f
}

func drawBandwidth(p *plan) *Figure {
	f := &Figure{Title: "What users and mixes carry, whatever is sent", X: Axis{Label: "users", Log: true}, Y: Axis{Label: "megabytes a day, in one direction", Log: true},
		Note: fmt.Sprintf("3 × %d mixes; a unit is %d bytes on the wire.", p.o.Mixes, wire)}
	counts := []float64{10, 30, 100, 300}
	if p.e.users > 1000 {
		counts = append(counts, 1000)
	}
	var lawCounts []float64
	for n := 10.0; n <= 10_000; n *= 10 {
		lawCounts = append(lawCounts, n)
	}
	for _, profile := range profiles {
		user, mix := len(f.Series), len(f.Series)+1
		f.Series = append(f.Series, Series{Name: profile.name + ": a user", Points: make([]Point, len(counts))}, Series{Name: profile.name + ": a mix", Points: make([]Point, len(counts))})
		for i, x := range counts {
			p.add(func(ctx context.Context) error {
				s := p.o.Setup
				s.Users, s.Layers, s.Parameters = int(x), mixLayers, profile.p()
				l, err := runLoad(ctx, s, max(20, int64(10_000/x)), p.o.Seed, fmt.Sprintf("bandwidth/%s/%v", profile.name, x))
				f.Series[user].Points[i], f.Series[mix].Points[i] = at(x, l.User/1e6), at(x, l.Mix/1e6)
				return err
			})
		}
		each := userLaw(profile.p()) / 1e6
		f.law("law: "+profile.name+", a mix", lawCounts, func(x float64) float64 { return each * x / float64(p.o.Mixes) })
	}
	return f
}

func drawOverhead(p *plan) *Figure {
	f := &Figure{Title: "What is sent for each byte of mail", X: Axis{Label: "mails a day, 10 KB each", Log: true}, Y: Axis{Label: "bytes on the wire for a byte of mail", Log: true},
		Note: "A curve ends where the payload clock leaves no more room."}
	for _, profile := range profiles {
		params := profile.p()
		room := float64(day.Milliseconds()) / float64(params.Get(directory.PayloadInterval)) / float64(takes(mailBytes))
		var xs []float64
		for _, x := range []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000} {
			if x <= room {
				xs = append(xs, x)
			}
		}
		f.law(profile.name, append(xs, math.Floor(room)), func(x float64) float64 { return userLaw(params) / (x * mailBytes) })
	}
	return f
}

// mailBytes is a mail of one packet.
const mailBytes = 10_000

func drawMailTime(p *plan) *Figure {
	f := &Figure{Title: "How long a mail takes", X: Axis{Label: "kilobytes of the mail", Log: true}, Y: Axis{Label: "minutes until all of it is there", Log: true},
		Note: "Nothing else waits. Points: half of the mails are there; bounds: 5 and 95 of 100. Law: what the client forecasts as the mean."}
	sizes := []float64{2, 10, 50, 200, 1000, 5000}
	for _, profile := range profiles {
		s := p.o.Setup
		s.Layers, s.Parameters = mixLayers, put(profile.p(), directory.Delay, p.o.Parameters.Get(directory.Delay))
		p.curve(f, profile.name, sizes, func(ctx context.Context, x float64, part string) (Point, error) {
			packets := takes(int(x * 1000))
			times, err := runMail(ctx, s, packets, max(20, p.e.mails/(1+packets/20)), p.o.Seed, part)
			if err != nil {
				return Point{}, err
			}
			minutes := func(q float64) float64 { return times[int(q*float64(len(times)-1))] / 60 }
			return between(x, minutes(0.5), minutes(0.05), minutes(0.95)), nil
		})
		f.law("law: "+profile.name, sizes, func(x float64) float64 {
			return client.Expect(s.Parameters, takes(int(x*1000)), client.DelayedHops).Mean.Minutes()
		})
	}
	return f
}

func drawQueue(p *plan) *Figure {
	f := &Figure{Title: "How long mails wait for each other before they leave", X: Axis{Label: "mails of one packet a day", Log: true}, Y: Axis{Label: "minutes, on average", Log: true},
		Note: "Handed in at random. Law: 1/(λ_P - mails), the queue M/M/1."}
	for _, profile := range profiles {
		s := p.o.Setup
		s.Layers, s.Parameters = mixLayers, profile.p()
		perDay := float64(day) / float64(time.Duration(s.Parameters.Get(directory.PayloadInterval))*time.Millisecond)
		var xs []float64
		for _, part := range []float64{0.02, 0.1, 0.3, 0.5, 0.7, 0.9} {
			xs = append(xs, math.Round(part*perDay))
		}
		p.curve(f, profile.name, xs, func(ctx context.Context, x float64, part string) (Point, error) {
			// As many slots for each point: where mail is rare, most of them pass.
			mails := max(20, int(float64(p.e.waits)*x/perDay))
			wait, err := runWait(ctx, s, x, mails, p.o.Seed, part)
			return at(x, wait/60), err
		})
		f.law("law: "+profile.name, xs, func(x float64) float64 { return 24 * 60 / (perDay - x) })
	}
	return f
}
