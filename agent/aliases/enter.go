package aliases

import (
	"context"
	"fmt"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/aliasname"
	"postern.email/post/account"
	"postern.email/post/alias"
)

// caller is somebody who showed a credential, until close.
type caller struct {
	vault   *alias.Vault // nil: an account that has no aliases yet
	owner   alias.Owner
	scope   alias.Scope
	token   string           // "": by login
	session *account.Session // of a login
}

func (c *caller) close() {
	if c.vault != nil {
		c.vault.Close()
	}
	if c.session != nil {
		c.session.Close()
	}
}

func (c *caller) may(s alias.Scope) bool { return c.scope&s == s }

// enter lets somebody in who may do what need says. All that can be wrong about a credential
// is told in the same words, and costs the network the same.
func (d *Desk) enter(ctx context.Context, w Who, need alias.Scope) (*caller, error) {
	const op = "agent/aliases.enter"
	network := w.Peer.Network()
	if ok, next := d.askNetwork.Allow(network); !ok {
		return nil, d.busy(op, next)
	}
	if ok, next := d.wrong.Ready(network); !ok {
		return nil, errs.E(op, errs.Busy, fmt.Sprintf(textSlowed, d.seconds(next)), nil)
	}
	c, err := d.open(ctx, w)
	if err != nil {
		if errs.KindOf(err) == errs.Auth {
			d.wrong.Charge(network, 1)
			err = errs.E(op, errs.Auth, textAuth, err)
		}
		return nil, err
	}
	if ok, next := d.ask.Allow(c.owner.String()); !ok {
		c.close()
		return nil, d.busy(op, next)
	}
	if !c.may(need) {
		c.close()
		return nil, errs.E(op, errs.Denied, textScope, nil)
	}
	return c, nil
}

// open opens what the credential opens. errs.Auth without a text of its own.
func (d *Desk) open(ctx context.Context, w Who) (*caller, error) {
	const op = "agent/aliases.open"
	switch {
	case w.Token != "":
		if !aliasname.TokenForm(w.Token) {
			return nil, errs.E(op, errs.Auth, "", nil)
		}
		v, scope, err := d.o.Aliases.ByToken(ctx, w.Token)
		if err != nil {
			return nil, err
		}
		c := &caller{vault: v, owner: v.Owner, scope: scope, token: w.Token}
		if err := d.usable(ctx, c); err != nil {
			c.close()
			return nil, err
		}
		return c, nil
	case w.Login != "" && d.o.Accounts != nil:
		return d.login(ctx, w)
	}
	return nil, errs.E(op, errs.Auth, "", nil)
}

// usable refuses the tokens of an account that is blocked: its owner may not log in either.
func (d *Desk) usable(ctx context.Context, c *caller) error {
	if d.o.Accounts == nil {
		return nil
	}
	a, err := d.o.Accounts.ByNumber(ctx, c.owner)
	switch {
	case errs.KindOf(err) == errs.NotFound:
		return nil // its mailbox is elsewhere
	case err != nil:
		return err
	case a.Blocked:
		return errs.E("agent/aliases.usable", errs.Auth, "", nil)
	}
	return nil
}

// login logs an account in. A name that no account has is refused: accounts are made where
// mail is read, not here.
func (d *Desk) login(ctx context.Context, w Who) (*caller, error) {
	const op = "agent/aliases.login"
	addr, err := mail.ParseAddress(w.Login)
	if err == nil {
		_, err = d.o.Accounts.Show(ctx, addr)
	}
	switch errs.KindOf(err) {
	case errs.Invalid, errs.TooLarge, errs.NotFound:
		if err != nil {
			return nil, errs.E(op, errs.Auth, "", err)
		}
	}
	if err != nil {
		return nil, err
	}
	s, err := d.o.Accounts.Login(ctx, account.LoginRequest{Name: w.Login, Password: w.Password, Peer: w.Peer})
	if err != nil {
		return nil, err
	}
	c := &caller{owner: s.ID, scope: alias.ScopeAll, session: s}
	switch v, err := d.o.Aliases.ByAccount(ctx, s.Key); {
	case err == nil:
		c.vault = v
	case errs.KindOf(err) != errs.NotFound:
		c.close()
		return nil, err
	}
	return c, nil
}

// begin gives a caller who has no aliases yet what is needed for the first.
func (d *Desk) begin(ctx context.Context, c *caller) error {
	if c.vault != nil {
		return nil
	}
	v, err := d.o.Aliases.Begin(ctx, c.owner, alias.BeginOptions{Account: c.session.Key})
	if errs.KindOf(err) == errs.Exists { // at the same moment, by another door
		v, err = d.o.Aliases.ByAccount(ctx, c.session.Key)
	}
	if err != nil {
		return err
	}
	c.vault = v
	return nil
}

func (d *Desk) busy(op string, next time.Time) error {
	return errs.E(op, errs.Busy, fmt.Sprintf(textBusy, d.seconds(next)), nil)
}

// seconds rounds up how long it is until next.
func (d *Desk) seconds(next time.Time) int64 {
	return max(1, int64((next.Sub(d.o.Now())+time.Second-1)/time.Second))
}

// Public texts. None names an address, a token or a network.
const (
	textAuth     = "the token, or the address and password, is wrong"
	textScope    = "this token does not allow that"
	textBusy     = "too many requests, try again in %d seconds"
	textSlowed   = "too many wrong tokens or passwords, try again in %d seconds"
	textNoAlias  = "there is no such alias of yours"
	textDomain   = "aliases are not made in this domain"
	textStrict   = "this server takes end-to-end encrypted mail only; the class open-mail is not offered"
	textDay      = "an end is a day, 2026-12-31, or a time as in RFC 3339"
	textScopes   = "a token's scopes are create, list and manage"
	textNotToken = "only a token can be replaced by a new one"
	textMap      = "the alias is kept, but the map of the mail server could not be written"
	textHere     = "this address is an account here: its password is needed"
	textNotHere  = "mailboxes elsewhere are not served here"
	textWider    = "a token cannot give what it does not have"
	textDrawn    = "no free name was found; try again"
	textNoToken  = "there is no such token"
	textNothing  = "nothing is to be changed"
	textTooMany  = "too many aliases at once"
	textRules    = "it was made without its rules: %s"
	textTaken    = "the name is taken, or was"
	textPassword = "this takes the account's address and password: a token does not open mail"

	textNoEvidence = "there are no mailboxes here from which evidence could be taken"
	textTarget     = "this is not a mail address"
)
