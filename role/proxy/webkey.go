package proxy

import (
	"context"
	"net"

	"postern.email/kit/dial"
	"postern.email/kit/errs"
	"postern.email/kit/socks"
	"postern.email/mail"
	"postern.email/wire/wkd"
)

// webKeys gives how an account asks the domains of recipients for OpenPGP keys; nil where
// WebKeyDirectory does not allow it. Behind Tor each look-up has circuits of its own, so that nobody sees
// whose keys one person asks for.
func (s *Server) webKeys() func(ctx context.Context, to mail.Address) ([]byte, error) {
	if !s.c.Proxy.WebKeyDirectory {
		return nil
	}
	return func(ctx context.Context, to mail.Address) ([]byte, error) {
		const op = "role/proxy.webKey"
		d, err := dial.New(dial.Options{CAFiles: s.c.Proxy.TrustedCAs, FS: s.d.FS})
		if err != nil {
			return nil, errs.Wrap(op, err)
		}
		through, err := s.through("web key of " + to.String())
		if err != nil {
			return nil, errs.Wrap(op, err)
		}
		c := wkd.Client{Now: s.d.Now, Transport: wkd.NewTransport(func(ctx context.Context, network, addr string) (net.Conn, error) {
			if s.rank(addr) < 0 {
				return nil, errs.E(op, errs.Denied, "UpstreamProxy.PreferedTransports allows no connection to hosts of the Internet", nil)
			}
			return through(ctx, network, addr)
		}, d.Config())}
		if s.c.UpstreamProxy.Type != "none" {
			c.Absent = socks.NoHost
		}
		key, err := c.Find(ctx, to)
		return key, errs.Wrap(op, err)
	}
}
