package client

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
)

// Options of a Client. Store, Consensus, Relay, Mailbox, Peer and Addresses are needed.
type Options struct {
	Store     *Store
	Consensus func() (*directory.Consensus, error) // the one to use now; dircache.Cache.Current
	// Parameters are those of the network as far as they are known, for the clocks while no
	// consensus is valid. nil: the low profile.
	Parameters func() directory.Parameters

	Relay     packet.ID // the own relay
	Mailbox   packet.ID // the own mailbox there
	Peer      link.Key  // the relay's link key
	Addresses func() []string

	// Free: packets leave as soon as there are some, and nothing else does. Who watches the line
	// sees when mail is sent, and how much of it.
	Free bool

	// Chosen is told of each way that a packet of mail takes: the message's name, the number of
	// its packet from 0, and the way. It must be quick. nil: nobody asks.
	Chosen func(name string, packet int, w Way)

	// AckSlack is how long beyond one and a half times the expected time an acknowledgement is waited
	// for, before packets are sent again. It does not show on the line. 0: DefaultAckSlack.
	AckSlack time.Duration

	// Clock draws the moments at which something leaves, and nothing else. nil: one of NewChooser
	// with Random.
	Clock Chooser

	Link   link.Options     // bounds, times, Dial, Chance; the rest is filled in
	Random io.Reader        // must serve many goroutines; nil: crypto/rand
	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: nothing is logged
}

// lead is how long before its moment a packet is made, so that the moment does not depend on
// what is in it.
const lead = 100 * time.Millisecond

// Client sends what waits in its Store and takes in what comes, over a line to its relay. In
// constant mode a packet leaves at each tick of its Clocks and at no other time. Its methods may
// be called by many goroutines.
type Client struct {
	o     Options
	line  *link.Line
	ticks chan time.Time // of the line; one may wait
	slots chan Tick      // a packet is to be made
	wake  chan struct{}  // something has happened that the worker should look at
	poked atomic.Bool    // it is that a message was queued

	choose  Chooser // of the worker
	clocks  *Clocks // of the ticker
	working worker  // of the worker

	mu       sync.Mutex
	queued   int // units and requests on the line that no tick has carried yet
	pending  int // units on the line without an answer
	fetching int // requests on the line
	events   []event
	acks     map[packet.Mark]awaited // acknowledgements that may come
	asked    []*question             // for services of nodes, in turn
	answers  map[packet.Mark]awaitedAnswer
	ended    bool                    // Run is over
	left     []int                   // of each message that waits: packets to be sent
	why      map[string]string       // of messages that cannot be sent now
	loops    map[letter.ID]roundTrip // loops under way
	pings    []*ping                 // loops that were asked for and not made yet
	status   Status
	changed  chan struct{} // closed when something has changed that a Wait may wait for
}

// awaited is where an acknowledgement belongs.
type awaited struct {
	seed  *packet.Seed // nil: not known, as after a restart
	name  string
	group int
}

// event is something that the worker has to note.
type event struct {
	name  string // of the message
	piece int
	block bool          // it carries the reply block of its group
	err   error         // from the line: nil, the relay has it
	stay  time.Duration // there and back, as it should be

	ack     *link.Receipt // not nil: an acknowledgement has come
	mark    packet.Mark   // of ack
	group   int
	durable uint8 // fragments of the group
	latest  bool
}

// Status tells how a Client stands. It has numbers only.
type Status struct {
	Link     link.Status
	Problem  error         // why no packet can be made; nil: they can
	Waiting  int           // messages
	Sent     int           // packets of mail that the relay took
	Drops    int           // made
	Loops    int           // made
	Back     int           // loops that came back
	Lost     int           // loops that did not within a day
	Round    time.Duration // that the last loop took
	Received int           // fragments that came
	Strange  int           // packets that came and could not be opened
	Ticks    int           // moments at which something left
	Missed   int           // moments at which the line was not there, or the one before was still under way
}

// maxLoops bounds the loops that are looked out for.
const maxLoops = 4096

// New makes a Client; it does nothing until Run. errs.Invalid when something needed is
// missing.
func New(o Options) (*Client, error) {
	const op = "mixnet/client.New"
	if o.Store == nil || o.Consensus == nil || o.Addresses == nil || o.Peer == (link.Key{}) || o.Relay == (packet.ID{}) || o.Mailbox == (packet.ID{}) {
		return nil, errs.E(op, errs.Invalid, "", errors.New("something needed is missing"))
	}
	if o.Parameters == nil {
		o.Parameters = func() directory.Parameters { return nil }
	}
	defaults.Positive(&o.AckSlack, DefaultAckSlack)
	defaults.Rand(&o.Random)
	defaults.Clock(&o.Now)
	defaults.Logger(&o.Logger)
	c := &Client{o: o, ticks: make(chan time.Time, 1), slots: make(chan Tick, 1), wake: make(chan struct{}, 1),
		acks: make(map[packet.Mark]awaited), answers: make(map[packet.Mark]awaitedAnswer), loops: make(map[letter.ID]roundTrip), changed: make(chan struct{})}
	r, err := NewChooser(o.Random)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	c.choose = r
	// The ticker has numbers of its own, so that its times do not depend on what is sent.
	if o.Clock == nil {
		if o.Clock, err = NewChooser(o.Random); err != nil {
			return nil, errs.Wrap(op, err)
		}
	}
	c.clocks = NewClocks(o.Parameters(), o.Now(), o.Clock)
	peer := link.Peer{Key: o.Peer, Role: link.Relay}
	lo := o.Link
	lo.MaxDocument = max(lo.MaxDocument, directory.MaxConsensus)
	lo.Key, lo.Handler, lo.Logger = o.Store.id.Link, c, o.Logger
	lo.Who = func(k link.Key) (link.Peer, bool) { return peer, k == o.Peer }
	l, err := link.New(lo)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	line := link.LineOptions{Peer: peer, Addresses: o.Addresses}
	if !o.Free {
		line.Pace = c.pace
	}
	if c.line, err = l.Line(line); err != nil {
		return nil, errs.Wrap(op, err)
	}
	return c, nil
}

// pace is that of a new connection: what waited for a tick of the last one is over.
func (c *Client) pace() link.Pace {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.ticks:
	default:
	}
	c.queued = c.pending + c.fetching // all of it is sent again
	return link.Pace{Ticks: c.ticks, Constant: true}
}

// Run sends and receives until ctx ends. Whatever is not acknowledged then stays in the Store.
// It must be called once.
func (c *Client) Run(ctx context.Context) error {
	const op = "mixnet/client.Run"
	if err := c.begin(); err != nil {
		return errs.Wrap(op, err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { c.line.Run(ctx) })
	if !c.o.Free {
		wg.Go(func() { c.tick(ctx) })
	}
	err := c.work(ctx)
	wg.Wait()
	c.settle() // what the line said at its end
	c.unasked()
	return errs.Wrap(op, err)
}

// tick lets one frame leave at each tick of the clocks, whatever there is to send.
func (c *Client) tick(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	until := func(at time.Time) bool {
		t.Reset(at.Sub(c.o.Now()))
		select {
		case <-t.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
	for {
		now := c.o.Now()
		c.clocks.Set(c.o.Parameters(), now)
		c.clocks.Skip(now)
		next := c.clocks.Peek()
		if !until(next.At.Add(-lead)) {
			return
		}
		select {
		case c.slots <- next:
		default: // the worker is late: the tick carries nothing
		}
		if !until(next.At) {
			return
		}
		c.clocks.Next()
		connected := c.line.Status().Connected
		c.mu.Lock()
		if connected {
			select {
			case c.ticks <- next.At:
				c.queued = max(0, c.queued-1)
				c.status.Ticks++
			default: // the frame before is still being written
				c.status.Missed++
			}
		} else {
			c.status.Missed++
		}
		c.mu.Unlock()
	}
}

// Fetch asks the relay for a document, as link.Line.Fetch does: the Client is a source of the
// directory. In constant mode the request leaves with a tick, and the answer comes at the
// relay's pace.
func (c *Client) Fetch(ctx context.Context, request []byte) ([]byte, error) {
	count := func(n int) {
		c.mu.Lock()
		c.fetching += n
		if n > 0 {
			c.queued++
		}
		c.mu.Unlock()
	}
	count(1)
	defer count(-1)
	return c.line.Fetch(ctx, request)
}

// Poke tells the Client that a message was queued. Without it a message is found at one of
// the next ticks.
func (c *Client) Poke() {
	c.poked.Store(true)
	c.nudge()
}

// nudge wakes the worker.
func (c *Client) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Status tells how it stands.
func (c *Client) Status() Status {
	c.mu.Lock()
	s := c.status
	c.mu.Unlock()
	s.Link = c.line.Status()
	return s
}

// Wait returns when fits is true of the Status, which it is asked after each change that may
// matter, or when ctx ends (errs.Canceled).
func (c *Client) Wait(ctx context.Context, fits func(Status) bool) error {
	for {
		c.mu.Lock()
		changed := c.changed
		c.mu.Unlock()
		if fits(c.Status()) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errs.E("mixnet/client.Wait", errs.Canceled, "", ctx.Err())
		}
	}
}

// note changes the status and wakes those who wait.
func (c *Client) note(f func(*Status)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.status)
	close(c.changed)
	c.changed = make(chan struct{})
}
