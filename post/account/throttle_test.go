package account

import (
	"fmt"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
)

func slowed(sec int) string { return fmt.Sprintf(textSlowed, sec) }

func TestWrongPasswordsAreSlowed(t *testing.T) {
	clock := newClock()
	a := office(t, func(o *Options) { o.Now = clock.Now; o.FailMaxDelay = 10 * time.Second })
	login(t, a, "alice@example.org", "correct horse", "192.0.2.1").Close()
	a.ring.end(login(t, a, "bob@example.org", "correct horse", "192.0.2.1").ID)
	wrong := func(ip string) error { return try(a, "bob@example.org", "wrong horse", ip) }
	for range DefaultFailFree + 1 {
		wantKind(t, wrong("198.51.100.1"), errs.Auth, textAuth)
	}
	// The delay doubles: 1, 2, 4, 8 and then the longest, 10 s.
	for _, sec := range []int{1, 2, 4, 8, 10, 10} {
		wantKind(t, wrong("198.51.100.1"), errs.Busy, slowed(sec))
		wantKind(t, try(a, "bob@example.org", "correct horse", "198.51.100.1"), errs.Busy, slowed(sec))
		clock.Add(time.Duration(sec) * time.Second)
		wantKind(t, wrong("198.51.100.1"), errs.Auth, textAuth)
	}
	// No other network is delayed, whether it was seen before or not.
	if err := try(a, "bob@example.org", "correct horse", "192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	a.ring.end(a.mustID(t, "bob@example.org"))
	if err := try(a, "bob@example.org", "correct horse", "203.0.113.9"); err != nil {
		t.Fatal(err)
	}
	// Peace forgets: a right password from there is let in at last.
	clock.Add(10 * time.Second)
	a.ring.end(a.mustID(t, "bob@example.org"))
	if err := try(a, "bob@example.org", "correct horse", "198.51.100.1"); err != nil {
		t.Fatal(err)
	}
}

func (a *Accounts) mustID(t *testing.T, name string) (id [8]byte) {
	t.Helper()
	acc, err := a.Show(ctx, addr(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return acc.ID
}

// Unknown names are slowed like known ones when creation is off.
func TestUnknownNamesAreSlowedAlike(t *testing.T) {
	clock := newClock()
	a := office(t, func(o *Options) {
		o.Now = clock.Now
		o.MayCreate = func() error { return errs.E("test", errs.Denied, "", nil) }
	})
	if _, err := a.Create(ctx, CreateRequest{Address: addr(t, "bob@example.org"), Password: "correct horse"}); err != nil {
		t.Fatal(err)
	}
	for range DefaultFailFree + 1 {
		wantKind(t, try(a, "bob@example.org", "wrong horse", "198.51.100.1"), errs.Auth, textAuth)
		wantKind(t, try(a, "nobody@example.org", "wrong horse", "198.51.100.1"), errs.Auth, textAuth)
	}
	wantKind(t, try(a, "bob@example.org", "wrong horse", "198.51.100.1"), errs.Busy, slowed(1))
	wantKind(t, try(a, "nobody@example.org", "wrong horse", "198.51.100.1"), errs.Busy, slowed(1))
}

func TestNetworksAreSlowed(t *testing.T) {
	clock := newClock()
	a := office(t, func(o *Options) {
		o.Now = clock.Now
		o.MayCreate = func() error { return errs.E("test", errs.Denied, "", nil) }
	})
	create := func(name string) {
		t.Helper()
		if _, err := a.Create(ctx, CreateRequest{Address: addr(t, name), Password: "correct horse"}); err != nil {
			t.Fatal(err)
		}
	}
	create("alice@example.org")
	create("bob@example.org")
	// Alice has logged in from this network before a stranger there sprays names.
	login(t, a, "alice@example.org", "correct horse", "198.51.100.1").Close()
	a.ring.end(a.mustID(t, "alice@example.org"))
	for i := range DefaultFailNetFree + 1 {
		wantKind(t, try(a, fmt.Sprintf("user%d@example.org", i), "wrong horse", "198.51.100.1"), errs.Auth, textAuth)
	}
	wantKind(t, try(a, "bob@example.org", "correct horse", "198.51.100.1"), errs.Busy, slowed(1))
	if err := try(a, "bob@example.org", "correct horse", "198.51.100.2"); err != nil {
		t.Fatal(err)
	}
	if err := try(a, "alice@example.org", "correct horse", "198.51.100.1"); err != nil {
		t.Fatalf("the owner is delayed by her neighbour: %v", err)
	}
	// Her own budget is one too.
	a.ring.end(a.mustID(t, "alice@example.org"))
	for range DefaultFailFree + 1 {
		wantKind(t, try(a, "alice@example.org", "wrong horse", "198.51.100.1"), errs.Auth, textAuth)
	}
	wantKind(t, try(a, "alice@example.org", "wrong horse", "198.51.100.1"), errs.Busy, slowed(1))
}

// Guessing at one account from many networks is slowed for those who guess, and
// for nobody else.
func TestAccountsAreSlowedAcrossNetworks(t *testing.T) {
	clock := newClock()
	a := office(t, func(o *Options) { o.Now = clock.Now })
	a.ring.end(login(t, a, "bob@example.org", "correct horse", "192.0.2.1").ID)
	for i := range DefaultFailFree + 1 {
		wantKind(t, try(a, "bob@example.org", "wrong horse", fmt.Sprintf("198.51.100.%d", i+1)), errs.Auth, textAuth)
	}
	wantKind(t, try(a, "bob@example.org", "wrong horse", "198.51.100.1"), errs.Busy, slowed(1))
	if err := try(a, "bob@example.org", "correct horse", "203.0.113.1"); err != nil {
		t.Fatalf("a network that never failed is delayed: %v", err)
	}
}

// Exempt peers are free of the network's limit, not of the account's.
func TestExemptPeers(t *testing.T) {
	clock := newClock()
	a := office(t, func(o *Options) {
		o.Now = clock.Now
		o.MayCreate = func() error { return errs.E("test", errs.Denied, "", nil) }
	})
	exempt := func(name, password string) error {
		s, err := a.Login(ctx, LoginRequest{Name: name, Password: password, Peer: limits.Peer{Addr: peer("10.0.0.1").Addr, Exempt: true}})
		if err == nil {
			s.Close()
		}
		return err
	}
	if _, err := a.Create(ctx, CreateRequest{Address: addr(t, "bob@example.org"), Password: "correct horse"}); err != nil {
		t.Fatal(err)
	}
	for i := range 3 * DefaultFailNetFree {
		wantKind(t, exempt(fmt.Sprintf("user%d@example.org", i), "wrong horse"), errs.Auth, textAuth)
	}
	for range DefaultFailFree + 1 {
		wantKind(t, exempt("bob@example.org", "wrong horse"), errs.Auth, textAuth)
	}
	for _, sec := range []int{1, 2, 2, 2} {
		wantKind(t, exempt("bob@example.org", "wrong horse"), errs.Busy, slowed(sec))
		clock.Add(time.Duration(sec) * time.Second)
		wantKind(t, exempt("bob@example.org", "wrong horse"), errs.Auth, textAuth)
	}
	clock.Add(2 * time.Second)
	if err := exempt("bob@example.org", "correct horse"); err != nil {
		t.Fatal(err)
	}
}

func TestThrottleIsBounded(t *testing.T) {
	clock := newClock()
	a := office(t, func(o *Options) { o.Now = clock.Now; o.FailKeys = 50 })
	for i := range 200 {
		at := a.slow.attempt(fmt.Sprintf("network %d", i), addr(t, fmt.Sprintf("user%d@example.org", i)))
		a.slow.failed(at)
		a.slow.passed(at)
		if a.slow.fails.Len() > 50 || a.slow.proven.Len() > 50 {
			t.Fatalf("%d failures and %d successes remembered", a.slow.fails.Len(), a.slow.proven.Len())
		}
	}
	// Ever more failures overflow nothing.
	a.o.FailDelay, a.o.FailMaxDelay = time.Hour, 2*time.Hour
	at := a.slow.attempt("x", addr(t, "x@example.org"))
	for range 1000 {
		a.slow.failed(at)
	}
	wantKind(t, a.slow.check(at), errs.Busy, slowed(7200))
	a.o.FailFree = -1
	if err := a.slow.check(at); err != nil {
		t.Errorf("switched off: %v", err)
	}
}

func TestProvenEnds(t *testing.T) {
	clock := newClock()
	a := office(t, func(o *Options) { o.Now = clock.Now })
	at := a.slow.attempt("x", addr(t, "x@example.org"))
	a.slow.passed(at)
	if !a.slow.isProven(at) || a.slow.isProven(a.slow.attempt("y", addr(t, "x@example.org"))) {
		t.Error("proven is not the pair of network and account")
	}
	clock.Add(provenFor)
	if a.slow.isProven(at) {
		t.Error("proven for ever")
	}
}
