package node

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/serve"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
	"postern.email/mixnet/stats"
)

// guarded is a listener that closes connections from addresses that may not connect, before
// anything is read from them.
type guarded struct {
	net.Listener
	n *Node
}

func (n *Node) guard(l net.Listener) net.Listener { return guarded{l, n} }

// Accept implements net.Listener.
func (g guarded) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if ok := g.n.settings().PeerOk; ok != nil && !allowed(ok, g.n.addrOf(c)) {
			g.n.count(stats.Dropped, "address")
			c.Close()
			continue
		}
		return g.n.rate.wrap(c), nil
	}
}

// addrOf is who is at the other end, as the role sees it: behind a trusted proxy that is not
// the socket's own address.
func (n *Node) addrOf(c net.Conn) netip.Addr {
	if n.o.Link.PeerOf != nil {
		return n.o.Link.PeerOf(c).Addr
	}
	return serve.PeerOf(c).Addr
}

// allowed asks about an address. What has none, a socket of this machine, is allowed.
func allowed(ok func(netip.Addr) bool, a netip.Addr) bool { return !a.IsValid() || ok(a) }

// dial is link.Options.Dial. Addresses are judged when names are resolved.
func (n *Node) dial(ctx context.Context, addr string) (net.Conn, error) {
	const op = "mixnet/node.dial"
	ok := n.settings().DialOk
	if n.o.Dial == nil {
		d := net.Dialer{Control: func(_, address string, _ syscall.RawConn) error {
			a, err := netip.ParseAddrPort(address)
			if err == nil && ok != nil && !ok(a.Addr().Unmap()) {
				return errs.E(op, errs.Denied, publicDial, nil)
			}
			return nil
		}}
		c, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		return n.rate.wrap(c), nil
	}
	c, err := n.o.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	if ok != nil && !allowed(ok, serve.PeerOf(c).Addr) {
		c.Close()
		return nil, errs.E(op, errs.Denied, publicDial, nil)
	}
	return n.rate.wrap(c), nil
}

const publicDial = "the address of the peer is not among those that may be connected to"

// countConnect counts what became of a try to connect.
func (n *Node) countConnect(s link.Status, was bool, id packet.ID) {
	name := n.nameOf(id)
	switch {
	case s.Connected:
		n.count(stats.AttemptedConnect, name)
		n.count(stats.SuccessfulConnect, name)
	case !was && errs.KindOf(s.Err) != errs.Canceled:
		n.count(stats.AttemptedConnect, name)
		n.count(stats.FailedConnect, name)
	}
}

// bandwidth bounds the bytes a second of all connections together, in each direction.
type bandwidth struct {
	in, out bucket
}

func newBandwidth(b Bandwidth) *bandwidth {
	w := &bandwidth{}
	w.set(b)
	return w
}

func (w *bandwidth) set(b Bandwidth) {
	w.in.set(b)
	w.out.set(b)
}

func (w *bandwidth) wrap(c net.Conn) net.Conn { return &bounded{Conn: c, w: w} }

// bucket is a token bucket that may run into debt: what waits is let through in order.
type bucket struct {
	mu    sync.Mutex
	rate  float64 // bytes a second; 0: no bound
	spike float64
	free  float64
	at    time.Time
}

func (b *bucket) set(o Bandwidth) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rate, b.spike = float64(max(o.Rate, 0)), float64(o.Spike)
	if b.spike <= 0 {
		b.spike = b.rate
	}
	b.spike = max(b.spike, link.FrameSize+frameExtra)
	b.free, b.at = b.spike, time.Time{}
}

// frameExtra is more than TLS adds to a frame.
const frameExtra = 1 << 10

// take counts n bytes and says how long to wait for them.
func (b *bucket) take(n int) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rate == 0 {
		return 0
	}
	now := time.Now()
	if !b.at.IsZero() {
		b.free = min(b.spike, b.free+now.Sub(b.at).Seconds()*b.rate)
	}
	b.at = now
	if b.free -= float64(n); b.free >= 0 {
		return 0
	}
	return time.Duration(-b.free / b.rate * float64(time.Second))
}

// bounded is a connection within the bandwidth.
type bounded struct {
	net.Conn
	w    *bandwidth
	once sync.Once
	done chan struct{}
	mu   sync.Mutex
}

// NetConn is the connection below, for who looks for its own (kit/daemon.PeerOf).
func (c *bounded) NetConn() net.Conn { return c.Conn }

// Read waits after it has read: the next read comes later, and the sender's writes with it.
func (c *bounded) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == nil {
		c.wait(c.w.in.take(n))
	}
	return n, err
}

func (c *bounded) Write(p []byte) (int, error) {
	c.wait(c.w.out.take(len(p)))
	return c.Conn.Write(p)
}

// Close ends also what waits.
func (c *bounded) Close() error {
	c.once.Do(func() { close(c.ended()) })
	return c.Conn.Close()
}

// CloseWrite is what the link asks of a TCP connection.
func (c *bounded) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

func (c *bounded) ended() chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
	}
	return c.done
}

func (c *bounded) wait(d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.ended():
	}
}

// linkPace is when units or JUNK leave on a connection between nodes.
func (n *Node) linkPace() link.Pace { return n.ticks(directory.LinkInterval, false) }

// paceOf is link.Options.Pace: clients get one frame at each tick and none otherwise.
func (n *Node) paceOf(p link.Peer) link.Pace {
	switch p.Role {
	case link.Client:
		return n.ticks(directory.ReceiveInterval, true)
	case link.Mix, link.Relay:
		return n.linkPace()
	}
	return link.Pace{}
}

// ticks makes a Poisson clock whose mean is a parameter of the network, as it is at each tick.
func (n *Node) ticks(parameter string, constant bool) link.Pace {
	c, stop := make(chan time.Time), make(chan struct{})
	n.clocks.Go(func() {
		t := time.NewTimer(0)
		defer t.Stop()
		t.Stop()
		for {
			t.Reset(n.exponential(n.view.Load().milliseconds(parameter)))
			var now time.Time
			select {
			case now = <-t.C:
			case <-stop:
				return
			}
			select {
			case c <- now:
			case <-stop:
				return
			}
		}
	})
	return link.Pace{Ticks: c, Stop: sync.OnceFunc(func() { close(stop) }), Constant: constant}
}
