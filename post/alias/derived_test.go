package alias

import (
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/mail"
	"postern.email/mail/aliasname"
	"postern.email/post/names"
)

func peer(ip string) limits.Peer { return limits.Peer{Addr: netip.MustParseAddr(ip)} }

func derive(v *Vault, label string, n uint32) mail.Address {
	key := v.AliasKey()
	return mail.Address{Local: aliasname.Derive(&key, domain, label, n), Domain: domain}
}

// TestDerived: an address that a client made is known at once and for whom, in any capitals; nothing
// is stored of it before its first mail; then it is an alias like others, and a deletion of it
// lasts, before the first mail too.
func TestDerived(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.DerivedMode, o.DerivedClass = ModePinned, OpenMail })
	v := w.account(1)
	w.account(2)
	addr := derive(v.Vault, "shop.example", 0)
	al, err := w.Resolve(ctx, mail.Address{Local: "Z", Domain: domain}, peer("192.0.2.1"))
	wantKind(t, err, errs.NotFound, "")
	if al != nil {
		t.Error("an alias with an error")
	}
	al, err = w.Resolve(ctx, addr, peer("192.0.2.1"))
	if err != nil || al.Owner != v.Owner || !al.Derived || al.Stored || al.Mode != ModePinned || al.Class != OpenMail || al.Address != addr {
		t.Fatalf("%+v %v", al, err)
	}
	_, err = w.Lookup(ctx, addr)
	wantKind(t, err, errs.NotFound, "")
	if list, _, err := w.List(ctx, v.Owner, "", 10); err != nil || len(list) != 0 {
		t.Errorf("%v %v", list, err)
	}
	two, err := w.Resolve(ctx, addr, peer("192.0.2.1")) // a second mail under way
	if err != nil {
		t.Fatal(err)
	}
	if got := w.comes(al, "news@shop.example"); !got.Pins || got.Action != Take {
		t.Errorf("%+v", got)
	}
	verdict := two.Judge(at("spam@evil.example"), w.clock.Now())
	wantKind(t, w.Record(ctx, w.Arrive(two, at("spam@evil.example"), verdict)), errs.Denied, textVerdict)
	al = w.lookup(addr.String())
	if !al.Stored || !al.Derived || al.Received != 1 || al.Judge(at("spam@evil.example"), w.clock.Now()).Action != Refuse {
		t.Errorf("%+v", al)
	}
	if n := w.notes(v.Vault, addr.String()); len(n.Correspondents) != 1 || n.Correspondents[0].Address != "news@shop.example" {
		t.Errorf("%+v", n)
	}
	w.sound()

	unused := derive(v.Vault, "other.example", 0)
	labelled := derive(v.Vault, "third.example", 0)
	if _, err := w.Create(ctx, v.Vault, New{Local: unused.Local}); err == nil || errs.KindOf(err) != errs.Denied {
		t.Errorf("%v", err)
	}
	w.change(v.Vault, labelled.String(), func(c *Change) { c.Notes.Site = "third.example" })
	if n := w.notes(v.Vault, labelled.String()); n.Site != "third.example" || w.lookup(labelled.String()).Received != 0 {
		t.Errorf("%+v", n)
	}
	for _, a := range []mail.Address{addr, unused} {
		if err := w.Delete(ctx, v.Vault, a); err != nil {
			t.Fatal(err)
		}
		_, err = w.Resolve(ctx, a, peer("192.0.2.1"))
		wantKind(t, err, errs.NotFound, "")
	}
	if back, err := w.Restore(ctx, v.Vault, unused); err != nil || back.Address != unused {
		t.Errorf("%v %v", back, err)
	}
	w.lookup(unused.String())
	if err := w.Delete(ctx, v.Vault, unused); err != nil {
		t.Fatal(err)
	}
	w.clock.Add((DefaultUndoDays + 1) * aDay)
	if n, err := w.Sweep(ctx); err != nil || n.Buried != 2 {
		t.Fatalf("%+v %v", n, err)
	}
	w.reopen()
	for _, a := range []mail.Address{addr, unused} {
		if r, err := w.o.Names.Lookup(ctx, a); err != nil || r.Kind != names.GoneAlias {
			t.Errorf("%+v %v", r, err)
		}
		_, err = w.Resolve(ctx, a, peer("192.0.2.1"))
		wantKind(t, err, errs.NotFound, "")
		_, err = w.Change(ctx, v.Vault, a, func(*Change) {})
		wantKind(t, err, errs.NotFound, textNoAlias)
		wantKind(t, w.Delete(ctx, v.Vault, a), errs.NotFound, textNoAlias)
	}
	w.sound()
}

// TestTries: only what is not known costs a try; a network has its share of them, all together
// have theirs, and beyond both the answer is "later". What was tried is remembered, as a hash.
func TestTries(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.TriesNetwork, o.TriesPerSecond = 3, 5 })
	v := w.account(1)
	stranger := [32]byte{9}
	guess := func(n uint32) mail.Address {
		return mail.Address{Local: aliasname.Derive(&stranger, domain, "guess", n), Domain: domain}
	}
	resolve := func(addr mail.Address, ip string) errs.Kind {
		_, err := w.Resolve(ctx, addr, peer(ip))
		if err == nil {
			t.Fatal("a guess is right")
		}
		if errs.KindOf(err) == errs.Busy && errs.Public(err) != textTries {
			t.Error(err)
		}
		return errs.KindOf(err)
	}
	n := uint32(0)
	for i, want := range []errs.Kind{errs.NotFound, errs.NotFound, errs.NotFound, errs.Busy, errs.Busy} {
		if got := resolve(guess(n), "192.0.2.1"); got != want {
			t.Errorf("try %d: %v", i, got)
		}
		n++
	}
	for i, want := range []errs.Kind{errs.NotFound, errs.NotFound, errs.Busy} { // of another network: five in all
		if got := resolve(guess(n), "192.0.2.2"); got != want {
			t.Errorf("try %d of another network: %v", i, got)
		}
		n++
	}
	if got := resolve(guess(0), "192.0.2.1"); got != errs.NotFound {
		t.Errorf("what was tried: %v", got)
	}
	_, err := w.Resolve(ctx, at("nobody@example.org"), peer("192.0.2.1"))
	wantKind(t, err, errs.NotFound, "") // not of the form: no try
	mine := derive(v.Vault, "shop", 0)
	_, err = w.Resolve(ctx, mine, peer("192.0.2.9"))
	wantKind(t, err, errs.Busy, textTries)
	w.clock.Add(time.Second)
	al, err := w.Resolve(ctx, mine, peer("192.0.2.9"))
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, err := w.Resolve(ctx, mine, peer("192.0.2.9")); err != nil {
			t.Fatal(err)
		}
	}
	w.comes(al, "news@shop.example")
	w.reopen(func(o *Options) { o.TriesNetwork, o.TriesPerSecond = 1, 1 })
	for range 100 { // stored: no try
		if _, err := w.Resolve(ctx, mine, peer("192.0.2.9")); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := w.tried.get(mine); ok {
		t.Error("a stored alias was tried")
	}
}

// TestTriedIsBounded: the memory of tries holds Tried entries, none of them an address.
func TestTriedIsBounded(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Tried, o.Cache = 10, 10; o.TriesNetwork, o.TriesPerSecond = -1, -1 })
	v := w.account(1)
	for i := range uint32(50) {
		if _, err := w.Resolve(ctx, derive(v.Vault, "x", i), peer("192.0.2.1")); err != nil {
			t.Fatal(err)
		}
		w.create(v.Vault, New{Local: fmt.Sprintf("name%d", i)})
		w.lookup(fmt.Sprintf("name%d@example.org", i))
	}
	if n := w.tried.seen.Len(); n != 10 {
		t.Errorf("%d tried addresses are remembered", n)
	}
	if n := w.cache.aliases.Len(); n != 10 {
		t.Errorf("%d aliases are remembered", n)
	}
}

// TestGuesses: how many derived addresses somebody finds who tries as many as the limits let,
// for a year, at an office with 10,000 owners. It is the number in docs/aliases-store.md.
func TestGuesses(t *testing.T) {
	const owners, year = 10000, 365 * 24 * 60 * 60
	const tagBits = 46 // of mail/aliasname
	found := DefaultTriesPerSecond * year * owners / math.Pow(2, tagBits)
	if found < 0.2 || found > 0.25 {
		t.Errorf("%.3f addresses a year, the page says 0.22", found)
	}
	// And that the tag has so many bits: of many changed ones none passes.
	w := newWorld(t, func(o *Options) { o.TriesNetwork, o.TriesPerSecond = -1, -1 })
	v := w.account(1)
	for n := range uint32(2000) {
		strange := [32]byte{byte(n), byte(n >> 8), 1}
		addr := mail.Address{Local: aliasname.Derive(&strange, domain, "x", 0), Domain: domain}
		if _, err := w.Resolve(ctx, addr, peer("192.0.2.1")); err == nil {
			t.Fatalf("%v's key makes what another made", v.Owner)
		}
	}
}
