package account

import (
	"bytes"
	"context"
	"net/netip"
	"testing"
	"time"

	crvfs "github.com/cockroachdb/pebble/v2/vfs"

	"postern.email/kit/clocktest"
	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/kit/passhash"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/store/pebble"
)

// cheap is a password hash that costs next to nothing.
var cheap = passhash.Cost{Time: 1, Memory: 8, Threads: 1}

func openStore(t testing.TB, fs vfs.FS) store.Store {
	t.Helper()
	s, err := pebble.Open(context.Background(), pebble.Options{FS: fs, Dir: "store"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func testRoot(t testing.TB) *seal.Root {
	t.Helper()
	root, err := seal.NewRoot(bytes.Repeat([]byte{7}, seal.KeyLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// office opens a register with cheap hashes on a fresh disk in memory.
func office(t testing.TB, set ...func(*Options)) *Accounts {
	t.Helper()
	return officeOn(t, openStore(t, crvfs.NewMem()), set...)
}

func officeOn(t testing.TB, s store.Store, set ...func(*Options)) *Accounts {
	t.Helper()
	o := Options{Store: s, Root: testRoot(t), Domains: []string{"example.org"}, Params: cheap}
	for _, f := range set {
		f(&o)
	}
	a, err := New(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func peer(ip string) limits.Peer { return limits.Peer{Addr: netip.MustParseAddr(ip)} }

func addr(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// login logs in and closes the session at the test's end.
func login(t testing.TB, a *Accounts, name, password, ip string) *Session {
	t.Helper()
	s, err := a.Login(context.Background(), LoginRequest{Name: name, Password: password, Peer: peer(ip)})
	if err != nil {
		t.Fatalf("login of %s: %v", name, err)
	}
	t.Cleanup(s.Close)
	return s
}

// wantKind checks the kind and the public text of an error.
func wantKind(t testing.TB, err error, kind errs.Kind, public string) {
	t.Helper()
	if err == nil || errs.KindOf(err) != kind {
		t.Fatalf("got error %v, want kind %v", err, kind)
	}
	if public != "" && errs.Public(err) != public {
		t.Fatalf("public text %q, want %q", errs.Public(err), public)
	}
}

func newClock() *clocktest.Clock {
	return clocktest.New(time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC))
}

// waitFor polls until ok, for a minute at most.
func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("it did not happen")
		}
	}
}
