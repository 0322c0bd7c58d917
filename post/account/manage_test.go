package account

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	crvfs "github.com/cockroachdb/pebble/v2/vfs"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/store/storetest"
)

func TestPasswd(t *testing.T) {
	a := office(t)
	s := login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	sealed, err := s.Key.SealRecord("folder", nil, []byte("letters"))
	if err != nil {
		t.Fatal(err)
	}
	wantKind(t, a.Passwd(ctx, s.Address, "wrong horse", "battery staple"), errs.Auth, "the old password is wrong")
	wantKind(t, a.Passwd(ctx, s.Address, "correct horse", "short"), errs.Denied, "a password has at least 9 characters")
	wantKind(t, a.Passwd(ctx, addr(t, "bob@example.org"), "correct horse", "battery staple"), errs.NotFound, "")
	if err := a.Passwd(ctx, s.Address, "correct horse", "battery staple"); err != nil {
		t.Fatal(err)
	}
	// The session goes on, the old password is worth nothing, also on the opened key.
	if _, err := s.Current(ctx); err != nil {
		t.Fatal(err)
	}
	wantKind(t, try(a, "alice@example.org", "correct horse", "192.0.2.1"), errs.Auth, textAuth)
	n := login(t, a, "alice@example.org", "battery staple", "192.0.2.1")
	if n.Key != s.Key {
		t.Error("the new password opened another key")
	}
	a.ring.end(s.ID)
	n = login(t, a, "alice@example.org", "battery staple", "192.0.2.1")
	if got, err := n.Key.OpenRecord("folder", nil, sealed); err != nil || string(got) != "letters" {
		t.Errorf("what was stored before: %q %v", got, err)
	}
}

// A login that began with the old password and ends after the new one was set
// leaves nothing behind that the old password opens.
func TestPasswdDuringLogin(t *testing.T) {
	begun, goOn := make(chan struct{}), make(chan struct{})
	var stop atomic.Bool
	a := office(t, func(o *Options) {
		o.GateSlots = 2
		o.hash = func(f func()) {
			f()
			if stop.CompareAndSwap(true, false) {
				close(begun)
				<-goOn
			}
		}
	})
	s := login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	a.ring.end(s.ID)
	stop.Store(true)
	done := make(chan error)
	go func() { done <- try(a, "alice@example.org", "correct horse", "192.0.2.1") }()
	<-begun
	if err := a.Passwd(ctx, s.Address, "correct horse", "battery staple"); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	wantKind(t, <-done, errs.Auth, textAuth)
	wantKind(t, try(a, "alice@example.org", "correct horse", "192.0.2.1"), errs.Auth, textAuth)
}

// The same, at the last moment: the record was looked at again, the key is not yet
// in the ring.
func TestPasswdAtTheLastMoment(t *testing.T) {
	st := &slowViews{Store: openStore(t, crvfs.NewMem())}
	a := officeOn(t, st, func(o *Options) { o.GateSlots = 2 })
	s := login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	a.ring.end(s.ID)
	views := 0
	var hook func()
	hook = func() {
		if views++; views == 3 { // name, records, records again
			if err := a.Passwd(ctx, s.Address, "correct horse", "battery staple"); err != nil {
				t.Error(err)
			}
			return
		}
		st.stop.Store(&hook)
	}
	st.stop.Store(&hook)
	wantKind(t, try(a, "alice@example.org", "correct horse", "192.0.2.1"), errs.Auth, textAuth)
	wantKind(t, try(a, "alice@example.org", "correct horse", "192.0.2.1"), errs.Auth, textAuth)
	if views != 3 {
		t.Errorf("%d views", views)
	}
}

func TestPasswdAtTheSameTime(t *testing.T) {
	f := &storetest.Faulty{Store: openStore(t, crvfs.NewMem())}
	a := officeOn(t, f, func(o *Options) { o.GateSlots = 2 })
	s := login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	n := f.Count()
	f.Before = func(i int64) error {
		if i == n+1 { // the first has read and is about to write
			return a.Passwd(ctx, s.Address, "correct horse", "second of two")
		}
		return nil
	}
	wantKind(t, a.Passwd(ctx, s.Address, "correct horse", "first of two"), errs.Conflict, "the password was changed at the same time")
	a.ring.end(s.ID)
	for _, p := range []string{"correct horse", "first of two"} {
		wantKind(t, try(a, "alice@example.org", p, "192.0.2.1"), errs.Auth, textAuth)
	}
	login(t, a, "alice@example.org", "second of two", "192.0.2.1")
}

// A failed write leaves it open which password counts: no opened key vouches.
func TestPasswdFailedWrite(t *testing.T) {
	f := &storetest.Faulty{Store: openStore(t, crvfs.NewMem())}
	a := officeOn(t, f)
	s := login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	f.After = func(int64) error { return errs.E("test", errs.Unavailable, "", nil) }
	wantKind(t, a.Passwd(ctx, s.Address, "correct horse", "battery staple"), errs.Unavailable, "")
	f.After = nil
	wantKind(t, try(a, "alice@example.org", "correct horse", "192.0.2.1"), errs.Auth, textAuth)
	login(t, a, "alice@example.org", "battery staple", "192.0.2.1")
}

// box is a mailbox of one record, which an account must have to work.
type box struct {
	a       *Accounts
	fail    error
	removed int
}

func (b *box) set(o *Options) {
	o.OnCreate = func(tx store.Tx, key *seal.Opened) error {
		sealed, err := key.SealRecord("box", nil, []byte("empty"))
		if err != nil {
			return err
		}
		return tx.Set(append(key.ID().Prefix(), 'x'), sealed)
	}
	o.OnDelete = func(ctx context.Context, id seal.AccountID) error {
		if b.fail != nil {
			return b.fail
		}
		b.removed++
		return o.Store.Update(ctx, id.Shard(), func(tx store.Tx) error { return tx.Delete(append(id.Prefix(), 'x')) })
	}
}

func (b *box) content(s *Session) (string, error) {
	var got []byte
	err := b.a.o.Store.View(ctx, s.ID.Shard(), func(r store.Reader) error {
		sealed, err := r.Get(append(s.ID.Prefix(), 'x'))
		if err == nil {
			got, err = s.Key.OpenRecord("box", nil, sealed)
		}
		return err
	})
	return string(got), err
}

func TestReset(t *testing.T) {
	b := &box{}
	a := office(t, b.set)
	b.a = a
	s := login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	if got, err := b.content(s); err != nil || got != "empty" {
		t.Fatalf("%q %v", got, err)
	}
	if err := a.AddToken(ctx, s.ID, "token"); err != nil {
		t.Fatal(err)
	}
	wantKind(t, a.Reset(ctx, s.Address, "short"), errs.Denied, "")

	// It fails half way: no mail, no login, and Check says what to do.
	b.fail = errs.E("test", errs.Unavailable, "", nil)
	wantKind(t, a.Reset(ctx, s.Address, "battery staple"), errs.Unavailable, "")
	_, err := a.Resolve(ctx, s.Address)
	wantKind(t, err, errs.Unavailable, textReset)
	wantKind(t, try(a, "alice@example.org", "correct horse", "192.0.2.1"), errs.Unavailable, textReset)
	_, err = s.Current(ctx)
	wantKind(t, err, errs.Unavailable, textReset)
	wantFindings(t, a, FindingResetting)

	b.fail = nil
	if err := a.Reset(ctx, s.Address, "battery staple"); err != nil {
		t.Fatal(err)
	}
	_, err = s.Current(ctx)
	wantKind(t, err, errs.NotFound, "")
	_, err = s.Key.SealRecord("x", nil, nil)
	wantKind(t, err, errs.Unavailable, "")
	wantKind(t, try(a, "alice@example.org", "correct horse", "192.0.2.1"), errs.Auth, textAuth)
	n := login(t, a, "alice@example.org", "battery staple", "192.0.2.1")
	if n.ID != s.ID || string(n.Public) == string(s.Public) || b.removed != 1 {
		t.Errorf("account %v, removed %d times", n.ID, b.removed)
	}
	if got, err := b.content(n); err != nil || got != "empty" {
		t.Errorf("the new mailbox: %q %v", got, err)
	}
	acc, err := a.Resolve(ctx, s.Address)
	if err != nil || string(acc.Public) != string(n.Key.Public()) {
		t.Errorf("mail goes to another key: %v", err)
	}
	if tokens, err := a.Tokens(ctx, s.ID); err != nil || len(tokens) != 0 {
		t.Errorf("tokens %v %v", tokens, err)
	}
	wantFindings(t, a)
}

func TestSetAndCreate(t *testing.T) {
	a := office(t, func(o *Options) { o.MayCreate = func() error { return errs.E("test", errs.Unavailable, "", nil) } })
	acc, err := a.Create(ctx, CreateRequest{Address: addr(t, "Bob@example.org"), Password: "correct horse", Class: OpenMail, AcceptCleartext: true, Quota: 7})
	if err != nil || acc.Class != OpenMail || !acc.AcceptCleartext || acc.Quota != 7 || acc.LastLogin != 0 || acc.Address.Local != "bob" {
		t.Fatalf("%+v %v", acc, err)
	}
	_, err = a.Create(ctx, CreateRequest{Address: addr(t, "bob@example.org"), Password: "correct horse"})
	wantKind(t, err, errs.Exists, "this address exists already")
	for _, bad := range []CreateRequest{
		{Address: addr(t, "x@example.org"), Password: "correct horse"},
		{Address: addr(t, "xyz@example.org"), Password: "short"},
		{Address: addr(t, "xyz@example.com"), Password: "correct horse"},
	} {
		_, err = a.Create(ctx, bad)
		wantKind(t, err, errs.Denied, "")
	}
	_, err = a.Create(ctx, CreateRequest{Address: addr(t, "xyz@example.org"), Password: "correct horse", Quota: -1})
	wantKind(t, err, errs.Invalid, "")
	_, err = a.Create(ctx, CreateRequest{Address: addr(t, "xyz@example.org"), Password: "correct horse", Class: numClasses})
	wantKind(t, err, errs.Invalid, "")

	strict, no, quota := Strict, false, int64(9)
	acc, err = a.Set(ctx, addr(t, "bob@example.org"), Change{Class: &strict})
	if err != nil || acc.Class != Strict || !acc.AcceptCleartext || acc.Quota != 7 {
		t.Fatalf("%+v %v", acc, err)
	}
	acc, err = a.Set(ctx, addr(t, "bob@example.org"), Change{AcceptCleartext: &no, Quota: &quota})
	if err != nil || acc.AcceptCleartext || acc.Quota != 9 {
		t.Fatalf("%+v %v", acc, err)
	}
	quota = -1
	_, err = a.Set(ctx, addr(t, "bob@example.org"), Change{Quota: &quota})
	wantKind(t, err, errs.Invalid, "")
	_, err = a.Set(ctx, addr(t, "nobody@example.org"), Change{})
	wantKind(t, err, errs.NotFound, "")
	login(t, a, "bob@example.org", "correct horse", "192.0.2.1")
}

func TestDelete(t *testing.T) {
	for _, split := range []bool{false, true} {
		b := &box{}
		clock := newClock()
		var st store.Store = openStore(t, crvfs.NewMem())
		if split {
			st = storetest.SplitLogs(st)
		}
		a := officeOn(t, st, b.set, func(o *Options) { o.Now = clock.Now; o.ReuseAfterDays = 2 })
		s := login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
		if err := a.Delete(ctx, s.Address); err != nil {
			t.Fatal(err)
		}
		if b.removed != 1 {
			t.Errorf("mail was removed %d times", b.removed)
		}
		_, err := s.Current(ctx)
		wantKind(t, err, errs.NotFound, "")
		_, err = s.Key.SealRecord("x", nil, nil)
		wantKind(t, err, errs.Unavailable, "")
		_, err = a.Resolve(ctx, s.Address)
		wantKind(t, err, errs.NotFound, "")
		wantKind(t, a.Delete(ctx, s.Address), errs.NotFound, "")
		wantKind(t, a.AddToken(ctx, s.ID, "token"), errs.NotFound, "")
		wantFindings(t, a)
		if n := countKeys(t, a.o.Store, seal.AccountPrefix); n != 0 {
			t.Errorf("%d records are left", n)
		}

		wantKind(t, try(a, "alice@example.org", "correct horse", "192.0.2.1"), errs.Denied, textGone)
		_, err = a.Create(ctx, CreateRequest{Address: s.Address, Password: "correct horse"})
		wantKind(t, err, errs.Denied, textGone)
		clock.Add(24 * 3600e9)
		wantKind(t, try(a, "alice@example.org", "correct horse", "192.0.2.1"), errs.Denied, textGone)
		clock.Add(24 * 3600e9)
		n := login(t, a, "alice@example.org", "battery staple", "192.0.2.1")
		if n.ID == s.ID {
			t.Error("a number was used again")
		}
		// Never is the default.
		never := officeOn(t, openStore(t, crvfs.NewMem()), func(o *Options) { o.Now = clock.Now })
		x := login(t, never, "alice@example.org", "correct horse", "192.0.2.1")
		if err := never.Delete(ctx, x.Address); err != nil {
			t.Fatal(err)
		}
		clock.Add(10000 * 24 * 3600e9)
		wantKind(t, try(never, "alice@example.org", "correct horse", "192.0.2.1"), errs.Denied, textGone)
		// With creation off a tombstone says nothing either.
		never.o.MayCreate = func() error { return errs.E("test", errs.Denied, "", nil) }
		wantKind(t, try(never, "alice@example.org", "correct horse", "192.0.2.1"), errs.Auth, textAuth)
	}
}

// Mail that could not be removed is removed later; the name is gone at once.
func TestDeleteGoesOn(t *testing.T) {
	b := &box{}
	clock := newClock()
	a := office(t, b.set, func(o *Options) { o.Now = clock.Now })
	s := login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	b.fail = errors.New("disk")
	if err := a.Delete(ctx, s.Address); !errors.Is(err, b.fail) {
		t.Fatal(err)
	}
	wantKind(t, try(a, "alice@example.org", "correct horse", "192.0.2.1"), errs.Denied, textGone)
	wantFindings(t, a, FindingOrphan)
	b.fail = nil
	sweepTwice(t, a, clock)
	wantFindings(t, a)
	if b.removed != 1 || countKeys(t, a.o.Store, seal.AccountPrefix) != 0 {
		t.Errorf("removed %d times", b.removed)
	}
}

// countKeys counts the records whose key begins with a letter.
func countKeys(t *testing.T, s store.Store, letter byte) (n int) {
	t.Helper()
	err := s.Walk(ctx, func(_ store.Shard, k, _ []byte) (bool, error) {
		if k[0] == letter {
			n++
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestOnReset: where something else is to be removed for a reset than for a deletion, it is.
func TestOnReset(t *testing.T) {
	var reset, deleted []seal.AccountID
	a := office(t, func(o *Options) {
		o.OnReset = func(_ context.Context, id seal.AccountID) error { reset = append(reset, id); return nil }
		o.OnDelete = func(_ context.Context, id seal.AccountID) error { deleted = append(deleted, id); return nil }
	})
	s := login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	if err := a.Reset(ctx, s.Address, "battery staple"); err != nil || len(reset) != 1 || reset[0] != s.ID || len(deleted) != 0 {
		t.Errorf("reset: %v, %v, %v", reset, deleted, err)
	}
	if err := a.Delete(ctx, s.Address); err != nil || len(reset) != 1 || len(deleted) != 1 || deleted[0] != s.ID {
		t.Errorf("deleted: %v, %v, %v", reset, deleted, err)
	}
}
