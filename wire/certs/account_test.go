package certs

import (
	"testing"

	"github.com/caddyserver/certmagic"

	"postern.email/kit/vfs"
)

// TestAuthority: the name for CAA records, and the account that is in use.
func TestAuthority(t *testing.T) {
	plain, err := New(Options{FS: vfs.NewCrashDisk(), Dir: "/tls", Domain: "example.org"})
	if err != nil {
		t.Fatal(err)
	}
	if name, account := plain.Authority(t.Context()); name != "" || account != "" {
		t.Errorf("without ACME: %q, %q", name, account)
	}
	c, _ := withCA(t, vfs.NewCrashDisk(), ACME{Email: "Anna@example.org"}, nil)
	if name, account := c.Authority(t.Context()); name != "letsencrypt.org" || account != "" {
		t.Errorf("before the first order: %q, %q", name, account)
	}
	users := "acme/" + (&certmagic.ACMEIssuer{CA: LetsEncrypt}).IssuerKey() + "/users/"
	put := func(key, text string) {
		t.Helper()
		if err := c.acme.store.Store(t.Context(), users+key, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	put("default/default.json", `{"location": "https://ca.example/1"}`)
	put("default/default.key", `no account`)
	put("broken/broken.json", `{`)
	if _, account := c.Authority(t.Context()); account != "https://ca.example/1" {
		t.Errorf("the only account: %q", account)
	}
	put("anna/anna.json", `{"contact": ["mailto:anna@example.org"], "location": "https://ca.example/2"}`)
	if _, account := c.Authority(t.Context()); account != "https://ca.example/2" {
		t.Errorf("the account of the address: %q", account)
	}
	c.o.ACME.Email = ""
	if _, account := c.Authority(t.Context()); account != "https://ca.example/1" {
		t.Errorf("the account without address: %q", account)
	}
	c.o.ACME.Email = "ben@example.org"
	if _, account := c.Authority(t.Context()); account != "" {
		t.Errorf("one of two that are not ours: %q", account)
	}
	// Another authority is asked by whom it can be; this one is made up and says nothing.
	c.o.ACME.Directory = "https://ca.example/directory"
	if name, _ := c.Authority(t.Context()); name != "" {
		t.Errorf("another authority: %q", name)
	}
}
