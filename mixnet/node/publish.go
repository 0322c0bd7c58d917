package node

import (
	"context"
	"slices"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/dircache"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
)

// When a descriptor is made anew, and when authorities that could not be reached are asked
// again.
const (
	publishFirst = 10 * time.Second // pauses
	publishLast  = time.Hour
	askTime      = 2 * time.Minute // for one answer, in networks with long epochs
	askLeast     = time.Second
	askShare     = 8 // of an epoch, in others: an authority that is away must not keep the rest waiting
)

// authority is one of the network's, and the line to it.
type authority struct {
	directory.Contact
	line *link.Line
}

// makeAuthorities makes the lines to the authorities, which New has to do as Sources gives them.
func (n *Node) makeAuthorities() error {
	for _, c := range n.o.Network.Contacts() {
		line, err := n.link.Line(link.LineOptions{
			Peer:      link.Peer{Key: link.Key(c.LinkKey), Role: link.Authority},
			Addresses: func() []string { return c.Addresses },
		})
		if err != nil {
			return err
		}
		n.authorities = append(n.authorities, &authority{c, line})
	}
	return nil
}

func (n *Node) startAuthorities(ctx context.Context) {
	for _, a := range n.authorities {
		n.lines.Go(func() { a.line.Run(ctx) })
	}
}

// Sources gives whom the node can ask for consensuses, in a random order with the authorities
// last: other nodes that it is connected to have them too. For dircache.Options.Sources.
func (n *Node) Sources() []dircache.Source {
	var near, all []dircache.Source
	n.mu.Lock()
	for _, d := range n.dests {
		d.mu.Lock()
		if d.line != nil && d.connected {
			near = append(near, d.line)
		}
		d.mu.Unlock()
	}
	n.mu.Unlock()
	n.shuffle(near)
	near = near[:min(len(near), nearSources)]
	for _, a := range n.authorities {
		all = append(all, a.line)
	}
	n.shuffle(all)
	if n.view.Load().valid != nil {
		return append(all, near...)
	}
	return append(near, all...)
}

// nearSources is how many other nodes are asked before an authority is.
const nearSources = 2

func (n *Node) shuffle(s []dircache.Source) {
	for i := len(s) - 1; i > 0; i-- {
		j := n.below(i + 1)
		s[i], s[j] = s[j], s[i]
	}
}

// tellAll makes one request of every authority, at once.
func (n *Node) tellAll(ctx context.Context, request []byte) {
	var wg sync.WaitGroup
	for _, a := range n.authorities {
		wg.Go(func() {
			if _, err := n.ask(ctx, a, request); err != nil {
				n.o.Logger.Debug("an authority did not take a document", "error", errs.Public(err))
			}
		})
	}
	wg.Wait()
}

// ask gives a document to an authority: held, or why it was not taken.
func (n *Node) ask(ctx context.Context, a *authority, request []byte) (held bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, max(askLeast, min(askTime, n.o.Network.Period()/askShare)))
	defer cancel()
	b, err := a.line.Fetch(ctx, request)
	if err != nil {
		return false, err
	}
	return directory.ParseVerdict(b)
}

// Verdict is what an authority made of the descriptor.
type Verdict struct {
	Authority packet.ID
	At        time.Time // zero: it was not asked yet
	Held      bool      // it waits for the operator of the authority
	Err       error     // why it was not taken; errs.Denied: refused, with the reason
}

// publisher makes descriptors and gives them to the authorities.
type publisher struct {
	n    *Node
	wake chan struct{} // capacity 1

	mu       sync.Mutex
	current  *directory.Descriptor
	path     string
	verdicts map[packet.ID]Verdict
	err      error // why there is no descriptor
	waiters  []chan struct{}
	first    chan struct{} // closed when the first was made
}

func newPublisher(n *Node) *publisher {
	return &publisher{n: n, wake: make(chan struct{}, 1), verdicts: make(map[packet.ID]Verdict), first: make(chan struct{})}
}

// renew has a new descriptor made. The channel is closed when it was given to everybody who
// could be reached.
func (p *publisher) renew() <-chan struct{} {
	done := make(chan struct{})
	p.mu.Lock()
	p.waiters = append(p.waiters, done)
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return done
}

// run keeps the descriptor fresh until ctx ends.
func (p *publisher) run(ctx context.Context) error {
	n := p.n
	t := time.NewTimer(0)
	defer t.Stop()
	pause := time.Duration(0)
	var again time.Time // when the next one is due
	due := true
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
			due = true
		case <-t.C:
		}
		p.mu.Lock()
		waiters := p.waiters
		p.waiters = nil
		p.mu.Unlock()
		now := n.o.Now()
		if due || !now.Before(again) {
			err := p.make(now)
			p.mu.Lock()
			p.err = err
			p.mu.Unlock()
			if err != nil {
				due = true // again after a pause, as the disk may be full
				n.o.Logger.Error("the descriptor of this node could not be made", "error", errs.Public(err))
			} else {
				due, pause = false, 0
				// Long before it is too old, and not all nodes at the same moment.
				least := n.o.Network.MaxAge() / 4
				again = now.Add(least + time.Duration(n.o.Chance()*float64(least)))
			}
		}
		left := due || !p.give(ctx)
		for _, w := range waiters {
			close(w)
		}
		next := again.Sub(n.o.Now())
		if left {
			pause = min(max(2*pause, min(publishFirst, n.o.Network.Period()/8)), publishLast)
			soon := time.Duration(float64(pause) * (0.5 + n.o.Chance()))
			if !due {
				soon = min(soon, max(next, time.Second))
			}
			next = soon
		}
		t.Reset(max(next, time.Millisecond))
	}
}

// make signs a new descriptor and writes it.
func (p *publisher) make(now time.Time) error {
	n := p.n
	d := directory.Descriptor{Network: n.o.Network.Name(), Published: now.UTC().Truncate(time.Second), Operator: n.settings().Operator, Node: n.about(now)}
	p.mu.Lock()
	old := p.current
	p.mu.Unlock()
	if old != nil && !d.Published.After(old.Published) {
		d.Published = old.Published.Add(time.Second) // authorities take only what is newer
	}
	signed, err := directory.SignDescriptor(d, n.o.Keys.Identity())
	if err != nil {
		return err
	}
	path, err := n.o.Keys.SaveDescriptor(signed)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current == nil {
		close(p.first)
	}
	p.current, p.path = signed, path
	clear(p.verdicts)
	return nil
}

// about is what the node says of itself.
func (n *Node) about(now time.Time) directory.Node {
	s := n.settings()
	d := s.About
	d.LinkKey = directory.Hash(n.link.Key())
	d.Keys = n.o.Keys.Public(now)
	d.Mixing, d.Residence = "", 0
	if d.Mode.Has(directory.Mix) {
		d.Mixing, d.Residence = mixing(s.Mixing)
	}
	return d
}

// give gives the descriptor to all authorities that do not have it; false: some are to be
// asked again.
func (p *publisher) give(ctx context.Context) bool {
	n := p.n
	if !n.settings().Publish || len(n.authorities) == 0 {
		return true
	}
	p.mu.Lock()
	d := p.current
	var ask []*authority
	for _, a := range n.authorities {
		if v, ok := p.verdicts[a.ID]; d != nil && (!ok || v.Err != nil && errs.KindOf(v.Err) != errs.Denied) {
			ask = append(ask, a)
		}
	}
	p.mu.Unlock()
	if d == nil {
		return false
	}
	request, err := directory.AppendRequest(nil, directory.Request{Kind: directory.RequestPublish, Document: d.Bytes()})
	if err != nil {
		n.o.Logger.Error("the descriptor of this node could not be published", "error", errs.Public(err))
		return false
	}
	var wg sync.WaitGroup
	for _, a := range ask {
		wg.Go(func() {
			held, err := n.ask(ctx, a, request)
			if ctx.Err() == nil {
				p.note(d, a, held, err)
			}
		})
	}
	wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current == d && !slices.ContainsFunc(n.authorities, func(a *authority) bool {
		v, ok := p.verdicts[a.ID]
		return !ok || v.Err != nil && errs.KindOf(v.Err) != errs.Denied
	})
}

// note keeps what an authority said.
func (p *publisher) note(d *directory.Descriptor, a *authority, held bool, err error) {
	n := p.n
	p.mu.Lock()
	if p.current == d {
		p.verdicts[a.ID] = Verdict{a.ID, n.o.Now(), held, err}
	}
	p.mu.Unlock()
	log := n.o.Logger.With("authority", a.name())
	switch {
	case err != nil:
		log.Warn("an authority did not take the descriptor", "error", errs.Public(err))
		return
	case held:
		log.Info("the descriptor waits for the operator of an authority")
	default:
		log.Info("an authority took the descriptor")
	}
	if err := n.o.Keys.MarkPublished(a.name()); err != nil {
		log.Warn("that the descriptor was published could not be written", "error", errs.Public(err))
	}
}

// name is that of an authority in lists: the first digits of its ID.
func (a *authority) name() string { return shortID(a.ID) }

// Republish makes a new descriptor and returns when every authority that can be reached was
// asked to take it; Status tells what they said. errs.Canceled.
func (n *Node) Republish(ctx context.Context) error {
	const op = "mixnet/node.Republish"
	select {
	case <-n.desc.renew():
	case <-ctx.Done():
		return errs.E(op, errs.Canceled, "", ctx.Err())
	}
	n.desc.mu.Lock()
	defer n.desc.mu.Unlock()
	return errs.Wrap(op, n.desc.err)
}

// Described is closed when the node has made its first descriptor since it runs.
func (n *Node) Described() <-chan struct{} { return n.desc.first }

// Descriptor gives the newest descriptor, nil before the first was made.
func (n *Node) Descriptor() *directory.Descriptor {
	n.desc.mu.Lock()
	defer n.desc.mu.Unlock()
	return n.desc.current
}
