package directory

import (
	"slices"

	"postern.email/mixnet/packet"
)

// examine computes again what others say they computed, as far as their inputs are here.
func (m *Machine) examine() {
	votes, reveals := map[Hash]*Vote{}, map[Hash]*Reveal{}
	for _, l := range m.votes {
		for _, v := range l {
			votes[v.Hash()] = v
		}
	}
	for _, l := range m.reveals {
		for _, r := range l {
			reveals[r.Hash()] = r
		}
	}
	for id, l := range m.endorsements {
		for _, e := range l {
			if m.checked[e.Hash()] || m.follows(e) {
				continue
			}
			mat := m.material()
			c, v := e.judge(m.net, &mat, votes, reveals)
			switch v {
			case unknown:
				continue
			case right:
				m.computed[c.Hash()] = c
			case wrong:
				m.prove(newProof(m.net, WrongConsensus, id, m.epoch, m.evidence(e, mat)...))
			}
			m.checked[e.Hash()] = true
		}
	}
}

// follows reports whether an endorsement is for a consensus that was computed here from the
// same inputs; the consensus states them, so that its hash is enough.
func (m *Machine) follows(e *Endorsement) bool {
	c := m.computed[e.Consensus]
	return c != nil && c.Inputs.equal(&e.Inputs)
}

func (in *Inputs) equal(o *Inputs) bool {
	return in.Previous == o.Previous && slices.Equal(in.Votes, o.Votes) && slices.Equal(in.Reveals, o.Reveals)
}

// evidence is an endorsement and everything that it was computed from. Descriptors of nodes
// that fewer than the threshold listed are no part of that: a liar could list any number.
func (m *Machine) evidence(e *Endorsement, mat Material) [][]byte {
	docs := [][]byte{e.Bytes()}
	seen := map[Hash]bool{}
	listed := map[packet.ID]int{}
	for _, v := range mat.Votes {
		for _, l := range v.Nodes {
			listed[l.ID]++
		}
	}
	for _, v := range mat.Votes {
		docs = append(docs, v.Bytes())
		if c := m.before[v.Previous]; c != nil && !seen[c.Hash()] {
			seen[c.Hash()] = true
			docs = append(docs, c.Bytes())
		}
		for _, l := range v.Nodes {
			if d := m.descriptors[l.Descriptor]; d != nil && !seen[l.Descriptor] && listed[l.ID] >= m.net.Threshold() {
				seen[l.Descriptor] = true
				docs = append(docs, d.Bytes())
			}
		}
	}
	for _, r := range mat.Reveals {
		docs = append(docs, r.Bytes())
	}
	return docs
}

// publish puts a consensus and its signatures together, when there are enough.
func (m *Machine) publish() {
	signed := map[Hash][]Signature{}
	for _, l := range m.endorsements {
		if len(l) == 1 && m.follows(l[0]) {
			signed[l[0].Consensus] = append(signed[l[0].Consensus], l[0].sig)
		}
	}
	for h, sigs := range signed {
		if len(sigs) < m.net.Threshold() {
			continue
		}
		if c, err := m.computed[h].WithSignatures(sigs); err == nil {
			m.finish(c)
			return
		}
	}
}

func (m *Machine) finish(c *Consensus) {
	m.final = c
	for _, a := range c.Withheld {
		m.prove(newProof(m.net, WithheldReveal, a, m.epoch, c.Bytes()))
	}
}
