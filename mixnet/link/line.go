package link

import (
	"context"
	"errors"
	"sync"
	"time"

	"postern.email/kit/errs"
)

// steadyTime is how long a connection must have lived for the next failure to be a first one.
const steadyTime = time.Minute

// LineOptions are what a Line needs to know. Peer and Addresses are needed.
type LineOptions struct {
	Peer      Peer            // whom to reach; another key is not accepted
	Addresses func() []string // host:port, tried in order; asked at each try, as they may change
	Pace      func() Pace     // of each connection; nil: no cover traffic
	Queue     int             // units that may wait, those under way included; 0: DefaultQueue
	Changed   func(Status)    // told of each connection, and of each failure to have one; quick; may be nil
}

// Line keeps a connection to one peer: it connects again after a failure, replaces the
// connection when its time is over, and sends again what was not acknowledged. Its
// methods may be called by many goroutines.
type Line struct {
	l   *Link
	o   LineOptions
	box *outbox

	mu      sync.Mutex
	conn    *Conn         // nil: not connected
	changed chan struct{} // closed when conn or ended changes
	ended   bool
	since   time.Time // of the connection, or of its loss
	err     error     // why there is no connection
}

// Line makes a line to a peer; it does nothing until Run. errs.Invalid when something needed
// is missing.
func (l *Link) Line(o LineOptions) (*Line, error) {
	if o.Addresses == nil || o.Peer.Key == (Key{}) {
		return nil, errs.E("mixnet/link.Line", errs.Invalid, "peer or addresses are missing", nil)
	}
	if o.Queue <= 0 {
		o.Queue = DefaultQueue
	}
	if o.Pace == nil {
		o.Pace = func() Pace { return Pace{} }
	}
	return &Line{l: l, o: o, box: newOutbox(o.Queue), changed: make(chan struct{}), since: time.Now()}, nil
}

// Status of a Line.
type Status struct {
	Connected bool
	Since     time.Time // of the connection, or since when there is none
	Err       error     // the last reason for having none; nil while connected
	Waiting   int       // units without an answer
}

// Status tells how the line stands.
func (n *Line) Status() Status {
	n.mu.Lock()
	s := Status{Connected: n.conn != nil, Since: n.since, Err: n.err}
	n.mu.Unlock()
	s.Waiting = n.box.waits()
	return s
}

// Post hands over a unit of packet.Size bytes, which must not be changed until done is
// called. done is called once, unless Post gives an error: with nil when the peer has
// it on its disk, ErrLater when the peer does not take it now, ErrEnded when Run has
// ended. It waits as long as there is no connection. done must not block. ErrQueue when
// too many units wait.
func (n *Line) Post(unit []byte, done func(error)) error {
	_, err := n.box.post(unit, done)
	return errs.Wrap("mixnet/link.Line.Post", err)
}

// Send is Post, and waits for the answer. When ctx ends, the unit is the caller's
// again; the peer may have it or not.
func (n *Line) Send(ctx context.Context, unit []byte) error {
	return n.box.send(ctx, "mixnet/link.Line.Send", unit)
}

// fetchTries is how many connections a request is tried over, as one may end meanwhile.
const fetchTries = 3

// Fetch asks the peer for a document, as Conn.Fetch does, and waits for a connection. The
// request is made again when the connection ends, so a peer may see it more than once.
func (n *Line) Fetch(ctx context.Context, request []byte) ([]byte, error) {
	const op = "mixnet/link.Line.Fetch"
	for tries := 0; ; {
		n.mu.Lock()
		conn, changed, ended := n.conn, n.changed, n.ended
		n.mu.Unlock()
		if ended {
			return nil, errs.Wrap(op, ErrEnded)
		}
		if conn != nil {
			got, err := conn.Fetch(ctx, request)
			if tries++; !errors.Is(err, ErrEnded) || tries == fetchTries {
				return got, err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, errs.E(op, errs.Canceled, "", ctx.Err())
		}
	}
}

// set notes the connection in use, or why there is none.
func (n *Line) set(c *Conn, err error) {
	n.mu.Lock()
	if c != n.conn || n.since.IsZero() {
		n.since = time.Now()
	}
	n.conn, n.err = c, err
	close(n.changed)
	n.changed = make(chan struct{})
	n.mu.Unlock()
	if n.o.Changed != nil {
		n.o.Changed(n.Status())
	}
}

// used is a connection in use.
type used struct {
	*Conn
	ended chan error
	life  *time.Timer
}

// use lets a connection carry the line's units.
func (n *Line) use(c *Conn) used {
	o := &n.l.o
	u := used{Conn: c, ended: make(chan error, 1)}
	u.life = time.NewTimer(o.MinLife + time.Duration(o.Chance()*float64(o.MaxLife-o.MinLife)))
	c.pace = n.o.Pace()
	c.attach(n.box)
	go func() { u.ended <- c.run() }()
	n.set(c, nil)
	return u
}

// Run keeps the line until ctx ends. Then what is under way is answered, for up to
// DrainTime, and what waits is given back with ErrEnded. It must be called once.
func (n *Line) Run(ctx context.Context) {
	defer n.box.close(ErrEnded)
	defer func() {
		n.mu.Lock()
		n.ended = true
		n.mu.Unlock()
		n.set(nil, ErrEnded)
	}()
	pause := n.l.o.MinPause
	for {
		c, err := n.connect(ctx)
		if err == nil {
			born := time.Now()
			err = n.keep(ctx, n.use(c))
			if ctx.Err() == nil && time.Since(born) >= steadyTime {
				pause = n.l.o.MinPause
			}
		}
		if ctx.Err() != nil {
			return
		}
		n.set(nil, err)
		if !n.wait(ctx, &pause) {
			return
		}
	}
}

// wait is the pause between two tries. It is false when ctx has ended.
func (n *Line) wait(ctx context.Context, pause *time.Duration) bool {
	t := time.NewTimer(n.jitter(pause))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// jitter gives the pause to make, and doubles the next one.
func (n *Line) jitter(pause *time.Duration) time.Duration {
	d := time.Duration(float64(*pause) * (0.5 + n.l.o.Chance()))
	*pause = min(2**pause, n.l.o.MaxPause)
	return d
}

// keep uses a connection, and its successors, until one ends or ctx does.
func (n *Line) keep(ctx context.Context, u used) error {
	pause := n.l.o.MinPause
	for {
		select {
		case err := <-u.ended:
			u.life.Stop()
			if err == nil {
				err = errs.Wrap("mixnet/link.Line", ErrEnded)
			}
			return err
		case <-ctx.Done():
			u.life.Stop()
			u.goAway(awayEnding)
			return <-u.ended
		case <-u.life.C:
			c, err := n.connect(ctx)
			if err != nil {
				// The old one goes on until there is a new one.
				u.life.Reset(n.jitter(&pause))
				continue
			}
			pause = n.l.o.MinPause
			// The next one sends nothing before the old one has its answers, so that the order
			// is kept.
			u.goAway(awayOld)
			<-u.ended
			u = n.use(c)
		}
	}
}

// connect tries the addresses once each.
func (n *Line) connect(ctx context.Context) (*Conn, error) {
	const op = "mixnet/link.connect"
	err := error(errs.E(op, errs.Unavailable, "no address of the peer is known", nil))
	for _, addr := range n.o.Addresses() {
		var c *Conn
		if c, err = n.dial(ctx, addr); err == nil {
			return c, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

func (n *Line) dial(ctx context.Context, addr string) (*Conn, error) {
	const op = "mixnet/link.dial"
	within, cancel := context.WithTimeout(ctx, n.l.o.HandshakeTime)
	defer cancel()
	raw, err := n.l.o.Dial(within, addr)
	if err != nil {
		return nil, errs.E(op, errs.Unavailable, "no connection to the peer", err)
	}
	know := func(k Key) error {
		if k != n.o.Peer.Key {
			return errOtherKey
		}
		return nil
	}
	who := func(Key) (Peer, bool) { return n.o.Peer, true }
	s, err := n.l.shake(within, raw, false, know, who)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	return n.l.newConn(context.WithoutCancel(ctx), s), nil
}
