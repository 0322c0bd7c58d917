package account

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/kit/passhash"
	"postern.email/mail"
	"postern.email/post/seal"
	"postern.email/store"
)

// memory is a store of maps, small enough for thousands of accounts in a bubble
// of fake time. One log.
type memory struct {
	store.Store
	mu sync.Mutex
	m  map[store.Shard]map[string][]byte
}

type memoryTx struct {
	store.Tx
	s     *memory
	shard store.Shard
}

func (s *memory) tx(sh store.Shard) memoryTx {
	if s.m == nil {
		s.m = map[store.Shard]map[string][]byte{}
	}
	if s.m[sh] == nil {
		s.m[sh] = map[string][]byte{}
	}
	return memoryTx{s: s, shard: sh}
}

func (s *memory) View(_ context.Context, sh store.Shard, fn func(store.Reader) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fn(s.tx(sh))
}

func (s *memory) Update(_ context.Context, sh store.Shard, fn func(store.Tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fn(s.tx(sh)) // nothing here fails half way
}

func (t memoryTx) Get(k []byte) ([]byte, error) {
	v, ok := t.s.m[t.shard][string(k)]
	if !ok {
		return nil, errs.E("memory.Get", errs.NotFound, "", nil)
	}
	return v, nil
}

func (t memoryTx) Set(k, v []byte) error {
	t.s.m[t.shard][string(k)] = bytes.Clone(v)
	return nil
}

func (t memoryTx) Other(sh store.Shard) (store.Tx, error) { return t.s.tx(sh), nil }

// After a kill -9 five thousand accounts from a handful of networks log in again,
// with all keys closed, on two cores where a password hash takes 20 ms, while a
// stranger's network sends 100 wrong passwords a second at real accounts, and new
// people keep coming. Everybody is back within three minutes.
func TestFiveThousandComeBack(t *testing.T) {
	const (
		accounts = 5000
		networks = 5
		cost     = 20 * time.Millisecond
		limit    = 3 * time.Minute
	)
	synctest.Test(t, func(t *testing.T) {
		st := &memory{}
		var counted atomic.Bool
		var hashes, strangerHashes atomic.Int64
		a := officeOn(t, st, func(o *Options) {
			o.GateSlots = 2
			o.hash = func(run func()) {
				if counted.Load() {
					hashes.Add(1)
					time.Sleep(cost)
				}
				run()
			}
		})
		// One key for all: making 5,000 takes long, and nothing here looks at them.
		name := func(i int) mail.Address { return mail.Address{Local: fmt.Sprintf("user%d", i), Domain: "example.org"} }
		for i := range accounts {
			key, err := seal.Generate(seal.AccountID{byte(i >> 8), byte(i), 1}, nil)
			if err != nil {
				t.Fatal(err)
			}
			record, err := a.wrap(key, "correct horse")
			if err != nil {
				t.Fatal(err)
			}
			if err := a.register(context.Background(), key, record, infoRecord{addr: name(i), created: 1}); err != nil {
				t.Fatal(err)
			}
			key.Close()
		}
		counted.Store(true)
		begin := time.Now()
		stop := make(chan struct{})
		var strangers, users sync.WaitGroup
		var wrong, let atomic.Int64
		strangers.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				target := name(i * 7919 % accounts)
				if i%2 == 0 {
					target = name(1) // half of it at one person
				}
				strangers.Go(func() {
					wrong.Add(1)
					_, err := a.Login(context.Background(), LoginRequest{Name: target.String(), Password: fmt.Sprintf("guess number %d", i), Peer: peer("198.51.100.66")})
					switch errs.KindOf(err) {
					case errs.Auth:
						strangerHashes.Add(1)
					case errs.Busy:
					default:
						t.Errorf("a stranger: %v", err)
						let.Add(1)
					}
				})
			}
		})
		strangers.Go(func() { // new people, from elsewhere
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				_ = try(a, fmt.Sprintf("new%d@example.org", i), "correct horse", "203.0.113.5")
			}
		})
		var slowest atomic.Int64
		var retries atomic.Int64
		for i := range accounts {
			users.Go(func() {
				time.Sleep(time.Duration(i%3000) * time.Millisecond) // clients notice within seconds
				p := peer(fmt.Sprintf("192.0.2.%d", i%networks+1))
				if i%networks == 0 {
					p = limits.Peer{Exempt: true}
				}
				for {
					s, err := a.Login(context.Background(), LoginRequest{Name: name(i).String(), Password: "correct horse", Peer: p})
					if err == nil {
						t.Cleanup(s.Close)
						took := int64(time.Since(begin))
						for {
							old := slowest.Load()
							if took <= old || slowest.CompareAndSwap(old, took) {
								return
							}
						}
					}
					if errs.KindOf(err) != errs.Busy {
						t.Errorf("a user: %v", err)
						return
					}
					if time.Since(begin) > 2*limit {
						t.Error("a user never got in")
						return
					}
					retries.Add(1)
					time.Sleep(5*time.Second + time.Duration(i%1000)*time.Millisecond)
				}
			})
		}
		users.Wait()
		close(stop)
		strangers.Wait()
		t.Logf("all back after %v; %d hashes, %d of them for %d wrong passwords, %d retries",
			time.Duration(slowest.Load()), hashes.Load(), strangerHashes.Load(), wrong.Load(), retries.Load())
		if got := time.Duration(slowest.Load()); got > limit {
			t.Errorf("the last user was back after %v", got)
		}
		if n := strangerHashes.Load(); n > 100 {
			t.Errorf("the stranger got %d hashes", n)
		}
	})
}

func BenchmarkLoginOpenedKey(b *testing.B) {
	a := office(b)
	login(b, a, "alice@example.org", "correct horse", "192.0.2.1")
	r := LoginRequest{Name: "alice@example.org", Password: "correct horse", Peer: peer("192.0.2.1")}
	for b.Loop() {
		s, err := a.Login(ctx, r)
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}

func BenchmarkLoginClosedKey(b *testing.B) {
	a := office(b, func(o *Options) { o.Params = passhash.Password() })
	id := login(b, a, "alice@example.org", "correct horse", "192.0.2.1").ID
	r := LoginRequest{Name: "alice@example.org", Password: "correct horse", Peer: peer("192.0.2.1")}
	for b.Loop() {
		a.ring.end(id)
		s, err := a.Login(ctx, r)
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}

// BenchmarkComeBack is the scenario with the real password hash, as many at once
// as there are cores: the number to multiply by 5,000.
func BenchmarkComeBack(b *testing.B) {
	a := office(b, func(o *Options) { o.Params = passhash.Password() })
	var ids []seal.AccountID
	const n = 16
	for i := range n {
		ids = append(ids, login(b, a, fmt.Sprintf("user%d@example.org", i), "correct horse", "192.0.2.1").ID)
	}
	var at atomic.Int64
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := int(at.Add(1)) % n
			a.ring.end(ids[i])
			s, err := a.Login(ctx, LoginRequest{Name: fmt.Sprintf("user%d@example.org", i), Password: "correct horse", Peer: peer("192.0.2.1")})
			if err != nil {
				b.Fatal(err)
			}
			s.Close()
		}
	})
}

func BenchmarkResolve(b *testing.B) {
	a := office(b)
	s := login(b, a, "alice@example.org", "correct horse", "192.0.2.1")
	for b.Loop() {
		if _, err := a.Resolve(ctx, s.Address); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkResolveCold(b *testing.B) {
	a := office(b)
	s := login(b, a, "alice@example.org", "correct horse", "192.0.2.1")
	for b.Loop() {
		a.cache.forget(s.Address)
		if _, err := a.Resolve(ctx, s.Address); err != nil {
			b.Fatal(err)
		}
	}
}
