package account

import (
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"slices"

	"postern.email/kit/errs"
	"postern.email/kit/secret"
	"postern.email/mail"
	"postern.email/post/names"
	"postern.email/post/seal"
	"postern.email/store"
)

// errHidden marks a refusal that must look like a wrong password.
var errHidden = errors.New("creation is off")

// mayCreate says whether a login may make this address. why is what findFresh gave
// for it: the name may have a tombstone. With creation off nothing is told about a name, not even that it
// breaks the rules.
func (a *Accounts) mayCreate(addr mail.Address, password string, why error) error {
	const op = "account.mayCreate"
	if a.o.MayCreate != nil {
		if err := a.o.MayCreate(); is(err, errs.Denied) {
			return errs.E(op, errs.Auth, textAuth, errHidden)
		} else if err != nil {
			if errs.Public(err) == errs.KindOf(err).Error() {
				return errs.E(op, errs.KindOf(err), textNoNew, err)
			}
			return errs.Wrap(op, err)
		}
	}
	if err := a.checkNew(addr); err != nil {
		return err
	}
	if err := a.checkPassword(password); err != nil {
		return err
	}
	if errors.Is(why, errTombstone) && a.o.ReuseAfterDays <= 0 || errors.Is(why, errAlias) {
		return errs.E(op, errs.Denied, textGone, nil)
	}
	return nil
}

// makeOnLogin makes the account of a first login and opens it.
func (a *Accounts) makeOnLogin(ctx context.Context, addr mail.Address, password string) (*openKey, error) {
	today := DayOf(a.o.Now())
	key, keyRecord, err := a.make(ctx, infoRecord{addr: addr, class: a.o.NewClass, created: today, lastLogin: today}, password)
	if err != nil {
		return nil, err
	}
	k, err := a.admit(ctx, key, keyRecord, password)
	if k == nil && err == nil {
		err = errs.E("account.makeOnLogin", errs.Conflict, "", nil) // deleted or reset already
	}
	return k, err
}

// admit puts a key that a password has opened into the ring, if keyRecord, from
// which it was opened, is still the account's. Else it gives nil, and the key is
// closed.
func (a *Accounts) admit(ctx context.Context, key *seal.Opened, keyRecord []byte, password string) (*openKey, error) {
	for range maxRounds {
		// In this order: whoever changes the record moves the generation on after.
		gen := a.ring.generation(key.ID())
		_, now, err := a.load(ctx, key.ID())
		if err != nil && !is(err, errs.NotFound) {
			key.Close()
			return nil, err
		}
		if !slices.Equal(now, keyRecord) {
			key.Close()
			return nil, nil
		}
		if k, ok := a.ring.put(key, a.ring.passwordCheck(key.ID(), password), sha256.Sum256(keyRecord), gen); ok {
			return k, nil
		}
	}
	key.Close()
	return nil, errs.E("account.admit", errs.Conflict, "", nil)
}

// make draws a number and a key and writes the account: errs.Exists when the name
// is in use, errs.Denied when it has a tombstone that still stands.
func (a *Accounts) make(ctx context.Context, i infoRecord, password string) (key *seal.Opened, keyRecord []byte, err error) {
	const op = "account.make"
	id, err := a.newID()
	if err != nil {
		return nil, nil, errs.Wrap(op, err)
	}
	defer a.made(id)
	key, err = seal.Generate(id, a.o.Rand)
	if err != nil {
		return nil, nil, errs.Wrap(op, err)
	}
	defer func() {
		if err != nil {
			key.Close()
		}
	}()
	keyRecord, err = a.wrap(key, password)
	if err != nil {
		return nil, nil, errs.Wrap(op, err)
	}
	return key, keyRecord, errs.Wrap(op, a.register(ctx, key, keyRecord, i))
}

// wrap spends one password hash and gives the key record.
func (a *Accounts) wrap(key *seal.Opened, password string) (keyRecord []byte, err error) {
	var wrapped []byte
	a.hash(func() { wrapped, err = key.Wrap(password, a.o.Params) })
	if err != nil {
		return nil, err
	}
	return sealKey(a.o.Root, key.ID(), key.Public(), wrapped)
}

// newID draws a number and remembers that its account is being made, so that the
// sweeper of this process leaves its records alone; made ends that.
func (a *Accounts) newID() (seal.AccountID, error) {
	id, err := seal.NewAccountID(a.o.Rand)
	if err == nil {
		a.makingMu.Lock()
		a.making[id] = struct{}{}
		a.makingMu.Unlock()
	}
	return id, err
}

func (a *Accounts) made(id seal.AccountID) {
	a.makingMu.Lock()
	delete(a.making, id)
	a.makingMu.Unlock()
}

func (a *Accounts) beingMade() map[seal.AccountID]struct{} {
	a.makingMu.Lock()
	defer a.makingMu.Unlock()
	return maps.Clone(a.making)
}

// errTwoLogs says inside a transaction that name and account have no common log.
var errTwoLogs = errors.New("two logs")

// register writes account and name. In one log that is one transaction. Else the
// account's records go first and the name is claimed after: the loser of a race
// deletes its records, and a crash in between leaves records that no name points
// to, which the sweeper removes. The other order could leave a name that can
// neither be used nor made.
func (a *Accounts) register(ctx context.Context, key *seal.Opened, keyRecord []byte, i infoRecord) error {
	id := key.ID()
	nameShard := a.names.Shard(i.addr)
	defer a.cache.forget(i.addr)
	err := a.o.Store.Update(ctx, id.Shard(), func(tx store.Tx) error {
		in := tx
		if nameShard != id.Shard() {
			other, err := tx.Other(nameShard)
			if is(err, errs.Unsupported) {
				return errTwoLogs
			}
			if err != nil {
				return err
			}
			in = other
		}
		if err := a.claim(in, i.addr, id, i.created); err != nil {
			return err
		}
		return a.putRecords(tx, key, keyRecord, i)
	})
	if !errors.Is(err, errTwoLogs) {
		return err
	}
	err = a.o.Store.Update(ctx, id.Shard(), func(tx store.Tx) error { return a.putRecords(tx, key, keyRecord, i) })
	if err != nil {
		return err
	}
	err = a.o.Store.Update(ctx, nameShard, func(tx store.Tx) error { return a.claim(tx, i.addr, id, i.created) })
	if is(err, errs.Exists) || is(err, errs.Denied) {
		if gone := a.erase(ctx, id); gone != nil {
			a.o.Logger.Warn("records of an account that lost its name stay for the sweeper", "kind", errs.KindOf(gone).Error())
		}
	}
	return err
}

// claim puts the name if it is free: errs.Exists when it is another account's, errs.Denied
// when it is a tombstone that stands, or an alias's, which look the same.
func (a *Accounts) claim(tx store.Tx, addr mail.Address, id seal.AccountID, today Day) error {
	const op = "account.claim"
	err := a.names.Claim(tx, addr, names.Record{Kind: names.Account, ID: id, Day: today},
		func(n names.Record) bool { return a.reusable(n, today) })
	if is(err, errs.Exists) {
		n, nerr := a.names.Get(tx, addr)
		if nerr != nil || n.Kind == names.Account {
			return errs.Wrap(op, errors.Join(err, nerr))
		}
	}
	if is(err, errs.Exists) || is(err, errs.Denied) {
		return errs.E(op, errs.Denied, textGone, err)
	}
	return err
}

// reusable says whether the name of a deleted account may be given out again.
func (a *Accounts) reusable(n names.Record, today Day) bool {
	return n.Kind == names.Gone && a.o.ReuseAfterDays > 0 && today >= n.Day && int(today-n.Day) >= a.o.ReuseAfterDays
}

func (a *Accounts) putRecords(tx store.Tx, key *seal.Opened, keyRecord []byte, i infoRecord) error {
	id := key.ID()
	// A number drawn twice would give one account's mail to another: 1 in 2^64
	// a pair, but looking costs nothing.
	if _, err := tx.Get(infoKey(id)); err == nil {
		return errs.E("account.putRecords", errs.Conflict, "", nil)
	} else if !is(err, errs.NotFound) {
		return err
	}
	if err := a.setInfo(tx, id, i); err != nil {
		return err
	}
	if err := tx.Set(keyKey(id), keyRecord); err != nil {
		return err
	}
	if a.o.OnCreate == nil {
		return nil
	}
	return a.o.OnCreate(tx, key)
}

// erase removes everything of an account that no name points to. It may be
// repeated.
func (a *Accounts) erase(ctx context.Context, id seal.AccountID) error {
	if a.o.OnDelete != nil {
		if err := a.o.OnDelete(ctx, id); err != nil {
			return err
		}
	}
	return a.o.Store.Update(ctx, id.Shard(), func(tx store.Tx) error { return tx.DeleteRange(id.Prefix(), id.End()) })
}

// CreateRequest is an account made by the operator: neither MayCreate nor the
// limits of new addresses are asked, the rules of names and passwords are. Nothing of it is shown,
// however it is printed.
type CreateRequest struct {
	secret.Hidden
	Address         mail.Address
	Password        string
	Class           Class
	AcceptCleartext bool
	Quota           int64 // bytes; 0 = the server's default
}

// Create makes an account: errs.Exists when the name is taken, errs.Denied when
// it belonged to a deleted account or breaks the rules.
func (a *Accounts) Create(ctx context.Context, r CreateRequest) (Account, error) {
	const op = "account.Create"
	addr := r.Address.Canonical()
	if !a.Ours(addr) {
		return Account{}, errs.E(op, errs.Denied, textName, nil)
	}
	if err := a.checkNew(addr); err != nil {
		return Account{}, errs.Wrap(op, err)
	}
	if err := a.checkPassword(r.Password); err != nil {
		return Account{}, errs.Wrap(op, err)
	}
	if r.Class >= numClasses || r.Quota < 0 {
		return Account{}, errs.E(op, errs.Invalid, "", nil)
	}
	i := infoRecord{addr: addr, class: r.Class, cleartext: r.AcceptCleartext, quota: r.Quota, created: DayOf(a.o.Now())}
	err := a.operator(ctx, "create", addr, func(ctx context.Context) error {
		key, _, err := a.make(ctx, i, r.Password)
		if err == nil {
			key.Close()
		}
		return err
	})
	if is(err, errs.Exists) {
		return Account{}, errs.E(op, errs.Exists, "this address exists already", err)
	}
	if err != nil {
		return Account{}, errs.Wrap(op, err)
	}
	return a.Show(ctx, addr)
}
