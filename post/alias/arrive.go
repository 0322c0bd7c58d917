package alias

import (
	"context"
	"errors"
	"slices"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/seal"
	"postern.email/store"
)

// Arrival is what a mail changes of an alias. Put writes it in a transaction of somebody else, so
// that mail and counts are one.
type Arrival struct {
	a       *Aliases
	al      *Alias
	now     time.Time
	from    mail.Address
	verdict Verdict
	judged  Action         // by the rules as they were
	wrote   []mail.Address // of a mail as the alias; nil: of one to it
	id      string         // Message-ID of a mail as the alias; "": it is not remembered
	sealed  map[tag][]byte // addresses, sealed for those who were not known
}

// Arrive prepares what a mail of from changes, for which v was found: it is counted, its sender is
// noted, and pinned if v says so. A derived alias is stored with its first mail. from may be
// zero: nobody is noted then.
func (a *Aliases) Arrive(al *Alias, from mail.Address, v Verdict) *Arrival {
	r := &Arrival{a: a, al: al, now: a.o.Now(), from: from, verdict: v}
	r.judged = al.Judge(from, r.now).Action
	if !from.IsZero() && (v.Action == Take || v.Action == Later) {
		who := []mail.Address{from}
		if v.Pins {
			who = append(who, al.pinOf(from))
		}
		r.prepare(who)
	}
	return r
}

// WroteTo prepares what a mail as the alias to these changes: they are expected from then on.
func (a *Aliases) WroteTo(al *Alias, to []mail.Address) *Arrival {
	r := &Arrival{a: a, al: al, now: a.o.Now(), wrote: slices.Clone(to)}
	if len(to) > a.o.MaxCorrespondents {
		r.wrote = r.wrote[:a.o.MaxCorrespondents]
	}
	r.prepare(r.wrote)
	return r
}

// prepare seals the addresses of those whom the alias does not know, so that Put need not. What it
// cannot read of the vault Put reads again, and says so.
func (r *Arrival) prepare(who []mail.Address) {
	fresh := make(map[tag]mail.Address)
	for _, addr := range who {
		if t := r.al.tagOf(addr); r.al.person(t) < 0 {
			fresh[t] = addr
		}
	}
	if len(fresh) == 0 {
		return
	}
	var pub seal.PublicKey
	err := r.a.o.Store.View(context.Background(), r.Shard(), func(rd store.Reader) (err error) {
		pub, err = getVault(rd, r.al.Owner)
		return err
	})
	if err != nil {
		return
	}
	r.sealed = make(map[tag][]byte, len(fresh))
	for t, addr := range fresh {
		r.sealed[t] = r.sealName(pub, t, addr)
	}
}

// sealName seals an address; nil when that fails.
func (r *Arrival) sealName(pub seal.PublicKey, t tag, addr mail.Address) []byte {
	b, err := sealPerson(pub, r.al.Owner, r.al.place(), t, addr)
	if err != nil {
		r.a.o.Logger.Warn("the address of a correspondent was not kept", "kind", errs.KindOf(err).Error())
	}
	return b
}

// sealPerson seals the address of a correspondent to the owner's vault.
func sealPerson(pub seal.PublicKey, owner Owner, p place, t tag, addr mail.Address) ([]byte, error) {
	return seal.SealTo(pub, purposePerson, personKey(owner, p, t), []byte(personText(addr)))
}

// Shard is where the transaction of Put must be, or reach by Tx.Other: that of the owner.
func (r *Arrival) Shard() store.Shard { return r.al.Owner.Shard() }

// Put writes it; tx is in Shard. errs.Denied when the alias has changed since it was read, so that
// the verdict does not hold any more; errs.Full when a derived alias would be one too many. It may
// run more than once.
func (r *Arrival) Put(tx store.Tx) error {
	const op = "post/alias.Put"
	owner, p := r.al.Owner, r.al.place()
	rs, err := r.a.getRules(tx, owner, p)
	if is(err, errs.NotFound) && r.al.Derived && !r.al.Stored {
		rs, err = r.store(tx, p)
	}
	if is(err, errs.NotFound) || err == nil && rs.deleted != 0 {
		return errs.E(op, errs.Denied, textVerdict, nil)
	}
	if err != nil {
		return errs.Wrap(op, err)
	}
	st, err := r.a.getState(tx, owner, p)
	if err != nil {
		return errs.Wrap(op, err)
	}
	now := r.a.aliasOf(owner, rs, st)
	c := &crowd{most: r.a.o.MaxCorrespondents, people: st.people}
	if r.wrote != nil {
		if now.Paused && !r.al.Paused {
			return errs.E(op, errs.Denied, textVerdict, nil)
		}
		r.writeTo(now, st, c)
		if r.id != "" {
			if err := r.putSent(tx, p); err != nil {
				return errs.Wrap(op, err)
			}
		}
	} else if err := r.arrive(now, st, c); err != nil {
		return errs.Wrap(op, err)
	}
	st.people = c.people
	if err := r.people(tx, now, p, c); err != nil {
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, r.a.set(tx, seal.PurposeAliasRules, stateKey(owner, p), st.encode()))
}

// arrive changes the state by a mail that came.
func (r *Arrival) arrive(now *Alias, st *state, c *crowd) error {
	// The caller may have decided otherwise than the rules for reasons of its own; but the rules
	// must still say what they said.
	if again := now.Judge(r.from, r.now).Action; again != r.judged && again != r.verdict.Action {
		return errs.E("post/alias.arrive", errs.Denied, textVerdict, nil)
	}
	t := DayOf(r.now)
	switch r.verdict.Action {
	case Take:
		st.received++
		st.last = max(st.last, t)
		if r.from.IsZero() {
			return nil
		}
		pins := r.verdict.Pins && now.pins(r.from)
		c.mailed(r.from, now.tagOf(r.from), isTaken, t)
		if pins {
			who := now.pinOf(r.from)
			c.add(who, now.tagOf(who), isPinned|domainBit(who))
		}
	case Later:
		g := now.tagOf(r.from)
		if !c.mayAsk(g, t) { // it would be asked about again with each try
			return errs.E("post/alias.arrive", errs.Denied, textVerdict, nil)
		}
		c.mailed(r.from, g, isAsking, t)
	default:
		st.refused++
	}
	return nil
}

// writeTo changes the state by a mail as the alias.
func (r *Arrival) writeTo(now *Alias, st *state, c *crowd) {
	st.sent++
	st.last = max(st.last, DayOf(r.now))
	for _, to := range r.wrote {
		c.add(to, now.tagOf(to), isWritten)
	}
}

// people writes the addresses of those who are new and removes those for whom there was no room.
// Without a vault nothing is kept of them but the tags.
func (r *Arrival) people(tx store.Tx, now *Alias, p place, c *crowd) error {
	for t, addr := range c.added {
		b, done := r.sealed[t]
		if !done { // it was known when the alias was read, or the vault could not be
			pub, err := getVault(tx, now.Owner)
			if err == nil {
				b = r.sealName(pub, t, addr)
			} else if !is(err, errs.NotFound) {
				return err
			}
		}
		if b == nil {
			continue
		}
		if err := tx.Set(personKey(now.Owner, p, t), b); err != nil {
			return err
		}
	}
	return c.drop(tx, now.Owner, p)
}

// store writes a derived alias with its first mail.
func (r *Arrival) store(tx store.Tx, p place) (*rules, error) {
	owner, addr := r.al.Owner, r.al.Address
	rs := r.a.derivedRules(addr)
	sealed, err := r.a.o.Root.Seal(seal.PurposeAliasRules, rulesKey(owner, p), rs.encode())
	if err != nil {
		return nil, err
	}
	in, err := elsewhere(tx, owner.Shard(), r.a.o.Names.Shard(addr))
	switch {
	case errors.Is(err, errTwoLogs):
		// Housekeeping claims the name. Nobody else can have it meanwhile: nothing else is made of
		// this form, and Resolve finds the alias by its owner's key.
	case err != nil:
		return nil, err
	default:
		if err := r.a.claim(in, owner, addr); err != nil {
			return nil, err
		}
	}
	return rs, r.a.putNew(tx, owner, p, rs, sealed)
}

// Committed is called when the transaction of Put was committed, or may have been.
func (r *Arrival) Committed() { r.a.cache.forget(r.al.Address) }

// Record is Put in a transaction of its own. Mails that were refused are only counted, in memory,
// and written now and then: whoever sends many of them must not make the disk work.
func (a *Aliases) Record(ctx context.Context, r *Arrival) error {
	switch r.verdict.Action {
	case Refuse, Paused, Expired:
		if r.wrote == nil {
			a.refuse.add(r.al, a.o.Cache)
			return nil
		}
	case Later: // asked about today already, or too many others were
		i := r.al.person(r.al.tagOf(r.from))
		asking := i >= 0 && r.al.people[i].is&isAsking != 0
		if asking && r.al.people[i].last == DayOf(r.now) || !asking && !r.verdict.Asks {
			return nil
		}
	}
	defer r.Committed()
	return errs.Wrap("post/alias.Record", a.o.Store.Update(ctx, r.Shard(), r.Put))
}

// MayAnswer reports whether to may be written to as the alias from elsewhere than a program that is
// logged in: mail of it was taken, or its owner wrote to it or allowed it, and did not block it.
func (a *Aliases) MayAnswer(al *Alias, to mail.Address) bool {
	if to.IsZero() {
		return false
	}
	switch al.who(to) {
	case isBlocked:
		return false
	case isAllowed:
		return true
	}
	i := al.person(al.tagOf(to))
	return i >= 0 && al.people[i].is&(isPinned|isWritten|isTaken) != 0
}

// crowd is the correspondents of an alias while they change.
type crowd struct {
	most   int
	people []person
	added  map[tag]mail.Address
	gone   []tag
}

// mailed notes a mail of somebody on day t.
func (c *crowd) mailed(addr mail.Address, g tag, as byte, t Day) {
	p := c.add(addr, g, as)
	if p == nil {
		return
	}
	if p.first == 0 {
		p.first = t
	}
	if as != isAsking || p.mails == 0 { // tries of one mail count once
		p.mails++
	}
	p.last = max(p.last, t)
}

// add notes somebody, or more of it, and gives it: now the one seen last. nil when there is no
// room beside rules of the owner.
func (c *crowd) add(addr mail.Address, g tag, as byte) *person {
	p := person{tag: g}
	if i := find(c.people, g); i >= 0 {
		p = c.people[i]
		c.people = slices.Delete(c.people, i, i+1)
	} else {
		if len(c.people) >= c.most && !c.evict() {
			return nil
		}
		if c.added == nil {
			c.added = make(map[tag]mail.Address)
		}
		c.added[g] = addr
		c.gone = slices.DeleteFunc(c.gone, func(t tag) bool { return t == g })
	}
	p.is |= as
	c.people = append(c.people, p)
	return &c.people[len(c.people)-1]
}

// evict removes the one that was seen longest ago: of those whom nobody expects first, and never
// a rule of the owner or who is pinned.
func (c *crowd) evict() bool {
	i := c.oldest()
	if i >= 0 {
		c.remove(i)
	}
	return i >= 0
}

// oldest gives the one whom evict removes; -1: there is none.
func (c *crowd) oldest() int {
	for _, keep := range []byte{isRule | isPinned | isWritten, isRule | isPinned} {
		if i := slices.IndexFunc(c.people, func(p person) bool { return p.is&keep == 0 }); i >= 0 {
			return i
		}
	}
	return -1
}

// mayAsk reports whether there is room to remember on day t that the owner was asked about somebody:
// nobody who was asked about on the same day is forgotten for that.
func (c *crowd) mayAsk(g tag, t Day) bool {
	if len(c.people) < c.most || find(c.people, g) >= 0 {
		return true
	}
	i := c.oldest()
	return i >= 0 && (c.people[i].is&isAsking == 0 || c.people[i].first != t)
}

func (c *crowd) remove(i int) {
	t := c.people[i].tag
	c.people = slices.Delete(c.people, i, i+1)
	delete(c.added, t)
	c.gone = append(c.gone, t)
}

// drop removes the addresses of those who are gone.
func (c *crowd) drop(tx store.Tx, owner Owner, p place) error {
	for _, t := range c.gone {
		if err := tx.Delete(personKey(owner, p, t)); err != nil {
			return err
		}
	}
	return nil
}

// domainBit is isDomain for a domain.
func domainBit(addr mail.Address) byte {
	if addr.Local == "" {
		return isDomain
	}
	return 0
}
