package forward

import (
	"context"
	"encoding/base32"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"postern.email/agent/deliver"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/dsn"
	"postern.email/mail/verp"
	"postern.email/post/alias"
	"postern.email/post/queue"
	"postern.email/post/seal"
	"postern.email/wire/smtp"
)

// consent says whether a mailbox agreed that an owner's mail is sent on to it.
type consent struct {
	Agreed uint32 `json:"agreed,omitempty"` // the day; 0: not yet
	Code   string `json:"code,omitempty"`   // of the last question
}

// question is what a code stands for.
type question struct {
	Owner  string `json:"owner"`
	Target string `json:"target"`
}

func consentName(owner alias.Owner, target mail.Address) string {
	return nameConsent + owner.String() + "\x00" + target.Canonical().String()
}

func (f *Forward) consent(ctx context.Context, owner alias.Owner, target mail.Address) (c consent, err error) {
	fresh, err := f.load(ctx, consentName(owner, target), &c, consentDays)
	switch k := errs.KindOf(err); {
	case err != nil && (k == errs.NotFound || k == errs.Corrupt):
		return consent{}, nil
	case err != nil:
		return c, errs.Wrap("agent/forward.consent", err)
	case c.Agreed != 0 && !fresh:
		err = f.save(ctx, consentName(owner, target), c, consentDays)
	}
	return c, errs.Wrap("agent/forward.consent", err)
}

func (f *Forward) agreed(ctx context.Context, owner alias.Owner, target mail.Address) (bool, error) {
	c, err := f.consent(ctx, owner, target)
	return c.Agreed != 0, err
}

// askedDays is for how many days questions to a mailbox are counted.
const askedDays = 30

// Ask asks the mailbox of an owner whether it agrees; network is whose request it is, for the limits, ""
// for nobody's. errs.NotFound: the owner has no mailbox elsewhere; errs.Exists: it has agreed; errs.Denied: it
// may not be asked; errs.Busy: it was asked a moment ago, or too often, or too many are.
func (f *Forward) Ask(ctx context.Context, owner alias.Owner, network string) error {
	const op = "agent/forward.Ask"
	t, err := f.away(ctx, owner)
	if err != nil {
		return errs.Wrap(op, err)
	}
	agreed, err := f.agreed(ctx, owner, t)
	switch {
	case err != nil:
		return errs.Wrap(op, err)
	case agreed:
		return errs.E(op, errs.Exists, "the mailbox has agreed already", nil)
	}
	return errs.Wrap(op, f.ask(ctx, owner, t, network))
}

const codeLen = 16 // bytes

var codeForm = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// ask writes to a mailbox. What is counted and not sent harms nobody, so it is counted first.
func (f *Forward) ask(ctx context.Context, owner alias.Owner, target mail.Address, network string) error {
	const op = "agent/forward.ask"
	if err := f.CheckTarget(ctx, target); err != nil {
		return errs.Wrap(op, err)
	}
	if f.o.URL() == "" {
		return errs.E(op, errs.Unsupported, "this server has no pages on which the mailbox could agree (listen.https)", nil)
	}
	f.asking.Lock()
	defer f.asking.Unlock()
	busyNetwork := errs.E(op, errs.Busy, "too many mailboxes are asked from your network, try again later", nil)
	busy := errs.E(op, errs.Busy, "too many mailboxes are asked now, try again later", nil)
	// First those, or whoever is over its own limit would use up the questions to a mailbox.
	if ok, _ := f.asks.Ready(network); !ok {
		return busyNetwork
	}
	if ok, _ := f.total.Ready("all"); !ok {
		return busy
	}
	now := f.o.Now()
	counted := false
	err := f.change(ctx, target, func(d *destination) bool {
		counted = false
		d.Asked = slices.DeleteFunc(d.Asked, func(at int64) bool { return at < now.Add(-askedDays*24*time.Hour).Unix() })
		if n := len(d.Asked); n >= f.o.MaxAsks || n > 0 && now.Unix()-d.Asked[n-1] < int64(f.o.AskEvery/time.Second) {
			return false
		}
		d.Asked = append(d.Asked, now.Unix())
		counted = true
		return true
	})
	switch {
	case err != nil:
		return errs.Wrap(op, err)
	case !counted:
		return errs.E(op, errs.Busy, "the mailbox was asked a moment ago, or often enough: look for the mail there, or try again later", nil)
	}
	if ok, _ := f.asks.Allow(network); !ok {
		return busyNetwork
	}
	if ok, _ := f.total.Allow("all"); !ok {
		return busy
	}
	var b [codeLen]byte
	if _, err := io.ReadFull(f.o.Rand, b[:]); err != nil {
		return errs.E(op, errs.Internal, "", err)
	}
	code := codeForm.EncodeToString(b[:])
	if err := f.save(ctx, nameCode+code, question{owner.String(), target.String()}, f.o.AskDays); err != nil {
		return errs.Wrap(op, err)
	}
	if err := f.save(ctx, consentName(owner, target), consent{Code: code}, f.o.AskDays); err != nil {
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, f.note(ctx, owner, target, verp.Asked, Note{askSubject, f.askText(code)}))
}

const askSubject = "Shall mail be sent on to this mailbox?"

func (f *Forward) askText(code string) string {
	return "Somebody made mail aliases at " + f.o.Domain + " and wants their mail to be sent on to this mailbox. Nothing is sent before you agree. To say yes or no, open this page:\n\n" +
		"    " + f.o.URL() + confirmPath + code + "\n\n" +
		"If you know nothing of this, you need not do anything: nothing will come. On the same page you can say that you do not want to be asked again."
}

// note writes a mail of ours to a mailbox elsewhere.
func (f *Forward) note(ctx context.Context, owner alias.Owner, target mail.Address, kind verp.Kind, n Note) error {
	const op = "agent/forward.note"
	raw, err := dsn.Note{Domain: f.o.Domain, To: target, Subject: n.Subject, Text: n.Text, Now: f.o.Now(), Rand: f.o.Rand}.Build()
	if err != nil {
		return errs.Wrap(op, err)
	}
	from, err := f.returnPath(f.o.Domain, kind, owner, mail.Address{})
	if err != nil {
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, f.o.Deliver.Begin().Hand(ctx, deliver.Parcel{From: from, Home: owner.Shard(), Head: raw,
		Options: smtp.MailOptions{UTF8: !ascii(target.String())}, Remote: []queue.Rcpt{{To: target}}}))
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 })
}

// question reads a code. errs.NotFound: there is none such, or its time is over.
func (f *Forward) question(ctx context.Context, code string) (owner alias.Owner, target mail.Address, err error) {
	const op = "agent/forward.question"
	gone := errs.E(op, errs.NotFound, "this link is not whole, or its time is over", nil)
	if len(code) != codeForm.EncodedLen(codeLen) {
		return owner, target, gone
	}
	var q question
	if _, err := f.load(ctx, nameCode+strings.ToLower(code), &q, f.o.AskDays); err != nil {
		if errs.KindOf(err) == errs.NotFound {
			return owner, target, gone
		}
		return owner, target, errs.Wrap(op, err)
	}
	parsed, err := seal.ParseAccountID(q.Owner)
	if err == nil {
		target, err = mail.ParseAddress(q.Target)
	}
	if err != nil {
		return owner, target, errs.E(op, errs.Corrupt, "", err)
	}
	// A later question, or another mailbox, ends an earlier one.
	t, err := f.target(ctx, parsed)
	if err != nil {
		return owner, target, errs.Wrap(op, err)
	}
	c, err := f.consent(ctx, parsed, target)
	if err != nil {
		return owner, target, errs.Wrap(op, err)
	}
	if t != target.Canonical() || c.Code != strings.ToLower(code) {
		return owner, target, gone
	}
	return parsed, target, nil
}

// answer is what a mailbox says.
type answer uint8

const (
	yes   answer = iota + 1
	no           // it may be asked again
	never        // and nobody shall ask again
)

// reply takes the answer to a question. It is durable when nil is returned.
func (f *Forward) reply(ctx context.Context, code string, a answer) error {
	const op = "agent/forward.reply"
	owner, target, err := f.question(ctx, code)
	if err != nil {
		return errs.Wrap(op, err)
	}
	c := consent{Code: strings.ToLower(code)} // the page can be opened again
	if a == yes {
		c.Agreed = dayOf(f.o.Now())
	}
	err = f.change(ctx, target, func(d *destination) bool {
		change := d.Never != (a == never)
		d.Never = a == never
		return change
	})
	days := consentDays
	if a != yes {
		days = f.o.AskDays
	}
	return errs.Wrap(op, errors.Join(err, f.save(ctx, consentName(owner, target), c, days)))
}
