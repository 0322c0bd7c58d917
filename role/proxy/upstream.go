package proxy

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"

	"postern.email/kit/errs"
	"postern.email/kit/socks"
)

// dialer gives how an account reaches its relay: directly, or through UpstreamProxy. Behind Tor each
// account has circuits of its own, so that a relay, or who watches several, cannot tell that two
// accounts are one person's.
func (s *Server) dialer(account string) (func(ctx context.Context, addr string) (net.Conn, error), error) {
	through, err := s.through(account)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, addr string) (net.Conn, error) {
		if s.rank(addr) < 0 {
			return nil, errs.E("role/proxy.dial", errs.Denied, "UpstreamProxy.PreferedTransports excludes this address of the relay", nil)
		}
		return through(ctx, "tcp", addr)
	}, nil
}

// through connects directly, or through UpstreamProxy and never beside it; behind Tor with circuits for
// what is isolated alone.
func (s *Server) through(isolate string) (func(ctx context.Context, network, addr string) (net.Conn, error), error) {
	u := &s.c.UpstreamProxy
	if u.Type == "none" {
		return s.d.Dial, nil
	}
	o := socks.Options{Network: u.Network, Address: u.Address, User: u.User, Password: u.Password, Dial: s.d.Dial, Random: s.d.Rand}
	if u.Type == "tor+socks5" {
		o.Isolate = isolate
	}
	d, err := socks.New(o)
	if err != nil {
		return nil, err
	}
	return d.DialContext, nil
}

// rank is the place of an address among UpstreamProxy.PreferedTransports, the best 0; -1: it is of
// none of them.
func (s *Server) rank(addr string) int {
	order := s.c.UpstreamProxy.PreferedTransports
	if len(order) == 0 {
		return 0
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	fits := []string{"tcp", "tcp4", "tcp6"} // a name may lead to either
	if strings.HasSuffix(strings.ToLower(host), ".onion") {
		fits = []string{"onion"}
	} else if a, err := netip.ParseAddr(host); err == nil {
		fits = []string{"tcp", "tcp6"}
		if a.Unmap().Is4() {
			fits[1] = "tcp4"
		}
	}
	return slices.IndexFunc(order, func(t string) bool { return slices.Contains(fits, t) })
}

// ordered sorts addresses by PreferedTransports; those of one rank stay in the relay's order.
func (s *Server) ordered(addrs []string) []string {
	out := slices.Clone(addrs)
	slices.SortStableFunc(out, func(a, b string) int { return s.rank(a) - s.rank(b) })
	return out
}
