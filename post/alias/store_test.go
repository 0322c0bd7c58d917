package alias

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern.email/kit/disktest"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/aliasname"
	"postern.email/post/names"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/store/storetest"
)

// TestCreateRefuses: every text with which an alias is not made or changed.
func TestCreateRefuses(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.MaxPerOwner = 2 })
	v := w.account(1)
	key := v.AliasKey()
	past := w.clock.Now()
	for _, c := range []struct {
		n    New
		kind errs.Kind
		text string
	}{
		{New{Local: "one", Domain: "other.example"}, errs.Invalid, textNotOurs},
		{New{Local: ""}, errs.Invalid, textForm},
		{New{Local: "a+b"}, errs.Invalid, textForm},
		{New{Local: "a..b"}, errs.Invalid, textForm},
		{New{Local: strings.Repeat("x", 65)}, errs.Invalid, textForm},
		{New{Local: "älice"}, errs.Invalid, textForm},
		{New{Local: aliasname.Derive(&key, domain, "x", 0)}, errs.Denied, textDerived},
		{New{Local: "one", Mode: numModes}, errs.Invalid, textMode},
		{New{Local: "one", Class: numClasses}, errs.Invalid, textClass},
		{New{Local: "one", Expires: past}, errs.Invalid, textPast},
		{New{Local: "one", Notes: Notes{Site: strings.Repeat("x", MaxSite+1)}}, errs.TooLarge, textLong},
		{New{Local: "one", Notes: Notes{Label: strings.Repeat("x", MaxLabel+1)}}, errs.TooLarge, textLong},
		{New{Local: "one", Notes: Notes{Note: strings.Repeat("x", MaxNote+1)}}, errs.TooLarge, textLong},
	} {
		_, err := w.Create(ctx, v.Vault, c.n)
		if err == nil || errs.KindOf(err) != c.kind || errs.Public(err) != c.text {
			t.Errorf("%+v: %v", c.n, err)
		}
	}
	most := Notes{Site: strings.Repeat("s", MaxSite), Label: strings.Repeat("l", MaxLabel), Note: strings.Repeat("n", MaxNote)}
	w.create(v.Vault, New{Local: "One", Domain: "ALIAS.example", Notes: most})
	if n := w.notes(v.Vault, "one@alias.example"); n.Site != most.Site || n.Note != most.Note {
		t.Error("the longest notes are not what they were")
	}
	for fault, text := range map[*func(*Change)]string{
		ptr(func(c *Change) { c.Mode = numModes }):                          textMode,
		ptr(func(c *Change) { c.Class = numClasses }):                       textClass,
		ptr(func(c *Change) { c.Expires = past }):                           textPast,
		ptr(func(c *Change) { c.Notes.Note = strings.Repeat("x", 5000) }):   textLong,
		ptr(func(c *Change) { c.Pin = "nobody" }):                           textPerson,
		ptr(func(c *Change) { c.Forget = []string{"@shop.example", "x@"} }): textPerson,
	} {
		_, err := w.Change(ctx, v.Vault, at("one@alias.example"), *fault)
		if err == nil || errs.Public(err) != text {
			t.Errorf("%v, want %q", err, text)
		}
	}
	w.create(v.Vault, New{Local: "two"})
	_, err := w.Create(ctx, v.Vault, New{Local: "three"})
	wantKind(t, err, errs.Full, textMost)
	if _, err := w.o.Names.Lookup(ctx, at("three@example.org")); err == nil || errs.KindOf(err) != errs.NotFound {
		t.Errorf("a name was used up: %v", err)
	}
	if err := w.Delete(ctx, v.Vault, at("two@example.org")); err != nil {
		t.Fatal(err)
	}
	w.create(v.Vault, New{Local: "three"})
	_, err = w.Restore(ctx, v.Vault, at("two@example.org"))
	wantKind(t, err, errs.Full, textMost)
	al, err := w.Resolve(ctx, derive(v.Vault, "x", 0), peer("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	wantKind(t, w.Record(ctx, w.Arrive(al, at("a@b.example"), Verdict{Action: Take})), errs.Full, textMost)
	w.sound()
	for _, bad := range []string{"x", "00", strings.Repeat("0", 42)} {
		_, _, err := w.List(ctx, v.Owner, bad, 1)
		wantKind(t, err, errs.Invalid, textCursor)
	}
}

func ptr[T any](v T) *T { return &v }

// TestOptions: what makes no sense is refused.
func TestOptions(t *testing.T) {
	w := newWorld(t)
	for name, set := range map[string]func(*Options){
		"no store": func(o *Options) { o.Store = nil }, "no root": func(o *Options) { o.Root = nil }, "no names": func(o *Options) { o.Names = nil },
		"no domain": func(o *Options) { o.Domains = nil }, "a domain that is none": func(o *Options) { o.Domains = []string{"a b"} },
		"no alias": func(o *Options) { o.MaxPerOwner = -1 }, "no token": func(o *Options) { o.MaxTokens = -1 },
		"a crowd": func(o *Options) { o.MaxCorrespondents = MostCorrespondents + 1 }, "nobody": func(o *Options) { o.MaxCorrespondents = -1 },
		"deleted": func(o *Options) { o.MaxDeleted = -1 }, "nothing sent": func(o *Options) { o.MaxSent = -1 }, "much sent": func(o *Options) { o.MaxSent = MostSent + 1 }, "sent days": func(o *Options) { o.SentDays = -1 },
		"days": func(o *Options) { o.UndoDays = -1 }, "ended": func(o *Options) { o.EndedDays = -1 }, "memory": func(o *Options) { o.Cache = -1 },
		"tried": func(o *Options) { o.Tried = -1 }, "time": func(o *Options) { o.SweepEvery = -1 }, "mode": func(o *Options) { o.DerivedMode = numModes },
		"class": func(o *Options) { o.DerivedClass = numClasses },
	} {
		o := Options{Store: w.st, Root: w.root, Names: names.New(w.st, w.root), Domains: []string{domain}}
		set(&o)
		if _, err := Open(ctx, o); err == nil || errs.KindOf(err) != errs.Invalid || errs.Public(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestList: every alias of its owner once, none of others, in pages.
func TestList(t *testing.T) {
	w := newWorld(t)
	v, other := w.account(1), w.account(2)
	want := map[mail.Address]bool{}
	for i := range 2*walkPage + 3 {
		al := w.create(v.Vault, New{Local: fmt.Sprintf("name%d", i), Notes: Notes{Label: fmt.Sprint(i)}})
		want[al.Address] = true
	}
	w.create(other.Vault, New{Local: "other"})
	cursor, pages := "", 0
	for {
		page, next, err := w.List(ctx, v.Owner, cursor, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, al := range page {
			n, err := v.Notes(al)
			if err != nil || "name"+n.Label != al.Address.Local || !want[al.Address] {
				t.Errorf("%v %+v %v", al.Address, n, err)
			}
			delete(want, al.Address)
		}
		pages++
		if cursor = next; next == "" {
			break
		}
	}
	if len(want) != 0 || pages != 6 {
		t.Errorf("%d pages, %d are missing", pages, len(want))
	}
}

// engines are the stores that everything must work on.
var engines = map[string]func(store.Store) store.Store{
	"one log": func(s store.Store) store.Store { return s }, "two logs": storetest.SplitLogs, "run twice": storetest.Twice,
}

// TestEngines: the same life in one log, in two, and where every transaction function is run twice.
func TestEngines(t *testing.T) {
	for name, wrap := range engines {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			set := func(o *Options) { o.Store = wrap(w.st) }
			w.reopen(set)
			v, other := w.account(1), w.account(2)
			w.create(v.Vault, New{Local: "one"})
			_, err := w.Create(ctx, other.Vault, New{Local: "one"})
			wantKind(t, err, errs.Exists, textTaken)
			_, err = w.Create(ctx, v.Vault, New{Local: "one"})
			wantKind(t, err, errs.Exists, textTaken)
			w.mail("one@example.org", "news@shop.example")
			w.change(v.Vault, "one@example.org", func(c *Change) { c.Allow, c.Notes.Label = []string{"@a.example"}, "x" })
			token, _, err := w.NewToken(ctx, v.Vault, ScopeAll, "x")
			if err != nil {
				t.Fatal(err)
			}
			token, err = w.RotateToken(ctx, token)
			if err != nil {
				t.Fatal(err)
			}
			addr := derive(v.Vault, "shop", 0)
			al, err := w.Resolve(ctx, addr, peer("192.0.2.1"))
			if err != nil {
				t.Fatal(err)
			}
			w.comes(al, "news@shop.example")
			again, err := w.Resolve(ctx, addr, peer("192.0.2.1"))
			if err != nil || !again.Stored || again.Received != 1 {
				t.Fatalf("%+v %v", again, err)
			}
			if _, err := w.Sweep(ctx); err != nil {
				t.Fatal(err)
			}
			if got := w.lookup(addr.String()); got.Received != 1 || w.lookup("one@example.org").Received != 1 {
				t.Errorf("%+v", got)
			}
			w.sound()
			if err := w.Delete(ctx, v.Vault, addr); err != nil {
				t.Fatal(err)
			}
			w.clock.Add((DefaultUndoDays + 1) * aDay)
			if n, err := w.Sweep(ctx); err != nil || n.Buried != 1 {
				t.Fatalf("%+v %v", n, err)
			}
			w.sound()
			if _, _, err := w.ByToken(ctx, token); err != nil {
				t.Error(err)
			}
			if err := w.DeleteOwner(ctx, v.Owner); err != nil {
				t.Fatal(err)
			}
			w.sound()
			w.reopen(set)
			for _, dead := range []string{"one@example.org", addr.String()} {
				if r, err := w.o.Names.Lookup(ctx, at(dead)); err != nil || r.Kind != names.GoneAlias {
					t.Errorf("%s: %+v %v", dead, r, err)
				}
			}
		})
	}
}

// TestRace: of many creators of one name one gets it, on every engine; an account's creation is one
// of them.
func TestRace(t *testing.T) {
	for name, wrap := range engines {
		w := newWorld(t)
		w.reopen(func(o *Options) { o.Store = wrap(w.st) })
		vaults := []*Vault{w.account(1).Vault, w.account(2).Vault, w.account(3).Vault}
		for round := range 5 {
			local := fmt.Sprintf("name%d", round)
			addr := at(local + "@" + domain)
			var won atomic.Int32
			var wg sync.WaitGroup
			for i := range 12 {
				wg.Go(func() {
					var err error
					if i%4 == 3 {
						err = w.st.Update(ctx, w.o.Names.Shard(addr), func(tx store.Tx) error {
							return w.o.Names.Claim(tx, addr, names.Record{Kind: names.Account, ID: Owner{byte(i)}}, nil)
						})
					} else {
						_, err = w.Create(ctx, vaults[i%4], New{Local: local})
					}
					if err == nil {
						won.Add(1)
					} else if errs.KindOf(err) != errs.Exists {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if won.Load() != 1 {
				t.Errorf("%s: %d got the name", name, won.Load())
			}
		}
		w.sound()
	}
}

// TestManyMails: mails that come at once to one alias are all counted, and one of their senders is
// pinned.
func TestManyMails(t *testing.T) {
	w := newWorld(t)
	v := w.account(1)
	w.create(v.Vault, New{Local: "open"})
	w.create(v.Vault, New{Local: "pinned", Mode: ModePinned})
	var wg sync.WaitGroup
	var took atomic.Int32
	for i := range 16 {
		wg.Go(func() {
			from := at(fmt.Sprintf("from%d@shop.example", i))
			for _, name := range []string{"open", "pinned"} {
				al := w.lookup(name + "@example.org")
				verdict := al.Judge(from, w.clock.Now())
				err := w.Record(ctx, w.Arrive(al, from, verdict))
				switch {
				case err == nil && name == "pinned" && verdict.Action == Take:
					took.Add(1)
				case err != nil && (name != "pinned" || errs.KindOf(err) != errs.Denied):
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	open, pinned := w.lookup("open@example.org"), w.lookup("pinned@example.org")
	if open.Received != 16 || len(open.people) != 16 || pinned.Received != 1 || took.Load() != 1 || len(pinned.people) != 1 {
		t.Errorf("%d and %d received, %d taken", open.Received, pinned.Received, took.Load())
	}
	w.sound()
}

// TestVerdictHolds: what was judged by an alias that has changed meanwhile is not written.
func TestVerdictHolds(t *testing.T) {
	for name, change := range map[string]func(*world, *Vault){
		"paused": func(w *world, v *Vault) { w.change(v, "one@example.org", func(c *Change) { c.Paused = true }) },
		"blocked": func(w *world, v *Vault) {
			w.change(v, "one@example.org", func(c *Change) { c.Block = []string{"@shop.example"} })
		},
		"deleted": func(w *world, v *Vault) {
			if err := w.Delete(ctx, v, at("one@example.org")); err != nil {
				t.Fatal(err)
			}
		},
		"owner deleted": func(w *world, v *Vault) {
			if err := w.DeleteOwner(ctx, v.Owner); err != nil {
				t.Fatal(err)
			}
		},
		"ended": func(w *world, v *Vault) {
			w.change(v, "one@example.org", func(c *Change) { c.MaxMails = 1 })
			w.mail("one@example.org", "x@y.example")
		},
	} {
		w := newWorld(t)
		v := w.account(1)
		w.create(v.Vault, New{Local: "one"})
		al := w.lookup("one@example.org")
		r := w.Arrive(al, at("news@shop.example"), al.Judge(at("news@shop.example"), w.clock.Now()))
		change(w, v.Vault)
		if err := w.Record(ctx, r); err == nil || errs.KindOf(err) != errs.Denied || errs.Public(err) != textVerdict {
			t.Errorf("%s: %v", name, err)
		}
		w.sound()
	}
	// A caller that took a mail for reasons of its own, while the rules stayed, is not stopped.
	w := newWorld(t)
	v := w.account(1)
	w.create(v.Vault, New{Local: "one", Mode: ModeAllowList})
	al := w.lookup("one@example.org")
	if err := w.Record(ctx, w.Arrive(al, mail.Address{}, Verdict{Action: Take, Expected: true})); err != nil || w.lookup("one@example.org").Received != 1 {
		t.Errorf("%v", err)
	}
}

// TestRefusalsDoNotWrite: refused mails make no transaction; their number is written now and then.
func TestRefusalsDoNotWrite(t *testing.T) {
	w := newWorld(t)
	faulty := &storetest.Faulty{Store: w.st}
	w.reopen(func(o *Options) { o.Store = faulty })
	v := w.account(1)
	w.create(v.Vault, New{Local: "one", Mode: ModeAllowList})
	w.create(v.Vault, New{Local: "ask", Mode: ModeAsk})
	w.mail("ask@example.org", "a@b.example")
	w.lookup("ask@example.org")
	n := faulty.Count()
	for range 100 {
		w.mail("one@example.org", "spam@evil.example")
		w.mail("ask@example.org", "a@b.example")
	}
	if faulty.Count() != n {
		t.Errorf("%d transactions", faulty.Count()-n)
	}
	if err := w.flush(ctx); err != nil {
		t.Fatal(err)
	}
	if got := w.lookup("one@example.org").Refused; got != 100 || faulty.Count() != n+1 {
		t.Errorf("%d refused, %d transactions", got, faulty.Count()-n)
	}
	w.sound()
}

// TestCrashBetweenTwoLogs: the power goes between the two transactions of a creation, a token and a
// deletion. Nothing that was acknowledged is missing, a name that leads nowhere is nobody's and
// becomes a tombstone; until then its owner may make the alias after all.
func TestCrashBetweenTwoLogs(t *testing.T) {
	w := newWorld(t)
	crash := errors.New("crash")
	faulty := &storetest.Faulty{Store: storetest.SplitLogs(w.st)}
	w.reopen(func(o *Options) { o.Store = faulty })
	v, other := w.account(1), w.account(2)
	cut := func(after int64) { // lets so many further transactions through
		n := faulty.Count()
		faulty.Before = func(i int64) error {
			if i > n+after {
				return crash
			}
			return nil
		}
	}
	start := func() {
		faulty.Before = nil
		w.reopen(func(o *Options) { o.Store = faulty })
	}
	for _, local := range []string{"one", "two"} {
		cut(2) // the try in one log, the name
		if _, err := w.Create(ctx, v.Vault, New{Local: local}); !errors.Is(err, crash) {
			t.Fatal(err)
		}
		start()
	}
	w.sound(foundName)
	_, err := w.Lookup(ctx, at("one@example.org"))
	wantKind(t, err, errs.NotFound, "")
	_, err = w.Create(ctx, other.Vault, New{Local: "one"})
	wantKind(t, err, errs.Exists, "")
	w.create(v.Vault, New{Local: "one"})
	for range 2 {
		if n, err := w.Sweep(ctx); err != nil || n != (Swept{}) {
			t.Fatalf("early: %+v %v", n, err)
		}
		w.clock.Add(DefaultOrphanAge / 2)
	}
	if n, err := w.Sweep(ctx); err != nil || n != (Swept{Leftovers: 1}) {
		t.Fatalf("%+v %v", n, err)
	}
	w.sound()
	_, err = w.Create(ctx, v.Vault, New{Local: "two"})
	wantKind(t, err, errs.Denied, "")

	token := strings.Repeat("t", aliasname.TokenLen)
	cut(2)
	if err := w.TakeToken(ctx, v.Vault, token, ScopeAll, ""); !errors.Is(err, crash) {
		t.Fatal(err)
	}
	start()
	_, _, err = w.ByToken(ctx, token)
	wantKind(t, err, errs.Auth, textToken)
	w.sound(foundDangling)
	for range 2 {
		w.clock.Add(DefaultOrphanAge)
		if _, err := w.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
	}
	w.sound()

	cut(2) // the records without which nothing is made, the tokens
	if err := w.DeleteOwner(ctx, v.Owner); !errors.Is(err, crash) {
		t.Fatal(err)
	}
	start()
	w.sound(foundHalf)
	_, err = w.Create(ctx, other.Vault, New{Local: "one"})
	wantKind(t, err, errs.Exists, "")
	swept := Swept{}
	for range 3 {
		n, err := w.Sweep(ctx)
		if err != nil {
			t.Fatal(err)
		}
		swept.Leftovers += n.Leftovers
		w.clock.Add(DefaultOrphanAge)
	}
	if swept.Leftovers == 0 {
		t.Error("nothing was swept")
	}
	_, err = w.Create(ctx, other.Vault, New{Local: "one"})
	wantKind(t, err, errs.Denied, "")
	w.sound()
}

// TestDisk: without a key the disk shows no address, label, token or correspondent; the node key
// opens addresses and targets and nothing that is sealed to the owner.
func TestDisk(t *testing.T) {
	w := newWorld(t)
	v := w.account(1)
	w.create(v.Vault, New{Local: "canaryalias", Notes: Notes{Site: "canarysite.example", Label: "canarylabel", Note: "canarynote"}})
	w.mail("canaryalias@example.org", "canarysender@canaryfrom.example")
	w.change(v.Vault, "canaryalias@example.org", func(c *Change) { c.Block = []string{"@canaryblocked.example"} })
	if err := w.Record(ctx, w.WroteTo(w.lookup("canaryalias@example.org"), []mail.Address{at("canaryrcpt@x.example")})); err != nil {
		t.Fatal(err)
	}
	e, err := w.Begin(ctx, Owner{5}, BeginOptions{Target: at("canarytarget@else.example")})
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := w.NewToken(ctx, e, ScopeAll, "canarytokenname")
	if err != nil {
		t.Fatal(err)
	}
	key := v.AliasKey()
	owners := []string{"canarysite", "canarylabel", "canarynote", "canarysender", "canaryfrom", "canaryblocked", "canaryrcpt", "canarytokenname", token}
	var pieces [][]byte
	for _, s := range append([]string{"canaryalias", "canarytarget"}, owners...) {
		pieces = append(pieces, []byte(s))
	}
	if found := disktest.Holding(t, w.fs, "store", append(pieces, key[:])...); len(found) > 0 {
		t.Errorf("the disk shows what it should hide: %v", found)
	}
	// What is looked for is found where it lies readable.
	if err := w.st.Update(ctx, 0, func(tx store.Tx) error { return tx.Set([]byte("zz"), []byte("canaryalias")) }); err != nil {
		t.Fatal(err)
	}
	if found := disktest.Holding(t, w.fs, "store", []byte("canaryalias")); len(found) == 0 {
		t.Error("the search finds nothing at all")
	}
	var all strings.Builder
	kinds := map[string]bool{}
	if err := w.Reveal(ctx, func(kind, text string) { kinds[kind] = true; all.WriteString(text + "\n") }); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"canaryalias@example.org", "canarytarget@else.example", fmt.Sprintf("%x", key)} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("%q is not revealed", want)
		}
	}
	for _, never := range owners {
		if strings.Contains(all.String(), never) {
			t.Errorf("%q is revealed", never)
		}
	}
	for _, p := range []seal.Purpose{seal.PurposeAliasOwner, seal.PurposeAliasRules, seal.PurposeAliasToken, seal.PurposeAliasKey} {
		if !kinds[p.String()] {
			t.Errorf("nothing of %s is revealed", p)
		}
	}
	// With another root key: nothing, and no error.
	other, err := seal.NewRoot(bytes.Repeat([]byte{8}, seal.KeyLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	w.root = other
	w.reopen()
	if err := w.Reveal(ctx, func(_, text string) {
		if !strings.HasSuffix(text, "cannot be opened") {
			t.Errorf("another root key opens %q", text)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// TestSweep: what Options say about aliases that ended or were never used, and about owners who are
// gone; and nothing of that by itself.
func TestSweep(t *testing.T) {
	scene := func(set func(*Options)) (*world, *Vault) {
		w := newWorld(t, set)
		v, err := w.Begin(ctx, Owner{4, 4}, BeginOptions{Target: at("anna@mailbox.example")})
		if err != nil {
			t.Fatal(err)
		}
		w.create(v, New{Local: "used"})
		w.create(v, New{Local: "unused"})
		w.create(v, New{Local: "ends", Expires: w.clock.Now().Add(5 * aDay)})
		w.mail("used@example.org", "a@b.example")
		w.mail("ends@example.org", "a@b.example")
		return w, v
	}
	living := func(w *world, v *Vault) string {
		list, _, err := w.List(ctx, v.Owner, "", 10)
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, name := range []string{"used", "unused", "ends"} {
			for _, al := range list {
				if al.Address.Local == name {
					text += name + " "
				}
			}
		}
		return text
	}
	for _, c := range []struct {
		set  func(*Options)
		days int
		want string
		n    Swept
	}{
		{func(*Options) {}, 1000, "used unused ends ", Swept{}},
		{func(o *Options) { o.EndedDays = 10 }, 15, "used unused ends ", Swept{}},
		{func(o *Options) { o.EndedDays = 10 }, 16, "used unused ", Swept{Deleted: 1}},
		{func(o *Options) { o.UnusedDays = 10 }, 10, "used unused ends ", Swept{}},
		{func(o *Options) { o.UnusedDays = 10 }, 11, "used ends ", Swept{Deleted: 1}},
		{func(o *Options) { o.OwnerIdleDays = 10 }, 10, "used unused ends ", Swept{}},
		{func(o *Options) { o.OwnerIdleDays = 10 }, 11, "", Swept{Owners: 1}},
	} {
		w, v := scene(c.set)
		w.clock.Add(time.Duration(c.days) * aDay)
		if n, err := w.Sweep(ctx); err != nil || n != c.n {
			t.Errorf("after %d days: %+v %v, want %+v", c.days, n, err, c.n)
		}
		if got := living(w, v); got != c.want {
			t.Errorf("after %d days: %s", c.days, got)
		}
		w.sound()
	}
	// An account's owner is never removed as idle: post/account does that.
	w := newWorld(t, func(o *Options) { o.OwnerIdleDays = 1 })
	v := w.account(1)
	w.create(v.Vault, New{Local: "one"})
	w.clock.Add(100 * aDay)
	if n, err := w.Sweep(ctx); err != nil || n != (Swept{}) {
		t.Errorf("%+v %v", n, err)
	}
}

// TestDue: the owner is told of each end once, in time, and again after it was put off.
func TestDue(t *testing.T) {
	w := newWorld(t)
	v := w.account(1)
	w.create(v.Vault, New{Local: "date", Expires: w.clock.Now().Add(10 * aDay)})
	w.create(v.Vault, New{Local: "idle", IdleDays: 10})
	w.create(v.Vault, New{Local: "count", MaxMails: 20})
	w.create(v.Vault, New{Local: "never"})
	due := func() (list map[string]string) {
		t.Helper()
		list = map[string]string{}
		if err := w.Due(ctx, 3*aDay, func(al *Alias, why string) error { list[al.Address.Local] = why; return nil }); err != nil {
			t.Fatal(err)
		}
		return list
	}
	want := func(text string) {
		t.Helper()
		if got := fmt.Sprint(due()); got != text {
			t.Errorf("due: %s, want %s", got, text)
		}
	}
	want("map[]")
	w.clock.Add(7 * aDay)
	stop := errors.New("stop")
	if err := w.Due(ctx, 3*aDay, func(*Alias, string) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
	want("map[date:date]")
	want("map[]")
	w.clock.Add(aDay)
	want("map[idle:idle]")
	for range 18 {
		w.mail("count@example.org", "a@b.example")
	}
	want("map[count:count]")
	if !w.lookup("count@example.org").Noticed {
		t.Error("it is not noted")
	}
	w.change(v.Vault, "date@example.org", func(c *Change) { c.Extend(5 * aDay) })
	want("map[]")
	w.clock.Add(4 * aDay)
	want("map[date:date]")
	w.sound()
}
