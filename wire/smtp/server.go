package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"postern.email/kit/errs"
)

// Pauses after an accept that failed for want of resources (file descriptors).
const (
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// Bounds of the farewell: what is read and dropped so that the last reply reaches a
// client that is still sending.
const (
	lingerTime  = 2 * time.Second
	lingerBytes = 1 << 20
)

// server is the sessions of one listener.
type server struct {
	o Options

	mu       sync.Mutex
	stopping bool
	sessions map[*session]struct{}
	wg       sync.WaitGroup
}

// Serve accepts connections on l until ctx ends; then it closes l, tells the
// clients, gives transfers under way Options.Grace to end, and returns when all
// sessions are closed. Its error is nil when ctx ended.
func Serve(ctx context.Context, l net.Listener, o Options) error {
	const op = "wire/smtp.Serve"
	if o.Implicit && o.TLS == nil {
		l.Close()
		return errs.E(op, errs.Invalid, "implicit TLS without a certificate", nil)
	}
	s := &server{o: o.withDefaults(), sessions: make(map[*session]struct{})}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stopAccept := context.AfterFunc(ctx, func() { l.Close() })
	err := s.accept(ctx, work, l)
	if stopAccept() {
		l.Close()
	}
	s.shutdown(cancel)
	if ctx.Err() != nil {
		return nil
	}
	return errs.E(op, errs.Unavailable, "the listener failed", err)
}

func (s *server) accept(ctx, work context.Context, l net.Listener) error {
	pause := acceptPauseMin
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return err
			}
			s.o.Logger.Warn("smtp: accept failed", "pause", pause)
			t := time.NewTimer(pause)
			select {
			case <-ctx.Done():
				t.Stop()
				return err
			case <-t.C:
			}
			pause = min(2*pause, acceptPauseMax)
			continue
		}
		pause = acceptPauseMin
		peer := s.o.PeerOf(conn)
		release, ok := s.o.Conns.Acquire(peer)
		if !ok {
			s.refuse(conn)
			continue
		}
		s.wg.Go(func() {
			defer release()
			s.serve(work, conn)
		})
	}
}

// refuse tells a client that there is no place; under implicit TLS nothing can be
// said without the work of a handshake, which is what we have no place for.
func (s *server) refuse(conn net.Conn) {
	if !s.o.Implicit {
		// The first few bytes always fit into an empty socket buffer.
		conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		conn.Write([]byte(replyManyConns.String() + "\r\n"))
	}
	conn.Close()
}

// ServeConn serves one connection (for a port that several protocols share) and
// closes it. conn may already be a *tls.Conn. Connections are counted by the
// caller; Options.Memory should be set, so that they share one budget.
func ServeConn(ctx context.Context, conn net.Conn, o Options) {
	s := &server{o: o.withDefaults(), sessions: make(map[*session]struct{})}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	done := make(chan struct{})
	s.wg.Go(func() { s.serve(work, conn) })
	var stopped sync.WaitGroup
	stopped.Go(func() {
		select {
		case <-ctx.Done():
			s.shutdown(cancel)
		case <-done:
		}
	})
	s.wg.Wait()
	close(done)
	stopped.Wait()
}

// shutdown tells all sessions and waits for them; those that are not through after
// the grace are cut.
func (s *server) shutdown(cancel func()) {
	s.mu.Lock()
	s.stopping = true
	for ses := range s.sessions {
		ses.stop()
	}
	s.mu.Unlock()
	cut := time.AfterFunc(s.o.Grace, func() {
		cancel()
		s.mu.Lock()
		defer s.mu.Unlock()
		for ses := range s.sessions {
			ses.raw.Close()
		}
	})
	s.wg.Wait()
	cut.Stop()
}

func (s *server) serve(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ses := newSession(s, conn)
	s.mu.Lock()
	s.sessions[ses] = struct{}{}
	if s.stopping {
		ses.stop()
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.sessions, ses)
		s.mu.Unlock()
	}()
	ses.run(ctx)
}

// farewell closes conn such that a client which is still sending can read the last
// reply: a close with unread input would reset the connection (RFC 1122 §4.2.2.13)
// and may throw that reply away.
func farewell(conn, raw net.Conn) {
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(lingerTime))
	if t, ok := conn.(*tls.Conn); ok {
		t.CloseWrite()
	}
	half, ok := raw.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	var sink [512]byte
	for n := 0; n < lingerBytes; {
		k, err := raw.Read(sink[:])
		if err != nil {
			return
		}
		n += k
	}
}
