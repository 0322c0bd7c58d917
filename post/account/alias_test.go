package account

import (
	"testing"

	"postern.email/kit/errs"
	"postern.email/mail/aliasname"
	"postern.email/post/names"
	"postern.email/post/seal"
	"postern.email/store"
)

// TestAliasNames: a name that is or was an alias is no account and never becomes one, neither by
// a login nor by the operator, also where names of deleted accounts are given out again.
// Housekeeping, lists and Check leave it alone.
func TestAliasNames(t *testing.T) {
	clock := newClock()
	a := office(t, func(o *Options) { o.Now = clock.Now; o.ReuseAfterDays = 1 })
	login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	for name, k := range map[string]names.Kind{"living@example.org": names.Alias, "dead@example.org": names.GoneAlias} {
		at := addr(t, name)
		want := names.Record{Kind: k, ID: seal.AccountID{9}, Day: 1}
		if err := a.o.Store.Update(ctx, a.names.Shard(at), func(tx store.Tx) error { return a.names.Set(tx, at, want) }); err != nil {
			t.Fatal(err)
		}
		if _, err := a.sweep(ctx, nil); err != nil {
			t.Fatal(err)
		}
		wantKind(t, try(a, name, "correct horse", "192.0.2.1"), errs.Denied, textGone)
		_, err := a.Create(ctx, CreateRequest{Address: at, Password: "correct horse"})
		wantKind(t, err, errs.Denied, textGone)
		_, err = a.Resolve(ctx, at)
		wantKind(t, err, errs.NotFound, "")
		_, err = a.Show(ctx, at)
		wantKind(t, err, errs.NotFound, "")
		wantKind(t, a.Delete(ctx, at), errs.NotFound, "")
		if r, err := a.names.Lookup(ctx, at); err != nil || r != want {
			t.Errorf("the name is %+v %v", r, err)
		}
	}
	page, _, err := a.List(ctx, "", 10)
	if err != nil || len(page) != 1 || page[0].Address != addr(t, "alice@example.org") {
		t.Errorf("%v %v", page, err)
	}
	wantFindings(t, a)
}

// TestDerivedNames: no account has a name of the form that programs derive for aliases.
func TestDerivedNames(t *testing.T) {
	a := office(t)
	name := aliasname.Derive(&[32]byte{1}, "example.org", "shop.example", 0) + "@example.org"
	wantKind(t, try(a, name, "correct horse", "192.0.2.1"), errs.Denied, textDerived)
	_, err := a.Create(ctx, CreateRequest{Address: addr(t, name), Password: "correct horse"})
	wantKind(t, err, errs.Denied, textDerived)
}
