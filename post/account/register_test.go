package account

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	crvfs "github.com/cockroachdb/pebble/v2/vfs"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/store/storetest"
)

// slowViews lets a test stop a reader between the store and the cache.
type slowViews struct {
	store.Store
	stop atomic.Pointer[func()]
}

func (s *slowViews) View(ctx context.Context, sh store.Shard, fn func(store.Reader) error) error {
	err := s.Store.View(ctx, sh, fn)
	if f := s.stop.Load(); f != nil && s.stop.CompareAndSwap(f, nil) {
		(*f)()
	}
	return err
}

// What was read before a change never gets into the cache after it.
func TestResolveNeverGivesAnOldRecord(t *testing.T) {
	st := &slowViews{Store: openStore(t, crvfs.NewMem())}
	a := officeOn(t, st)
	s := login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	for name, change := range map[string]func() error{
		"set":    func() error { q := int64(9); _, err := a.Set(ctx, s.Address, Change{Quota: &q}); return err },
		"block":  func() error { return a.Block(ctx, s.Address) },
		"reset":  func() error { return a.Reset(ctx, s.Address, "battery staple") },
		"delete": func() error { return a.Delete(ctx, s.Address) },
	} {
		t.Run(name, func(t *testing.T) {
			a.cache.forget(s.Address)
			before, err := a.Resolve(ctx, s.Address)
			if errs.KindOf(err) == errs.NotFound && err != nil {
				return // the deletion came first
			}
			if err != nil {
				t.Fatal(err)
			}
			a.cache.forget(s.Address)
			views := 0
			var hook func()
			hook = func() {
				if views++; views == 2 { // the account was read, the cache not yet filled
					if err := change(); err != nil {
						t.Error(err)
					}
					return
				}
				st.stop.Store(&hook)
			}
			st.stop.Store(&hook)
			if _, err := a.Resolve(ctx, s.Address); err != nil {
				t.Fatal(err)
			}
			after, err := a.Resolve(ctx, s.Address)
			if err == nil && after.Quota == before.Quota && after.Blocked == before.Blocked && string(after.Public) == string(before.Public) {
				t.Error("an old record was served")
			}
		})
	}
}

func TestResolveAmongChanges(t *testing.T) {
	a := office(t)
	s := login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	var floor atomic.Int64 // quota that was acknowledged
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				low := floor.Load()
				acc, err := a.Resolve(ctx, s.Address)
				if err != nil || acc.Quota < low {
					t.Errorf("quota %d after %d was acknowledged, %v", acc.Quota, low, err)
					return
				}
			}
		})
	}
	for q := int64(1); q <= 200; q++ {
		if _, err := a.Set(ctx, s.Address, Change{Quota: &q}); err != nil {
			t.Fatal(err)
		}
		floor.Store(q)
	}
	close(done)
	wg.Wait()
}

func TestResolveCacheIsBounded(t *testing.T) {
	a := office(t, func(o *Options) { o.ResolveCache = 4 })
	for i := range 12 {
		name := fmt.Sprintf("user%d@example.org", i)
		login(t, a, name, "correct horse", "192.0.2.1").Close()
		if _, err := a.Resolve(ctx, addr(t, name)); err != nil {
			t.Fatal(err)
		}
		if n := a.cache.lru.Len(); n > 4 {
			t.Fatalf("%d records remembered", n)
		}
	}
}

// Changes of other accounts cost a login no second password hash.
func TestChangesElsewhereDoNotDisturb(t *testing.T) {
	var a *Accounts
	var hashes int
	a = office(t, func(o *Options) {
		o.hash = func(f func()) {
			hashes++
			f()
			for i := range 1000 { // as when a sweep removes many
				a.ring.end(seal.AccountID{byte(i >> 8), 0, 0, 0, 0, 0, 0, byte(i)})
			}
		}
	})
	id := login(t, a, "alice@example.org", "correct horse", "192.0.2.1").ID
	a.ring.end(id)
	login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	if hashes != 2 {
		t.Errorf("%d hashes", hashes)
	}
}

// A name that points to nothing is an error, never a new account.
func TestDanglingNameIsNotMadeAnew(t *testing.T) {
	a := office(t)
	s := login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	err := a.o.Store.Update(ctx, s.ID.Shard(), func(tx store.Tx) error { return tx.DeleteRange(s.ID.Prefix(), s.ID.End()) })
	if err != nil {
		t.Fatal(err)
	}
	a.cache.forget(s.Address)
	wantKind(t, try(a, "alice@example.org", "correct horse", "192.0.2.1"), errs.Corrupt, "")
	_, err = a.Resolve(ctx, s.Address)
	wantKind(t, err, errs.Corrupt, "")
}

func TestOptionsAreChecked(t *testing.T) {
	st := openStore(t, crvfs.NewMem())
	for name, set := range map[string]func(*Options){
		"no store":        func(o *Options) { o.Store = nil },
		"no root":         func(o *Options) { o.Root = nil },
		"no domain":       func(o *Options) { o.Domains = nil },
		"names":           func(o *Options) { o.MinName, o.MaxName = 9, 8 },
		"long names":      func(o *Options) { o.MaxName = 65 },
		"passwords":       func(o *Options) { o.MinPassword, o.MaxPassword = 9, 8 },
		"cost":            func(o *Options) { o.Params.Memory = 1 << 30; o.Params.Time = 1; o.Params.Threads = 1 },
		"class":           func(o *Options) { o.NewClass = numClasses },
		"tokens":          func(o *Options) { o.TokensPerAccount = maxTokens + 1 },
		"gate":            func(o *Options) { o.GateSlots = -1 },
		"caches":          func(o *Options) { o.MaxIdleKeys = -1 },
		"delays":          func(o *Options) { o.FailDelay = -1 },
		"orphans":         func(o *Options) { o.OrphanAge = runTimeout },
		"days":            func(o *Options) { o.ReuseAfterDays = -1 },
		"network's delay": func(o *Options) { o.FailNetworkFree = -1 },
	} {
		o := Options{Store: st, Root: testRoot(t), Domains: []string{"example.org"}}
		set(&o)
		if _, err := New(ctx, o); errs.KindOf(err) != errs.Invalid || errs.Public(err) == errs.Invalid.Error() {
			t.Errorf("%s: %v", name, err)
		}
	}
	if o := (Options{}).withDefaults(); o.MinPassword != 9 || o.Grace != DefaultGrace || o.InactiveDays != 90 || o.Params.String() != "argon2id t=2 m=19456 p=1" {
		t.Errorf("defaults %+v", o)
	}
}

// Several domains, however they are written, are ours.
func TestDomains(t *testing.T) {
	a := officeOn(t, openStore(t, crvfs.NewMem()), func(o *Options) { o.Domains = []string{"Example.ORG", "bücher.example"} })
	login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	s := login(t, a, "alice@xn--bcher-kva.example", "correct horse", "192.0.2.1")
	again := login(t, a, "alice@BÜCHER.example", "correct horse", "192.0.2.1")
	if s.ID != again.ID {
		t.Error("one domain in two spellings has two accounts of one name")
	}
}

// An account whose number was drawn before is never overwritten.
func TestNumberDrawnTwice(t *testing.T) {
	st := openStore(t, crvfs.NewMem())
	a := officeOn(t, &storetest.Faulty{Store: st}, func(o *Options) { o.Rand = sameNumber{} })
	login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	wantKind(t, try(a, "bob@example.org", "correct horse", "192.0.2.1"), errs.Conflict, "")
	wantFindings(t, a)
}

// sameNumber is a bad source of randomness.
type sameNumber struct{}

func (sameNumber) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 5
	}
	return len(b), nil
}
