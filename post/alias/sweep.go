package alias

import (
	"context"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/names"
	"postern.email/post/seal"
	"postern.email/store"
)

// Run does the housekeeping until ctx ends: every FlushEvery it writes how many mails were refused,
// and every SweepEvery it makes tombstones of aliases that were deleted UndoDays ago, deletes what
// Options say, and ends what a crash left half. It gives nil when ctx has ended.
func (a *Aliases) Run(ctx context.Context) error {
	flush := time.NewTicker(a.o.FlushEvery)
	defer flush.Stop()
	sweep := time.NewTicker(a.o.SweepEvery)
	defer sweep.Stop()
	a.sweepAndLog(ctx)
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlush)
			defer cancel()
			a.logged(a.flush(last))
			return nil
		case <-a.o.Store.Failed():
			<-ctx.Done()
			return nil
		case <-flush.C:
			a.logged(a.flush(ctx))
		case <-sweep.C:
			a.sweepAndLog(ctx)
		}
	}
}

// lastFlush bounds how long the counts of refused mails may keep the end of the server waiting.
const lastFlush = 2 * time.Second

func (a *Aliases) logged(err error) {
	if err != nil && !is(err, errs.Canceled) {
		a.o.Logger.Warn("housekeeping of aliases did not end; it is tried again", "kind", errs.KindOf(err).Error())
		a.o.Logger.Debug("housekeeping of aliases did not end", "err", err)
	}
}

func (a *Aliases) sweepAndLog(ctx context.Context) {
	n, err := a.Sweep(ctx)
	a.logged(err)
	if n != (Swept{}) {
		a.o.Logger.Info("housekeeping of aliases", "deleted", n.Deleted, "buried", n.Buried, "owners", n.Owners, "leftovers", n.Leftovers)
	}
}

// Swept counts what a sweep did.
type Swept struct {
	Deleted   int // aliases that had ended, or were never used
	Buried    int // deleted ones that cannot be restored any more
	Owners    int // that were not here for long
	Leftovers int // of a crash
}

// Sweep does at once what Run does every SweepEvery.
func (a *Aliases) Sweep(ctx context.Context) (n Swept, err error) {
	const op = "post/alias.Sweep"
	err = a.eachOwner(ctx, func(owner Owner) error { return a.sweepOwner(ctx, owner, &n) })
	if err == nil {
		err = a.sweepNames(ctx, &n)
	}
	if err == nil {
		err = a.sweepPlaces(ctx, &n)
	}
	a.orphans.turn()
	if n != (Swept{}) {
		a.o.Deleted()
	}
	return n, errs.Wrap(op, err)
}

func (a *Aliases) sweepOwner(ctx context.Context, owner Owner, n *Swept) error {
	rec, err := a.ownerOf(ctx, owner, a.getRecord)
	if is(err, errs.NotFound) { // DeleteOwner was cut off
		if !a.ripe("o" + owner.String()) {
			return nil
		}
		n.Leftovers++
		return a.DeleteOwner(ctx, owner)
	}
	if err == nil && rec.ended {
		if left, err := a.remains(ctx, owner); err != nil || !left || !a.ripe("o"+owner.String()) {
			return err
		}
		n.Leftovers++
		return a.EndOwner(ctx, owner)
	}
	if is(err, errs.Corrupt) {
		return nil // Check names it
	}
	if err != nil {
		return err
	}
	now := DayOf(a.o.Now())
	used := rec.seen
	err = a.eachStored(ctx, owner, nil, func(s stored) (bool, error) {
		if s.err != nil {
			return true, nil
		}
		used = max(used, s.state.last)
		return true, a.sweepAlias(ctx, owner, s, n)
	})
	if err != nil || a.o.OwnerIdleDays == 0 || rec.target.IsZero() || len(rec.wrapped) > 0 || int64(now)-int64(used) <= int64(a.o.OwnerIdleDays) {
		return err
	}
	n.Owners++
	return a.DeleteOwner(ctx, owner)
}

func (a *Aliases) sweepAlias(ctx context.Context, owner Owner, s stored, n *Swept) error {
	if a.overdue(s.rules) {
		n.Buried++
		return a.forget(ctx, owner, s.rules.addr)
	}
	if s.rules.deleted == 0 && a.uselessNow(owner, s.rules, s.state) {
		ok, err := a.remove(ctx, owner, s.rules.addr, func(rs *rules, st *state) bool { return a.uselessNow(owner, rs, st) })
		if ok {
			n.Deleted++
		}
		if is(err, errs.NotFound) {
			err = nil
		}
		return err
	}
	if err := a.sweepSent(ctx, owner, s); err != nil || !s.rules.derived {
		return err
	}
	// The name of one that was stored with its first mail, where that had another log.
	_, err := a.o.Names.Lookup(ctx, s.rules.addr)
	if !is(err, errs.NotFound) {
		return err
	}
	n.Leftovers++
	return a.o.Store.Update(ctx, a.o.Names.Shard(s.rules.addr), func(tx store.Tx) error { return a.claim(tx, owner, s.rules.addr) })
}

// uselessNow reports whether an alias is to be deleted by EndedDays or UnusedDays.
func (a *Aliases) uselessNow(owner Owner, rs *rules, st *state) bool {
	al := a.aliasOf(owner, rs, st)
	now := a.o.Now()
	if why := al.Ended(now); why != "" && a.o.EndedDays > 0 && int64(DayOf(now))-int64(al.endDay(why)) > int64(a.o.EndedDays) {
		return true
	}
	return a.o.UnusedDays > 0 && al.Last == 0 && int64(DayOf(now))-int64(al.active()) > int64(a.o.UnusedDays)
}

// forget makes the name of a deleted alias a tombstone and removes what was kept to restore it.
func (a *Aliases) forget(ctx context.Context, owner Owner, addr mail.Address) error {
	p := place(a.o.Root.AliasPlace(owner, addr))
	defer a.cache.forget(addr)
	still := func(r store.Reader) error {
		rs, err := a.getRules(r, owner, p)
		if err == nil && !a.overdue(rs) {
			err = errs.E("post/alias.forget", errs.NotFound, "", nil) // restored meanwhile
		}
		return err
	}
	// Nobody restores it between the two: it is overdue for good.
	err := a.o.Store.View(ctx, owner.Shard(), still)
	if err == nil {
		err = a.bury(ctx, owner, addr)
	}
	if err == nil {
		err = a.o.Store.Update(ctx, owner.Shard(), func(tx store.Tx) error {
			if err := still(tx); err != nil {
				return err
			}
			return tx.DeleteRange(aliasPrefix(owner, p), store.Behind(aliasPrefix(owner, p)))
		})
	}
	if is(err, errs.NotFound) {
		return nil
	}
	return err
}

// sweepNames makes tombstones of names of aliases that lead nowhere: what a crash between two logs
// left.
func (a *Aliases) sweepNames(ctx context.Context, n *Swept) error {
	return a.o.Names.Walk(ctx, names.Place{}, func(s names.Stored) (bool, error) {
		if s.Err != nil || s.Kind != names.Alias {
			return true, nil
		}
		led, err := a.leads(ctx, s)
		if err != nil || led || !a.ripe("n"+string(s.Key[:])) {
			return true, err
		}
		n.Leftovers++
		return true, a.o.Store.Update(ctx, s.Shard, func(tx store.Tx) error {
			now, err := a.o.Names.GetAt(tx, s.Place)
			if is(err, errs.NotFound) || err == nil && now != s.Record {
				return nil
			}
			if err != nil {
				return err
			}
			return a.o.Names.SetAt(tx, s.Place, names.Record{Kind: names.GoneAlias, ID: s.ID, Day: DayOf(a.o.Now())})
		})
	})
}

// leads reports whether the name of an alias leads to one.
func (a *Aliases) leads(ctx context.Context, s names.Stored) (led bool, err error) {
	key := rulesKey(s.ID, place(a.o.Root.AliasPlaceOf(s.ID, s.Key)))
	err = a.o.Store.View(ctx, s.ID.Shard(), func(r store.Reader) error {
		_, err := r.Get(key)
		led = err == nil
		if is(err, errs.NotFound) {
			return nil
		}
		return err
	})
	return led, err
}

// sweepPlaces removes what a token finds where its owner does not list it.
func (a *Aliases) sweepPlaces(ctx context.Context, n *Swept) error {
	return a.eachPlace(ctx, func(p tokenPlace) error {
		if p.err != nil {
			return nil
		}
		listed, err := a.listed(ctx, p)
		if err != nil || listed || !a.ripe("h"+string(p.at[:])) {
			return err
		}
		n.Leftovers++
		return a.o.Store.Update(ctx, p.shard, func(tx store.Tx) error { return tx.Delete(placeKey(p.at)) })
	})
}

// tokenPlace is what a token finds, as it lies in the store.
type tokenPlace struct {
	shard store.Shard
	at    [placeLen]byte
	rec   *placeRecord
	err   error
}

// eachPlace calls fn for everything that tokens find, outside of any transaction.
func (a *Aliases) eachPlace(ctx context.Context, fn func(tokenPlace) error) error {
	shards, err := a.o.Store.Occupied(ctx)
	if err != nil {
		return err
	}
	for _, s := range shards {
		for start := []byte{letterToken}; start != nil; {
			var page []tokenPlace
			var next []byte
			err := a.o.Store.View(ctx, s, func(r store.Reader) error {
				page, next = nil, nil
				return r.Scan(start, []byte{letterToken + 1}, func(k, v []byte) (bool, error) {
					if len(page) == walkPage {
						next = append([]byte(nil), k...)
						return false, nil
					}
					p := tokenPlace{shard: s}
					if len(k) != 1+placeLen {
						p.err = errs.E("post/alias.eachPlace", errs.Corrupt, "", nil)
					} else {
						p.at = [placeLen]byte(k[1:])
						var plain []byte
						if plain, p.err = a.o.Root.Open(seal.PurposeAliasToken, k, v); p.err == nil {
							p.rec, p.err = decodePlace(plain)
						}
					}
					page = append(page, p)
					return true, nil
				})
			})
			if err != nil {
				return err
			}
			for _, p := range page {
				if err := fn(p); err != nil {
					return err
				}
			}
			start = next
		}
	}
	return nil
}

// listed reports whether a token is among those of its owner.
func (a *Aliases) listed(ctx context.Context, p tokenPlace) (listed bool, err error) {
	err = a.o.Store.View(ctx, p.rec.owner.Shard(), func(r store.Reader) error {
		tok, err := a.getToken(r, p.rec.owner, p.rec.id)
		listed = err == nil && tok.place == p.at
		if is(err, errs.NotFound) || is(err, errs.Corrupt) { // Check names the latter
			listed = listed || is(err, errs.Corrupt)
			return nil
		}
		return err
	})
	return listed, err
}

// orphans remembers when housekeeping saw first what looks like the rest of a crash: what is just
// being made, here or in another process, looks the same for a moment.
type orphans struct {
	mu    sync.Mutex
	first map[string]time.Time
	seen  map[string]struct{} // in this sweep
}

// maxOrphans bounds how many are remembered; the others wait for the next sweep.
const maxOrphans = 10000

// ripe reports whether what was seen has been there for OrphanAge.
func (a *Aliases) ripe(what string) bool {
	o := &a.orphans
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.first == nil {
		o.first = make(map[string]time.Time)
	}
	if o.seen == nil {
		o.seen = make(map[string]struct{})
	}
	now := a.o.Now()
	first, known := o.first[what]
	if !known && len(o.first) < maxOrphans {
		o.first[what], first, known = now, now, true
	}
	if known {
		o.seen[what] = struct{}{}
	}
	return known && now.Sub(first) >= a.o.OrphanAge
}

// turn forgets, at the end of a sweep, what was not seen in it.
func (o *orphans) turn() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for k := range o.first {
		if _, ok := o.seen[k]; !ok {
			delete(o.first, k)
		}
	}
	o.seen = nil
}

// aliasID names an alias for the counts of refused mails.
type aliasID struct {
	owner Owner
	addr  mail.Address
}

// refusals counts refused mails until they are written.
type refusals struct {
	mu     sync.Mutex
	counts map[aliasID]uint32
}

// add counts a refused mail, of at most so many aliases.
func (f *refusals) add(al *Alias, most int) {
	if !al.Stored {
		return
	}
	id := aliasID{al.Owner, al.Address}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.counts[id]; ok || len(f.counts) < most {
		f.counts[id]++
	}
}

// flush writes the counts of refused mails. Those that could not be written are lost: they are
// there to show an owner that something happens, not how much to the last mail.
func (a *Aliases) flush(ctx context.Context) error {
	a.refuse.mu.Lock()
	counts := a.refuse.counts
	if len(counts) > 0 {
		a.refuse.counts = make(map[aliasID]uint32)
	}
	a.refuse.mu.Unlock()
	for id, n := range counts {
		p := place(a.o.Root.AliasPlace(id.owner, id.addr))
		err := a.o.Store.Update(ctx, id.owner.Shard(), func(tx store.Tx) error {
			if _, err := tx.Get(rulesKey(id.owner, p)); err != nil {
				return err
			}
			st, err := a.getState(tx, id.owner, p)
			if err != nil {
				return err
			}
			st.refused += n
			return a.set(tx, seal.PurposeAliasRules, stateKey(id.owner, p), st.encode())
		})
		a.cache.forget(id.addr)
		if err != nil && !is(err, errs.NotFound) && !is(err, errs.Corrupt) {
			return errs.Wrap("post/alias.flush", err)
		}
	}
	return nil
}
