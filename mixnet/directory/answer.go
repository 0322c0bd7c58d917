package directory

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"slices"
	"strings"

	"postern.email/mixnet/packet"
)

// Bounds of answers (docs/directory.md §11).
const (
	MaxAnswer      = 64 << 10 // bytes of a list: gossip, offers, proofs, version
	MaxOffers      = 64       // two votes, reveals and endorsements of each authority, and the consensus
	MaxGossip      = 8        // consensuses that one compares
	MaxProofsNamed = 256      // proofs that one answer names
)

// HashOf gives the name of a document without reading it: SHA-256 of what is before its
// signatures, and of the whole of a proof, which has none.
func HashOf(doc []byte) Hash {
	if title(doc) != "postern-proof" {
		if i := bytes.Index(doc, []byte("\nsignature ")); i >= 0 {
			doc = doc[:i+1]
		}
	}
	return sha256.Sum256(doc)
}

// Hash names the proof: SHA-256 of all of it.
func (p *Proof) Hash() Hash { return sha256.Sum256(p.raw) }

// GossipList is an answer to RequestGossip: the consensuses that somebody knows.
type GossipList struct {
	Network string
	Gossip  []Gossip // by epoch, each epoch once
}

var gossipForm = form{
	{"network", 1, 1, 1, 0},
	{"gossip", 0, MaxGossip, 2, 0},
}

// Bytes gives the text; ParseGossip reads it.
func (g *GossipList) Bytes() []byte {
	w := &writer{}
	w.line("postern-gossip", 1)
	w.line("network", g.Network)
	for _, x := range g.Gossip {
		w.line("gossip", x.Epoch, x.Sum)
	}
	return w.b
}

// ParseGossip reads a GossipList. The errors of ParseDescriptor.
func ParseGossip(b []byte) (*GossipList, error) {
	g := &GossipList{}
	err := readAnswer("directory.ParseGossip", "postern-gossip", gossipForm, b, func(key string, v *fields) error {
		switch key {
		case "network":
			g.Network = v.name()
		case "gossip":
			x := Gossip{Epoch: v.uint(1, maxEpoch), Sum: v.hash()}
			if n := len(g.Gossip); n > 0 && g.Gossip[n-1].Epoch >= x.Epoch {
				v.fail("not sorted")
			}
			g.Gossip = append(g.Gossip, x)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return g, nil
}

// Offer names a document.
type Offer struct {
	Kind string // "vote", "reveal", "endorsement" or "consensus"
	Hash Hash   // HashOf
	Size int    // bytes
}

// OfferList is an answer to RequestOffers: documents of an epoch's agreement that an authority
// has, its own and those of others.
type OfferList struct {
	Network string
	Epoch   uint64
	Offers  []Offer // sorted by hash
}

var offersForm = form{
	{"network", 1, 1, 1, 0},
	{"epoch", 1, 1, 1, 0},
	{"offer", 0, MaxOffers, 3, 0},
}

var offerKinds = []string{"vote", "reveal", "endorsement", "consensus"}

// NewOffers names what Machine.Offers gives.
func NewOffers(n *Network, epoch uint64, docs [][]byte) *OfferList {
	l := &OfferList{Network: n.name, Epoch: epoch}
	for _, d := range docs {
		l.Offers = append(l.Offers, Offer{strings.TrimPrefix(title(d), "postern-"), HashOf(d), len(d)})
	}
	slices.SortFunc(l.Offers, func(a, b Offer) int { return compareHash(a.Hash, b.Hash) })
	return l
}

// Bytes gives the text; ParseOffers reads it.
func (l *OfferList) Bytes() []byte {
	w := &writer{}
	w.line("postern-offers", 1)
	w.line("network", l.Network)
	w.line("epoch", l.Epoch)
	for _, o := range l.Offers {
		w.line("offer", o.Kind, o.Hash, o.Size)
	}
	return w.b
}

// ParseOffers reads an OfferList. The errors of ParseDescriptor.
func ParseOffers(b []byte) (*OfferList, error) {
	l := &OfferList{}
	err := readAnswer("directory.ParseOffers", "postern-offers", offersForm, b, func(key string, v *fields) error {
		switch key {
		case "network":
			l.Network = v.name()
		case "epoch":
			l.Epoch = v.uint(1, maxEpoch)
		case "offer":
			o := Offer{Kind: v.name(), Hash: v.hash(), Size: int(v.uint(1, MaxConsensus))}
			if !slices.Contains(offerKinds, o.Kind) {
				v.fail("not a document of the agreement")
			}
			if n := len(l.Offers); n > 0 && compareHash(l.Offers[n-1].Hash, o.Hash) >= 0 {
				v.fail("not sorted")
			}
			l.Offers = append(l.Offers, o)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

// ProofName is a proof that can be had.
type ProofName struct {
	Hash    Hash
	Kind    ProofKind
	Accused packet.ID
	Epoch   uint64
	Size    int // bytes
}

// ProofList is an answer to RequestProofs.
type ProofList struct {
	Network string
	Proofs  []ProofName // sorted by hash
}

var proofsForm = form{
	{"network", 1, 1, 1, 0},
	{"proof", 0, MaxProofsNamed, 5, 0},
}

// NewProofList names up to MaxProofsNamed proofs, the newest if there are more.
func NewProofList(n *Network, proofs []*Proof) *ProofList {
	l := &ProofList{Network: n.name}
	for _, p := range proofs {
		l.Proofs = append(l.Proofs, ProofName{p.Hash(), p.Kind, p.Accused, p.Epoch, len(p.raw)})
	}
	byHash := func(a, b ProofName) int { return compareHash(a.Hash, b.Hash) }
	slices.SortFunc(l.Proofs, func(a, b ProofName) int { return cmp.Or(cmp.Compare(b.Epoch, a.Epoch), byHash(a, b)) })
	l.Proofs = slices.CompactFunc(l.Proofs, func(a, b ProofName) bool { return a.Hash == b.Hash })
	l.Proofs = l.Proofs[:min(len(l.Proofs), MaxProofsNamed)]
	slices.SortFunc(l.Proofs, byHash)
	return l
}

// Bytes gives the text; ParseProofs reads it.
func (l *ProofList) Bytes() []byte {
	w := &writer{}
	w.line("postern-proofs", 1)
	w.line("network", l.Network)
	for _, p := range l.Proofs {
		w.line("proof", p.Hash, string(p.Kind), p.Accused, p.Epoch, p.Size)
	}
	return w.b
}

// ParseProofs reads a ProofList. The errors of ParseDescriptor.
func ParseProofs(b []byte) (*ProofList, error) {
	l := &ProofList{}
	err := readAnswer("directory.ParseProofs", "postern-proofs", proofsForm, b, func(key string, v *fields) error {
		switch key {
		case "network":
			l.Network = v.name()
		case "proof":
			p := ProofName{Hash: v.hash(), Kind: ProofKind(v.name()), Accused: v.id(), Epoch: v.uint(1, maxEpoch), Size: int(v.uint(1, MaxProof))}
			if n := len(l.Proofs); n > 0 && compareHash(l.Proofs[n-1].Hash, p.Hash) >= 0 {
				v.fail("not sorted")
			}
			l.Proofs = append(l.Proofs, p)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

// VersionInfo is an answer to RequestVersion.
type VersionInfo struct {
	Network string
	Version string // of the program, as in Node
}

var versionForm = form{
	{"network", 1, 1, 1, 0},
	{"version", 1, 1, 1, 0},
}

// Bytes gives the text; ParseVersion reads it.
func (i *VersionInfo) Bytes() []byte {
	w := &writer{}
	w.line("postern-version", 1)
	w.line("network", i.Network)
	w.line("version", i.Version)
	return w.b
}

// ParseVersion reads a VersionInfo. The errors of ParseDescriptor.
func ParseVersion(b []byte) (*VersionInfo, error) {
	i := &VersionInfo{}
	err := readAnswer("directory.ParseVersion", "postern-version", versionForm, b, func(key string, v *fields) error {
		switch key {
		case "network":
			i.Network = v.name()
		case "version":
			i.Version = v.name()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return i, nil
}

// readAnswer reads a list, which is not signed.
func readAnswer(op, title string, f form, b []byte, visit func(key string, v *fields) error) error {
	s, err := begin(op, title, b, MaxAnswer)
	if err != nil {
		return err
	}
	return s.read(f, nil, visit)
}

func compareHash(a, b Hash) int { return bytes.Compare(a[:], b[:]) }
