package directory

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// WarningKind tells what a warning is about.
type WarningKind int

// What Verify warns of. The consensus can be used all the same.
const (
	UnknownSigner WarningKind = iota + 1 // a signature of somebody who is no authority
	WrongSignature
	MissingSignature  // an authority did not sign
	BrokenChain       // the consensus does not follow the one before it
	EquivocatedMember // an authority made two votes or reveals
	WithheldMember    // an authority did not reveal its value
	FewMixes          // a layer has fewer mixes than it should
)

// Warning is one thing that an operator should hear of.
type Warning struct {
	Kind      WarningKind
	Authority packet.ID // where it is about one
	Layer     int       // of FewMixes
}

var warningTexts = map[WarningKind]string{
	UnknownSigner: "signed by an unknown authority", WrongSignature: "the signature of an authority is wrong",
	MissingSignature: "an authority did not sign", BrokenChain: "the consensus does not follow the one that was here before",
	EquivocatedMember: "an authority made two different documents", WithheldMember: "an authority withheld its random value",
	FewMixes: "layer %d has too few mixes",
}

func (w Warning) String() string {
	switch w.Kind {
	case BrokenChain:
		return warningTexts[w.Kind]
	case FewMixes:
		return fmt.Sprintf(warningTexts[w.Kind], w.Layer)
	}
	return fmt.Sprintf("%s: %x", warningTexts[w.Kind], w.Authority[:8])
}

// Verify decides whether a client may use a consensus: of this network, endorsed by the
// threshold of its authorities, not older than previous (nil: there is none) nor another one
// of its epoch, and valid now as far as this clock can tell.
//
// errs.Denied: another network, or fewer valid signatures than the threshold. errs.Conflict:
// rollback, or two of one epoch (Equivocations gives the proofs). errs.Unavailable, with
// both times in the public text: it is not valid at now, so it is old or this clock is wrong.
func Verify(n *Network, c, previous *Consensus, now time.Time) ([]Warning, error) {
	const op = "directory.Verify"
	warnings, err := n.signers(op, c)
	if err != nil {
		return nil, err
	}
	if previous != nil {
		switch {
		case c.Epoch < previous.Epoch:
			return nil, errs.E(op, errs.Conflict, fmt.Sprintf("consensus of epoch %d is older than the one of epoch %d that was here before", c.Epoch, previous.Epoch), nil)
		case c.Epoch == previous.Epoch && c.Hash() != previous.Hash():
			return nil, errs.E(op, errs.Conflict, fmt.Sprintf("two different consensuses of epoch %d: an authority is lying", c.Epoch), nil)
		case c.Epoch == previous.Epoch+1 && c.Inputs.Previous != previous.Name():
			warnings = append(warnings, Warning{Kind: BrokenChain})
		}
	}
	if err := n.clock(op, c, now); err != nil {
		return nil, err
	}
	for _, a := range c.Equivocated {
		warnings = append(warnings, Warning{Kind: EquivocatedMember, Authority: a})
	}
	for _, a := range c.Withheld {
		warnings = append(warnings, Warning{Kind: WithheldMember, Authority: a})
	}
	var size [mixLayers + 1]uint64
	for i := range c.Nodes {
		size[c.Nodes[i].Layer]++
	}
	for l := 1; l <= mixLayers; l++ {
		if size[l] < c.Parameters.Get(LayerMinimum) {
			warnings = append(warnings, Warning{Kind: FewMixes, Layer: l})
		}
	}
	return warnings, nil
}

// clock compares a consensus with the time. It is given out in the epoch before its own.
func (n *Network) clock(op string, c *Consensus, now time.Time) error {
	earliest, latest := n.phaseBegin(c.Epoch, Publish), c.ValidUntil()
	switch {
	case earliest.Sub(now) > MaxSkew:
		return errs.E(op, errs.Unavailable, fmt.Sprintf("the consensus was made at %s or later, and it is %s here: this clock is behind",
			formatTime(earliest), formatTime(now)), nil)
	case !now.Before(latest):
		return errs.E(op, errs.Unavailable, fmt.Sprintf("the consensus is valid until %s, and it is %s here: it is too old, or this clock is ahead",
			formatTime(latest), formatTime(now)), nil)
	}
	return nil
}

// signers checks who endorsed a consensus, without a clock.
func (n *Network) signers(op string, c *Consensus) (warnings []Warning, err error) {
	if c.Network != n.name || c.Period != n.period {
		return nil, errs.E(op, errs.Denied, "consensus is of another network", nil)
	}
	good := 0
	missing := map[packet.ID]bool{}
	for _, a := range n.authorities {
		missing[a.id] = true
	}
	for i := range c.Signatures {
		s := &c.Signatures[i]
		a := n.authority(s.Signer)
		if a == nil {
			warnings = append(warnings, Warning{Kind: UnknownSigner, Authority: s.Signer})
			continue
		}
		delete(missing, a.id)
		e := c.endorsement(a.id)
		if !a.Verify(e.write().b, s) {
			warnings = append(warnings, Warning{Kind: WrongSignature, Authority: a.id})
			continue
		}
		good++
	}
	if good < n.Threshold() {
		return nil, errs.E(op, errs.Denied, fmt.Sprintf("consensus has %d valid signatures, and %d are needed", good, n.Threshold()), nil)
	}
	for _, a := range n.authorities {
		if missing[a.id] {
			warnings = append(warnings, Warning{Kind: MissingSignature, Authority: a.id})
		}
	}
	return warnings, nil
}

// Gossip names a consensus in a few bytes: clients and relays compare theirs, so that
// nobody can be given a directory of his own unnoticed.
type Gossip struct {
	Epoch uint64
	Sum   Hash
}

// Gossip gives the name.
func (c *Consensus) Gossip() Gossip {
	h := sha256.New()
	h.Write([]byte(labelGossip))
	h.Write(binary.BigEndian.AppendUint64(nil, c.Epoch))
	sum := c.Hash()
	h.Write(sum[:])
	return Gossip{c.Epoch, Hash(h.Sum(nil))}
}

// Compare tells whether another's view contradicts this one: errs.Conflict for another
// consensus of the same epoch. Views of different epochs do not contradict each other.
func (g Gossip) Compare(other Gossip) error {
	if g.Epoch == other.Epoch && g.Sum != other.Sum {
		return errs.E("directory.Gossip.Compare", errs.Conflict, fmt.Sprintf("another consensus of epoch %d was shown to somebody else", g.Epoch), nil)
	}
	return nil
}
