package relay

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"postern.email/agent/aliases"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/post/alias"
)

// TestAliasNotice: the owner of an alias that ends soon gets one note, which names the alias and
// what keeps it.
func TestAliasNotice(t *testing.T) {
	var c clock
	s := begin(t, Deps{FS: vfs.NewCrashDisk(), NoControl: true, Now: c.now}, testConfig(t, "/data"))
	w := annasAliases(t, s)
	v := makes(t, s, w, aliases.CreateRequest{Expires: c.now().Add(10 * day).UTC().Format(time.RFC3339)})
	makes(t, s, w, aliases.CreateRequest{})
	tell := func() {
		t.Helper()
		if err := s.alias.register.Due(t.Context(), noticeBefore, func(al *alias.Alias, why string) error { return s.noticeAlias(t.Context(), al, why) }); err != nil {
			t.Fatal(err)
		}
	}
	tell()
	if n := count(t, s, "INBOX"); n != 0 {
		t.Fatalf("%d notes ten days before", n)
	}
	c.move(4 * day)
	tell()
	tell()
	if n := count(t, s, "INBOX"); n != 1 {
		t.Fatalf("%d notes", n)
	}
	note := fetched(t, s, anna, annas)
	for _, want := range []string{v.Address, "its last day is near", "postern alias expire", "--extend 90d", "/aliases/"} {
		if !strings.Contains(note, want) {
			t.Errorf("the note does not say %q:\n%s", want, note)
		}
	}
}

// TestAliasesOfAccounts: an account that is deleted takes its aliases along for ever, one that gets a
// new key keeps them without its secrets.
func TestAliasesOfAccounts(t *testing.T) {
	s := inMemory(t)
	ctx := t.Context()
	w := annasAliases(t, s)
	v := makes(t, s, w, aliases.CreateRequest{Custom: "shop", Label: "a label"})
	token, err := s.alias.desk.NewToken(ctx, w, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.accounts.Reset(ctx, addr("anna"), "another password"); err != nil {
		t.Fatal(err)
	}
	_, err = s.alias.desk.Account(ctx, aliases.Who{Token: token})
	aliasKind(t, err, errs.Auth, "is wrong")
	w.Password = "another password"
	makes(t, s, w, aliases.CreateRequest{Custom: "second"})
	got, err := s.alias.desk.Get(ctx, w, v.Address)
	if err != nil || got.State != "active" || got.Label != "" {
		t.Errorf("after the reset: %+v, %v", got, err)
	}
	if err := s.accounts.Delete(ctx, addr("anna")); err != nil {
		t.Fatal(err)
	}
	ben := aliases.Who{Login: "ben@example.org", Password: annas}
	allowed(t, login(s, ben.Login, annas))
	for _, name := range []string{"shop", "second"} {
		_, err := s.alias.desk.Create(ctx, ben, aliases.CreateRequest{Custom: name})
		aliasKind(t, err, errs.Denied, "not given out again")
		refusedWith(t, login(s, name+"@example.org", annas), "NO")
		c := exchange(t, s, "")
		says(t, c, "MAIL FROM:<a@shop.example>", "250")
		says(t, c, "RCPT TO:<"+name+"@example.org>", "550 5.1.1")
	}
	// A name that an alias has is no account's.
	makes(t, s, ben, aliases.CreateRequest{Custom: "bens.alias"})
	refusedWith(t, login(s, "bens.alias@example.org", annas), "NO")
}

// TestAliasStop: the doors to aliases close, and mail to them goes on.
func TestAliasStop(t *testing.T) {
	s := inMemory(t)
	v := makes(t, s, annasAliases(t, s), aliases.CreateRequest{})
	if res := getPage(t, s, "/api/postern/v1/aliases", ""); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("before: %d", res.StatusCode)
	}
	if _, err := s.commands()["alias.stop"](t.Context(), []byte("{}"), nil); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/aliases", "/api/postern/v1/aliases", "/incognitomail"} {
		if res := getPage(t, s, path, ""); res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
	if res := getPage(t, s, "/", ""); res.StatusCode != http.StatusOK {
		t.Errorf("the other pages: %d", res.StatusCode)
	}
	c := exchange(t, s, "")
	says(t, c, "MAIL FROM:<a@shop.example>", "250")
	says(t, c, "RCPT TO:<"+v.Address+">", "250")
}
