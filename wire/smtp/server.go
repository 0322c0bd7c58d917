package smtp

import (
	"context"
	"net"

	"postern.email/kit/errs"
)

// Serve accepts connections on l until ctx ends; then it closes l, tells the
// clients, gives transfers under way Options.Grace to end, and returns when all
// sessions are closed. Its error is nil when ctx ended.
func Serve(ctx context.Context, l net.Listener, o Options) error {
	return errs.E("wire/smtp.Serve", errs.Unsupported, "", nil)
}

// ServeConn serves one connection (for a port that several protocols share) and
// closes it. conn may already be a *tls.Conn.
func ServeConn(ctx context.Context, conn net.Conn, o Options) {}
