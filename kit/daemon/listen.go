// Package daemon is what makes a long-running program of Unix: listeners with
// the PROXY protocol, the lock on the data directory, signals, systemd's
// notifications, no core dumps, and a restart that keeps sockets and secrets.
package daemon

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"

	"postern.email/kit/limits"
)

// ProxyHeaderWait is how long a connection from a trusted proxy may take to send
// its PROXY header. A proxy that sends one does so at once; one that never does
// (a masquerading proxy in front of a protocol in which the server speaks first)
// costs its clients this delay.
const ProxyHeaderWait = 500 * time.Millisecond

// maxWaiting bounds the connections whose PROXY header is being awaited; beyond
// it further ones are closed at once.
const maxWaiting = 512

// Listener hands out connections whose other end PeerOf knows. Connections from
// trusted networks may begin with a PROXY header, version 1 or 2
// (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt); one without it
// comes through a masquerading proxy, and its peer is exempt from every
// per-network limit, because all clients would share one address.
type Listener struct {
	inner   net.Listener
	trusted limits.Trusted
	wait    time.Duration

	ready   chan net.Conn
	slots   chan struct{}
	stop    chan struct{}
	failed  error // set before stop is closed
	once    sync.Once
	running sync.WaitGroup
}

// NewListener wraps l. It owns one goroutine that accepts, and one for each
// connection whose header is awaited; Close stops them all.
func NewListener(l net.Listener, trusted limits.Trusted) *Listener {
	return newListener(l, trusted, ProxyHeaderWait)
}

func newListener(l net.Listener, trusted limits.Trusted, wait time.Duration) *Listener {
	x := &Listener{inner: l, trusted: trusted, wait: wait, ready: make(chan net.Conn),
		slots: make(chan struct{}, maxWaiting), stop: make(chan struct{})}
	x.running.Add(1)
	go x.accept()
	return x
}

func (l *Listener) accept() {
	defer l.running.Done()
	var delay time.Duration
	for {
		c, err := l.inner.Accept()
		if err != nil {
			// Out of file descriptors and the like pass; wait a little, as net/http does.
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() || isTemporary(err) {
				delay = min(max(2*delay, 5*time.Millisecond), time.Second)
				t := time.NewTimer(delay)
				select {
				case <-t.C:
					continue
				case <-l.stop:
					t.Stop()
					return
				}
			}
			l.shut(err)
			return
		}
		delay = 0
		peer := addrPeer(c.RemoteAddr())
		if !l.trusted.Contains(peer.Addr) {
			l.hand(&conn{Conn: c, peer: peer})
			continue
		}
		select {
		case l.slots <- struct{}{}:
		default:
			c.Close()
			continue
		}
		l.running.Add(1)
		go func() {
			defer l.running.Done()
			defer func() { <-l.slots }()
			l.header(c, peer)
		}()
	}
}

// hand gives c to Accept, or closes it when the listener closes.
func (l *Listener) hand(c net.Conn) {
	select {
	case l.ready <- c:
	case <-l.stop:
		c.Close()
	}
}

// header reads the PROXY header of a connection from a trusted network.
func (l *Listener) header(c net.Conn, peer limits.Peer) {
	done := make(chan struct{})
	defer close(done)
	l.running.Add(1)
	go func() { // Close ends the wait at once
		defer l.running.Done()
		select {
		case <-l.stop:
			c.SetReadDeadline(time.Unix(1, 0))
		case <-done:
		}
	}()
	r := bufio.NewReaderSize(c, 4096+16) // the longest v2 header that go-proxyproto takes
	c.SetReadDeadline(time.Now().Add(l.wait))
	if _, err := r.Peek(1); isTimeout(err) {
		l.exempt(c, r, peer) // nothing came: the client waits for the server's greeting
		return
	}
	h, err := proxyproto.Read(r)
	switch {
	case errors.Is(err, proxyproto.ErrNoProxyProtocol) || isTimeout(err) && !begun(r):
		l.exempt(c, r, peer)
		return
	case err != nil:
		c.Close() // a torn or impossible header: nobody can say who this is
		return
	case h.Command.IsLocal():
		l.exempt(c, r, peer) // the proxy itself, a health check
		return
	}
	src, ok := h.SourceAddr.(*net.TCPAddr)
	if !ok {
		l.exempt(c, r, peer) // UNKNOWN: the proxy does not know either
		return
	}
	c.SetReadDeadline(time.Time{})
	addr, _ := netip.AddrFromSlice(src.IP)
	l.hand(&conn{Conn: c, peer: limits.Peer{Addr: addr.Unmap()}, early: r})
}

// begun reports whether the bytes in r, after at least one came, can belong to a
// header: the start of a signature, or nothing, because proxyproto.Read takes a
// version 1 header out of r as it reads it.
func begun(r *bufio.Reader) bool {
	b, _ := r.Peek(r.Buffered())
	v1, v2 := proxyproto.SIGV1, proxyproto.SIGV2
	return bytes.Equal(b[:min(len(b), len(v1))], v1[:min(len(b), len(v1))]) ||
		bytes.Equal(b[:min(len(b), len(v2))], v2[:min(len(b), len(v2))])
}

func (l *Listener) exempt(c net.Conn, r *bufio.Reader, peer limits.Peer) {
	c.SetReadDeadline(time.Time{})
	peer.Exempt = true
	l.hand(&conn{Conn: c, peer: peer, early: r})
}

func (l *Listener) shut(err error) {
	l.once.Do(func() {
		l.failed = err
		close(l.stop)
	})
}

// Accept gives the next connection. After Close its error is net.ErrClosed.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case <-l.stop: // a closed listener hands out nothing more
		return nil, l.failed
	default:
	}
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.stop:
		return nil, l.failed
	}
}

// Close stops listening and waits for the listener's own goroutines. Connections
// that were handed out live on.
func (l *Listener) Close() error {
	l.shut(net.ErrClosed)
	err := l.inner.Close()
	l.running.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Addr is the listening address.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Inner is the wrapped listener, for handing its socket to the next process.
func (l *Listener) Inner() net.Listener { return l.inner }

// conn is a connection that knows who is at the other end.
type conn struct {
	net.Conn
	peer  limits.Peer
	early *bufio.Reader // bytes read while looking for the header; nil when drained
}

func (c *conn) Read(p []byte) (int, error) {
	if c.early != nil {
		if n := c.early.Buffered(); n > 0 {
			return c.early.Read(p[:min(n, len(p))])
		}
		c.early = nil
	}
	return c.Conn.Read(p)
}

// CloseWrite half-closes the connection where the transport can.
func (c *conn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return errors.ErrUnsupported
}

// PeerOf says who is at the other end of a connection, also through layers such
// as *tls.Conn that offer NetConn. It never blocks.
func PeerOf(c net.Conn) limits.Peer {
	for x := c; x != nil; {
		if own, ok := x.(*conn); ok {
			return own.peer
		}
		layer, ok := x.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		x = layer.NetConn()
	}
	return addrPeer(c.RemoteAddr())
}

func addrPeer(a net.Addr) limits.Peer {
	if t, ok := a.(*net.TCPAddr); ok {
		return limits.Peer{Addr: t.AddrPort().Addr().Unmap()}
	}
	return limits.Peer{}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
