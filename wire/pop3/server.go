package pop3

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"strconv"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/kit/serve"
	"postern.email/wire/lineio"
)

// Limits with their defaults.
const (
	// MaxLine bounds a command line in octets without CRLF. RFC 2449 §4 allows
	// 255; a SASL response may be longer (RFC 5034 §4).
	MaxLine = 12288
	// MaxMistakes is how many wrong commands and failed logins a session may make.
	MaxMistakes         = 10
	DefaultLoginTimeout = 60 * time.Second
	DefaultIdleTimeout  = 10 * time.Minute // the least of RFC 1939 §3
	DefaultWriteTimeout = 2 * time.Minute
	lineTime            = time.Minute // from the first byte of a line to its end
)

// Options of a server. The zero value of a limit means its default.
type Options struct {
	Backend Backend
	// TLS is the configuration for implicit TLS and STLS; nil: neither.
	TLS *tls.Config
	// Implicit says that a connection begins with a TLS handshake (port 995).
	Implicit bool
	// Private says that the way to this listener is private without TLS
	// (loopback proxy, onion service), so that passwords may cross it.
	Private bool
	// Conns bounds the connections; nil: no bound. Several servers may share it.
	Conns *limits.Conns
	// PeerOf gives who is on the other end; nil: taken from RemoteAddr.
	PeerOf func(net.Conn) limits.Peer
	Logger *slog.Logger // nil: no log
	// ExpireDays is told to clients by CAPA (RFC 2449 §6.7): how long mail is
	// kept; 0: NEVER deleted by the server.
	ExpireDays int

	LoginTimeout  time.Duration // from one command to the next before login
	IdleTimeout   time.Duration // the same after login
	WriteTimeout  time.Duration // for the client to take a buffer of output
	ShutdownGrace time.Duration // for running commands when the server stops
}

func (o *Options) setDefaults() {
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{{&o.LoginTimeout, DefaultLoginTimeout}, {&o.IdleTimeout, DefaultIdleTimeout}, {&o.WriteTimeout, DefaultWriteTimeout}} {
		if *d.v <= 0 {
			*d.v = d.d
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.PeerOf == nil {
		o.PeerOf = serve.PeerOf
	}
}

func (o *Options) expire() string {
	if o.ExpireDays <= 0 {
		return "NEVER"
	}
	return strconv.Itoa(o.ExpireDays)
}

// Server serves any number of listeners with one set of options.
type Server struct{ o Options }

// New makes a server. errs.Invalid: no backend, or Implicit without TLS.
func New(o Options) (*Server, error) {
	if o.Backend == nil || (o.Implicit && o.TLS == nil) {
		return nil, errs.E("wire/pop3.New", errs.Invalid, "a backend is needed, and a TLS configuration for implicit TLS", nil)
	}
	o.setDefaults()
	return &Server{o: o}, nil
}

// Serve accepts connections until ctx ends or l fails; it closes l and returns
// when all sessions are closed. The end of ctx is not an error.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return serve.Listener(ctx, l, serve.Options{
		Conns:  s.o.Conns,
		PeerOf: s.o.PeerOf,
		Grace:  s.o.ShutdownGrace,
		Refuse: func(nc net.Conn) {
			if !s.o.Implicit { // under implicit TLS there is nobody to understand it
				nc.Write([]byte("-ERR [SYS/TEMP] too many connections\r\n"))
			}
		},
		Handle: s.handle,
	})
}

func (s *Server) handle(ctx context.Context, nc net.Conn, peer limits.Peer) {
	c := &conn{o: &s.o, raw: nc, peer: peer}
	if t, ok := nc.(*tls.Conn); ok {
		c.raw, c.tls = t, true
	}
	c.r = lineio.NewReader(c.raw, lineio.Times{Idle: s.o.LoginTimeout, Line: lineTime})
	c.w = lineio.NewWriter(c.raw, s.o.WriteTimeout)
	defer func() {
		c.w.Flush()
		c.r.Close()
		c.raw.Close() // under TLS: with close_notify
	}()
	if s.o.Implicit && !c.tls {
		if err := c.startTLS(ctx); err != nil {
			s.o.Logger.Debug("pop3: handshake failed", "error", err)
			return
		}
	}
	stop := context.AfterFunc(ctx, c.r.Interrupt)
	defer stop()
	if err := c.serve(ctx); err != nil {
		s.o.Logger.Debug("pop3: session ended", "error", err)
	}
}
