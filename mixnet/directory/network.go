package directory

import (
	"slices"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// Network is what all members of a mix network are told once, out of band: its name, the
// length of its epochs, and the keys of its authorities.
type Network struct {
	name        string
	period      time.Duration
	authorities []*PublicKey // sorted by ID
	contacts    []Contact    // the same order; nil: where they are is not known
}

// NewNetwork takes a name (1 to MaxName of a-z, 0-9, dot and hyphen), a period of whole
// seconds from MinPeriod to MaxPeriod, and 1 to MaxAuthorities different keys. errs.Invalid
// for anything else.
func NewNetwork(name string, period time.Duration, authorities []*PublicKey) (*Network, error) {
	const op = "directory.NewNetwork"
	switch {
	case len(name) > MaxName || !isToken(name, ".-"):
		return nil, errs.E(op, errs.Invalid, "the name of the network is not 1 to 32 of a-z, 0-9, dot and hyphen", nil)
	case period < MinPeriod || period > MaxPeriod || period%time.Second != 0:
		return nil, errs.E(op, errs.Invalid, "the period is not a number of whole seconds up to a day", nil)
	case len(authorities) < 1 || len(authorities) > MaxAuthorities:
		return nil, errs.E(op, errs.Invalid, "a network has 1 to 9 authorities", nil)
	}
	n := &Network{name: name, period: period, authorities: slices.Clone(authorities)}
	slices.SortFunc(n.authorities, func(a, b *PublicKey) int { return compareID(a.id, b.id) })
	for i, a := range n.authorities[1:] {
		if a.id == n.authorities[i].id {
			return nil, errs.E(op, errs.Invalid, "an authority is named twice", nil)
		}
	}
	return n, nil
}

// Name is the network's name.
func (n *Network) Name() string { return n.name }

// Period is the length of an epoch.
func (n *Network) Period() time.Duration { return n.period }

// MaxAge is how old a descriptor may be: FreshEpochs. A node that has stopped is out of the
// consensus that soon.
func (n *Network) MaxAge() time.Duration { return FreshEpochs * n.period }

// Authorities gives the keys, sorted by ID.
func (n *Network) Authorities() []*PublicKey { return slices.Clone(n.authorities) }

// Threshold is how many authorities must agree: more than half.
func (n *Network) Threshold() int { return len(n.authorities)/2 + 1 }

func (n *Network) authority(id packet.ID) *PublicKey {
	for _, a := range n.authorities {
		if a.id == id {
			return a
		}
	}
	return nil
}

// Epoch is the number of the epoch that a time is in: whole periods since 1970.
func (n *Network) Epoch(t time.Time) uint64 {
	return uint64(max(0, t.Unix())) / uint64(n.period/time.Second)
}

// Begin is when an epoch begins.
func (n *Network) Begin(epoch uint64) time.Time {
	return time.Unix(int64(epoch*uint64(n.period/time.Second)), 0).UTC()
}

// maxEpoch keeps products of epochs and periods within what time.Unix takes.
const maxEpoch = 1 << 40

// Phase is a part of the epoch before the one that the authorities agree on.
type Phase int

// Phases, in eighths of a period.
const (
	Collect Phase = iota // descriptors come in
	Voting               // votes are made, and exchanged
	Reveals              // random values are revealed, with what was seen of the votes
	Endorse              // everybody computes, signs, and gives its signature to the others
	_
	Publish // the consensus is given out
)

// PhaseAt tells the phase of the agreement on epoch at a time. Before its begin it is
// Collect, after it Publish.
func (n *Network) PhaseAt(epoch uint64, t time.Time) Phase {
	d := t.Sub(n.Begin(epoch - 1))
	switch {
	case d < 0:
		return Collect
	case d >= n.period*time.Duration(Publish)/8:
		return Publish
	}
	return min(Phase(d*8/n.period), Endorse)
}

// phaseBegin is when a phase of the agreement on epoch begins.
func (n *Network) phaseBegin(epoch uint64, p Phase) time.Time {
	return n.Begin(epoch - 1).Add(n.period * time.Duration(p) / 8)
}
