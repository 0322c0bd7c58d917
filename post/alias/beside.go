package alias

import (
	"context"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// Redirect is where the mail of an alias goes that a mail server of another kind delivers.
type Redirect struct {
	Alias  *Alias
	Target mail.Address
}

// Redirects calls fn for each stored alias, also ended and paused ones but not deleted ones, whose owner's
// mail goes elsewhere. It sees everything that was committed before it was called. An error of fn ends it.
// What cannot be read is left out; Check names it.
func (a *Aliases) Redirects(ctx context.Context, fn func(Redirect) error) error {
	return errs.Wrap("post/alias.Redirects", a.eachOwner(ctx, func(owner Owner) error {
		target, err := a.Target(ctx, owner)
		if is(err, errs.NotFound) || is(err, errs.Corrupt) || err == nil && target.IsZero() {
			return nil
		}
		if err != nil {
			return err
		}
		return a.eachStored(ctx, owner, nil, func(s stored) (bool, error) {
			if s.err != nil || s.rules.deleted != 0 {
				return true, nil
			}
			al := a.aliasOf(owner, s.rules, s.state)
			return true, fn(Redirect{Alias: al, Target: target})
		})
	}))
}
