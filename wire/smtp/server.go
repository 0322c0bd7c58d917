package smtp

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/kit/serve"
)

// Bounds of the farewell: what is read and dropped so that the last reply reaches a
// client that is still sending.
const (
	lingerTime  = 2 * time.Second
	lingerBytes = 1 << 20
)

// Serve accepts connections on l until ctx ends; then it closes l, tells the
// clients, gives transfers under way Options.Grace to end, and returns when all
// sessions are closed. Its error is nil when ctx ended.
func Serve(ctx context.Context, l net.Listener, o Options) error {
	const op = "wire/smtp.Serve"
	if o.Implicit && o.TLS == nil {
		l.Close()
		return errs.E(op, errs.Invalid, "implicit TLS without a certificate", nil)
	}
	o = o.withDefaults()
	err := serve.Listener(ctx, l, serve.Options{
		Conns: o.Conns, PeerOf: o.PeerOf, Grace: o.Grace + lingerTime,
		Refuse: func(conn net.Conn) { refuse(conn, &o) },
		Handle: func(ctx context.Context, conn net.Conn, peer limits.Peer) { serveSession(ctx, conn, peer, &o) },
	})
	if err != nil {
		return errs.E(op, errs.Unavailable, "the listener failed", err)
	}
	return nil
}

// refuse tells a client that there is no place. Under implicit TLS nothing can be
// said without the work of a handshake, and work is what we have no place for.
func refuse(conn net.Conn, o *Options) {
	if !o.Implicit {
		conn.Write([]byte(replyManyConns.String() + "\r\n"))
	}
}

// ServeConn serves one connection (for a port that several protocols share) and
// closes it. conn may already be a *tls.Conn. It counts in Options.Conns as those of
// Serve do; Options.Memory should be set, so that they share one budget.
func ServeConn(ctx context.Context, conn net.Conn, o Options) {
	o = o.withDefaults()
	peer := o.PeerOf(conn)
	release, ok := o.Conns.Acquire(peer)
	if !ok {
		conn.SetDeadline(time.Now().Add(lingerTime))
		conn.Write([]byte(replyManyConns.String() + "\r\n"))
		conn.Close()
		return
	}
	defer release()
	serveSession(ctx, conn, peer, &o)
}

// serveSession serves one connection. When ctx ends, a session that waits for a command ends
// at once; one at work has the grace, after which it is cut.
func serveSession(ctx context.Context, conn net.Conn, peer limits.Peer, o *Options) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	s := newSession(o, conn, peer)
	forget := context.AfterFunc(ctx, func() {
		s.stop(func() {
			cancel()
			conn.Close()
		})
	})
	defer forget()
	s.run(work)
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
