package aliases_test

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"

	"postern.email/agent/aliases"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/post/alias"
	"postern.email/post/names"
	"postern.email/post/seal"
	"postern.email/store/pebble"
)

// besideDesk is a desk on a disk in memory, beside a mail server of another kind or not.
func besideDesk(t *testing.T, b *aliases.Beside, mapped *int) (*aliases.Desk, *alias.Aliases) {
	t.Helper()
	disk := vfs.NewCrashDisk()
	if err := vfs.MkdirAll(disk, "/d", 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := seal.OpenRoot(t.Context(), disk, "/d/root.key", seal.FileSource{FS: disk, Path: "/d/node.key"}, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	db, err := pebble.Open(t.Context(), pebble.Options{FS: disk, Dir: "/d/store"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	domains := []string{"alias.example"}
	all, err := alias.Open(t.Context(), alias.Options{Store: db, Root: root, Names: names.New(db, root), Domains: domains, TargetsHere: b != nil})
	if err != nil {
		t.Fatal(err)
	}
	d, err := aliases.New(aliases.Options{Aliases: all, Domains: domains, Cleartext: true, Elsewhere: true, Beside: b,
		Map: func(context.Context) error { *mapped++; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	return d, all
}

// TestBeside: beside a mail server that only learns where mail goes, what would need a look at the mail is refused; in a relay
// it is not.
func TestBeside(t *testing.T) {
	taken := func(_ context.Context, a mail.Address) (bool, error) { return a.Local == "office", nil }
	for _, c := range []struct {
		beside *aliases.Beside
		refuse map[string]errs.Kind // by what is asked for; none: it is done
	}{
		{nil, nil},
		{&aliases.Beside{Custom: true, Taken: taken}, map[string]errs.Kind{"mode": errs.Unsupported, "class": errs.Unsupported, "count": errs.Unsupported, "idle": errs.Unsupported, "block": errs.Unsupported, "pin": errs.Unsupported, "key": errs.Unsupported, "office": errs.Exists}},
		{&aliases.Beside{}, map[string]errs.Kind{"mode": errs.Unsupported, "class": errs.Unsupported, "count": errs.Unsupported, "idle": errs.Unsupported, "block": errs.Unsupported, "pin": errs.Unsupported, "key": errs.Unsupported, "office": errs.Denied, "custom": errs.Denied, "import": errs.Denied}},
	} {
		mapped := 0
		d, _ := besideDesk(t, c.beside, &mapped)
		token, err := d.NewOwner(t.Context(), aliases.Who{}, "anna@mailbox.example")
		if err != nil {
			t.Fatal(err)
		}
		w := aliases.Who{Token: token}
		v, err := d.Create(t.Context(), w, aliases.CreateRequest{Site: "shop.example"})
		if err != nil || mapped == 0 {
			t.Fatalf("%v, the map was told %d times", err, mapped)
		}
		change := func(r aliases.ChangeRequest) error { _, err := d.Change(t.Context(), w, v.Address, r); return err }
		pinned, strict, who, three, four := "pinned", "strict", "x@y.example", uint32(3), uint16(4)
		create := func(r aliases.CreateRequest) error { _, err := d.Create(t.Context(), w, r); return err }
		for what, err := range map[string]error{
			"mode": change(aliases.ChangeRequest{Mode: &pinned}), "class": change(aliases.ChangeRequest{Class: &strict}), "count": change(aliases.ChangeRequest{MaxMails: &three}),
			"idle": create(aliases.CreateRequest{IdleDays: four}), "block": change(aliases.ChangeRequest{Block: []string{who}}), "pin": change(aliases.ChangeRequest{Pin: &who}),
			"office": create(aliases.CreateRequest{Custom: "Office"}), "custom": create(aliases.CreateRequest{Custom: "anna.k"}),
			"key": func() error { _, _, err := d.AliasKey(t.Context(), w); return err }(),
			"import": func() error {
				r, err := d.Import(t.Context(), w, "", []aliases.View{{Address: "old.one@alias.example"}})
				if err == nil && len(r.Failed) > 0 {
					err = errs.E("", errs.Denied, r.Failed[0].Text, nil)
				}
				return err
			}(),
		} {
			want, refuse := c.refuse[what]
			if refuse && (errs.KindOf(err) != want || errs.Public(err) == "") || !refuse && err != nil {
				t.Errorf("%+v: %s: %v", c.beside, what, err)
			}
		}
	}
}

// TestSetTarget: where mail goes can be changed, but not to an alias, nor, in a relay, into a domain of aliases.
func TestSetTarget(t *testing.T) {
	for _, beside := range []*aliases.Beside{nil, {}} {
		mapped := 0
		d, all := besideDesk(t, beside, &mapped)
		token, err := d.NewOwner(t.Context(), aliases.Who{}, "anna@mailbox.example")
		if err != nil {
			t.Fatal(err)
		}
		w := aliases.Who{Token: token}
		v, err := d.Create(t.Context(), w, aliases.CreateRequest{})
		if err != nil {
			t.Fatal(err)
		}
		before := mapped
		for target, ok := range map[string]bool{"new@mailbox.example": true, "no address": false, v.Address: false, strings.ToUpper(v.Address): false, "mailbox@alias.example": beside != nil} {
			if err := d.SetTarget(t.Context(), w, target); (err == nil) != ok || err != nil && errs.Public(err) == "" {
				t.Errorf("%+v: %q: %v", beside, target, err)
			}
		}
		if mapped == before {
			t.Error("the map was not told")
		}
		if err := d.SetTarget(t.Context(), w, "last@mailbox.example"); err != nil {
			t.Fatal(err)
		}
		al, err := all.Lookup(t.Context(), mail.Address{Local: strings.Split(v.Address, "@")[0], Domain: "alias.example"})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := all.Target(t.Context(), al.Owner); err != nil || got.String() != "last@mailbox.example" {
			t.Errorf("%v, %v", got, err)
		}
		if err := d.SetTarget(t.Context(), aliases.Who{Token: strings.Repeat("x", 64)}, "last@mailbox.example"); errs.KindOf(err) != errs.Auth {
			t.Errorf("a wrong token: %v", err)
		}
	}
}
