package authority

import (
	"slices"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

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
}

// offered is a document of the agreement.
type offered struct {
	kind      string
	authority packet.ID // of a vote, reveal or endorsement
	hash      directory.Hash
	doc       []byte
}

// agreement gives the one on an epoch, as the disk has it.
func (c *core) agreement(epoch uint64) (*agreement, error) {
	if a := c.agreements[epoch]; a != nil {
		return a, nil
	}
	m, err := directory.NewMachine(c.net, epoch, c.signer, &c.secret)
	if err != nil {
		return nil, err
	}
	a := &agreement{epoch: epoch, m: m}
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

// setParameters changes what is voted for from the next vote on.
func (c *core) setParameters(p directory.Parameters) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.params = p
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
		return errs.E(op, errs.Invalid, "another document than was asked for", nil)
	}
	if err := a.m.Add(doc); err != nil {
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
	switch kindOf(doc) {
	case kindVote, kindReveal, kindEndorsement:
		if _, ok := a.by[h]; !ok {
			return errs.E(op, errs.Exists, "its author made others, which count", nil)
		}
	}
	return nil
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
		if _, ok := a.by[h]; !ok && !a.isUnkept(h) {
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
	return a.m.Wants()
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
