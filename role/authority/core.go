package authority

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
)

// core is what an authority knows, behind one lock. Its changes are on the disk before they
// are told to anybody. It has no goroutine of its own: tick is called when it says so, take
// when something came in.
type core struct {
	disk   disk
	net    *directory.Network
	signer directory.Signer
	self   packet.ID
	secret [32]byte // of directory.NewValue
	params directory.Parameters
	keep   int                        // consensuses
	give   func(*directory.Consensus) // one that may be given out; it must not call back
	now    func() time.Time
	log    *slog.Logger

	newest atomic.Pointer[directory.Consensus] // nil: none is known yet
	links  atomic.Pointer[map[link.Key]link.Role]

	mu          sync.Mutex
	registry    *directory.Registry
	records     map[packet.ID]*record // what the disk holds
	history     *directory.History
	agreements  map[uint64]*agreement       // of the epoch that is now and the next one
	consensuses map[uint64]directory.Hash   // on the disk, by epoch
	proofs      map[string]*directory.Proof // by file
	proofNames  []byte                      // their list, as an answer
	tidied      uint64                      // the epoch in which tidy was run last
	sitOut      uint64                      // no part is taken in agreements on epochs up to this one
}

// agreement is one Machine with what the disk and the others need of it.
type agreement struct {
	epoch  uint64
	m      *directory.Machine
	docs   []offered // what may be given out
	list   []byte    // their names, as an answer
	by     map[directory.Hash]int
	unkept [][]byte // own documents that are not on the disk yet
	dir    bool     // its directory is durable
	voted  bool
	done   bool // the consensus is kept
	why    error
	told   bool // that there is no consensus; or the agreement was half over before this began
	odd    map[directory.Hash]bool
}

// offered is a document of the agreement.
type offered struct {
	kind      string
	authority packet.ID // of a vote, reveal or endorsement
	hash      directory.Hash
	doc       []byte
}

// maxOdd bounds what is remembered of documents that were not taken, so that they are not
// fetched again and again.
const maxOdd = 1024

// coreOptions are all needed.
type coreOptions struct {
	disk   disk
	net    *directory.Network
	signer directory.Signer
	secret [32]byte
	params directory.Parameters
	keep   int
	give   func(*directory.Consensus)
	now    func() time.Time
	log    *slog.Logger
}

// openCore reads the data directory.
func openCore(o coreOptions) (*core, error) {
	c := &core{disk: o.disk, net: o.net, signer: o.signer, self: o.signer.Public().ID(), secret: o.secret, params: o.params, keep: o.keep,
		give: o.give, now: o.now, log: o.log, history: directory.NewHistory(o.net), agreements: map[uint64]*agreement{},
		consensuses: map[uint64]directory.Hash{}, proofs: map[string]*directory.Proof{}}
	if err := c.disk.makeDirs(); err != nil {
		return nil, err
	}
	for _, load := range []func() error{c.begin, c.loadNodes, c.loadHistory, c.loadConsensuses, c.loadProofs} {
		if err := load(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// begin finds out in which agreements this authority may take part. Each of its documents is
// made once; that rests on the disk. Where a disk has keys that Init did not make there, there may be documents of the agreement that is under way which this disk has
// lost: it is left to the others.
func (c *core) begin() error {
	const op = "role/authority.begin"
	b, err := c.disk.read(beganFile)
	switch {
	case err == nil:
		if _, err := fmt.Sscanf(string(b), "stays out until %d\n", &c.sitOut); err != nil {
			return errs.E(op, errs.Corrupt, "the file "+beganFile+" in the data directory is damaged", err)
		}
		return nil
	case errs.KindOf(err) != errs.NotFound:
		return err
	}
	next := c.net.Epoch(c.now()) + 1
	if c.net.PhaseAt(next, c.now()) != directory.Collect {
		c.sitOut = next
		c.log.Warn("this data directory knows nothing of what was signed with these keys: no part is taken in the agreement that is under way", "epoch", next)
	}
	return c.disk.write([]byte(beganText(c.sitOut)), beganFile)
}

func (c *core) loadConsensuses() error {
	epochs, err := c.disk.epochs(consensusDir)
	if err != nil {
		return err
	}
	for _, e := range epochs {
		p, err := c.disk.consensus(c.net, e)
		if err != nil {
			// Of a network file with other members, or damaged: the others may have it.
			c.log.Warn("a consensus on the disk is not one of this network; it is left alone", "epoch", e, "err", err)
			continue
		}
		c.consensuses[e] = p.Hash()
		c.newest.Store(p)
	}
	return nil
}

func (c *core) loadProofs() (err error) {
	c.proofs, err = c.disk.proofs(c.net, func(err error) {
		c.log.Warn("a proof on the disk proves nothing in this network; it is left alone", "err", err)
	})
	c.proofNames = directory.NewProofList(c.net, sorted(c.proofs)).Bytes()
	return err
}

// tick does what is due and tells when something will be due again.
func (c *core) tick() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	current := c.net.Epoch(now)
	for e := range c.agreements {
		if e != current && e != current+1 {
			delete(c.agreements, e)
		}
	}
	next := c.net.Begin(current + 1)
	for _, e := range []uint64{current, current + 1} {
		if e < 1 {
			continue
		}
		a, err := c.agreement(e)
		if err != nil {
			c.log.Error("an agreement cannot be opened; it is tried again", "epoch", e, "err", err)
			next = earlier(next, now.Add(c.beat()))
			continue
		}
		c.advance(a, now)
		if t := a.m.Next(now); !t.IsZero() {
			next = earlier(next, t)
		}
		if a.why != nil && c.net.PhaseAt(e, now) != directory.Publish || len(a.unkept) > 0 {
			next = earlier(next, now.Add(c.beat()))
		}
	}
	c.tidy(current)
	return next
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// beats is how many times in an epoch the authorities look at each other's documents: four
// times a phase.
const beats = 32

// beat is the time between two of them.
func (c *core) beat() time.Duration { return min(c.net.Period()/beats, maxBeat) }

// maxBeat bounds it where epochs are long.
const maxBeat = 2 * time.Minute

// agreement gives the one on an epoch, as the disk has it.
func (c *core) agreement(epoch uint64) (*agreement, error) {
	if a := c.agreements[epoch]; a != nil {
		return a, nil
	}
	m, err := directory.NewMachine(c.net, epoch, c.signer, &c.secret)
	if err != nil {
		return nil, err
	}
	a := &agreement{epoch: epoch, m: m, odd: map[directory.Hash]bool{}}
	names, err := c.agreementFiles(epoch)
	if err != nil {
		return nil, err
	}
	// Votes first: what is wanted follows from them.
	slices.SortStableFunc(names, func(x, y string) int { return strings.Compare(rankOf(x), rankOf(y)) })
	for _, n := range names {
		b, err := c.disk.read(epochDir, epochText(epoch), n)
		if err == nil {
			err = m.Add(b)
		}
		if err != nil {
			c.log.Warn("a document of an agreement on the disk cannot be used", "epoch", epoch, "err", err)
		}
	}
	for _, h := range m.Wants() {
		if b := c.document(h); b != nil {
			_ = m.Add(b) // one that does not fit is asked for elsewhere
		}
	}
	if b, err := c.disk.read(consensusDir, epochText(epoch)); err == nil {
		if m.Add(b) == nil {
			a.done = m.Consensus() != nil
		}
	}
	a.told = c.net.PhaseAt(epoch, c.now()) >= directory.Endorse
	c.agreements[epoch] = a
	c.refresh(a)
	return a, nil
}

func (c *core) agreementFiles(epoch uint64) ([]string, error) {
	epochs, err := c.disk.epochs(epochDir)
	if err != nil || !slices.Contains(epochs, epoch) {
		return nil, err
	}
	return c.disk.list(epochDir, epochText(epoch))
}

func rankOf(name string) string {
	kind, _, _ := strings.Cut(name, "-")
	return map[string]string{kindVote: "1", kindReveal: "2", kindEndorsement: "3"}[kind]
}

// document gives a descriptor or a consensus from the disk, nil if it is not there.
func (c *core) document(h directory.Hash) []byte {
	if b, err := c.disk.read(documentDir, h.String()); err == nil {
		return b
	}
	for e, k := range c.consensuses {
		if k == h {
			if b, err := c.disk.read(consensusDir, epochText(e)); err == nil {
				return b
			}
		}
	}
	return nil
}

// advance lets the machine do what is due, and keeps what it made before anybody sees it.
func (c *core) advance(a *agreement, now time.Time) {
	phase := c.net.PhaseAt(a.epoch, now)
	out := a.epoch <= c.sitOut && phase != directory.Publish // Advance makes nothing when all publish
	if !out {
		if phase == directory.Voting && !a.voted {
			if err := c.prepare(a); err != nil {
				c.log.Error("the vote cannot be prepared", "epoch", a.epoch, "err", err)
			}
		}
		made, err := a.m.Advance(now)
		a.why = err
		a.unkept = append(a.unkept, made...)
	}
	for len(a.unkept) > 0 {
		if err := c.keepDocument(a, a.unkept[0]); err != nil {
			c.log.Error("a document of this authority cannot be kept, and is not given out before it is", "epoch", a.epoch, "err", err)
			break
		}
		c.log.Debug("made", "document", kindOf(a.unkept[0]), "epoch", a.epoch)
		a.unkept = a.unkept[1:]
	}
	c.finish(a)
	for _, p := range a.m.Proofs() {
		c.prove(p)
	}
	if phase == directory.Publish && !a.done && !a.told && !now.Before(c.net.Begin(a.epoch)) {
		a.told = true
		c.log.Warn("there is no consensus of this epoch; the one before is good for some time", "epoch", a.epoch, "missing_votes", len(a.m.Missing()), "err", a.why)
	}
	c.refresh(a)
}

// prepare gives the machine what to vote for, after that is on the disk.
func (c *core) prepare(a *agreement) error {
	current := c.net.Epoch(c.now())
	nodes := c.registry.Fresh(c.net.Begin(a.epoch))
	scores := c.history.Scores(nodes, current)
	v := directory.View{Parameters: c.params}
	for _, d := range nodes {
		if err := c.keepNamed(d.Bytes(), d.Hash()); err != nil {
			return err
		}
		v.Nodes = append(v.Nodes, directory.Rated{Descriptor: d, Score: scores[d.ID()]})
	}
	if p := c.before(a.epoch); p != nil {
		if err := c.keepNamed(p.Bytes(), p.Hash()); err != nil {
			return err
		}
		v.Previous = p
	}
	return a.m.SetView(v)
}

// before gives the newest consensus before an epoch.
func (c *core) before(epoch uint64) *directory.Consensus {
	p := c.newest.Load()
	if p == nil || p.Epoch < epoch {
		return p
	}
	best := uint64(0)
	for e := range c.consensuses {
		if e < epoch {
			best = max(best, e)
		}
	}
	if b, err := c.disk.read(consensusDir, epochText(best)); err == nil {
		if p, err := directory.ParseConsensus(b); err == nil {
			return p
		}
	}
	return nil
}

// keepNamed keeps what a vote names.
func (c *core) keepNamed(doc []byte, h directory.Hash) error {
	if c.document(h) != nil {
		return nil
	}
	return c.disk.write(doc, documentDir, h.String())
}

// keepDocument keeps a vote, reveal or endorsement.
func (c *core) keepDocument(a *agreement, doc []byte) error {
	if !a.dir {
		if err := c.disk.makeEpoch(a.epoch); err != nil {
			return err
		}
		a.dir = true
	}
	return c.disk.write(doc, epochDir, epochText(a.epoch), documentName(doc))
}

// finish keeps a consensus that may be given out.
func (c *core) finish(a *agreement) {
	p := a.m.Consensus()
	if p == nil || a.done {
		return
	}
	if err := c.keepConsensus(p); err != nil {
		c.log.Error("a consensus cannot be kept on the disk", "epoch", p.Epoch, "err", err)
		return
	}
	a.done = true
	c.log.Info("consensus", "epoch", p.Epoch, "nodes", len(p.Nodes), "signatures", len(p.Signatures), "of", len(c.net.Authorities()))
}

// keepConsensus keeps one whose signatures were verified.
func (c *core) keepConsensus(p *directory.Consensus) error {
	if err := c.disk.write(p.Bytes(), consensusDir, epochText(p.Epoch)); err != nil {
		return err
	}
	c.consensuses[p.Epoch] = p.Hash()
	if n := c.newest.Load(); n == nil || n.Epoch < p.Epoch {
		c.newest.Store(p)
	}
	c.give(p)
	return nil
}

// news reports whether a proof of a kind against an authority is the first or the newest.
func (c *core) news(accused packet.ID, kind directory.ProofKind, epoch uint64) bool {
	for _, first := range []bool{true, false} {
		if old := c.proofs[proofName(accused, kind, first)]; old == nil {
			if first {
				return true
			}
		} else if old.Epoch >= epoch {
			return false
		}
	}
	return true
}

// prove keeps the first and the newest proof of each kind against each authority.
func (c *core) prove(p *directory.Proof) {
	if !c.news(p.Accused, p.Kind, p.Epoch) {
		return
	}
	name := proofName(p.Accused, p.Kind, c.proofs[proofName(p.Accused, p.Kind, true)] == nil)
	if err := c.disk.write(p.Bytes(), proofDir, name); err != nil {
		c.log.Error("a proof cannot be kept; it is tried again", "err", err)
		return
	}
	c.proofs[name] = p
	c.proofNames = directory.NewProofList(c.net, sorted(c.proofs)).Bytes()
	text := "an authority broke a rule; the proof is published"
	if p.Accused == c.self {
		text = "a rule was broken with the keys of this authority: does another process use them, or is its line to the others cut?"
	}
	c.log.Warn(text, "authority", shortID(p.Accused), "rule", string(p.Kind), "epoch", p.Epoch)
}

// refresh makes the list of what may be given out: all but own documents that are not on the
// disk.
func (c *core) refresh(a *agreement) {
	unkept := make(map[directory.Hash]bool, len(a.unkept))
	for _, d := range a.unkept {
		unkept[directory.HashOf(d)] = true
	}
	a.docs, a.by = nil, map[directory.Hash]int{}
	var out [][]byte
	for _, d := range a.m.Offers() {
		o := offered{kind: kindOf(d), hash: directory.HashOf(d), doc: d}
		o.authority, _ = authorityOf(d)
		if o.kind == kindVote && o.authority == c.self {
			a.voted = true
		}
		if unkept[o.hash] || o.kind == kindConsensus && !a.done {
			continue
		}
		if _, ok := a.by[o.hash]; !ok {
			a.by[o.hash] = len(a.docs)
			a.docs = append(a.docs, o)
			out = append(out, d)
		}
	}
	a.list = directory.NewOffers(c.net, a.epoch, out).Bytes()
}

// tidy removes what belongs to epochs that are over, once an epoch.
func (c *core) tidy(current uint64) {
	fail := func(what string, err error) {
		if err != nil {
			c.log.Warn("old files cannot be removed; it is tried again in the next epoch", "what", what, "err", err)
		}
	}
	if c.tidied == current {
		return
	}
	c.tidied = current
	epochs, err := c.disk.epochs(epochDir)
	fail(epochDir, err)
	for _, e := range epochs {
		if e < current {
			fail(epochDir, c.disk.fs.RemoveAll(c.disk.path(epochDir, epochText(e))))
		}
	}
	names, err := c.disk.list(documentDir)
	fail(documentDir, err)
	for _, n := range names {
		id, ok := parseID(n)
		if ok && !c.named(directory.Hash(id)) {
			fail(documentDir, c.disk.fs.Remove(c.disk.path(documentDir, n)))
		}
	}
	epochs, err = c.disk.epochs(consensusDir)
	fail(consensusDir, err)
	for len(epochs) > c.keep {
		fail(consensusDir, c.disk.fs.Remove(c.disk.path(consensusDir, epochText(epochs[0]))))
		delete(c.consensuses, epochs[0])
		epochs = epochs[1:]
	}
	c.tidyNodes(current)
}

// named reports whether a vote of an agreement that is not over names a document.
func (c *core) named(h directory.Hash) bool {
	for _, a := range c.agreements {
		if a.m.Document(h) != nil || slices.Contains(a.m.Wants(), h) {
			return true
		}
	}
	return false
}

// take takes a document from another authority into the agreement on an epoch. Its errors are
// those of directory.Machine.Add, and errs.NotFound for an epoch that is over or far away.
func (c *core) take(epoch uint64, h directory.Hash, doc []byte) error {
	const op = "role/authority.take"
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.agreements[epoch]
	if a == nil {
		return errs.E(op, errs.NotFound, "there is no agreement on this epoch now", nil)
	}
	if directory.HashOf(doc) != h {
		a.mark(h)
		return errs.E(op, errs.Invalid, "another document than was asked for", nil)
	}
	if err := a.m.Add(doc); err != nil {
		a.mark(h)
		return errs.Wrap(op, err)
	}
	var err error
	switch kindOf(doc) {
	case kindVote, kindReveal, kindEndorsement:
		err = c.keepDocument(a, doc)
	case kindDescriptor:
		err = c.keepNamed(doc, h)
	case kindConsensus:
		if a.m.Consensus() == nil || a.m.Consensus().Hash() != h {
			err = c.keepNamed(doc, h)
		}
	}
	if err != nil {
		// It is not our own: the others can give it again.
		c.log.Warn("a document of another authority cannot be kept on the disk", "err", err)
	}
	c.advance(a, c.now())
	return nil
}

// mark remembers a document that cannot be used.
func (a *agreement) mark(h directory.Hash) {
	if len(a.odd) < maxOdd {
		a.odd[h] = true
	}
}

// takeConsensus takes one of any epoch that another authority gave as its newest.
func (c *core) takeConsensus(doc []byte) error {
	const op = "role/authority.takeConsensus"
	p, err := directory.ParseConsensus(doc)
	if err != nil {
		return errs.Wrap(op, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.agreements[p.Epoch]; a != nil {
		if err := a.m.Add(doc); err != nil {
			return errs.Wrap(op, err)
		}
		c.advance(a, c.now())
		return nil
	}
	// It may be old: then it is still what the next one follows.
	if _, err := directory.Verify(c.net, p, c.newest.Load(), p.ValidAfter()); err != nil {
		return errs.Wrap(op, err)
	}
	if p.Epoch > c.net.Epoch(c.now())+1 {
		return errs.E(op, errs.Unavailable, fmt.Sprintf("a consensus of epoch %d is given out already: this clock is behind", p.Epoch), nil)
	}
	return errs.Wrap(op, c.keepConsensus(p))
}

// lacks names what of another's offers is not here.
func (c *core) lacks(epoch uint64, hashes []directory.Hash) (out []directory.Hash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.agreements[epoch]
	if a == nil {
		return nil
	}
	for _, h := range hashes {
		if _, ok := a.by[h]; !ok && !a.odd[h] && !a.isUnkept(h) {
			out = append(out, h)
		}
	}
	return out
}

func (a *agreement) isUnkept(h directory.Hash) bool {
	return slices.ContainsFunc(a.unkept, func(d []byte) bool { return directory.HashOf(d) == h })
}

// wants names what votes of an agreement name and is not here.
func (c *core) wants(epoch uint64) []directory.Hash {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.agreements[epoch]
	if a == nil {
		return nil
	}
	return slices.DeleteFunc(a.m.Wants(), func(h directory.Hash) bool { return a.odd[h] })
}

// open names the epochs whose agreement may still need something.
func (c *core) open() (out []uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := range c.agreements {
		out = append(out, e)
	}
	slices.Sort(out)
	return out
}

// offers lists what may be given out of an agreement, as an answer; nil for an epoch that has
// none here.
func (c *core) offers(epoch uint64) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.agreements[epoch]; a != nil {
		return a.list
	}
	return nil
}

// find gives a document by its hash, nil if it is not here.
func (c *core) find(h directory.Hash) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.agreements {
		if i, ok := a.by[h]; ok {
			return a.docs[i].doc
		}
		if d := a.m.Document(h); d != nil {
			return d
		}
	}
	if d := c.document(h); d != nil {
		return d
	}
	for _, p := range c.proofs {
		if p.Hash() == h {
			return p.Bytes()
		}
	}
	return nil
}

// consensus gives one of an epoch; 0: the newest. nil if it is not here.
func (c *core) consensus(epoch uint64) []byte {
	if n := c.newest.Load(); n != nil && (epoch == 0 || epoch == n.Epoch) {
		return n.Bytes()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.consensuses[epoch]; ok {
		if b, err := c.disk.read(consensusDir, epochText(epoch)); err == nil {
			return b
		}
	}
	return nil
}

// namedProofs lists the proofs, as an answer.
func (c *core) namedProofs() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.proofNames
}

// proofList gives all proofs, sorted by file name.
func (c *core) proofList() []*directory.Proof {
	c.mu.Lock()
	defer c.mu.Unlock()
	return sorted(c.proofs)
}

// sorted gives what is in a map, by name.
func sorted[V any](m map[string]V) []V {
	out := make([]V, 0, len(m))
	for _, n := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[n])
	}
	return out
}

// isNews reports whether a proof that another names says more than those that are here.
func (c *core) isNews(n directory.ProofName) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.news(n.Accused, n.Kind, n.Epoch)
}

// takeProof takes a proof from another authority. errs.Denied for one that proves nothing.
func (c *core) takeProof(n directory.ProofName, doc []byte) error {
	const op = "role/authority.takeProof"
	p, err := directory.ParseProof(doc)
	if err != nil {
		return errs.Wrap(op, err)
	}
	if err := directory.VerifyProof(c.net, p); err != nil {
		return errs.Wrap(op, err)
	}
	if p.Epoch > c.net.Epoch(c.now())+1 {
		return errs.E(op, errs.Denied, "the proof is of an epoch to come", nil)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.prove(p)
	return nil
}
