package deliver

import (
	"context"
	"errors"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/dsn"
	"postern.email/post/account"
	"postern.email/post/queue"
	"postern.email/post/seen"
	"postern.email/store"
	"postern.email/wire/smtp"
)

// Parcel is one mail with all who shall get it.
type Parcel struct {
	From mail.Address // the envelope's; zero: the null sender

	// Tell is who hears, of this relay's queue alone, which recipients in Remote got nothing, where From
	// is not to; zero: From hears. What Remote asks of other hosts (RFC 3461 §4.1) changes nothing in that. TellID is
	// the Message-ID by which Tell knows the mail, if that has another.
	Tell   mail.Address
	TellID string

	Local  []account.Account
	Remote []queue.Rcpt // at other hosts
	// Replies are reply addresses here (Options.Replies).
	Replies []mail.Address
	// Aliases are copies for aliases here, each into the mailbox of its owner.
	Aliases []ForAlias
	Home    store.Shard // where what waits for other hosts lies: the sender's

	// Options of the envelope: UTF8, RequireTLS, Return and EnvID go along to other hosts
	// and into reports.
	Options smtp.MailOptions

	// Verified asks that what goes to other hosts goes only to such as have proved who they are, also
	// where the operator asks for less (agent/road).
	Verified bool

	Head, Tail []byte // the mail in two pieces, of which the first holds the whole header

	// Unsigned leaves out the signatures of this relay from what waits in the queue: it is for
	// recipients here, or from senders of others.
	Unsigned bool

	// Refused are recipients that get nothing: From is told so, in a report of the same
	// transaction.
	Refused []dsn.Recipient

	// Confirm are recipients in Local whose delivery is to be told to From (RFC 3461
	// NOTIFY=SUCCESS).
	Confirm []queue.Rcpt

	// Proof is what makes the mail this mail. An account of Local that got a mail with
	// the same proof in the last days (post/seen) is passed over, in the very
	// transaction that delivers to the others; when all are passed over the answer is
	// nil as well. Empty: nothing is remembered.
	Proof [][]byte

	// Also are changes that belong to the mail, and are written in its transaction.
	Also []Write

	// Letter is what the whole parcel is made of: it is taken once, and whenever it comes again
	// the answer is nil and nothing is written. nil: nothing is remembered. Home must be its shard.
	Letter *seen.Letter
}

// Write is a change that somebody else prepared: of an alias that got a mail, for example.
type Write interface {
	Shard() store.Shard
	Put(tx store.Tx) error // in Shard; it must be quick, and may be run again
	Committed()            // the transaction is durable
}

// also gives the writes that belong to a parcel.
func (p *Parcel) also() (list []localCopy) {
	for _, a := range p.Also {
		list = append(list, localCopy{shard: a.Shard(), put: a.Put, durable: a.Committed})
	}
	return list
}

// Hand takes responsibility for a mail: nil is the acknowledgement. Copies for mailboxes here are
// in them then, sealed, and the rest is in the queue; all of it is one transaction, so
// it is durable together or not at all. Nothing of the parcel is kept.
//
// Copies that are too many for one transaction wait in the queue as well, and Out puts them
// into the mailboxes.
//
// Errors: errs.Full when a mailbox has no room, or a reply address not enough reply blocks (which one is not said),
// what a Write of the parcel answers (errs.Denied of an alias that has changed meanwhile), errs.Unavailable for an account that went away meanwhile and for a store that
// takes no more writes, errs.Busy when too many copies are being sealed at one time, or the
// queue is full, errs.NoSpace, errs.TooLarge, errs.Invalid (no recipient, or
// a header that cannot be read), errs.Unsupported (there is no queue), errs.Canceled.
func (m *Mail) Hand(ctx context.Context, p Parcel) error {
	const op = "agent/deliver.Hand"
	defer m.done()
	d := m.d
	if len(p.Local)+len(p.Remote)+len(p.Replies)+len(p.Aliases)+len(p.Also)+len(p.Refused) == 0 || p.Letter != nil && (d.o.Letters == nil || p.Letter.Shard != p.Home) {
		return errs.E(op, errs.Invalid, "no recipients", nil)
	}
	to := distinct(p.Local)
	proxied, err := d.read(ctx, to)
	if err != nil {
		return errs.Wrap(op, err)
	}
	size := copies(len(p.Head)+len(p.Tail), proxied)
	if len(p.Remote) > 0 {
		size += int64(len(p.Head) + len(p.Tail))
	}
	size += 2 * int64((len(p.Replies)+len(p.Aliases))*(len(p.Head)+len(p.Tail)))
	if !d.reserve(size) {
		return errs.E(op, errs.Busy, "too many mails at once, try again later", nil)
	}
	defer d.o.Memory.Release(size)

	w := writes{once: d.onceLetter(p.Letter), shard: p.Home}
	defer w.discard()
	if len(to) > 0 {
		m := &hereMail{from: p.From, head: p.Head, tail: p.Tail, proof: p.Proof}
		if err := d.addCopies(ctx, &w, m, to, proxied); err != nil {
			return errs.Wrap(op, err)
		}
	}
	replies, err := d.replies(ctx, &p)
	if err != nil {
		return errs.Wrap(op, err)
	}
	apart := append(replies, p.also()...)
	for i := range p.Aliases {
		if apart, err = d.addAlias(ctx, &w, apart, &p, &p.Aliases[i]); err != nil {
			return errs.Wrap(op, err)
		}
	}
	w.copies = append(w.copies, apart...)
	if len(p.Remote) > 0 {
		if err := d.addQueued(ctx, &w, &p, p.Remote, !p.Unsigned); err != nil {
			return errs.Wrap(op, err)
		}
	}
	if len(p.Confirm) > 0 {
		d.addConfirmation(ctx, &w, &p)
	}
	if len(p.Refused) > 0 {
		d.addRefusal(ctx, &w, &p)
	}
	if w.empty() {
		return nil // nobody is to be told, and it may come again
	}
	err = d.commit(ctx, &w)
	switch k := errs.KindOf(err); {
	case errors.Is(err, errKnown):
		return nil
	case err == nil:
		w.committed()
		return nil
	case len(to) > 0 && d.o.Queue != nil && (k == errs.Unsupported || k == errs.TooLarge && len(to) > 1):
		// No common log, or more bytes than one transaction may hold.
		return errs.Wrap(op, d.later(ctx, &p, apart))
	}
	return refusal(op, err)
}

// addQueued prepares what waits in the queue; what goes to other hosts is signed.
func (d *Deliver) addQueued(ctx context.Context, w *writes, p *Parcel, rcpts []queue.Rcpt, sign bool) error {
	const op = "agent/deliver.addQueued"
	if d.o.Queue == nil {
		return errs.E(op, errs.Unsupported, "this relay does not deliver to other hosts", nil)
	}
	q := queue.Mail{From: p.From, Tell: p.Tell, TellID: p.TellID, Kind: queue.Submission, UTF8: p.Options.UTF8, RequireTLS: p.Options.RequireTLS, Verified: p.Verified,
		Return: uint8(p.Options.Return), EnvID: p.Options.EnvID, EightBit: !ascii(p.Head) || !ascii(p.Tail),
		Created: d.o.Now(), Shard: p.Home, Head: p.Head, Tail: p.Tail, Rcpts: rcpts}
	q.Expires = q.Created.Add(d.o.Lifetime)
	if p.From.IsZero() {
		q.Kind = queue.Report
	}
	if sign {
		head, err := d.sign(p.Head, p.Tail)
		if err != nil {
			return err
		}
		q.Head = head
	}
	e, err := d.o.Queue.Prepare(ctx, q)
	if err != nil {
		return err
	}
	w.entries = append(w.entries, e)
	return nil
}

// sign puts the signature fields in front of the first piece of a mail.
func (d *Deliver) sign(head, tail []byte) ([]byte, error) {
	if d.o.Sign == nil {
		return head, nil
	}
	_, off, err := mail.ParseHeader(head)
	if err != nil {
		return nil, err
	}
	fields, err := d.o.Sign(head[:off:off], head[off:], tail)
	if err != nil {
		return nil, err
	}
	return append(fields, head...), nil
}

// addConfirmation reports the delivery to the sender in the transaction that delivers. A
// report that cannot be made does not hold the mail up.
func (d *Deliver) addConfirmation(ctx context.Context, w *writes, p *Parcel) {
	r := d.newReport(p.From, p.Options.EnvID, p.Options.Return)
	for _, c := range p.Confirm {
		r.Recipients = append(r.Recipients, dsn.Recipient{Final: c.To, Original: Original(c.OriginalType, c.OriginalAddress), Action: dsn.Delivered, Status: "2.1.5"})
	}
	_, off, err := mail.ParseHeader(p.Head)
	if err == nil {
		r.Header = p.Head[:off]
		err = d.addReport(ctx, w, r, p.Home)
	}
	if err != nil {
		d.o.Logger.Debug("deliver: no confirmation", "err", err)
	}
}

// addRefusal reports to the sender which recipients get nothing. Where no report can be made, the
// others still get the mail.
func (d *Deliver) addRefusal(ctx context.Context, w *writes, p *Parcel) {
	r := d.newReport(p.From, p.Options.EnvID, p.Options.Return)
	r.Recipients = p.Refused
	_, off, err := mail.ParseHeader(p.Head)
	if err == nil {
		r.Header = p.Head[:off]
		err = d.addReport(ctx, w, r, p.Home)
	}
	if err != nil {
		d.o.Logger.Warn("a report to a sender cannot be made", "kind", errs.KindOf(err))
	}
}

// later puts a mail into the queue for all of its recipients, those here included. more is what cannot
// wait there: what is for reply addresses and aliases, and what the parcel also changes.
func (d *Deliver) later(ctx context.Context, p *Parcel, more []localCopy) error {
	rcpts := make([]queue.Rcpt, 0, len(p.Local)+len(p.Remote))
	for _, a := range p.Local {
		rcpts = append(rcpts, queue.Rcpt{To: a.Address})
	}
	rcpts = append(rcpts, p.Remote...)
	w := writes{once: d.onceLetter(p.Letter), shard: p.Home, copies: more}
	defer w.discard()
	for len(rcpts) > 0 {
		n := min(len(rcpts), queue.MaxRcpts)
		if err := d.addQueued(ctx, &w, p, rcpts[:n], len(p.Remote) > 0 && !p.Unsigned); err != nil {
			return err
		}
		rcpts = rcpts[n:]
	}
	if len(p.Refused) > 0 {
		d.addRefusal(ctx, &w, p)
	}
	err := d.commit(ctx, &w)
	if errors.Is(err, errKnown) {
		return nil
	}
	if err != nil {
		return refusal("agent/deliver.later", err)
	}
	w.committed()
	return nil
}

func ascii(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}
