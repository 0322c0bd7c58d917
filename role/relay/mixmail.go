package relay

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"

	"postern.email/agent/deliver"
	"postern.email/agent/mixbox"
	"postern.email/agent/mixdoor"
	"postern.email/agent/receive"
	"postern.email/agent/reply"
	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
	"postern.email/post/mailbox"
	"postern.email/post/nym"
	"postern.email/post/packetbox"
	"postern.email/post/seal"
)

// proxies puts mail for accounts that are read with a mail proxy into their packet boxes; nil where
// there is no mix network, and then all mail goes into mailboxes.
func (s *Server) proxies() deliver.Proxies {
	if s.mix == nil {
		return nil
	}
	return s.letters()
}

// openReplies opens the stocks of reply addresses.
func (s *Server) openReplies(ctx context.Context) (err error) {
	s.nyms, err = nym.Open(ctx, nym.Options{Store: s.db, Root: s.root, MaxNames: s.c.Mixnet.Replies, Deleted: s.boxes.NoteDeleted, Now: s.d.Now, Logger: s.d.Logger})
	return err
}

// desk is the reply addresses of this relay in its mix network.
func (s *Server) desk() *reply.Desk {
	m := s.mix
	return reply.New(reply.Options{Stock: s.nyms, Letters: s.letters(), Relay: func() packet.ID { return m.node.ID() }, Logger: s.d.Logger,
		Send: func(ctx context.Context, block *packet.SURB, c packet.Content) error {
			return m.node.Reply(ctx, block, c)
		}})
}

// replies takes mail for reply addresses; nil where there are none.
func (s *Server) replies() deliver.Replies {
	if s.mix == nil || s.c.Mixnet.Replies == 0 {
		return nil
	}
	return s.desk()
}

// letters makes letters of this relay.
func (s *Server) letters() mixbox.Letters {
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

// Room is that of the agents: errs.Full when there is no room for size more bytes, errs.TooLarge where
// there never is.
func (r rooms) Room(ctx context.Context, id seal.AccountID, quota, size int64) error {
	if r.proxies != nil {
		yes, err := r.proxies.Proxy(ctx, id)
		if err != nil {
			return errs.Wrap("role/relay.Room", err)
		}
		if yes && size > mixbox.MaxMail {
			return errs.E("role/relay.Room", errs.TooLarge, "the mail is too large for the recipient's mail proxy", nil)
		}
		if yes {
			return r.packets.Room(ctx, id, mixbox.Packets(size))
		}
	}
	return r.boxes.Room(ctx, id, quota, size)
}

// openDoor opens the door from the mix network to ordinary mailboxes. Its rules are those for mail of
// other hosts.
func (s *Server) openDoor(rules *receive.Receive) (*mixdoor.Door, error) {
	const op = "role/relay.openDoor"
	m := s.mix
	secret, err := hkdf.Key(sha256.New, m.keys.LogSecret(), nil, "postern/relay door", 32)
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	var out mixdoor.Exit
	if m.exit != nil {
		out = m.exit
	}
	d, err := mixdoor.Open(mixdoor.Options{FS: s.d.FS, Dir: s.mixPath(mixDoorDir), Secret: secret, Rand: s.d.Rand, Now: s.d.Now, Logger: s.d.Logger, Stats: m.stats,
		Key: m.letter, Consensus: m.cache.Current, Relay: func() packet.ID { return m.node.ID() }, Ours: func(a mail.Address) bool { return s.ours(a.Domain) }, Current: m.current,
		Rules: rules, Deliver: s.deliver, Letters: s.seen, Exit: out, NoAnonymous: s.c.Mixnet.Mailboxes == "vouched", Shut: s.c.Mixnet.Mailboxes == "off", MaxSize: min(int64(s.c.Mail.MaxMessageSize)+mailRoom, letter.MaxWhole)})
	return d, errs.Wrap(op, err)
}

// mailRoom is what may stand around a mail in a letter, in bytes.
const mailRoom = 64 << 10

// current tells whether an account here still has the keys of a certificate, and may send.
func (m *mixPart) current(ctx context.Context, c *vouch.Certificate) error {
	const op = "role/relay.current"
	denied := errs.E(op, errs.Denied, "the sender may not send any more, or has other keys now", nil)
	a, err := m.s.accounts.Resolve(ctx, c.Address)
	var ident packetbox.Identity
	if err == nil && !a.Blocked {
		ident, err = m.s.packets.Identity(ctx, a.ID)
	}
	switch {
	case err != nil && errs.KindOf(err) == errs.NotFound, err == nil && a.Blocked:
		return denied
	case err != nil:
		return errs.Wrap(op, err)
	}
	to, key, err := identityKeys(&ident)
	if err != nil {
		return errs.E(op, errs.Corrupt, "", err)
	}
	if now := m.identity(a.ID, to, key); !now.SameKeys(&c.Identity) {
		return denied
	}
	return nil
}
