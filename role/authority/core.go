package authority

import (
	"fmt"
	"log/slog"
	"slices"
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
	agreements  map[uint64]*agreement          // of the epoch that is now and the next one
	consensuses map[uint64]directory.Hash      // on the disk, by epoch
	proofs      map[string]directory.ProofName // by file
	proofNames  []byte                         // their list, as an answer
	tidied      uint64                         // the epoch in which tidy was run last
	sitOut      uint64                         // no part is taken in agreements on epochs up to this one
}

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
		consensuses: map[uint64]directory.Hash{}, proofs: map[string]directory.ProofName{}}
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

// find gives a document by its hash, nil if it is not here.
func (c *core) find(h directory.Hash) []byte {
	if d := c.findNamed(h); d != nil {
		return d
	}
	return c.proof(h)
}

// findNamed gives a document of an agreement, or what one names.
func (c *core) findNamed(h directory.Hash) []byte {
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
	return c.document(h)
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
