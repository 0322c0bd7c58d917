package link

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
)

// Pace says when a connection sends frames (docs/link.md §4).
type Pace struct {
	Ticks <-chan time.Time // nil: no cover traffic, only what keeps the connection alive
	Stop  func()           // called when the connection has ended; may be nil

	// Constant: exactly one frame at each tick, and none otherwise. It needs Ticks.
	Constant bool
}

// Conn is one connection with a peer. Its methods may be called by many goroutines.
type Conn struct {
	l    *Link
	peer Peer
	raw  net.Conn
	tls  *tls.Conn
	out  *gather
	pace Pace
	rate *limits.GCRA
	rkey string // under which rate counts this peer

	ctx    context.Context // ends with the connection
	cancel context.CancelFunc
	tasks  sync.WaitGroup // documents that are being looked up

	wake chan struct{} // something may have to be written
	dead chan struct{} // closed by stop
	ours bool          // box is this connection's own, and ends with it

	head  [headLen]byte // of the frame that is being written
	inbox inbox
	docs  docs

	mu      sync.Mutex
	err     error   // why the connection ended
	box     *outbox // nil: nothing is sent
	sentLow uint64  // the lowest number that is not answered
	sentTop uint64  // the last number that was given out
	replied uint64  // bit i: sentLow+i is answered
	flight  [window]flight
	away    uint8 // code of the GOAWAY that is to be sent
	gone    bool  // GOAWAY was sent
	left    uint8 // code of the GOAWAY that has come
	turn    bool  // the last frame with a body was of a document
}

// flight is a unit that was sent.
type flight struct {
	pos uint64
	at  time.Time
}

func (l *Link) newConn(ctx context.Context, s *session) *Conn {
	c := &Conn{l: l, peer: s.peer, raw: s.raw, tls: s.tls, out: s.out,
		wake: make(chan struct{}, 1), dead: make(chan struct{}), sentLow: 1}
	c.ctx, c.cancel = context.WithCancel(ctx)
	c.inbox.low = 1
	c.rate, c.rkey = l.nodeRate, string(c.peer.Key[:])
	if c.peer.Role == Client {
		c.rate = l.clientRate.Load()
	}
	return c
}

// Peer tells who is at the other end.
func (c *Conn) Peer() Peer { return c.peer }

// Context ends with the connection.
func (c *Conn) Context() context.Context { return c.ctx }

// Post hands over a unit of packet.Size bytes, which must not be changed until done is
// called. done is called once, unless Post gives an error: with nil when the peer has
// it on its disk, ErrLater when it does not take it now, ErrEnded when the
// connection is over. done must not block. ErrQueue when too many wait.
func (c *Conn) Post(unit []byte, done func(error)) error {
	const op = "mixnet/link.Conn.Post"
	box := c.mail()
	if box == nil {
		return errs.Wrap(op, ErrEnded)
	}
	_, err := box.post(unit, done)
	return errs.Wrap(op, err)
}

// Send is Post, and waits for the answer. When ctx ends, the unit is the caller's
// again; the peer may have it or not.
func (c *Conn) Send(ctx context.Context, unit []byte) error {
	const op = "mixnet/link.Conn.Send"
	box := c.mail()
	if box == nil {
		return errs.Wrap(op, ErrEnded)
	}
	return box.send(ctx, op, unit)
}

func (c *Conn) mail() *outbox {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.box
}

// goAway gives the connection up in order: what is under way is answered, nothing new
// is sent. A connection with constant rate is just closed.
func (c *Conn) goAway(code uint8) {
	c.mu.Lock()
	if c.away == 0 {
		c.away = code
	}
	c.mu.Unlock()
	c.kick()
}

func (c *Conn) kick() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// attach lets the connection send from box.
func (c *Conn) attach(box *outbox) {
	c.mu.Lock()
	c.box = box
	c.mu.Unlock()
	box.attach(c.kick)
}

// run reads and writes until the connection ends, and says why. An end that one of
// both sides announced is nil.
func (c *Conn) run() error {
	read := make(chan struct{})
	go func() {
		defer close(read)
		c.stop(c.read())
	}()
	c.stop(c.write())
	c.farewell()
	c.raw.Close()
	<-read
	c.cancel()
	c.tasks.Wait()
	c.docs.end()
	if c.pace.Stop != nil {
		c.pace.Stop()
	}
	c.mu.Lock()
	box, err := c.box, c.err
	c.mu.Unlock()
	if box != nil {
		if c.ours {
			box.close(ErrEnded)
		} else {
			c.l.counts.again.Add(uint64(box.rewind()))
		}
	}
	return err
}

// stop ends the connection; the first reason counts.
func (c *Conn) stop(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.dead:
		return
	default:
	}
	if errors.Is(err, errOver) || (c.gone || c.left != 0) && errs.KindOf(err) == errs.Unavailable {
		err = nil
		if c.left == awayUnknown || c.left == awayBroken {
			err = leftError(c.left)
		}
	}
	c.err = err
	close(c.dead)
	c.cancel()
	// A write that hangs gets a moment more, so that a farewell is possible.
	c.raw.SetWriteDeadline(time.Now().Add(farewellTime))
}

// errOver: the connection has come to its planned end.
var errOver = errors.New("over")

// farewell tells the peer what it did wrong, and closes TLS.
func (c *Conn) farewell() {
	c.mu.Lock()
	err, gone, left := c.err, c.gone, c.left
	c.mu.Unlock()
	if err != nil && errs.KindOf(err) != errs.Invalid {
		return
	}
	if err != nil && !c.pace.Constant && !gone && left == 0 {
		if c.frame(&head{typ: typeGoAway, code: awayBroken}, zeros[:], farewellTime) != nil {
			return
		}
	}
	// TLS would wait 5 s for a peer that does not read.
	late := time.AfterFunc(farewellTime, func() { c.raw.Close() })
	c.tls.Close()
	late.Stop()
}

// leftError is why a peer has gone away, where it is an error.
func leftError(code uint8) error {
	switch code {
	case awayUnknown:
		return errs.E("mixnet/link", errs.Denied, "the peer does not know this node's key any more", nil)
	case awayBroken:
		return errs.E("mixnet/link", errs.Invalid, "the peer says that this node does not keep to the link protocol", nil)
	}
	return nil
}

// quiet reports whether nothing is under way in either direction.
func (c *Conn) quiet() bool {
	return c.sentLow > c.sentTop && c.inbox.quiet() && c.docs.quiet()
}
