package account

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	crvfs "github.com/cockroachdb/pebble/v2/vfs"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/post/names"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/store/pebble"
	"postern.email/store/storetest"
)

// findings gives what Check reports, by kind.
func findings(t testing.TB, a *Accounts) map[string]int {
	t.Helper()
	found := map[string]int{}
	if err := a.Check(ctx, func(f Finding) { found[f.Kind]++ }); err != nil {
		t.Fatal(err)
	}
	return found
}

// wantFindings checks that Check reports exactly these kinds.
func wantFindings(t testing.TB, a *Accounts, kinds ...string) {
	t.Helper()
	found := findings(t, a)
	for _, k := range kinds {
		if found[k] == 0 {
			t.Errorf("no finding %s in %v", k, found)
		}
		delete(found, k)
	}
	if len(found) > 0 {
		t.Errorf("findings %v", found)
	}
}

// A crash between the account's records and its name leaves records that nobody
// can reach: the name is free, Check names the orphan, housekeeping removes it.
func TestCrashBetweenKeyAndName(t *testing.T) {
	clock := newClock()
	base := openStore(t, crvfs.NewMem())
	crash := errors.New("crash")
	faulty := &storetest.Faulty{Store: storetest.SplitLogs(base)}
	var removed []seal.AccountID
	set := func(o *Options) {
		o.Now = clock.Now
		o.OnCreate = func(tx store.Tx, key *seal.Opened) error {
			return tx.Set(append(key.ID().Prefix(), 'x'), []byte("mailbox"))
		}
		o.OnDelete = func(_ context.Context, id seal.AccountID) error { removed = append(removed, id); return nil }
	}
	before := officeOn(t, faulty, set)
	n := faulty.Count()
	faulty.Before = func(i int64) error { // 1: tries one transaction, 2: records, 3: name
		if i > n+2 {
			return crash
		}
		return nil
	}
	if err := try(before, "alice@example.org", "correct horse", "192.0.2.1"); !errors.Is(err, crash) {
		t.Fatalf("got %v", err)
	}
	after := officeOn(t, storetest.SplitLogs(base), set)
	wantFindings(t, after, FindingOrphan)
	if _, err := after.Resolve(ctx, addr(t, "alice@example.org")); errs.KindOf(err) != errs.NotFound {
		t.Fatalf("the orphan gets mail: %v", err)
	}
	s := login(t, after, "alice@example.org", "battery staple", "192.0.2.1") // the loser with another password
	wantKind(t, try(after, "alice@example.org", "correct horse", "192.0.2.1"), errs.Auth, textAuth)

	orphans := map[seal.AccountID]time.Time{}
	for range 2 { // too young
		if done, err := after.sweep(ctx, orphans); err != nil || done.orphans != 0 {
			t.Fatalf("%+v %v", done, err)
		}
		clock.Add(DefaultOrphanAge / 2)
	}
	clock.Add(DefaultOrphanAge)
	done, err := after.sweep(ctx, orphans)
	if err != nil || done != (swept{orphans: 1}) || len(removed) != 1 || removed[0] == s.ID || len(orphans) != 0 {
		t.Fatalf("%+v %v, removed %v, left %v", done, err, removed, orphans)
	}
	wantFindings(t, after)
	login(t, after, "alice@example.org", "battery staple", "192.0.2.1")
}

// The sweeper leaves the records of an account that is being made alone.
func TestSweepSparesWhatIsBeingMade(t *testing.T) {
	clock := newClock()
	var a *Accounts
	orphans := map[seal.AccountID]time.Time{}
	looked := 0
	faulty := &storetest.Faulty{Store: storetest.SplitLogs(openStore(t, crvfs.NewMem()))}
	a = officeOn(t, faulty, func(o *Options) { o.Now = clock.Now })
	n := faulty.Count()
	faulty.Before = func(i int64) error {
		if i == n+3 { // between records and name
			for range 3 {
				if done, err := a.sweep(ctx, orphans); err != nil || done != (swept{}) {
					t.Errorf("swept %+v %v", done, err)
				}
				clock.Add(2 * DefaultOrphanAge)
				looked++
			}
		}
		return nil
	}
	login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	if looked != 3 {
		t.Fatal("the sweeper did not look")
	}
	wantFindings(t, a)
}

// The answer to the claim of the name is lost, but it was written.
func TestLostAnswer(t *testing.T) {
	for _, split := range []bool{false, true} {
		base := openStore(t, crvfs.NewMem())
		faulty := &storetest.Faulty{Store: base}
		if split {
			faulty.Store = storetest.SplitLogs(base)
		}
		a := officeOn(t, faulty)
		faulty.After = func(int64) error { return errs.E("test", errs.Unavailable, "", nil) }
		if !split {
			wantKind(t, try(a, "alice@example.org", "correct horse", "192.0.2.1"), errs.Unavailable, "")
		} else {
			n := faulty.Count()
			faulty.After = func(i int64) error {
				if i == n+3 {
					return errs.E("test", errs.Unavailable, "", nil)
				}
				return nil
			}
			wantKind(t, try(a, "alice@example.org", "correct horse", "192.0.2.1"), errs.Unavailable, "")
		}
		faulty.After = nil
		login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
		wantKind(t, try(a, "alice@example.org", "battery staple", "192.0.2.1"), errs.Auth, "")
		wantFindings(t, a)
	}
}

// The machine loses power at every sync of a first login, a new password, a reset
// and a deletion, in one log and in two. What was acknowledged is there, and what
// Check finds is only what housekeeping or a repeated command puts right.
func TestPowerCutAtEverySync(t *testing.T) {
	for _, split := range []bool{false, true} {
		t.Run(fmt.Sprintf("split=%t", split), func(t *testing.T) {
			disk := vfs.NewCrashDisk()
			acked := 0 // steps acknowledged so far
			restarts := 0
			look := func(vfs.SyncPoint) {}
			fs := vfs.NewSyncPoints(disk, func(p vfs.SyncPoint) { look(p) })
			a, done := openOffice(t, fs, split)
			defer done()
			look = func(p vfs.SyncPoint) {
				modes := []vfs.Unsynced{vfs.Kept, vfs.Torn}
				if p.After { // what is dropped before a sync was dropped after the one before
					modes = []vfs.Unsynced{vfs.Dropped}
				}
				for _, mode := range modes {
					restarts++
					afterCut(t, disk.Clone(mode, uint64(p.N)), split, acked, fmt.Sprintf("sync %d after=%t %v", p.N, p.After, mode))
				}
			}
			if err := try(a, "alice@example.org", "correct horse", "192.0.2.1"); err != nil {
				t.Fatal(err)
			}
			acked = 1
			alice := addr(t, "alice@example.org")
			if err := a.Passwd(ctx, alice, "correct horse", "battery staple"); err != nil {
				t.Fatal(err)
			}
			acked = 2
			if err := a.Reset(ctx, alice, "third password"); err != nil {
				t.Fatal(err)
			}
			acked = 3
			if err := a.Delete(ctx, alice); err != nil {
				t.Fatal(err)
			}
			acked = 4
			look = func(vfs.SyncPoint) {}
			if restarts < 12 {
				t.Errorf("only %d cuts", restarts)
			}
		})
	}
}

func openOffice(t *testing.T, fs vfs.FS, split bool) (*Accounts, func()) {
	t.Helper()
	base, err := pebble.Open(ctx, pebble.Options{FS: fs, Dir: "store"})
	if err != nil {
		t.Fatal(err)
	}
	var st store.Store = base
	if split {
		st = storetest.SplitLogs(base)
	}
	a, err := New(ctx, Options{Store: st, Root: testRoot(t), Domains: []string{"example.org"}, Params: cheap, FailFree: -1})
	if err != nil {
		t.Fatal(err)
	}
	return a, func() { a.Close(); _ = base.Close() }
}

// afterCut starts anew on what a cut has left. acked is the last step that was
// acknowledged: the step after it may have happened or not, nothing else.
func afterCut(t *testing.T, fs vfs.FS, split bool, acked int, where string) {
	t.Helper()
	a, done := openOffice(t, fs, split)
	defer done()
	a.o.MayCreate = func() error { return errs.E("test", errs.Denied, "", nil) }
	passwords := []string{"", "correct horse", "battery staple", "third password"}
	state := 0 // the last step that shows
	for i, p := range passwords {
		if p != "" && try(a, "alice@example.org", p, "192.0.2.1") == nil {
			state = i
		}
	}
	found := findings(t, a)
	n, err := a.names.Lookup(ctx, addr(t, "alice@example.org"))
	switch {
	case err == nil && n.Kind == names.Gone:
		state = 4
	case found[FindingResetting] > 0 && (acked == 2): // a reset was under way
		state = 2
		if err := a.Reset(ctx, addr(t, "alice@example.org"), "third password"); err != nil {
			t.Errorf("%s: the reset cannot be repeated: %v", where, err)
		}
		delete(found, FindingResetting)
	}
	if state != acked && state != acked+1 {
		t.Errorf("%s: %d steps were acknowledged, %d show", where, acked, state)
	}
	if state == 0 || state == 4 {
		delete(found, FindingOrphan)
		delete(found, FindingLeftover)
	}
	if len(found) > 0 {
		t.Errorf("%s: after %d steps Check finds %v", where, state, found)
	}
}
