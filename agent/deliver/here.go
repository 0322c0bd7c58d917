package deliver

import (
	"context"
	"crypto/sha256"
	"io"

	"postern.email/kit/errs"
	"postern.email/post/account"
	"postern.email/post/queue"
	"postern.email/store"
	"postern.email/wire/smtp"
)

// portion is how many recipients here one transaction serves: copies of up to 64 KiB each
// stay far below what a transaction may hold.
const portion = 100

// markPrefix begins the keys that say "this copy was delivered". They live only
// while a mail is being delivered on an engine whose shards share no log.
const markPrefix = 'x'

// local puts a queued mail into mailboxes here: those that were too many for the transaction
// that took the mail. Copy and queue row are one transaction, so none is made twice.
func (o *Out) local(ctx context.Context, it *queue.Item) bool {
	return o.localPortion(ctx, it, portion)
}

func (o *Out) localPortion(ctx context.Context, it *queue.Item, most int) bool {
	const op = "agent/deliver.local"
	raw, err := o.raw(ctx, it)
	if err != nil {
		return o.damaged(ctx, it, err)
	}
	var to []account.Account
	var placed, rs []result
	for i, w := range it.Rcpts[:min(len(it.Rcpts), most)] {
		a, err := o.d.o.Accounts.Resolve(ctx, w.To)
		switch {
		case err != nil && errs.KindOf(err) == errs.NotFound:
			rs = append(rs, o.judge(it, i, &smtp.Reply{Code: 550, Enhanced: "5.1.1", Text: "Recipient address rejected: User unknown"}, ""))
		case err != nil:
			rs = append(rs, o.judge(it, i, smtp.ReplyFor(err), ""))
		case a.Blocked:
			rs = append(rs, o.judge(it, i, &smtp.Reply{Code: 550, Enhanced: "5.2.1", Text: "Recipient address rejected: mailbox disabled"}, ""))
		default:
			to = append(to, a)
			r := o.judge(it, i, &smtp.Reply{Code: 250, Enhanced: "2.1.5", Text: "OK"}, "")
			r.here = true
			placed = append(placed, r)
		}
	}
	if len(to) == 0 {
		return o.settle(ctx, it, rs)
	}
	m := &hereMail{from: it.Mail.From, head: raw}
	if o.d.o.Seen != nil && !o.d.o.Accounts.Ours(it.Mail.From) {
		// From outside: the sender may not have heard our 250 and sent it again.
		sum := sha256.Sum256(raw)
		m.proof = [][]byte{sum[:]}
	}
	var c writes
	defer c.discard()
	proxied, err := o.d.read(ctx, to)
	if err == nil {
		err = o.d.addCopies(ctx, &c, m, to, proxied)
	}
	if err != nil {
		if k := errs.KindOf(err); most > 1 && (k == errs.TooLarge || k == errs.Invalid) {
			return o.localPortion(ctx, it, 1) // one of them cannot get it; which one?
		}
		return o.settle(ctx, it, append(rs, o.each(it, placed, err)...))
	}
	err = o.settleWith(ctx, it, append(rs, placed...), &c)
	switch k := errs.KindOf(err); {
	case err == nil, k == errs.NotFound: // done, or an operator dropped the mail
		return true
	case k == errs.Unsupported:
		return o.apart(ctx, it, append(rs, placed...), &c)
	case (k == errs.Full || k == errs.TooLarge) && most > 1:
		return o.localPortion(ctx, it, 1) // one of them is full; which one?
	case k == errs.Full:
		return o.settle(ctx, it, append(rs, o.judge(it, 0, &smtp.Reply{Code: 452, Enhanced: "4.2.2", Text: "Recipient address rejected: mailbox full"}, "")))
	}
	o.o.Logger.Warn("a queued mail cannot be put into mailboxes now", "err", errs.Wrap(op, err))
	return false
}

// each gives the recipients of rs what an error means for them: later, or for good.
func (o *Out) each(it *queue.Item, rs []result, err error) []result {
	reply := smtp.ReplyFor(err)
	out := make([]result, len(rs))
	for i := range rs {
		one := &queue.Item{Mail: it.Mail, Rcpts: []queue.Waiting{rs[i].rcpt}}
		out[i] = o.judge(one, 0, reply, "")
	}
	return out
}

// raw reads a whole mail.
func (o *Out) raw(ctx context.Context, it *queue.Item) ([]byte, error) {
	b, err := o.q.Body(ctx, it)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	raw := make([]byte, b.Size())
	if _, err := b.ReadAt(raw, 0); err != nil && err != io.EOF {
		return nil, err
	}
	return raw, nil
}

// apart is for engines whose shards share no log; the accounts of c are the last of rs. Each copy is a transaction of its own
// that leaves a mark (mail, recipient), so that none is made twice when the row could not be
// settled and the mail comes again.
func (o *Out) apart(ctx context.Context, it *queue.Item, rs []result, c *writes) bool {
	for i, t := range c.copies {
		key := append(append([]byte{markPrefix}, it.ID[:]...), t.id[:]...)
		err := o.d.o.Store.Update(ctx, t.id.Shard(), func(tx store.Tx) error {
			if _, err := tx.Get(key); err == nil || errs.KindOf(err) != errs.NotFound {
				return err
			}
			if err := t.put(tx); err != nil {
				return err
			}
			return tx.Set(key, []byte{1})
		})
		if err != nil {
			at := &rs[len(rs)-len(c.copies)+i] // those that were placed stand last
			*at = o.all(&queue.Item{Rcpts: []queue.Waiting{at.rcpt}}, queue.Deferred, smtp.ReplyFor(err))[0]
			continue
		}
		t.committed()
	}
	if !o.settle(ctx, it, rs) {
		return false
	}
	for _, t := range c.copies {
		key := append(append([]byte{markPrefix}, it.ID[:]...), t.id[:]...)
		if err := o.d.o.Store.Update(ctx, t.id.Shard(), func(tx store.Tx) error { return tx.Delete(key) }); err != nil {
			o.o.Logger.Debug("deliver: a mark stays", "err", err) // it says nothing and harms nothing
		}
	}
	return true
}
