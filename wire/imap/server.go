package imap

import (
	"context"
	"net"

	"postern.email/kit/errs"
)

// Server serves any number of listeners with one set of options.
type Server struct {
	o Options
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

// Serve accepts connections until ctx ends or l fails; it closes l and returns
// when all sessions are closed. The end of ctx is not an error.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return errs.E("wire/imap.Serve", errs.Unsupported, "", nil)
}

// ServeConn serves one connection and closes it: for a port that is shared with
// other protocols. A *tls.Conn counts as protected.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn) error {
	return errs.E("wire/imap.ServeConn", errs.Unsupported, "", nil)
}
