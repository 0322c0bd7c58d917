// Package reply answers, at a relay, people whom it does not know: mail for a reply address goes
// back to its maker with reply blocks that the maker gave the relay in advance, through the mix
// network (docs/mix-relay.md §8).
package reply

import (
	"context"
	"log/slog"
	"time"

	"postern.email/agent/mixbox"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/anon"
	"postern.email/mixnet/content"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
	"postern.email/post/nym"
)

// Options of a Desk. All but RetryEvery and Logger are needed.
type Options struct {
	Stock   *nym.Stock
	Letters mixbox.Letters   // how letters of this relay are made; Boxes is not looked at
	Relay   func() packet.ID // this relay
	// Send puts a packet into the mix network, as node.Node.Reply does.
	Send       func(context.Context, *packet.SURB, packet.Content) error
	RetryEvery time.Duration // pause after a packet could not be sent; 0: a minute
	Logger     *slog.Logger  // nil: nothing is logged
}

// Desk is this relay's reply addresses. It may be used by many goroutines.
type Desk struct{ o Options }

// New makes a Desk.
func New(o Options) *Desk {
	if o.RetryEvery == 0 {
		o.RetryEvery = time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Desk{o}
}

// how letters are cut: no fragment of them is acknowledged, so they have an erasure code.
var how = letter.Options{Room: letter.RoomReply, Coded: true}

// Serve is that of node.Services, for content.ServiceReply.
func (d *Desk) Serve(ctx context.Context, service uint8, request []byte) (status uint8, answer []byte) {
	if service != content.ServiceReply {
		return content.AnswerRefused, nil
	}
	f, err := content.ParseFeed(d.o.Relay(), request)
	if err == nil {
		_, err = letter.ParsePublicKey(f.Key[:])
	}
	if err != nil {
		return content.AnswerRefused, nil
	}
	in := nym.Fed{Serial: f.Serial, Hint: f.Hint, Key: f.Key}
	for _, b := range f.Blocks {
		raw, err := b.AppendBinary(nil)
		if err != nil {
			return content.AnswerRefused, nil
		}
		in.Blocks = append(in.Blocks, nym.Block{Raw: raw, Expires: b.Expires()})
	}
	held, err := d.o.Stock.Feed(ctx, content.ReplyName(f.Owner), in)
	if err != nil {
		if ctx.Err() == nil && errs.KindOf(err) != errs.Busy {
			d.o.Logger.Warn("a reply address cannot be fed now", "kind", errs.KindOf(err))
		}
		return content.AnswerLater, nil
	}
	var until uint64
	if held.Blocks > 0 {
		until = uint64(held.Until.Unix())
	}
	return content.AnswerOK, content.AppendStock(nil, uint16(held.Blocks), until)
}

// Room tells whether mail can be sent to a reply address now, with the errors of Letter. How many
// blocks a mail needs is known when it is sealed: a letter is compressed where that makes it shorter.
func (d *Desk) Room(ctx context.Context, to mail.Address) error {
	const op = "agent/reply.Room"
	name, ok := anon.ReplyName(to)
	if !ok {
		return errs.E(op, errs.NotFound, "", nil)
	}
	sets, err := d.o.Stock.Sets(ctx, name)
	if err != nil {
		return errs.Wrap(op, err)
	}
	if len(sets) == 0 {
		return full(op)
	}
	return nil
}

func full(op string) error { return errs.E(op, errs.Full, "the mailbox is full", nil) }

// Letter is that of deliver.Replies.
func (d *Desk) Letter(ctx context.Context, to, from mail.Address, raw []byte) (*nym.Prepared, error) {
	const op = "agent/reply.Letter"
	name, ok := anon.ReplyName(to)
	if !ok {
		return nil, errs.E(op, errs.NotFound, "", nil)
	}
	sets, err := d.o.Stock.Sets(ctx, name)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	need := 1
	for _, set := range sets {
		if set.Blocks < need {
			continue
		}
		key, err := letter.ParsePublicKey(set.Key[:])
		if err != nil {
			return nil, errs.E(op, errs.Corrupt, "", err)
		}
		s, err := d.o.Letters.Seal(key, to, from, raw, how)
		if err != nil {
			return nil, errs.Wrap(op, err)
		}
		if need = len(s.Bodies); need > nym.MaxBlocks {
			return nil, errs.E(op, errs.TooLarge, "the mail is too large for a reply address", nil)
		}
		if set.Blocks < need {
			continue
		}
		bodies := make([][]byte, need)
		for i, b := range s.Bodies {
			bodies[i] = (&letter.ReplyBlock{Hint: set.Hint}).AppendAnswer(nil, b)
		}
		p, err := d.o.Stock.Prepare(name, set, bodies)
		return p, errs.Wrap(op, err)
	}
	return nil, full(op)
}

// sendBatch is how many packets are read at once.
const sendBatch = 16

// Run sends what was taken, until ctx ends. It returns nil.
func (d *Desk) Run(ctx context.Context) error {
	t := time.NewTicker(d.o.RetryEvery)
	defer t.Stop()
	for {
		if err := d.send(ctx); err != nil && ctx.Err() == nil {
			d.o.Logger.Warn("mail for reply addresses cannot be sent now; it is tried again", "kind", errs.KindOf(err))
			d.o.Logger.Debug("mail for reply addresses cannot be sent now", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.o.Stock.Wake():
		case <-t.C:
		}
	}
}

// send tries each packet once. One that cannot be sent now does not hold up others.
func (d *Desk) send(ctx context.Context) (failed error) {
	var last *nym.Out
	for {
		list, err := d.o.Stock.Next(ctx, last, sendBatch)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return failed
		}
		for _, o := range list {
			last = o
			if err := d.sendOne(ctx, o); err != nil {
				failed = err
			}
			if ctx.Err() != nil {
				return failed
			}
		}
	}
}

// sendOne gives one packet to the node. It is forgotten here when it is on the disk there: in
// between, it would be sent twice with one block, and a hop drops the second.
func (d *Desk) sendOne(ctx context.Context, o *nym.Out) error {
	block, err := packet.ParseSURB(o.Block)
	if err == nil {
		err = d.o.Send(ctx, block, packet.Content{Kind: content.Letter, Body: o.Body})
	}
	switch k := errs.KindOf(err); {
	case err == nil:
		return d.o.Stock.Sent(ctx, o, false)
	case k == errs.Denied || k == errs.Invalid || k == errs.TooLarge:
		d.o.Logger.Warn("a packet for a reply address was given up: its block can no longer be used", "kind", k)
		return d.o.Stock.Sent(ctx, o, true)
	}
	return err
}
