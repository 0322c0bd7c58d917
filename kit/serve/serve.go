// Package serve is the accept loop that all stream servers share: bounded
// connections, back-off when the process is out of descriptors, and an orderly
// end in which every session is told, waited for, and at last cut.
package serve

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"postern.email/kit/limits"
)

// DefaultGrace is how long sessions may go on after the context has ended.
const DefaultGrace = 5 * time.Second

// Back-off after a failed Accept: from the first to the last value, doubling.
const (
	firstBackoff = 5 * time.Millisecond
	lastBackoff  = time.Second
)

// Options of one listener.
type Options struct {
	Conns  *limits.Conns                                // bounds the connections; nil: no bound
	PeerOf func(net.Conn) limits.Peer                   // nil: from RemoteAddr
	Grace  time.Duration                                // 0: DefaultGrace
	Refuse func(net.Conn)                               // says why, before a connection over the bound is closed; may be nil. It must not block long: it has a write deadline
	Handle func(context.Context, net.Conn, limits.Peer) // serves one connection; it is closed afterwards
}

// refuseTime bounds what Refuse may take.
const refuseTime = 2 * time.Second

// Listener accepts until ctx ends or l fails, and returns when every session is
// over. The context that Handle gets ends with ctx: sessions then have Grace to
// finish, after which their connections are closed. The end of ctx is no error.
func Listener(ctx context.Context, l net.Listener, o Options) error {
	if o.Grace <= 0 {
		o.Grace = DefaultGrace
	}
	if o.PeerOf == nil {
		o.PeerOf = PeerOf
	}
	s := &server{o: o, open: make(map[net.Conn]struct{})}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	err := s.accept(ctx, l)
	l.Close()
	s.drain(o.Grace)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

type server struct {
	o    Options
	wg   sync.WaitGroup
	mu   sync.Mutex
	open map[net.Conn]struct{}
}

func (s *server) accept(ctx context.Context, l net.Listener) error {
	backoff := firstBackoff
	for {
		nc, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return err
			}
			// Out of descriptors or a connection gone before it was taken: others
			// end, so it is worth another try.
			select {
			case <-ctx.Done():
				return err
			case <-time.After(backoff):
			}
			backoff = min(2*backoff, lastBackoff)
			continue
		}
		backoff = firstBackoff
		peer := s.o.PeerOf(nc)
		release, ok := s.o.Conns.Acquire(peer)
		if !ok {
			s.refuse(nc)
			continue
		}
		s.mu.Lock()
		s.open[nc] = struct{}{}
		s.mu.Unlock()
		s.wg.Go(func() {
			defer release()
			defer s.forget(nc)
			s.o.Handle(ctx, nc, peer)
		})
	}
}

// refuse answers in the accept loop itself: one short write under a deadline, so
// that a flood costs no goroutines.
func (s *server) refuse(nc net.Conn) {
	if s.o.Refuse != nil && nc.SetDeadline(time.Now().Add(refuseTime)) == nil {
		s.o.Refuse(nc)
	}
	nc.Close()
}

func (s *server) forget(nc net.Conn) {
	nc.Close()
	s.mu.Lock()
	delete(s.open, nc)
	s.mu.Unlock()
}

func (s *server) drain(grace time.Duration) {
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return
	case <-time.After(grace):
	}
	s.mu.Lock()
	for nc := range s.open {
		nc.Close()
	}
	s.mu.Unlock()
	<-done
}

// PeerOf takes the peer from the socket itself.
func PeerOf(nc net.Conn) limits.Peer {
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		return limits.Peer{Addr: a.AddrPort().Addr().Unmap()}
	}
	return limits.Peer{}
}
