package mix

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"

	"postern.email/agent/mixbox"
	"postern.email/kit/errs"
	"postern.email/mixnet/feed"
	"postern.email/mixnet/node"
	"postern.email/mixnet/packet"
	"postern.email/post/packetbox"
	"postern.email/post/seal"
	"postern.email/store/pebble"
)

// boxes keep packets for the clients of a bare node, in a store of their own, and feed them to
// their connections. An account is a client.
type boxes struct {
	s    *Server
	db   *pebble.DB
	root *seal.Root
	box  *packetbox.Boxes
	feed *feed.Feed
}

// openBoxes opens them, with a mailbox for each client.
func openBoxes(ctx context.Context, s *Server) (b *boxes, err error) {
	const op = "role/mix.openBoxes"
	// A bare node has no accounts whose keys would have to outlive its own: what lies in the
	// boxes is sealed under a key that follows from the secret of its log.
	key, err := hkdf.Key(sha256.New, s.keys.LogSecret(), nil, "postern/mix boxes", seal.KeyLen)
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	b = &boxes{s: s}
	if b.root, err = seal.NewRoot(key, s.d.Rand); err != nil {
		return nil, errs.Wrap(op, err)
	}
	d := &s.d
	if b.db, err = pebble.Open(ctx, pebble.Options{FS: d.FS, Dir: s.c.boxDir(), Logger: d.Logger, Now: d.Now}); err != nil {
		return nil, errs.Wrap(op, err)
	}
	b.box, err = packetbox.Open(ctx, packetbox.Options{Store: b.db, Root: b.root, MaxPackets: s.c.Mailbox.Packets, Retention: s.c.Mailbox.Retention.Std(),
		May: b.may, Now: d.Now, Logger: d.Logger})
	if err == nil {
		err = b.register(ctx)
	}
	if err != nil {
		return nil, errs.Wrap(op, errors.Join(err, b.db.Close()))
	}
	b.feed = feed.New(feed.Options{Boxes: mixbox.Waiting{Boxes: b.box}, Logger: d.Logger})
	return b, nil
}

// may: packets are taken for those who are clients now.
func (b *boxes) may(_ context.Context, id seal.AccountID) error {
	if !b.s.ends.clients.has(id) {
		return errs.E("role/mix.boxes", errs.Denied, "this mailbox takes no packets any more", nil)
	}
	return nil
}

// register opens a mailbox for each client. The box of one that is gone stays until what is
// in it is too old: it may be back in the file tomorrow.
func (b *boxes) register(ctx context.Context) error {
	for k, id := range b.s.ends.clients.all() {
		if _, err := b.box.Register(ctx, id, k); err != nil {
			return err
		}
	}
	return nil
}

// name is what a box on the disk is called, of a mailbox on the network: that one follows from
// what both sides know (content.ClientMailbox), this one from a secret.
func (b *boxes) name(mailbox packet.ID) (packet.ID, bool) {
	id, ok := b.s.ends.clients.mailbox(mailbox)
	if !ok {
		return packet.ID{}, false
	}
	return b.root.MailboxID(id), true
}

// arrivals are the boxes for the node.
func (b *boxes) arrivals() node.Boxes { return mixbox.Arrivals{Boxes: b.box, Name: b.name} }

// close gives the store back; no connection feeds any more.
func (b *boxes) close() error {
	b.feed.Wait()
	return b.db.Close()
}
