package web

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/kit/serve"
)

// ServeOptions of one HTTPS or HTTP port.
type ServeOptions struct {
	// TLS must list in NextProtos what is spoken here: "h2", "http/1.1" and the
	// names of Protocols. ServePlain does not read it.
	TLS *tls.Config
	// Handler answers. One that takes a connection over (http.Hijacker) has it until it returns;
	// the connection is closed then.
	Handler http.Handler
	// Protocols are the other protocols that share the port, by ALPN name. Each
	// serves one connection, on which the handshake is done, and closes it.
	Protocols map[string]func(context.Context, net.Conn)
	Conns     *limits.Conns
	PeerOf    func(net.Conn) limits.Peer
	Handshake time.Duration // time for the TLS handshake; 0 = 10 s
	Grace     time.Duration // for requests under way when the server stops; 0 = 5 s
}

// Times of one HTTP connection.
const (
	handshakeTime = 10 * time.Second
	requestTime   = 15 * time.Second
	idleTime      = 2 * time.Minute
	maxHeader     = 16 << 10
)

// Serve accepts HTTPS connections on l until ctx ends; then sessions have a grace.
func Serve(ctx context.Context, l net.Listener, o ServeOptions) error {
	if o.TLS == nil {
		l.Close()
		return errs.E("wire/web.Serve", errs.Invalid, "", nil)
	}
	return serveHTTP(ctx, l, o)
}

// ServePlain is Serve for HTTP without TLS, with the same limits and times. Nothing
// private belongs there: see Redirect.
func ServePlain(ctx context.Context, l net.Listener, o ServeOptions) error {
	o.TLS, o.Protocols = nil, nil
	return serveHTTP(ctx, l, o)
}

func serveHTTP(ctx context.Context, l net.Listener, o ServeOptions) error {
	const op = "wire/web.Serve"
	if o.Handler == nil {
		l.Close()
		return errs.E(op, errs.Invalid, "", nil)
	}
	if o.PeerOf == nil {
		o.PeerOf = serve.PeerOf
	}
	if o.Handshake <= 0 {
		o.Handshake = handshakeTime
	}
	if o.Grace <= 0 {
		o.Grace = serve.DefaultGrace
	}
	p := &port{conns: make(chan net.Conn), stop: make(chan struct{}), addr: l.Addr(), grace: o.Grace, open: make(map[net.Conn]*httpConn)}
	h := &http.Server{
		Handler: p.handler(o.Handler), ReadHeaderTimeout: requestTime, ReadTimeout: requestTime, WriteTimeout: requestTime,
		IdleTimeout: idleTime, MaxHeaderBytes: maxHeader, ErrorLog: log.New(io.Discard, "", 0), // it would name addresses
		ConnContext: p.context(withPeer(o.PeerOf)), ConnState: p.state,
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.Serve(p)
	}()
	err := serve.Listener(ctx, l, serve.Options{Conns: o.Conns, PeerOf: o.PeerOf, Grace: 2 * o.Grace, Handle: func(ctx context.Context, c net.Conn, _ limits.Peer) {
		if o.TLS == nil {
			p.serve(ctx, c, h)
			return
		}
		t := tls.Server(c, o.TLS)
		hctx, cancel := context.WithTimeout(ctx, o.Handshake)
		err := t.HandshakeContext(hctx)
		cancel()
		if err != nil {
			return
		}
		if f := o.Protocols[t.ConnectionState().NegotiatedProtocol]; f != nil {
			f(ctx, t)
			return
		}
		p.serve(ctx, t, h)
	}})
	p.Close()
	h.Close()
	<-done
	if err != nil {
		return errs.E(op, errs.Unavailable, "the listener failed", err)
	}
	return nil
}

// port is the net.Listener that http.Server takes its connections from, after
// the handshake has shown what they speak.
type port struct {
	conns chan net.Conn
	stop  chan struct{}
	once  sync.Once
	addr  net.Addr
	grace time.Duration
	mu    sync.Mutex
	open  map[net.Conn]*httpConn
}

// httpConn is a connection that the HTTP server has, or gave to its handler for good.
type httpConn struct {
	c       net.Conn
	state   http.ConnState
	changed chan struct{} // capacity 1
	ended   chan struct{}
}

func (p *port) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.stop:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (p *port) Close() error {
	p.once.Do(func() { close(p.stop) })
	return nil
}

func (p *port) Addr() net.Addr { return p.addr }

// serve hands c to the HTTP server and waits until it is closed. When ctx ends, a
// connection without a request is closed at once; one with a request has the grace.
func (p *port) serve(ctx context.Context, c net.Conn, h *http.Server) {
	x := &httpConn{c: c, changed: make(chan struct{}, 1), ended: make(chan struct{})}
	p.mu.Lock()
	p.open[c] = x
	p.mu.Unlock()
	select {
	case p.conns <- c:
	case <-p.stop:
		p.state(c, http.StateClosed)
		return
	case <-ctx.Done():
		p.state(c, http.StateClosed)
		return
	}
	select {
	case <-x.ended:
		return
	case <-ctx.Done():
	}
	h.SetKeepAlivesEnabled(false)
	grace := time.NewTimer(p.grace)
	defer grace.Stop()
	for {
		p.mu.Lock()
		idle := x.state == http.StateIdle || x.state == http.StateNew
		p.mu.Unlock()
		if idle {
			c.Close()
			<-x.ended
			return
		}
		select {
		case <-x.ended:
			return
		case <-x.changed:
		case <-grace.C:
			c.Close()
			<-x.ended
			return
		}
	}
}

func (p *port) state(c net.Conn, s http.ConnState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.open[c]
	if x == nil {
		return
	}
	x.state = s
	if s == http.StateClosed {
		delete(p.open, c)
		close(x.ended)
		return
	}
	select {
	case x.changed <- struct{}{}:
	default:
	}
}

// connKey is the key of the connection in a request's context.
type connKey struct{}

// context adds the connection to what then puts into a request's context.
func (p *port) context(then func(context.Context, net.Conn) context.Context) func(context.Context, net.Conn) context.Context {
	return func(ctx context.Context, c net.Conn) context.Context {
		p.mu.Lock()
		x := p.open[c]
		p.mu.Unlock()
		return context.WithValue(then(ctx, c), connKey{}, x)
	}
}

// handler is h, with the end of a connection that h took over: the HTTP server says nothing
// about it any more.
func (p *port) handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			x, _ := r.Context().Value(connKey{}).(*httpConn)
			if x == nil {
				return
			}
			p.mu.Lock()
			taken := x.state == http.StateHijacked
			p.mu.Unlock()
			if taken {
				p.state(x.c, http.StateClosed)
			}
		}()
		h.ServeHTTP(w, r)
	})
}
