package aliases

import (
	"context"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/aliasname"
	"postern.email/post/alias"
)

// Account says what the credential is good for.
func (d *Desk) Account(ctx context.Context, w Who) (Account, error) {
	c, err := d.enter(ctx, w, 0)
	if err != nil {
		return Account{}, err
	}
	defer c.close()
	out := Account{Scopes: scopeNames(c.scope), Domains: append([]string{}, d.o.Domains...), Style: string(d.o.Style)}
	if !c.may(alias.ScopeList) {
		return out, nil
	}
	if out.Name, err = d.name(ctx, c); err != nil {
		return Account{}, err
	}
	out.Max = d.o.MaxPerOwner
	out.Aliases, err = d.o.Aliases.Count(ctx, c.owner)
	return out, err
}

// name is where the owner's mail goes.
func (d *Desk) name(ctx context.Context, c *caller) (string, error) {
	if c.session != nil {
		return c.session.Address.String(), nil
	}
	target, err := d.o.Aliases.Target(ctx, c.owner)
	if err != nil || !target.IsZero() {
		return target.String(), err
	}
	if d.o.Accounts == nil {
		return "", nil
	}
	a, err := d.o.Accounts.ByNumber(ctx, c.owner)
	return a.Address.String(), err
}

// Create makes an alias.
func (d *Desk) Create(ctx context.Context, w Who, r CreateRequest) (View, error) {
	c, err := d.enter(ctx, w, alias.ScopeCreate)
	if err != nil {
		return View{}, err
	}
	defer c.close()
	n, err := d.form(r)
	if err != nil {
		return View{}, err
	}
	if err := d.rate(w, c); err != nil {
		return View{}, err
	}
	if err := d.begin(ctx, c); err != nil {
		return View{}, err
	}
	al, err := d.make(ctx, c.vault, n, r)
	if err != nil {
		return View{}, err
	}
	v, err := d.view(c.vault, al)
	if err != nil {
		return View{}, err
	}
	return v, d.mapped(ctx)
}

// rate counts one alias that is made.
func (d *Desk) rate(w Who, c *caller) error {
	const op = "agent/aliases.rate"
	if ok, next := d.createNetwork.Ready(w.Peer.Network()); !ok {
		return d.busy(op, next)
	}
	if ok, next := d.create.Allow(c.owner.String()); !ok {
		return d.busy(op, next)
	}
	if ok, next := d.createNetwork.Allow(w.Peer.Network()); !ok {
		return d.busy(op, next)
	}
	return nil
}

// form checks everything of a request but the name.
func (d *Desk) form(r CreateRequest) (n alias.New, err error) {
	if err := d.o.Beside.create(r); err != nil {
		return n, err
	}
	if n.Domain, err = d.domain(r.Domain); err != nil {
		return n, err
	}
	if r.Mode != "" {
		if n.Mode, err = alias.ParseMode(r.Mode); err != nil {
			return n, err
		}
	}
	if n.Class, err = d.class(r.Class); err != nil {
		return n, err
	}
	if n.Expires, err = parseEnd(r.Expires); err != nil {
		return n, err
	}
	if r.Site != "" {
		if n.Notes.Site, err = aliasname.SiteHost(r.Site); err != nil {
			return n, err
		}
	}
	n.MaxMails, n.IdleDays = r.MaxMails, r.IdleDays
	n.Notes.Label, n.Notes.Note = strings.TrimSpace(r.Label), r.Note
	return n, nil
}

// class reads the class that a request names; "" is the server's.
func (d *Desk) class(text string) (alias.Class, error) {
	switch {
	case text == "" && d.o.Cleartext:
		return alias.OpenMail, nil
	case text == "":
		return alias.Strict, nil
	}
	c, err := alias.ParseClass(text)
	if err == nil && c == alias.OpenMail && !d.o.Cleartext {
		err = errs.E("agent/aliases.class", errs.Denied, textStrict, nil)
	}
	return c, err
}

// make makes an alias with the handle that the user chose, or draws one until it is free.
func (d *Desk) make(ctx context.Context, v *alias.Vault, n alias.New, r CreateRequest) (*alias.Alias, error) {
	if r.Custom != "" {
		local, err := aliasname.Custom(r.Custom)
		if err != nil {
			return nil, err
		}
		n.Local = local
		if err := d.o.Beside.custom(ctx, n); err != nil {
			return nil, err
		}
		return d.o.Aliases.Create(ctx, v, n)
	}
	style := d.o.Style
	if r.Style != "" {
		var err error
		if style, err = aliasname.ParseStyle(r.Style); err != nil {
			return nil, err
		}
	}
	if style == aliasname.StyleSite && n.Notes.Site == "" {
		style = aliasname.StyleWords
	}
	for range drawTries {
		local, err := aliasname.Make(d.o.Rand, style, n.Notes.Site)
		if err != nil {
			return nil, err
		}
		n.Local = local
		al, err := d.o.Aliases.Create(ctx, v, n)
		if kind := errs.KindOf(err); err == nil || kind != errs.Exists && kind != errs.Denied { // Denied: it was somebody's once
			return al, err
		}
	}
	return nil, errs.E("agent/aliases.make", errs.Unavailable, textDrawn, nil)
}

// mapped has the map of a Postfix follow.
func (d *Desk) mapped(ctx context.Context) error {
	err := d.o.Map(context.WithoutCancel(ctx))
	if err == nil {
		return nil
	}
	text := errs.Public(err)
	if text == "" {
		text = textMap
	}
	return errs.E("agent/aliases.mapped", errs.Unavailable, text, err)
}

// AliasKey gives what a client derives aliases from. Whoever has it makes aliases for as long
// as the owner is there, also when the token has ended: that takes a token that may manage.
func (d *Desk) AliasKey(ctx context.Context, w Who) (key [32]byte, domains []string, err error) {
	if d.o.Beside != nil {
		return key, nil, errs.E("agent/aliases.AliasKey", errs.Unsupported, textDerive, nil)
	}
	c, err := d.enter(ctx, w, alias.ScopeCreate|alias.ScopeManage)
	if err != nil {
		return key, nil, err
	}
	defer c.close()
	if err := d.begin(ctx, c); err != nil {
		return key, nil, err
	}
	return c.vault.AliasKey(), append([]string{}, d.o.Domains...), nil
}

// address reads the address of an alias; a local part alone is one in the default domain.
func (d *Desk) address(text string) (mail.Address, error) {
	if !strings.Contains(text, "@") {
		text += "@" + d.o.Domains[0]
	}
	addr, err := mail.ParseAddress(text)
	if err != nil {
		return addr, errs.E("agent/aliases.address", errs.NotFound, textNoAlias, err)
	}
	return addr.Canonical(), nil
}
