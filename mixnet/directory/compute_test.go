package directory

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"postern.email/kit/errs"
)

// table is the material of an epoch that is put together by hand.
type table struct {
	t           *testing.T
	net         *Network
	keys        []*PrivateKey
	descriptors map[Hash]*Descriptor
	prev        *Consensus
	votes       []*Vote
	reveals     []*Reveal
}

func newTable(t *testing.T, authorities int) *table {
	n, k := testNetwork(t, authorities)
	return &table{t: t, net: n, keys: k, descriptors: map[Hash]*Descriptor{}}
}

// vote adds the next authority's vote for some nodes.
func (x *table) vote(p Parameters, nodes ...Rated) {
	i := len(x.votes)
	v := Vote{Header: Header{Epoch: someEpoch}, Parameters: p, Commit: Value{byte(i)}.Commit(x.net.name, x.keys[i].Public().ID(), someEpoch)}
	if x.prev != nil {
		v.Previous = x.prev.Name()
	}
	slices.SortFunc(nodes, func(a, b Rated) int { return compareID(a.Descriptor.ID(), b.Descriptor.ID()) })
	for _, r := range nodes {
		v.Nodes = append(v.Nodes, Listed{r.Descriptor.ID(), r.Descriptor.Hash(), r.Score})
		x.descriptors[r.Descriptor.Hash()] = r.Descriptor
	}
	out, err := SignVote(x.net, v, x.keys[i])
	must(x.t, err)
	x.votes = append(x.votes, out)
}

// compute lets everybody reveal, having seen all votes.
func (x *table) compute() (*Consensus, error) {
	if x.reveals == nil {
		var names []Named
		for _, v := range x.votes {
			names = append(names, Named{v.Authority, v.Hash()})
		}
		slices.SortFunc(names, compareNamed)
		for i := range x.votes {
			r, err := SignReveal(x.net, Reveal{Header: Header{Epoch: someEpoch}, Value: Value{byte(i)}, Votes: names}, x.keys[i])
			must(x.t, err)
			x.reveals = append(x.reveals, r)
		}
	}
	return Compute(x.net, Material{someEpoch, x.votes, x.reveals,
		func(p Previous) *Consensus {
			if x.prev != nil && p == x.prev.Name() {
				return x.prev
			}
			return nil
		},
		func(h Hash) *Descriptor { return x.descriptors[h] }})
}

// A node takes part when the threshold lists it, with the median of scores and parameters.
func TestMajority(t *testing.T) {
	x := newTable(t, 3)
	a, b := testNode(t, "a", Mix, someTime), testNode(t, "b", Mix, someTime)
	x.vote(Parameters{{Delay, 100}, {"extra", 5}}, Rated{a, 0}, Rated{b, 1000})
	x.vote(Parameters{{Delay, 3_600_000}}, Rated{a, 700})
	x.vote(Parameters{{Delay, 200}}, Rated{a, 900})
	c, err := x.compute()
	must(t, err)
	if len(c.Nodes) != 1 || c.Nodes[0].ID != a.ID() || c.Nodes[0].Score != 700 || c.Nodes[0].Descriptor != a.Hash() {
		t.Errorf("nodes: %+v", c.Nodes)
	}
	if len(c.Parameters) != 1 || c.Parameters.Get(Delay) != 200 {
		t.Errorf("parameters: %v", c.Parameters)
	}
	// The order in which documents came does not matter.
	slices.Reverse(x.votes)
	x.reveals[0], x.reveals[2] = x.reveals[2], x.reveals[0]
	d, err := x.compute()
	must(t, err)
	if c.Hash() != d.Hash() {
		t.Error("the order matters")
	}
}

// Which descriptor of a node is taken, and which is none.
func TestChoice(t *testing.T) {
	old := testNode(t, "a", Mix, someTime, func(d *Descriptor) { d.Version = "old" })
	young := testNode(t, "a", Mix, someTime, func(d *Descriptor) { d.Version, d.Published = "young", d.Published.Add(time.Minute) })
	for name, k := range map[string]struct {
		vote [3]*Descriptor
		want *Descriptor
	}{
		"most":             {[3]*Descriptor{old, old, young}, old},
		"newest of a draw": {[3]*Descriptor{old, young, testNode(t, "b", Mix, someTime)}, young},
		"expired":          {[3]*Descriptor{testNode(t, "a", Mix, someTime.Add(-25*time.Hour)), testNode(t, "a", Mix, someTime.Add(-25*time.Hour)), old}, old},
		"pool":             {[3]*Descriptor{testNode(t, "a", Mix, someTime, pooled), testNode(t, "a", Mix, someTime, pooled), testNode(t, "a", Mix, someTime, pooled)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			x := newTable(t, 3)
			for _, d := range k.vote {
				x.vote(nil, Rated{d, 1})
			}
			c, err := x.compute()
			must(t, err)
			switch {
			case k.want == nil && len(c.Nodes) != 0, k.want != nil && (len(c.Nodes) != 1 || c.Nodes[0].Version != k.want.Version):
				t.Errorf("nodes: %+v", c.Nodes)
			}
		})
	}
	// The parameter lets pools in.
	x := newTable(t, 1)
	x.vote(Parameters{{Pools, 1}}, Rated{testNode(t, "a", Mix, someTime, pooled), 1})
	c, err := x.compute()
	must(t, err)
	if len(c.Nodes) != 1 || c.Nodes[0].Residence != time.Minute {
		t.Errorf("nodes: %+v", c.Nodes)
	}
}

func pooled(d *Descriptor) { d.Mixing, d.Residence = Timed, time.Minute }

// A nickname, domain or link key stays with the node that had it.
func TestClaims(t *testing.T) {
	var nodes []*Descriptor
	for i := range 2 {
		nodes = append(nodes, testNode(t, fmt.Sprint("r", i), Relay, someTime, func(d *Descriptor) { d.Domains = []string{"same.example"} }))
	}
	slices.SortFunc(nodes, func(a, b *Descriptor) int { return compareID(a.ID(), b.ID()) })
	x := newTable(t, 1)
	x.vote(nil, Rated{nodes[0], 1}, Rated{nodes[1], 1})
	c, err := x.compute()
	must(t, err)
	if len(c.Nodes) != 1 || c.Nodes[0].ID != nodes[0].ID() {
		t.Fatalf("not the lower of two new nodes: %d", len(c.Nodes))
	}
	y := newTable(t, 1)
	y.prev = &Consensus{Network: "test.net", Epoch: someEpoch - 1, Period: time.Hour, Nodes: []Entry{{ID: nodes[1].ID(), Node: nodes[1].Node}}}
	y.prev, err = y.prev.seal("test")
	must(t, err)
	y.vote(nil, Rated{nodes[0], 1}, Rated{nodes[1], 1})
	c, err = y.compute()
	must(t, err)
	if len(c.Nodes) != 1 || c.Nodes[0].ID != nodes[1].ID() {
		t.Error("who had it before lost it")
	}
}

// Only keys of the time of the consensus are listed.
func TestKeysOfTheTime(t *testing.T) {
	h := func(n int) time.Time { return someTime.Add(time.Duration(n) * time.Hour) }
	d := testNode(t, "k", Mix, someTime, func(d *Descriptor) {
		d.Keys = []PacketKey{{h(-30), h(0), packetKey(t, "k0")}, {h(-24), h(1), packetKey(t, "k1")}, {h(2), h(40), packetKey(t, "k2")}, {h(3), h(50), packetKey(t, "k3")}}
	})
	x := newTable(t, 1)
	x.vote(nil, Rated{d, 1})
	c, err := x.compute()
	must(t, err)
	e := c.Find(d.ID())
	if e == nil || len(e.Keys) != 2 || e.Keys[0].Key.ID() != d.Keys[1].Key.ID() || e.Keys[1].Key.ID() != d.Keys[2].Key.ID() {
		t.Fatalf("entry: %+v", e)
	}
	if e.Key(h(0)).ID() != d.Keys[1].Key.ID() || e.Key(h(1)) != nil || e.Key(h(2)).ID() != d.Keys[2].Key.ID() {
		t.Error("not the key of the time")
	}
	if c.Find(mixID(1)) != nil {
		t.Error("found a stranger")
	}
}

// A vote counts only if enough had it before they revealed; and what Compute refuses.
func TestCount(t *testing.T) {
	a := testNode(t, "a", Mix, someTime)
	full := func() *table {
		x := newTable(t, 3)
		for range 3 {
			x.vote(nil, Rated{a, 1})
		}
		_, err := x.compute()
		must(t, err)
		return x
	}
	reveal := func(x *table, i int, votes ...Named) *Reveal {
		r, err := SignReveal(x.net, Reveal{Header: Header{Epoch: someEpoch}, Value: Value{byte(i)}, Votes: votes}, x.keys[i])
		must(t, err)
		return r
	}
	x := full()
	late := x.keys[2].Public().ID()
	early := slices.DeleteFunc(slices.Clone(x.reveals[0].Votes), func(n Named) bool { return n.Authority == late })
	x.reveals = []*Reveal{reveal(x, 0, early...), reveal(x, 1, early...), x.reveals[2]}
	c, err := x.compute()
	must(t, err)
	if len(c.Inputs.Votes) != 3 || len(c.Withheld) != 0 {
		t.Error("inputs are not as they were")
	}
	other, err := randomOf(x.net, nil, []Value{{0}, {1}, {2}}, false)
	must(t, err)
	if c.Random == other.Random {
		t.Error("a late vote chose the shared random value")
	}
	for name, k := range map[string]struct {
		change func(x *table)
		kind   errs.Kind
		public string
	}{
		"no reveals":    {func(x *table) { x.reveals = x.reveals[:1] }, errs.Unavailable, "1 authorities revealed, and 2 are needed"},
		"no votes":      {func(x *table) { x.votes = x.votes[:1] }, errs.Unavailable, "1 votes count, and 2 are needed"},
		"no descriptor": {func(x *table) { clear(x.descriptors) }, errs.NotFound, "a descriptor is not known"},
		"other epoch": {func(x *table) {
			v, err := SignVote(x.net, Vote{Header: Header{Epoch: 7}}, x.keys[0])
			must(t, err)
			x.votes = append(x.votes, v)
		}, errs.Invalid, "vote of another epoch"},
		"other reveal": {func(x *table) {
			r, err := SignReveal(x.net, Reveal{Header: Header{Epoch: 7}}, x.keys[0])
			must(t, err)
			x.reveals = append(x.reveals, r)
		}, errs.Invalid, "reveal of another epoch"},
		"three": {func(x *table) { x.reveals = append(x.reveals, reveal(x, 0), reveal(x, 0, x.reveals[0].Votes[0])) }, errs.Invalid, "more than two documents of an authority"},
		"no previous": {func(x *table) {
			v, err := SignVote(x.net, Vote{Header: Header{Epoch: someEpoch}, Previous: Previous{1, Hash{1}}}, x.keys[0])
			must(t, err)
			x.votes, x.reveals = append([]*Vote{v}, x.votes[1:]...), nil
		}, errs.NotFound, "the previous consensus is not known"},
		"nobody's value": {func(x *table) {
			n := x.reveals[0].Votes
			x.reveals = nil
			for i := range x.keys {
				r, err := SignReveal(x.net, Reveal{Header: Header{Epoch: someEpoch}, Value: Value{99}, Votes: n}, x.keys[i])
				must(t, err)
				x.reveals = append(x.reveals, r)
			}
		}, errs.Unavailable, "nobody whose vote counts revealed its value"},
	} {
		x := full()
		k.change(x)
		if _, err := x.compute(); errs.KindOf(err) != k.kind || errs.Public(err) != k.public {
			t.Errorf("%s: %v", name, err)
		}
	}
}
