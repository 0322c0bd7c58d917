package client

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/stattest"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

func rng(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }

// TestPickWeights: of each layer a node is chosen in proportion to its score, independently of
// the other layers; where all scores are 0, all are the same.
func TestPickWeights(t *testing.T) {
	c := network(entry(t, "a", directory.Mix, 1, 1000), entry(t, "b", directory.Mix, 1, 500), entry(t, "c", directory.Mix, 1, 100), entry(t, "z", directory.Mix, 1, 0),
		entry(t, "d", directory.Mix, 2, 300), entry(t, "e", directory.Mix, 2, 900),
		entry(t, "f", directory.Mix, 3, 0), entry(t, "g", directory.Mix, 3, 0),
		entry(t, "relay0", directory.Relay, 0, 1), entry(t, "relay1", directory.Mailbox, 0, 1))
	r, n := rng(1), 16_000
	seen := make(map[string]int)
	for range n {
		w, err := Pick(c, begin, r, ways(t, c))
		must(t, err)
		if len(w.Hops) != packet.Layers || w.First != 0 || w.Hops[0].Entry.Nickname != "relay0" || w.Hops[4].Entry.Nickname != "relay1" || w.Hops[4].Delay != 0 {
			t.Fatalf("%+v", w)
		}
		seen[w.Hops[1].Entry.Nickname+w.Hops[2].Entry.Nickname+w.Hops[3].Entry.Nickname]++
	}
	var counts []int
	var expected []float64
	for a, pa := range map[string]float64{"a": 10. / 16, "b": 5. / 16, "c": 1. / 16} {
		for b, pb := range map[string]float64{"d": .25, "e": .75} {
			for _, g := range []string{"f", "g"} {
				counts = append(counts, seen[a+b+g])
				expected = append(expected, float64(n)*pa*pb/2)
				delete(seen, a+b+g)
			}
		}
	}
	stattest.ChiSquare(t, "nodes by score", counts, expected)
	if len(seen) > 0 {
		t.Errorf("other ways: %v", seen)
	}
}

// TestPickFamilies: no way has two nodes of one family; what remains has the chances of
// independent choices without those ways.
func TestPickFamilies(t *testing.T) {
	c := network(entry(t, "a", directory.Mix, 1, 500, family("x")), entry(t, "b", directory.Mix, 1, 500),
		entry(t, "d", directory.Mix, 2, 500, family("x")), entry(t, "e", directory.Mix, 2, 500, family("y")), entry(t, "h", directory.Mix, 2, 500, family("r")),
		entry(t, "f", directory.Mix, 3, 500, family("y")), entry(t, "g", directory.Mix, 3, 500),
		entry(t, "relay0", directory.Relay, 0, 500), entry(t, "relay1", directory.Mailbox, 0, 500, family("r")))
	r, n := rng(2), 12_000
	seen := make(map[string]int)
	for range n {
		w, err := Pick(c, begin, r, ways(t, c))
		must(t, err)
		seen[w.Hops[1].Entry.Nickname+w.Hops[2].Entry.Nickname+w.Hops[3].Entry.Nickname]++
	}
	// Not h, which is of the family of the end; not a with d, nor e with f.
	possible := []string{"aeg", "bdf", "bdg", "beg"}
	var counts []int
	var expected []float64
	for _, p := range possible {
		counts = append(counts, seen[p])
		expected = append(expected, float64(n)/float64(len(possible)))
		delete(seen, p)
	}
	stattest.ChiSquare(t, "ways without a family twice", counts, expected)
	if len(seen) > 0 {
		t.Errorf("impossible ways: %v", seen)
	}
}

// TestPickRare: a way is found where hardly any is possible, and its absence is told.
func TestPickRare(t *testing.T) {
	var nodes []directory.Entry
	for l := 1; l <= 3; l++ {
		for i := range 60 {
			nodes = append(nodes, entry(t, fmt.Sprintf("m%d-%d", l, i), directory.Mix, l, 1000, family("big")))
		}
	}
	ends := []directory.Entry{entry(t, "relay0", directory.Relay, 0, 1), entry(t, "relay1", directory.Mailbox, 0, 1)}
	c := network(append(append(nodes[:len(nodes):len(nodes)], ends...), entry(t, "odd1", directory.Mix, 1, 1, family("small")))...)
	_, err := Pick(c, begin, rng(3), ways(t, c))
	wantKind(t, err, errs.Unavailable, "there is no way without two nodes of one family")
	c = network(append(append(nodes[:len(nodes):len(nodes)], ends...), entry(t, "odd1", directory.Mix, 1, 1, family("small")), entry(t, "odd3", directory.Mix, 3, 1))...)
	for seed := range uint64(20) {
		w, err := Pick(c, begin, rng(seed), ways(t, c))
		must(t, err)
		if w.Hops[1].Entry.Nickname != "odd1" || w.Hops[3].Entry.Nickname != "odd3" {
			t.Fatalf("by %s and %s", w.Hops[1].Entry.Nickname, w.Hops[3].Entry.Nickname)
		}
	}
}

// TestPickErrors: the text names the layer, and why nobody is there.
func TestPickErrors(t *testing.T) {
	c := usual(t, 2)
	for name, v := range map[string]struct {
		change func(*directory.Consensus, *Want)
		kind   errs.Kind
		public string
	}{
		"empty layer": {func(c *directory.Consensus, _ *Want) {
			for i := range c.Nodes {
				if c.Nodes[i].Layer == 2 {
					c.Nodes[i].Layer = 1
				}
			}
		}, errs.Unavailable, "nobody can be chosen for layer 2: the directory lists no node for it"},
		"keys": {func(c *directory.Consensus, _ *Want) {
			for i := range c.Nodes {
				if c.Nodes[i].Layer == 3 {
					c.Nodes[i].Keys = []directory.PacketKey{{From: begin.Add(-time.Hour), Until: begin.Add(time.Minute), Key: c.Nodes[i].Keys[0].Key}}
				}
			}
		}, errs.Unavailable, "nobody can be chosen for layer 3: no node there has a key that is valid for long enough"},
		"family of the end": {func(c *directory.Consensus, w *Want) {
			w.Hops[0].Family = "x"
			for i := range c.Nodes {
				if c.Nodes[i].Layer == 1 {
					c.Nodes[i].Family = "x"
				}
			}
		}, errs.Unavailable, "nobody can be chosen for layer 1: the others on this way are of the family of each node there"},
		"wrong layer": {func(c *directory.Consensus, w *Want) { w.Hops[2] = FindNode(c, "mix1a") }, errs.Invalid, "mix1a is no hop for layer 2 of this way"},
		"wrong end":   {func(c *directory.Consensus, w *Want) { w.Mode, w.Hops[4] = directory.Exit, w.Hops[0] }, errs.Invalid, "relay0 is no hop for layer 4 of this way"},
		"end's key":   {func(c *directory.Consensus, w *Want) { w.Hops[4].Keys = nil }, errs.Unavailable, "relay1 has no key that is valid for long enough"},
		"given family": {func(c *directory.Consensus, w *Want) {
			w.Hops[1], w.Hops[3] = FindNode(c, "mix1a"), FindNode(c, "mix3a")
			w.Hops[1].Family, w.Hops[3].Family = "x", "x"
		}, errs.Invalid, "mix1a and mix3a are of one family, and would know more of the way than one may"},
		"no layers": {func(_ *directory.Consensus, w *Want) { w.To = 5 }, errs.Invalid, "the layers of the way do not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			d := *c
			d.Nodes = append([]directory.Entry(nil), c.Nodes...)
			w := ways(t, &d)
			v.change(&d, &w)
			_, err := Pick(&d, begin, rng(4), w)
			wantKind(t, err, v.kind, v.public)
		})
	}
	// Ends of one family, or the same node, are nobody's choice.
	w := ways(t, c)
	w.Hops[4] = w.Hops[0]
	if _, err := Pick(c, begin, rng(5), w); err != nil {
		t.Error(err)
	}
}

// TestDelays: the delays are exponential with the mean of the network, never longer than the
// bound, and whole milliseconds.
func TestDelays(t *testing.T) {
	c := usual(t, 2)
	r := rng(6)
	var sample []float64
	for range 5000 {
		w, err := Pick(c, begin, r, ways(t, c))
		must(t, err)
		sum := time.Duration(0)
		for _, h := range w.Hops[:4] {
			if h.Delay%time.Millisecond != 0 {
				t.Fatalf("a delay of %v", h.Delay)
			}
			sample = append(sample, h.Delay.Seconds())
			sum += h.Delay
		}
		if w.Stay() != sum {
			t.Fatalf("stays %v, not %v", w.Stay(), sum)
		}
	}
	stattest.KS(t, "delays", sample, exponential(20))
	// A bound near the mean: the distribution on the condition that it is kept.
	sample = nil
	for range 5000 {
		d := Delay(r, time.Second, 1500*time.Millisecond)
		if d > 1500*time.Millisecond {
			t.Fatal(d)
		}
		sample = append(sample, d.Seconds())
	}
	whole := exponential(1)(1.5)
	stattest.KS(t, "delays with a bound", sample, func(x float64) float64 { return exponential(1)(x+.0005) / whole })
	if d := Delay(fixed(1-1e-16), time.Second, time.Hour); d > 27631*time.Millisecond || d < 27*time.Second {
		t.Errorf("the longest delay is %v", d)
	}
}

type fixed float64

func (f fixed) Float64() float64 { return float64(f) }

// TestKeys: of the keys that have begun the newest is taken; a node whose key ends while a packet
// may still be under way is not.
func TestKeys(t *testing.T) {
	keys := func(spans ...[2]time.Duration) func(*directory.Entry) {
		return func(e *directory.Entry) {
			e.Keys = nil
			for i, s := range spans {
				e.Keys = append(e.Keys, directory.PacketKey{From: begin.Add(s[0]), Until: begin.Add(s[1]), Key: nodeKey(t, fmt.Sprint(e.Nickname, i)).Public()})
			}
		}
	}
	h := time.Hour
	c := network(entry(t, "a", directory.Mix, 1, 500, keys([2]time.Duration{-30 * h, 42 * h}, [2]time.Duration{-6 * h, 66 * h}, [2]time.Duration{18 * h, 90 * h})),
		entry(t, "late", directory.Mix, 1, 500, keys([2]time.Duration{time.Minute, 70 * h})),
		entry(t, "soon", directory.Mix, 1, 500, keys([2]time.Duration{-70 * h, 11 * time.Minute})),
		entry(t, "d", directory.Mix, 2, 500), entry(t, "f", directory.Mix, 3, 500),
		entry(t, "relay0", directory.Relay|directory.Mailbox, 0, 1), entry(t, "relay1", directory.Mailbox, 0, 1))
	r := rng(8)
	for range 200 {
		w, err := Pick(c, begin, r, ways(t, c))
		must(t, err)
		if w.Hops[1].Entry.Nickname == "soon" && w.Hops[0].Delay > time.Minute {
			t.Fatalf("a key that ends in 11 minutes, after a delay of %v", w.Hops[0].Delay)
		}
		if w.Hops[1].Entry.Nickname == "late" {
			t.Fatal("a key that has not begun")
		}
		if w.Hops[1].Entry.Nickname == "a" && w.Hops[1].Key != c.Nodes[indexOf(c, "a")].Keys[1].Key {
			t.Fatal("not the newest key that has begun")
		}
		// A reply block is for two days: only a's key lasts.
		w, err = Pick(c, begin, r, Want{From: 1, To: packet.Last, Hops: [packet.Layers]*directory.Entry{packet.Last: FindNode(c, "relay0")}, Life: 48 * h})
		must(t, err)
		if w.Hops[0].Entry.Nickname != "a" || w.First != 1 || !w.KeysEnd().Equal(begin.Add(66*h)) {
			t.Fatalf("%s, until %v", w.Hops[0].Entry.Nickname, w.KeysEnd())
		}
	}
	_, err := Pick(c, begin, r, Want{From: 1, To: packet.Last, Hops: [packet.Layers]*directory.Entry{packet.Last: FindNode(c, "relay0")}, Life: 67 * h})
	if err == nil || !strings.Contains(errs.Public(err), "layer 1") {
		t.Errorf("67 hours: %v", err)
	}
}

func indexOf(c *directory.Consensus, name string) int {
	for i := range c.Nodes {
		if c.Nodes[i].Nickname == name {
			return i
		}
	}
	return -1
}

// TestPools: a pool chooses the delay itself, and says what one can expect.
func TestPools(t *testing.T) {
	c := usual(t, 1)
	e := FindNode(c, "mix2a")
	e.Mixing, e.Residence = directory.Timed, 30*time.Minute
	w, err := Pick(c, begin, rng(9), ways(t, c))
	must(t, err)
	if want := w.Hops[0].Delay + w.Hops[1].Delay + 30*time.Minute + w.Hops[3].Delay; w.Stay() != want {
		t.Errorf("stays %v, not %v", w.Stay(), want)
	}
}

func BenchmarkPick(b *testing.B) {
	c := usual(b, 26)
	r, w := rng(10), ways(b, c)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Pick(c, begin, r, w); err != nil {
			b.Fatal(err)
		}
	}
}
