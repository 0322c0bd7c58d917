package relay

import (
	"context"
	"net"
	"net/netip"
	"time"

	"postern.email/kit/errs"
)

// answerTime bounds the trial of one listener.
const answerTime = 5 * time.Second

// Answer connects to every listener, as a client would, and gives Info with Ready
// set when each has taken the connection.
func (s *Server) Answer(ctx context.Context) (Info, error) {
	const op = "role/relay.Answer"
	d := net.Dialer{Timeout: answerTime}
	for _, p := range s.ports {
		if p.l == nil {
			continue
		}
		c, err := d.DialContext(ctx, "tcp", reachable(p.l.Addr()))
		if err != nil {
			return Info{}, errs.E(op, errs.Unavailable, "the "+p.name+" listener does not answer", err)
		}
		c.Close()
	}
	i := s.Info()
	i.Ready = true
	return i, nil
}

// reachable gives an address that can be connected to from this machine: a
// listener on all addresses is reached on loopback.
func reachable(a net.Addr) string {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return a.String()
	}
	ap := t.AddrPort()
	if ap.Addr().IsUnspecified() {
		lo := netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if ap.Addr().Is6() && !ap.Addr().Is4In6() {
			lo = netip.IPv6Loopback()
		}
		ap = netip.AddrPortFrom(lo, ap.Port())
	}
	return ap.String()
}
