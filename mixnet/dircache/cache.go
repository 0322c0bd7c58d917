package dircache

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
)

// Source answers requests (directory.Request): a *link.Line, a *link.Conn, or what HTTP gives.
type Source interface {
	Fetch(ctx context.Context, request []byte) ([]byte, error)
}

// Bounds.
const (
	// maxKept is how many consensuses are kept: the next, the current, and the two before,
	// which are still valid and from which differences are told.
	maxKept    = directory.ValidEpochs + 1
	maxSources = 16 // that are asked in one try
	maxProofs  = 64 // that are kept
)

// Options of a Cache. FS, Dir and Network are needed. Nothing that is called may call back
// into the Cache but Current, Next, Of, Newest, Proofs and Answer.
type Options struct {
	FS      vfs.FS
	Dir     string // made if it is not there; belongs to this Cache alone
	Network *directory.Network

	// Sources gives whom to ask, in the order to try; asked anew for each try. nil: nobody,
	// the Cache lives on what it is given (Put).
	Sources func() []Source

	// Early is for nodes that others ask, mixes and relays: they fetch the next consensus in
	// the first third of the time between its publication and its epoch, clients in the second.
	Early bool

	Changed func(current *directory.Consensus) // the one to be used has changed
	Warn    func(directory.Warning)            // about a consensus that is used, unless the one before gave the same; nil: the log says it
	Proof   func(*directory.Proof)             // a new one; it is kept already; nil: the log says it

	Now    func() time.Time // nil: time.Now
	Chance func() float64   // from 0 to less than 1; nil: math/rand
	Log    *slog.Logger     // nil: nothing is logged
}

// Cache keeps the consensus. Its methods may be called by many goroutines.
type Cache struct {
	o Options

	put   sync.Mutex          // one document at a time is verified and written
	flaws []directory.Warning // of the last one that was taken; guarded by put

	mu     sync.Mutex
	list   []*entry // by epoch, each epoch once, the newest last; at most maxKept
	late   error    // the last consensus that was not valid at its time says so
	proofs []*directory.Proof

	tell sync.Mutex // order of the calls of Changed
	told directory.Hash

	wake chan struct{} // something was put
}

// entry is a consensus that is here.
type entry struct {
	c     *directory.Consensus
	saved bool // guarded by Cache.put

	forms
}

// Open opens the cache in a directory, with what was kept there. What cannot be read or does
// not have the signatures that it needs is set aside, and said in the log. Kinds of errors:
// errs.Invalid when something needed is missing, and those of the disk.
func Open(o Options) (*Cache, error) {
	const op = "mixnet/dircache.Open"
	if o.FS == nil || o.Dir == "" || o.Network == nil {
		return nil, errs.E(op, errs.Invalid, "disk, directory or network is missing", nil)
	}
	defaults.Clock(&o.Now)
	if o.Chance == nil {
		o.Chance = rand.Float64
	}
	defaults.Logger(&o.Log)
	if o.Changed == nil {
		o.Changed = func(*directory.Consensus) {}
	}
	if o.Warn == nil {
		o.Warn = func(w directory.Warning) { o.Log.Warn("the consensus has a flaw", "flaw", w.String()) }
	}
	if o.Proof == nil {
		o.Proof = func(p *directory.Proof) {
			o.Log.Warn("an authority broke a rule", "rule", string(p.Kind), "epoch", p.Epoch, "authority", fmt.Sprintf("%x", p.Accused[:8]))
		}
	}
	if o.Sources == nil {
		o.Sources = func() []Source { return nil }
	}
	c := &Cache{o: o, wake: make(chan struct{}, 1)}
	if err := c.load(); err != nil {
		return nil, errs.Wrap(op, err)
	}
	return c, nil
}

// Current gives the consensus to be used now: that of the epoch, else the newest before it
// that is valid, else the next, if it was given out already. errs.Unavailable if there is none;
// the public text says both times where time is the reason.
func (c *Cache) Current() (*directory.Consensus, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current(c.o.Now())
}

func (c *Cache) current(now time.Time) (*directory.Consensus, error) {
	const op = "mixnet/dircache.Cache.Current"
	epoch := c.o.Network.Epoch(now)
	var next *directory.Consensus
	for _, e := range slices.Backward(c.list) {
		switch {
		case c.o.Network.ValidAt(e.c, now) != nil:
		case e.c.Epoch <= epoch:
			return e.c, nil
		default:
			next = e.c
		}
	}
	switch {
	case next != nil:
		return next, nil
	case len(c.list) > 0:
		return nil, errs.Wrap(op, c.o.Network.ValidAt(c.list[len(c.list)-1].c, now))
	case c.late != nil:
		return nil, errs.Wrap(op, c.late)
	}
	return nil, errs.E(op, errs.Unavailable, "no consensus of the network is known yet", nil)
}

// Next gives the consensus of the next epoch, nil if it is not here.
func (c *Cache) Next() *directory.Consensus { return c.Of(c.o.Network.Epoch(c.o.Now()) + 1) }

// Of gives the consensus of an epoch, nil if it is not here. It may be too old to be used.
func (c *Cache) Of(epoch uint64) *directory.Consensus {
	if e := c.entry(epoch); e != nil {
		return e.c
	}
	return nil
}

// Newest gives the newest consensus that was ever taken, nil if there is none. It may be too
// old to be used, or not valid yet.
func (c *Cache) Newest() *directory.Consensus {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.list) == 0 {
		return nil
	}
	return c.list[len(c.list)-1].c
}

func (c *Cache) entry(epoch uint64) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.list {
		if e.c.Epoch == epoch {
			return e
		}
	}
	return nil
}

// entries gives all, the newest last.
func (c *Cache) entries() []*entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.list)
}

// Put takes a consensus that came from anywhere, and keeps doc. Taking one twice does nothing.
// The errors of directory.ParseConsensus and directory.Verify: errs.Conflict for one that is
// older than the newest, or another one of an epoch, of which the proofs are kept. If only the
// disk fails, the consensus is used all the same, and written later.
func (c *Cache) Put(doc []byte) error {
	const op = "mixnet/dircache.Cache.Put"
	con, err := directory.ParseConsensusAfter(doc, c.Newest())
	if err != nil {
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, c.take(con))
}

func (c *Cache) take(con *directory.Consensus) error {
	c.put.Lock()
	defer c.put.Unlock()
	known := c.Of(con.Epoch)
	if known != nil && known.Hash() == con.Hash() {
		return nil
	}
	warnings, err := directory.Verify(c.o.Network, con, c.Newest(), c.o.Now())
	if err != nil {
		c.refused(con, known, err)
		return err
	}
	e := &entry{c: con}
	if err := c.save(e); err != nil {
		c.o.Log.Warn("the consensus could not be written to the disk", "epoch", con.Epoch, "why", errs.Public(err))
	}
	c.mu.Lock()
	c.list = append(c.list, e)
	c.late = nil
	c.mu.Unlock()
	c.prune()
	for _, w := range warnings {
		if !slices.Contains(c.flaws, w) {
			c.o.Warn(w)
		}
	}
	c.flaws = warnings
	c.o.Log.Info("a consensus was taken", "epoch", con.Epoch, "nodes", len(con.Nodes))
	c.announce()
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

// refused notes what a refusal tells.
func (c *Cache) refused(con, known *directory.Consensus, err error) {
	switch errs.KindOf(err) {
	case errs.Unavailable:
		c.mu.Lock()
		c.late = err
		c.mu.Unlock()
	case errs.Conflict:
		if known != nil {
			c.expose(known, con)
		}
	}
}

// prune forgets what is too much, on the disk after it is out of memory.
func (c *Cache) prune() {
	c.mu.Lock()
	var gone []*entry
	for len(c.list) > maxKept || len(c.list) > 1 && c.list[0].c.Epoch+maxKept <= c.list[len(c.list)-1].c.Epoch {
		gone = append(gone, c.list[0])
		c.list = slices.Delete(c.list, 0, 1)
	}
	c.mu.Unlock()
	for _, e := range gone {
		c.remove(e.c.Epoch)
	}
}

// announce tells Changed if another consensus is to be used than at the last call.
func (c *Cache) announce() {
	c.tell.Lock()
	defer c.tell.Unlock()
	cur, err := c.Current()
	if err != nil || cur.Hash() == c.told {
		return
	}
	c.told = cur.Hash()
	c.o.Changed(cur)
}

// Status of a Cache, for operators.
type Status struct {
	Current, Next *directory.Consensus // nil: none
	Newest        *directory.Consensus
	Err           error // why there is no current one
	Unsaved       int   // consensuses that could not be written to the disk yet
	Proofs        int
}

// Status tells how things stand.
func (c *Cache) Status() Status {
	s := Status{Next: c.Next(), Newest: c.Newest()}
	s.Current, s.Err = c.Current()
	c.put.Lock()
	for _, e := range c.entries() {
		if !e.saved {
			s.Unsaved++
		}
	}
	c.put.Unlock()
	c.mu.Lock()
	s.Proofs = len(c.proofs)
	c.mu.Unlock()
	return s
}

func fileName(epoch uint64) string { return fmt.Sprintf("consensus-%d.txt", epoch) }
