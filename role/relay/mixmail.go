package relay

import (
	"context"

	"postern.email/agent/deliver"
	"postern.email/agent/mixbox"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/mailbox"
	"postern.email/post/packetbox"
	"postern.email/post/seal"
)

// proxies puts mail for accounts that are read with a mail proxy into their packet boxes; nil where
// there is no mix network, and then all mail goes into mailboxes.
func (s *Server) proxies() deliver.Proxies {
	if s.mix == nil {
		return nil
	}
	return mixbox.Letters{Boxes: s.packets, Signer: s.mix.name, Domain: mail.CanonicalDomain(s.c.Domain), Now: s.d.Now}
}

// opensProxies is mixnet.accept_cleartext; nil: no account takes cleartext because of its proxy.
func (s *Server) opensProxies() func(context.Context, seal.AccountID) (bool, error) {
	if p := s.proxies(); p != nil && s.c.Mixnet.Cleartext {
		return p.Proxy
	}
	return nil
}

// rooms tells whether there is room for a mail where it will go.
func (s *Server) rooms() rooms { return rooms{s.boxes, s.packets, s.proxies()} }

type rooms struct {
	boxes   *mailbox.Boxes
	packets *packetbox.Boxes
	proxies deliver.Proxies // nil: there are none
}

// Room is that of the agents: errs.Full when there is no room for size more bytes.
func (r rooms) Room(ctx context.Context, id seal.AccountID, quota, size int64) error {
	if r.proxies != nil {
		yes, err := r.proxies.Proxy(ctx, id)
		if err != nil {
			return errs.Wrap("role/relay.Room", err)
		}
		if yes {
			return r.packets.Room(ctx, id, mixbox.Packets(size))
		}
	}
	return r.boxes.Room(ctx, id, quota, size)
}
