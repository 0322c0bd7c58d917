package alias

import (
	"bytes"
	"strings"
	"testing"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/aliasname"
	"postern.email/post/seal"
)

// TestTokens: a token opens what its owner has, with its scopes, until it is revoked or rotated; it
// is listed with its name, and shown once.
func TestTokens(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.MaxTokens = 3 })
	v := w.account(1)
	al := w.create(v.Vault, New{Local: "one", Notes: Notes{Label: "Shop"}})
	token, id, err := w.NewToken(ctx, v.Vault, ScopeCreate|ScopeList, "laptop")
	if err != nil || !aliasname.TokenForm(token) {
		t.Fatalf("%q %v", token, err)
	}
	got, s, err := w.ByToken(ctx, token)
	if err != nil || s != ScopeCreate|ScopeList || got.Owner != v.Owner || got.AliasKey() != v.AliasKey() || got.TokenID() != id {
		t.Fatalf("%v %v", s, err)
	}
	if n, err := got.Notes(al); err != nil || n.Label != "Shop" {
		t.Errorf("%+v %v", n, err)
	}
	w.clock.Add(2 * aDay)
	if v, _, err := w.ByToken(ctx, token); err != nil {
		t.Fatal(err)
	} else {
		v.Close()
		_, err := v.Notes(al)
		wantKind(t, err, errs.Unavailable, "")
	}
	old := strings.Repeat("x", aliasname.TokenLen)
	if err := w.TakeToken(ctx, v.Vault, old, ScopeAll, "old"); err != nil {
		t.Fatal(err)
	}
	wantKind(t, w.TakeToken(ctx, w.account(2).Vault, old, ScopeAll, "old"), errs.Exists, textTakenToken)
	wantKind(t, w.TakeToken(ctx, v.Vault, "short", ScopeAll, ""), errs.Invalid, textTokenForm)
	list, err := w.Tokens(ctx, v.Vault)
	first := DayOf(w.clock.Now()) - 2
	if err != nil || len(list) != 2 || list[0] != (Token{id, "laptop", ScopeCreate | ScopeList, first, first + 2}) || list[1].Name != "old" || list[1].LastUsed != 0 {
		t.Errorf("%+v %v", list, err)
	}
	fresh, err := w.RotateToken(ctx, token)
	if err != nil || fresh == token {
		t.Fatal(err)
	}
	_, _, err = w.ByToken(ctx, token)
	wantKind(t, err, errs.Auth, textToken)
	_, err = w.RotateToken(ctx, token)
	wantKind(t, err, errs.Auth, textToken)
	if _, s, err := w.ByToken(ctx, fresh); err != nil || s != ScopeCreate|ScopeList {
		t.Fatalf("%v %v", s, err)
	}
	list, _ = w.Tokens(ctx, v.Vault)
	names := []string{list[0].Name, list[1].Name}
	if len(list) != 2 || !strings.Contains(strings.Join(names, " "), "laptop") {
		t.Errorf("%v", names)
	}
	if _, _, err := w.NewToken(ctx, v.Vault, ScopeAll, ""); err != nil {
		t.Fatal(err)
	}
	_, _, err = w.NewToken(ctx, v.Vault, ScopeAll, "")
	wantKind(t, err, errs.Full, textMostTokens)
	wantKind(t, w.RevokeToken(ctx, v.Vault, id), errs.NotFound, textNoToken)
	wantKind(t, w.RevokeToken(ctx, v.Vault, "x"), errs.NotFound, textNoToken)
	for _, tok := range list {
		if err := w.RevokeToken(ctx, v.Vault, tok.ID); err != nil {
			t.Fatal(err)
		}
	}
	for _, dead := range []string{fresh, old, "x", strings.Repeat("y", aliasname.TokenLen)} {
		_, _, err = w.ByToken(ctx, dead)
		wantKind(t, err, errs.Auth, textToken)
	}
	for _, s := range []Scope{0, ScopeAll + 1} {
		_, _, err = w.NewToken(ctx, v.Vault, s, "")
		wantKind(t, err, errs.Invalid, textScope)
	}
	for _, name := range []string{strings.Repeat("x", 65), "a\nb"} {
		_, _, err = w.NewToken(ctx, v.Vault, ScopeAll, name)
		wantKind(t, err, errs.Invalid, textTokenName)
	}
	w.sound()
}

// TestElsewhere: an owner without mailbox has a target and tokens, and never loses the last one.
func TestElsewhere(t *testing.T) {
	w := newWorld(t)
	owner := Owner{4, 4}
	for _, o := range []BeginOptions{{}, {Target: at("x@example.org")}, {Target: at("x@Alias.Example")}} {
		_, err := w.Begin(ctx, owner, o)
		wantKind(t, err, errs.Invalid, textTarget)
	}
	begin := func() *Vault {
		t.Helper()
		v, err := w.Begin(ctx, owner, BeginOptions{Target: at("Anna@Mailbox.Example")})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	lost := begin() // a crash comes before it has a token
	v := begin()
	_, _, err := w.NewToken(ctx, lost, ScopeAll, "")
	wantKind(t, err, errs.Conflict, "")
	token, id, err := w.NewToken(ctx, v, ScopeAll, "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Begin(ctx, owner, BeginOptions{Target: at("anna@mailbox.example")})
	wantKind(t, err, errs.Exists, textBegun)
	if target, err := w.Target(ctx, owner); err != nil || target != at("anna@mailbox.example") {
		t.Errorf("%v %v", target, err)
	}
	wantKind(t, w.RevokeToken(ctx, v, id), errs.Denied, textLastToken)
	for _, bad := range []mail.Address{{}, at("x@example.org")} {
		wantKind(t, w.SetTarget(ctx, owner, bad), errs.Invalid, textTarget)
	}
	w.create(v, New{Local: "one"})
	if err := w.SetTarget(ctx, owner, at("ben@mailbox.example")); err != nil {
		t.Fatal(err)
	}
	var got []Redirect
	w.create(w.account(1).Vault, New{Local: "local"})
	w.create(v, New{Local: "deleted"})
	if err := w.Delete(ctx, v, at("deleted@example.org")); err != nil {
		t.Fatal(err)
	}
	if err := w.Redirects(ctx, func(r Redirect) error { got = append(got, r); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].Alias.Address != at("one@example.org") || got[0].Target != at("ben@mailbox.example") {
		t.Errorf("%v", got)
	}
	_, err = w.Target(ctx, Owner{9})
	wantKind(t, err, errs.NotFound, "")
	_, _, err = w.ByToken(ctx, token)
	if err != nil {
		t.Error(err)
	}
	w.sound()
}

// TestAccount: the account's key opens the vault again, and after a reset the new key begins anew:
// aliases and derived ones stay, labels, correspondents' addresses and tokens do not.
func TestAccount(t *testing.T) {
	w := newWorld(t)
	v := w.account(1)
	_, err := w.Begin(ctx, v.Owner, BeginOptions{Account: v.key})
	wantKind(t, err, errs.Exists, textBegun)
	w.create(v.Vault, New{Local: "one", Mode: ModePinned, Notes: Notes{Label: "Shop"}})
	w.mail("one@example.org", "news@shop.example")
	token, _, err := w.NewToken(ctx, v.Vault, ScopeAll, "laptop")
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.ByAccount(ctx, v.key)
	if err != nil || again.AliasKey() != v.AliasKey() || again.TokenID() != "" {
		t.Fatal(err)
	}
	if n := w.notes(again, "one@example.org"); n.Label != "Shop" || n.Correspondents[0].Address != "news@shop.example" {
		t.Errorf("%+v", n)
	}
	strange, err := seal.FromSeed(v.Owner, bytes.Repeat([]byte{77}, seal.SeedLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.ByAccount(ctx, strange)
	wantKind(t, err, errs.Corrupt, "")

	for range 2 {
		if err := w.ResetOwner(ctx, v.Owner); err != nil {
			t.Fatal(err)
		}
	}
	w.sound()
	_, _, err = w.ByToken(ctx, token)
	wantKind(t, err, errs.Auth, textToken)
	_, err = w.ByAccount(ctx, strange)
	wantKind(t, err, errs.NotFound, "")
	if got := w.mail("one@example.org", "other@shop.example"); got.Action != Refuse {
		t.Errorf("the rules are gone: %+v", got)
	}
	w.mail("one@example.org", "news@shop.example") // also without a vault
	fresh, err := w.Begin(ctx, v.Owner, BeginOptions{Account: strange})
	if err != nil || fresh.AliasKey() != v.AliasKey() {
		t.Fatal(err)
	}
	if n := w.notes(fresh, "one@example.org"); n.Label != "" || n.Correspondents[0].Address != "" || n.Correspondents[0].State != StatePinned || n.Correspondents[0].Mails != 2 {
		t.Errorf("%+v", n)
	}
	w.change(fresh, "one@example.org", func(c *Change) { c.Notes.Label = "New" })
	if n := w.notes(fresh, "one@example.org"); n.Label != "New" {
		t.Errorf("%+v", n)
	}
	if err := w.ResetOwner(ctx, Owner{9}); err != nil {
		t.Error(err)
	}
	w.sound()
}

// TestDeleteOwner: with an owner all its aliases die for ever, those in the trash and derived ones
// too, and its tokens; it may be repeated.
func TestDeleteOwner(t *testing.T) {
	w := newWorld(t)
	v, other := w.account(1), w.account(2)
	w.create(v.Vault, New{Local: "one"})
	w.create(v.Vault, New{Local: "trash"})
	w.create(other.Vault, New{Local: "other"})
	key := v.AliasKey()
	derived := mail.Address{Local: aliasname.Derive(&key, domain, "shop", 0), Domain: domain}
	if err := w.Delete(ctx, v.Vault, at("trash@example.org")); err != nil {
		t.Fatal(err)
	}
	token, _, err := w.NewToken(ctx, v.Vault, ScopeAll, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Resolve(ctx, derived, peer("192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.DeleteOwner(ctx, v.Owner); err != nil {
			t.Fatal(err)
		}
	}
	for _, addr := range []mail.Address{at("one@example.org"), at("trash@example.org"), derived} {
		_, err := w.Resolve(ctx, addr, peer("192.0.2.1"))
		wantKind(t, err, errs.NotFound, "")
	}
	for _, local := range []string{"one", "trash"} {
		_, err := w.Create(ctx, other.Vault, New{Local: local})
		wantKind(t, err, errs.Denied, "")
	}
	_, err = w.Create(ctx, v.Vault, New{Local: "late"})
	wantKind(t, err, errs.NotFound, textNoOwner)
	_, _, err = w.ByToken(ctx, token)
	wantKind(t, err, errs.Auth, textToken)
	_, err = w.ByAccount(ctx, v.key)
	wantKind(t, err, errs.NotFound, "")
	w.lookup("other@example.org")
	w.sound()
	_, _, err = w.NewToken(ctx, v.Vault, ScopeAll, "")
	wantKind(t, err, errs.NotFound, "")
}
