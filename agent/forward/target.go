package forward

import (
	"context"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/alias"
)

// CheckTarget refuses an address that cannot be a mailbox elsewhere. errs.Denied: it is here, or whoever reads
// it wants no questions.
func (f *Forward) CheckTarget(ctx context.Context, target mail.Address) error {
	const op = "agent/forward.CheckTarget"
	if f.ours(target) {
		return errs.E(op, errs.Denied, "mail cannot be sent on to an address of this server", nil)
	}
	d, err := f.destination(ctx, target)
	if err != nil {
		return errs.Wrap(op, err)
	}
	if d.Never {
		return errs.E(op, errs.Denied, "whoever reads this mailbox wants no mail to be sent on to it", nil)
	}
	return nil
}

// target gives where an owner's mail goes; zero: not elsewhere.
func (f *Forward) target(ctx context.Context, owner alias.Owner) (mail.Address, error) {
	t, err := f.o.Aliases.Target(ctx, owner)
	if err != nil {
		if errs.KindOf(err) == errs.NotFound {
			return mail.Address{}, nil
		}
		return t, errs.Wrap("agent/forward.target", err)
	}
	return t.Canonical(), nil
}

// away is target of an owner who has one: errs.NotFound for any other.
func (f *Forward) away(ctx context.Context, owner alias.Owner) (mail.Address, error) {
	t, err := f.target(ctx, owner)
	if err == nil && t.IsZero() {
		err = errs.E("agent/forward.away", errs.NotFound, "the owner has no mailbox elsewhere", nil)
	}
	return t, err
}

// Elsewhere reports whether mail for an owner's aliases goes elsewhere. Its error, usually a *smtp.Reply,
// says that nothing is sent on now: the mailbox was not asked or has not answered yet, or too much
// came back from it. Where it was not asked it is, within the bounds, of which one is that of the network
// whose mail it is ("": of nobody's).
func (f *Forward) Elsewhere(ctx context.Context, owner alias.Owner, network string) (bool, error) {
	t, err := f.open(ctx, owner)
	if err == replyAsked {
		if err := f.ask(ctx, owner, t, network); err != nil {
			f.o.Logger.Debug("forward: a mailbox elsewhere is not asked", "kind", errs.KindOf(err))
		}
	}
	return !t.IsZero(), err
}

// open gives where an owner's mail goes, zero: not elsewhere, with the error of Elsewhere; it asks nobody.
func (f *Forward) open(ctx context.Context, owner alias.Owner) (t mail.Address, err error) {
	const op = "agent/forward.open"
	t, err = f.target(ctx, owner)
	if err != nil || t.IsZero() {
		return mail.Address{}, errs.Wrap(op, err)
	}
	if f.ours(t) { // a domain of this relay by now
		return t, replyUnknown
	}
	agreed, err := f.agreed(ctx, owner, t)
	if err != nil {
		return t, errs.Wrap(op, err)
	}
	d, err := f.destination(ctx, t)
	if err != nil {
		return t, errs.Wrap(op, err)
	}
	paused, long := d.paused(f.o.Now())
	switch {
	case d.Never, paused && long:
		return t, replyUnknown
	case paused:
		return t, replyPaused
	case agreed:
		return t, nil
	}
	return t, replyAsked
}

// State is what is known of the mailbox of an owner.
type State struct {
	Target string `json:"target"`           // "": the owner has none elsewhere
	State  string `json:"state,omitempty"`  // agreed, asked, not-asked, refused, paused
	Until  string `json:"until,omitempty"`  // of a pause, RFC 3339 in UTC
	Failed uint32 `json:"failed,omitempty"` // mails that came back in the last ten days
}

// State tells what is known of the mailbox of an owner.
func (f *Forward) State(ctx context.Context, owner alias.Owner) (s State, err error) {
	const op = "agent/forward.State"
	t, err := f.target(ctx, owner)
	if err != nil || t.IsZero() {
		return s, errs.Wrap(op, err)
	}
	s.Target = t.String()
	d, err := f.destination(ctx, t)
	if err != nil {
		return s, errs.Wrap(op, err)
	}
	today := dayOf(f.o.Now())
	for _, x := range d.Days {
		if x.Day+ladderDays > today {
			s.Failed += x.Hard + x.Soft
		}
	}
	c, err := f.consent(ctx, owner, t)
	if err != nil {
		return s, errs.Wrap(op, err)
	}
	switch paused, _ := d.paused(f.o.Now()); {
	case d.Never:
		s.State = "refused"
	case paused:
		s.State, s.Until = "paused", time.Unix(d.Until, 0).UTC().Format(time.RFC3339)
	case c.Agreed != 0:
		s.State = "agreed"
	case c.Code != "":
		s.State = "asked"
	default:
		s.State = "not-asked"
	}
	return s, nil
}

// Resume ends the pause of an owner's mailbox, for the operator. errs.NotFound for an owner without one
// elsewhere.
func (f *Forward) Resume(ctx context.Context, owner alias.Owner) error {
	const op = "agent/forward.Resume"
	t, err := f.away(ctx, owner)
	if err != nil {
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, f.change(ctx, t, func(d *destination) bool {
		d.Days, d.Until, d.Hard, d.Tell = nil, 0, false, false
		return true
	}))
}
