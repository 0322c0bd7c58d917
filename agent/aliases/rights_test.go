package aliases

import (
	"strings"
	"sync"
	"testing"

	"postern.email/kit/errs"
)

// TestScopesThatEnd: what ends an alias, a token or an owner takes the scope manage; any token may
// replace itself.
func TestScopesThatEnd(t *testing.T) {
	for _, scopes := range [][]string{{"create"}, {"list"}, {"create", "list"}, {"manage"}, {"create", "list", "manage"}} {
		w := newWorld(t, nil)
		ctx := t.Context()
		who := w.token("anna", scopes...)
		at := w.make(w.who("anna"), CreateRequest{}).Address
		may := strings.Contains(strings.Join(scopes, " "), "manage")
		want := func(name string, err error, allowed errs.Kind) {
			t.Helper()
			if !may && errs.KindOf(err) != errs.Denied || may && err != nil && errs.KindOf(err) != allowed {
				t.Errorf("%v, %s: %v", scopes, name, err)
			}
		}
		want("delete", w.desk.Delete(ctx, who, at), errs.Canceled)
		_, err := w.desk.Restore(ctx, who, at)
		want("restore", err, errs.Canceled)
		want("revoke", w.desk.RevokeToken(ctx, who, "00"), errs.NotFound)
		fresh, err := w.desk.RotateToken(ctx, who)
		if err != nil {
			t.Fatalf("%v: %v", scopes, err)
		}
		_, err = w.desk.Account(ctx, who)
		wantKind(t, err, errs.Auth, textAuth)
		who = Who{Token: fresh}
		if acc, err := w.desk.Account(ctx, who); err != nil || strings.Join(acc.Scopes, " ") != strings.Join(scopes, " ") {
			t.Errorf("%v became %v, %v", scopes, acc.Scopes, err)
		}
		want("delete owner", w.desk.DeleteOwner(ctx, who), errs.Canceled)
	}
}

// TestAtOnce: of many who choose the same name at the same time one gets it, also where for all of
// them it is the first alias.
func TestAtOnce(t *testing.T) {
	w := newWorld(t, nil)
	var all sync.WaitGroup
	got := make([]error, 8)
	for i := range got {
		who := w.who([]string{"anna", "ben"}[i%2])
		all.Go(func() { _, got[i] = w.desk.Create(t.Context(), who, CreateRequest{Custom: "shop"}) })
	}
	all.Wait()
	made := 0
	for _, err := range got {
		if err == nil {
			made++
		} else if errs.KindOf(err) != errs.Exists {
			t.Error(err)
		}
	}
	if made != 1 {
		t.Errorf("%d got it", made)
	}
}
