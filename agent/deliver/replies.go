package deliver

import (
	"context"
	"crypto/sha256"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/nym"
	"postern.email/post/seen"
	"postern.email/store"
)

// Replies makes of mail for reply addresses what is to be sent with their reply blocks; agent/reply
// has one.
type Replies interface {
	// Room tells whether there is anything to send mail for a reply address with; its errors are those of
	// Letter.
	Room(ctx context.Context, to mail.Address) error
	// Letter seals a mail for one reply address; raw is not kept. errs.NotFound for one that is not
	// alive, errs.Full when it has not enough blocks, errs.TooLarge for a mail that no stock is enough
	// for, errs.Invalid for one that the mix network does not carry.
	Letter(ctx context.Context, to, from mail.Address, raw []byte) (*nym.Prepared, error)
}

// MaxReplies is how many reply addresses one mail may be for.
const MaxReplies = 4

// replies prepares what is for reply addresses. The blocks are taken in the transaction that takes
// the mail, so that none is used for a mail that was not acknowledged, nor for two.
func (d *Deliver) replies(ctx context.Context, p *Parcel) (list []localCopy, err error) {
	const op = "agent/deliver.replies"
	if len(p.Replies) == 0 {
		return nil, nil
	}
	if d.o.Replies == nil {
		return nil, errs.E(op, errs.Unsupported, "there are no reply addresses here", nil)
	}
	text := join(p.Head, p.Tail)
	defer text.release()
	known := make(map[mail.Address]bool, len(p.Replies))
	for _, to := range p.Replies {
		if to = to.Canonical(); known[to] {
			continue
		}
		known[to] = true
		r, err := d.o.Replies.Letter(ctx, to, p.From, text.b)
		if err != nil {
			return nil, errs.Wrap(op, err)
		}
		c := localCopy{shard: r.Shard(), put: r.Put, durable: r.Committed}
		if d.o.Letters != nil && len(p.Proof) > 0 {
			c.put = d.onceReply(to, p.Proof, r)
		}
		list = append(list, c)
	}
	return list, nil
}

// onceReply passes over a reply address that has got the mail before.
func (d *Deliver) onceReply(to mail.Address, proof [][]byte, r *nym.Prepared) func(store.Tx) error {
	h := sha256.New()
	for _, b := range proof {
		h.Write(b)
	}
	var l seen.Letter = d.o.Letters.Letter([16]byte(h.Sum(nil)), []byte(to.String())...)
	now := d.o.Now()
	return func(tx store.Tx) error {
		in := tx
		if l.Shard != r.Shard() {
			var err error
			if in, err = tx.Other(l.Shard); err != nil {
				return err
			}
		}
		first, err := d.o.Letters.OnceLetter(in, l, now)
		if err != nil || !first {
			return err
		}
		return r.Put(tx)
	}
}
