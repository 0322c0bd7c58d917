package directory

import (
	"bytes"
	"fmt"
	"slices"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// ProofKind tells what an authority did.
type ProofKind string

// What can be proven (docs/directory.md §9).
const (
	TwoVotes        ProofKind = "two-votes"        // the two votes
	TwoReveals      ProofKind = "two-reveals"      // the two reveals
	TwoEndorsements ProofKind = "two-endorsements" // the two endorsements
	WrongReveal     ProofKind = "wrong-reveal"     // vote and reveal: the value is not the one committed to
	WrongConsensus  ProofKind = "wrong-consensus"  // an endorsement, and the inputs that it names and that give another consensus
	WithheldReveal  ProofKind = "withheld-reveal"  // the consensus in which the threshold says so
)

// maxProofDocuments bounds the documents of a proof: inputs and every descriptor that they name.
const maxProofDocuments = 2 + 4*MaxAuthorities + MaxAuthorities*MaxNodes

// Proof shows that an authority did what no honest one does. It needs no signature of its
// own: anybody can check it with the keys of the authorities, and nobody can make a false one.
type Proof struct {
	Network   string
	Kind      ProofKind
	Accused   packet.ID
	Epoch     uint64
	Documents [][]byte

	raw []byte
}

var proofForm = form{
	{"network", 1, 1, 1, 0},
	{"kind", 1, 1, 1, 0},
	{"accused", 1, 1, 1, 0},
	{"epoch", 1, 1, 1, 0},
}

// newProof writes a proof that is true: its maker checked it.
func newProof(n *Network, kind ProofKind, accused packet.ID, epoch uint64, docs ...[]byte) *Proof {
	p := &Proof{Network: n.name, Kind: kind, Accused: accused, Epoch: epoch, Documents: docs}
	w := &writer{}
	w.line("postern-proof", 1)
	w.line("network", n.name)
	w.line("kind", string(kind))
	w.line("accused", accused)
	w.line("epoch", epoch)
	for _, d := range docs {
		w.line("document", len(d))
		w.b = append(w.b, d...)
	}
	p.raw = w.b
	return p
}

// Bytes are those of the whole document. They must not be changed.
func (p *Proof) Bytes() []byte { return p.raw }

// ParseProof reads a proof. It keeps b. The errors of ParseDescriptor. It verifies nothing:
// see VerifyProof.
func ParseProof(b []byte) (*Proof, error) {
	const op = "directory.ParseProof"
	s, err := begin(op, "postern-proof", b, MaxProof)
	if err != nil {
		return nil, err
	}
	p := &Proof{raw: b}
	err = s.read(proofForm, []string{"document"}, func(key string, v *fields) error {
		switch key {
		case "network":
			p.Network = v.name()
		case "kind":
			p.Kind = ProofKind(v.name())
		case "accused":
			p.Accused = v.id()
		case "epoch":
			p.Epoch = v.uint(1, maxEpoch)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for {
		l, err := s.next()
		if err != nil {
			return nil, err
		}
		if l == nil {
			return p, nil
		}
		if l.key != "document" || l.critical || len(l.args) != 1 || len(p.Documents) == maxProofDocuments {
			return nil, s.fault(errs.Invalid, "only documents may follow, and at most %d", maxProofDocuments)
		}
		v := fields{in: l.args}
		size := int(v.uint(1, MaxConsensus))
		if v.bad != "" || size > len(b)-s.pos {
			return nil, s.fault(errs.Invalid, "document: not as long as it says")
		}
		p.Documents = append(p.Documents, b[s.pos:s.pos+size])
		s.pos += size
	}
}

// VerifyProof tells whether a proof shows what it says: nil if so. errs.Unsupported for a
// kind that is not known, else errs.Denied.
func VerifyProof(n *Network, p *Proof) error {
	const op = "directory.VerifyProof"
	if p.Network != n.name || n.authority(p.Accused) == nil {
		return errs.E(op, errs.Denied, "proof is about another network", nil)
	}
	two := len(p.Documents) == 2
	ok := false
	switch p.Kind {
	case TwoVotes:
		ok = two && contradict(n, p, ParseVote)
	case TwoReveals:
		ok = two && contradict(n, p, ParseReveal)
	case TwoEndorsements:
		ok = two && contradict(n, p, ParseEndorsement)
	case WrongReveal:
		ok = two && wrongReveal(n, p)
	case WrongConsensus:
		ok = wrongConsensus(n, p)
	case WithheldReveal:
		ok = withheld(n, p)
	default:
		return errs.E(op, errs.Unsupported, "kind of proof is unknown", nil)
	}
	if !ok {
		return errs.E(op, errs.Denied, fmt.Sprintf("documents do not prove %s", p.Kind), nil)
	}
	return nil
}

// statement is a document of an authority.
type statement interface {
	document
	head() *Header
}

func (h *Header) head() *Header { return h }

// contradict reports whether both documents are the accused's, of the epoch, and different.
func contradict[D statement](n *Network, p *Proof, parse func(*Network, []byte) (D, error)) bool {
	var seen [2]Hash
	for i, b := range p.Documents {
		d, err := parse(n, b)
		if err != nil || d.head().Authority != p.Accused || d.head().Epoch != p.Epoch {
			return false
		}
		seen[i] = d.Hash()
	}
	return seen[0] != seen[1]
}

func wrongReveal(n *Network, p *Proof) bool {
	v, err := ParseVote(n, p.Documents[0])
	if err != nil {
		return false
	}
	r, err := ParseReveal(n, p.Documents[1])
	return err == nil && v.Authority == p.Accused && r.Authority == p.Accused && v.Epoch == p.Epoch && r.Epoch == p.Epoch &&
		r.Value.Commit(n.name, r.Authority, r.Epoch) != v.Commit
}

func withheld(n *Network, p *Proof) bool {
	if len(p.Documents) != 1 {
		return false
	}
	c, err := ParseConsensus(p.Documents[0])
	if err != nil || c.Epoch != p.Epoch || !slices.Contains(c.Withheld, p.Accused) {
		return false
	}
	_, err = n.signers("directory.VerifyProof", c)
	return err == nil
}

// wrongConsensus computes again what the accused says it computed.
func wrongConsensus(n *Network, p *Proof) bool {
	if len(p.Documents) == 0 {
		return false
	}
	e, err := ParseEndorsement(n, p.Documents[0])
	if err != nil || e.Authority != p.Accused || e.Epoch != p.Epoch {
		return false
	}
	votes, reveals := map[Hash]*Vote{}, map[Hash]*Reveal{}
	descriptors, consensuses := map[Hash]*Descriptor{}, map[Previous]*Consensus{}
	for _, b := range p.Documents[1:] {
		switch title(b) {
		case "postern-vote":
			if v, err := ParseVote(n, b); err == nil {
				votes[v.Hash()] = v
			}
		case "postern-reveal":
			if r, err := ParseReveal(n, b); err == nil {
				reveals[r.Hash()] = r
			}
		case "postern-descriptor":
			if d, err := ParseDescriptor(b); err == nil {
				descriptors[d.Hash()] = d
			}
		case "postern-consensus":
			if c, err := ParseConsensus(b); err == nil {
				if _, err := n.signers("directory.VerifyProof", c); err == nil {
					consensuses[c.Name()] = c
				}
			}
		}
	}
	m := Material{
		Epoch:      e.Epoch,
		Previous:   func(p Previous) *Consensus { return consensuses[p] },
		Descriptor: func(h Hash) *Descriptor { return descriptors[h] },
	}
	_, v := e.judge(n, &m, votes, reveals)
	return v == wrong
}

// verdict on an endorsement.
type verdict int

const (
	unknown verdict = iota // an input is missing
	right
	wrong // the inputs give another consensus, or none
)

// judge computes again what an endorsement says was computed. It adds the documents that are
// named to m.
func (e *Endorsement) judge(n *Network, m *Material, votes map[Hash]*Vote, reveals map[Hash]*Reveal) (*Consensus, verdict) {
	for _, d := range e.Votes {
		v := votes[d.Hash]
		if v == nil || v.Authority != d.Authority {
			return nil, unknown
		}
		m.Votes = append(m.Votes, v)
	}
	for _, d := range e.Reveals {
		r := reveals[d.Hash]
		if r == nil || r.Authority != d.Authority {
			return nil, unknown
		}
		m.Reveals = append(m.Reveals, r)
	}
	c, err := Compute(n, *m)
	switch {
	case err == nil && c.Hash() == e.Consensus && c.Inputs.equal(&e.Inputs):
		return c, right
	case err != nil && (errs.KindOf(err) == errs.NotFound || errs.KindOf(err) == errs.Internal):
		return nil, unknown
	}
	return nil, wrong
}

// title gives the first word of a document.
func title(b []byte) string {
	t, _, _ := bytes.Cut(b[:min(len(b), MaxName)], []byte(" "))
	return string(t)
}

// Equivocations gives a proof against each authority that endorsed both of two different
// consensuses of one epoch. Where both have the threshold there is at least one.
func Equivocations(n *Network, a, b *Consensus) []*Proof {
	if a.Epoch != b.Epoch || a.Hash() == b.Hash() {
		return nil
	}
	var out []*Proof
	for _, x := range a.Endorsements() {
		ex, err := ParseEndorsement(n, x)
		if err != nil {
			continue
		}
		for _, y := range b.Endorsements() {
			ey, err := ParseEndorsement(n, y)
			if err == nil && ey.Authority == ex.Authority {
				out = append(out, newProof(n, TwoEndorsements, ex.Authority, a.Epoch, x, y))
			}
		}
	}
	return out
}
