package directory

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// Material is what a consensus is computed from. Votes and Reveals are verified documents of
// the network's authorities for the epoch, in any order, at most two different ones of each
// authority. The functions give nil for what is not known; a consensus must be verified.
type Material struct {
	Epoch      uint64
	Votes      []*Vote
	Reveals    []*Reveal
	Previous   func(Previous) *Consensus
	Descriptor func(Hash) *Descriptor
}

// Compute gives the consensus that follows from the material, without signatures. The same
// material gives the same bytes everywhere (docs/directory.md §6).
//
// errs.Unavailable: fewer than the threshold revealed, or fewer votes count. errs.NotFound: a
// document that a vote which counts names is missing. errs.Invalid: the material is not that
// of one epoch, or there are more than two documents of an authority.
func Compute(n *Network, m Material) (*Consensus, error) {
	const op = "directory.Compute"
	c := &computation{op: op, net: n, m: m, out: &Consensus{Network: n.name, Epoch: m.Epoch, Period: n.period}}
	for _, step := range []func() error{c.inputs, c.count, c.previous, c.random, c.parameters, c.nodes, c.layers} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return c.out.seal(op)
}

type computation struct {
	op  string
	net *Network
	m   Material
	out *Consensus

	votes    map[packet.ID]*Vote   // of authorities that made one
	reveals  map[packet.ID]*Reveal // likewise
	counted  []*Vote               // sorted by authority
	prev     *Consensus
	chosen   map[packet.ID]*Descriptor
	accepted []packet.ID // sorted
}

// inputs notes what there is, and sets aside the authorities that made two documents.
func (c *computation) inputs() error {
	twice := map[packet.ID]bool{}
	c.votes, c.reveals = map[packet.ID]*Vote{}, map[packet.ID]*Reveal{}
	for _, v := range c.m.Votes {
		if v.Epoch != c.m.Epoch {
			return errs.E(c.op, errs.Invalid, "vote of another epoch", nil)
		}
		c.out.Inputs.Votes = append(c.out.Inputs.Votes, Named{v.Authority, v.Hash()})
		c.votes[v.Authority] = v
	}
	for _, r := range c.m.Reveals {
		if r.Epoch != c.m.Epoch {
			return errs.E(c.op, errs.Invalid, "reveal of another epoch", nil)
		}
		c.out.Inputs.Reveals = append(c.out.Inputs.Reveals, Named{r.Authority, r.Hash()})
		c.reveals[r.Authority] = r
	}
	for _, list := range []*[]Named{&c.out.Inputs.Votes, &c.out.Inputs.Reveals} {
		slices.SortFunc(*list, compareNamed)
		*list = slices.Compact(*list)
		for i := 1; i < len(*list); i++ {
			id := (*list)[i].Authority
			if id != (*list)[i-1].Authority {
				continue
			}
			if i > 1 && id == (*list)[i-2].Authority {
				return errs.E(c.op, errs.Invalid, "more than two documents of an authority", nil)
			}
			twice[id] = true
			if list == &c.out.Inputs.Votes {
				delete(c.votes, id)
			} else {
				delete(c.reveals, id)
			}
		}
	}
	c.out.Equivocated = slices.SortedFunc(maps.Keys(twice), compareID)
	return nil
}

// count finds the votes that as many as the threshold had before they revealed.
func (c *computation) count() error {
	t := c.net.Threshold()
	if len(c.reveals) < t {
		return errs.E(c.op, errs.Unavailable, fmt.Sprintf("%d authorities revealed, and %d are needed", len(c.reveals), t), nil)
	}
	for _, a := range c.net.authorities {
		v := c.votes[a.id]
		if v == nil {
			continue
		}
		seen, name := 0, Named{a.id, v.Hash()}
		for _, r := range c.reveals {
			if slices.Contains(r.Votes, name) {
				seen++
			}
		}
		if seen >= t {
			c.counted = append(c.counted, v)
		}
	}
	if len(c.counted) < t {
		return errs.E(c.op, errs.Unavailable, fmt.Sprintf("%d votes count, and %d are needed", len(c.counted), t), nil)
	}
	return nil
}

// previous takes the newest consensus that a vote names. It is signed by the threshold, so
// one authority that knows it is enough.
func (c *computation) previous() error {
	named := map[Previous]int{}
	for _, v := range c.counted {
		named[v.Previous]++
	}
	var best Previous
	for p, k := range named {
		switch {
		case p.Epoch < best.Epoch:
		case p.Epoch > best.Epoch, k > named[best], k == named[best] && compareID(packet.ID(p.Hash), packet.ID(best.Hash)) < 0:
			best = p
		}
	}
	c.out.Inputs.Previous = best
	if best == (Previous{}) {
		return nil
	}
	if c.prev = c.m.Previous(best); c.prev == nil {
		return errs.E(c.op, errs.NotFound, "the previous consensus is not known", nil)
	}
	return nil
}

// random computes the shared random value.
func (c *computation) random() error {
	type share struct {
		id    packet.ID
		value Value
	}
	var all, trusted []share
	for _, v := range c.counted {
		r := c.reveals[v.Authority]
		if r == nil || r.Value.Commit(c.net.name, v.Authority, c.m.Epoch) != v.Commit {
			c.out.Withheld = append(c.out.Withheld, v.Authority)
			continue
		}
		s := share{v.Authority, r.Value}
		all = append(all, s)
		if c.prev == nil || !slices.Contains(c.prev.Withheld, v.Authority) {
			trusted = append(trusted, s)
		}
	}
	if len(trusted) < c.net.Threshold() {
		trusted = all
	}
	if len(trusted) == 0 {
		return errs.E(c.op, errs.Unavailable, "nobody whose vote counts revealed its value", nil)
	}
	h := sha256.New()
	h.Write([]byte(labelRandom))
	h.Write([]byte(c.net.name + "\n"))
	h.Write(binary.BigEndian.AppendUint64(nil, c.m.Epoch))
	if c.prev != nil {
		h.Write(c.prev.Random[:])
	} else {
		h.Write(make([]byte, len(Value{})))
	}
	for _, s := range trusted {
		h.Write(s.id[:])
		h.Write(s.value[:])
	}
	h.Sum(c.out.Random[:0])
	return nil
}

// parameters takes the median of those that the threshold named.
func (c *computation) parameters() error {
	values := map[string][]uint64{}
	for _, v := range c.counted {
		for _, p := range v.Parameters {
			values[p.Name] = append(values[p.Name], p.Value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if l := values[name]; len(l) >= c.net.Threshold() && len(c.out.Parameters) < MaxParameters {
			c.out.Parameters = append(c.out.Parameters, Parameter{name, median(l)})
		}
	}
	return nil
}

// median gives the lower median. It sorts l.
func median(l []uint64) uint64 {
	slices.Sort(l)
	return l[(len(l)-1)/2]
}

// nodes finds the nodes that the threshold listed, and of each one descriptor.
func (c *computation) nodes() error {
	begin := c.net.Begin(c.m.Epoch)
	type candidate struct {
		votes int
		d     *Descriptor
	}
	listed := map[packet.ID]int{}
	for _, v := range c.counted {
		for _, l := range v.Nodes {
			listed[l.ID]++
		}
	}
	found := map[packet.ID]map[Hash]*candidate{}
	for _, v := range c.counted {
		for _, l := range v.Nodes {
			if listed[l.ID] < c.net.Threshold() {
				continue
			}
			of := found[l.ID]
			if of == nil {
				of = map[Hash]*candidate{}
				found[l.ID] = of
			}
			if of[l.Descriptor] == nil {
				d := c.m.Descriptor(l.Descriptor)
				if d == nil {
					return errs.E(c.op, errs.NotFound, "a descriptor is not known", nil)
				}
				of[l.Descriptor] = &candidate{d: d}
			}
			of[l.Descriptor].votes++
		}
	}
	c.chosen = map[packet.ID]*Descriptor{}
	for id, of := range found {
		var best *candidate
		for _, x := range of {
			if x.d.ID() != id || x.d.Fresh(c.net, begin) != nil {
				continue
			}
			if best == nil || x.votes > best.votes || x.votes == best.votes && newer(x.d, best.d) {
				best = x
			}
		}
		if best != nil {
			c.chosen[id] = best.d
		}
	}
	c.accept()
	return nil
}

// newer orders descriptors of one node.
func newer(a, b *Descriptor) bool {
	if !a.Published.Equal(b.Published) {
		return a.Published.After(b.Published)
	}
	return compareID(packet.ID(a.Hash()), packet.ID(b.Hash())) < 0
}

// claims are what only one node may have.
func claims(n *Node) []string {
	out := []string{"nickname " + strings.ToLower(n.Nickname), "link-key " + n.LinkKey.String()}
	for _, d := range n.Domains {
		out = append(out, "domain "+d)
	}
	return out
}

// accept drops nodes that claim what another has. Who had it in the previous consensus keeps
// it, else the lower ID; nodes that were there go first also when there are too many.
func (c *computation) accept() {
	held := map[string]packet.ID{}
	old := map[packet.ID]bool{}
	if c.prev != nil {
		for i := range c.prev.Nodes {
			e := &c.prev.Nodes[i]
			d := c.chosen[e.ID]
			if d == nil {
				continue
			}
			old[e.ID] = true
			now := claims(&d.Node)
			for _, k := range claims(&e.Node) {
				if slices.Contains(now, k) {
					held[k] = e.ID
				}
			}
		}
	}
	order := slices.SortedFunc(maps.Keys(c.chosen), func(a, b packet.ID) int {
		if old[a] != old[b] {
			if old[a] {
				return -1
			}
			return 1
		}
		return compareID(a, b)
	})
	for _, id := range order {
		mine := claims(&c.chosen[id].Node)
		if len(c.accepted) == MaxNodes || slices.ContainsFunc(mine, func(k string) bool {
			owner, ok := held[k]
			return ok && owner != id
		}) {
			continue
		}
		for _, k := range mine {
			held[k] = id
		}
		c.accepted = append(c.accepted, id)
	}
	slices.SortFunc(c.accepted, compareID)
}

// layers writes the entries.
func (c *computation) layers() error {
	begin, end := c.net.Begin(c.m.Epoch), c.out.ValidUntil()
	pools := c.out.Parameters.Get(Pools) == 1
	present := map[packet.ID]bool{}
	var mixes []packet.ID
	for _, id := range c.accepted {
		d := c.chosen[id]
		e := Entry{ID: id, Descriptor: d.Hash(), Node: d.Node}
		e.Keys = slices.DeleteFunc(slices.Clone(d.Keys), func(k PacketKey) bool {
			return !k.From.Before(end) || !k.Until.After(begin)
		})
		if len(e.Keys) == 0 || d.Mode.Has(Mix) && d.Mixing != Poisson && !pools {
			continue
		}
		var scores []uint64
		for _, v := range c.counted {
			if i, ok := slices.BinarySearchFunc(v.Nodes, id, func(l Listed, id packet.ID) int { return compareID(l.ID, id) }); ok {
				scores = append(scores, v.Nodes[i].Score)
			}
		}
		e.Score = median(scores)
		c.out.Nodes = append(c.out.Nodes, e)
		if d.Mode.Has(Mix) {
			mixes = append(mixes, id)
			present[id] = true
		}
	}
	kept, absent := keep(c.prev, present, c.m.Epoch)
	layers := assign(mixes, kept, c.out.Random, int(c.out.Parameters.Get(LayerMinimum)))
	for i := range c.out.Nodes {
		c.out.Nodes[i].Layer = layers[c.out.Nodes[i].ID]
	}
	c.out.Absent = absent
	return nil
}
