package deliver

import (
	"context"
	"slices"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/anon"
	"postern.email/mail/dsn"
	"postern.email/post/account"
	"postern.email/post/queue"
	"postern.email/store"
	"postern.email/wire/smtp"
)

// newReport begins a report to the sender of a mail.
func (d *Deliver) newReport(to mail.Address, envID string, ret smtp.Return) dsn.Report {
	return dsn.Report{Domain: d.o.Domain, To: to, EnvelopeID: envID, Full: ret == smtp.ReturnFull, Now: d.o.Now(), Rand: d.o.Rand}
}

// Original is ORCPT (RFC 3461 §4.2), its type and its address, as a report shows it.
func Original(kind, address string) string {
	if kind == "" {
		return ""
	}
	return kind + ";" + address
}

// addReport adds a report to a transaction: into the mailbox of a sender who is here, signed
// into the queue for another. home is where a queued one lies. A sender who is not here any
// more, or never was anybody, gets none. Who wrote anonymously gets one at a reply address, with little of the
// mail's header: its relay, which reads the report on its way, need not learn what the mail was about.
func (d *Deliver) addReport(ctx context.Context, w *writes, r dsn.Report, home store.Shard) error {
	const op = "agent/deliver.addReport"
	if r.To.IsZero() || len(r.Recipients) == 0 {
		return nil
	}
	_, nobody := anon.ReplyName(r.To)
	if nobody {
		r.Header, r.Full = names(r.Header), false
	}
	raw, err := r.Build()
	if err != nil {
		return errs.Wrap(op, err)
	}
	if nobody && d.o.Replies != nil && d.o.Accounts != nil && d.o.Accounts.Ours(r.To) {
		copies, err := d.replies(ctx, &Parcel{Replies: []mail.Address{r.To}, Head: raw})
		if k := errs.KindOf(err); err != nil && (k == errs.NotFound || k == errs.Full || k == errs.TooLarge) {
			return nil // nothing to tell it with
		}
		w.copies = append(w.copies, copies...)
		return errs.Wrap(op, err)
	}
	a, err := d.ownerOf(ctx, r.To)
	switch k := errs.KindOf(err); {
	case err != nil && k != errs.NotFound:
		return errs.Wrap(op, err)
	case err == nil:
		return errs.Wrap(op, d.addNotice(ctx, w, a, raw))
	case d.o.Aliases != nil && d.o.Aliases.Ours(r.To) && (d.o.Accounts == nil || !d.o.Accounts.Ours(r.To)):
		return nil // an alias that is gone, or whose owner has no mailbox here
	case d.o.Accounts == nil || !d.o.Accounts.Ours(r.To):
		p := Parcel{Home: home, Head: raw}
		p.Options.UTF8 = !ascii([]byte(r.To.String()))
		return errs.Wrap(op, d.addQueued(ctx, w, &p, []queue.Rcpt{{To: r.To, Notify: uint8(smtp.NotifyNever)}}, true))
	}
	if a, err = d.o.Accounts.Resolve(ctx, r.To); err != nil {
		if errs.KindOf(err) == errs.NotFound {
			return nil
		}
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, d.addNotice(ctx, w, a, raw))
}

// names gives the fields of a header by which its sender knows a mail again.
func names(header []byte) []byte { return pick(header, "Message-ID", "Date") }

// known is the header of a mail that somebody else sent on, for a report to its sender: what that one wrote
// and not what was added for the recipient. id is the Message-ID that the sender gave it, if it has another
// one now; nothing else of its header is the sender's then.
func known(header []byte, id string) []byte {
	if id != "" {
		return []byte("Message-ID: " + id + "\r\n\r\n")
	}
	return pick(header, "From", "To", "Cc", "Subject", "Date", "Message-ID")
}

// pick gives some fields of a header.
func pick(header []byte, fields ...string) (out []byte) {
	h, _, err := mail.ParseHeader(header)
	if err != nil {
		return nil
	}
	for _, f := range h.Fields() {
		if slices.ContainsFunc(fields, func(name string) bool { return strings.EqualFold(f.Name, name) }) {
			out = mail.AppendField(out, f)
		}
	}
	return append(out, "\r\n"...)
}

// addNotice adds a mail of ours to a transaction, into the mailbox of an account.
func (d *Deliver) addNotice(ctx context.Context, w *writes, a account.Account, raw []byte) error {
	to := []account.Account{a}
	proxied, err := d.read(ctx, to)
	if err != nil {
		return err
	}
	return d.addCopies(ctx, w, &hereMail{head: raw}, to, proxied)
}

// Wanted tells whether a sender is to be told of what became of a recipient (RFC 3461
// §4.1; §6.2 for those who asked for nothing).
func Wanted(notify smtp.Notify, a dsn.Action) bool {
	switch a {
	case dsn.Failed:
		return notify == 0 || notify&smtp.NotifyFailure != 0
	case dsn.Delayed:
		return notify&smtp.NotifyDelay != 0
	}
	return notify&smtp.NotifySuccess != 0
}
