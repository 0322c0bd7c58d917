package alias

import (
	"bytes"
	"context"
	"testing"
	"time"

	crvfs "github.com/cockroachdb/pebble/v2/vfs"

	"postern.email/kit/clocktest"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/post/names"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/store/pebble"
)

// ctx is for transactions that the end of a test must not cancel.
var ctx = context.Background()

const domain = "example.org"

// world is an office with aliases on a disk in memory.
type world struct {
	testing.TB
	*Aliases
	fs    vfs.FS
	st    store.Store
	root  *seal.Root
	clock *clocktest.Clock
}

func testRoot(tb testing.TB) *seal.Root {
	tb.Helper()
	root, err := seal.NewRoot(bytes.Repeat([]byte{7}, seal.KeyLen), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return root
}

func newWorld(tb testing.TB, set ...func(*Options)) *world {
	tb.Helper()
	w := &world{TB: tb, fs: crvfs.NewMem(), root: testRoot(tb), clock: clocktest.New(time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC))}
	st, err := pebble.Open(ctx, pebble.Options{FS: w.fs, Dir: "store"})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = st.Close() })
	w.st = st
	w.reopen(set...)
	return w
}

// reopen opens the aliases anew on the same store.
func (w *world) reopen(set ...func(*Options)) {
	w.Helper()
	o := Options{Store: w.st, Root: w.root, Domains: []string{domain, "alias.example"}, Now: w.clock.Now}
	for _, f := range set {
		f(&o)
	}
	o.Names = names.New(o.Store, w.root)
	var err error
	if w.Aliases, err = Open(ctx, o); err != nil {
		w.Fatal(err)
	}
}

// account is an account with aliases.
type account struct {
	*Vault
	key *seal.Opened
}

func (w *world) account(n byte) account {
	w.Helper()
	key, err := seal.FromSeed(Owner{n, n}, bytes.Repeat([]byte{n}, seal.SeedLen), nil)
	if err != nil {
		w.Fatal(err)
	}
	v, err := w.Begin(ctx, key.ID(), BeginOptions{Account: key})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(v.Close)
	return account{v, key}
}

func (w *world) create(v *Vault, n New) *Alias {
	w.Helper()
	al, err := w.Create(ctx, v, n)
	if err != nil {
		w.Fatal(err)
	}
	return al
}

func (w *world) lookup(addr string) *Alias {
	w.Helper()
	al, err := w.Lookup(ctx, at(addr))
	if err != nil {
		w.Fatal(err)
	}
	return al
}

func (w *world) change(v *Vault, addr string, fn func(*Change)) *Alias {
	w.Helper()
	al, err := w.Change(ctx, v, at(addr), fn)
	if err != nil {
		w.Fatal(err)
	}
	return al
}

// mail lets a mail of from come to a stored alias and gives the verdict.
func (w *world) mail(addr, from string) Verdict {
	w.Helper()
	return w.comes(w.lookup(addr), from)
}

// wrote has a mail with a Message-ID be sent as a stored alias.
func (w *world) wrote(addr, id string) {
	w.Helper()
	if err := w.Record(ctx, w.WroteTo(w.lookup(addr), []mail.Address{at("bob@shop.example")}).Remember(id)); err != nil {
		w.Fatal(err)
	}
}

func (w *world) comes(al *Alias, from string) Verdict {
	w.Helper()
	var sender mail.Address
	if from != "" {
		sender = at(from)
	}
	v := al.Judge(sender, w.clock.Now())
	if err := w.Record(ctx, w.Arrive(al, sender, v)); err != nil {
		w.Fatal(err)
	}
	return v
}

// notes opens what the owner reads of a stored alias.
func (w *world) notes(v *Vault, addr string) Notes {
	w.Helper()
	n, err := v.Notes(w.lookup(addr))
	if err != nil {
		w.Fatal(err)
	}
	return n
}

// sound checks that Check finds nothing but what want says.
func (w *world) sound(want ...string) {
	w.Helper()
	found := map[string]int{}
	if err := w.Check(ctx, func(f Finding) { found[f.What]++ }); err != nil {
		w.Fatal(err)
	}
	for _, what := range want {
		if found[what] == 0 {
			w.Errorf("Check does not find %q", what)
		}
		delete(found, what)
	}
	if len(found) > 0 {
		w.Errorf("Check finds %v", found)
	}
}

// at reads an address; one that is none is a mistake of the test.
func at(s string) mail.Address {
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

func wantKind(tb testing.TB, err error, kind errs.Kind, public string) {
	tb.Helper()
	if err == nil || errs.KindOf(err) != kind || public != "" && errs.Public(err) != public {
		tb.Fatalf("%v, with the text %q; want %v, %q", err, errs.Public(err), kind, public)
	}
}

const aDay = 24 * time.Hour
