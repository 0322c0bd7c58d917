package aliases

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/aliasname"
	"postern.email/post/alias"
	wire "postern.email/wire/alias"
)

// MaxImport bounds the aliases of one call of Import.
const MaxImport = 1000

// Export gives every alias of the owner in full, with its correspondents.
func (d *Desk) Export(ctx context.Context, w Who, emit func(View) error) error {
	c, err := d.enter(ctx, w, alias.ScopeList)
	if err != nil {
		return err
	}
	defer c.close()
	if c.vault == nil {
		return nil
	}
	return d.each(ctx, c.owner, func(al *alias.Alias) error {
		v, err := d.view(c.vault, al)
		if err != nil {
			return err
		}
		return emit(v)
	})
}

// ImportResult tells what became of the aliases that were to be taken over.
type ImportResult struct {
	Made   int            `json:"made"`
	Yours  int            `json:"yours"` // that were there already and the owner's, and stay as they are
	Failed []ImportFailed `json:"failed"`
}

// ImportFailed is an alias that was not taken over.
type ImportFailed struct {
	Address string `json:"address"`
	Text    string `json:"text"`
}

// Import makes aliases that the owner had elsewhere, or exported here: with the same local
// part, in domain, or in their own domain if it is one of ours. Of a View counts what an owner
// can set. One that cannot be made keeps no other from being made; one that the owner has already stays as it is, so
// that an import that was cut off can be run again. Imports wait for each other. It is for the operator: the limits of
// creation do not hold.
func (d *Desk) Import(ctx context.Context, w Who, domain string, in []View) (r ImportResult, err error) {
	const op = "agent/aliases.Import"
	r.Failed = []ImportFailed{}
	if len(in) > MaxImport {
		return r, errs.E(op, errs.TooLarge, textTooMany, nil)
	}
	if domain != "" {
		if domain, err = d.domain(domain); err != nil {
			return r, err
		}
	}
	c, err := d.enter(ctx, w, alias.ScopeCreate|alias.ScopeManage)
	if err != nil {
		return r, err
	}
	defer c.close()
	// Of two at once one would find names that the other has claimed and not made an alias of yet.
	select {
	case d.importing <- struct{}{}:
		defer func() { <-d.importing }()
	case <-ctx.Done():
		return r, errs.E(op, errs.Canceled, "", ctx.Err())
	}
	if err := d.begin(ctx, c); err != nil {
		return r, err
	}
	for i := range in {
		yours, err := d.importOne(ctx, c, domain, &in[i])
		switch kind := errs.KindOf(err); {
		case err == nil && yours:
			r.Yours++
		case err == nil:
			r.Made++
		case kind == errs.Canceled || kind == errs.Unavailable || kind == errs.NoSpace || kind == errs.Internal:
			d.mapped(ctx) // of those that were made; what ended it is told
			return r, err
		default:
			text := errs.Public(err)
			if kind == errs.Exists {
				text = textTaken
			}
			r.Failed = append(r.Failed, ImportFailed{in[i].Address, text})
		}
	}
	return r, d.mapped(ctx)
}

// importOne makes one; yours: it is there, and the owner's.
func (d *Desk) importOne(ctx context.Context, c *caller, domain string, v *View) (yours bool, err error) {
	addr, err := mail.ParseAddress(v.Address)
	if err != nil {
		return false, errs.E("agent/aliases.importOne", errs.Invalid, textTarget, err)
	}
	req := CreateRequest{Domain: domain, Site: v.Site, Label: v.Label, Note: v.Note, Mode: v.Mode, Class: v.Class, Expires: v.Expires, MaxMails: v.MaxMails, IdleDays: v.IdleDays}
	if domain == "" {
		req.Domain = addr.Canonical().Domain
	}
	n, err := d.form(req)
	if err != nil {
		return false, err
	}
	if n.Local, err = aliasname.Custom(addr.Local); err != nil {
		return false, err
	}
	if err := d.o.Beside.custom(ctx, n); err != nil {
		return false, err
	}
	rules := changesOf(v)
	if err := checkSenders(rules); err != nil {
		return false, err
	}
	ch, err := d.change(rules)
	if err != nil {
		return false, err
	}
	if ctx.Err() != nil {
		return false, errs.E("agent/aliases.importOne", errs.Canceled, "", ctx.Err())
	}
	ctx = context.WithoutCancel(ctx) // whoever hangs up leaves no alias without its rules
	al, err := d.o.Aliases.Create(ctx, c.vault, n)
	if kind := errs.KindOf(err); kind == errs.Exists || kind == errs.Full {
		if had, lerr := d.o.Aliases.Lookup(ctx, mail.Address{Local: n.Local, Domain: n.Domain}); lerr == nil && had.Owner == c.owner {
			return true, nil
		}
	}
	if err != nil {
		return false, err
	}
	_, err = d.o.Aliases.Change(ctx, c.vault, al.Address, ch)
	switch errs.KindOf(err) {
	case errs.Full, errs.Conflict: // it is there, for its owner to look after
		return false, errs.E("agent/aliases.importOne", errs.KindOf(err), fmt.Sprintf(textRules, errs.Public(err)), err)
	}
	return false, err
}

// checkSenders looks at rules about senders before there is an alias for them: its name could not be
// given back.
func checkSenders(r ChangeRequest) error {
	senders := slices.Concat(r.Allow, r.Block)
	if r.Pin != nil {
		senders = append(senders, *r.Pin)
	}
	for _, s := range senders {
		if err := alias.CheckSender(s); err != nil {
			return err
		}
	}
	return nil
}

// changesOf gives what of a View is no part of a CreateRequest.
func changesOf(v *View) (r ChangeRequest) {
	paused := v.State == wire.StatePaused
	r.Paused = &paused
	for _, p := range v.Correspondents {
		switch p.State {
		case wire.SenderAllowed:
			r.Allow = append(r.Allow, p.Address)
		case wire.SenderBlocked:
			r.Block = append(r.Block, p.Address)
		case wire.SenderPinned:
			if strings.EqualFold(v.Mode, wire.ModePinned) {
				r.Pin = &p.Address
			}
		}
	}
	return r
}

// Evidence makes a file that shows who passed an alias on (docs/aliases-evidence.md). The mails
// that it is made of are sealed to the account: it takes address and password, not a token.
// errs.Unsupported where there are no mailboxes.
func (d *Desk) Evidence(ctx context.Context, w Who, address string) (json.RawMessage, error) {
	const op = "agent/aliases.Evidence"
	if d.o.Evidence == nil {
		return nil, errs.E(op, errs.Unsupported, textNoEvidence, nil)
	}
	c, err := d.enter(ctx, w, alias.ScopeList)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if c.session == nil {
		return nil, errs.E(op, errs.Denied, textPassword, nil)
	}
	addr, err := d.address(address)
	if err != nil {
		return nil, err
	}
	al, err := d.mine(ctx, c, addr)
	if err != nil {
		return nil, err
	}
	return d.o.Evidence(ctx, c.session, c.vault, al)
}
