package directory

import (
	"fmt"
	"slices"
	"testing"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// measured is a network of mixes in which each reports on the others.
func measured(t *testing.T, h *History, nodes []*Descriptor, epoch uint64, rate func(by, through int) uint64) {
	t.Helper()
	for i, d := range nodes {
		s := &Stats{Network: "test.net", Node: d.ID(), Epoch: epoch}
		for j, o := range nodes {
			s.Loops = append(s.Loops, Loops{o.ID(), 1000, rate(i, j)})
		}
		must(t, h.Add(s, epoch+1))
	}
}

func TestScores(t *testing.T) {
	n, _ := testNetwork(t, 1)
	var nodes []*Descriptor
	for i := range 7 {
		nodes = append(nodes, testNode(t, fmt.Sprint("mix", i), Mix, someTime))
	}
	family := func(d *Descriptor) { d.Family = "f" }
	for name, k := range map[string]struct {
		rate func(by, through int) uint64
		want [7]uint64
	}{
		"all well": {func(int, int) uint64 { return 1000 }, [7]uint64{1000, 1000, 1000, 1000, 1000, 1000, 1000}},
		"one loses half": {func(_, through int) uint64 {
			if through == 2 {
				return 500
			}
			return 1000
		}, [7]uint64{1000, 1000, 500, 1000, 1000, 1000, 1000}},
		"a bad line is its owner's": {func(by, through int) uint64 {
			if by == 1 || by == 3 {
				return 100
			}
			return 1000
		}, [7]uint64{1000, 1000, 1000, 1000, 1000, 1000, 1000}},
		"two slander one": {func(by, through int) uint64 {
			if by < 2 && through == 4 {
				return 0
			}
			return 1000
		}, [7]uint64{1000, 1000, 1000, 1000, 1000, 1000, 1000}},
		"two praise one": {func(by, through int) uint64 {
			if by >= 2 && through == 0 {
				return 300
			}
			return 1000
		}, [7]uint64{300, 1000, 1000, 1000, 1000, 1000, 1000}},
		"everything lost tells nothing": {func(int, int) uint64 { return 0 }, [7]uint64{500, 500, 500, 500, 500, 500, 500}},
	} {
		h := NewHistory(n)
		measured(t, h, nodes, someEpoch, k.rate)
		got := h.Scores(nodes, someEpoch+1)
		for i, d := range nodes {
			if got[d.ID()] != k.want[i] {
				t.Errorf("%s: mix%d has %d", name, i, got[d.ID()])
			}
		}
	}
	// One family does not count for itself.
	kin := slices.Clone(nodes)
	for i := range 6 {
		kin[i] = testNode(t, fmt.Sprint("mix", i), Mix, someTime, family)
	}
	h := NewHistory(n)
	measured(t, h, kin, someEpoch, func(by, through int) uint64 {
		if by == 6 && through == 0 {
			return 250
		}
		return 1000
	})
	if got := h.Scores(kin, someEpoch+1)[kin[0].ID()]; got != 250 {
		t.Errorf("a family lifts itself to %d", got)
	}
}

// Recent days count most, what is older than 12 days not at all, and too little is nothing.
func TestScoreAge(t *testing.T) {
	n, _ := testNetwork(t, 1)
	a, b := testNode(t, "mix0", Mix, someTime), testNode(t, "mix1", Mix, someTime)
	nodes := []*Descriptor{a, b}
	add := func(h *History, epoch, now, sent, returned uint64) error {
		return h.Add(&Stats{Node: a.ID(), Epoch: epoch, Loops: []Loops{{b.ID(), sent, returned}}}, now)
	}
	const day = 24
	now := uint64(someEpoch/day*day + 12)
	h := NewHistory(n)
	must(t, add(h, now-3*day, now-3*day+1, 100, 100))
	must(t, add(h, now-1, now, 100, 40))
	if got := h.Scores(nodes, now)[b.ID()]; got != (10*100+5*40)*1000/(15*100) {
		t.Errorf("score %d", got)
	}
	if got := h.Scores(nodes, now+8*day)[b.ID()]; got != (1*100+3*40)*1000/(4*100) {
		t.Errorf("score %d, 8 days later", got)
	}
	if got := h.Scores(nodes, now+12*day)[b.ID()]; got != NeutralScore || len(h.counts)+len(h.last) != 0 {
		t.Errorf("score %d, 12 days later, and %d are kept", got, len(h.counts))
	}
	h = NewHistory(n)
	must(t, add(h, now-1, now, minLoops-1, 0))
	if got := h.Scores(nodes, now)[b.ID()]; got != NeutralScore {
		t.Errorf("too little gives %d", got)
	}
	refused(t, add(h, now-1, now, 10, 10), errs.Exists, "statistics of this epoch or a later one are here")
	refused(t, add(h, now, now, 10, 10), errs.Invalid, "statistics of an epoch that is not over")
	refused(t, h.Add(&Stats{Node: b.ID(), Epoch: now - 12*day}, now), errs.NotFound, "statistics are too old")
	for i := range MaxNodes - 1 {
		h.last[mixID(i)] = now - 1
	}
	refused(t, h.Add(&Stats{Node: b.ID(), Epoch: now - 1}, now), errs.Full, "more than 512 mixes report")
	big := &Stats{Node: a.ID(), Epoch: now}
	for i := range 2 * MaxNodes {
		big.Loops = append(big.Loops, Loops{mixID(i), 1, 1})
	}
	must(t, h.Add(big, now+1))
	if len(h.counts) > MaxNodes {
		t.Errorf("%d counts of one mix", len(h.counts))
	}
}

func TestStatsSigner(t *testing.T) {
	k := testKey(t, "node mix0")
	s, err := SignStats(Stats{Network: "test.net", Epoch: 5}, k)
	must(t, err)
	is := func(p *PublicKey) func(packet.ID) *PublicKey { return func(packet.ID) *PublicKey { return p } }
	_, err = ParseStats("other.net", is(k.Public()), s.Bytes())
	refused(t, err, errs.Denied, "document is of another network")
	for _, p := range []*PublicKey{nil, testKey(t, "stranger").Public()} {
		_, err = ParseStats("test.net", is(p), s.Bytes())
		refused(t, err, errs.Denied, "not a node of this network")
	}
}
