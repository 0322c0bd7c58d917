package aliases

import (
	"context"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/alias"
	wire "postern.email/wire/alias"
)

// Beside is how a Desk works beside a mail server of another kind, which only learns where the mail of
// each alias goes: nobody here sees a mail, so nothing can depend on one.
type Beside struct {
	Custom bool // owners may choose handles
	// Taken tells whether somebody else has the address of a handle that an owner chose. nil: nobody.
	Taken func(ctx context.Context, addr mail.Address) (bool, error)
}

// Public texts.
const (
	textSenders  = "rules about senders are for aliases of a relay: the mail server beside this one does not know them"
	textCounts   = "an end by count or by idleness is for aliases of a relay: nobody here sees the mail; use a date"
	textForm     = "the class is open-mail: the mail server beside this one takes mail in every form"
	textChosen   = "handles cannot be chosen here"
	textDerive   = "aliases cannot be derived here: the mail server beside this one takes mail for those only that it was told of"
	textCircle   = "mail cannot go to an alias of this server"
	textOccupied = "this name is taken"
)

// create refuses what a new alias cannot have. b may be nil.
func (b *Beside) create(r CreateRequest) error {
	if b == nil {
		return nil
	}
	return b.refuse(r.Mode, r.Class, r.MaxMails != 0 || r.IdleDays != 0)
}

// change refuses what an alias cannot get. b may be nil.
func (b *Beside) change(r ChangeRequest) error {
	if b == nil {
		return nil
	}
	if len(r.Allow) > 0 || len(r.Block) > 0 || r.Pin != nil {
		return errs.E("agent/aliases.Beside", errs.Unsupported, textSenders, nil)
	}
	return b.refuse(*or(r.Mode), *or(r.Class), *or(r.MaxMails) != 0 || *or(r.IdleDays) != 0)
}

// or gives what p points to, or the zero value.
func or[T any](p *T) *T {
	if p == nil {
		return new(T)
	}
	return p
}

func (b *Beside) refuse(mode, class string, counts bool) error {
	const op = "agent/aliases.Beside"
	switch {
	case mode != "" && mode != wire.ModeOpen:
		return errs.E(op, errs.Unsupported, textSenders, nil)
	case class != "" && class != wire.ClassOpenMail:
		return errs.E(op, errs.Unsupported, textForm, nil)
	case counts:
		return errs.E(op, errs.Unsupported, textCounts, nil)
	}
	return nil
}

// custom looks at a handle that an owner chose. b may be nil.
func (b *Beside) custom(ctx context.Context, n alias.New) error {
	const op = "agent/aliases.Beside"
	switch {
	case b == nil:
		return nil
	case !b.Custom:
		return errs.E(op, errs.Denied, textChosen, nil)
	case b.Taken == nil:
		return nil
	}
	taken, err := b.Taken(ctx, mail.Address{Local: n.Local, Domain: n.Domain})
	if err == nil && taken {
		err = errs.E(op, errs.Exists, textOccupied, nil)
	}
	return err
}

// target looks whether the mail of aliases may go to addr: not to one of them. Else it may be in a
// domain of aliases, too, where the mail server beside has mailboxes.
func (d *Desk) target(ctx context.Context, addr mail.Address) error {
	_, err := d.o.Aliases.Lookup(ctx, addr)
	switch {
	case err == nil:
		return errs.E("agent/aliases.target", errs.Denied, textCircle, nil)
	case errs.KindOf(err) != errs.NotFound:
		return err
	}
	return d.o.CheckTarget(ctx, addr)
}

// SetTarget changes where an owner's mail goes, elsewhere. It is for the operator, as NewOwner: who only has a
// token could turn somebody else's mail there.
func (d *Desk) SetTarget(ctx context.Context, w Who, target string) error {
	const op = "agent/aliases.SetTarget"
	addr, err := mail.ParseAddress(target)
	if err != nil {
		return errs.E(op, errs.Invalid, textTarget, err)
	}
	c, err := d.enter(ctx, w, alias.ScopeManage)
	if err != nil {
		return err
	}
	defer c.close()
	if !d.o.Elsewhere || c.session != nil {
		return errs.E(op, errs.Unsupported, textNotHere, nil)
	}
	if d.o.Beside == nil && d.o.Aliases.Ours(addr) {
		return errs.E(op, errs.Unsupported, textNotHere, nil)
	}
	if err := d.target(ctx, addr); err != nil {
		return err
	}
	if err := d.o.Aliases.SetTarget(ctx, c.owner, addr); err != nil {
		return err
	}
	d.o.NewTarget(ctx, c.owner, w.Peer.Network())
	return d.mapped(ctx)
}
