package alias

import (
	"context"
	"io"
	"slices"
	"sync"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/kit/lru"
	"postern.email/mail"
	"postern.email/post/names"
	"postern.email/post/seal"
	"postern.email/store"
)

// Aliases is the office's register of aliases. Safe for use by many goroutines.
type Aliases struct {
	o       Options
	domains []string // canonical, in the order of Options.Domains

	cache  cache
	keys   keyTable
	tried  tried
	refuse refusals

	triesTotal, triesNetwork *limits.GCRA

	orphans orphans // what housekeeping has seen and may remove later
}

// Open opens the aliases in o.Store and reads the keys of derived ones: errs.Invalid when the
// options make no sense. What a damaged record held is left out; Check names it.
func Open(ctx context.Context, o Options) (*Aliases, error) {
	const op = "post/alias.Open"
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, errs.Wrap(op, err)
	}
	a := &Aliases{o: o}
	for _, d := range o.Domains {
		a.domains = append(a.domains, mail.Address{Local: "x", Domain: d}.Canonical().Domain)
	}
	a.cache.aliases = lru.New[mail.Address, *Alias](o.Cache, int64(o.Cache)*cacheSize)
	a.tried.seen = lru.New[[16]byte, Owner](o.Tried, int64(o.Tried))
	if _, err := io.ReadFull(o.Rand, a.tried.key[:]); err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	a.triesTotal = limits.NewGCRA(60*o.TriesPerSecond, o.TriesPerSecond, 1, o.Now)
	a.triesNetwork = limits.NewGCRA(60*o.TriesNetwork, o.TriesNetwork, o.TriesKeys, o.Now)
	a.refuse.counts = make(map[aliasID]uint32)
	err := a.eachOwner(ctx, func(owner Owner) error {
		key, err := a.readKey(ctx, owner)
		if is(err, errs.NotFound) || is(err, errs.Corrupt) {
			return nil
		}
		if err == nil {
			a.keys.add(owner, key)
		}
		return err
	})
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	return a, nil
}

// eachOwner calls fn for every number that anything lies behind.
func (a *Aliases) eachOwner(ctx context.Context, fn func(Owner) error) error {
	return seal.EachNumber(ctx, a.o.Store, letterOwner, func(s store.Shard, owner Owner) error {
		if owner.Shard() != s {
			return nil // Check names it
		}
		return fn(owner)
	})
}

// Ours reports whether addr lies in a domain of aliases.
func (a *Aliases) Ours(addr mail.Address) bool {
	return slices.Contains(a.domains, addr.Canonical().Domain)
}

// Domains gives the domains in which there are aliases, the default one first, in their canonical
// form.
func (a *Aliases) Domains() []string { return slices.Clone(a.domains) }

// Lookup gives the stored alias of an address; "+" and what follows in the local part is cut.
// errs.NotFound when there is none, or it was deleted. Served from memory mostly; it must not be
// changed.
func (a *Aliases) Lookup(ctx context.Context, addr mail.Address) (*Alias, error) {
	al, _, err := a.lookup(ctx, addr.Mailbox())
	return al, errs.Wrap("post/alias.Lookup", err)
}

// lookup is Lookup for a mailbox. named: the name is one of an alias, living or dead, or of an
// account, so that nobody needs to be asked further.
func (a *Aliases) lookup(ctx context.Context, addr mail.Address) (al *Alias, named bool, err error) {
	const op = "post/alias.lookup"
	none := errs.E(op, errs.NotFound, "", nil)
	if !slices.Contains(a.domains, addr.Domain) {
		return nil, true, none
	}
	al, gen := a.cache.get(addr)
	if al != nil {
		return al, true, nil
	}
	n, err := a.o.Names.Lookup(ctx, addr)
	if is(err, errs.NotFound) {
		return nil, false, none
	}
	if err != nil {
		return nil, true, errs.Wrap(op, err)
	}
	if n.Kind != names.Alias {
		return nil, true, none
	}
	al, err = a.read(ctx, n.ID, addr, false)
	if err == nil && al.Deleted != 0 {
		err = none
	}
	if err != nil {
		return nil, true, errs.Wrap(op, err)
	}
	a.cache.put(al, gen)
	return al, true, nil
}

// read reads an alias of an owner from the store, also a deleted one; with the sealed addresses of
// its correspondents if whole. addr is canonical.
func (a *Aliases) read(ctx context.Context, owner Owner, addr mail.Address, whole bool) (al *Alias, err error) {
	p := place(a.o.Root.AliasPlace(owner, addr))
	err = a.o.Store.View(ctx, owner.Shard(), func(r store.Reader) error {
		rs, err := a.getRules(r, owner, p)
		if err != nil {
			return err
		}
		st, err := a.getState(r, owner, p)
		if err != nil {
			return err
		}
		al = a.aliasOf(owner, rs, st)
		if !whole {
			return nil
		}
		return getNames(r, al, p)
	})
	if err == nil && al.Address != addr {
		err = errs.E("post/alias.read", errs.Corrupt, "", nil)
	}
	return al, err
}

// aliasOf puts together what callers see.
func (a *Aliases) aliasOf(owner Owner, rs *rules, st *state) *Alias {
	return &Alias{Address: rs.addr, Owner: owner, Derived: rs.derived, Stored: true,
		Mode: rs.mode, PinDomain: rs.pinDomain, Paused: rs.paused, Class: rs.class, Created: rs.created, Expires: timeOf(rs.expires),
		MaxMails: rs.maxMails, IdleDays: rs.idleDays, Deleted: rs.deleted,
		Received: st.received, Refused: st.refused, Sent: st.sent, Last: st.last, Noticed: rs.noticed, Vaulted: rs.notes,
		people: st.people, tags: a.o.Root.AliasTags(owner, rs.addr), base: rs.base, since: rs.since, askDays: a.o.AskDays, reg: a}
}

func (a *Aliases) getRules(r store.Reader, owner Owner, p place) (*rules, error) {
	plain, err := a.open(r, seal.PurposeAliasRules, rulesKey(owner, p))
	if err != nil {
		return nil, err
	}
	return decodeRules(plain)
}

// getState reads what happened to an alias; a fresh one has no record.
func (a *Aliases) getState(r store.Reader, owner Owner, p place) (*state, error) {
	plain, err := a.open(r, seal.PurposeAliasRules, stateKey(owner, p))
	if is(err, errs.NotFound) {
		return new(state), nil
	}
	if err != nil {
		return nil, err
	}
	return decodeState(plain)
}

// getVault reads the public half of an owner's vault: errs.NotFound where there is none. It is only needed
// for a correspondent who is new, so no alias carries it.
func getVault(r store.Reader, owner Owner) (seal.PublicKey, error) {
	b, err := r.Get(vaultKey(owner))
	if err != nil {
		return nil, err
	}
	return decodeVault(b)
}

// getNames reads the sealed addresses of an alias's correspondents.
func getNames(r store.Reader, al *Alias, p place) error {
	al.names = make(map[tag][]byte)
	prefix := append(aliasPrefix(al.Owner, p), partPerson)
	return r.Scan(prefix, store.Behind(prefix), func(k, v []byte) (bool, error) {
		if len(k) == headLen+1+tagLen {
			al.names[tag(k[headLen+1:])] = slices.Clone(v)
		}
		return true, nil
	})
}

// open reads a record that is sealed under the node key, bound to its own key.
func (a *Aliases) open(r store.Reader, p seal.Purpose, key []byte) ([]byte, error) {
	sealed, err := r.Get(key)
	if err != nil {
		return nil, err
	}
	return a.o.Root.Open(p, key, sealed)
}

// set writes a record that is sealed under the node key, bound to its own key.
func (a *Aliases) set(tx store.Tx, p seal.Purpose, key, plain []byte) error {
	sealed, err := a.o.Root.Seal(p, key, plain)
	if err != nil {
		return err
	}
	return tx.Set(key, sealed)
}

// cacheSize is what an entry of the cache takes at most on average, in bytes.
const cacheSize = 2 << 10

// cache remembers stored aliases by canonical address. Every change calls forget after its
// transaction; an alias that was read before a change can then not be put in afterwards, because
// the generation moved on.
type cache struct {
	mu      sync.Mutex
	gen     uint64
	aliases *lru.Map[mail.Address, *Alias]
}

func (c *cache) get(addr mail.Address) (*Alias, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	al, _ := c.aliases.Get(addr)
	return al, c.gen
}

func (c *cache) put(al *Alias, gen uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gen == gen {
		c.aliases.Put(al.Address, al, int64(256+len(al.Vaulted)+personLen*len(al.people)))
	}
}

func (c *cache) forget(addr mail.Address) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen++
	c.aliases.Delete(addr)
}

// clear forgets all: for the rare changes of a whole owner.
func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen++
	for k := range c.aliases.All() {
		c.aliases.Delete(k)
	}
}
