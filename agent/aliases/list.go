package aliases

import (
	"context"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/aliasname"
	"postern.email/post/alias"
)

// List gives one page of the owner's aliases, or of the deleted ones that can be restored, in the order of the store, and the cursor of the
// next page, "" at the end. A search looks at MaxScan aliases a call at most: a page can hold
// fewer than Limit, or none, and have a next one. Correspondents are left out.
func (d *Desk) List(ctx context.Context, w Who, r ListRequest) (page []View, next string, err error) {
	c, err := d.enter(ctx, w, alias.ScopeList)
	if err != nil {
		return nil, "", err
	}
	defer c.close()
	page = []View{}
	if c.vault == nil {
		return page, "", nil
	}
	limit := r.Limit
	if limit < 1 || limit > MaxPage {
		limit = MaxPage
	}
	list := d.o.Aliases.List
	if r.Deleted {
		list = d.o.Aliases.Trash
	}
	site := r.Site
	if host, err := aliasname.SiteHost(site); err == nil {
		site = host // as it was kept when the alias was made
	}
	search, next := strings.ToLower(strings.TrimSpace(r.Search)), r.Cursor
	for scanned := 0; ; {
		want := limit - len(page)
		some, after, err := list(ctx, c.owner, next, want)
		if err != nil {
			return nil, "", err
		}
		for _, al := range some {
			v, err := d.view(c.vault, al)
			if err != nil {
				return nil, "", err
			}
			if matches(&v, search, site) {
				v.Correspondents = []Correspondent{}
				page = append(page, v)
			}
		}
		next, scanned = after, scanned+len(some)
		if next == "" || len(page) >= limit || scanned >= MaxScan {
			return page, next, nil
		}
	}
}

// each calls fn for each alias of an owner.
func (d *Desk) each(ctx context.Context, owner alias.Owner, fn func(*alias.Alias) error) error {
	for cursor := ""; ; {
		page, next, err := d.o.Aliases.List(ctx, owner, cursor, MaxPage)
		if err != nil {
			return err
		}
		for _, al := range page {
			if err := fn(al); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		cursor = next
	}
}

// Get gives one alias in full; a deleted one, too, as long as it can be restored.
func (d *Desk) Get(ctx context.Context, w Who, address string) (View, error) {
	c, err := d.enter(ctx, w, alias.ScopeList)
	if err != nil {
		return View{}, err
	}
	defer c.close()
	addr, err := d.address(address)
	if err != nil {
		return View{}, err
	}
	al, err := d.mine(ctx, c, addr)
	if err != nil {
		return View{}, err
	}
	return d.view(c.vault, al)
}

// mine gives an alias of the caller's, a deleted one, too. That somebody else has one is not
// told.
func (d *Desk) mine(ctx context.Context, c *caller, addr mail.Address) (*alias.Alias, error) {
	const op = "agent/aliases.mine"
	none := errs.E(op, errs.NotFound, textNoAlias, nil)
	if c.vault == nil {
		return nil, none
	}
	al, err := d.o.Aliases.Lookup(ctx, addr)
	switch {
	case err == nil && al.Owner == c.owner:
		return al, nil
	case err == nil:
		return nil, none
	case errs.KindOf(err) != errs.NotFound:
		return nil, err
	}
	for cursor := ""; ; {
		page, next, err := d.o.Aliases.Trash(ctx, c.owner, cursor, MaxPage)
		if err != nil {
			return nil, err
		}
		for _, al := range page {
			if al.Address == addr {
				return al, nil
			}
		}
		if next == "" {
			return nil, none
		}
		cursor = next
	}
}
