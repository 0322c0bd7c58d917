package forward

import (
	"context"
	"strings"

	"postern.email/agent/deliver"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/dsn"
	"postern.email/mail/sanitize"
	"postern.email/mail/verp"
	"postern.email/post/alias"
	"postern.email/post/queue"
	"postern.email/store"
	"postern.email/wire/smtp"
)

// back takes a mail that came to a return address. What is no report is dropped: programs that answer
// the envelope sender are not to hear anything.
func (f *Forward) back(ctx context.Context, to mail.Address, raw []byte) error {
	const op = "agent/forward.back"
	rcpts, header, err := dsn.Read(raw)
	if err != nil {
		return nil
	}
	r := dsn.Report{Domain: f.o.Domain, To: to, Header: header, Now: f.o.Now(), Rand: f.o.Rand}
	for _, x := range rcpts {
		if x.Action == dsn.Failed {
			// Whom it was tried for is known here, and is not taken from a stranger.
			r.Recipients = append(r.Recipients, dsn.Recipient{Final: to, Action: dsn.Failed, Status: x.Status, Diagnostic: x.Diagnostic})
			break
		}
	}
	if len(r.Recipients) == 0 {
		return nil
	}
	instead, _ := f.returned(ctx, r, false)
	if instead == nil {
		return nil
	}
	text, err := instead.Build()
	if err != nil {
		return errs.Wrap(op, err)
	}
	p := deliver.Parcel{Head: text, Options: smtp.MailOptions{UTF8: !ascii(instead.To.String())}, Remote: []queue.Rcpt{{To: instead.To, Notify: uint8(smtp.NotifyNever)}}}
	// Who has seen a return address can write to it as often as it likes: of one mail to a sender, and of the answers
	// of a day to a correspondent, one report is passed on.
	about, _, _ := mail.ParseHeader(instead.Header)
	if verp.IsReverse(instead.Recipients[0].Final.Local) {
		about = mail.Header{}
	}
	f.once(&p, []byte("report\x00"+to.Canonical().String()+"\x00"+messageID(about.Get("Message-ID"))), instead.To, store.Shard(0))
	return errs.Wrap(op, f.o.Deliver.Begin().Hand(ctx, p))
}

// Returned takes the report on a mail that was sent from a return address (agent/deliver.Options.Returned):
// it counts, and gives the report that goes to whoever is to know:
//
//   - of a mail for an alias, to its sender, of the alias and without a word of the mailbox elsewhere;
//   - of an answer, to the mailbox elsewhere, of the reverse address;
//   - of a question, to nobody.
//
// is is false for any other mail.
func (f *Forward) Returned(ctx context.Context, r dsn.Report) (instead *dsn.Report, is bool) {
	return f.returned(ctx, r, true)
}

// returned is Returned; own: the report is of this relay's own queue, and its header that of the mail.
func (f *Forward) returned(ctx context.Context, r dsn.Report, own bool) (instead *dsn.Report, is bool) {
	to := r.To.Canonical()
	if !f.Made(to) || !verp.IsReturn(to.Local) {
		return nil, false
	}
	v, err := f.codes.OpenReturn(to.Domain, to.Local, dayOf(f.o.Now()), f.o.ReturnDays)
	if err != nil || len(r.Recipients) == 0 {
		return nil, true
	}
	var x dsn.Recipient
	for _, x = range r.Recipients {
		if x.Action == dsn.Failed {
			break
		}
	}
	if x.Action != dsn.Failed {
		return nil, true
	}
	if v.Kind == verp.Answered {
		instead, err = f.answerFailed(ctx, v, r, x)
	} else {
		instead, err = f.mailFailed(ctx, v, r, x, own)
	}
	if err != nil {
		f.o.Logger.Warn("what came back of mail for a mailbox elsewhere is not told", "kind", errs.KindOf(err))
	}
	return instead, true
}

// mailFailed counts a mail that the mailbox elsewhere did not get.
func (f *Forward) mailFailed(ctx context.Context, v verp.Return, r dsn.Report, x dsn.Recipient, own bool) (*dsn.Report, error) {
	owner := alias.Owner(v.Ref[:len(alias.Owner{})])
	t, err := f.target(ctx, owner)
	if err != nil || t.IsZero() {
		return nil, err
	}
	if counts, hard := class(x.Status); counts {
		begins := false
		err := f.change(ctx, t, func(d *destination) bool {
			begins = f.o.bounced(d, hard, f.o.Now())
			return true
		})
		if err != nil {
			return nil, err
		}
		if begins && f.o.Tell != nil {
			f.o.Tell(ctx, owner, Note{"Mail for your aliases is not sent on for a while", "Mail for your aliases goes to a mailbox elsewhere. Too much of it came back, so nothing is sent on for a while. What comes meanwhile is put off or refused, and its senders are told.\n\nLook whether the mailbox is still there and has room."})
		}
	}
	if v.Kind != verp.Forwarded {
		return nil, nil
	}
	// The sender stands behind the address that the mail came from.
	h, _, _ := mail.ParseHeader(r.Header)
	from, err := mail.FromAddress(h)
	if err != nil {
		return nil, nil
	}
	p, err := f.read(ctx, from)
	if err != nil {
		return nil, nil // a report without our own header: nobody can be told
	}
	fields := []string{"To", "Cc", "Subject", "Date", "Message-ID"}
	if !own { // the mail went this way; what else a stranger says of it is not passed on
		fields = fields[4:]
		id := messageID(h.Get("Message-ID"))
		if went, err := f.has(ctx, nameSeen+p.at.String()+"\x00"+id); err != nil || !went || id == "" {
			return nil, err
		}
	}
	al, err := f.o.Aliases.Lookup(ctx, p.alias)
	if err != nil || al.Owner != owner || sanitize.Automatic(h) {
		return nil, nil
	}
	return &dsn.Report{Domain: f.o.Domain, To: p.sender, Now: f.o.Now(), Rand: f.o.Rand, Header: told(h, fields),
		Recipients: []dsn.Recipient{{Final: p.alias, Action: dsn.Failed, Status: outwards(x.Status)}}}, nil
}

// answerFailed tells the mailbox elsewhere that a correspondent did not get its answer.
func (f *Forward) answerFailed(ctx context.Context, v verp.Return, r dsn.Report, x dsn.Recipient) (*dsn.Report, error) {
	to := r.To.Canonical()
	at := mail.Address{Local: f.codes.ReverseLocal(to.Domain, v.Ref), Domain: to.Domain}
	p, err := f.read(ctx, at)
	if err != nil {
		return nil, err
	}
	al, err := f.answerable(ctx, p)
	if err != nil {
		if errs.KindOf(err) == errs.NotFound {
			return nil, nil
		}
		return nil, err
	}
	t, err := f.target(ctx, al.Owner)
	if err != nil {
		return nil, err
	}
	return &dsn.Report{Domain: f.o.Domain, To: t, Now: f.o.Now(), Rand: f.o.Rand, Header: r.Header,
		Recipients: []dsn.Recipient{{Final: at, Action: dsn.Failed, Status: x.Status, Remote: x.Remote, Diagnostic: x.Diagnostic}}}, nil
}

// outwards gives what a sender is told of why a mail did not get to the mailbox behind an alias: whether it
// was refused, or time was over.
func outwards(status string) string {
	switch {
	case len(status) > 0 && status[0] == '4', status == "5.4.7":
		return "5.4.7"
	case status == "5.3.4", status == "5.2.3":
		return "5.3.4"
	}
	return "5.0.0"
}

// told gives fields of a mail that its sender gets back: of those that it wrote itself, and that nothing
// here changed.
func told(h mail.Header, fields []string) []byte {
	var out []byte
	for _, name := range fields {
		for _, f := range h.Fields() {
			if strings.EqualFold(f.Name, name) {
				out = mail.AppendField(out, f)
				break
			}
		}
	}
	return append(out, "\r\n"...)
}
