package client

import (
	"testing"
	"time"

	"postern.email/kit/stattest"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

// TestClocks: each clock ticks after exponential times with its own mean, independently of
// the others, in order; together they have the rate of the network.
func TestClocks(t *testing.T) {
	p := directory.ProfileFull()
	c := NewClocks(p, begin, rng(1))
	var last [slots]time.Time
	for s := range last {
		last[s] = begin
	}
	var sample [slots][]float64
	before, n := begin, 30_000
	for range n {
		k := c.Next()
		if k.At.Before(before) {
			t.Fatal("time goes back")
		}
		before = k.At
		sample[k.Slot] = append(sample[k.Slot], k.At.Sub(last[k.Slot]).Seconds())
		last[k.Slot] = k.At
	}
	for s, mean := range [slots]float64{Payload: 10, Loop: 30, Cover: 30} {
		stattest.KS(t, "clock", sample[s], exponential(mean))
	}
	if got, want := before.Sub(begin).Seconds()/float64(n), 6.0; got < want*.97 || got > want*1.03 {
		t.Errorf("a packet every %.2f s, want %.2f", got, want)
	}
	if r := Rate(p, time.Minute); r < 9.99 || r > 10.01 {
		t.Errorf("%.2f packets a minute", r)
	}
	counts, total := []int{len(sample[0]), len(sample[1]), len(sample[2])}, float64(n)
	stattest.ChiSquare(t, "slots", counts, []float64{total * .6, total * .2, total * .2})
}

// TestClocksSet: other means take effect from then on, the same means change nothing, and what
// was slept through is not made up for.
func TestClocksSet(t *testing.T) {
	c, d := NewClocks(directory.ProfileFull(), begin, rng(2)), NewClocks(directory.ProfileFull(), begin, rng(2))
	for range 100 {
		d.Set(directory.ProfileFull(), begin.Add(time.Hour))
		if a, b := c.Next(), d.Next(); a != b {
			t.Fatalf("%v and %v", a, b)
		}
	}
	now := c.Peek().At
	c.Set(directory.ProfileLow(), now)
	if k := c.Peek(); k.At.Before(now) {
		t.Errorf("a tick in the past")
	}
	var sample []float64
	for range 20_000 {
		k := c.Next()
		sample = append(sample, k.At.Sub(now).Seconds())
		now = k.At
	}
	stattest.KS(t, "low profile", sample, exponential(60))
	now = now.Add(12 * time.Hour)
	c.Skip(now)
	for range 3 {
		if k := c.Next(); k.At.Before(now) {
			t.Errorf("%v was not skipped", k)
		}
	}
}

// TestLoad: whether something leaves never depends on what waits.
func TestLoad(t *testing.T) {
	for _, s := range []Slot{Payload, Loop, Cover} {
		for _, waiting := range []bool{false, true} {
			got := s.Load(waiting)
			want := map[Slot]Load{Payload: Nothing, Loop: Round, Cover: Nothing}[s]
			if s == Payload && waiting {
				want = Mail
			}
			if got != want {
				t.Errorf("slot %d, waiting %v: %d", s, waiting, got)
			}
		}
	}
}

// TestForecast: mean and 95th percentile of one packet's delays (mixnet.md §3.4), and against
// a simulation for several packets.
func TestForecast(t *testing.T) {
	p := directory.ProfileFull()
	f := ExpectDelays(p, DelayedHops)
	if f.Mean != 80*time.Second || f.P95 < 155*time.Second || f.P95 > 155200*time.Millisecond {
		t.Errorf("%+v", f)
	}
	for shape, want := range map[float64]float64{1: 2.995732, 4: 7.753657, 30.5: 40.12} {
		if q := gammaQuantile(shape, .95); q < want*.999 || q > want*1.001 {
			t.Errorf("shape %v: %v, want %v", shape, q, want)
		}
	}
	r, n := rng(3), 4000
	for _, packets := range []int{1, 20} {
		f, below, sum := Expect(p, packets, DelayedHops), 0, time.Duration(0)
		for range n {
			var d time.Duration
			for range packets {
				d += interval(r, 10*time.Second)
			}
			for range DelayedHops {
				d += interval(r, 20*time.Second)
			}
			if d <= f.P95 {
				below++
			}
			sum += d
		}
		if m := sum / time.Duration(n); m < f.Mean*97/100 || m > f.Mean*103/100 {
			t.Errorf("%d packets: mean %v, forecast %v", packets, m, f.Mean)
		}
		if share := float64(below) / float64(n); share < .94 || share > .96 {
			t.Errorf("%d packets: %.3f within the 95th percentile", packets, share)
		}
	}
}

// TestBlocks: a reply block leads home, expires two days after the begin of the hour, whatever its
// keys, and is refused where they end before.
func TestBlocks(t *testing.T) {
	c := usual(t, 2)
	home := Home{Relay: FindNode(c, "relay0"), Mailbox: packet.ID{1}}
	seed := &packet.Seed{9}
	set, err := NewSet(3, c, begin, rng(4), home, seed, 0, Want{}, rngReader{rng(5)})
	must(t, err)
	for i, b := range set.Blocks {
		if want := begin.Truncate(time.Hour).Add(48 * time.Hour); !b.SURB.Expires().Equal(want) || b.Hint != set.Hint || !b.Key.Equal(set.Blocks[0].Key) {
			t.Errorf("block %d expires %v", i, b.SURB.Expires())
		}
		raw, err := b.SURB.Use(nil, packet.Content{Kind: 1, Body: []byte("answer")}, begin)
		must(t, err)
		res := walk(t, c, 1, raw)
		if res.Command != packet.Reply || res.Mailbox != home.Mailbox || res.Mark != set.Marks[i] {
			t.Fatalf("%+v", res)
		}
		got, err := packet.OpenReply(seed, res.Mark, res.Payload)
		must(t, err)
		if string(got.Body) != "answer" {
			t.Errorf("%q", got.Body)
		}
	}
	if _, err := NewSet(1, c, begin, rng(4), home, seed, 80*time.Hour, Want{}, rngReader{rng(5)}); err == nil {
		t.Error("a block that outlives its keys")
	}
	for _, n := range []int{0, 257} {
		if _, err := NewSet(n, c, begin, rng(4), home, seed, 0, Want{}, rngReader{rng(5)}); err == nil {
			t.Errorf("a set of %d", n)
		}
	}
	// An acknowledgement goes through a network whose keys live shorter, too.
	for i := range c.Nodes {
		c.Nodes[i].Keys[0].Until = begin.Add(45 * time.Minute)
	}
	b, _, _, err := newAck(c, begin, rng(6), home, seed, rngReader{rng(7)})
	must(t, err)
	if want := begin.Truncate(time.Hour).Add(time.Hour); !b.Expires().Equal(want) {
		t.Errorf("expires %v", b.Expires())
	}
}
