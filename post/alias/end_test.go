package alias

import (
	"errors"
	"strings"
	"testing"

	"postern.email/kit/errs"
	"postern.email/store"
	"postern.email/store/storetest"
)

// TestMaxDeleted: deleted aliases have a bound of their own, since each keeps its name for ever. Beyond it
// none is made, and no derived one is deleted that got no mail; what is there can still be deleted and
// restored, paused, and used.
func TestMaxDeleted(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.MaxPerOwner, o.MaxDeleted = 2, 3 })
	v := w.account(1)
	remove := func(local string) {
		t.Helper()
		if err := w.Delete(ctx, v.Vault, at(local+"@example.org")); err != nil {
			t.Fatal(err)
		}
	}
	for _, local := range []string{"a", "b"} {
		w.create(v.Vault, New{Local: local})
		remove(local)
	}
	w.create(v.Vault, New{Local: "stays"})
	w.create(v.Vault, New{Local: "c"})
	first := derive(v.Vault, "first", 0)
	if err := w.Delete(ctx, v.Vault, first); err != nil { // the third
		t.Fatal(err)
	}
	wantKind(t, w.Delete(ctx, v.Vault, derive(v.Vault, "second", 0)), errs.Full, textMostDead)
	remove("c") // whatever was made can be deleted
	_, err := w.Create(ctx, v.Vault, New{Local: "d"})
	wantKind(t, err, errs.Full, textMostDeleted)
	if _, err := w.o.Names.Lookup(ctx, at("d@example.org")); errs.KindOf(err) != errs.NotFound {
		t.Errorf("a name was used up: %v", err)
	}
	al, err := w.Resolve(ctx, derive(v.Vault, "third", 0), peer("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	wantKind(t, w.Record(ctx, w.Arrive(al, at("a@b.example"), Verdict{Action: Take})), errs.Full, textMostDeleted)
	w.mail("stays@example.org", "news@shop.example")
	w.change(v.Vault, "stays@example.org", func(c *Change) { c.Paused = true })

	// What the text says helps.
	if _, err := w.Restore(ctx, v.Vault, at("c@example.org")); err != nil {
		t.Fatal(err)
	}
	remove("stays")
	_, err = w.Create(ctx, v.Vault, New{Local: "d"})
	wantKind(t, err, errs.Full, textMostDeleted)
	if _, err = w.Restore(ctx, v.Vault, at("stays@example.org")); err != nil {
		t.Fatal(err)
	}
	wantKind(t, w.Delete(ctx, v.Vault, derive(v.Vault, "second", 0)), errs.Full, textMostDead)

	// Neither a tombstone nor a restart, nor an end and a new begin, makes it less.
	remove("c")
	w.clock.Add((DefaultUndoDays + 1) * aDay)
	if _, err := w.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	again := func() {
		t.Helper()
		_, err = w.Create(ctx, v.Vault, New{Local: "d"})
		wantKind(t, err, errs.Full, textMostDeleted)
	}
	again()
	w.reopen(func(o *Options) { o.MaxPerOwner, o.MaxDeleted = 2, 3 })
	again()
	if err := w.EndOwner(ctx, v.Owner); err != nil {
		t.Fatal(err)
	}
	_, err = w.Create(ctx, v.Vault, New{Local: "d"})
	wantKind(t, err, errs.NotFound, textNoOwner)
	v = w.account(1)
	again()
	if err := w.ResetOwner(ctx, v.Owner); err != nil {
		t.Fatal(err)
	}
	v = w.account(1)
	again()
	w.sound()

	// Others, and an account that was deleted itself, begin at nothing.
	w.create(w.account(2).Vault, New{Local: "d"})
	if err := w.DeleteOwner(ctx, v.Owner); err != nil {
		t.Fatal(err)
	}
	w.create(w.account(1).Vault, New{Local: "e"})
	w.sound()
}

// TestMaxDeletedDefault: ten times as many as there may be, whatever that is.
func TestMaxDeletedDefault(t *testing.T) {
	if o := (Options{}).withDefaults(); o.MaxDeleted != 100_000 {
		t.Errorf("%d", o.MaxDeleted)
	}
	if o := (Options{MaxPerOwner: 7}).withDefaults(); o.MaxDeleted != 70 {
		t.Errorf("%d", o.MaxDeleted)
	}
}

// TestCount: the owner's record says how many aliases there are, whatever becomes of them.
func TestCount(t *testing.T) {
	w := newWorld(t)
	v, other := w.account(1), w.account(2)
	want := func(n int) {
		t.Helper()
		if got, err := w.Count(ctx, v.Owner); err != nil || got != n {
			t.Fatalf("%d, %v, want %d", got, err, n)
		}
		list, _, err := w.List(ctx, v.Owner, "", MaxPage)
		if err != nil || len(list) != n {
			t.Fatalf("%d are listed, %v, want %d", len(list), err, n)
		}
	}
	want(0)
	w.create(other.Vault, New{Local: "other"})
	w.create(v.Vault, New{Local: "one"})
	w.create(v.Vault, New{Local: "two"})
	want(2)
	al, err := w.Resolve(ctx, derive(v.Vault, "shop", 0), peer("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	w.comes(al, "news@shop.example")
	want(3)
	if err := w.Delete(ctx, v.Vault, at("one@example.org")); err != nil {
		t.Fatal(err)
	}
	want(2)
	if _, err := w.Restore(ctx, v.Vault, at("one@example.org")); err != nil {
		t.Fatal(err)
	}
	w.reopen()
	want(3)
	if err := w.EndOwner(ctx, v.Owner); err != nil {
		t.Fatal(err)
	}
	want(0)
	if n, err := w.Count(ctx, Owner{99}); err != nil || n != 0 {
		t.Errorf("nobody: %d, %v", n, err)
	}
}

// TestEndOwner: an owner that ends and begins again has none of what it had, also where a crash cut the end
// off, and the names of all its aliases are dead.
func TestEndOwner(t *testing.T) {
	for _, finish := range []string{"begin", "sweep", "again"} {
		t.Run(finish, func(t *testing.T) {
			w := newWorld(t)
			v, other := w.account(1), w.account(2)
			w.create(v.Vault, New{Local: "one"})
			w.create(v.Vault, New{Local: "two"})
			token, _, err := w.NewToken(ctx, v.Vault, ScopeAll, "")
			if err != nil {
				t.Fatal(err)
			}
			before := v.AliasKey()
			crash := errors.New("crash")
			w.reopen(func(o *Options) {
				o.Store = &storetest.Faulty{Store: w.st, Before: func(n int64) error {
					if n > 1 { // the records without which nothing is made
						return crash
					}
					return nil
				}}
			})
			if err := w.EndOwner(ctx, v.Owner); !errors.Is(err, crash) {
				t.Fatalf("%v, want that it was cut off", err)
			}
			w.reopen()
			w.sound(foundHalf)
			switch finish {
			case "begin":
			case "sweep":
				for range 2 {
					if _, err := w.Sweep(ctx); err != nil {
						t.Fatal(err)
					}
					w.clock.Add(DefaultOrphanAge)
				}
				w.sound()
			case "again":
				if err := w.EndOwner(ctx, v.Owner); err != nil {
					t.Fatal(err)
				}
				w.sound()
			}
			_, err = w.ByAccount(ctx, v.key)
			wantKind(t, err, errs.NotFound, "")
			if _, err := w.Target(ctx, v.Owner); errs.KindOf(err) != errs.NotFound {
				t.Errorf("an owner that has ended has a target: %v", err)
			}
			v = w.account(1)
			if v.AliasKey() == before {
				t.Error("the alias key is the old one")
			}
			_, _, err = w.ByToken(ctx, token)
			wantKind(t, err, errs.Auth, textToken)
			list, _, err := w.List(ctx, v.Owner, "", 10)
			if err != nil || len(list) != 0 {
				t.Errorf("%v, %v", list, err)
			}
			for _, local := range []string{"one", "two"} {
				for _, who := range []account{v, other} {
					_, err := w.Create(ctx, who.Vault, New{Local: local})
					wantKind(t, err, errs.Denied, "")
				}
			}
			w.create(v.Vault, New{Local: "three"})
			w.sound()
			if err := w.Reveal(ctx, func(kind, text string) {
				if strings.Contains(text, "owner "+v.Owner.String()) && kind == "alias-owner" && !strings.Contains(text, "1 aliases, 2 deleted") {
					t.Error(text)
				}
			}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestEndOwnerElsewhere: nothing is left of an owner without an account: nobody but the operator makes it anew.
func TestEndOwnerElsewhere(t *testing.T) {
	w := newWorld(t)
	owner := Owner{5, 5}
	v, err := w.Begin(ctx, owner, BeginOptions{Target: at("anna@mailbox.example")})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	w.create(v, New{Local: "one"})
	for range 2 { // once more is no error
		if err := w.EndOwner(ctx, owner); err != nil {
			t.Fatal(err)
		}
	}
	err = w.st.View(ctx, owner.Shard(), func(r store.Reader) error {
		return r.Scan(owner.PrefixOf(letterOwner), owner.EndOf(letterOwner), func(k, _ []byte) (bool, error) {
			t.Errorf("%x is left", k)
			return true, nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	w.sound()
}
