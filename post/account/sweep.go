package account

import (
	"context"
	"time"

	"postern.email/kit/errs"
	"postern.email/post/names"
	"postern.email/post/seal"
	"postern.email/store"
)

// graceTick is how often keys are looked at whose grace may be over.
const graceTick = 30 * time.Second

// maxOrphans bounds how many orphans one sweep remembers; the rest waits for the
// next one.
const maxOrphans = 10000

// Run does the housekeeping until ctx ends: it closes keys whose grace is over
// and, every SweepEvery, removes unused accounts, old tombstones, and records
// that no name points to. It gives nil when ctx has ended.
func (a *Accounts) Run(ctx context.Context) error {
	grace := time.NewTicker(graceTick)
	defer grace.Stop()
	sweep := time.NewTicker(a.o.SweepEvery)
	defer sweep.Stop()
	orphans := make(map[seal.AccountID]time.Time)
	a.sweepAndLog(ctx, orphans)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-grace.C:
			a.ring.expire()
		case <-sweep.C:
			a.sweepAndLog(ctx, orphans)
		}
	}
}

func (a *Accounts) sweepAndLog(ctx context.Context, orphans map[seal.AccountID]time.Time) {
	done, err := a.sweep(ctx, orphans)
	if err != nil && ctx.Err() == nil {
		a.o.Logger.Warn("housekeeping of accounts did not end", "kind", errs.KindOf(err).Error())
		a.o.Logger.Debug("housekeeping of accounts did not end", "cause", err)
	}
	if done != (swept{}) {
		a.o.Logger.Info("housekeeping of accounts", "inactive", done.inactive, "names", done.names, "orphans", done.orphans)
	}
}

// swept counts what a sweep has removed.
type swept struct{ inactive, names, orphans int }

// sweep removes what is due. orphans remembers between sweeps when records
// without a name were seen first: those of an account that is just being made,
// here or in another process, look the same for a moment.
func (a *Accounts) sweep(ctx context.Context, orphans map[seal.AccountID]time.Time) (done swept, err error) {
	const op = "account.sweep"
	today := DayOf(a.o.Now())
	err = a.names.Walk(ctx, names.Place{}, func(n names.Stored) (bool, error) {
		switch {
		case n.Err != nil:
			return true, nil // Check names it
		case n.Kind != names.Account:
			if a.reusable(n.Record, today) {
				ok, err := a.dropTombstone(ctx, n.Place, today)
				if ok {
					done.names++
				}
				return true, err
			}
			return true, nil
		}
		ok, err := a.removeInactive(ctx, n.ID, today)
		if ok {
			done.inactive++
		}
		return true, err
	})
	if err != nil {
		return done, errs.Wrap(op, err)
	}
	seen := make(map[seal.AccountID]bool)
	err = seal.EachAccount(ctx, a.o.Store, func(s store.Shard, id seal.AccountID) error {
		if id.Shard() != s {
			return nil // Check names it; nothing that this process wrote
		}
		ok, err := a.removeOrphan(ctx, id, orphans, seen)
		if ok {
			done.orphans++
		}
		return err
	})
	if err != nil {
		return done, errs.Wrap(op, err)
	}
	for id := range orphans {
		if !seen[id] {
			delete(orphans, id)
		}
	}
	return done, nil
}

// inactive says whether an account was not used for so long that it goes.
func (a *Accounts) inactive(i infoRecord, today Day) bool {
	last := max(i.created, i.lastLogin)
	return a.o.InactiveDays > 0 && today > last && int(today-last) > a.o.InactiveDays
}

func (a *Accounts) removeInactive(ctx context.Context, id seal.AccountID, today Day) (bool, error) {
	if a.o.InactiveDays <= 0 {
		return false, nil
	}
	rec, _, err := a.load(ctx, id)
	if is(err, errs.NotFound) || is(err, errs.Corrupt) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	still := func(i infoRecord) bool { return a.inactive(i, today) }
	if !still(infoRecord{created: rec.Created, lastLogin: rec.LastLogin}) {
		return false, nil
	}
	ok, err := a.remove(ctx, rec.Account, still)
	if is(err, errs.NotFound) {
		return false, nil // somebody else removed it
	}
	return ok, err
}

func (a *Accounts) dropTombstone(ctx context.Context, at names.Place, today Day) (dropped bool, err error) {
	err = a.o.Store.Update(ctx, at.Shard, func(tx store.Tx) error {
		dropped = false
		now, err := a.names.GetAt(tx, at)
		if is(err, errs.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if !a.reusable(now, today) {
			return nil
		}
		dropped = true
		return a.names.DeleteAt(tx, at)
	})
	return dropped, err
}

func (a *Accounts) removeOrphan(ctx context.Context, id seal.AccountID, orphans map[seal.AccountID]time.Time, seen map[seal.AccountID]bool) (bool, error) {
	state, err := a.state(ctx, id)
	if err != nil || state != accountOrphan && state != accountLeftover {
		return false, err
	}
	if _, making := a.beingMade()[id]; making {
		return false, nil
	}
	now := a.o.Now()
	first, known := orphans[id]
	if !known {
		if len(orphans) < maxOrphans {
			orphans[id] = now
			seen[id] = true
		}
		return false, nil
	}
	seen[id] = true
	if now.Sub(first) < a.o.OrphanAge {
		return false, nil
	}
	// Once more: what was an orphan may have got its name at the last moment.
	if state, err = a.state(ctx, id); err != nil || state != accountOrphan && state != accountLeftover {
		return false, err
	}
	if err := a.erase(ctx, id); err != nil {
		return false, err
	}
	delete(orphans, id)
	return true, nil
}
