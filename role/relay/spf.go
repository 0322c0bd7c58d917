package relay

import (
	"context"
	"net/netip"

	"postern.email/mail/spf"
)

// spf gives the look-ups by which a domain vouches for mail to aliases (mail/spf), where
// network.resolver says.
func (s *Server) spf() spf.Lookups {
	return spf.Lookups{TXT: s.names.TXT, PTR: s.names.PTR,
		MX: func(ctx context.Context, domain string) ([]string, error) {
			list, _, err := s.names.MX(ctx, domain)
			hosts := make([]string, len(list))
			for i, m := range list {
				hosts[i] = m.Host
			}
			return hosts, err
		},
		Addresses: func(ctx context.Context, host string) ([]netip.Addr, error) {
			h, err := s.names.Addresses(ctx, host)
			return h.Addrs, err
		}}
}
