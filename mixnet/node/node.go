package node

import (
	"context"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
	"postern.email/mixnet/pool"
	"postern.email/mixnet/replay"
	"postern.email/mixnet/stats"
)

// Node is a node of the mix network. Its methods may be called by many goroutines.
type Node struct {
	o  Options
	id packet.ID

	log   *replay.Log
	mix   *pool.Mix
	link  *link.Link
	ends  *ends
	loops *loops
	desc  *publisher
	rate  *bandwidth

	set  atomic.Pointer[Settings]
	view atomic.Pointer[view]

	units    chan unit
	outcomes chan outcome
	syncTime atomic.Int64  // how long the last group took that was written, in nanoseconds
	renewed  chan struct{} // capacity 1: the directory may have changed
	rotating chan struct{} // capacity 1: keys are to be looked at
	buffers  sync.Pool     // of *[replay.BufferLen]byte
	reread   *limits.Bytes // what buffers hold

	lineCtx context.Context // of lines, from Run on
	lines   sync.WaitGroup
	clocks  sync.WaitGroup
	destRun sync.WaitGroup

	mu          sync.Mutex
	ran         bool
	stopped     bool // no more dests
	dests       map[packet.ID]*dest
	authorities []*authority
	keysErr     error // why keys could not be rotated
}

// New opens the log of packets, with all that waits in it, and makes a node that Run starts.
// errs.Invalid with a public text when the options do not fit together; else the errors of
// replay.Open. A node that is not run must be closed.
func New(o Options) (*Node, error) {
	const op = "mixnet/node.New"
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	n := &Node{o: o, id: o.Keys.Identity().Public().ID(),
		units: make(chan unit, queueLen), outcomes: make(chan outcome, queueLen),
		renewed: make(chan struct{}, 1), rotating: make(chan struct{}, 1),
		reread: limits.NewBytes(rereadMemory), dests: make(map[packet.ID]*dest)}
	n.set.Store(&o.Settings)
	n.buffers.New = func() any { return new([replay.BufferLen]byte) }
	n.rate = newBandwidth(o.Bandwidth)
	n.ends, n.loops, n.desc = newEnds(n), newLoops(n), newPublisher(n)
	v := look(nil, nil, nil, nil, n.id, &o.About)
	v.valid = errs.E(op, errs.Unavailable, publicNoNetwork, nil)
	n.view.Store(v)
	if err := n.open(); err != nil {
		return nil, errs.Wrap(op, err)
	}
	return n, nil
}

// open opens the log and makes pool and link.
func (n *Node) open() error {
	o := &n.o
	r := o.Log
	r.FS, r.Dir, r.Secret, r.Rand, r.Now, r.Log = o.FS, o.Dir, o.Keys.LogSecret(), o.Rand, o.Now, o.Logger
	var err error
	if n.log, err = replay.Open(r); err != nil {
		return err
	}
	if err = n.openAbove(); err != nil {
		err = errors.Join(err, n.log.Close())
	}
	return err
}

func (n *Node) openAbove() error {
	o := &n.o
	var seed [32]byte
	if _, err := io.ReadFull(o.Rand, seed[:]); err != nil {
		return errs.E("mixnet/node.open", errs.Internal, "", err)
	}
	p := o.Pool
	p.Log, p.Config, p.Now, p.Source = n.log, o.Mixing, o.Now, rand.NewChaCha8(seed)
	p.MaxDelay = n.view.Load().maxDelay
	var err error
	if n.mix, err = pool.NewMix(p); err != nil {
		return err
	}
	l := o.Link
	l.Conns = n.conns(&o.Settings)
	l.MaxDocument = max(l.MaxDocument, directory.MaxConsensus)
	l.Key, l.Who, l.Handler, l.Documents = o.Keys.Link(), n.who, handler{n}, n.document
	l.Opened, l.Closed, l.Pace = n.opened, n.closed, n.paceOf
	l.Dial, l.Chance, l.Logger = n.dial, o.Chance, o.Logger
	if n.link, err = link.New(l); err != nil {
		return err
	}
	n.look()
	return n.makeAuthorities()
}

// Close gives back what New opened, if Run was never called.
func (n *Node) Close() error {
	n.mu.Lock()
	ran := n.ran
	n.ran = true
	n.mu.Unlock()
	if ran {
		return nil
	}
	return n.log.Close()
}

// ID is the node's ID in packets and in the directory.
func (n *Node) ID() packet.ID { return n.id }

// Link is the node's end of its links: for roles that look at their clients' connections.
func (n *Node) Link() *link.Link { return n.link }

// Recheck is to be called when Options.Clients may answer otherwise than before.
func (n *Node) Recheck() { n.link.Recheck() }

func (n *Node) settings() *Settings { return n.set.Load() }

func (n *Node) nameOf(id packet.ID) string { return n.view.Load().name(id) }

// Run is the node at work: it serves the listeners, which it closes, until ctx ends. Then it
// answers what is under way, for up to the link's DrainTime, closes the log and returns nil.
// If a listener or the directory fails, it ends with that error. It can be called once.
func (n *Node) Run(ctx context.Context, ln ...net.Listener) error {
	const op = "mixnet/node.Run"
	n.mu.Lock()
	ran := n.ran
	n.ran = true
	n.mu.Unlock()
	if ran {
		for _, l := range ln {
			l.Close()
		}
		return errs.E(op, errs.Conflict, publicRunning, nil)
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	n.lineCtx = ctx

	// What works to the very end: it takes what has come, and notes what was sent.
	last, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var workers, add, rest, own sync.WaitGroup
	for range n.workers() {
		workers.Go(n.unwrap)
	}
	for range adders {
		add.Go(n.add)
	}
	rest.Go(func() { _ = n.mix.Run(last, n.leave) }) // its error is always nil

	if _, err := n.rotateOnce(ctx); err != nil {
		n.o.Logger.Error("packet keys could not be changed", "error", errs.Public(err)) // rotate tries again
	}

	// What ends with ctx.
	var first failure
	task := func(fn func(context.Context) error) {
		own.Go(func() {
			if err := fn(ctx); err != nil && ctx.Err() == nil {
				first.set(err)
				fail(err)
			}
		})
	}
	for _, l := range ln {
		l = n.guard(l)
		task(func(ctx context.Context) error { return n.link.Serve(ctx, l) })
	}
	task(n.o.Cache.Run)
	task(n.watch)
	task(n.rotate)
	task(n.desc.run)
	task(n.loops.run)
	task(n.loops.report)
	task(n.loops.watch)
	task(n.ends.runBoxes)
	task(n.ends.runExits)
	task(n.ends.runQueries)
	task(n.ends.windows.run)
	n.startAuthorities(ctx)
	<-ctx.Done()

	own.Wait() // no unit comes any more
	close(n.units)
	workers.Wait()
	close(n.outcomes)
	add.Wait()
	n.lines.Wait()
	n.clocks.Wait()
	n.endDests()
	end()
	rest.Wait()
	err := n.log.Close()
	if first.err != nil {
		err = first.err
	}
	return errs.Wrap(op, err)
}

// again calls fn at once, then after as long as it says, or when something comes from wake (nil:
// nothing does), until ctx ends.
func again(ctx context.Context, wake <-chan struct{}, fn func() time.Duration) error {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case <-t.C:
		}
		t.Reset(fn())
	}
}

// failure keeps the first of several errors.
type failure struct {
	once sync.Once
	err  error
}

func (f *failure) set(err error) { f.once.Do(func() { f.err = err }) }

func (n *Node) workers() int {
	if n.o.Workers > 0 {
		return n.o.Workers
	}
	return runtime.GOMAXPROCS(0)
}

// Renew has the node look at the directory again. dircache.Options.Changed is the place to
// call it; it does not block. The node also looks by itself when an epoch begins.
func (n *Node) Renew() {
	select {
	case n.renewed <- struct{}{}:
	default:
	}
}

// watch follows the directory: lines come and go with it.
func (n *Node) watch(ctx context.Context) error {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		n.look()
		if err := n.arrange(); err != nil {
			n.o.Logger.Error("a line to another node could not be made", "error", errs.Public(err))
		}
		n.link.Recheck()
		now := n.o.Now()
		begin := n.o.Network.Begin(n.o.Network.Epoch(now) + 1)
		t.Reset(min(begin.Sub(now), max(n.o.Network.Period()/lookShare, time.Millisecond)))
		select {
		case <-ctx.Done():
			return nil
		case <-n.renewed:
		case <-t.C:
		}
	}
}

// lookShare is how often in an epoch the node looks at the directory without being told to.
const lookShare = 16

// look makes the view anew, if what it is made of has changed.
func (n *Node) look() {
	current, err := n.o.Cache.Current()
	old := n.view.Load()
	if err != nil {
		// The last one that was good is still right about who is where; what needs a
		// valid one asks for that.
		v := *old
		v.valid = err
		n.view.Store(&v)
		return
	}
	next := n.o.Cache.Of(current.Epoch + 1)
	var previous *directory.Consensus
	for e := current.Epoch - 1; previous == nil && e > 0 && e+directory.ValidEpochs > current.Epoch; e-- {
		previous = n.o.Cache.Of(e) // an epoch may have had none
	}
	set := n.settings()
	extra := fresh(set.Extra, n.o.Network, n.o.Now())
	if old != nil && old.valid == nil && same(old.current, current) && same(old.previous, previous) && same(old.next, next) &&
		slices.Equal(old.extra, extra) && old.unlisted == set.About.UnlistedLayer() {
		return
	}
	v := look(previous, current, next, extra, n.id, &set.About)
	n.view.Store(v)
	n.link.SetClientRate(clientFrames(v.parameters), link.DefaultClientFrameBurst)
}

func same(a, b *directory.Consensus) bool {
	return a == b || a != nil && b != nil && a.Hash() == b.Hash()
}

// clientFrames is how many frames a minute a client may send: as many as the clocks that all
// clients have give it, and a tenth more.
func clientFrames(p directory.Parameters) int {
	perMinute := 0.0
	for _, name := range []string{directory.PayloadInterval, directory.LoopInterval, directory.DropInterval} {
		perMinute += 60_000 / float64(p.Get(name))
	}
	return max(1, int(math.Ceil(1.1*perMinute)))
}

// who is link.Options.Who.
func (n *Node) who(k link.Key) (link.Peer, bool) {
	if p, ok := n.view.Load().peers[k]; ok {
		return p, true
	}
	for _, c := range n.o.Network.Contacts() {
		if link.Key(c.LinkKey) == k {
			return link.Peer{Key: k, Role: link.Authority}, true
		}
	}
	if n.o.Clients != nil {
		if account, ok := n.o.Clients(k); ok {
			return link.Peer{Key: k, Role: link.Client, Account: account}, true
		}
	}
	return link.Peer{}, false
}

// document is link.Options.Documents.
func (n *Node) document(ctx context.Context, from link.Peer, request []byte) ([]byte, error) {
	b, err := n.o.Cache.Answer(request)
	if n.o.Documents != nil {
		switch errs.KindOf(err) {
		case errs.NotFound, errs.Unsupported:
			if err != nil {
				return n.o.Documents(ctx, from, request)
			}
		}
	}
	return b, err
}

func (n *Node) opened(c *link.Conn) {
	n.count(stats.ReceivedConnection, "")
	if c.Peer().Role == link.Client && n.o.Opened != nil {
		n.o.Opened(c)
	}
}

func (n *Node) closed(c *link.Conn, _ error) {
	if c.Peer().Role == link.Client && n.o.Closed != nil {
		n.o.Closed(c)
	}
}

// leave is what the pool calls for packets whose time has come.
func (n *Node) leave(list []*pool.Packet) {
	for _, p := range list {
		switch p.Entry.Use {
		case useForward:
			for d := n.dest(packet.ID(p.Next())); d != nil && !d.give(p); {
				d = n.dest(packet.ID(p.Next()))
			}
		case useDeliver, useReply:
			n.ends.boxes.give(p)
		case useExit:
			n.ends.exits.give(p)
		default: // a later version's
			p.Drop()
			n.drop(whyForm)
		}
	}
}

// dest gives the queue for a node, which begins here if there is none; nil when the node has
// ended, and the packet waits in the log for the next start.
func (n *Node) dest(id packet.ID) *dest {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := n.dests[id]
	if d != nil || n.stopped || n.lineCtx.Err() != nil {
		return d
	}
	d = &dest{n: n, id: id, wake: make(chan struct{}, 1)}
	n.dests[id] = d
	if nb := n.view.Load().nodes[id]; nb != nil {
		if err := d.connect(nb); err != nil {
			n.o.Logger.Error("a line to another node could not be made", "error", errs.Public(err))
		}
	}
	ctx, cancel := context.WithCancel(n.lineCtx)
	d.end = cancel
	n.destRun.Go(func() { d.run(ctx) })
	return d
}

// arrange has a line to each node of the layers ahead, and none to those that are gone.
func (n *Node) arrange() error {
	v := n.view.Load()
	ahead := v.ahead()
	for id, nb := range v.nodes {
		if nb.layers&ahead != 0 {
			n.dest(id)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var failed error
	for id, d := range n.dests {
		nb := v.nodes[id]
		if err := d.connect(nb); err != nil && failed == nil {
			failed = err
		}
		if nb == nil && d.retire() {
			d.end()
			delete(n.dests, id)
		}
	}
	return failed
}

// endDests waits for the goroutines of the queues.
func (n *Node) endDests() {
	n.mu.Lock()
	n.stopped = true
	n.mu.Unlock()
	n.destRun.Wait()
}
