package directory

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// View is what an authority brings to an epoch: what its operator wants, and the nodes that
// its Registry holds approved.
type View struct {
	Parameters Parameters
	Nodes      []Rated
	Previous   *Consensus // the newest that it knows; nil: none
}

// Rated is a node and how reliable it was.
type Rated struct {
	Descriptor *Descriptor
	Score      uint64 // 0 to MaxScore; see Scores
}

// Machine is one authority's part in the agreement on one epoch. It is told what comes in
// (SetView, Add) and what time it is (Advance), and says what goes out (Offers, Wants,
// Consensus, Proofs). Each of its documents is made once: whoever owns it writes what
// Advance gave to the disk before giving it out, and puts it back with Add after a restart.
//
// What it holds is bounded: two votes, reveals and endorsements of each authority, the
// descriptors that one vote of each names, and the consensuses before that they name.
type Machine struct {
	net    *Network
	signer Signer
	self   packet.ID
	secret *[32]byte
	epoch  uint64
	view   *View

	votes        map[packet.ID][]*Vote
	reveals      map[packet.ID][]*Reveal
	endorsements map[packet.ID][]*Endorsement
	descriptors  map[Hash]*Descriptor
	before       map[Previous]*Consensus
	computed     map[Hash]*Consensus // bodies that follow from inputs that are here
	checked      map[Hash]bool       // endorsements that were computed again
	final        *Consensus
	proofs       map[string]*Proof
	seen         map[Hash]bool // exact bytes that were taken, so that they are verified once
}

// NewMachine begins the agreement on an epoch, 1 or later. secret is the one of NewValue. errs.Denied
// if the signer is no authority of the network.
func NewMachine(n *Network, epoch uint64, s Signer, secret *[32]byte) (*Machine, error) {
	const op = "directory.NewMachine"
	if n.authority(s.Public().id) == nil {
		return nil, errs.E(op, errs.Denied, "this key is no authority of the network", nil)
	}
	if epoch < 1 || epoch > maxEpoch {
		return nil, errs.E(op, errs.Invalid, "no such epoch", nil)
	}
	return &Machine{
		net: n, signer: s, self: s.Public().id, secret: secret, epoch: epoch,
		votes: map[packet.ID][]*Vote{}, reveals: map[packet.ID][]*Reveal{}, endorsements: map[packet.ID][]*Endorsement{},
		descriptors: map[Hash]*Descriptor{}, before: map[Previous]*Consensus{}, computed: map[Hash]*Consensus{},
		checked: map[Hash]bool{}, proofs: map[string]*Proof{}, seen: map[Hash]bool{},
	}, nil
}

// Epoch is the one that is agreed on.
func (m *Machine) Epoch() uint64 { return m.epoch }

// SetView says what this authority will vote for. The last one before the vote counts;
// errs.Conflict after it. Nodes whose descriptor is not fresh are best left out.
func (m *Machine) SetView(v View) error {
	const op = "directory.Machine.SetView"
	if len(m.votes[m.self]) > 0 {
		return errs.E(op, errs.Conflict, "the vote was made already", nil)
	}
	if len(v.Nodes) > MaxNodes {
		return errs.E(op, errs.TooLarge, fmt.Sprintf("more than %d nodes", MaxNodes), nil)
	}
	if v.Previous != nil {
		if v.Previous.Epoch >= m.epoch {
			return errs.E(op, errs.Invalid, "the previous consensus is not before this epoch", nil)
		}
		if _, err := m.net.signers(op, v.Previous); err != nil {
			return err
		}
	}
	v.Nodes = slices.Clone(v.Nodes)
	slices.SortFunc(v.Nodes, func(a, b Rated) int { return compareID(a.Descriptor.ID(), b.Descriptor.ID()) })
	m.view = &v
	return nil
}

// Add takes a document of anybody: a vote, reveal, endorsement or consensus of this epoch, or
// a descriptor or an earlier consensus that is wanted (Wants). Taking one twice does nothing.
// errs.Denied for another network, epoch or signer, errs.NotFound for what nobody wants,
// errs.Exists for one of an authority that has two others with lower hashes; or the errors of
// the parsers.
func (m *Machine) Add(doc []byte) error {
	const op = "directory.Machine.Add"
	sum := Hash(sha256.Sum256(doc))
	if m.seen[sum] {
		return nil
	}
	var err error
	switch title(doc) {
	case "postern-vote":
		var v *Vote
		if v, err = ParseVote(m.net, doc); err == nil {
			err = addTo(m, m.votes, v.Authority, v.Epoch, v, TwoVotes)
			m.compareReveals(v.Authority)
		}
	case "postern-reveal":
		var r *Reveal
		if r, err = ParseReveal(m.net, doc); err == nil {
			err = addTo(m, m.reveals, r.Authority, r.Epoch, r, TwoReveals)
			m.compareReveals(r.Authority)
		}
	case "postern-endorsement":
		var e *Endorsement
		if e, err = ParseEndorsement(m.net, doc); err == nil {
			err = addTo(m, m.endorsements, e.Authority, e.Epoch, e, TwoEndorsements)
		}
	case "postern-descriptor":
		err = m.addDescriptor(doc)
	case "postern-consensus":
		err = m.addConsensus(doc)
	default:
		err = errs.E(op, errs.Unsupported, "not a document of the agreement", nil)
	}
	if err == nil && len(m.seen) < maxSeen {
		m.seen[sum] = true
	}
	return errs.Wrap(op, err)
}

// maxSeen bounds what is remembered to save work: some signatures of every document.
const maxSeen = 2 * maxProofDocuments

// document is what every signed document can do.
type document interface {
	Bytes() []byte
	Hash() Hash
}

// addTo keeps up to two different documents of an authority, of more than two those with the
// lowest hashes; two are a proof.
func addTo[D document](m *Machine, all map[packet.ID][]D, id packet.ID, epoch uint64, d D, kind ProofKind) error {
	const op = "directory.Machine.add"
	if epoch != m.epoch {
		return errs.E(op, errs.Denied, "document is of another epoch", nil)
	}
	for _, o := range all[id] {
		if o.Hash() == d.Hash() {
			return nil
		}
	}
	if l := all[id]; len(l) == 2 {
		// Whoever makes more than two could otherwise give each authority another pair, and no
		// two of them would compute the same.
		i := 0
		if compareHash(l[0].Hash(), l[1].Hash()) < 0 {
			i = 1
		}
		if compareHash(d.Hash(), l[i].Hash()) > 0 {
			return errs.E(op, errs.Exists, "two different documents of this authority are here already", nil)
		}
		all[id] = []D{l[1-i], d}
		return nil
	}
	all[id] = append(all[id], d)
	if l := all[id]; len(l) == 2 {
		m.prove(newProof(m.net, kind, id, m.epoch, l[0].Bytes(), l[1].Bytes()))
	}
	return nil
}

// compareReveals looks whether an authority revealed what it committed to.
func (m *Machine) compareReveals(id packet.ID) {
	for _, v := range m.votes[id] {
		for _, r := range m.reveals[id] {
			if len(m.votes[id]) == 1 && r.Value.Commit(m.net.name, id, m.epoch) != v.Commit {
				m.prove(newProof(m.net, WrongReveal, id, m.epoch, v.Bytes(), r.Bytes()))
			}
		}
	}
}

// prove keeps the first proof of each kind against each authority, if others can read it.
func (m *Machine) prove(p *Proof) {
	key := string(p.Kind) + string(p.Accused[:])
	if m.proofs[key] == nil && len(p.raw) <= MaxProof && len(p.Documents) <= maxProofDocuments {
		m.proofs[key] = p
	}
}

func (m *Machine) addDescriptor(doc []byte) error {
	const op = "directory.Machine.addDescriptor"
	d, _, err := parseDescriptor(op, doc)
	if err != nil {
		return err
	}
	if m.descriptors[d.Hash()] != nil {
		return nil
	}
	if !slices.Contains(m.Wants(), d.Hash()) {
		return errs.E(op, errs.NotFound, "no vote names this descriptor", nil)
	}
	if d, err = ParseDescriptor(doc); err != nil {
		return err
	}
	m.descriptors[d.Hash()] = d
	return nil
}

func (m *Machine) addConsensus(doc []byte) error {
	const op = "directory.Machine.addConsensus"
	c, err := ParseConsensus(doc)
	if err != nil {
		return err
	}
	if c.Epoch != m.epoch && !slices.Contains(m.Wants(), c.Hash()) {
		return errs.E(op, errs.NotFound, "no vote names this consensus", nil)
	}
	if _, err := m.net.signers(op, c); err != nil {
		return err
	}
	switch {
	case c.Epoch != m.epoch:
		m.before[c.Name()] = c
	case m.final == nil:
		m.finish(c)
	default:
		for _, p := range Equivocations(m.net, m.final, c) {
			m.prove(p)
		}
	}
	return nil
}

// Wants names the descriptors and consensuses that votes name and that are not here, sorted.
func (m *Machine) Wants() []Hash {
	want := map[Hash]bool{}
	for _, l := range m.votes {
		m.lacks(l[0], func(h Hash) { want[h] = true })
	}
	return slices.SortedFunc(maps.Keys(want), func(a, b Hash) int { return compareID(packet.ID(a), packet.ID(b)) })
}

func (m *Machine) lacks(v *Vote, report func(Hash)) {
	if p := v.Previous; p != (Previous{}) && m.before[p] == nil {
		report(p.Hash)
	}
	for _, l := range v.Nodes {
		if m.descriptors[l.Descriptor] == nil {
			report(l.Descriptor)
		}
	}
}

// complete reports whether everything that a vote names is here.
func (m *Machine) complete(v *Vote) bool {
	ok := true
	m.lacks(v, func(Hash) { ok = false })
	return ok
}

// Advance does what is due at a time, and gives the documents of our own that it made. An
// error tells why something that is due cannot be done yet; Advance may be called again
// whenever something came in.
func (m *Machine) Advance(now time.Time) (made [][]byte, err error) {
	const op = "directory.Machine.Advance"
	phase := m.net.PhaseAt(m.epoch, now)
	switch {
	case phase == Voting && len(m.votes[m.self]) == 0:
		made, err = m.vote()
	case phase == Reveals && len(m.votes[m.self]) > 0 && len(m.reveals[m.self]) == 0:
		made, err = m.reveal()
	case phase == Endorse && len(m.endorsements[m.self]) == 0:
		made, err = m.endorse()
	}
	m.examine()
	if phase == Publish {
		if m.final == nil {
			m.publish()
		}
		if m.final == nil {
			err = errs.E(op, errs.Unavailable, fmt.Sprintf("no consensus of epoch %d has the threshold of signatures", m.epoch), nil)
		}
	}
	return made, errs.Wrap(op, err)
}

func (m *Machine) vote() ([][]byte, error) {
	if m.view == nil {
		return nil, errs.E("directory.Machine.vote", errs.NotFound, "there is no view to vote for", nil)
	}
	v := Vote{Header: Header{Epoch: m.epoch}, Parameters: m.view.Parameters}
	v.Commit = NewValue(m.secret, m.net.name, m.epoch).Commit(m.net.name, m.self, m.epoch)
	if p := m.view.Previous; p != nil {
		v.Previous = p.Name()
	}
	for _, r := range m.view.Nodes {
		v.Nodes = append(v.Nodes, Listed{r.Descriptor.ID(), r.Descriptor.Hash(), r.Score})
	}
	out, err := SignVote(m.net, v, m.signer)
	if err != nil {
		return nil, err
	}
	if p := m.view.Previous; p != nil {
		m.before[p.Name()] = p
	}
	for _, r := range m.view.Nodes {
		m.descriptors[r.Descriptor.Hash()] = r.Descriptor
	}
	m.votes[m.self] = []*Vote{out}
	return [][]byte{out.Bytes()}, nil
}

func (m *Machine) reveal() ([][]byte, error) {
	r := Reveal{Header: Header{Epoch: m.epoch}, Value: NewValue(m.secret, m.net.name, m.epoch)}
	for _, a := range m.net.authorities {
		if l := m.votes[a.id]; len(l) == 1 && m.complete(l[0]) {
			r.Votes = append(r.Votes, Named{a.id, l[0].Hash()})
		}
	}
	out, err := SignReveal(m.net, r, m.signer)
	if err != nil {
		return nil, err
	}
	m.reveals[m.self] = []*Reveal{out}
	return [][]byte{out.Bytes()}, nil
}

func (m *Machine) endorse() ([][]byte, error) {
	mat := m.material()
	for _, l := range m.votes {
		mat.Votes = append(mat.Votes, l...)
	}
	for _, l := range m.reveals {
		mat.Reveals = append(mat.Reveals, l...)
	}
	c, err := Compute(m.net, mat)
	if err != nil {
		return nil, err
	}
	e, err := SignEndorsement(m.net, c, m.signer)
	if err != nil {
		return nil, err
	}
	m.computed[c.Hash()] = c
	m.checked[e.Hash()] = true
	m.endorsements[m.self] = []*Endorsement{e}
	return [][]byte{e.Bytes()}, nil
}

func (m *Machine) material() Material {
	return Material{
		Epoch:      m.epoch,
		Previous:   func(p Previous) *Consensus { return m.before[p] },
		Descriptor: func(h Hash) *Descriptor { return m.descriptors[h] },
	}
}

// Consensus gives the consensus of the epoch once it may be given out; nil before.
func (m *Machine) Consensus() *Consensus { return m.final }

// Missing tells which authorities' votes are not here, for status pages and logs.
func (m *Machine) Missing() []packet.ID {
	var out []packet.ID
	for _, a := range m.net.authorities {
		if len(m.votes[a.id]) == 0 {
			out = append(out, a.id)
		}
	}
	return out
}

// Proofs gives what is proven so far, sorted by accused and kind.
func (m *Machine) Proofs() []*Proof {
	return slices.SortedFunc(maps.Values(m.proofs), func(a, b *Proof) int {
		if c := compareID(a.Accused, b.Accused); c != 0 {
			return c
		}
		return slices.Compare([]byte(a.Kind), []byte(b.Kind))
	})
}

// Offers gives the documents that all others should have: every vote, reveal and
// endorsement that is here, those of others too, so that one way between each two
// authorities is enough; and the consensus. What they name is given when it is wanted
// (Document).
func (m *Machine) Offers() [][]byte {
	var out [][]byte
	for _, a := range m.net.authorities {
		for _, v := range m.votes[a.id] {
			out = append(out, v.Bytes())
		}
		for _, r := range m.reveals[a.id] {
			out = append(out, r.Bytes())
		}
		for _, e := range m.endorsements[a.id] {
			out = append(out, e.Bytes())
		}
	}
	if m.final != nil {
		out = append(out, m.final.Bytes())
	}
	return out
}

// Document gives a descriptor or an earlier consensus by its hash, nil if it is not here.
func (m *Machine) Document(h Hash) []byte {
	if d := m.descriptors[h]; d != nil {
		return d.Bytes()
	}
	for p, c := range m.before {
		if p.Hash == h {
			return c.Bytes()
		}
	}
	return nil
}

// Next is when Advance has something new to do: the begin of the next phase. The zero time
// after the last.
func (m *Machine) Next(now time.Time) time.Time {
	for _, p := range []Phase{Voting, Reveals, Endorse, Publish} {
		if t := m.net.phaseBegin(m.epoch, p); t.After(now) {
			return t
		}
	}
	return time.Time{}
}
