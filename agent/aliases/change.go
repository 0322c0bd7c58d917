package aliases

import (
	"context"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/aliasname"
	"postern.email/post/alias"
)

// Change changes what is not nil in r, all of it or nothing.
func (d *Desk) Change(ctx context.Context, w Who, address string, r ChangeRequest) (View, error) {
	change, err := d.change(r)
	if err != nil {
		return View{}, err
	}
	return d.alter(ctx, w, address, func(c *caller, addr mail.Address) (*alias.Alias, error) {
		return d.o.Aliases.Change(ctx, c.vault, addr, change)
	})
}

// Delete deletes an alias. Nobody gets its name again; its owner can restore it for a while.
func (d *Desk) Delete(ctx context.Context, w Who, address string) error {
	_, err := d.alter(ctx, w, address, func(c *caller, addr mail.Address) (*alias.Alias, error) {
		return nil, d.o.Aliases.Delete(ctx, c.vault, addr)
	})
	return err
}

// Restore undoes Delete.
func (d *Desk) Restore(ctx context.Context, w Who, address string) (View, error) {
	return d.alter(ctx, w, address, func(c *caller, addr mail.Address) (*alias.Alias, error) {
		return d.o.Aliases.Restore(ctx, c.vault, addr)
	})
}

// alter lets a caller who may manage change one of its aliases. What is shown of the alias
// afterwards is as much as the caller may see.
func (d *Desk) alter(ctx context.Context, w Who, address string, fn func(*caller, mail.Address) (*alias.Alias, error)) (View, error) {
	const op = "agent/aliases.alter"
	c, err := d.enter(ctx, w, alias.ScopeManage)
	if err != nil {
		return View{}, err
	}
	defer c.close()
	addr, err := d.address(address)
	if err != nil {
		return View{}, err
	}
	if c.vault == nil {
		return View{}, errs.E(op, errs.NotFound, textNoAlias, nil)
	}
	al, err := fn(c, addr)
	if errs.KindOf(err) == errs.NotFound {
		return View{}, errs.E(op, errs.NotFound, textNoAlias, err)
	}
	if err != nil {
		return View{}, err
	}
	var v View
	switch {
	case al == nil:
	case c.may(alias.ScopeList):
		if v, err = d.view(c.vault, al); err != nil {
			return View{}, err
		}
	default:
		v = d.bare(al)
	}
	return v, d.mapped(ctx)
}

// change checks a request and makes what Aliases.Change wants of it.
func (d *Desk) change(r ChangeRequest) (func(*alias.Change), error) {
	if err := d.o.Beside.change(r); err != nil {
		return nil, err
	}
	var mode alias.Mode
	var class alias.Class
	var expires time.Time
	var site string
	var err error
	if r.Mode != nil {
		mode, err = alias.ParseMode(*r.Mode)
	}
	if r.Class != nil && err == nil {
		class, err = d.class(*r.Class)
	}
	if r.Expires != nil && err == nil {
		expires, err = parseEnd(*r.Expires)
	}
	if r.Site != nil && *r.Site != "" && err == nil {
		site, err = aliasname.SiteHost(*r.Site)
	}
	if err != nil {
		return nil, err
	}
	return func(c *alias.Change) {
		set(&c.Paused, r.Paused)
		set(&c.MaxMails, r.MaxMails)
		set(&c.IdleDays, r.IdleDays)
		set(&c.Notes.Note, r.Note)
		if r.Label != nil {
			c.Notes.Label = strings.TrimSpace(*r.Label)
		}
		if r.Mode != nil {
			c.Mode = mode
		}
		if r.Class != nil {
			c.Class = class
		}
		if r.Expires != nil {
			c.Expires = expires
		}
		if r.Site != nil {
			c.Notes.Site = site
		}
		if r.Pin != nil {
			c.Pin, c.Mode = *r.Pin, alias.ModePinned
			c.PinDomain = strings.HasPrefix(*r.Pin, "@")
		}
		c.Allow, c.Block, c.Forget = r.Allow, r.Block, r.Forget
		if r.Extend != nil {
			c.Extend(time.Duration(*r.Extend) * 24 * time.Hour)
		}
	}, nil
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}
