package account

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	crvfs "github.com/cockroachdb/pebble/v2/vfs"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/store/storetest"
)

var ctx = context.Background()

func try(a *Accounts, name, password, ip string) error {
	s, err := a.Login(ctx, LoginRequest{Name: name, Password: password, Peer: peer(ip)})
	if err == nil {
		s.Close()
	}
	return err
}

func TestLoginMakesAndOpens(t *testing.T) {
	a := office(t)
	s := login(t, a, "Alice@Example.org", "correct horse", "192.0.2.1")
	if got := s.Address.String(); got != "alice@example.org" {
		t.Fatalf("address %q is not canonical", got)
	}
	again := login(t, a, "alice@EXAMPLE.ORG", "correct horse", "192.0.2.2")
	if again.ID != s.ID || again.Key != s.Key {
		t.Fatal("the second login opened another account or key")
	}
	wantKind(t, try(a, "alice@example.org", "another one", "192.0.2.3"), errs.Auth, textAuth)
	acc, err := a.Resolve(ctx, addr(t, "alice+tag@example.org"))
	if err != nil || acc.ID != s.ID || acc.Class != Strict || string(acc.Public) != string(s.Key.Public()) {
		t.Fatalf("resolve: %v %v", acc, err)
	}
	_, err = a.Resolve(ctx, addr(t, "bob@example.org"))
	wantKind(t, err, errs.NotFound, "")
	_, err = a.Resolve(ctx, addr(t, "alice@example.com"))
	wantKind(t, err, errs.NotFound, "")
	_, err = a.Show(ctx, addr(t, "alice+tag@example.org"))
	wantKind(t, err, errs.NotFound, "")
}

// Opened keys cost no password hash, and neither do equal logins at once.
func TestFastRoadDoesNotHash(t *testing.T) {
	var runs atomic.Int64
	a := office(t, func(o *Options) { o.hash = func(f func()) { runs.Add(1); f() } })
	login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	for range 100 {
		login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	}
	if runs.Load() != 1 {
		t.Fatalf("%d hashes for one creation and 100 logins", runs.Load())
	}
	wantKind(t, try(a, "alice@example.org", "wrong horse", "192.0.2.1"), errs.Auth, textAuth)
	if runs.Load() != 2 {
		t.Fatal("a wrong password is answered without a hash: a stranger learns who is logged in")
	}
}

func TestRulesOfNewNamesAndPasswords(t *testing.T) {
	a := office(t, func(o *Options) { o.MinName, o.MaxName = 3, 9 })
	for _, c := range []struct{ name, password, public string }{
		{"alice", "correct horse", textName},
		{"@example.org", "correct horse", textName},
		{"alice@example.com", "correct horse", textName},
		{"alice@exa@mple.org", "correct horse", textName},
		{"al@example.org", "correct horse", "a new name has 3 to 9 characters"},
		{"alicealice@example.org", "correct horse", "a new name has 3 to 9 characters"},
		{"al+ice@example.org", "correct horse", textLetters},
		{"älice@example.org", "correct horse", textLetters},
		{`"al ice"@example.org`, "correct horse", textLetters},
		{`"a..b"@example.org`, "correct horse", textLetters},
		{`".ab"@example.org`, "correct horse", textLetters},
		{"anonymous@example.org", "correct horse", textReserved},
		{"alice@example.org", "12345678", "a password has at least 9 characters"},
	} {
		wantKind(t, try(a, c.name, c.password, "192.0.2.1"), errs.Denied, c.public)
	}
	wantKind(t, try(a, "alice@example.org", "", "192.0.2.1"), errs.Auth, textAuth)
	wantKind(t, try(a, "alice@example.org", strings.Repeat("x", DefaultMaxPassword+1), "192.0.2.1"), errs.Auth, textAuth)
	for _, name := range []string{"a.b", "a_b-c", "0123456.9"} {
		login(t, a, name+"@example.org", "123456789", "192.0.2.1")
	}
	// What is given out for mail that is sent on is longer than these rules allow.
	wide := officeOn(t, a.o.Store, func(o *Options) { o.MaxName = 64 })
	for _, name := range []string{"bounce." + strings.Repeat("a", 47), "re." + strings.Repeat("a", 42)} {
		wantKind(t, try(wide, name+"@example.org", "correct horse", "192.0.2.1"), errs.Denied, textReserved)
	}
	// Stricter rules later do not keep out who is there.
	later := officeOn(t, a.o.Store, func(o *Options) { o.MinName, o.MinPassword = 9, 20 })
	login(t, later, "a.b@example.org", "123456789", "192.0.2.1")
}

func TestCreationRefused(t *testing.T) {
	var refusal error
	var runs int
	a := office(t, func(o *Options) {
		o.MayCreate = func() error { return refusal }
		o.hash = func(f func()) { runs++; f() }
	})
	login(t, a, "alice@example.org", "correct horse", "192.0.2.1").Close()
	a.ring.expire()
	a.ring.close()
	a.ring = newKeyring(a.o.Grace, a.o.MaxIdleKeys, a.o.Now, [32]byte{1}) // a restart
	for _, c := range []struct {
		refusal error
		kind    errs.Kind
		public  string
	}{
		{errs.E("test", errs.Denied, "nocreate", nil), errs.Auth, textAuth},
		{errs.E("test", errs.Unavailable, "", nil), errs.Unavailable, textNoNew},
		{errs.E("test", errs.NoSpace, "the disk is nearly full", nil), errs.NoSpace, "the disk is nearly full"},
	} {
		refusal = c.refusal
		wantKind(t, try(a, "carol@example.org", "correct horse", "192.0.2.1"), c.kind, c.public)
		login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	}
	// With creation off, an unknown name, one against the rules and a wrong
	// password look the same and cost the same.
	refusal = errs.E("test", errs.Denied, "nocreate", nil)
	var texts, costs []string
	for _, try1 := range []struct{ name, password string }{{"alice", "wrong horse"}, {"dave", "wrong horse"}, {"x", "wrong horse"}, {"dave", "short"}} {
		runs = 0
		err := try(a, try1.name+"@example.org", try1.password, "192.0.2.1")
		wantKind(t, err, errs.Auth, textAuth)
		texts = append(texts, errs.Public(err))
		costs = append(costs, fmt.Sprint(runs))
	}
	if strings.Join(costs, " ") != "1 1 1 1" {
		t.Errorf("hashes: %v (%v)", costs, texts)
	}
}

func TestBlocked(t *testing.T) {
	a := office(t)
	s := login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	if _, err := s.Current(ctx); err != nil {
		t.Fatal(err)
	}
	if err := a.Block(ctx, s.Address); err != nil {
		t.Fatal(err)
	}
	_, err := s.Current(ctx)
	wantKind(t, err, errs.Denied, textBlocked)
	_, err = s.Key.SealRecord("x", nil, nil)
	wantKind(t, err, errs.Unavailable, "")
	wantKind(t, try(a, "alice@example.org", "correct horse", "192.0.2.1"), errs.Denied, textBlocked)
	wantKind(t, try(a, "alice@example.org", "wrong horse", "192.0.2.1"), errs.Auth, textAuth)
	if acc, err := a.Resolve(ctx, s.Address); err != nil || !acc.Blocked {
		t.Fatalf("%v %v", acc, err)
	}
	if err := a.Unblock(ctx, s.Address); err != nil {
		t.Fatal(err)
	}
	login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	wantKind(t, a.Block(ctx, addr(t, "nobody@example.org")), errs.NotFound, "")
}

func TestLastLoginIsADayWrittenOnce(t *testing.T) {
	clock := newClock()
	st := &storetest.Faulty{Store: openStore(t, crvfs.NewMem())}
	a := officeOn(t, st, func(o *Options) { o.Now = clock.Now })
	s := login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	first := DayOf(clock.Now())
	if s.LastLogin != first || s.Created != first {
		t.Fatalf("days %v %v", s.LastLogin, s.Created)
	}
	writes := st.Count()
	clock.Add(11 * time.Hour)
	login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	if st.Count() != writes {
		t.Error("a second login on the same day is written")
	}
	clock.Add(2 * time.Hour)
	login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	if st.Count() != writes+1 {
		t.Errorf("%d writes on the next day", st.Count()-writes)
	}
	acc, err := a.Show(ctx, s.Address)
	if err != nil || acc.LastLogin != first+1 {
		t.Fatalf("%v %v", acc.LastLogin, err)
	}
	// A disk that fails keeps nobody out.
	clock.Add(24 * time.Hour)
	st.Before = func(int64) error { return errs.E("test", errs.NoSpace, "", nil) }
	login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
}

// failures counts what a race gave.
type race struct{ ok, auth, other int }

// runRace lets n logins with n/2 of each password go at once through the given
// registers.
func runRace(t *testing.T, offices []*Accounts, n int) (r race, ids map[seal.AccountID]string) {
	t.Helper()
	ids = map[seal.AccountID]string{}
	start := make(chan struct{})
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			password := "correct horse"
			if i%2 == 1 {
				password = "battery staple"
			}
			s, err := offices[i%len(offices)].Login(ctx, LoginRequest{Name: "alice@example.org", Password: password, Peer: peer(fmt.Sprintf("192.0.2.%d", i%7+1))})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				r.ok++
				ids[s.ID] += password + ";"
				s.Close()
			case errs.KindOf(err) == errs.Auth:
				r.auth++
			default:
				r.other++
				t.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()
	return r, ids
}

// Fifty first logins at once, from one and from two processes, in one log and in
// two: one account, and only one of the passwords opens it.
func TestFirstLoginsRace(t *testing.T) {
	for _, split := range []bool{false, true} {
		for _, processes := range []int{1, 3} { // odd: each gets both passwords
			t.Run(fmt.Sprintf("split=%t/processes=%d", split, processes), func(t *testing.T) {
				var st store.Store = openStore(t, crvfs.NewMem())
				if split {
					st = storetest.SplitLogs(st)
				}
				var removed atomic.Int64
				var offices []*Accounts
				for range processes {
					offices = append(offices, officeOn(t, st, func(o *Options) {
						o.FailFree = -1
						o.OnCreate = func(tx store.Tx, key *seal.Opened) error {
							return tx.Set(append(key.ID().Prefix(), 'x'), []byte("mailbox"))
						}
						o.OnDelete = func(context.Context, seal.AccountID) error { removed.Add(1); return nil }
					}))
				}
				r, ids := runRace(t, offices, 50)
				if r.ok != 25 || r.auth != 25 || len(ids) != 1 {
					t.Fatalf("%+v, accounts %v", r, ids)
				}
				for id, used := range ids {
					if strings.Contains(used, "correct") == strings.Contains(used, "staple") {
						t.Errorf("account %s was opened with %s", id, used)
					}
				}
				// The losers' records are gone.
				n := 0
				for _, a := range offices[:1] {
					if err := seal.EachAccount(ctx, a.o.Store, func(store.Shard, seal.AccountID) error { n++; return nil }); err != nil {
						t.Fatal(err)
					}
				}
				if n != 1 {
					t.Errorf("%d accounts lie in the store", n)
				}
				wantFindings(t, offices[0])
				if !split && removed.Load() != 0 {
					t.Errorf("%d accounts were removed in one log", removed.Load())
				}
			})
		}
	}
}

// The loser of a race that nobody saw coming: the name is taken between its look
// and its write. In two logs its records lie there already, and go again.
func TestLoserOfTheRace(t *testing.T) {
	for _, split := range []bool{false, true} {
		for _, password := range []string{"correct horse", "battery staple"} {
			st := openStore(t, crvfs.NewMem())
			var seen store.Store = st
			claim := int64(1)
			if split {
				seen, claim = storetest.SplitLogs(st), 3
			}
			faulty := &storetest.Faulty{Store: seen}
			var removed []seal.AccountID
			loser := officeOn(t, faulty, func(o *Options) {
				o.OnDelete = func(_ context.Context, id seal.AccountID) error { removed = append(removed, id); return nil }
			})
			winner := officeOn(t, seen)
			var won *Session
			n := faulty.Count()
			faulty.Before = func(i int64) error {
				if i == n+claim {
					won = login(t, winner, "alice@example.org", "correct horse", "192.0.2.1")
				}
				return nil
			}
			s, err := loser.Login(ctx, LoginRequest{Name: "alice@example.org", Password: password, Peer: peer("192.0.2.2")})
			if password != "correct horse" {
				wantKind(t, err, errs.Auth, textAuth)
			} else if err != nil || s.ID != won.ID {
				t.Fatalf("the same password: %v", err)
			} else {
				s.Close()
			}
			if n := countKeys(t, st, seal.AccountPrefix); n != 2 {
				t.Errorf("split %t: %d records of accounts", split, n)
			}
			if split != (len(removed) == 1) || split && removed[0] == won.ID {
				t.Errorf("split %t: removed %v", split, removed)
			}
			wantFindings(t, loser)
		}
	}
}

func TestManyAccountsAtOnce(t *testing.T) {
	a := office(t)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if err := try(a, fmt.Sprintf("user%d@example.org", i), "correct horse", "192.0.2.1"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	page, _, err := a.List(ctx, "", 100)
	if err != nil || len(page) != 50 {
		t.Fatalf("%d accounts, %v", len(page), err)
	}
}

func TestNewAddressesAreLimited(t *testing.T) {
	clock := newClock()
	a := office(t, func(o *Options) {
		o.Now = clock.Now
		o.CreateNetworkPerMinute, o.CreateNetworkBurst = 1, 2
		o.CreatePerMinute, o.CreateBurst = 1, 3
	})
	n := 0
	make1 := func(ip string) error {
		n++
		return try(a, fmt.Sprintf("user%d@example.org", n), "correct horse", ip)
	}
	for _, ip := range []string{"192.0.2.1", "192.0.2.1"} {
		if err := make1(ip); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 { // refused ones do not use up what is everybody's
		wantKind(t, make1("192.0.2.1"), errs.Busy, textNewLimit)
	}
	if err := make1("192.0.2.2"); err != nil {
		t.Fatal(err)
	}
	wantKind(t, make1("192.0.2.3"), errs.Busy, textNewLimit)
	login(t, a, "user1@example.org", "correct horse", "192.0.2.1") // logins go on
	clock.Add(time.Minute)
	if err := make1("192.0.2.1"); err != nil {
		t.Fatal(err)
	}
}

// Nothing of a login is shown, however it is printed.
func TestLoginsAreRedacted(t *testing.T) {
	a := office(t)
	s := login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	r := LoginRequest{Name: "alice@example.org", Password: "correct horse", Peer: peer("192.0.2.1")}
	c := CreateRequest{Address: s.Address, Password: "correct horse"}
	var b strings.Builder
	for _, v := range []any{r, &r, c, &c, s, s.Account, &s.Account} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d"} {
			fmt.Fprintf(&b, verb+"\n", v)
		}
		slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug})).Info("x", "v", v)
	}
	for _, v := range []any{r, &r, c, &c} {
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(j)
	}
	for _, leak := range []string{"alice", "correct", "192.0.2.1", "example"} {
		if strings.Contains(b.String(), leak) {
			t.Errorf("%q is shown in %s", leak, b.String())
		}
	}
}

// TestOnePublicHalf: sessions, the opened key and the remembered record of an account
// hold its public half once, whichever of them was there first.
func TestOnePublicHalf(t *testing.T) {
	st := openStore(t, crvfs.NewMem())
	for _, when := range []string{"made now", "the day's first login was before"} {
		a := officeOn(t, st)
		s := login(t, a, "once@example.org", "a-long-password", "192.0.2.1")
		other := login(t, a, "once@example.org", "a-long-password", "192.0.2.2")
		now, err := s.Current(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		one := &s.Key.Public()[0]
		if &s.Public[0] != one || &other.Public[0] != one || &now.Public[0] != one {
			t.Errorf("%s: there are several copies", when)
		}
		a.cache.forget(s.Address) // as after any change of the account
		if now, err = s.Current(t.Context()); err != nil || &now.Public[0] != one {
			t.Errorf("%s: the record was read again into a copy of its own (%v)", when, err)
		}
	}
}
