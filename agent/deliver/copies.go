package deliver

import (
	"bytes"
	"context"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/sanitize"
	"postern.email/post/account"
	"postern.email/post/mailbox"
	"postern.email/post/packetbox"
	"postern.email/post/seal"
	"postern.email/store"
)

// Proxies puts mail for accounts that are read with a mail proxy into their packet boxes, as
// letters sealed to the proxy; agent/mixbox has one.
type Proxies interface {
	// Proxy reports whether an account is read with a mail proxy.
	Proxy(ctx context.Context, id seal.AccountID) (bool, error)
	// Letter seals a mail to the proxy of one account; raw is not kept. Its first bytes, so many as fields, are the
	// fields of an alias of the account (ForAlias.Fields); 0: it came for the account itself. errs.Invalid for a mail
	// that the mix network does not carry, errs.TooLarge for one that is too large for it.
	Letter(ctx context.Context, to account.Account, from mail.Address, raw []byte, fields int) (*packetbox.Prepared, error)
}

// hereMail is a mail for accounts here.
type hereMail struct {
	from       mail.Address
	head, tail []byte
	proof      [][]byte // see Parcel
	fields     []byte   // see ForAlias; nil: the header rules of final delivery apply
	clean      bool     // see ForAlias
	change     Write    // see ForAlias; nil: nothing is changed
}

// read tells which of the accounts are read with a mail proxy.
func (d *Deliver) read(ctx context.Context, rcpts []account.Account) (proxied []bool, err error) {
	proxied = make([]bool, len(rcpts))
	for i := range rcpts {
		if d.o.Proxies == nil {
			break
		}
		if proxied[i], err = d.o.Proxies.Proxy(ctx, rcpts[i].ID); err != nil {
			return nil, errs.Wrap("agent/deliver.read", err)
		}
	}
	return proxied, nil
}

// addCopies prepares the copies for accounts here, one each and in their order; proxied is what
// read says of them.
func (d *Deliver) addCopies(ctx context.Context, w *writes, m *hereMail, rcpts []account.Account, proxied []bool) error {
	var to []mailbox.Target
	boxed := make(map[int]*packetbox.Prepared)
	for i, a := range rcpts {
		if !proxied[i] {
			to = append(to, mailbox.Target{ID: a.ID, Public: a.Public, Quota: a.Quota, Box: mailbox.Inbox})
			continue
		}
		p, err := d.letter(ctx, m, a)
		if err != nil {
			return err
		}
		boxed[i] = p
	}
	var delivery *mailbox.Delivery
	if len(to) > 0 {
		var err error
		if delivery, err = d.prepare(ctx, m, to); err != nil {
			return err
		}
		w.unused = append(w.unused, delivery.Discard)
	}
	n := 0
	for i, a := range rcpts {
		c := localCopy{id: a.ID, shard: a.ID.Shard()}
		if p := boxed[i]; p != nil {
			c.put, c.durable = p.Put, p.Committed
		} else {
			at := n
			c.put = func(tx store.Tx) error {
				_, err := delivery.Put(tx, at)
				return err
			}
			n++
		}
		if m.change != nil {
			c.put, c.durable = with(m.change, c.shard, c.put), both(c.durable, m.change.Committed)
		}
		if d.o.Seen != nil && len(m.proof) > 0 {
			c.put = d.once(a.ID, m.proof, c.put)
		}
		w.copies = append(w.copies, c)
	}
	return nil
}

// letter seals a mail to the proxy of an account, as it came; the header rules are the proxy's affair. Behind the
// fields of an alias they apply here where they shall.
func (d *Deliver) letter(ctx context.Context, m *hereMail, a account.Account) (*packetbox.Prepared, error) {
	const op = "agent/deliver.letter"
	header, rest, err := m.header(m.clean)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	text := join(m.fields, header, rest, m.tail)
	defer text.release()
	p, err := d.o.Proxies.Letter(ctx, a, m.from, text.b, len(m.fields))
	return p, errs.Wrap(op, err)
}

// header gives the header of a mail by the rules of final delivery, where they apply, and what stands behind it in
// the first piece.
func (m *hereMail) header(apply bool) (header, rest []byte, err error) {
	if !apply {
		return nil, m.head, nil
	}
	h, body, err := sanitize.Delivery(m.head, m.from)
	if err != nil {
		return nil, nil, err
	}
	if m.fields != nil { // they have a Return-Path
		h = h[bytes.IndexByte(h, '\n')+1:]
	}
	return h, m.head[body:], nil
}

// prepare seals a mail to mailboxes, under the header rules of final delivery or behind the fields of an
// alias.
func (d *Deliver) prepare(ctx context.Context, m *hereMail, to []mailbox.Target) (*mailbox.Delivery, error) {
	header, rest, err := m.header(m.fields == nil || m.clean)
	if err != nil {
		return nil, err
	}
	text := join(m.fields, header, rest, m.tail)
	defer text.release()
	return d.o.Boxes.Prepare(ctx, mailbox.Message{Raw: text.b, Date: d.o.Now()}, to)
}

func both(a, b func()) func() {
	if a == nil {
		return b
	}
	return func() {
		a()
		b()
	}
}

// distinct gives each account once, in the order of the recipients.
func distinct(rcpts []account.Account) []account.Account {
	out := make([]account.Account, 0, len(rcpts))
	seen := make(map[seal.AccountID]bool, len(rcpts))
	for _, a := range rcpts {
		if !seen[a.ID] {
			seen[a.ID] = true
			out = append(out, a)
		}
	}
	return out
}
