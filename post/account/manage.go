package account

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/names"
	"postern.email/post/seal"
	"postern.email/store"
)

// operatorTurn is the operator's place among the networks that take turns at the
// gate; no network has this name.
const operatorTurn = "operator"

// operator runs fn, which spends password hashes, behind the gate.
func (a *Accounts) operator(ctx context.Context, what string, addr mail.Address, fn func(context.Context) error) error {
	n := a.runs.Add(1)
	t := ticket{key: a.jobKey(operatorTurn, addr, what+string(binary.BigEndian.AppendUint64(nil, n))), class: waitProven,
		network: operatorTurn, account: addr.Local + "@" + addr.Domain}
	out := a.gate.do(ctx, t, func() outcome {
		ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
		defer cancel()
		return outcome{err: fn(ctx)}
	})
	return out.err
}

// Passwd wraps the account's key under a new password: errs.Auth when old is
// wrong. Stored mail stays readable, sessions go on.
func (a *Accounts) Passwd(ctx context.Context, addr mail.Address, old, new string) error {
	const op = "account.Passwd"
	addr = addr.Canonical()
	if err := a.checkPassword(new); err != nil {
		return errs.Wrap(op, err)
	}
	err := a.operator(ctx, "passwd", addr, func(ctx context.Context) error {
		rec, before, err := a.findFresh(ctx, addr)
		if err != nil {
			return err
		}
		pub, wrapped, err := openKeyRecord(a.o.Root, rec.ID, before)
		if err != nil {
			return err
		}
		var key *seal.Opened
		a.hash(func() { key, err = wrapped.Unwrap(rec.ID, pub, old) })
		if is(err, errs.Auth) {
			return errs.E(op, errs.Auth, "the old password is wrong", nil)
		}
		if err != nil {
			return err
		}
		defer key.Close()
		after, err := a.wrap(key, new)
		if err != nil {
			return err
		}
		err = a.o.Store.Update(ctx, rec.ID.Shard(), func(tx store.Tx) error { return swapKey(tx, rec.ID, before, after) })
		if err != nil {
			// Whether it was written is unknown after a failed sync: nothing that was
			// opened before may vouch for a password any more.
			a.ring.end(rec.ID)
			return err
		}
		a.ring.changed(rec.ID, a.ring.passwordCheck(rec.ID, new), sha256.Sum256(after))
		return nil
	})
	return errs.Wrap(op, err)
}

// swapKey replaces a key record if it is still the one that was read.
func swapKey(tx store.Tx, id seal.AccountID, before, after []byte) error {
	now, err := tx.Get(keyKey(id))
	if err != nil {
		return err
	}
	if !slices.Equal(now, before) {
		return errs.E("account.swapKey", errs.Conflict, "the password was changed at the same time", nil)
	}
	return tx.Set(keyKey(id), after)
}

// Reset gives the account a new key under a new password. All stored mail becomes
// unreadable and is removed; sessions end. It goes in three steps, so that no
// mail is accepted in between and then removed: mark the account (no mail, no
// login), remove, write the new key. After a crash the account stays marked until
// Reset is repeated; Check names it.
func (a *Accounts) Reset(ctx context.Context, addr mail.Address, new string) error {
	const op = "account.Reset"
	addr = addr.Canonical()
	if err := a.checkPassword(new); err != nil {
		return errs.Wrap(op, err)
	}
	err := a.operator(ctx, "reset", addr, func(ctx context.Context) error {
		rec, _, err := a.findFresh(ctx, addr)
		if err != nil {
			return err
		}
		key, err := seal.Generate(rec.ID, a.o.Rand)
		if err != nil {
			return err
		}
		defer key.Close()
		keyRecord, err := a.wrap(key, new)
		if err != nil {
			return err
		}
		if err := a.update(ctx, rec.ID, addr, func(i *infoRecord) error { i.resetting = true; return nil }); err != nil {
			return err
		}
		a.ring.end(rec.ID)
		remove := a.o.OnReset
		if remove == nil {
			remove = a.o.OnDelete
		}
		if remove != nil {
			if err := remove(ctx, rec.ID); err != nil {
				return err
			}
		}
		defer a.ring.end(rec.ID)
		defer a.cache.forget(addr)
		return a.o.Store.Update(ctx, rec.ID.Shard(), func(tx store.Tx) error {
			i, err := a.getInfo(tx, rec.ID)
			if err != nil {
				return err
			}
			i.resetting = false
			if err := a.setInfo(tx, rec.ID, i); err != nil {
				return err
			}
			if err := tx.Set(keyKey(rec.ID), keyRecord); err != nil {
				return err
			}
			if err := tx.Delete(tokensKey(rec.ID)); err != nil { // they were set by whoever knew the old password
				return err
			}
			if a.o.OnCreate == nil {
				return nil
			}
			return a.o.OnCreate(tx, key)
		})
	})
	return errs.Wrap(op, err)
}

// Block refuses the account's logins and mail, and ends its sessions.
func (a *Accounts) Block(ctx context.Context, addr mail.Address) error {
	return a.setBlocked(ctx, "account.Block", addr, true)
}

// Unblock ends Block.
func (a *Accounts) Unblock(ctx context.Context, addr mail.Address) error {
	return a.setBlocked(ctx, "account.Unblock", addr, false)
}

func (a *Accounts) setBlocked(ctx context.Context, op string, addr mail.Address, blocked bool) error {
	addr = addr.Canonical()
	rec, _, err := a.findFresh(ctx, addr)
	if err != nil {
		return errs.Wrap(op, err)
	}
	if err := a.update(ctx, rec.ID, addr, func(i *infoRecord) error { i.blocked = blocked; return nil }); err != nil {
		return errs.Wrap(op, err)
	}
	if blocked {
		a.ring.end(rec.ID)
	}
	return nil
}

// Change names the settings to change; nil leaves one as it is.
type Change struct {
	Class           *Class
	AcceptCleartext *bool
	Quota           *int64 // bytes; 0 = the server's default
}

// Set changes settings and gives the new record.
func (a *Accounts) Set(ctx context.Context, addr mail.Address, c Change) (Account, error) {
	const op = "account.Set"
	addr = addr.Canonical()
	if c.Class != nil && *c.Class >= numClasses || c.Quota != nil && *c.Quota < 0 {
		return Account{}, errs.E(op, errs.Invalid, "", nil)
	}
	rec, _, err := a.findFresh(ctx, addr)
	if err != nil {
		return Account{}, errs.Wrap(op, err)
	}
	err = a.update(ctx, rec.ID, addr, func(i *infoRecord) error {
		if c.Class != nil {
			i.class = *c.Class
		}
		if c.AcceptCleartext != nil {
			i.cleartext = *c.AcceptCleartext
		}
		if c.Quota != nil {
			i.quota = *c.Quota
		}
		return nil
	})
	if err != nil {
		return Account{}, errs.Wrap(op, err)
	}
	return a.Show(ctx, addr)
}

// Delete removes the account with all its mail. The name leaves a tombstone.
func (a *Accounts) Delete(ctx context.Context, addr mail.Address) error {
	const op = "account.Delete"
	addr = addr.Canonical()
	rec, _, err := a.findFresh(ctx, addr)
	if err != nil {
		return errs.Wrap(op, err)
	}
	_, err = a.remove(ctx, rec.Account, nil)
	return errs.Wrap(op, err)
}

// remove makes the name a tombstone, then erases what belonged to the account.
// A crash in between leaves records without name, which the sweeper erases.
// still, if not nil, looks at the account in the transaction of the tombstone
// where that is possible, and says whether to go on.
func (a *Accounts) remove(ctx context.Context, acc Account, still func(infoRecord) bool) (removed bool, err error) {
	nameShard := a.names.Shard(acc.Address)
	err = func() error {
		defer a.cache.forget(acc.Address)
		return a.o.Store.Update(ctx, nameShard, func(tx store.Tx) error {
			removed = false
			n, err := a.names.Get(tx, acc.Address)
			if err != nil {
				return err
			}
			if n.Kind != names.Account || n.ID != acc.ID {
				return errs.E("account.remove", errs.NotFound, "", nil)
			}
			if still != nil {
				ok, err := a.stillSo(tx, nameShard, acc.ID, still)
				if err != nil || !ok {
					return err
				}
			}
			removed = true
			return a.names.Set(tx, acc.Address, names.Record{Kind: names.Gone, ID: acc.ID, Day: DayOf(a.o.Now())})
		})
	}()
	if err != nil || !removed {
		return removed, err
	}
	a.ring.end(acc.ID)
	return true, a.erase(ctx, acc.ID)
}

func (a *Accounts) stillSo(tx store.Tx, here store.Shard, id seal.AccountID, still func(infoRecord) bool) (bool, error) {
	t := tx
	if id.Shard() != here {
		other, err := tx.Other(id.Shard())
		if is(err, errs.Unsupported) {
			return true, nil // two logs: the caller has looked a moment ago
		}
		if err != nil {
			return false, err
		}
		t = other
	}
	i, err := a.getInfo(t, id)
	if err != nil {
		return false, err
	}
	return still(i), nil
}
