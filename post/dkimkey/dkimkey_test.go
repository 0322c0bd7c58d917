package dkimkey

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail/dkim"
	"postern.email/post/seal"
	"postern.email/store"
)

// TestFirst: the first pair is made on first use, once, and signs at once, also after
// a restart.
func TestFirst(t *testing.T) {
	w := newWorld(t, vfs.NewCrashDisk())
	w.look()
	w.want("")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := w.Signing(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	w.want("p2026a active")
	if got := signs(t, w.Keys); got != "p2026a-rsa p2026a-ed" {
		t.Errorf("%s signs", got)
	}
	before := w.List()[0]
	w.reopen()
	w.want("p2026a active")
	if got := signs(t, w.Keys); got != "p2026a-rsa p2026a-ed" {
		t.Errorf("after a restart %s signs", got)
	}
	if after := w.List()[0]; !after.Made.Equal(before.Made) || !after.Keys[0].Public.(*rsa.PublicKey).Equal(before.Keys[0].Public) {
		t.Errorf("%+v became %+v", before, after)
	}
}

// TestRealKeys: without a test's own keys a pair has 2048 bits of RSA, and no two are the same.
func TestRealKeys(t *testing.T) {
	own := func(o *Options) { o.NewRSA = nil }
	a, b := newWorld(t, vfs.NewCrashDisk(), own), newWorld(t, vfs.NewCrashDisk(), own)
	for _, w := range []*world{a, b} {
		if _, err := w.Current(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ka, kb := a.List()[0].Keys, b.List()[0].Keys
	if n := ka[0].Public.(*rsa.PublicKey).N.BitLen(); n != 2048 {
		t.Errorf("%d bits", n)
	}
	if ka[0].Public.(*rsa.PublicKey).Equal(kb[0].Public) || ka[1].Public.(ed25519.PublicKey).Equal(kb[1].Public) {
		t.Error("two relays have the same key")
	}
}

// TestRotation: the whole life of a pair.
func TestRotation(t *testing.T) {
	w := newWorld(t, vfs.NewCrashDisk())
	if p := w.rotate(); p.State != Active {
		t.Fatalf("the first pair waits: %+v", p)
	}
	fresh := w.rotate()
	w.want("p2026a active, p2026b new")
	if _, err := w.Rotate(t.Context()); errs.KindOf(err) != errs.Exists || errs.Public(err) != "the new pair p2026b is waiting for its records already" {
		t.Errorf("a second new pair: %v", err)
	}
	// Nothing in the DNS, no answer, half of it, or another key: the old pair signs on.
	w.look()
	w.down = true
	w.look()
	w.down = false
	w.publish(fresh)
	ed := dkim.RecordName(fresh.Keys[1].Selector, domain)
	right := w.dns[ed]
	delete(w.dns, ed)
	w.look()
	w.dns[ed] = []string{"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}
	w.look()
	w.want("p2026a active, p2026b new")
	w.reopen()
	if got := signs(t, w.Keys); got != "p2026a-rsa p2026a-ed" {
		t.Errorf("%s signs", got)
	}
	w.dns[ed] = right
	w.look()
	w.want("p2026a retiring, p2026b active")
	if got := signs(t, w.Keys); got != "p2026b-rsa p2026b-ed" {
		t.Errorf("%s signs", got)
	}
	if got := w.MayGo(w.List()[0]); !got.Equal(w.now.Add(DefaultOverlap)) {
		t.Errorf("the old records may go at %v", got)
	}
	current, err := w.Current(t.Context())
	if err != nil || len(current) != 2 {
		t.Errorf("%v, %v", current, err)
	}
	w.asked = 0
	w.now = w.now.Add(DefaultOverlap - time.Second)
	w.look()
	w.want("p2026a retiring, p2026b active")
	w.reopen()
	w.now = w.now.Add(time.Second)
	w.look()
	w.want("p2026a removed, p2026b active")
	if w.asked != 0 {
		t.Errorf("%d questions although nothing depends on the answer", w.asked)
	}
	w.reopen()
	w.want("p2026a removed, p2026b active")
	if current, err := w.Current(t.Context()); err != nil || len(current) != 1 || current[0].Name != "p2026b" {
		t.Errorf("%v, %v", current, err)
	}
	if p := w.rotate(); p.Name != "p2026c" {
		t.Errorf("a name was given again: %s", p.Name)
	}
	w.now = w.now.AddDate(1, 0, 0)
	w.publish(w.List()[2])
	w.look()
	if p := w.rotate(); p.Name != "p2027a" {
		t.Errorf("next year: %s", p.Name)
	}
	w.reopen()
	w.want("p2026a removed, p2026b retiring, p2026c active, p2027a new")
}

// TestDestroyed: the private halves of a removed pair are in no record, no file and no
// memory that is reached from here.
func TestDestroyed(t *testing.T) {
	fs := vfs.NewCrashDisk()
	w := newWorld(t, fs)
	w.rotate()
	var sealed []byte
	read := func() (v []byte) {
		if err := w.db.View(t.Context(), home, func(r store.Reader) (err error) { v, err = r.Get(recordKey("p2026a")); return err }); err != nil {
			t.Fatal(err)
		}
		return v
	}
	w.publish(w.rotate())
	w.look()
	sealed = read()
	somewhere := func() bool {
		names, err := fs.List("/store")
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if b, err := vfs.ReadFile(fs, "/store/"+n); err == nil && bytes.Contains(b, sealed[40:120]) {
				return true
			}
		}
		return false
	}
	if !somewhere() {
		t.Fatal("the search finds nothing: it would find nothing later either")
	}
	w.now = w.now.Add(DefaultOverlap)
	w.look()
	w.want("p2026a removed, p2026b active")
	if somewhere() {
		t.Error("the sealed keys are still in a file")
	}
	for _, p := range w.all() {
		if (p.rsa == nil) != (p.State == Removed) || (p.ed == nil) != (p.State == Removed) {
			t.Errorf("%s %s: %v, %v", p.Name, p.State, p.rsa == nil, p.ed == nil)
		}
	}
	if p, err := open(testRoot(t), recordKey("p2026a"), read()); err != nil || p.rsa != nil || p.ed != nil {
		t.Errorf("the record still holds keys: %v", err)
	}
}

// TestPurgeAgain: a purge that failed is made up for.
func TestPurgeAgain(t *testing.T) {
	w := newWorld(t, vfs.NewCrashDisk())
	w.rotate()
	w.publish(w.rotate())
	w.look()
	w.now = w.now.Add(DefaultOverlap)
	p := &purges{Store: w.db, fail: true}
	w.o.Store = p
	if err := w.Look(t.Context(), w.lookup); err == nil {
		t.Error("a failed purge is no error")
	}
	p.fail = false
	w.look()
	w.look()
	if p.n != 2 {
		t.Errorf("%d purges, want one more after the failed one", p.n)
	}
}

type purges struct {
	store.Store
	fail bool
	n    int
}

func (p *purges) Purge(ctx context.Context) error {
	p.n++
	if p.fail {
		return errors.New("no")
	}
	return p.Store.Purge(ctx)
}

// TestPublish: with the option the private halves are for everybody to see, but only when
// nobody takes them for valid any more.
func TestPublish(t *testing.T) {
	on := func(o *Options) { o.Publish = true }
	w := newWorld(t, vfs.NewCrashDisk(), on)
	w.rotate()
	old := w.List()[0]
	w.publish(old)
	w.publish(w.rotate())
	w.look()
	w.now = w.now.Add(DefaultOverlap)
	nothing := func(when string) {
		t.Helper()
		for _, selector := range []string{"p2026a-rsa", "p2026a-ed", "p2026b-rsa", "p2026b-ed", "", "p2026a"} {
			if _, ok := w.Published(selector); ok {
				t.Fatalf("%s: %s is published", when, selector)
			}
		}
	}
	for range 3 {
		w.look()
		w.now = w.now.Add(2 * PublishWait)
		nothing("records still there")
	}
	w.withdraw(old)
	w.down = true
	w.look()
	w.down = false
	w.look()
	w.now = w.now.Add(PublishWait - time.Second)
	w.look()
	nothing("records just gone")
	w.publish(old)
	w.look()
	w.withdraw(old)
	w.now = w.now.Add(time.Second)
	w.look()
	nothing("records came back meanwhile")
	w.reopen(on)
	w.now = w.now.Add(PublishWait)
	w.look()
	w.want("p2026a removed published, p2026b active")
	w.reopen(on)
	w.want("p2026a removed published, p2026b active")
	for i, selector := range []string{"p2026a-rsa", "p2026a-ed"} {
		text, ok := w.Published(selector)
		block, rest := pem.Decode(text)
		if !ok || block == nil || block.Type != "PRIVATE KEY" || len(rest) != 0 {
			t.Fatalf("%s: %s", selector, text)
		}
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		switch key := key.(type) {
		case *rsa.PrivateKey:
			if i != 0 || !key.PublicKey.Equal(old.Keys[0].Public) {
				t.Error("another RSA key")
			}
		case ed25519.PrivateKey:
			if i != 1 || !key.Public().(ed25519.PublicKey).Equal(old.Keys[1].Public) {
				t.Error("another Ed25519 key")
			}
		}
	}
	if _, ok := w.Published("p2026b-rsa"); ok {
		t.Error("the active key is published")
	}
	// Turned off again, they are not shown, and then destroyed.
	w.reopen()
	nothing("turned off")
	w.look()
	w.want("p2026a removed, p2026b active")
	w.reopen(on)
	w.look()
	nothing("destroyed")
}

// TestRun: Run asks on its own and ends with its context, or rests when the store has failed.
func TestRun(t *testing.T) {
	w := newWorld(t, vfs.NewCrashDisk())
	w.rotate()
	w.publish(w.rotate())
	synctest.Test(t, func(t *testing.T) {
		s := &idle{failed: make(chan struct{})}
		looks := make(chan string, 10)
		k := &Keys{o: Options{Store: s, Every: time.Minute, Domain: domain, Now: time.Now, Logger: w.o.Logger}, turn: make(chan struct{}, 1)}
		k.turn <- struct{}{}
		fresh := *w.all()[1]
		k.set([]*pair{&fresh})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		lookup := func(_ context.Context, name string) ([]string, bool, error) {
			looks <- name
			return nil, false, errs.E("test", errs.Unavailable, "", nil)
		}
		go func() { done <- k.Run(ctx, lookup) }()
		for range 3 {
			a, b := <-looks, <-looks
			if a != "p2026b-rsa._domainkey.example.org" || b != "p2026b-ed._domainkey.example.org" {
				t.Errorf("asked for %s and %s", a, b)
			}
		}
		close(s.failed)
		synctest.Wait()
		<-time.After(time.Hour) // in the bubble's own time
		if len(looks) > 0 {
			t.Error("asked on although the store has failed")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// idle is a store that only fails.
type idle struct {
	store.Store
	failed chan struct{}
}

func (s *idle) Failed() <-chan struct{} { return s.failed }

// TestLimits: there is an end to making keys, and names go on behind z.
func TestLimits(t *testing.T) {
	w := newWorld(t, vfs.NewCrashDisk())
	w.rotate()
	one := w.all()[0]
	var many []*pair
	for i := range MaxPairs {
		p := *one
		p.Name = makeName(2026, i+1)
		p.State = Removed
		if i == 0 {
			p.State = Active
		}
		many = append(many, &p)
	}
	w.set(many)
	if _, err := w.Rotate(t.Context()); errs.KindOf(err) != errs.Full || errs.Public(err) != "too many signing keys were made" {
		t.Errorf("%v", err)
	}
	w.set(many[:MaxPairs-1])
	if p := w.rotate(); p.Name != makeName(2026, MaxPairs) || len(p.Name) > maxName {
		t.Errorf("%s", p.Name)
	}
	for n, want := range map[int]string{1: "p2026a", 26: "p2026z", 27: "p2026aa", 52: "p2026az", 53: "p2026ba", 702: "p2026zz", 703: "p2026aaa"} {
		if got := makeName(2026, n); got != want {
			t.Errorf("%d: %s", n, got)
		}
		if y, m, ok := parseName(want); y != 2026 || m != n || !ok {
			t.Errorf("%s: %d %d %v", want, y, m, ok)
		}
	}
	for _, bad := range []string{"", "p", "p2026", "2026a", "p2026A", "p02026a", "pa", "p2026a1", "p2026aaaa", "p" + strings.Repeat("1", 30) + "a"} {
		if _, _, ok := parseName(bad); ok {
			t.Errorf("%q is a name", bad)
		}
	}
}

// TestErrors: the disk, randomness and the caller fail.
func TestErrors(t *testing.T) {
	w := newWorld(t, vfs.NewCrashDisk(), func(o *Options) { o.Rand = bytes.NewReader(nil) })
	if _, err := w.Signing(t.Context()); errs.KindOf(err) != errs.Internal || errs.Public(err) != "cannot make a key" {
		t.Errorf("no randomness: %v", err)
	}
	w = newWorld(t, vfs.NewCrashDisk(), func(o *Options) { o.NewRSA = func() (*rsa.PrivateKey, error) { return nil, errors.New("no") } })
	if _, err := w.Rotate(t.Context()); errs.KindOf(err) != errs.Internal || errs.Public(err) != "cannot make a key" {
		t.Errorf("no RSA key: %v", err)
	}
	w = newWorld(t, vfs.NewCrashDisk())
	<-w.turn
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Signing(ctx); errs.KindOf(err) != errs.Canceled {
		t.Errorf("canceled: %v", err)
	}
	w.turn <- struct{}{}
	w.db.Close()
	if _, err := w.Current(t.Context()); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("closed store: %v", err)
	}
	w.want("")
	if err := errors.Join(w.Check(t.Context(), func(string) {}), w.Reveal(t.Context(), func(string, string) {})); err == nil {
		t.Error("a closed store is in order")
	}
}

// TestDamage: records that cannot be opened are named, and keep the keys from being opened.
func TestDamage(t *testing.T) {
	w := newWorld(t, vfs.NewCrashDisk())
	w.rotate()
	w.rotate()
	found := func() string {
		t.Helper()
		var all []string
		if err := w.Check(t.Context(), func(s string) { all = append(all, s) }); err != nil {
			t.Fatal(err)
		}
		return strings.Join(all, "; ")
	}
	if got := found(); got != "" {
		t.Errorf("Check: %s", got)
	}
	put := func(name string, value []byte) {
		t.Helper()
		if err := w.db.Update(t.Context(), home, func(tx store.Tx) error { return tx.Set(recordKey(name), value) }); err != nil {
			t.Fatal(err)
		}
	}
	two := *w.all()[0]
	two.Name = "p2026c"
	two.setPublic(&two.rsa.PublicKey, two.Keys[1].Public.(ed25519.PublicKey))
	rec, err := two.seal(w.o.Root)
	if err != nil {
		t.Fatal(err)
	}
	put("p2026c", rec)
	if got := found(); got != "2 pairs of signing keys are active; one should be" {
		t.Errorf("Check: %s", got)
	}
	two.State = New
	if rec, err = two.seal(w.o.Root); err != nil {
		t.Fatal(err)
	}
	put("p2026c", rec)
	if got := found(); got != "2 pairs of signing keys are new; one may be" {
		t.Errorf("Check: %s", got)
	}
	put("p2026d", rec) // sealed for another place
	if got := found(); !strings.Contains(got, `the signing keys "p2026d" cannot be read`) {
		t.Errorf("Check: %s", got)
	}
	_, err = Open(t.Context(), w.o)
	if errs.KindOf(err) != errs.Corrupt || errs.Public(err) != "the keys that sign mail cannot be read: the store is damaged" {
		t.Errorf("Open: %v", err)
	}
	var all strings.Builder
	if err := w.Reveal(t.Context(), func(kind, text string) { fmt.Fprintf(&all, "%s: %s\n", kind, text) }); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"dkim-key: pair p2026a: private keys of p2026a-rsa and p2026a-ed, state=active made=2026-11-05T10:00:00Z activated=2026-11-05T10:00:00Z retired=never", `pair "p2026d" cannot be opened`} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("%q is not in\n%s", want, all.String())
		}
	}
}

// TestPowerCut: the machine loses power at every sync of making, rotating, promoting,
// removing. What was acknowledged is there, exactly one pair signs, and no name is given twice
// to different keys.
func TestPowerCut(t *testing.T) {
	disk := vfs.NewCrashDisk()
	look := func(vfs.SyncPoint) {}
	fs := vfs.NewSyncPoints(disk, func(p vfs.SyncPoint) { look(p) })
	w := newWorld(t, fs)
	steps := []string{"", "p2026a active", "p2026a active, p2026b new", "p2026a retiring, p2026b active", "p2026a removed, p2026b active", "p2026a removed, p2026b active, p2026c new"}
	acked, cuts := 0, 0
	public := make(map[string]string) // of each acknowledged selector
	look = func(p vfs.SyncPoint) {
		modes := []vfs.Unsynced{vfs.Kept, vfs.Torn}
		if p.After { // what is dropped before a sync was dropped after the one before
			modes = []vfs.Unsynced{vfs.Dropped}
		}
		for _, mode := range modes {
			cuts++
			after := newWorldAfter(t, disk.Clone(mode, uint64(p.N)), w.now)
			got := states(after.Keys)
			if got != steps[acked] && (acked+1 >= len(steps) || got != steps[acked+1]) {
				t.Errorf("sync %d after=%t %v: acknowledged %q, found %q", p.N, p.After, mode, steps[acked], got)
			}
			if err := after.Check(t.Context(), func(s string) { t.Errorf("Check: %s", s) }); err != nil {
				t.Error(err)
			}
			for _, pair := range after.List() {
				for _, k := range pair.Keys {
					if txt, _ := dkim.Record(k.Public); public[k.Selector] != "" && public[k.Selector] != txt {
						t.Errorf("%s is another key", k.Selector)
					}
				}
			}
			if got != "" {
				signs(t, after.Keys)
			}
			after.db.Close()
		}
	}
	done := func() {
		t.Helper()
		acked++
		w.want(steps[acked])
		for _, p := range w.List() {
			for _, k := range p.Keys {
				public[k.Selector], _ = dkim.Record(k.Public)
			}
		}
	}
	if _, err := w.Signing(t.Context()); err != nil {
		t.Fatal(err)
	}
	done()
	w.publish(w.rotate())
	done()
	w.look()
	done()
	w.now = w.now.Add(DefaultOverlap)
	w.look()
	done()
	w.rotate()
	done()
	look = func(vfs.SyncPoint) {}
	if cuts < 20 {
		t.Errorf("only %d cuts", cuts)
	}
}

// TestFailedWrite: a change that was not made durable is not seen, and nothing signs with
// a key that a restart would not find.
func TestFailedWrite(t *testing.T) {
	w := newWorld(t, vfs.NewCrashDisk())
	w.rotate()
	w.publish(w.rotate())
	w.o.Store = refuses{w.db}
	if err := w.Look(t.Context(), w.lookup); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("%v", err)
	}
	w.want("p2026a active, p2026b new")
	if got := signs(t, w.Keys); got != "p2026a-rsa p2026a-ed" {
		t.Errorf("%s signs", got)
	}
}

type refuses struct{ store.Store }

func (refuses) Update(context.Context, store.Shard, func(store.Tx) error) error {
	return errs.E("test", errs.Unavailable, "", nil)
}

// FuzzOpen: whatever a record holds, it is a pair in order or an error.
func FuzzOpen(f *testing.F) {
	root := testRoot(f)
	k, err := rsaKeys(f)()
	if err != nil {
		f.Fatal(err)
	}
	p := &pair{Pair: Pair{Name: "p2026a", Made: time.Unix(1, 0)}, rsa: k, ed: ed25519.NewKeyFromSeed(make([]byte, 32))}
	p.setPublic(&k.PublicKey, p.ed.Public().(ed25519.PublicKey))
	for _, p := range []*pair{p, func() *pair { c := p.destroyed(); c.State = Removed; return c }()} {
		sealed, err := p.seal(root)
		if err != nil {
			f.Fatal(err)
		}
		plain, err := root.Open(seal.PurposeDKIM, recordKey(p.Name), sealed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add("p2026a", plain)
	}
	f.Add("", []byte{version})
	f.Fuzz(func(t *testing.T, name string, plain []byte) {
		key := recordKey(name)
		sealed, err := root.Seal(seal.PurposeDKIM, key, plain)
		if err != nil {
			return // larger than a record may be
		}
		p, err := open(root, key, sealed)
		if err != nil {
			if errs.KindOf(err) != errs.Corrupt {
				t.Fatal(err)
			}
			return
		}
		if len(p.Keys) != 2 || p.State >= numStates || (p.rsa == nil) != (p.ed == nil) || p.rsa == nil && p.State != Removed {
			t.Fatalf("%+v", p)
		}
		again, err := p.seal(root)
		if err != nil {
			t.Fatal(err)
		}
		if q, err := open(root, key, again); err != nil || q.State != p.State || q.Published != p.Published {
			t.Fatalf("%+v, %v", q, err)
		}
	})
}

// TestAlso: keys that sign for other domains too change only when all records of a pair are seen in all of them.
func TestAlso(t *testing.T) {
	w := newWorld(t, vfs.NewCrashDisk(), func(o *Options) { o.Also = []string{"alias.example"} })
	w.rotate()
	fresh := w.rotate()
	w.publish(fresh)
	w.look()
	w.want("p2026a active, p2026b new")
	for i, k := range fresh.Keys {
		w.look()
		w.want("p2026a active, p2026b new")
		w.dns[dkim.RecordName(k.Selector, "alias.example")] = w.dns[dkim.RecordName(k.Selector, domain)]
		if i == 0 {
			w.down = true
			w.look()
			w.want("p2026a active, p2026b new")
			w.down = false
		}
	}
	w.look()
	w.want("p2026a retiring, p2026b active")
}
