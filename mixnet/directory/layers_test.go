package directory

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
	"postern.email/mixnet/packet"
)

func mixID(i int) packet.ID { return sha256.Sum256(fmt.Appendf(nil, "mix %d", i)) }

func sizes(layers map[packet.ID]int) (s [mixLayers + 1]int) {
	for _, l := range layers {
		s[l]++
	}
	return s
}

// A mix moves only when it must: when a layer is below its minimum and no new mix filled it,
// and never more mixes than are missing.
func TestLayersModel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		minimum := rapid.IntRange(1, 5).Draw(r, "minimum")
		prev := &Consensus{}
		for epoch := uint64(1); epoch < 20; epoch++ {
			random := Value(sha256.Sum256(fmt.Append(nil, rapid.Uint64().Draw(r, "random"))))
			var mixes []packet.ID
			present := map[packet.ID]bool{}
			for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, 30), 0, 30, rapid.ID).Draw(r, "mixes") {
				mixes = append(mixes, mixID(i))
				present[mixID(i)] = true
			}
			slices.SortFunc(mixes, compareID)
			kept, absent := keep(prev, present, epoch)
			before := sizes(kept)
			layers := assign(mixes, kept, random, minimum)
			after := sizes(layers)
			if len(layers) != len(mixes) {
				r.Fatalf("%d of %d mixes have a layer", len(layers), len(mixes))
			}
			moved := 0
			for id, l := range kept {
				if layers[id] != l {
					moved++
				}
			}
			missing := 0
			for l := 1; l <= mixLayers; l++ {
				missing += max(0, minimum-before[l])
			}
			if free := len(mixes) - len(kept); moved > max(0, missing-min(free, missing)) {
				r.Fatalf("%d mixes moved, %d were missing and %d new", moved, missing, free)
			}
			if len(mixes) >= 3*minimum && slices.Min(after[1:]) < minimum {
				r.Fatalf("a layer is below %d: %v", minimum, after)
			}
			next := &Consensus{Epoch: epoch, Absent: absent}
			for _, id := range mixes {
				next.Nodes = append(next.Nodes, Entry{ID: id, Layer: layers[id]})
			}
			for i := range prev.Nodes {
				if e := prev.Nodes[i]; !present[e.ID] && !slices.ContainsFunc(absent, func(a Absent) bool { return a == Absent{e.ID, e.Layer, prev.Epoch} }) {
					r.Fatal("the layer of a mix that is away is not kept")
				}
			}
			prev = next
		}
	})
}

// A mix that comes back within AbsentEpochs has the layer that it had, and not after.
func TestAbsent(t *testing.T) {
	id := mixID(1)
	prev := &Consensus{Epoch: 1000, Nodes: []Entry{{ID: id, Layer: 2}}}
	_, absent := keep(prev, nil, 1001)
	if len(absent) != 1 || absent[0] != (Absent{id, 2, 1000}) {
		t.Fatalf("absent: %v", absent)
	}
	later := &Consensus{Epoch: 1100, Absent: absent}
	if kept, gone := keep(later, map[packet.ID]bool{id: true}, 1101); kept[id] != 2 || len(gone) != 0 {
		t.Errorf("back: %v, %v", kept, gone)
	}
	if _, gone := keep(later, nil, 1000+AbsentEpochs-1); len(gone) != 1 {
		t.Error("forgotten too early")
	}
	if _, gone := keep(later, nil, 1000+AbsentEpochs); len(gone) != 0 {
		t.Error("kept too long")
	}
	var many []Absent
	for i := range MaxAbsent + 10 {
		many = append(many, Absent{mixID(i), 1, uint64(1000 + i)})
	}
	_, gone := keep(&Consensus{Epoch: 1600, Absent: many}, nil, 1100)
	if len(gone) != MaxAbsent || slices.ContainsFunc(gone, func(a Absent) bool { return a.Epoch < 1010 }) {
		t.Error("not the newest of too many are kept")
	}
}

// chi2 sums the squared differences from a uniform distribution.
func chi2(counts []int) (x float64) {
	n := 0
	for _, c := range counts {
		n += c
	}
	mean := float64(n) / float64(len(counts))
	for _, c := range counts {
		x += (float64(c) - mean) * (float64(c) - mean) / mean
	}
	return x
}

// One new mix in a balanced network comes to each layer alike.
func TestLayerUniform(t *testing.T) {
	kept := map[packet.ID]int{}
	var mixes []packet.ID
	for i := range 9 {
		kept[mixID(i)] = i%3 + 1
		mixes = append(mixes, mixID(i))
	}
	fresh := mixID(99)
	mixes = append(mixes, fresh)
	counts := make([]int, 3)
	for i := range 3000 {
		counts[assign(mixes, kept, Value(sha256.Sum256(fmt.Append(nil, i))), 2)[fresh]-1]++
	}
	if x := chi2(counts); x > 13.8 { // 2 degrees of freedom, p = 0.001; the draws are fixed
		t.Errorf("layers %v, chi2 %.1f", counts, x)
	}
}

// randomOf computes the shared random value of three authorities; the last one may withhold.
func randomOf(n *Network, prev *Consensus, values []Value, withhold bool) (*Consensus, error) {
	c := &computation{net: n, out: &Consensus{}, prev: prev, m: Material{Epoch: someEpoch}, reveals: map[packet.ID]*Reveal{}}
	for i, a := range n.authorities {
		c.counted = append(c.counted, &Vote{Header: Header{Authority: a.id}, Commit: values[i].Commit(n.name, a.id, someEpoch)})
		if i < len(values)-1 || !withhold {
			c.reveals[a.id] = &Reveal{Header: Header{Authority: a.id}, Value: values[i]}
		}
	}
	return c.out, c.random()
}

// The shared random value is uniform although one member withholds its value whenever it
// likes the other result better; all it gains is the choice between two. If it withheld
// before, it has no choice at all.
func TestRandomWithheld(t *testing.T) {
	n, _ := testNetwork(t, 3)
	liar := n.authorities[2].id
	random := rand.New(rand.NewPCG(3, 4))
	const rounds = 4000
	fair, chosen := make([]int, 16), make([]int, 16)
	wins, winsAfter := 0, 0
	for range rounds {
		values := make([]Value, 3)
		for i := range values {
			binary.BigEndian.PutUint64(values[i][:], random.Uint64())
		}
		with, err := randomOf(n, nil, values, false)
		must(t, err)
		without, err := randomOf(n, nil, values, true)
		must(t, err)
		if len(with.Withheld) != 0 || len(without.Withheld) != 1 || without.Withheld[0] != liar {
			t.Fatalf("withheld: %v, %v", with.Withheld, without.Withheld)
		}
		fair[with.Random[0]&15]++
		chosen[without.Random[0]&15]++
		// The liar wants an even first byte.
		if with.Random[0]&1 == 0 || without.Random[0]&1 == 0 {
			wins++
		}
		after := &Consensus{Withheld: []packet.ID{liar}, Random: with.Random}
		a, err := randomOf(n, after, values, false)
		must(t, err)
		b, err := randomOf(n, after, values, true)
		must(t, err)
		if a.Random != b.Random {
			t.Fatal("a member that withheld before was asked again")
		}
		if a.Random[0]&1 == 0 {
			winsAfter++
		}
	}
	for _, c := range [][]int{fair, chosen} {
		if x := chi2(c); x > 37.7 { // 15 degrees of freedom, p = 0.001; the draws are fixed
			t.Errorf("not uniform: %v, chi2 %.1f", c, x)
		}
	}
	if wins < rounds*72/100 || wins > rounds*78/100 {
		t.Errorf("one bit is %d of %d as wanted, and 3/4 were expected", wins, rounds)
	}
	if winsAfter < rounds*47/100 || winsAfter > rounds*53/100 {
		t.Errorf("after that %d of %d, and half were expected", winsAfter, rounds)
	}
}

// Each thing that goes into the shared random value changes it.
func TestRandomInputs(t *testing.T) {
	n, _ := testNetwork(t, 3)
	values := []Value{{1}, {2}, {3}}
	base, err := randomOf(n, nil, values, false)
	must(t, err)
	chained, err := randomOf(n, &Consensus{Random: Value{9}}, values, false)
	must(t, err)
	values[1][31] ^= 1
	changed, err := randomOf(n, nil, values, false)
	must(t, err)
	if base.Random == chained.Random || base.Random == changed.Random {
		t.Error("an input does not matter")
	}
	s := testSecret(1)
	if NewValue(s, "a", 1) == NewValue(s, "a", 2) || NewValue(s, "a", 1) == NewValue(s, "b", 1) || NewValue(s, "a", 1) == NewValue(testSecret(2), "a", 1) {
		t.Error("values repeat")
	}
	v := Value{7}
	if v.Commit("a", mixID(1), 1) == v.Commit("a", mixID(2), 1) || v.Commit("a", mixID(1), 1) == v.Commit("a", mixID(1), 2) {
		t.Error("a commitment can be copied")
	}
}
