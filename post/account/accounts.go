package account

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/kit/lru"
	"postern.email/mail"
	"postern.email/post/names"
	"postern.email/post/seal"
	"postern.email/store"
)

// Accounts is the office's register. Safe for use by many goroutines.
type Accounts struct {
	o         Options
	names     *names.Names
	domains   map[string]struct{} // canonical
	cache     *resolveCache
	ring      *keyring
	slow      *throttle
	gate      *gate
	jobSecret [32]byte
	runs      atomic.Uint64 // numbers the operator's runs
	hashed    atomic.Uint64 // password hashes so far

	newTotal, newNetwork *limits.GCRA

	makingMu sync.Mutex
	making   map[seal.AccountID]struct{} // accounts that this process is making now
}

// markerShard holds the marker record.
const markerShard store.Shard = 0

// markerText is what the marker seals.
const markerText = "postern store"

// New opens the register in o.Store. errs.Corrupt when the store was made with
// another root key.
func New(ctx context.Context, o Options) (*Accounts, error) {
	const op = "account.New"
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, errs.Wrap(op, err)
	}
	a := &Accounts{o: o, names: names.New(o.Store, o.Root), domains: make(map[string]struct{}), making: make(map[seal.AccountID]struct{})}
	for _, d := range o.Domains {
		a.domains[mail.Address{Local: "x", Domain: d}.Canonical().Domain] = struct{}{}
	}
	a.cache = &resolveCache{lru: lru.New[mail.Address, *record](o.ResolveCache, 0)}
	a.slow = &throttle{o: &a.o, fails: lru.New[throttleKey, failures](o.FailKeys, 0), proven: lru.New[throttleKey, time.Time](o.FailKeys, 0)}
	var checkKey [32]byte
	for _, k := range [][]byte{a.jobSecret[:], a.slow.key[:], checkKey[:]} {
		if _, err := io.ReadFull(o.Rand, k); err != nil {
			return nil, errs.E(op, errs.Internal, "", err)
		}
	}
	a.ring = newKeyring(o.Grace, o.MaxIdleKeys, o.Now, checkKey)
	a.gate = newGate(o.GateSlots, o.GateQueue, o.GatePerNetwork, o.GateWait,
		func(o outcome) {
			if o.key != nil {
				a.ring.retain(o.key)
			}
		},
		func(o outcome) {
			if o.key != nil {
				a.ring.release(o.key)
			}
		})
	a.newTotal = limits.NewGCRA(o.CreatePerMinute, o.CreateBurst, 1, o.Now)
	a.newNetwork = limits.NewGCRA(o.CreateNetworkPerMinute, o.CreateNetworkBurst, o.FailKeys, o.Now)
	return a, errs.Wrap(op, a.mark(ctx))
}

// mark checks the marker, or puts it into a new store.
func (a *Accounts) mark(ctx context.Context) error {
	key := []byte{letterMarker}
	check := func(sealed []byte) error {
		plain, err := a.o.Root.Open(seal.PurposeMarker, key, sealed)
		if err != nil || string(plain) != markerText {
			return errs.E("account.mark", errs.Corrupt, textOtherNode, err)
		}
		return nil
	}
	err := a.o.Store.View(ctx, markerShard, func(r store.Reader) error {
		sealed, err := r.Get(key)
		if err != nil {
			return err
		}
		return check(sealed)
	})
	if !is(err, errs.NotFound) {
		return err
	}
	fresh, err := a.o.Root.Seal(seal.PurposeMarker, key, []byte(markerText))
	if err != nil {
		return err
	}
	return a.o.Store.Update(ctx, markerShard, func(tx store.Tx) error {
		sealed, err := tx.Get(key)
		if is(err, errs.NotFound) {
			return tx.Set(key, fresh)
		}
		if err != nil {
			return err
		}
		return check(sealed)
	})
}

// Close ends the register: waits for running password hashes and erases all
// opened keys. Sessions that are still open fail from then on.
func (a *Accounts) Close() {
	a.gate.close()
	a.ring.close()
	clear(a.jobSecret[:])
}

// Load is how busy the door is now.
type Load struct {
	Hashed   uint64 // password hashes since New, all kinds
	Hashing  int    // password hashes that run
	Waiting  int    // logins that wait for one
	KeysUsed int    // opened keys with a session
	KeysIdle int    // opened keys in their grace
}

// Load gives numbers for metrics and the status command.
func (a *Accounts) Load() (l Load) {
	l.Hashed = a.hashed.Load()
	l.Hashing, l.Waiting = a.gate.load()
	l.KeysUsed, l.KeysIdle = a.ring.open()
	return l
}

// Resolve gives the account that mail to addr is for; "+" and what follows in
// the local part is cut. errs.NotFound when there is none, errs.Unavailable while
// it is being reset; blocked accounts are given with Blocked set. Served from
// memory mostly.
func (a *Accounts) Resolve(ctx context.Context, addr mail.Address) (Account, error) {
	return a.show(ctx, "account.Resolve", addr.Mailbox(), true)
}

// Show gives the account of exactly this address.
func (a *Accounts) Show(ctx context.Context, addr mail.Address) (Account, error) {
	return a.show(ctx, "account.Show", addr.Canonical(), false)
}

func (a *Accounts) show(ctx context.Context, op string, addr mail.Address, mail bool) (Account, error) {
	if !a.Ours(addr) {
		return Account{}, errs.E(op, errs.NotFound, "", nil)
	}
	r, err := a.find(ctx, addr)
	if err != nil {
		return Account{}, errs.Wrap(op, err)
	}
	if mail && r.resetting {
		return Account{}, errs.E(op, errs.Unavailable, textReset, nil)
	}
	return r.Account, nil
}
