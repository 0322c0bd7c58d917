package account

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"postern.email/kit/errs"
	"postern.email/kit/lru"
	"postern.email/mail"
	"postern.email/post/names"
	"postern.email/post/seal"
	"postern.email/store"
)

// record is an account as stored: what callers see, and what only this package
// needs.
type record struct {
	Account
	resetting bool
}

// resolveCache remembers records by canonical address. Every change in this
// process calls forget after its transaction; a record that was read before a
// change can then not be put in afterwards, because the generation moved on.
type resolveCache struct {
	mu  sync.Mutex
	gen uint64
	lru *lru.Map[mail.Address, *record]
}

func (c *resolveCache) get(addr mail.Address) (r *record, gen uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, _ = c.lru.Get(addr)
	return r, c.gen
}

func (c *resolveCache) put(addr mail.Address, r *record, gen uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gen == gen {
		c.lru.Put(addr, r, 0)
	}
}

func (c *resolveCache) forget(addr mail.Address) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen++
	c.lru.Delete(addr)
}

func (a *Accounts) getInfo(r store.Reader, id seal.AccountID) (infoRecord, error) {
	sealed, err := r.Get(infoKey(id))
	if err != nil {
		return infoRecord{}, err
	}
	plain, err := a.o.Root.Open(seal.PurposeInfo, id[:], sealed)
	if err != nil {
		return infoRecord{}, err
	}
	return decodeInfo(plain)
}

func (a *Accounts) setInfo(tx store.Tx, id seal.AccountID, i infoRecord) error {
	sealed, err := a.o.Root.Seal(seal.PurposeInfo, id[:], i.encode())
	if err != nil {
		return err
	}
	return tx.Set(infoKey(id), sealed)
}

// load reads an account by number, and a copy of its key record.
func (a *Accounts) load(ctx context.Context, id seal.AccountID) (rec *record, key []byte, err error) {
	err = a.o.Store.View(ctx, id.Shard(), func(r store.Reader) error {
		i, err := a.getInfo(r, id)
		if err != nil {
			return err
		}
		b, err := r.Get(keyKey(id))
		if is(err, errs.NotFound) {
			return corrupt("account.load", err)
		}
		if err != nil {
			return err
		}
		key = bytes.Clone(b)
		pub, err := publicOf(key)
		if err != nil {
			return err
		}
		rec = &record{
			Account: Account{ID: id, Address: i.addr, Class: i.class, Blocked: i.blocked, AcceptCleartext: i.cleartext,
				Quota: i.quota, Created: i.created, LastLogin: i.lastLogin, Public: a.keep(id, pub)},
			resetting: i.resetting,
		}
		return nil
	})
	return rec, key, err
}

// keep gives a public half that may be kept: the open key's if it is the same, else a copy.
func (a *Accounts) keep(id seal.AccountID, pub seal.PublicKey) seal.PublicKey {
	if open := a.ring.public(id); bytes.Equal(open, pub) {
		return open
	}
	return bytes.Clone(pub)
}

// find gives the record of a canonical address, from memory when it is there.
func (a *Accounts) find(ctx context.Context, addr mail.Address) (*record, error) {
	r, gen := a.cache.get(addr)
	if r != nil {
		return r, nil
	}
	r, _, err := a.findFresh(ctx, addr)
	if err != nil {
		return nil, err
	}
	a.cache.put(addr, r, gen)
	return r, nil
}

// findFresh reads the record of a canonical address and its key record from the
// store. errs.NotFound when the name is not that of an account, with errTombstone as its cause
// when it was, and errAlias when it is or was that of an alias.
func (a *Accounts) findFresh(ctx context.Context, addr mail.Address) (*record, []byte, error) {
	const op = "account.find"
	for try := 0; ; try++ {
		n, err := a.names.Lookup(ctx, addr)
		if err != nil {
			return nil, nil, errs.Wrap(op, err)
		}
		switch n.Kind {
		case names.Gone:
			return nil, nil, errs.E(op, errs.NotFound, "", errTombstone)
		case names.Alias, names.GoneAlias:
			return nil, nil, errs.E(op, errs.NotFound, "", errAlias)
		}
		rec, key, err := a.load(ctx, n.ID)
		if is(err, errs.NotFound) {
			// Deleted between the two reads: the name tells so the second time.
			if try == 0 {
				continue
			}
			return nil, nil, corrupt(op, err)
		}
		if err != nil {
			return nil, nil, errs.Wrap(op, err)
		}
		if rec.Address != addr {
			return nil, nil, corrupt(op, nil)
		}
		return rec, key, nil
	}
}

// update changes the settings of an account in one transaction.
func (a *Accounts) update(ctx context.Context, id seal.AccountID, addr mail.Address, fn func(*infoRecord) error) error {
	defer a.cache.forget(addr) // also after an error: the outcome of a failed sync is unknown
	return a.o.Store.Update(ctx, id.Shard(), func(tx store.Tx) error {
		i, err := a.getInfo(tx, id)
		if err != nil {
			return err
		}
		if err := fn(&i); err != nil {
			return err
		}
		return a.setInfo(tx, id, i)
	})
}

var (
	errTombstone = errors.New("the name belonged to a deleted account")
	errAlias     = errors.New("the name is an alias or was one")
)
