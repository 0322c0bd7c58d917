package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/client"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/pool"
)

var update = flag.Bool("update", false, "write the golden report anew")

func setup(users, mixes int, p directory.Parameters) Setup {
	return Setup{Users: users, Relays: 2, Mixes: mixes, Layers: mixLayers, Parameters: p, Pool: pool.Default(pool.Poisson)}
}

func near(t *testing.T, what string, got, want, within float64) {
	t.Helper()
	if !(math.Abs(got-want) <= within) {
		t.Errorf("%s: %.4f, want %.4f ± %.4f", what, got, want, within)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestOneMix: one Poisson mix hides log2(e·λ/μ) bits, within 0.05, from λ/μ = 5 on; it holds λ/μ
// packets for one mean delay.
func TestOneMix(t *testing.T) {
	for _, ratio := range []float64{5, 10, 20, 50, 100} {
		m, err := runOneMix(t.Context(), pool.Poisson, ratio, 25_000, seed(3, "one mix"))
		must(t, err)
		near(t, "entropy", m.Bits, oneMixLaw(ratio), 0.05)
		near(t, "held", m.Held/ratio, 1, 0.05)
		near(t, "stay", m.Stay, 1, 0.05)
		if m.Low >= m.Bits {
			t.Errorf("one in a hundred has %.2f bits, and all have %.2f", m.Low, m.Bits)
		}
	}
}

// TestPools: a timed mix hides a packet among those of its round, whose number is one more than Poisson
// for a packet that is in it; the pools keep at least five, and by Little's law hold what comes
// in the mean stay. None of them hides more than a Poisson mix that holds as many (Danezis 2004).
func TestPools(t *testing.T) {
	const rate = 20
	m, err := runOneMix(t.Context(), pool.Timed, rate, 40_000, seed(3, "timed"))
	must(t, err)
	want := 0.0
	for k := range 100 {
		lg, _ := math.Lgamma(float64(k + 1))
		want += math.Exp(float64(k)*math.Log(rate)-rate-lg) * math.Log2(float64(k+1))
	}
	near(t, "timed", m.Bits, want, 0.02)
	near(t, "timed: held", m.Held, rate/2, 0.3)
	for _, a := range []pool.Algorithm{pool.Timed, pool.DynamicPool, pool.BinomialDynamicPool} {
		m, err := runOneMix(t.Context(), a, rate, 40_000, seed(3, string(a)))
		must(t, err)
		near(t, string(a)+": Little's law", m.Held/(rate*m.Stay), 1, 0.03)
		if m.Bits > oneMixLaw(m.Held)+0.05 {
			t.Errorf("%s hides %.2f bits with %.1f packets, more than the law", a, m.Bits, m.Held)
		}
	}
}

// TestBackwardsByHand: two packets meet in a node, one leaves and a third comes. Of the two that leave
// after that, an observer can say exactly this much.
func TestBackwardsByHand(t *testing.T) {
	none := func(int32) bool { return false }
	a, b, c := ^int32(0), ^int32(1), ^int32(2)
	tr := &trace{most: 100, moves: []move{
		{a, 0, 1, 0}, {b, 0, 2, 1}, {0, end, 0, 0}, // a and b come, one leaves
		{c, 0, 2, 2}, {0, end, 0, 1}, {0, end, 0, 2},
	}}
	for at, want := range map[int][]float64{2: {.5, .5, 0}, 4: {.25, .25, .5}, 5: {.25, .25, .5}} {
		got := tr.backwards([]int{at}, 1, 3, none)[0]
		for i := range want {
			near(t, "chance", got.users[i], want[i], 1e-12)
		}
		near(t, "bits", got.packets, bits(want), 1e-12)
		near(t, "lost", got.lost, 0, 1e-12)
	}
	// Who runs the node knows who it was.
	got := tr.backwards([]int{2, 4, 5}, 1, 3, func(int32) bool { return true })
	for i, g := range got {
		near(t, "chance", g.users[i], 1, 0)
		near(t, "bits", g.packets, 0, 0)
	}
	// What came before the trace began is lost.
	short := &trace{most: 100, moves: tr.moves[1:]}
	near(t, "lost", short.backwards([]int{1}, 1, 3, none)[0].lost, 0.5, 1e-12)
}

// TestBackwardsIsLeaving: through one mix, the way back over the trace and the incremental formula of Loopix
// give the same entropy for each packet, with every rule.
func TestBackwardsIsLeaving(t *testing.T) {
	for _, a := range []pool.Algorithm{pool.Poisson, pool.Timed, pool.DynamicPool, pool.BinomialDynamicPool} {
		s := setup(30, 1, directory.ProfileLow())
		s.Layers, s.CorruptRelays = 1, true
		s.Pool = pool.Default(a)
		s.Pool.Interval = time.Minute
		w, err := newWorld(s, 5, string(a))
		must(t, err)
		tr := &trace{most: 1 << 16}
		var l leaving
		var want []float64
		var targets []int
		together, last := 0, int64(-1)
		w.step = func(m move, held int32, _ *parcel) error {
			if m.to >= 2 {
				l.came()
			}
			if m.from >= 2 {
				// Those that leave at one moment leave one behind the other here, and the formula is
				// asked once for a round: the first of them tells it.
				if (w.now != last || a == pool.Poisson) && len(targets) < 100 {
					together, last = len(w.out), w.now
					want = append(want, l.left(int(held)-together))
					targets = append(targets, len(tr.moves))
				}
			}
			return tr.add(m)
		}
		must(t, w.run(t.Context(), int64(100*time.Minute)))
		if len(targets) < 60 {
			t.Fatalf("%s: only %d", a, len(targets))
		}
		for i, got := range tr.backwards(targets, len(w.nodes), s.Users, w.mine) {
			near(t, string(a), got.packets, want[i], 1e-9)
		}
	}
}

// TestCalibrated: what the observer's chances say is true. Where it gives chances p to the users, it
// gives the true sender p too, so that on average the true one has the mean of the sum of p²,
// with honest nodes, corrupt ones, and pools.
func TestCalibrated(t *testing.T) {
	for _, c := range []struct {
		corrupt float64
		a       pool.Algorithm
	}{{0, pool.Poisson}, {0.3, pool.Poisson}, {0.5, pool.Poisson}, {0.3, pool.BinomialDynamicPool}} {
		s := setup(20, 3, directory.ProfileLow())
		s.Corrupt, s.CorruptRelays = c.corrupt, true
		s.Pool = pool.Default(c.a)
		s.Pool.Interval, s.Pool.MinSize = 20*time.Second, 1
		e, err := runEnds(t.Context(), s, Effort{6, 100}, 7, "calibrated")
		must(t, err)
		if e.Messages != 600 || e.Lost > 1e-4 {
			t.Errorf("%d messages, %v lost", e.Messages, e.Lost)
		}
		near(t, "truth", e.Truth, e.Expected, 0.04)
		if e.Guess < e.Expected || e.Guess < 1.0/20 {
			t.Errorf("the best guess has %.3f, the true one %.3f", e.Guess, e.Expected)
		}
	}
}

// TestEndsLaws: with one mix a layer every mix mixes with every other, and a packet hides among all as
// the Gamma law says; an observer that runs everything traces everything; one that runs nothing
// but sees all leaves more to the users the more nodes are honest.
func TestEndsLaws(t *testing.T) {
	s := setup(100, 1, directory.ProfileLow())
	s.CorruptRelays = true
	one, err := runEnds(t.Context(), s, Effort{3, 100}, 1, "one")
	must(t, err)
	near(t, "packets", one.Packets, throughLaw(100*s.rate(), 20, 3), 0.06)
	s.CorruptRelays = false
	honest, err := runEnds(t.Context(), s, Effort{3, 100}, 1, "honest")
	must(t, err)
	if honest.Senders <= one.Senders || honest.Senders > math.Log2(100) {
		t.Errorf("honest relays: %.3f bits, corrupt ones %.3f", honest.Senders, one.Senders)
	}
	s.Mixes, s.Corrupt, s.CorruptRelays = 2, 0.5, true
	half, err := runEnds(t.Context(), s, Effort{6, 50}, 1, "half")
	must(t, err)
	if half.Senders >= one.Senders {
		t.Errorf("half of the mixes corrupt: %.3f bits, none %.3f", half.Senders, one.Senders)
	}
	s.Corrupt = 1
	all, err := runEnds(t.Context(), s, Effort{1, 50}, 1, "all")
	must(t, err)
	if all.Traced != 1 || all.Senders != 0 || all.Guess != 1 || all.Truth != 1 {
		t.Errorf("everything is corrupt: %+v", all)
	}
}

// TestThroughLaw: the entropy law is that of the exponential distribution for one delay, and grows by a bit
// where there is twice the traffic.
func TestThroughLaw(t *testing.T) {
	near(t, "one delay", throughLaw(5, 20, 1), oneMixLaw(100), 1e-9)
	near(t, "twice the traffic", throughLaw(10, 20, 3)-throughLaw(5, 20, 3), 1, 1e-9)
	near(t, "none", throughLaw(0.001, 1, 3), 0, 0)
	near(t, "the law of four delays", gammaLaw(4, 7.7537), 0.95, 1e-4)
	near(t, "the law of one", gammaLaw(1, 1), 1-1/math.E, 1e-12)
}

// TestLabels: labels go forward without loss: what two senders sent is, in all, in the mixes or has
// left; with all nodes the observer's each packet keeps its label.
func TestLabels(t *testing.T) {
	for _, all := range []bool{false, true} {
		s := setup(10, 2, directory.ProfileLow())
		s.CorruptRelays = all
		if all {
			s.Corrupt = 1
		}
		w, err := newWorld(s, 2, "labels")
		must(t, err)
		l := newLabels(len(w.nodes), w.mine)
		w.mail = func(user int32) bool { return user < 2 }
		var sent, came [2]float64
		var truth [2]float64
		w.step = func(m move, held int32, p *parcel) error {
			label := -1
			if p.load == client.Mail {
				label = int(p.user)
			}
			before := *l
			if m.to == end && label >= 0 {
				truth[label]++
			}
			if m.to == end {
				if before.mine(m.from) {
					for i := range came {
						came[i] += l.named[m.slot][i]
					}
				} else {
					for i := range came {
						came[i] += l.pool[m.from][i] / float64(held)
					}
				}
			}
			if m.from < 0 && label >= 0 {
				sent[label]++
			} else if m.from >= 0 {
				label = -1
			}
			l.move(m, held, label)
			return nil
		}
		must(t, w.run(t.Context(), int64(4*time.Hour)))
		for i := range sent {
			inside := 0.0
			for _, p := range l.pool {
				inside += p[i]
			}
			for _, p := range l.named {
				inside += p[i]
			}
			if sent[i] < 50 {
				t.Fatal("nothing was sent")
			}
			near(t, "labels", came[i]+inside, sent[i], 1e-6)
			if all {
				near(t, "those that came", came[i], truth[i], 0)
			}
		}
	}
}

// TestLikelihood: two senders can be told apart less with longer delays, and more with fewer layers and
// with corrupt mixes (Loopix, figures 5, 6 and 7).
func TestLikelihood(t *testing.T) {
	of := func(s Setup) float64 {
		s.Users = 20 // quicker, and as true
		l, err := runLikelihood(t.Context(), s, 3, 1, "likelihood")
		must(t, err)
		if l.Samples == 0 {
			t.Fatal("no samples")
		}
		return l.Mean
	}
	usual := of(loopix(3, 0.5))
	if fast := of(loopix(3, 2)); fast <= usual {
		t.Errorf("ε is %.3f with short delays, %.3f with long ones", fast, usual)
	}
	if thin := of(loopix(1, 0.5)); thin <= usual {
		t.Errorf("ε is %.3f with one layer, %.3f with three", thin, usual)
	}
	bad := loopix(3, 0.5)
	bad.Corrupt = 1
	if e := of(bad); e <= usual || e > mostLikely {
		t.Errorf("ε is %.3f with corrupt mixes, %.3f without", e, usual)
	}
}

// TestAcks: acknowledgements alone tell two relays that work together most senders of a small network, and
// what they tell is true; loops that ask too hide them.
func TestAcks(t *testing.T) {
	s := setup(40, 2, directory.ProfileLow())
	few, err := runAcks(t.Context(), s, 30, false, 150, 1, "few")
	must(t, err)
	if few.Messages < 100 {
		t.Fatal(few.Messages)
	}
	near(t, "truth", few.Truth, few.Expected, 0.06)
	if few.Guess < 0.6 {
		t.Errorf("the best guess is right in %.2f of cases", few.Guess)
	}
	many, err := runAcks(t.Context(), s, 30, true, 30, 1, "many")
	must(t, err)
	if many.Senders < few.Senders+2 {
		t.Errorf("%.2f bits if loops ask too, %.2f if not", many.Senders, few.Senders)
	}
	_, err = runAcks(t.Context(), setup(2000, 2, directory.ProfileLow()), 100, true, 30, 1, "full")
	if errs.KindOf(err) != errs.Full {
		t.Errorf("more acknowledgements than there is memory for: %v", err)
	}
}

// TestLatency: packets take as long as the Gamma law of four delays says (Kolmogorov and Smirnov, one in
// ten thousand).
func TestLatency(t *testing.T) {
	times, err := runLatency(t.Context(), setup(100, 3, directory.ProfileFull()), 7_000, 1, "latency")
	must(t, err)
	if len(times) < 6000 || !slices.IsSorted(times) {
		t.Fatal(len(times))
	}
	d, limit := kolmogorov(times, func(x float64) float64 { return gammaLaw(client.DelayedHops, x) })
	if d > limit {
		t.Errorf("distance %.5f, limit %.5f", d, limit)
	}
	if d, limit := kolmogorov(times, func(x float64) float64 { return gammaLaw(client.DelayedHops, x*1.05) }); d < limit {
		t.Errorf("delays that are 5 %% longer would not be noticed: %.5f, limit %.5f", d, limit)
	}
}

// TestFlood: an attack lasts until the mix is empty (the sum of 1/k means for k packets, which is ln n +
// 0.58), the next packet comes, and it has left; the mix misses its third loop as soon as its clock
// says.
func TestFlood(t *testing.T) {
	s := setup(60, 2, directory.ProfileLow())
	list, err := runSieges(t.Context(), s, 3, 40, 600, 1, "flood")
	must(t, err)
	held := s.perMix() * 20
	want := 20*(math.Log(held)+0.577+1) + 1/(s.perMix()*0.6)
	lasted, missed := 0.0, 0.0
	for _, one := range list {
		lasted += one.Lasted / float64(len(list))
		missed += nth(one.Missed, 3) / float64(len(list))
	}
	near(t, "seconds", lasted, want, 0.15*want)
	// A mix of layer 3 measures 2 relays and 4 mixes, each once in 300 s; loops that were under way
	// when it began are missed from the begin.
	near(t, "third loop", missed, 3*300/6.0, 0.2*3*300/6.0)
}

// TestLosses: the chance that loops show a loss is what the binomial law says, and a sound network is
// accused seldom enough.
func TestLosses(t *testing.T) {
	s := setup(1, 2, directory.ProfileLow())
	loops := s.loopsThrough(2, 300)
	for _, part := range []int{300, 700} {
		got, err := runLosses(t.Context(), s, 2, part, 60, 1, "losses")
		must(t, err)
		near(t, "noticed", got, noticeLaw(loops, float64(part)/1e4), 0.2)
	}
	for _, sent := range []int{0, 1, 50, 170, 1700} {
		k := suspicious(sent)
		if got := binomialTail(sent, k, usual); k <= sent && got >= falseAlarm {
			t.Errorf("%d of %d: chance %v in a sound network", k, sent, got)
		}
		if got := binomialTail(sent, k-1, usual); k > 0 && got < falseAlarm {
			t.Errorf("%d of %d would be seldom enough: %v", k-1, sent, got)
		}
	}
	near(t, "tail", binomialTail(3, 2, 0.5), 0.5, 1e-12)
	near(t, "tail", binomialTail(3, 0, 0.5), 1, 0)
	near(t, "tail", binomialTail(3, 4, 0.5), 0, 0)
	near(t, "tail", binomialTail(3, 2, 1), 1, 0)
}

// TestLoad: a user sends the same whatever the network: 14,400 packets a day in the full profile, 1,440 in the
// low one; a mix carries its part of all.
func TestLoad(t *testing.T) {
	for _, c := range []struct {
		p    directory.Parameters
		want float64
	}{{directory.ProfileFull(), 14_400}, {directory.ProfileLow(), 1_440}} {
		near(t, "law", userLaw(c.p), c.want*wire, 1)
		s := setup(50, 2, c.p)
		l, err := runLoad(t.Context(), s, 100, 1, "load")
		must(t, err)
		near(t, "user", l.User/wire, c.want, 0.07*c.want)
		near(t, "mix", l.Mix/wire, c.want*50/2, 0.07*c.want*50/2)
		n := describe(&s)
		if n.UserPackets != c.want || n.UserBytes != math.Round(c.want*wire) {
			t.Errorf("%+v", n)
		}
	}
}

// TestMailTime: a mail takes as long as the client forecasts, from one packet to many.
func TestMailTime(t *testing.T) {
	s := setup(1, 2, directory.ProfileLow())
	for _, packets := range []int{1, 3, 30} {
		times, err := runMail(t.Context(), s, packets, 200, 1, "mail")
		must(t, err)
		mean, _ := moments(times)
		f := client.Expect(s.Parameters, packets, client.DelayedHops)
		// The last to leave is not always the last to come: the forecast is a little low for many.
		near(t, "mean", mean, f.Mean.Seconds(), 0.12*f.Mean.Seconds())
		near(t, "95 of 100", times[len(times)*95/100], f.P95.Seconds(), 0.2*f.P95.Seconds())
	}
	for bytes, want := range map[int]int{2000: 1, 10_000: 1, 20_000: 1, 50_000: 3} {
		if got := takes(bytes); got != want {
			t.Errorf("a mail of %d bytes takes %d packets, want %d", bytes, got, want)
		}
	}
}

// TestQueue: mails wait for each other as in the queue M/M/1.
func TestQueue(t *testing.T) {
	s := setup(1, 2, directory.ProfileLow()) // 864 payload slots a day
	got, err := runWait(t.Context(), s, 432, 10_000, 1, "wait")
	must(t, err)
	near(t, "minutes", got/60, 24*60/(864-432.0), 0.25)
}

// TestLimits: a Setup out of its bounds is refused, and the text says which.
func TestLimits(t *testing.T) {
	for want, change := range map[string]func(*Setup){
		"the number of users must be from 1 to 100000": func(s *Setup) { s.Users = MaxUsers + 1 },
		"the number of relays must be from 2 to 50":    func(s *Setup) { s.Relays = 1 },
		"the number of mixes must be from 1 to 100":    func(s *Setup) { s.Mixes = MaxMixes + 1 },
		"the number of layers must be from 1 to 12":    func(s *Setup) { s.Layers = 0 },
		"from 0 to 1": func(s *Setup) { s.Corrupt = math.NaN() },
		"the network's parameter delay must not be zero": func(s *Setup) { s.Parameters = put(directory.ProfileLow(), directory.Delay, 0) },
		"the mix interval must be longer than zero":      func(s *Setup) { s.Pool = pool.Config{Algorithm: pool.Timed} },
	} {
		s := setup(1, 1, directory.ProfileLow())
		change(&s)
		_, err := Run(t.Context(), Options{Setup: s})
		if errs.KindOf(err) != errs.Invalid || !strings.Contains(errs.Public(err), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	_, err := Run(t.Context(), Options{Setup: setup(1, 1, directory.ProfileLow()), Only: []string{"sender"}})
	if errs.KindOf(err) != errs.Invalid || !strings.Contains(errs.Public(err), `there is no figure "sender"; there are: one-mix, senders,`) {
		t.Error(err)
	}
	tr := trace{most: 1}
	must(t, tr.add(move{}))
	if err := tr.add(move{}); errs.KindOf(err) != errs.Full {
		t.Errorf("a trace beyond its bound: %v", err)
	}
}

// TestScale: rates keep the proportions of the profile; what no network can have is refused.
func TestScale(t *testing.T) {
	p, err := Scale(directory.ProfileLow(), 0.5, 0.1)
	must(t, err)
	near(t, "rate", client.Rate(p, time.Second), 0.5, 0.001)
	if p.Get(directory.Delay) != 10_000 || p.Get(directory.PayloadInterval) != 3333 || p.Get(directory.LoopInterval) != 10_000 {
		t.Error(p)
	}
	if directory.ProfileLow().Get(directory.Delay) != 20_000 {
		t.Error("the profile itself was changed")
	}
	for _, c := range []struct {
		lambda, mu float64
		want       string
	}{{1e6, 0, "the mean of the clock payload-interval would not be from 10 ms to a day"}, {1e-9, 0, "from 10 ms to a day"}, {math.NaN(), 0, "from 10 ms to a day"},
		{0, 1e9, "the mean delay would not be from 1 ms to an hour"}, {0, -1, "from 1 ms to an hour"}} {
		if _, err := Scale(directory.ProfileLow(), c.lambda, c.mu); errs.KindOf(err) != errs.Invalid || !strings.Contains(errs.Public(err), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

// TestStops: a simulation ends when it is told to, and tells how far it is.
func TestStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	seen := 0
	_, err := Run(ctx, Options{Setup: setup(20, 2, directory.ProfileLow()), Workers: 1, Only: []string{"packets"}, Progress: func(done, total int) {
		if seen++; seen != done || total != 20 {
			t.Errorf("%d of %d after %d", done, total, seen-1)
		}
		if done == 2 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// tiny is the effort of the golden report.
var tiny = effort{departures: 300, ends: Effort{1, 8}, users: 30, likelihood: 1, latency: 300, sieges: 2, losses: 1, mails: 1, waits: 30, acks: 5}

func report(t *testing.T, seed uint64, workers int, only ...string) []byte {
	t.Helper()
	s := setup(20, 2, directory.ProfileLow())
	s.Corrupt, s.CorruptRelays = 0.34, true
	r, err := run(t.Context(), Options{Setup: s, Seed: seed, Workers: workers, Only: only}, tiny)
	must(t, err)
	b, err := json.MarshalIndent(r, "", " ")
	must(t, err)
	return append(b, '\n')
}

// TestGolden: one seed gives one result, whatever the number of workers, and it is that of the committed
// report; another seed gives another.
func TestGolden(t *testing.T) {
	const name = "testdata/report.json"
	figures := []string{"one-mix", "senders", "latency", "overhead"}
	got := report(t, 1, 1, figures...)
	if *update {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(name, got, 0o644))
	}
	want, err := os.ReadFile(name)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Error("the report is not the golden one; after a change that is meant: go test -run Golden -update")
	}
	if again := report(t, 1, 3, figures...); !bytes.Equal(got, again) {
		t.Error("the same seed gave another report")
	}
	// That of another seed differs in more than its number.
	if one, other := report(t, 1, 3, "latency"), report(t, 11, 3, "latency"); bytes.Equal(one, bytes.Replace(other, []byte(`"seed": 11`), []byte(`"seed": 1`), 1)) {
		t.Error("another seed gave the same report")
	}
}
