package account

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	crvfs "github.com/cockroachdb/pebble/v2/vfs"

	"postern.email/kit/clocktest"
	"postern.email/kit/errs"
	"postern.email/post/names"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/store/storetest"
)

const aDay = 24 * time.Hour

func sweepTwice(t *testing.T, a *Accounts, c *clocktest.Clock) (done swept) {
	t.Helper()
	orphans := map[seal.AccountID]time.Time{}
	for range 2 {
		d, err := a.sweep(ctx, orphans)
		if err != nil {
			t.Fatal(err)
		}
		done.inactive += d.inactive
		done.names += d.names
		done.orphans += d.orphans
		c.Add(DefaultOrphanAge)
	}
	return done
}

func TestInactiveAccountsGo(t *testing.T) {
	for _, split := range []bool{false, true} {
		clock := newClock()
		var st store.Store = openStore(t, crvfs.NewMem())
		if split {
			st = storetest.SplitLogs(st)
		}
		a := officeOn(t, st, func(o *Options) { o.Now = clock.Now; o.InactiveDays = 30 })
		login(t, a, "old@example.org", "correct horse", "192.0.2.1").Close()
		if _, err := a.Create(ctx, CreateRequest{Address: addr(t, "never@example.org"), Password: "correct horse"}); err != nil {
			t.Fatal(err)
		}
		login(t, a, "used@example.org", "correct horse", "192.0.2.1").Close()
		clock.Add(20 * aDay)
		login(t, a, "used@example.org", "correct horse", "192.0.2.1").Close()
		clock.Add(10 * aDay)
		if done := sweepTwice(t, a, clock); done != (swept{}) {
			t.Fatalf("after 30 days %+v", done)
		}
		clock.Add(aDay)
		if done := sweepTwice(t, a, clock); done != (swept{inactive: 2}) {
			t.Fatalf("after 31 days %+v", done)
		}
		wantKind(t, try(a, "old@example.org", "correct horse", "192.0.2.1"), errs.Denied, textGone)
		login(t, a, "used@example.org", "correct horse", "192.0.2.1").Close()
		a.o.InactiveDays = -1
		clock.Add(10000 * aDay)
		if done := sweepTwice(t, a, clock); done != (swept{}) {
			t.Fatalf("switched off: %+v", done)
		}
		wantFindings(t, a)
	}
}

// A login in the very moment of the sweep keeps the account.
func TestLoginSavesFromTheSweep(t *testing.T) {
	clock := newClock()
	f := &storetest.Faulty{Store: openStore(t, crvfs.NewMem())}
	a := officeOn(t, f, func(o *Options) { o.Now = clock.Now })
	login(t, a, "old@example.org", "correct horse", "192.0.2.1").Close()
	clock.Add(100 * aDay)
	busy := false
	f.Before = func(int64) error { // the sweeper has looked and now writes the tombstone
		if !busy {
			busy = true
			login(t, a, "old@example.org", "correct horse", "192.0.2.1")
		}
		return nil
	}
	if done := sweepTwice(t, a, clock); done != (swept{}) || !busy {
		t.Fatalf("%+v %v", done, busy)
	}
	login(t, a, "old@example.org", "correct horse", "192.0.2.1")
}

func TestTombstonesGo(t *testing.T) {
	clock := newClock()
	a := office(t, func(o *Options) { o.Now = clock.Now; o.ReuseAfterDays = 10 })
	s := login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	if err := a.Delete(ctx, s.Address); err != nil {
		t.Fatal(err)
	}
	clock.Add(9 * aDay)
	if done := sweepTwice(t, a, clock); done != (swept{}) {
		t.Fatalf("early: %+v", done)
	}
	clock.Add(aDay)
	if done := sweepTwice(t, a, clock); done != (swept{names: 1}) || countKeys(t, a.o.Store, 'n') != 0 {
		t.Fatalf("%+v", done)
	}
}

// Records that others left behind an account that is gone are removed.
func TestLeftoversGo(t *testing.T) {
	clock := newClock()
	removed := 0
	a := office(t, func(o *Options) {
		o.Now = clock.Now
		o.OnDelete = func(context.Context, seal.AccountID) error { removed++; return nil }
	})
	id := seal.AccountID{1, 2, 3}
	put(t, a.o.Store, id.Shard(), append(id.Prefix(), 'x'), []byte("late mail"))
	wantFindings(t, a, FindingLeftover)
	if done := sweepTwice(t, a, clock); done != (swept{orphans: 1}) || removed != 1 {
		t.Fatalf("%+v, removed %d", done, removed)
	}
	wantFindings(t, a)
}

func put(t *testing.T, s store.Store, shard store.Shard, key, value []byte) {
	t.Helper()
	if err := s.Update(ctx, shard, func(tx store.Tx) error { return tx.Set(key, value) }); err != nil {
		t.Fatal(err)
	}
}

func TestRunEndsAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := office(t, func(o *Options) { o.InactiveDays = 1; o.Grace = 10 * time.Minute })
		s := login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
		key := s.Key
		run, stop := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- a.Run(run) }()
		s.Close()
		s.Close()
		time.Sleep(9 * time.Minute)
		if l := a.Load(); l.KeysIdle != 1 || l.KeysUsed != 0 {
			t.Errorf("in the grace: %+v", l)
		}
		time.Sleep(2 * time.Minute)
		if l := a.Load(); l.KeysIdle != 0 {
			t.Errorf("after the grace: %+v", l)
		}
		if _, err := key.SealRecord("x", nil, nil); errs.KindOf(err) != errs.Unavailable {
			t.Errorf("the key is open after its grace: %v", err)
		}
		time.Sleep(3 * aDay)
		synctest.Wait()
		if _, err := a.Show(ctx, addr(t, "alice@example.org")); errs.KindOf(err) != errs.NotFound {
			t.Errorf("an unused account is still there: %v", err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestList(t *testing.T) {
	a := office(t)
	var want []string
	for i := range 25 {
		s := login(t, a, fmt.Sprintf("user%d@example.org", i), "correct horse", "192.0.2.1")
		if i%5 == 0 {
			if err := a.Delete(ctx, s.Address); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want = append(want, s.Address.Local)
	}
	var got []string
	pages, cursor := 0, ""
	for {
		page, next, err := a.List(ctx, cursor, 7)
		if err != nil {
			t.Fatal(err)
		}
		for _, acc := range page {
			got = append(got, acc.Address.Local)
		}
		pages++
		if cursor = next; next == "" {
			break
		}
		if len(page) != 7 {
			t.Fatalf("a page of %d", len(page))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) || pages != 3 {
		t.Errorf("%d pages: %v", pages, got)
	}
	for _, bad := range []string{"x", "1", "1-zz", "9999-" + strings.Repeat("00", 20), "-1-00", "1-00"} {
		_, _, err := a.List(ctx, bad, 1)
		wantKind(t, err, errs.Invalid, "this is no place in the list")
	}
}

func TestManyAccountsInOneShard(t *testing.T) {
	a := office(t)
	const n = 2*256 + 3 // more than two portions
	err := a.o.Store.Update(ctx, 5, func(tx store.Tx) error {
		for i := range n {
			id := seal.AccountID{0, 5, byte(i >> 8), byte(i)}
			for _, letter := range []byte("xyz") {
				if err := tx.Set(append(id.Prefix(), letter), []byte("x")); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ids := map[seal.AccountID]bool{}
	if err := seal.EachAccount(ctx, a.o.Store, func(_ store.Shard, id seal.AccountID) error { ids[id] = true; return nil }); err != nil {
		t.Fatal(err)
	}
	if len(ids) != n {
		t.Errorf("%d accounts", len(ids))
	}
}

func TestCheckFinds(t *testing.T) {
	damage := func(f func(a *Accounts, s *Session, tx store.Tx) error, here func(a *Accounts, s *Session) store.Shard) func(*testing.T, *Accounts, *Session) {
		return func(t *testing.T, a *Accounts, s *Session) {
			if err := a.o.Store.Update(ctx, here(a, s), func(tx store.Tx) error { return f(a, s, tx) }); err != nil {
				t.Fatal(err)
			}
		}
	}
	inAccount := func(_ *Accounts, s *Session) store.Shard { return s.ID.Shard() }
	inName := func(a *Accounts, s *Session) store.Shard { return a.o.Root.NameShard(s.Address) }
	for name, c := range map[string]struct {
		do   func(*testing.T, *Accounts, *Session)
		want []string
	}{
		"nothing": {func(*testing.T, *Accounts, *Session) {}, nil},
		"name cannot be opened": {damage(func(a *Accounts, s *Session, tx store.Tx) error {
			k := a.names.Place(s.Address).Key
			return tx.Set(append([]byte("n"), k[:]...), []byte("x"))
		}, inName), []string{FindingName}},
		"name of a strange length": {damage(func(_ *Accounts, _ *Session, tx store.Tx) error {
			return tx.Set([]byte("nx"), []byte("x"))
		}, inName), []string{FindingName}},
		"name is missing": {damage(func(a *Accounts, s *Session, tx store.Tx) error {
			return a.names.DeleteAt(tx, a.names.Place(s.Address))
		}, inName), []string{FindingOrphan}},
		"second name": {damage(func(a *Accounts, s *Session, tx store.Tx) error {
			return a.names.SetAt(tx, names.Place{Key: [20]byte{1}}, names.Record{ID: s.ID})
		}, inName), []string{FindingName}},
		"account is missing": {damage(func(_ *Accounts, s *Session, tx store.Tx) error {
			return tx.DeleteRange(s.ID.Prefix(), s.ID.End())
		}, inAccount), []string{FindingDangling}},
		"settings are missing": {damage(func(_ *Accounts, s *Session, tx store.Tx) error {
			return tx.Delete(infoKey(s.ID))
		}, inAccount), []string{FindingDangling, FindingLeftover}},
		"settings cannot be opened": {damage(func(_ *Accounts, s *Session, tx store.Tx) error {
			return tx.Set(infoKey(s.ID), []byte("x"))
		}, inAccount), []string{FindingRecord}},
		"key is missing": {damage(func(_ *Accounts, s *Session, tx store.Tx) error {
			return tx.Delete(keyKey(s.ID))
		}, inAccount), []string{FindingRecord}},
		"key cannot be opened": {damage(func(_ *Accounts, s *Session, tx store.Tx) error {
			b, err := tx.Get(keyKey(s.ID))
			if err != nil {
				return err
			}
			b = slices.Clone(b)
			b[len(b)-1] ^= 1
			return tx.Set(keyKey(s.ID), b)
		}, inAccount), []string{FindingRecord}},
		"tokens cannot be opened": {damage(func(_ *Accounts, s *Session, tx store.Tx) error {
			return tx.Set(tokensKey(s.ID), []byte("x"))
		}, inAccount), []string{FindingRecord}},
		"wrong shard": {damage(func(_ *Accounts, s *Session, tx store.Tx) error {
			return tx.Set(infoKey(s.ID), []byte("x"))
		}, func(_ *Accounts, s *Session) store.Shard { return s.ID.Shard() ^ 1 }), []string{FindingPlace}},
	} {
		t.Run(name, func(t *testing.T) {
			a := office(t)
			s := login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
			login(t, a, "bob@example.org", "correct horse", "192.0.2.1")
			if err := a.AddToken(ctx, s.ID, "token"); err != nil {
				t.Fatal(err)
			}
			c.do(t, a, s)
			wantFindings(t, a, c.want...)
			a.o.Root = testRoot(t)
			if err := a.Reveal(ctx, func(string, string) {}); err != nil {
				t.Errorf("reveal: %v", err)
			}
			if _, _, err := a.List(ctx, "", 10); err != nil {
				t.Errorf("list: %v", err)
			}
			if _, err := a.sweep(ctx, map[seal.AccountID]time.Time{}); err != nil {
				t.Errorf("sweep: %v", err)
			}
		})
	}
}

// Reveal gives exactly the kinds of the table of purposes that are this package's, and all
// canaries that the node key opens; none that it does not.
func TestReveal(t *testing.T) {
	a := office(t)
	s := login(t, a, "canary-alice@example.org", "canary password", "192.0.2.1")
	gone := login(t, a, "canary-bob@example.org", "canary password", "192.0.2.1")
	if err := a.Delete(ctx, gone.Address); err != nil {
		t.Fatal(err)
	}
	if err := a.AddToken(ctx, s.ID, "canary-token"); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	var all strings.Builder
	if err := a.Reveal(ctx, func(kind, text string) { kinds[kind]++; all.WriteString(text + "\n") }); err != nil {
		t.Fatal(err)
	}
	for _, p := range []seal.Purpose{seal.PurposeName, seal.PurposeInfo, seal.PurposeKey, seal.PurposeTokens, seal.PurposeMarker} {
		if kinds[p.String()] == 0 {
			t.Errorf("nothing of %s is revealed", p)
		}
		delete(kinds, p.String())
	}
	if len(kinds) > 0 {
		t.Errorf("not in the table: %v", kinds)
	}
	for _, want := range []string{"canary-alice@example.org", "canary-token", "deleted on", "argon2id t=1 m=8 p=1"} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("%q is not revealed in\n%s", want, all.String())
		}
	}
	for _, never := range []string{"canary password", "canary-bob"} {
		if strings.Contains(all.String(), never) {
			t.Errorf("%q is revealed", never)
		}
	}
	// With another root key: nothing, and no error.
	other, err := seal.NewRoot(make([]byte, seal.KeyLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	a.o.Root, a.names = other, names.New(a.o.Store, other)
	if err := a.Reveal(ctx, func(kind, text string) {
		if !strings.HasSuffix(text, "cannot be opened") {
			t.Errorf("another root key opens %s: %s", kind, text)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// No name, password or token lies open in any record.
func TestNothingLiesOpen(t *testing.T) {
	a := office(t)
	s := login(t, a, "canary-alice@example.org", "canary password", "192.0.2.1")
	if err := a.AddToken(ctx, s.ID, "canary-token"); err != nil {
		t.Fatal(err)
	}
	seed, err := s.Key.AppendSeed(nil)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	err = a.o.Store.Walk(ctx, func(_ store.Shard, k, v []byte) (bool, error) {
		n++
		for _, c := range []string{"canary", "example.org", "192.0.2", string(seed)} {
			if strings.Contains(string(k), c) || strings.Contains(string(v), c) {
				t.Errorf("%q lies open in record %q", c, k)
			}
		}
		return true, nil
	})
	if err != nil || n != 5 {
		t.Errorf("%d records, %v", n, err)
	}
}

// A store is never opened with another node's root key.
func TestMarker(t *testing.T) {
	s := openStore(t, crvfs.NewMem())
	officeOn(t, s)
	other, err := seal.NewRoot(make([]byte, seal.KeyLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = New(ctx, Options{Store: s, Root: other, Domains: []string{"example.org"}})
	wantKind(t, err, errs.Corrupt, textOtherNode)
	officeOn(t, s)
}

func TestTokens(t *testing.T) {
	clock := newClock()
	a := office(t, func(o *Options) { o.Now = clock.Now; o.TokensPerAccount = 3; o.TokenDays = 10 })
	id := login(t, a, "alice@example.org", "correct horse", "192.0.2.1").ID
	add := func(token string) {
		t.Helper()
		if err := a.AddToken(ctx, id, token); err != nil {
			t.Fatal(err)
		}
	}
	want := func(tokens ...string) {
		t.Helper()
		got, err := a.Tokens(ctx, id)
		if err != nil || !slices.Equal(got, tokens) {
			t.Fatalf("%v %v, want %v", got, err, tokens)
		}
	}
	want()
	add("a")
	add("b")
	add("a")
	want("b", "a")
	clock.Add(5 * aDay)
	add("c")
	add("d") // one too many: b goes
	want("a", "c", "d")
	clock.Add(5 * aDay)
	want("c", "d")
	add("c")
	want("d", "c")
	clock.Add(10 * aDay)
	want()
	add(strings.Repeat("x", MaxTokenLen))
	wantKind(t, a.AddToken(ctx, id, strings.Repeat("x", MaxTokenLen+1)), errs.TooLarge, "a device token has at most 4096 bytes")
	for _, bad := range []string{"", "a b", "a\nb", "a\x00", "\x7f"} {
		wantKind(t, a.AddToken(ctx, id, bad), errs.Invalid, "")
	}
	// The largest set fits into one record.
	var most []tokenRecord
	for range maxTokens {
		most = append(most, tokenRecord{1, strings.Repeat("x", MaxTokenLen)})
	}
	if b := encodeTokens(most); len(b)+len(b)/8 > store.MaxValue {
		t.Errorf("%d bytes", len(b))
	} else if back, err := decodeTokens(b); err != nil || !slices.Equal(back, most) {
		t.Errorf("%v", err)
	}
}
