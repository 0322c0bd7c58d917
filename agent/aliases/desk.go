package aliases

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/mail"
	"postern.email/mail/aliasname"
	"postern.email/post/account"
	"postern.email/post/alias"
	wire "postern.email/wire/alias"
)

// The shapes of requests and answers are those of the HTTP interface (docs/aliases.md): one
// owner, whichever the door.
type (
	Who           = wire.Who
	View          = wire.View
	Correspondent = wire.Correspondent
	CreateRequest = wire.CreateRequest
	ListRequest   = wire.ListRequest
	ChangeRequest = wire.ChangeRequest
	Account       = wire.Account
)

// Defaults of Options.
const (
	DefaultCreatePerMinute        = 20
	DefaultCreateBurst            = 60
	DefaultCreateNetworkPerMinute = 60
	DefaultCreateNetworkBurst     = 120
	DefaultAskPerMinute           = 600
	DefaultAskNetworkPerMinute    = 1200
	DefaultWrongPerMinute         = 6
	DefaultWrongBurst             = 12
	DefaultKeys                   = 100_000

	// MaxPage bounds a page of a list, MaxScan the aliases that one search opens.
	MaxPage = 1000
	MaxScan = 2000
	// drawTries is how often a handle is drawn before the server gives up: with the smallest
	// space, that of a site's name, and 100,000 aliases of one site, eight in a row are taken
	// once in 10^18.
	drawTries = 8
)

// Options of a Desk. Aliases is needed; zero values stand for the defaults. A negative rate is
// no limit.
type Options struct {
	Aliases  *alias.Aliases
	Accounts *account.Accounts // nil: there are none, as beside a Postfix
	Domains  []string          // of aliases, first the default
	Style    aliasname.Style   // of handles, when a request says none; StyleWords
	// Cleartext is the operator's switch: owners may have aliases of class open-mail. It is then
	// the class of new ones, since hardly a site encrypts what it sends.
	Cleartext bool
	// Elsewhere: owners without an account here may be made, whose mail goes to an address
	// elsewhere.
	Elsewhere bool
	// Beside: a mail server of another kind delivers. nil: this one does.
	Beside *Beside

	CreatePerMinute, CreateBurst               int // aliases that one owner makes
	CreateNetworkPerMinute, CreateNetworkBurst int // that one network makes
	AskPerMinute, AskNetworkPerMinute          int // requests of all kinds, of one owner and one network; a minute's may come at once
	WrongPerMinute, WrongBurst                 int // wrong tokens and passwords from one network
	Keys                                       int // owners and networks remembered for each limit

	MaxPerOwner int // aliases of one owner, as told to owners; alias.DefaultMaxPerOwner

	// Map is called after each change that the map of a Postfix shows. Its error is told, but
	// nothing is undone. nil: there is none.
	Map func(ctx context.Context) error
	// CheckTarget refuses an address elsewhere, before it becomes an owner's. nil: any.
	CheckTarget func(ctx context.Context, target mail.Address) error
	// NewTarget is called when an owner has got an address elsewhere, or another one: it is asked whether
	// it agrees. network is whose request it was, "" for one over the control socket. nil: nobody is asked.
	NewTarget func(ctx context.Context, owner alias.Owner, network string)

	// Evidence makes the file that shows who passed an alias on, from the mailbox of the account.
	// nil: there are no mailboxes.
	Evidence func(ctx context.Context, s *account.Session, v *alias.Vault, al *alias.Alias) (json.RawMessage, error)

	// Base gives where the pages are found from outside, "https://example.org", for links that
	// set clients up; "": nowhere. nil: the same.
	Base func() string

	Now    func() time.Time // default time.Now
	Rand   io.Reader        // default crypto/rand.Reader
	Logger *slog.Logger     // default: discards
}

// Desk is the desk. Its methods may be called by many goroutines. It is a wire/alias.Backend.
type Desk struct {
	o Options

	create, createNetwork *limits.GCRA
	ask, askNetwork       *limits.GCRA
	wrong                 *limits.GCRA

	importing chan struct{} // has room for the one import that is under way
}

var _ wire.Backend = (*Desk)(nil)

// New makes a Desk. errs.Invalid for options that make no sense.
func New(o Options) (*Desk, error) {
	const op = "agent/aliases.New"
	if o.Aliases == nil || len(o.Domains) == 0 {
		return nil, errs.E(op, errs.Invalid, "aliases and a domain are needed", nil)
	}
	style, err := aliasname.ParseStyle(string(o.Style))
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	o.Style = style
	for _, v := range []struct {
		to *int
		d  int
	}{{&o.CreatePerMinute, DefaultCreatePerMinute}, {&o.CreateBurst, DefaultCreateBurst},
		{&o.CreateNetworkPerMinute, DefaultCreateNetworkPerMinute}, {&o.CreateNetworkBurst, DefaultCreateNetworkBurst},
		{&o.AskPerMinute, DefaultAskPerMinute}, {&o.AskNetworkPerMinute, DefaultAskNetworkPerMinute},
		{&o.WrongPerMinute, DefaultWrongPerMinute}, {&o.WrongBurst, DefaultWrongBurst}, {&o.Keys, DefaultKeys}, {&o.MaxPerOwner, alias.DefaultMaxPerOwner}} {
		if *v.to == 0 {
			*v.to = v.d
		}
	}
	if o.Map == nil {
		o.Map = func(context.Context) error { return nil }
	}
	if o.CheckTarget == nil {
		o.CheckTarget = func(context.Context, mail.Address) error { return nil }
	}
	if o.NewTarget == nil {
		o.NewTarget = func(context.Context, alias.Owner, string) {}
	}
	if o.Base == nil {
		o.Base = func() string { return "" }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Desk{o: o, importing: make(chan struct{}, 1)}
	d.create = limits.NewGCRA(o.CreatePerMinute, o.CreateBurst, o.Keys, o.Now)
	d.createNetwork = limits.NewGCRA(o.CreateNetworkPerMinute, o.CreateNetworkBurst, o.Keys, o.Now)
	d.ask = limits.NewGCRA(o.AskPerMinute, o.AskPerMinute, o.Keys, o.Now)
	d.askNetwork = limits.NewGCRA(o.AskNetworkPerMinute, o.AskNetworkPerMinute, o.Keys, o.Now)
	d.wrong = limits.NewGCRA(o.WrongPerMinute, o.WrongBurst, o.Keys, o.Now)
	return d, nil
}

// domain gives the canonical domain that a request names; "" is the default.
func (d *Desk) domain(text string) (string, error) {
	if text == "" {
		return d.o.Domains[0], nil
	}
	for _, have := range d.o.Domains {
		if strings.EqualFold(have, text) {
			return have, nil
		}
	}
	return "", errs.E("agent/aliases.domain", errs.Invalid, textDomain, nil)
}
