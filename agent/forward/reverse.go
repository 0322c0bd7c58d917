package forward

import (
	"context"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/anon"
	"postern.email/mail/verp"
	"postern.email/post/alias"
)

// A reverse address must say whom it stands for, and 64 octets cannot hold two addresses. So there is a
// record; but it lies under a key that is made of the reverse address itself (post/namebook), and that
// address is a keyed hash of alias and sender. Neither the disk nor the node key lists who wrote to an
// alias, and the same sender has the same address for ever, also when the record was forgotten.

// reverse is the record of a reverse address.
type reverse struct {
	Alias   string `json:"alias"`
	Sender  string `json:"sender"`
	Blocked bool   `json:"blocked,omitempty"` // by the link in a mail
}

// pair is a reverse address, read.
type pair struct {
	at            mail.Address // the reverse address, canonical
	alias, sender mail.Address
	blocked       bool
}

// reverseOf gives the reverse address of a sender at an alias, and sees to it that it can be answered.
func (f *Forward) reverseOf(ctx context.Context, al, sender mail.Address) (p pair, err error) {
	const op = "agent/forward.reverseOf"
	al, sender = al.Canonical(), sender.Canonical()
	p = pair{alias: al, sender: sender, at: mail.Address{Local: f.codes.Reverse(al.Domain, al, sender), Domain: al.Domain}}
	var r reverse
	fresh, err := f.load(ctx, nameReverse+p.at.String(), &r, f.o.ReverseDays)
	if k := errs.KindOf(err); err != nil && k != errs.NotFound && k != errs.Corrupt {
		return p, errs.Wrap(op, err)
	}
	p.blocked = r.Blocked
	if err == nil && fresh {
		return p, nil
	}
	return p, errs.Wrap(op, f.save(ctx, nameReverse+p.at.String(), reverse{al.String(), sender.String(), r.Blocked}, f.o.ReverseDays))
}

// read gives what a reverse address stands for. errs.Invalid, errs.Auth: it is none of ours; errs.NotFound: it
// was not used for long.
func (f *Forward) read(ctx context.Context, at mail.Address) (p pair, err error) {
	const op = "agent/forward.read"
	at = at.Canonical()
	if _, err := f.codes.OpenReverse(at.Domain, at.Local); err != nil {
		return p, errs.Wrap(op, err)
	}
	var r reverse
	if _, err := f.load(ctx, nameReverse+at.String(), &r, f.o.ReverseDays); err != nil {
		return p, errs.Wrap(op, err)
	}
	p = pair{at: at, blocked: r.Blocked}
	if p.alias, err = mail.ParseAddress(r.Alias); err == nil {
		p.sender, err = mail.ParseAddress(r.Sender)
	}
	if err != nil {
		return p, errs.E(op, errs.Corrupt, "", err)
	}
	return p, nil
}

// Reverse gives the reverse address by which the owner of an alias can write first to somebody: who may
// ask for it is the caller's affair. errs.Denied for an address of this relay's own making.
func (f *Forward) Reverse(ctx context.Context, al *alias.Alias, to mail.Address) (mail.Address, error) {
	const op = "agent/forward.Reverse"
	if f.Made(to) {
		return mail.Address{}, errs.E(op, errs.Denied, "this address stands for another one already", nil)
	}
	p, err := f.reverseOf(ctx, al.Address, to)
	return p.at, errs.Wrap(op, err)
}

// block makes mail of a reverse address's sender for its alias be refused, or ends that.
func (f *Forward) block(ctx context.Context, p pair, on bool) error {
	const op = "agent/forward.block"
	return errs.Wrap(op, f.save(ctx, nameReverse+p.at.String(), reverse{p.alias.String(), p.sender.String(), on}, f.o.ReverseDays))
}

// display is the name under which a mail comes from a reverse address: the sender's, and its address in
// a form that no program takes for one.
func display(h mail.Header, from mail.Address) string {
	name := ""
	if list, err := mail.ParseAddressList(h.Get("From")); err == nil && len(list) == 1 {
		name = list[0].Name
	}
	said := "(" + anon.OneLine(from.Local) + " at " + from.Domain + ")"
	// What looks like an address in the sender's own words is taken apart too: some hosts refuse mail whose
	// display name shows another address than the one behind it.
	name = strings.ReplaceAll(anon.Clip(anon.OneLine(name), anon.MaxName), "@", " at ")
	return strings.TrimSpace(name + " " + said)
}

// Made reports whether an address has the form of one that is given out here.
func (f *Forward) Made(to mail.Address) bool {
	return verp.Made(to.Local) && f.ours(to)
}

// ours reports whether an address is of this relay.
func (f *Forward) ours(a mail.Address) bool { return f.o.Aliases.Ours(a) || f.o.Ours(a.Domain) }
