package alias

import (
	"context"
	"slices"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/aliasname"
	"postern.email/post/names"
	"postern.email/post/seal"
	"postern.email/store"
)

// Create makes an alias; it is durable when it returns. errs.Exists when the name is in use,
// errs.Denied when it was and is not given out again, errs.Full with MaxPerOwner others or after
// MaxDeleted were deleted, errs.Invalid for what cannot be one.
func (a *Aliases) Create(ctx context.Context, v *Vault, n New) (*Alias, error) {
	const op = "post/alias.Create"
	rs, err := a.newRules(n)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	p := place(a.o.Root.AliasPlace(v.Owner, rs.addr))
	if rs.notes, err = v.sealNotes(p, n.Notes); err != nil {
		return nil, errs.Wrap(op, err)
	}
	if err := a.insert(ctx, v.Owner, p, rs); err != nil {
		return nil, errs.Wrap(op, err)
	}
	return a.aliasOf(v.Owner, rs, new(state)), nil
}

// lastYear is the last that RFC 3339 can write (section 1).
const lastYear = 9999

// newRules checks what an alias is to be.
func (a *Aliases) newRules(n New) (*rules, error) {
	const op = "post/alias.newRules"
	if n.Domain == "" {
		n.Domain = a.domains[0]
	}
	addr := mail.Address{Local: n.Local, Domain: n.Domain}.Canonical()
	now := a.o.Now()
	switch {
	case !slices.Contains(a.domains, addr.Domain):
		return nil, errs.E(op, errs.Invalid, textNotOurs, nil)
	case !mail.PlainLocal(addr.Local) || len(addr.Local) > mail.MaxLocal || len(addr.Local)+1+len(addr.Domain) > mail.MaxAddress:
		return nil, errs.E(op, errs.Invalid, textForm, nil)
	case aliasname.DerivedForm(addr.Local):
		return nil, errs.E(op, errs.Denied, textDerived, nil)
	case n.Mode >= numModes:
		return nil, errs.E(op, errs.Invalid, textMode, nil)
	case n.Class >= numClasses:
		return nil, errs.E(op, errs.Invalid, textClass, nil)
	case !n.Expires.IsZero() && !n.Expires.After(now):
		return nil, errs.E(op, errs.Invalid, textPast, nil)
	case n.Expires.UTC().Year() > lastYear:
		return nil, errs.E(op, errs.Invalid, textFar, nil)
	}
	if err := checkNotes(n.Notes); err != nil {
		return nil, err
	}
	rs := &rules{addr: addr, mode: n.Mode, pinDomain: n.PinDomain, class: n.Class, created: DayOf(now), since: DayOf(now), maxMails: n.MaxMails, idleDays: n.IdleDays}
	if !n.Expires.IsZero() {
		rs.expires = n.Expires.Unix()
	}
	return rs, nil
}

// derivedRules is a derived alias of which nothing is stored yet.
func (a *Aliases) derivedRules(addr mail.Address) *rules {
	now := DayOf(a.o.Now())
	return &rules{addr: addr, derived: true, mode: a.o.DerivedMode, class: a.o.DerivedClass, created: now, since: now}
}

// insert writes a new alias and claims its name.
func (a *Aliases) insert(ctx context.Context, owner Owner, p place, rs *rules) error {
	// Where the name has another log it is claimed first: not for an owner who has no room.
	err := a.o.Store.View(ctx, owner.Shard(), func(r store.Reader) error { _, err := a.roomFor(r, owner, rs); return err })
	if err != nil {
		return err
	}
	sealed, err := a.o.Root.Seal(seal.PurposeAliasRules, rulesKey(owner, p), rs.encode())
	if err != nil {
		return err
	}
	defer a.cache.forget(rs.addr)
	return a.both(ctx, owner.Shard(), func(tx store.Tx) error { return a.putNew(tx, owner, p, rs, sealed) },
		a.o.Names.Shard(rs.addr), func(tx store.Tx) error { return a.claim(tx, owner, rs.addr) })
}

// roomFor reads an owner's record and says whether it may have another alias. Each that is deleted takes
// its name for ever, so those count, too: else one owner could fill the register of names.
func (a *Aliases) roomFor(r store.Reader, owner Owner, rs *rules) (*ownerRecord, error) {
	const op = "post/alias.roomFor"
	own, err := a.getOwner(r, owner)
	if is(err, errs.NotFound) {
		return nil, errs.E(op, errs.NotFound, textNoOwner, nil)
	}
	if err != nil {
		return nil, err
	}
	switch dead := int64(own.dead) >= int64(a.o.MaxDeleted); {
	case dead && rs.deleted != 0:
		return nil, errs.E(op, errs.Full, textMostDead, nil)
	case dead:
		return nil, errs.E(op, errs.Full, textMostDeleted, nil)
	case rs.deleted == 0 && int64(own.count) >= int64(a.o.MaxPerOwner):
		return nil, errs.E(op, errs.Full, textMost, nil)
	}
	return own, nil
}

// putNew writes the record of a new alias; tx is in its owner's shard.
func (a *Aliases) putNew(tx store.Tx, owner Owner, p place, rs *rules, sealed []byte) error {
	own, err := a.roomFor(tx, owner, rs)
	if err != nil {
		return err
	}
	if _, err := tx.Get(rulesKey(owner, p)); err == nil {
		return errs.E("post/alias.putNew", errs.Exists, textTaken, nil)
	} else if !is(err, errs.NotFound) {
		return err
	}
	if err := tx.Set(rulesKey(owner, p), sealed); err != nil {
		return err
	}
	if rs.deleted != 0 {
		own.dead++
	} else {
		own.count++
	}
	return a.setOwner(tx, owner, own)
}

// claim takes the name of a new alias; tx is in the name's shard. A name that its owner has
// already goes to it again: the alias was not written then, or putNew refuses it.
func (a *Aliases) claim(tx store.Tx, owner Owner, addr mail.Address) error {
	return a.o.Names.Claim(tx, addr, names.Record{Kind: names.Alias, ID: owner, Day: DayOf(a.o.Now())},
		func(n names.Record) bool { return n.Kind == names.Alias && n.ID == owner })
}

// bury makes the name of an alias a tombstone, for ever.
func (a *Aliases) bury(ctx context.Context, owner Owner, addr mail.Address) error {
	return a.o.Store.Update(ctx, a.o.Names.Shard(addr), func(tx store.Tx) error {
		n, err := a.o.Names.Get(tx, addr)
		switch {
		case is(err, errs.NotFound): // a derived one, whose name was never claimed
		case err != nil:
			return err
		case n.ID != owner || n.Kind != names.Alias:
			return nil
		}
		return a.o.Names.Set(tx, addr, names.Record{Kind: names.GoneAlias, ID: owner, Day: DayOf(a.o.Now())})
	})
}
