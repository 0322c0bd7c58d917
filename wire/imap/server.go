package imap

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"postern.email/kit/errs"
)

// Server serves any number of listeners with one set of options.
type Server struct {
	o        Options
	watchers watchers
}

// New makes a server. errs.Invalid: no backend, or Implicit without TLS.
func New(o Options) (*Server, error) {
	const op = "wire/imap.New"
	if o.Backend == nil || (o.Implicit && o.TLS == nil) {
		return nil, errs.E(op, errs.Invalid, "a backend is needed, and a TLS configuration for implicit TLS", nil)
	}
	return &Server{o: o.withDefaults()}, nil
}

// Serve is New(o) and Server.Serve.
func Serve(ctx context.Context, l net.Listener, o Options) error {
	s, err := New(o)
	if err != nil {
		return err
	}
	return s.Serve(ctx, l)
}

// ServeConn is New(o) and Server.ServeConn.
func ServeConn(ctx context.Context, nc net.Conn, o Options) error {
	s, err := New(o)
	if err != nil {
		_ = nc.Close()
		return err
	}
	return s.ServeConn(ctx, nc)
}

// acceptPause is the wait after a passing accept error (no file descriptors left).
const acceptPause = 50 * time.Millisecond

// Serve accepts connections until ctx ends or l fails; it closes l and returns
// when all sessions are closed. The end of ctx is not an error.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	const op = "wire/imap.Serve"
	var sessions sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	life := newLifetime(ctx, s.o.ShutdownGrace)
	defer func() {
		cancel() // a listener that failed ends its sessions too
		sessions.Wait()
		life.close()
	}()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	defer l.Close()
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			sessions.Go(func() { _ = s.serveConn(life, nc) })
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return errs.E(op, errs.Unavailable, "the listener was closed", err)
		default:
			s.o.Logger.Warn("imap: accept failed", "kind", errs.KindOf(err).Error())
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(acceptPause):
			}
		}
	}
}

// ServeConn serves one connection and closes it. With ctx it ends politely: the
// running command has Options.ShutdownGrace to finish, then the client gets BYE.
// A *tls.Conn counts as protected: so a port can be shared by ALPN.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn) error {
	life := newLifetime(ctx, s.o.ShutdownGrace)
	defer life.close()
	return s.serveConn(life, nc)
}

func (s *Server) serveConn(life *lifetime, nc net.Conn) error {
	const op = "wire/imap.ServeConn"
	peer := s.o.PeerOf(nc)
	release, ok := s.o.Conns.Acquire(peer)
	if !ok {
		s.refuse(nc)
		return errs.E(op, errs.Busy, "too many connections", nil)
	}
	defer release()

	c := &conn{s: s, raw: nc, peer: peer, room: s.o.Memory.Share(peer, s.o.Share)}
	c.use(nc)
	_, c.tls = nc.(*tls.Conn)
	life.add(c)
	defer life.remove(c)
	defer c.close()
	if s.o.Implicit && !c.tls {
		if err := c.handshake(life.running); err != nil {
			return errs.E(op, errs.Unavailable, "", err)
		}
	}
	c.serve(life.running)
	return nil
}

// refuse tells a client that there is no place. With implicit TLS nothing can be
// said without a handshake, which is the cost that the limit avoids.
func (s *Server) refuse(nc net.Conn) {
	if !s.o.Implicit {
		_ = nc.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = nc.Write([]byte("* BYE [UNAVAILABLE] Too many connections\r\n"))
	}
	_ = nc.Close()
}

// onOwnStack runs fn on a goroutine of its own and waits for it. What fn needs of
// stack is given back with it: the goroutine that waits for the client stays small.
func (c *conn) onOwnStack(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		takeStack()
		c.guard(fn)
	}()
	<-done
}

// commandStack is the stack that nearly every command comes to need.
const commandStack = 12 << 10

// takeStack makes a new goroutine's stack as large as that at once. Grown on the way,
// it would be copied several times, each time with all that lies on it.
//
//go:noinline
func takeStack() {
	var room [commandStack]byte
	touch(&room)
}

//go:noinline
func touch(room *[commandStack]byte) { room[0] = 1 }

// guard runs fn; a fault in one session must not take the others down.
func (c *conn) guard(fn func()) {
	defer func() {
		if e := recover(); e != nil {
			c.s.o.Logger.Error("imap: a command failed badly", "stack", string(debug.Stack()))
			c.closing = true
		}
	}()
	fn()
}
