package aliases

import (
	"context"
	"slices"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/alias"
	"postern.email/post/seal"
	wire "postern.email/wire/alias"
)

// scopes in the order in which they are told.
var scopes = []struct {
	name  string
	scope alias.Scope
}{{wire.ScopeCreate, alias.ScopeCreate}, {wire.ScopeList, alias.ScopeList}, {wire.ScopeManage, alias.ScopeManage}}

func scopeNames(s alias.Scope) []string {
	out := []string{}
	for _, v := range scopes {
		if s&v.scope != 0 {
			out = append(out, v.name)
		}
	}
	return out
}

// parseScopes reads names of scopes; none of them are all.
func parseScopes(names []string) (s alias.Scope, err error) {
	if len(names) == 0 {
		return alias.ScopeAll, nil
	}
	for _, n := range names {
		i := slices.IndexFunc(scopes, func(v struct {
			name  string
			scope alias.Scope
		}) bool {
			return v.name == n
		})
		if i < 0 {
			return 0, errs.E("agent/aliases.parseScopes", errs.Invalid, textScopes, nil)
		}
		s |= scopes[i].scope
	}
	return s, nil
}

// NewOwner makes an owner and its first token, which may do everything. It is for the
// operator: no door to the network offers it. An address that is an account here needs its
// password, in w, and may have begun before; any other becomes an owner whose mail goes there.
// errs.Auth, errs.Denied, errs.Unsupported where owners elsewhere are not served.
func (d *Desk) NewOwner(ctx context.Context, w Who, target string) (token string, err error) {
	const op = "agent/aliases.NewOwner"
	addr, err := mail.ParseAddress(target)
	if err != nil {
		return "", errs.E(op, errs.Invalid, textTarget, err)
	}
	if d.o.Accounts != nil && d.o.Accounts.Ours(addr) {
		if w.Password == "" {
			return "", errs.E(op, errs.Auth, textHere, nil)
		}
		w.Login, w.Token = target, ""
		token, _, err := d.AddToken(ctx, w, nil, "")
		return token, err
	}
	if !d.o.Elsewhere || d.o.Beside == nil && d.o.Aliases.Ours(addr) {
		return "", errs.E(op, errs.Unsupported, textNotHere, nil)
	}
	if err := d.target(ctx, addr); err != nil {
		return "", err
	}
	id, err := seal.NewAccountID(d.o.Rand)
	if err != nil {
		return "", err
	}
	v, err := d.o.Aliases.Begin(ctx, id, alias.BeginOptions{Target: addr})
	if err != nil {
		return "", err
	}
	defer v.Close()
	token, _, err = d.o.Aliases.NewToken(ctx, v, alias.ScopeAll, "")
	if err == nil {
		d.o.NewTarget(ctx, id, w.Peer.Network())
	}
	return token, err
}

// DeleteOwner ends an owner: its aliases are tombstones from then on and its tokens void. An
// account's mailbox stays.
func (d *Desk) DeleteOwner(ctx context.Context, w Who) error {
	c, err := d.enter(ctx, w, alias.ScopeManage)
	if err != nil {
		return err
	}
	defer c.close()
	if c.vault == nil {
		return nil
	}
	if err := d.o.Aliases.EndOwner(ctx, c.owner); err != nil {
		return err
	}
	return d.mapped(ctx)
}

// Token is a token as its owner sees it.
type Token = wire.Token

// NewToken makes a further token of the same owner; no scopes are all.
func (d *Desk) NewToken(ctx context.Context, w Who, scopes []string, name string) (token string, err error) {
	token, _, err = d.AddToken(ctx, w, scopes, name)
	return token, err
}

// AddToken is NewToken, and gives the ID by which the token is listed and revoked, too. A token
// cannot make one that may do more than itself.
func (d *Desk) AddToken(ctx context.Context, w Who, scopes []string, name string) (token, id string, err error) {
	s, err := parseScopes(scopes)
	if err != nil {
		return "", "", err
	}
	c, err := d.enter(ctx, w, alias.ScopeManage)
	if err != nil {
		return "", "", err
	}
	defer c.close()
	if !c.may(s) {
		if len(scopes) > 0 {
			return "", "", errs.E("agent/aliases.AddToken", errs.Denied, textWider, nil)
		}
		s = c.scope
	}
	if err := d.begin(ctx, c); err != nil {
		return "", "", err
	}
	return d.o.Aliases.NewToken(ctx, c.vault, s, name)
}

// Tokens lists the owner's tokens. It takes a caller who may manage: names of tokens tell which
// programs the owner uses.
func (d *Desk) Tokens(ctx context.Context, w Who) ([]Token, error) {
	c, err := d.enter(ctx, w, alias.ScopeManage|alias.ScopeList)
	if err != nil {
		return nil, err
	}
	defer c.close()
	out := []Token{}
	if c.vault == nil {
		return out, nil
	}
	ts, err := d.o.Aliases.Tokens(ctx, c.vault)
	if err != nil {
		return nil, err
	}
	for _, t := range ts {
		out = append(out, Token{ID: t.ID, Name: t.Name, Scopes: scopeNames(t.Scope), Created: day(t.Created), LastUsed: day(t.LastUsed)})
	}
	return out, nil
}

// RevokeToken ends a token by its ID. errs.NotFound when the owner has none such.
func (d *Desk) RevokeToken(ctx context.Context, w Who, id string) error {
	c, err := d.enter(ctx, w, alias.ScopeManage)
	if err != nil {
		return err
	}
	defer c.close()
	if c.vault == nil {
		return errs.E("agent/aliases.RevokeToken", errs.NotFound, textNoToken, nil)
	}
	return d.o.Aliases.RevokeToken(ctx, c.vault, id)
}

// RotateToken puts a new token in the place of the one that asks, with the same scopes.
func (d *Desk) RotateToken(ctx context.Context, w Who) (string, error) {
	c, err := d.enter(ctx, w, 0)
	if err != nil {
		return "", err
	}
	defer c.close()
	if c.token == "" {
		return "", errs.E("agent/aliases.RotateToken", errs.Invalid, textNotToken, nil)
	}
	return d.o.Aliases.RotateToken(ctx, c.token)
}

// Stats are an owner's numbers.
type Stats struct {
	Aliases  int `json:"aliases"` // deleted ones are not counted
	Paused   int `json:"paused"`
	Expired  int `json:"expired"`
	Unused   int `json:"unused"` // that never got or sent a mail
	Leaked   int `json:"leaked"`
	Received int `json:"received"`
	Refused  int `json:"refused"`
	Sent     int `json:"sent"`
}

// Stats adds up the owner's aliases.
func (d *Desk) Stats(ctx context.Context, w Who) (s Stats, err error) {
	c, err := d.enter(ctx, w, alias.ScopeList)
	if err != nil {
		return s, err
	}
	defer c.close()
	if c.vault == nil {
		return s, nil
	}
	err = d.each(ctx, c.owner, func(al *alias.Alias) error {
		v, err := d.view(c.vault, al)
		if err != nil {
			return err
		}
		s.Aliases++
		s.Received += int(v.Received)
		s.Refused += int(v.Refused)
		s.Sent += int(v.Sent)
		count(&s.Paused, v.State == wire.StatePaused)
		count(&s.Expired, v.State == wire.StateExpired)
		count(&s.Unused, v.Received == 0 && v.Sent == 0)
		count(&s.Leaked, v.Leaked)
		return nil
	})
	return s, err
}

func count(n *int, yes bool) {
	if yes {
		*n++
	}
}
