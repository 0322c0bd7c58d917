package alias

import (
	"bytes"
	"context"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/seal"
	"postern.email/store"
)

// Change is what can be changed of an alias: it holds what is, and what the function that was given
// to Aliases.Change leaves is what will be.
type Change struct {
	Paused    bool
	Mode      Mode
	PinDomain bool
	Class     Class
	Expires   time.Time
	MaxMails  uint32
	IdleDays  uint16
	Notes     Notes // Correspondents are not looked at

	Pin    string   // who is pinned from now on, an address or "@domain"; "": as it is
	Unpin  bool     // nobody is pinned, the next sender will be
	Allow  []string // addresses or "@domain"s that are allowed from now on
	Block  []string // that are blocked from now on
	Forget []string // of which nothing is remembered from now on

	now     time.Time
	extends bool
}

// Extend puts the ends of an alias off: its date by d from what it was or from now, whichever is
// later; its count and its idleness begin anew.
func (c *Change) Extend(d time.Duration) {
	c.extends = true
	if c.Expires.IsZero() {
		return
	}
	if c.Expires.Before(c.now) {
		c.Expires = c.now
	}
	c.Expires = c.Expires.Add(d)
}

// maxTurns bounds how often a change is tried that others are faster than.
const maxTurns = 8

// Change changes an alias of the vault's owner; fn may be called several times. errs.NotFound when
// the owner has no such alias, errs.Invalid and errs.TooLarge for values that cannot be,
// errs.Full when there is no room for more rules. A derived alias is stored by it.
func (a *Aliases) Change(ctx context.Context, v *Vault, addr mail.Address, fn func(*Change)) (*Alias, error) {
	const op = "post/alias.Change"
	for range maxTurns {
		al, err := a.changeOnce(ctx, v, addr.Mailbox(), fn)
		if is(err, errs.Conflict) {
			continue
		}
		return al, errs.Wrap(op, err)
	}
	return nil, errs.E(op, errs.Conflict, textChangedFast, nil)
}

func (a *Aliases) changeOnce(ctx context.Context, v *Vault, addr mail.Address, fn func(*Change)) (*Alias, error) {
	const op = "post/alias.changeOnce"
	al, was, err := a.mine(ctx, v, addr)
	if err != nil {
		return nil, err
	}
	if was.deleted != 0 {
		return nil, errs.E(op, errs.NotFound, textNoAlias, nil)
	}
	c := &Change{Paused: was.paused, Mode: was.mode, PinDomain: was.pinDomain, Class: was.class, Expires: al.Expires, MaxMails: was.maxMails,
		IdleDays: was.idleDays, now: a.o.Now()}
	if c.Notes, err = v.notes(al); err != nil {
		return nil, err
	}
	notes := c.Notes
	fn(c)
	rs, err := a.changed(al, was, c)
	if err != nil {
		return nil, err
	}
	p := al.place()
	if n := c.Notes; n.Site != notes.Site || n.Label != notes.Label || n.Note != notes.Note {
		if rs.notes, err = v.sealNotes(p, c.Notes); err != nil {
			return nil, err
		}
	}
	people, err := c.people(al, v)
	if err != nil {
		return nil, err
	}
	if !al.Stored {
		if err := a.insert(ctx, v.Owner, p, was); is(err, errs.Exists) { // its first mail has come
			return nil, errs.E(op, errs.Conflict, "", err)
		} else if err != nil {
			return nil, err
		}
	}
	sealed, err := a.o.Root.Seal(seal.PurposeAliasRules, rulesKey(v.Owner, p), rs.encode())
	if err != nil {
		return nil, err
	}
	before := was.encode()
	var st *state
	defer a.cache.forget(addr)
	err = a.o.Store.Update(ctx, v.Owner.Shard(), func(tx store.Tx) error {
		now, err := a.getRules(tx, v.Owner, p)
		if err == nil && !bytes.Equal(now.encode(), before) || is(err, errs.NotFound) {
			return errs.E(op, errs.Conflict, "", nil)
		}
		if err != nil {
			return err
		}
		if st, err = a.getState(tx, v.Owner, p); err != nil {
			return err
		}
		if err := a.putPeople(tx, v.Owner, p, st, people); err != nil {
			return err
		}
		// A mail may have come since the alias was read.
		if c.extends && rs.base != st.received {
			r := *rs
			r.base = st.received
			return a.set(tx, seal.PurposeAliasRules, rulesKey(v.Owner, p), r.encode())
		}
		return tx.Set(rulesKey(v.Owner, p), sealed)
	})
	if err != nil {
		return nil, err
	}
	if c.extends {
		rs.base = st.received
	}
	return a.aliasOf(v.Owner, rs, st), nil
}

// changed gives the rules as they will be.
func (a *Aliases) changed(al *Alias, was *rules, c *Change) (*rules, error) {
	const op = "post/alias.changed"
	switch {
	case c.Mode >= numModes:
		return nil, errs.E(op, errs.Invalid, textMode, nil)
	case c.Class >= numClasses:
		return nil, errs.E(op, errs.Invalid, textClass, nil)
	case !c.Expires.IsZero() && !c.Expires.Equal(al.Expires) && !c.Expires.After(c.now):
		return nil, errs.E(op, errs.Invalid, textPast, nil)
	case !c.Expires.Equal(al.Expires) && c.Expires.UTC().Year() > lastYear:
		return nil, errs.E(op, errs.Invalid, textFar, nil)
	}
	if err := checkNotes(c.Notes); err != nil {
		return nil, err
	}
	rs := *was
	rs.paused, rs.mode, rs.pinDomain, rs.class, rs.maxMails, rs.idleDays = c.Paused, c.Mode, c.PinDomain, c.Class, c.MaxMails, c.IdleDays
	rs.expires = 0
	if !c.Expires.IsZero() {
		rs.expires = c.Expires.Unix()
	}
	if c.extends {
		rs.base, rs.since = al.Received, DayOf(c.now)
	}
	if c.extends || rs.expires != was.expires || rs.maxMails != was.maxMails || rs.idleDays != was.idleDays {
		rs.noticed = false // there is a new end to be told of
	}
	return &rs, nil
}

// personChange is what becomes of one correspondent.
type personChange struct {
	addr   mail.Address
	tag    tag
	set    byte
	clear  byte
	forget bool
	pin    bool // of all others the pin is taken
	unpin  bool // of everybody
	sealed []byte
}

// people prepares what a change says of correspondents.
func (c *Change) people(al *Alias, v *Vault) (list []personChange, err error) {
	add := func(texts []string, p personChange) error {
		for _, s := range texts {
			p := p
			if p.addr, err = parsePerson(s); err != nil {
				return err
			}
			p.tag = al.tagOf(p.addr)
			if p.set != 0 {
				p.set |= domainBit(p.addr)
				if p.sealed, err = sealPerson(v.key.Public(), al.Owner, al.place(), p.tag, p.addr); err != nil {
					return err
				}
			}
			list = append(list, p)
		}
		return nil
	}
	if c.Unpin {
		list = append(list, personChange{unpin: true})
	}
	var pin []string
	if c.Pin != "" {
		pin = []string{c.Pin}
	}
	for _, x := range []struct {
		texts []string
		p     personChange
	}{
		{c.Forget, personChange{forget: true}},
		{c.Allow, personChange{set: isAllowed, clear: isBlocked | isAsking}},
		{c.Block, personChange{set: isBlocked, clear: isAllowed | isAsking}},
		{pin, personChange{set: isPinned, clear: isBlocked | isAsking, pin: true}},
	} {
		if err := add(x.texts, x.p); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// putPeople changes correspondents in the state, and writes and removes their addresses.
func (a *Aliases) putPeople(tx store.Tx, owner Owner, p place, st *state, list []personChange) error {
	c := &crowd{most: a.o.MaxCorrespondents, people: st.people}
	for _, ch := range list {
		if ch.pin || ch.unpin {
			for i := range c.people {
				c.people[i].is &^= isPinned
			}
		}
		switch i := find(c.people, ch.tag); {
		case ch.unpin:
		case ch.forget:
			if i >= 0 {
				c.remove(i)
			}
		default:
			who := c.add(ch.addr, ch.tag, ch.set)
			if who == nil {
				return errs.E("post/alias.putPeople", errs.Full, textMostRules, nil)
			}
			who.is &^= ch.clear
			if _, fresh := c.added[ch.tag]; fresh {
				if err := tx.Set(personKey(owner, p, ch.tag), ch.sealed); err != nil {
					return err
				}
			}
		}
	}
	for i := len(c.people) - 1; i >= 0; i-- { // of whom nothing is left to say
		if c.people[i].is&^isDomain == 0 {
			c.remove(i)
		}
	}
	if len(list) == 0 {
		return nil
	}
	st.people = c.people
	if err := c.drop(tx, owner, p); err != nil {
		return err
	}
	return a.set(tx, seal.PurposeAliasRules, stateKey(owner, p), st.encode())
}

// Delete deletes an alias of the vault's owner. For UndoDays Restore undoes it; nobody gets its name
// ever again. A derived alias is dead for good then, although its key would still make it; of one that got no
// mail yet errs.Full after MaxDeleted others.
func (a *Aliases) Delete(ctx context.Context, v *Vault, addr mail.Address) error {
	const op = "post/alias.Delete"
	addr = addr.Mailbox()
	al, rs, err := a.mine(ctx, v, addr)
	if err == nil && rs.deleted != 0 {
		err = errs.E(op, errs.NotFound, textNoAlias, nil)
	}
	if err != nil {
		return errs.Wrap(op, err)
	}
	if !al.Stored {
		rs.deleted = DayOf(a.o.Now())
		err := a.insert(ctx, v.Owner, al.place(), rs)
		if !is(err, errs.Exists) { // else its first mail has come
			return errs.Wrap(op, err)
		}
	}
	_, err = a.remove(ctx, v.Owner, addr, nil)
	return errs.Wrap(op, err)
}

// remove marks an alias as deleted, if still (nil: yes) says so of it in the transaction.
func (a *Aliases) remove(ctx context.Context, owner Owner, addr mail.Address, still func(*rules, *state) bool) (removed bool, err error) {
	err = a.turn(ctx, owner, addr, func(rs *rules, st *state, own *ownerRecord) error {
		removed = false
		if rs.deleted != 0 {
			return errs.E("post/alias.remove", errs.NotFound, textNoAlias, nil)
		}
		if still != nil && !still(rs, st) {
			return nil
		}
		removed = true
		rs.deleted = DayOf(a.o.Now())
		own.count -= min(own.count, 1)
		own.dead++
		return nil
	})
	return removed, err
}

// Restore undoes Delete: errs.NotFound when the owner never had it or deleted it too long ago,
// errs.Full with MaxPerOwner others.
func (a *Aliases) Restore(ctx context.Context, v *Vault, addr mail.Address) (*Alias, error) {
	const op = "post/alias.Restore"
	addr = addr.Mailbox()
	if _, rs, err := a.mine(ctx, v, addr); err != nil {
		return nil, errs.Wrap(op, err)
	} else if rs.deleted == 0 {
		return nil, errs.E(op, errs.NotFound, textNoAlias, nil)
	}
	err := a.turn(ctx, v.Owner, addr, func(rs *rules, _ *state, own *ownerRecord) error {
		switch {
		case rs.deleted == 0:
			return nil
		case a.overdue(rs):
			return errs.E(op, errs.NotFound, textUndo, nil)
		case int64(own.count) >= int64(a.o.MaxPerOwner):
			return errs.E(op, errs.Full, textMost, nil)
		}
		rs.deleted = 0
		own.count++
		own.dead -= min(own.dead, 1)
		return nil
	})
	if is(err, errs.NotFound) && errs.Public(err) != textUndo {
		err = errs.E(op, errs.NotFound, textNoAlias, err)
	}
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	al, err := a.read(ctx, v.Owner, addr, true)
	return al, errs.Wrap(op, err)
}

// overdue reports whether a deleted alias cannot be restored any more.
func (a *Aliases) overdue(rs *rules) bool {
	return rs.deleted != 0 && int64(DayOf(a.o.Now()))-int64(rs.deleted) > int64(a.o.UndoDays)
}

// turn changes rules and owner's record of a stored alias in one transaction.
func (a *Aliases) turn(ctx context.Context, owner Owner, addr mail.Address, fn func(*rules, *state, *ownerRecord) error) error {
	p := place(a.o.Root.AliasPlace(owner, addr))
	defer a.cache.forget(addr)
	return a.o.Store.Update(ctx, owner.Shard(), func(tx store.Tx) error {
		rs, err := a.getRules(tx, owner, p)
		if err != nil {
			return err
		}
		st, err := a.getState(tx, owner, p)
		if err != nil {
			return err
		}
		own, err := a.getOwner(tx, owner)
		if err != nil {
			return err
		}
		if err := fn(rs, st, own); err != nil {
			return err
		}
		if err := a.set(tx, seal.PurposeAliasRules, rulesKey(owner, p), rs.encode()); err != nil {
			return err
		}
		return a.setOwner(tx, owner, own)
	})
}
