package proxy

import (
	"context"
	"net"
)

// dialer gives how an account reaches its relay: directly, or through UpstreamProxy. account is the
// name under which Tor gives it circuits of its own.
func (s *Server) dialer(account string) func(ctx context.Context, addr string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) { return s.d.Dial(ctx, "tcp", addr) }
}
