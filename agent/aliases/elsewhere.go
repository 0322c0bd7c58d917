package aliases

import (
	"context"

	"postern.email/agent/forward"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/alias"
	"postern.email/wire/control"
)

// Elsewhere serves owners whose mailbox is elsewhere; agent/forward has one.
type Elsewhere interface {
	State(ctx context.Context, owner alias.Owner) (forward.State, error)
	Ask(ctx context.Context, owner alias.Owner, network string) error
	Resume(ctx context.Context, owner alias.Owner) error
	Set(ctx context.Context, al mail.Address, s forward.Settings) error
	Reverse(ctx context.Context, al *alias.Alias, to mail.Address) (mail.Address, error)
}

// Reversed is the answer of alias.target.reverse.
type Reversed struct {
	Address string `json:"address"` // to which the mailbox elsewhere writes
}

// TargetCommands are the commands of the control socket about an owner's mailbox elsewhere.
func TargetCommands(d *Desk, e Elsewhere) map[string]control.Handler {
	// as lets a caller in with a scope, and gives its owner, and its alias where address is not "".
	as := func(ctx context.Context, a *Args, need alias.Scope, address string) (owner alias.Owner, al *alias.Alias, err error) {
		c, err := d.enter(ctx, a.who(), need)
		if err != nil {
			return owner, nil, err
		}
		defer c.close()
		if address == "" {
			return c.owner, nil, nil
		}
		addr, err := d.address(address)
		if err != nil {
			return owner, nil, err
		}
		al, err = d.mine(ctx, c, addr)
		return c.owner, al, err
	}
	return map[string]control.Handler{
		"alias.target.show": control.With(func(ctx context.Context, a Args) (s forward.State, err error) {
			owner, _, err := as(ctx, &a, alias.ScopeList, "")
			if err == nil {
				s, err = e.State(ctx, owner)
			}
			return s, err
		}),
		"alias.target.ask": control.With(func(ctx context.Context, a Args) (s forward.State, err error) {
			owner, _, err := as(ctx, &a, alias.ScopeManage, "")
			if err == nil {
				err = e.Ask(ctx, owner, a.who().Peer.Network())
			}
			if err == nil {
				s, err = e.State(ctx, owner)
			}
			return s, err
		}),
		"alias.target.resume": control.With(func(ctx context.Context, a Args) (s forward.State, err error) {
			owner, _, err := as(ctx, &a, alias.ScopeManage, "")
			if err == nil {
				err = e.Resume(ctx, owner)
			}
			if err == nil {
				s, err = e.State(ctx, owner)
			}
			return s, err
		}),
		"alias.target.key": control.With(func(ctx context.Context, a Args) (none struct{}, err error) {
			_, al, err := as(ctx, &a, alias.ScopeManage, a.Address)
			switch {
			case err != nil:
				return none, err
			case al == nil:
				return none, errs.E("agent/aliases.targetKey", errs.Invalid, "an alias is needed", nil)
			}
			return none, e.Set(ctx, al.Address, forward.Settings{Key: []byte(a.Key)})
		}),
		"alias.target.reverse": control.With(func(ctx context.Context, a Args) (r Reversed, err error) {
			const op = "agent/aliases.targetReverse"
			to, err := mail.ParseAddress(a.To)
			if err != nil {
				return r, errs.E(op, errs.Invalid, textTarget, err)
			}
			_, al, err := as(ctx, &a, alias.ScopeManage, a.Address)
			switch {
			case err != nil:
				return r, err
			case al == nil:
				return r, errs.E(op, errs.Invalid, "an alias is needed", nil)
			}
			at, err := e.Reverse(ctx, al, to)
			r.Address = at.String()
			return r, err
		}),
	}
}
