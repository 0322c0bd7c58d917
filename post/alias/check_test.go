package alias

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/names"
	"postern.email/store"
)

// TestCheckFinds: each damage has its words, and neither it nor what is left keeps the rest from
// being read.
func TestCheckFinds(t *testing.T) {
	one := at("one@example.org")
	const token = "tttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt"
	spoil := func(key func(*world, Owner) []byte) func(*world, Owner, store.Tx) error {
		return func(w *world, o Owner, tx store.Tx) error {
			b, err := tx.Get(key(w, o))
			if err != nil {
				return err
			}
			b = slices.Clone(b)
			b[len(b)-1] ^= 1
			return tx.Set(key(w, o), b)
		}
	}
	drop := func(key func(*world, Owner) []byte) func(*world, Owner, store.Tx) error {
		return func(w *world, o Owner, tx store.Tx) error { return tx.Delete(key(w, o)) }
	}
	inOwner := func(_ *world, o Owner) store.Shard { return o.Shard() }
	inName := func(w *world, _ Owner) store.Shard { return w.o.Names.Shard(one) }
	inToken := func(w *world, _ Owner) store.Shard { _, s := w.root.TokenPlace(token); return s }
	p := func(w *world, o Owner) place { return place(w.root.AliasPlace(o, one)) }
	owner := func(_ *world, o Owner) []byte { return ownerKey(o) }
	vault := func(_ *world, o Owner) []byte { return vaultKey(o) }
	key := func(_ *world, o Owner) []byte { return keyKey(o) }
	rulesOf := func(w *world, o Owner) []byte { return rulesKey(o, p(w, o)) }
	stateOf := func(w *world, o Owner) []byte { return stateKey(o, p(w, o)) }
	sentOf := func(w *world, o Owner) []byte { return sentKey(o, p(w, o)) }
	placeOf := func(w *world, _ Owner) []byte { at, _ := w.root.TokenPlace(token); return placeKey(at) }
	tokenOf := func(w *world, o Owner) []byte {
		var k []byte
		err := w.st.View(ctx, o.Shard(), func(r store.Reader) error {
			ids, err := tokenIDs(r, o)
			if err == nil {
				k = tokenKey(o, ids[0])
			}
			return err
		})
		if err != nil {
			w.Fatal(err)
		}
		return k
	}
	for name, c := range map[string]struct {
		in   func(*world, Owner) store.Shard
		do   func(*world, Owner, store.Tx) error
		want []string
	}{
		"nothing":       {inOwner, func(*world, Owner, store.Tx) error { return nil }, nil},
		"owner":         {inOwner, spoil(owner), []string{foundOwner}},
		"owner gone":    {inOwner, drop(owner), []string{foundHalf}},
		"key":           {inOwner, spoil(key), []string{foundKey}},
		"key gone":      {inOwner, drop(key), []string{foundKey}},
		"vault":         {inOwner, func(_ *world, o Owner, tx store.Tx) error { return tx.Set(vaultKey(o), []byte("x")) }, []string{foundVault}},
		"vault gone":    {inOwner, drop(vault), nil}, // an account that was reset
		"token":         {inOwner, spoil(tokenOf), []string{foundToken}},
		"token gone":    {inOwner, drop(tokenOf), []string{foundDangling}},
		"token's place": {inToken, spoil(placeOf), []string{foundToken}},
		"no place":      {inToken, drop(placeOf), []string{foundDeaf}},
		"rules":         {inOwner, spoil(rulesOf), []string{foundAlias, foundCount}},
		"rules gone":    {inOwner, drop(rulesOf), []string{foundAlias, foundCount, foundName}},
		"state":         {inOwner, spoil(stateOf), []string{foundAlias}},
		"sent":          {inOwner, spoil(sentOf), []string{foundSent}},
		"sent gone":     {inOwner, drop(sentOf), nil},
		"state gone":    {inOwner, drop(stateOf), []string{foundPeople}},
		"stray": {inOwner, func(_ *world, o Owner, tx store.Tx) error {
			return tx.Set(append(ownerPrefix(o, kindAlias), 'x'), []byte("x"))
		}, []string{foundStray}},
		"name gone": {inName, func(w *world, _ Owner, tx store.Tx) error { return w.o.Names.DeleteAt(tx, w.o.Names.Place(one)) }, []string{foundNameless}},
		"another's name": {inName, func(w *world, _ Owner, tx store.Tx) error {
			return w.o.Names.Set(tx, one, names.Record{Kind: names.Alias, ID: Owner{77}})
		}, []string{foundNameless, foundName}},
		"dead name": {inName, func(w *world, o Owner, tx store.Tx) error {
			return w.o.Names.Set(tx, one, names.Record{Kind: names.GoneAlias, ID: o})
		}, []string{foundNameless}},
		"the wrong shard": {func(*world, Owner) store.Shard { return 0 }, func(_ *world, o Owner, tx store.Tx) error { return tx.Set(ownerKey(o), []byte("x")) }, []string{foundPlace}},
		"wrong count": {inOwner, func(w *world, o Owner, tx store.Tx) error {
			rec, err := w.getOwner(tx, o)
			if err != nil {
				return err
			}
			rec.count += 5
			return w.setOwner(tx, o, rec)
		}, []string{foundCount}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			v := w.account(1)
			w.create(w.account(2).Vault, New{Local: "other"})
			w.create(v.Vault, New{Local: "one"})
			w.mail("one@example.org", "news@shop.example")
			w.wrote("one@example.org", "<1@example.org>")
			if err := w.TakeToken(ctx, v.Vault, token, ScopeAll, ""); err != nil {
				t.Fatal(err)
			}
			do := c.do
			k := c.in(w, v.Owner)
			tokenOf(w, v.Owner)
			if name == "token" || name == "token gone" { // the key is looked up before the transaction
				at := tokenOf(w, v.Owner)
				do = map[string]func(*world, Owner, store.Tx) error{"token": spoil(func(*world, Owner) []byte { return at }), "token gone": drop(func(*world, Owner) []byte { return at })}[name]
			}
			if err := w.st.Update(ctx, k, func(tx store.Tx) error { return do(w, v.Owner, tx) }); err != nil {
				t.Fatal(err)
			}
			w.reopen()
			w.sound(c.want...)
			if err := w.Reveal(ctx, func(string, string) {}); err != nil {
				t.Errorf("reveal: %v", err)
			}
			if _, _, err := w.List(ctx, v.Owner, "", 10); err != nil && errs.KindOf(err) != errs.Corrupt {
				t.Errorf("list: %v", err)
			}
			if _, err := w.Sweep(ctx); err != nil {
				t.Errorf("sweep: %v", err)
			}
			w.lookup("other@example.org")
			_, _, _ = w.ByToken(ctx, token)
			if _, err := w.Lookup(ctx, one); err != nil && errs.KindOf(err) != errs.NotFound && errs.KindOf(err) != errs.Corrupt {
				t.Errorf("lookup: %v", err)
			}
		})
	}
}

// TestRun: housekeeping works on its own at its times, and writes the last counts when it ends.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.reopen(func(o *Options) { o.FlushEvery, o.SweepEvery = time.Second, 2*time.Second })
		v := w.account(1)
		w.create(v.Vault, New{Local: "one", Mode: ModeAllowList})
		run, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- w.Run(run) }()
		refuse := func() {
			t.Helper()
			al := w.lookup("one@example.org")
			if err := w.Record(ctx, w.Arrive(al, at("spam@evil.example"), al.Judge(at("spam@evil.example"), w.clock.Now()))); err != nil {
				t.Fatal(err)
			}
		}
		refuse()
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if n := w.lookup("one@example.org").Refused; n != 1 {
			t.Errorf("%d refused", n)
		}
		if err := w.Delete(ctx, v.Vault, at("one@example.org")); err != nil {
			t.Fatal(err)
		}
		w.create(v.Vault, New{Local: "two", Mode: ModeAllowList})
		w.clock.Add((DefaultUndoDays + 1) * aDay)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if r, err := w.o.Names.Lookup(ctx, at("one@example.org")); err != nil || r.Kind != names.GoneAlias {
			t.Errorf("%+v %v", r, err)
		}
		al := w.lookup("two@example.org")
		if err := w.Record(ctx, w.Arrive(al, mail.Address{}, Verdict{Action: Refuse})); err != nil {
			t.Fatal(err)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := w.lookup("two@example.org").Refused; n != 1 {
			t.Errorf("%d refused after the end", n)
		}
		if err := w.st.Close(); err != nil && !errors.Is(err, errs.Unavailable) {
			t.Error(err)
		}
	})
}
