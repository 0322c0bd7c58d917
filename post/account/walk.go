package account

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"postern.email/kit/errs"
	"postern.email/post/names"
	"postern.email/post/seal"
	"postern.email/store"
)

// MaxPage is the largest page of List.
const MaxPage = 1000

// List gives up to limit accounts (at most MaxPage) after the cursor ("" to
// begin) in an order that says nothing, and the next cursor, "" at the end.
// Accounts that cannot be read are left out; Check names them.
func (a *Accounts) List(ctx context.Context, cursor string, limit int) (page []Account, next string, err error) {
	const op = "account.List"
	after, err := parseCursor(cursor)
	if err != nil {
		return nil, "", errs.Wrap(op, err)
	}
	limit = min(max(limit, 1), MaxPage)
	err = a.names.Walk(ctx, after, func(n names.Stored) (bool, error) {
		if n.Err != nil || n.Kind != names.Account {
			return true, nil
		}
		rec, _, err := a.load(ctx, n.ID)
		if is(err, errs.NotFound) || is(err, errs.Corrupt) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if page = append(page, rec.Account); len(page) == limit {
			next = fmt.Sprintf("%d-%x", n.Shard, n.Key)
			return false, nil
		}
		return true, nil
	})
	return page, next, errs.Wrap(op, err)
}

func parseCursor(c string) (names.Place, error) {
	if c == "" {
		return names.Place{}, nil
	}
	bad := errs.E("account.parseCursor", errs.Invalid, "this is no place in the list", nil)
	s, k, ok := strings.Cut(c, "-")
	shard, err := strconv.ParseUint(s, 10, 16)
	key, err2 := hex.DecodeString(k)
	if !ok || err != nil || err2 != nil || shard >= store.Shards || len(key) != 20 {
		return names.Place{}, bad
	}
	return names.Place{Shard: store.Shard(shard), Key: [20]byte(key)}, nil
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
	err := a.names.Walk(ctx, names.Place{}, func(n names.Stored) (bool, error) {
		switch {
		case n.Err != nil:
			say(FindingName, "a name record in shard %d cannot be read", n.Shard)
			return true, nil
		case n.Kind != names.Account:
			return true, nil // nobody's, or post/alias looks at it
		}
		rec, _, err := a.load(ctx, n.ID)
		if is(err, errs.NotFound) { // deleted a moment ago?
			again, nerr := a.names.At(ctx, n.Place)
			if nerr != nil || again.Kind != names.Account || again.ID != n.ID {
				return true, nil
			}
			say(FindingDangling, "a name in shard %d points to account %s, which does not exist", n.Shard, n.ID)
			return true, nil
		}
		if err != nil {
			return true, a.unlessCorrupt(err) // reported below, by account
		}
		if a.names.Place(rec.Address) != n.Place {
			say(FindingName, "a name in shard %d points to account %s, which has another address", n.Shard, n.ID)
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
	n, err := a.names.Lookup(ctx, rec.Address)
	switch {
	case is(err, errs.NotFound), err == nil && (n.Kind != names.Account || n.ID != id):
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
	err = a.names.Walk(ctx, names.Place{}, func(n names.Stored) (bool, error) {
		text := shut
		if n.Err == nil {
			text = fmt.Sprintf(map[names.Kind]string{
				names.Account: "a name, given out on %s, is account %s", names.Gone: "a name, deleted on %s, was account %s",
				names.Alias: "a name, given out on %s, is an alias of %s", names.GoneAlias: "a name, deleted on %s, was an alias of %s",
			}[n.Kind], n.Day, n.ID)
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
			id, rec.Address, rec.Class, rec.Blocked, rec.AcceptCleartext, rec.Quota, rec.Created, rec.LastLogin))
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
