package directory

import (
	"slices"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// Entry is a node in a consensus.
type Entry struct {
	ID         packet.ID
	Descriptor Hash
	Layer      int    // 1 to 3 for a mix, else 0: its mode tells the layers
	Score      uint64 // 0 to MaxScore
	Node
}

// Absent is a mix that is not there now, and whose layer is kept.
type Absent struct {
	ID    packet.ID
	Layer int
	Epoch uint64 // the last one in which it was there
}

// Consensus is what the authorities agreed on for an epoch (docs/directory.md §8).
type Consensus struct {
	Network string
	Epoch   uint64
	Period  time.Duration
	Inputs
	Equivocated []packet.ID // authorities that made two votes or two reveals; sorted
	Withheld    []packet.ID // authorities whose vote counts and whose value is missing or wrong; sorted
	Random      Value       // the shared random value
	Parameters  Parameters
	Nodes       []Entry  // sorted by ID
	Absent      []Absent // sorted by ID

	Signatures []Signature // of endorsements, sorted by signer; not verified before Verify

	text
	sum Hash // of text, which may be megabytes
}

var consensusForm = concat(form{
	{"network", 1, 1, 1, 0},
	{"epoch", 1, 1, 1, 0},
	{"period", 1, 1, 1, 0},
	{"valid-after", 1, 1, 1, 0},
	{"valid-until", 1, 1, 1, 0},
}, inputForm, form{
	{"equivocated", 0, MaxAuthorities, 1, 0},
	{"withheld", 0, MaxAuthorities, 1, 0},
	{"shared-random", 1, 1, 1, 0},
	{"parameter", 0, MaxParameters, 2, 0},
})

var entryForm = concat(form{
	{"descriptor", 1, 1, 1, 0},
	{"layer", 0, 1, 1, 0},
	{"score", 1, 1, 1, 0},
}, nodeForm)

var absentForm = form{{"absent", 0, MaxAbsent, 3, 0}}

func concat(f ...form) form { return slices.Concat(f...) }

// ValidAfter is the begin of the epoch.
func (c *Consensus) ValidAfter() time.Time {
	return time.Unix(int64(c.Epoch*uint64(c.Period/time.Second)), 0).UTC()
}

// ValidUntil is when the consensus may no longer be used: ValidEpochs after its begin.
func (c *Consensus) ValidUntil() time.Time { return c.ValidAfter().Add(ValidEpochs * c.Period) }

// Hash names the consensus: SHA-256 of what is signed.
func (c *Consensus) Hash() Hash { return c.sum }

// Name is what others call this consensus.
func (c *Consensus) Name() Previous { return Previous{c.Epoch, c.Hash()} }

// Find gives the entry of a node, nil if there is none.
func (c *Consensus) Find(id packet.ID) *Entry {
	if i, ok := slices.BinarySearchFunc(c.Nodes, id, func(e Entry, id packet.ID) int { return compareID(e.ID, id) }); ok {
		return &c.Nodes[i]
	}
	return nil
}

// seal writes the document without signatures and reads it back, so that whatever was
// computed is held to the form.
func (c *Consensus) seal(op string) (*Consensus, error) {
	w := &writer{}
	w.line("postern-consensus", 1)
	w.line("network", c.Network)
	w.line("epoch", c.Epoch)
	w.line("period", uint64(c.Period/time.Second))
	w.line("valid-after", c.ValidAfter())
	w.line("valid-until", c.ValidUntil())
	c.Inputs.write(w)
	for _, a := range c.Equivocated {
		w.line("equivocated", a)
	}
	for _, a := range c.Withheld {
		w.line("withheld", a)
	}
	w.line("shared-random", Hash(c.Random))
	c.Parameters.write(w)
	for i := range c.Nodes {
		e := &c.Nodes[i]
		w.line("node", e.ID)
		w.line("descriptor", e.Descriptor)
		if e.Layer != 0 {
			w.line("layer", e.Layer)
		}
		w.line("score", e.Score)
		e.Node.write(w)
	}
	for _, a := range c.Absent {
		w.line("absent", a.ID, a.Layer, a.Epoch)
	}
	return parseConsensus(op, w.b, c)
}

// WithSignatures gives the same consensus with these signatures of endorsements, in any
// order; of two by one signer the first is taken.
func (c *Consensus) WithSignatures(sigs []Signature) (*Consensus, error) {
	sigs = slices.Clone(sigs)
	slices.SortStableFunc(sigs, func(a, b Signature) int { return compareID(a.Signer, b.Signer) })
	sigs = slices.CompactFunc(sigs, func(a, b Signature) bool { return a.Signer == b.Signer })
	w := &writer{b: slices.Clone(c.raw[:c.body])}
	for i := range sigs {
		w.signature(&sigs[i])
	}
	return parseConsensus("directory.Consensus.WithSignatures", w.b, c)
}

// ParseConsensus reads a consensus. It keeps b. The errors of ParseDescriptor. It verifies
// nothing: see Verify.
func ParseConsensus(b []byte) (*Consensus, error) {
	return parseConsensus("directory.ParseConsensus", b, nil)
}

// ParseConsensusAfter is ParseConsensus for one of which another of the same network is at
// hand, nil for none: the keys of packets that are in both are taken from it and not made
// again, which is most of the work, and of the memory.
func ParseConsensusAfter(b []byte, other *Consensus) (*Consensus, error) {
	return parseConsensus("directory.ParseConsensusAfter", b, other)
}

func parseConsensus(op string, b []byte, other *Consensus) (*Consensus, error) {
	s, err := begin(op, "postern-consensus", b, MaxConsensus)
	if err != nil {
		return nil, err
	}
	c := &Consensus{text: text{raw: b}}
	var after, until time.Time
	err = s.read(consensusForm, []string{"node", "absent", "signature"}, func(key string, v *fields) error {
		switch key {
		case "network":
			c.Network = v.name()
		case "epoch":
			c.Epoch = v.uint(1, maxEpoch)
		case "period":
			c.Period = time.Duration(v.uint(uint64(MinPeriod/time.Second), uint64(MaxPeriod/time.Second))) * time.Second
		case "valid-after":
			after = v.time()
		case "valid-until":
			until = v.time()
		case "equivocated":
			readSorted(v, &c.Equivocated)
		case "withheld":
			readSorted(v, &c.Withheld)
		case "shared-random":
			c.Random = Value(v.hash())
		case "parameter":
			return c.Parameters.add(v, true)
		default:
			if c.Inputs.read(key, v); c.Previous.Epoch >= c.Epoch {
				v.fail("not before this epoch")
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !after.Equal(c.ValidAfter()) || !until.Equal(c.ValidUntil()) {
		return nil, errs.E(op, errs.Invalid, "validity does not follow from the epoch", nil)
	}
	if err := c.readNodes(s, other); err != nil {
		return nil, err
	}
	c.body, c.Signatures, err = s.signatures(0, MaxAuthorities)
	if err != nil {
		return nil, err
	}
	c.sum = c.text.Hash()
	return c, nil
}

func (c *Consensus) readNodes(s *scanner, other *Consensus) error {
	for {
		l, err := s.peek()
		if err != nil {
			return err
		}
		if l == nil || l.key != "node" {
			break
		}
		if len(c.Nodes) == MaxNodes {
			return s.fault(errs.Invalid, "more than %d of node", MaxNodes)
		}
		e, err := readEntry(s, other)
		if err != nil {
			return err
		}
		if n := len(c.Nodes); n > 0 && compareID(c.Nodes[n-1].ID, e.ID) >= 0 {
			return s.fault(errs.Invalid, "nodes are not sorted")
		}
		c.Nodes = append(c.Nodes, e)
	}
	return s.read(absentForm, untilSignature, func(_ string, v *fields) error {
		a := Absent{ID: v.id(), Layer: int(v.uint(1, mixLayers)), Epoch: v.uint(1, maxEpoch)}
		if n := len(c.Absent); n > 0 && compareID(c.Absent[n-1].ID, a.ID) >= 0 {
			v.fail("not sorted")
		}
		c.Absent = append(c.Absent, a)
		return nil
	})
}

// readEntry reads one node: from its first line to the next node or the end of the list.
func readEntry(s *scanner, other *Consensus) (e Entry, err error) {
	seen := false
	first, err := s.peek()
	if err != nil {
		return e, err
	}
	if first.critical {
		return e, s.fault(errs.Invalid, "a known keyword is not marked critical")
	}
	// The line itself is read here, so that the next one with its keyword ends the entry.
	s.cur = nil
	v := fields{in: first.args}
	if e.ID = v.id(); v.bad != "" || v.left() > 0 {
		return e, s.fault(errs.Invalid, "node: not an ID")
	}
	if other != nil {
		s.keys = nil
		if o := other.Find(e.ID); o != nil {
			s.keys = o.Keys
		}
	}
	err = s.read(entryForm, []string{"node", "absent", "signature"}, func(key string, v *fields) error {
		switch key {
		case "descriptor":
			e.Descriptor = v.hash()
		case "layer":
			e.Layer, seen = int(v.uint(1, mixLayers)), true
		case "score":
			e.Score = v.uint(0, MaxScore)
		default:
			return e.Node.read(key, v)
		}
		return nil
	})
	if err == nil && seen != e.Mode.Has(Mix) {
		err = s.fault(errs.Invalid, "a mix has a layer, and nothing else has")
	}
	if err == nil {
		err = e.Node.check(s.op)
	}
	return e, err
}

func readSorted(v *fields, list *[]packet.ID) {
	id := v.id()
	if n := len(*list); n > 0 && compareID((*list)[n-1], id) >= 0 {
		v.fail("not sorted")
	}
	*list = append(*list, id)
}

// endorsement is that of one signer for this consensus.
func (c *Consensus) endorsement(signer packet.ID) Endorsement {
	return Endorsement{Header: Header{c.Network, signer, c.Epoch}, Consensus: c.Hash(), Inputs: c.Inputs}
}

// Endorsements gives the whole documents whose signatures the consensus carries, without
// verifying them.
func (c *Consensus) Endorsements() [][]byte {
	out := make([][]byte, len(c.Signatures))
	for i := range c.Signatures {
		e := c.endorsement(c.Signatures[i].Signer)
		w := e.write()
		w.signature(&c.Signatures[i])
		out[i] = w.b
	}
	return out
}
