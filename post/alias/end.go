package alias

import (
	"context"

	"postern.email/kit/errs"
	"postern.email/store"
)

// Count gives how many aliases an owner has, deleted ones not counted; 0 for who is no owner. Nothing is
// read for it but the owner's record.
func (a *Aliases) Count(ctx context.Context, owner Owner) (n int, err error) {
	rec, err := a.ownerOf(ctx, owner, a.getOwner)
	if is(err, errs.NotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, errs.Wrap("post/alias.Count", err)
	}
	return int(rec.count), nil
}

// ownerOf reads an owner's record in a transaction of its own.
func (a *Aliases) ownerOf(ctx context.Context, owner Owner, get func(store.Reader, Owner) (*ownerRecord, error)) (rec *ownerRecord, err error) {
	err = a.o.Store.View(ctx, owner.Shard(), func(r store.Reader) (err error) {
		rec, err = get(r, owner)
		return err
	})
	return rec, err
}

// DeleteOwner makes tombstones of the names of all aliases of an owner, ends its tokens and removes
// the rest: for an account that is deleted itself. It may be repeated, and is no error for who is no owner.
func (a *Aliases) DeleteOwner(ctx context.Context, owner Owner) error {
	return errs.Wrap("post/alias.DeleteOwner", a.end(ctx, owner, nil))
}

// EndOwner is DeleteOwner by an owner itself. Where it has an account, which may begin again, it stays known
// how many aliases were deleted: else MaxDeleted would bind nobody.
func (a *Aliases) EndOwner(ctx context.Context, owner Owner) error {
	const op = "post/alias.EndOwner"
	rec, err := a.ownerOf(ctx, owner, a.getRecord)
	switch {
	case is(err, errs.NotFound), is(err, errs.Corrupt), err == nil && len(rec.wrapped) == 0 && !rec.ended:
		return errs.Wrap(op, a.end(ctx, owner, nil))
	case err != nil:
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, a.end(ctx, owner, &ownerRecord{ended: true}))
}

// end deletes an owner. What is left of it is its record, with the number of deleted aliases; nil: nothing.
func (a *Aliases) end(ctx context.Context, owner Owner, left *ownerRecord) error {
	a.keys.remove(owner)
	defer a.cache.clear()
	// First the records without which nothing is made any more.
	err := a.o.Store.Update(ctx, owner.Shard(), func(tx store.Tx) error {
		if left != nil {
			old, err := a.getRecord(tx, owner)
			if err != nil && !is(err, errs.NotFound) {
				return err
			}
			if err == nil {
				left.began, left.seen, left.dead = old.began, old.seen, old.dead+old.count
			}
			if err := a.setOwner(tx, owner, left); err != nil {
				return err
			}
		} else if err := tx.Delete(ownerKey(owner)); err != nil {
			return err
		}
		for _, k := range [][]byte{keyKey(owner), vaultKey(owner)} {
			if err := tx.Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = a.dropTokens(ctx, owner)
	}
	if err == nil {
		err = a.eachStored(ctx, owner, nil, func(s stored) (bool, error) {
			if s.err != nil {
				return true, nil // its name leads nowhere, and housekeeping makes it a tombstone
			}
			a.cache.forget(s.rules.addr)
			return true, a.bury(ctx, owner, s.rules.addr)
		})
	}
	if err == nil {
		err = a.o.Store.Update(ctx, owner.Shard(), func(tx store.Tx) error {
			if left == nil {
				return tx.DeleteRange(owner.PrefixOf(letterOwner), owner.EndOf(letterOwner))
			}
			now, err := a.getRecord(tx, owner)
			if err != nil || !now.ended { // it has begun again meanwhile
				return err
			}
			if err := tx.DeleteRange(owner.PrefixOf(letterOwner), owner.EndOf(letterOwner)); err != nil {
				return err
			}
			return a.setOwner(tx, owner, now)
		})
	}
	if err == nil {
		a.o.Deleted()
	}
	return err
}

// finishEnd ends what EndOwner was cut off from, before its owner begins again.
func (a *Aliases) finishEnd(ctx context.Context, owner Owner) error {
	left, err := a.remains(ctx, owner)
	if err == nil && left {
		err = a.EndOwner(ctx, owner)
	}
	return err
}

// remains reports whether an owner has ended and something is still there beside its record.
func (a *Aliases) remains(ctx context.Context, owner Owner) (left bool, err error) {
	err = a.o.Store.View(ctx, owner.Shard(), func(r store.Reader) error {
		left = false
		rec, err := a.getRecord(r, owner)
		if is(err, errs.NotFound) || err == nil && !rec.ended {
			return nil
		}
		if err != nil {
			return err
		}
		n := 0
		return r.Scan(owner.PrefixOf(letterOwner), owner.EndOf(letterOwner), func([]byte, []byte) (bool, error) {
			n++
			left = n > 1
			return !left, nil
		})
	})
	return left, err
}
