package alias

import (
	"context"

	"postern.email/mail"
)

// Redirect is where the mail of an alias goes that a mail server of another kind delivers.
type Redirect struct {
	Alias  *Alias
	Target mail.Address
}

// Redirects calls fn for each stored alias, also ended and paused ones but not deleted ones, whose owner's
// mail goes elsewhere. It sees everything that was committed before it was called. An error of fn ends it.
func (a *Aliases) Redirects(ctx context.Context, fn func(Redirect) error) error {
	return todo("Redirects")
}

// TakeToken makes a token of a secret that was given out by another program, which goes on working.
// errs.Invalid when it has not the form of one, errs.Exists when it is one already, errs.Full with
// MaxTokens others.
func (a *Aliases) TakeToken(ctx context.Context, v *Vault, token string, s Scope, name string) error {
	return todo("TakeToken")
}
