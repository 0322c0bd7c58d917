package alias

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"sync"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/kit/lru"
	"postern.email/mail"
	"postern.email/mail/aliasname"
	"postern.email/post/names"
	"postern.email/store"
)

// Resolve is Lookup, and gives derived aliases too: of an address that is not stored and has the
// derived form, it tries whose key made it. One of which nothing is stored has Stored unset, and
// the mode and class of Options. What was tried is remembered; beyond the limits of the peer's
// network and of all together the answer is errs.Busy.
func (a *Aliases) Resolve(ctx context.Context, addr mail.Address, peer limits.Peer) (*Alias, error) {
	const op = "post/alias.Resolve"
	addr = addr.Mailbox()
	al, named, err := a.lookup(ctx, addr)
	if err == nil || named || !is(err, errs.NotFound) {
		return al, errs.Wrap(op, err)
	}
	owner, err := a.derivedFor(addr, peer)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	al, err = a.derived(ctx, owner, addr)
	return al, errs.Wrap(op, err)
}

// derivedFor gives the owner whose key made an address: from memory, or by trying all keys.
func (a *Aliases) derivedFor(addr mail.Address, peer limits.Peer) (Owner, error) {
	const op = "post/alias.derivedFor"
	none := errs.E(op, errs.NotFound, "", nil)
	if !aliasname.DerivedForm(addr.Local) {
		return Owner{}, none
	}
	owner, known := a.tried.get(addr)
	if !known {
		// The network first: what it is refused must not use up everybody's.
		if ok, _ := a.triesNetwork.Allow(peer.Network()); !ok {
			return Owner{}, errs.E(op, errs.Busy, textTries, nil)
		}
		if ok, _ := a.triesTotal.Allow("all"); !ok {
			return Owner{}, errs.E(op, errs.Busy, textTries, nil)
		}
		owner = a.keys.find(addr)
		a.tried.put(addr, owner)
	}
	if owner == (Owner{}) || !a.keys.has(owner) {
		return Owner{}, none
	}
	return owner, nil
}

// derived gives a derived alias of an owner whose name is not taken.
func (a *Aliases) derived(ctx context.Context, owner Owner, addr mail.Address) (*Alias, error) {
	const op = "post/alias.derived"
	al, err := a.read(ctx, owner, addr, false) // there, if its name is not claimed yet
	if err == nil && al.Deleted != 0 {
		return nil, errs.E(op, errs.NotFound, "", nil)
	}
	if !is(err, errs.NotFound) {
		return al, err
	}
	return a.unstored(owner, a.derivedRules(addr)), nil
}

// mine gives an alias of a vault's owner from the store, also one of which nothing is stored yet,
// or one that was deleted; whole, with its rules as they were read.
func (a *Aliases) mine(ctx context.Context, v *Vault, addr mail.Address) (*Alias, *rules, error) {
	const op = "post/alias.mine"
	none := errs.E(op, errs.NotFound, textNoAlias, nil)
	if !a.Ours(addr) {
		return nil, nil, none
	}
	p := place(a.o.Root.AliasPlace(v.Owner, addr))
	var al *Alias
	var rs *rules
	err := a.o.Store.View(ctx, v.Owner.Shard(), func(r store.Reader) (err error) {
		if rs, err = a.getRules(r, v.Owner, p); err != nil {
			return err
		}
		st, err := a.getState(r, v.Owner, p)
		if err != nil {
			return err
		}
		al = a.aliasOf(v.Owner, rs, st)
		return nil
	})
	if err == nil || !is(err, errs.NotFound) {
		return al, rs, errs.Wrap(op, err)
	}
	if !derivedBy(&v.aliasKey, addr) {
		return nil, nil, none
	}
	switch n, err := a.o.Names.Lookup(ctx, addr); {
	case is(err, errs.NotFound), err == nil && n.Kind == names.Alias && n.ID == v.Owner:
	case err != nil:
		return nil, nil, errs.Wrap(op, err)
	default:
		return nil, nil, none // it was deleted for good
	}
	rs = a.derivedRules(addr)
	return a.unstored(v.Owner, rs), rs, nil
}

// unstored gives a derived alias of which nothing is stored.
func (a *Aliases) unstored(owner Owner, rs *rules) *Alias {
	al := a.aliasOf(owner, rs, new(state))
	al.Stored = false
	return al
}

// keyTable holds the keys of derived aliases of all owners: 40 bytes an owner.
type keyTable struct {
	mu     sync.RWMutex
	owners []Owner
	keys   [][aliasname.KeyLen]byte
	at     map[Owner]int
}

func (t *keyTable) add(owner Owner, key [aliasname.KeyLen]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.at == nil {
		t.at = make(map[Owner]int)
	}
	if i, ok := t.at[owner]; ok {
		t.keys[i] = key
		return
	}
	t.at[owner] = len(t.keys)
	t.owners, t.keys = append(t.owners, owner), append(t.keys, key)
}

func (t *keyTable) remove(owner Owner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, ok := t.at[owner]
	if !ok {
		return
	}
	last := len(t.keys) - 1
	t.keys[i], t.owners[i] = t.keys[last], t.owners[last]
	t.at[t.owners[i]] = i
	clear(t.keys[last][:])
	t.keys, t.owners = t.keys[:last], t.owners[:last]
	delete(t.at, owner)
}

func (t *keyTable) has(owner Owner) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	_, ok := t.at[owner]
	return ok
}

// find tries all keys: zero when none made the address.
func (t *keyTable) find(addr mail.Address) Owner {
	t.mu.RLock()
	defer t.mu.RUnlock()
	i := aliasname.Find(t.keys, addr.Domain, addr.Local)
	if i < 0 {
		return Owner{}
	}
	return t.owners[i]
}

// tried remembers whose the addresses are that were tried, as hashes under a key of this
// process. The answer for one that was nobody's holds for owners who come later, too: whose key is
// drawn then made none before.
type tried struct {
	key  [32]byte
	mu   sync.Mutex
	seen *lru.Map[[16]byte, Owner]
}

func (t *tried) hash(addr mail.Address) [16]byte {
	m := hmac.New(sha256.New, t.key[:])
	m.Write([]byte(addr.Local))
	m.Write([]byte{0})
	m.Write([]byte(addr.Domain))
	return [16]byte(m.Sum(nil))
}

func (t *tried) get(addr mail.Address) (owner Owner, known bool) {
	h := t.hash(addr)
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seen.Get(h)
}

func (t *tried) put(addr mail.Address, owner Owner) {
	h := t.hash(addr)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen.Put(h, owner, 1)
}
