package aliases

import (
	"context"
	"encoding/json"

	"postern.email/kit/errs"
	wire "postern.email/wire/alias"
	"postern.email/wire/control"
)

// Args are the arguments of Commands and TargetCommands; each reads its own part. Token, or Login and
// Password, is the credential.
type Args struct {
	Token    string `json:"token,omitempty"`
	Login    string `json:"login,omitempty"`
	Password string `json:"password,omitempty"`

	Address string         `json:"address,omitempty"` // of an alias; of owner.new and owner.target: where its mail goes
	Create  *CreateRequest `json:"create,omitempty"`  // of new
	Change  *ChangeRequest `json:"change,omitempty"`  // of change

	Cursor  string `json:"cursor,omitempty"`
	Limit   int    `json:"limit,omitempty"`
	Search  string `json:"search,omitempty"`
	Site    string `json:"site,omitempty"`
	Deleted bool   `json:"deleted,omitempty"` // of list: those that can be restored, and no others

	ID     string   `json:"id,omitempty"`     // of token.revoke
	Name   string   `json:"name,omitempty"`   // of token.new
	Scopes []string `json:"scopes,omitempty"` // of token.new; none are all
	Import []View   `json:"import,omitempty"` // of import
	Domain string   `json:"domain,omitempty"` // of import: in which the aliases are made; "": their own

	Key string `json:"key,omitempty"` // of target.key: an OpenPGP key in ASCII armor; "": none any more
	To  string `json:"to,omitempty"`  // of target.reverse: to whom is to be written
}

func (a *Args) who() Who { return Who{Token: a.Token, Login: a.Login, Password: a.Password} }

// Page is the answer of list.
type Page struct {
	Aliases []View `json:"aliases"`
	Next    string `json:"next,omitempty"`
}

// Fresh is the answer of what makes a token.
type Fresh struct {
	Token string `json:"token"`
	ID    string `json:"id,omitempty"`
	// Link sets the browser add-on up, for who opens it; "": there are no pages.
	Link string `json:"link,omitempty"`
}

// link is Fresh.Link: what follows # no browser sends.
func (d *Desk) link(token string) string {
	base := d.o.Base()
	if base == "" || token == "" {
		return ""
	}
	return wire.ConnectLink(base, token)
}

// Commands are the commands of the control socket: the same beside a Postfix and in a relay.
// stop ends the service; nil: it does nothing.
func Commands(d *Desk, stop func()) map[string]control.Handler {
	done := func(err error) (struct{}, error) { return struct{}{}, err }
	create := func(a Args) CreateRequest {
		if a.Create == nil {
			return CreateRequest{}
		}
		return *a.Create
	}
	return map[string]control.Handler{
		"alias.new": control.With(func(ctx context.Context, a Args) (View, error) { return d.Create(ctx, a.who(), create(a)) }),
		"alias.list": control.With(func(ctx context.Context, a Args) (p Page, err error) {
			p.Aliases, p.Next, err = d.List(ctx, a.who(), ListRequest{Cursor: a.Cursor, Limit: a.Limit, Search: a.Search, Site: a.Site, Deleted: a.Deleted})
			return p, err
		}),
		"alias.show": control.With(func(ctx context.Context, a Args) (View, error) { return d.Get(ctx, a.who(), a.Address) }),
		"alias.change": control.With(func(ctx context.Context, a Args) (View, error) {
			if a.Change == nil {
				return View{}, errs.E("agent/aliases.Commands", errs.Invalid, textNothing, nil)
			}
			return d.Change(ctx, a.who(), a.Address, *a.Change)
		}),
		"alias.delete":  control.With(func(ctx context.Context, a Args) (struct{}, error) { return done(d.Delete(ctx, a.who(), a.Address)) }),
		"alias.restore": control.With(func(ctx context.Context, a Args) (View, error) { return d.Restore(ctx, a.who(), a.Address) }),
		"alias.stats":   control.With(func(ctx context.Context, a Args) (Stats, error) { return d.Stats(ctx, a.who()) }),
		"alias.account": control.With(func(ctx context.Context, a Args) (Account, error) { return d.Account(ctx, a.who()) }),
		"alias.export": func(ctx context.Context, raw json.RawMessage, progress func(any) error) (any, error) {
			var a Args
			if err := control.Args(raw, &a); err != nil {
				return nil, err
			}
			n := 0
			err := d.Export(ctx, a.who(), func(v View) error { n++; return progress(v) })
			return n, err
		},
		"alias.import": control.With(func(ctx context.Context, a Args) (ImportResult, error) {
			return d.Import(ctx, a.who(), a.Domain, a.Import)
		}),
		"alias.evidence": control.With(func(ctx context.Context, a Args) (json.RawMessage, error) {
			return d.Evidence(ctx, a.who(), a.Address)
		}),
		"alias.owner.new": control.With(func(ctx context.Context, a Args) (f Fresh, err error) {
			f.Token, err = d.NewOwner(ctx, a.who(), a.Address)
			f.Link = d.link(f.Token)
			return f, err
		}),
		"alias.owner.target": control.With(func(ctx context.Context, a Args) (struct{}, error) { return done(d.SetTarget(ctx, a.who(), a.Address)) }),
		"alias.owner.delete": control.With(func(ctx context.Context, a Args) (struct{}, error) { return done(d.DeleteOwner(ctx, a.who())) }),
		"alias.token.new": control.With(func(ctx context.Context, a Args) (f Fresh, err error) {
			f.Token, f.ID, err = d.AddToken(ctx, a.who(), a.Scopes, a.Name)
			f.Link = d.link(f.Token)
			return f, err
		}),
		"alias.token.list":   control.With(func(ctx context.Context, a Args) ([]Token, error) { return d.Tokens(ctx, a.who()) }),
		"alias.token.revoke": control.With(func(ctx context.Context, a Args) (struct{}, error) { return done(d.RevokeToken(ctx, a.who(), a.ID)) }),
		"alias.token.rotate": control.With(func(ctx context.Context, a Args) (f Fresh, err error) {
			f.Token, err = d.RotateToken(ctx, a.who())
			f.Link = d.link(f.Token)
			return f, err
		}),
		"alias.stop": control.With(func(context.Context, Args) (struct{}, error) {
			if stop != nil {
				stop()
			}
			return struct{}{}, nil
		}),
	}
}
