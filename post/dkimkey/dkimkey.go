package dkimkey

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/mail/dkim"
	"postern.email/post/seal"
	"postern.email/store"
)

// Defaults and limits.
const (
	DefaultOverlap = 7 * 24 * time.Hour // longer than a mail waits in a queue
	DefaultEvery   = 5 * time.Minute
	PublishWait    = 24 * time.Hour // longer than a resolver keeps a record that is gone
	MaxPairs       = 500            // ever made, the removed ones included
	rsaBits        = 2048           // RFC 8301 §3.2; more does not fit in what DNS hosters take
)

// Options of Keys. Store, Root and Domain are needed.
type Options struct {
	Store   store.Store
	Root    *seal.Root
	Domain  string        // where the records lie
	Also    []string      // other domains that the same keys sign for; the records lie in each
	Overlap time.Duration // how long the records of a retired pair must stay; 0: DefaultOverlap
	Publish bool          // the private halves of removed pairs are for everybody to see
	Every   time.Duration // how often Run looks; 0: DefaultEvery
	Now     func() time.Time
	Rand    io.Reader // for Ed25519; RSA keys take the standard library's own. nil: crypto/rand
	Logger  *slog.Logger
	// NewRSA makes an RSA key; nil: a fresh one of 2048 bits. It is here because that costs
	// a good part of a second, and many in a test whose code is watched.
	NewRSA func() (*rsa.PrivateKey, error)
}

// Keys are the signing keys of one domain, and of others that share them. They may be used by many goroutines, by one
// process at a time.
type Keys struct {
	o    Options
	turn chan struct{} // holds one token: who has it may change pairs

	mu    sync.Mutex
	pairs []*pair // never changed in place; oldest first

	signing  atomic.Pointer[[]dkim.Key] // of the active pair; nil: there is none yet
	unpurged atomic.Bool                // keys were destroyed, and their bytes may still be in a file
}

// Open reads the keys in o.Store; it makes none. errs.Corrupt when a record cannot be
// opened.
func Open(ctx context.Context, o Options) (*Keys, error) {
	const op = "post/dkimkey.Open"
	defaults.Positive(&o.Overlap, DefaultOverlap)
	defaults.Positive(&o.Every, DefaultEvery)
	defaults.Clock(&o.Now)
	defaults.Rand(&o.Rand)
	defaults.Logger(&o.Logger)
	if o.NewRSA == nil {
		o.NewRSA = func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, rsaBits) }
	}
	k := &Keys{o: o, turn: make(chan struct{}, 1)}
	k.turn <- struct{}{}
	var pairs []*pair
	err := o.Store.View(ctx, home, func(r store.Reader) error {
		pairs = nil
		return r.Scan(recordsStart, recordsEnd, func(key, sealed []byte) (bool, error) {
			p, err := open(o.Root, key, sealed)
			pairs = append(pairs, p)
			return true, err
		})
	})
	switch {
	case err == nil:
	case errs.KindOf(err) == errs.Corrupt:
		return nil, errs.E(op, errs.Corrupt, "the keys that sign mail cannot be read: the store is damaged", err)
	default:
		return nil, errs.Wrap(op, err)
	}
	k.set(pairs)
	return k, nil
}

// set makes pairs what the others see.
func (k *Keys) set(pairs []*pair) {
	slices.SortFunc(pairs, older)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pairs = pairs
	k.signing.Store(nil)
	for _, p := range pairs {
		if p.State == Active {
			keys := p.signing()
			k.signing.Store(&keys)
		}
	}
}

// all gives the pairs as they are now.
func (k *Keys) all() []*pair {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.pairs
}

// change runs fn on a copy of the list while nobody else changes it. fn gives the pairs to
// write; they take the place of those of the same name.
func (k *Keys) change(ctx context.Context, fn func(now time.Time, pairs []*pair) (write []*pair, err error)) error {
	select {
	case <-ctx.Done():
		return errs.E("post/dkimkey.change", errs.Canceled, "", ctx.Err())
	case <-k.turn:
	}
	defer func() { k.turn <- struct{}{} }()
	pairs := slices.Clone(k.all())
	write, err := fn(k.o.Now().UTC().Truncate(time.Second), pairs)
	if err != nil || len(write) == 0 {
		return err
	}
	records := make([][]byte, len(write))
	for i, p := range write {
		if records[i], err = p.seal(k.o.Root); err != nil {
			return err
		}
	}
	if err := k.o.Store.Update(ctx, home, func(tx store.Tx) error {
		for i, p := range write {
			if err := tx.Set(recordKey(p.Name), records[i]); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	for _, p := range write {
		if i := slices.IndexFunc(pairs, func(q *pair) bool { return q.Name == p.Name }); i >= 0 {
			pairs[i] = p
		} else {
			pairs = append(pairs, p)
		}
	}
	k.set(pairs)
	return nil
}

// Signing gives the keys of the active pair, for dkim.Signer. When there is none yet it
// makes the first, which takes a moment.
func (k *Keys) Signing(ctx context.Context) ([]dkim.Key, error) {
	if keys := k.signing.Load(); keys != nil {
		return *keys, nil
	}
	if _, err := k.first(ctx); err != nil {
		return nil, errs.Wrap("post/dkimkey.Signing", err)
	}
	keys := k.signing.Load()
	if keys == nil {
		return nil, errs.E("post/dkimkey.Signing", errs.Internal, "there is no key to sign mail with", nil)
	}
	return *keys, nil
}

// first makes the first pair if no pair is active; made says whether.
func (k *Keys) first(ctx context.Context) (made bool, err error) {
	err = k.change(ctx, func(now time.Time, pairs []*pair) ([]*pair, error) {
		if slices.ContainsFunc(pairs, func(p *pair) bool { return p.State == Active }) {
			return nil, nil
		}
		p, err := k.make(now, pairs)
		if err != nil {
			return nil, err
		}
		p.State, p.Activated = Active, now
		made = true
		return []*pair{p}, nil
	})
	return made && err == nil, err
}

// make makes a pair that nobody sees yet.
func (k *Keys) make(now time.Time, pairs []*pair) (*pair, error) {
	const op = "post/dkimkey.make"
	if len(pairs) >= MaxPairs {
		return nil, errs.E(op, errs.Full, "too many signing keys were made", nil)
	}
	private, err := k.o.NewRSA()
	if err != nil {
		return nil, errs.E(op, errs.Internal, "cannot make a key", err)
	}
	var seed [ed25519.SeedSize]byte
	defer clear(seed[:])
	if _, err := io.ReadFull(k.o.Rand, seed[:]); err != nil {
		return nil, errs.E(op, errs.Internal, "cannot make a key", err)
	}
	p := &pair{rsa: private, ed: ed25519.NewKeyFromSeed(seed[:])}
	p.Name = nextName(now.Year(), func(name string) bool {
		return slices.ContainsFunc(pairs, func(q *pair) bool { return q.Name == name })
	})
	p.Made = now
	p.setPublic(&private.PublicKey, p.ed.Public().(ed25519.PublicKey))
	return p, nil
}

// List gives all pairs, oldest first.
func (k *Keys) List() []Pair {
	all := k.all()
	out := make([]Pair, len(all))
	for i, p := range all {
		out[i] = p.Pair
	}
	return out
}

// Current gives the pairs whose records belong in the DNS: the active one, which it makes
// if there is none yet, a new and the retiring ones, oldest first.
func (k *Keys) Current(ctx context.Context) ([]Pair, error) {
	if _, err := k.Signing(ctx); err != nil {
		return nil, errs.Wrap("post/dkimkey.Current", err)
	}
	return slices.DeleteFunc(k.List(), func(p Pair) bool { return p.State == Removed }), nil
}

// Rotate makes a new pair, which Look makes the active one once its records are seen. If
// no pair was there, the one that it makes is active. errs.Exists when one is waiting
// already, errs.Full after MaxPairs.
func (k *Keys) Rotate(ctx context.Context) (Pair, error) {
	const op = "post/dkimkey.Rotate"
	var out Pair
	err := k.change(ctx, func(now time.Time, pairs []*pair) ([]*pair, error) {
		active := false
		for _, p := range pairs {
			if p.State == New {
				return nil, errs.E(op, errs.Exists, "the new pair "+p.Name+" is waiting for its records already", nil)
			}
			active = active || p.State == Active
		}
		p, err := k.make(now, pairs)
		if err != nil {
			return nil, err
		}
		if !active {
			p.State, p.Activated = Active, now
		}
		out = p.Pair
		return []*pair{p}, nil
	})
	if err != nil {
		return Pair{}, errs.Wrap(op, err)
	}
	return out, nil
}
