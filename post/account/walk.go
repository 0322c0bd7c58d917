package account

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// MaxPage is the largest page of List.
const MaxPage = 1000

// storedName is a name record as it lies in the store; err when it cannot be read.
type storedName struct {
	shard store.Shard
	key   [20]byte
	nameRecord
	err error
}

// names calls fn for every name record at or behind the given place, shard by
// shard, outside of any transaction. A shard's names are read in portions, so
// that neither memory nor a snapshot is held for long.
func (a *Accounts) names(ctx context.Context, from store.Shard, after []byte, fn func(storedName) (bool, error)) error {
	shards, err := a.o.Store.Occupied(ctx)
	if err != nil {
		return err
	}
	for _, s := range shards {
		if s < from {
			continue
		}
		if s > from {
			after = nil
		}
		for {
			page, err := a.namePage(ctx, s, after)
			if err != nil {
				return err
			}
			for _, n := range page {
				if ok, err := fn(n); err != nil || !ok {
					return err
				}
			}
			if len(page) < walkPage {
				break
			}
			after = nameRecordKey(page[len(page)-1].key)
		}
	}
	return nil
}

// walkPage is how many records one snapshot is held for.
const walkPage = 256

func (a *Accounts) namePage(ctx context.Context, s store.Shard, after []byte) (page []storedName, err error) {
	start := nameStart
	if after != nil {
		start = append(append([]byte(nil), after...), 0)
	}
	err = a.o.Store.View(ctx, s, func(r store.Reader) error {
		page = nil
		return r.Scan(start, nameEnd, func(k, v []byte) (bool, error) {
			n := storedName{shard: s}
			if len(k) != 1+len(n.key) {
				n.err = corrupt("account.names", nil)
			} else {
				n.key = [20]byte(k[1:])
				var plain []byte
				if plain, n.err = a.o.Root.Open(seal.PurposeName, n.key[:], v); n.err == nil {
					n.nameRecord, n.err = decodeName(plain)
				}
			}
			page = append(page, n)
			return len(page) < walkPage, nil
		})
	})
	return page, err
}

// List gives up to limit accounts (at most MaxPage) after the cursor ("" to
// begin) in an order that says nothing, and the next cursor, "" at the end.
// Accounts that cannot be read are left out; Check names them.
func (a *Accounts) List(ctx context.Context, cursor string, limit int) (page []Account, next string, err error) {
	const op = "account.List"
	shard, after, err := parseCursor(cursor)
	if err != nil {
		return nil, "", errs.Wrap(op, err)
	}
	limit = min(max(limit, 1), MaxPage)
	err = a.names(ctx, shard, after, func(n storedName) (bool, error) {
		if n.err != nil || n.tombstone {
			return true, nil
		}
		rec, _, err := a.load(ctx, n.id)
		if is(err, errs.NotFound) || is(err, errs.Corrupt) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if page = append(page, rec.Account); len(page) == limit {
			next = fmt.Sprintf("%d-%x", n.shard, n.key)
			return false, nil
		}
		return true, nil
	})
	return page, next, errs.Wrap(op, err)
}

func parseCursor(c string) (store.Shard, []byte, error) {
	if c == "" {
		return 0, nil, nil
	}
	bad := errs.E("account.parseCursor", errs.Invalid, "this is no place in the list", nil)
	s, k, ok := strings.Cut(c, "-")
	shard, err := strconv.ParseUint(s, 10, 16)
	key, err2 := hex.DecodeString(k)
	if !ok || err != nil || err2 != nil || shard >= store.Shards || len(key) != 20 {
		return 0, nil, bad
	}
	return store.Shard(shard), nameRecordKey([20]byte(key)), nil
}

// Finding is one broken invariant.
type Finding struct {
	Kind string // one of the Finding words
	Text string // for the operator; numbers and shards, no addresses
}

// Kinds of findings.
const (
	FindingName      = "account-name"      // a name record cannot be read, or lies in the wrong place
	FindingDangling  = "account-dangling"  // a name points to an account that is not there
	FindingRecord    = "account-record"    // an account's records cannot be read
	FindingOrphan    = "account-orphan"    // an account that no name points to; housekeeping removes it
	FindingLeftover  = "account-leftover"  // records without an account; housekeeping removes them
	FindingPlace     = "account-place"     // an account lies in a shard that its number does not belong to
	FindingResetting = "account-resetting" // a reset did not end; repeat it
)

// Check walks all names and accounts and reports what is wrong: every record can
// be opened, every name points to an account which has this name, and every
// account has its name. It changes nothing. It reads record by record beside a
// running server, so an account that is just being made or deleted may show up;
// such a finding is looked at twice.
func (a *Accounts) Check(ctx context.Context, report func(Finding)) error {
	const op = "account.Check"
	say := func(kind, format string, args ...any) { report(Finding{kind, fmt.Sprintf(format, args...)}) }
	err := a.names(ctx, 0, nil, func(n storedName) (bool, error) {
		switch {
		case n.err != nil:
			say(FindingName, "a name record in shard %d cannot be read", n.shard)
			return true, nil
		case n.tombstone:
			return true, nil
		}
		rec, _, err := a.load(ctx, n.id)
		if is(err, errs.NotFound) { // deleted a moment ago?
			again, nerr := a.nameAt(ctx, n.shard, n.key)
			if nerr != nil || again.tombstone || again.id != n.id {
				return true, nil
			}
			say(FindingDangling, "a name in shard %d points to account %s, which does not exist", n.shard, n.id)
			return true, nil
		}
		if err != nil {
			return true, a.unlessCorrupt(err) // reported below, by account
		}
		if a.o.Root.NameKey(rec.Address) != n.key || a.o.Root.NameShard(rec.Address) != n.shard {
			say(FindingName, "a name in shard %d points to account %s, which has another address", n.shard, n.id)
		}
		return true, nil
	})
	if err != nil {
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, seal.EachAccount(ctx, a.o.Store, func(s store.Shard, id seal.AccountID) error {
		if id.Shard() != s {
			say(FindingPlace, "records of account %s lie in shard %d", id, s)
			return nil
		}
		state, err := a.state(ctx, id)
		if err != nil {
			return err
		}
		switch state {
		case accountDamaged:
			say(FindingRecord, "the records of account %s cannot be read", id)
		case accountOrphan:
			say(FindingOrphan, "no name points to account %s", id)
		case accountLeftover:
			say(FindingLeftover, "records of account %s are left over", id)
		case accountResetting:
			say(FindingResetting, "the reset of account %s did not end: repeat it", id)
		}
		return nil
	}))
}

func (a *Accounts) unlessCorrupt(err error) error {
	if is(err, errs.Corrupt) {
		return nil
	}
	return err
}

func (a *Accounts) nameAt(ctx context.Context, s store.Shard, key [20]byte) (n nameRecord, err error) {
	err = a.o.Store.View(ctx, s, func(r store.Reader) error {
		n, err = a.getName(r, key)
		return err
	})
	return n, err
}

// accountState is what housekeeping and Check want to know of an account.
type accountState int

const (
	accountGood accountState = iota
	accountDamaged
	accountOrphan
	accountLeftover
	accountResetting
)

func (a *Accounts) state(ctx context.Context, id seal.AccountID) (accountState, error) {
	rec, key, err := a.load(ctx, id)
	switch {
	case is(err, errs.NotFound):
		// Nothing is left at all, if it was deleted just now.
		left := false
		err := a.o.Store.View(ctx, id.Shard(), func(r store.Reader) error {
			return r.Scan(id.Prefix(), id.End(), func(_, _ []byte) (bool, error) { left = true; return false, nil })
		})
		if err != nil || !left {
			return accountGood, err
		}
		return accountLeftover, nil
	case is(err, errs.Corrupt):
		return accountDamaged, nil
	case err != nil:
		return 0, err
	}
	if _, _, err := openKeyRecord(a.o.Root, id, key); err != nil || !seal.ValidPublicKey(rec.Public) {
		return accountDamaged, nil
	}
	err = a.o.Store.View(ctx, id.Shard(), func(r store.Reader) error { _, err := a.getTokens(r, id); return err })
	if is(err, errs.Corrupt) {
		return accountDamaged, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := a.name(ctx, rec.Address)
	switch {
	case is(err, errs.NotFound), err == nil && (n.tombstone || n.id != id):
		return accountOrphan, nil
	case is(err, errs.Corrupt):
		return accountGood, nil // the name is reported by itself
	case err != nil:
		return 0, err
	case rec.resetting:
		return accountResetting, nil
	}
	return accountGood, nil
}

// Reveal gives everything of this package that the node key opens, for `postern
// store reveal`. kind is the Name of a seal.Purpose. What cannot be opened is
// given with the kind and the words "cannot be opened".
func (a *Accounts) Reveal(ctx context.Context, emit func(kind, text string)) error {
	const op = "account.Reveal"
	const shut = "cannot be opened"
	err := a.o.Store.View(ctx, markerShard, func(r store.Reader) error {
		key := []byte{letterMarker}
		sealed, err := r.Get(key)
		if is(err, errs.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		plain, err := a.o.Root.Open(seal.PurposeMarker, key, sealed)
		if err != nil {
			plain = []byte(shut)
		}
		emit(seal.PurposeMarker.String(), string(plain))
		return nil
	})
	if err != nil {
		return errs.Wrap(op, err)
	}
	err = a.names(ctx, 0, nil, func(n storedName) (bool, error) {
		text := shut
		if n.err == nil && n.tombstone {
			text = fmt.Sprintf("a name, deleted on %s, was account %s", n.day, n.id)
		} else if n.err == nil {
			text = fmt.Sprintf("a name, given out on %s, is account %s", n.day, n.id)
		}
		emit(seal.PurposeName.String(), text)
		return true, nil
	})
	if err != nil {
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, seal.EachAccount(ctx, a.o.Store, func(_ store.Shard, id seal.AccountID) error {
		rec, key, err := a.load(ctx, id)
		if is(err, errs.NotFound) {
			return nil
		}
		if err != nil {
			emit(seal.PurposeInfo.String(), fmt.Sprintf("account %s %s", id, shut))
			return a.unlessCorrupt(err)
		}
		emit(seal.PurposeInfo.String(), fmt.Sprintf("account %s: %s class=%s blocked=%t accept-cleartext=%t quota=%d created=%s last-login=%s",
			id, rec.Address, rec.Class, rec.Blocked, rec.AcceptCleartext, rec.Quota, rec.Created, lastLogin(rec.LastLogin)))
		if _, wrapped, err := openKeyRecord(a.o.Root, id, key); err != nil {
			emit(seal.PurposeKey.String(), fmt.Sprintf("account %s %s", id, shut))
		} else {
			emit(seal.PurposeKey.String(), fmt.Sprintf("account %s: seed wrapped by a password (%s)", id, wrapped.Params))
		}
		tokens, err := a.Tokens(ctx, id)
		if err != nil {
			emit(seal.PurposeTokens.String(), fmt.Sprintf("account %s %s", id, shut))
			return a.unlessCorrupt(err)
		}
		for _, t := range tokens {
			emit(seal.PurposeTokens.String(), fmt.Sprintf("account %s: %s", id, t))
		}
		return nil
	}))
}

// lastLogin is the day, or "never".
func lastLogin(d Day) string {
	if d == 0 {
		return "never"
	}
	return d.String()
}
