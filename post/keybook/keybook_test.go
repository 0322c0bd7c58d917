package keybook

import (
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.email/kit/clocktest"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
)

const dir = "recipients"

// parse reads the keys of these tests: a word after "key:" or "old:", or either in PEM.
func parse(text []byte) (Key, error) {
	s := strings.TrimSpace(string(text))
	if b, _ := pem.Decode(text); b != nil {
		s = string(b.Bytes)
	}
	kind, name, ok := strings.Cut(s, ":")
	if !ok || kind != "key" && kind != "old" || name == "" || strings.ContainsAny(name, "\r\n") {
		return Key{}, errs.E("test", errs.Invalid, "this is no key", nil)
	}
	name, _, _ = strings.Cut(name, "@") // behind it stands where letters go
	return Key{Text: s, Type: "TEST KEY", Bytes: []byte(s), Fingerprint: "ab-" + name, Classical: kind == "old"}, nil
}

type world struct {
	*Book
	t     testing.TB
	fs    vfs.FS
	clock *clocktest.Clock
	o     Options
}

func begin(t testing.TB, change ...func(*Options)) *world {
	t.Helper()
	w := &world{t: t, fs: vfs.NewCrashDisk(), clock: clocktest.New(time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC))}
	w.o = Options{FS: w.fs, Dir: dir, Parse: parse, Now: w.clock.Now}
	for _, f := range change {
		f(&w.o)
	}
	w.fs = w.o.FS
	w.open()
	return w
}

func (w *world) open() {
	w.t.Helper()
	b, err := Open(w.o)
	must(w.t, err)
	w.Book = b
}

func (w *world) put(name, text string) {
	w.t.Helper()
	must(w.t, vfs.WriteFileAtomic(w.fs, dir+"/"+name, []byte(text), 0o600))
}

func (w *world) files() []string {
	w.t.Helper()
	names, err := w.fs.List(dir)
	must(w.t, err)
	slices.Sort(names)
	return names
}

// is asks for the state and keys of an entry, now and after a new start.
func (w *world) is(addr string, state State, k string, more ...string) {
	w.t.Helper()
	for range 2 {
		e, err := w.Get(to(w.t, addr))
		if err != nil || e.State != state || e.Key.Text != k || e.Usable() != (state != Changed) || e.Address != to(w.t, addr).Canonical() {
			w.t.Errorf("%s: %+v, %v; want %v %s", addr, e, err, state, k)
		}
		if len(more) > 0 && e.New.Text != more[0] {
			w.t.Errorf("%s: the other key is %q, want %q", addr, e.New.Text, more[0])
		}
		w.open()
	}
}

func to(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	must(t, err)
	return a
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused asks for a kind of error, and a public text with some words and without an address.
func refused(t testing.TB, err error, kind errs.Kind, words string) {
	t.Helper()
	if err == nil || errs.KindOf(err) != kind || !strings.Contains(errs.Public(err), words) || strings.Contains(errs.Public(err), "@") {
		t.Errorf("%v (%q), want %v with %q", err, errs.Public(err), kind, words)
	}
}

const bob, eve = "bob@two.example", "eve@two.example"

// TestSet: what the user sets is there, in place of what was, in whatever capitals, and stays.
func TestSet(t *testing.T) {
	w := begin(t)
	_, err := w.Get(to(t, bob))
	refused(t, err, errs.NotFound, "no key of this recipient")
	e, err := w.Set(to(t, "Bob@TWO.example"), []byte(" key:1\n"))
	must(t, err)
	if !e.Since.Equal(w.clock.Now().Truncate(time.Second)) {
		t.Error(e.Since)
	}
	w.is(bob, Set, "key:1")
	w.is("BOB@two.example", Set, "key:1")
	_, err = w.Set(to(t, bob), []byte("key:2"))
	must(t, err)
	w.is(bob, Set, "key:2")
	if got := w.files(); !slices.Equal(got, []string{"bob@two.example.pem"}) {
		t.Error(got)
	}
	_, err = w.Set(to(t, bob), []byte("nonsense"))
	refused(t, err, errs.Invalid, "this is no key")
	_, err = w.Set(to(t, bob), []byte("key:"+strings.Repeat("x", MaxFile)))
	refused(t, err, errs.TooLarge, "too long")
	_, err = w.Set(mail.Address{Local: "postmaster"}, []byte("key:1"))
	refused(t, err, errs.Invalid, "no address")
	w.is(bob, Set, "key:2")
}

// TestRemove: what is removed is gone, file and all, also a file under another name or one that
// cannot be read.
func TestRemove(t *testing.T) {
	w := begin(t)
	_, err := w.Set(to(t, bob), []byte("key:1"))
	must(t, err)
	w.put("Eve@Two.Example.pem", "key:2")
	w.put("carol@two.example.pem", "nonsense")
	r, err := w.Rescan()
	must(t, err)
	if r.Entries != 2 || r.Added != 1 || len(r.Bad) != 1 {
		t.Errorf("%+v", r)
	}
	for _, a := range []string{bob, eve, "carol@two.example"} {
		must(t, w.Remove(to(t, a)))
		_, err := w.Get(to(t, a))
		refused(t, err, errs.NotFound, "no key")
		refused(t, w.Remove(to(t, a)), errs.NotFound, "no key")
	}
	w.open()
	if got := w.files(); len(got) != 0 || len(w.List()) != 0 || len(w.Bad()) != 0 {
		t.Error(got, w.List(), w.Bad())
	}
}

// TestDiscovered: the first key that is found is taken and unverified; another one never takes its
// place, nothing may be sent, and both are kept until the user decides.
func TestDiscovered(t *testing.T) {
	w := begin(t)
	e, err := w.Discovered(to(t, bob), Key{Text: "key:1"})
	must(t, err)
	if !e.Usable() || e.Key.Fingerprint != "ab-1" {
		t.Errorf("%+v", e)
	}
	w.is(bob, Discovered, "key:1")
	_, err = w.Discovered(to(t, bob), Key{Text: "key:1"})
	must(t, err)

	changed := func(k string) {
		t.Helper()
		_, err := w.Discovered(to(t, bob), Key{Text: k})
		refused(t, err, errs.Conflict, "nothing is sent until")
	}
	changed("key:2")
	w.is(bob, Changed, "key:1", "key:2")
	changed("key:2")
	changed("key:1") // the old one again does not set it right
	w.is(bob, Changed, "key:1", "key:2")
	changed("key:3")
	w.is(bob, Changed, "key:1", "key:3")

	_, err = w.Verify(to(t, bob), "ab-2")
	refused(t, err, errs.Auth, "fingerprint is not that")
	_, err = w.Verify(to(t, bob), "")
	refused(t, err, errs.Auth, "fingerprint is not that")
	w.is(bob, Changed, "key:1", "key:3")
	_, err = w.Verify(to(t, bob), " AB 3 ")
	must(t, err)
	w.is(bob, Verified, "key:3", "")

	// A verified one is held like any other, and the user may keep it.
	changed("key:4")
	w.is(bob, Changed, "key:3", "key:4")
	_, err = w.Verify(to(t, bob), "ab3")
	must(t, err)
	w.is(bob, Verified, "key:3", "")

	changed("key:4")
	_, err = w.Set(to(t, bob), []byte("key:4"))
	must(t, err)
	w.is(bob, Set, "key:4", "")
	changed("key:5")
	must(t, w.Remove(to(t, bob)))
	_, err = w.Discovered(to(t, bob), Key{Text: "key:5"})
	must(t, err)
	w.is(bob, Discovered, "key:5")
	_, err = w.Discovered(to(t, bob), Key{Text: "nonsense"})
	refused(t, err, errs.Invalid, "no key")
}

// TestCertified: what a relay said before the key that is here changes nothing, whenever it comes; who
// moves with the same keys is written to at the new place.
func TestCertified(t *testing.T) {
	w := begin(t)
	say := func(text string, day int, conflict bool) {
		t.Helper()
		if _, err := w.Discovered(to(t, bob), Key{Text: text, Certified: time.Date(2026, 2, day, 0, 0, 0, 0, time.UTC)}); (errs.KindOf(err) == errs.Conflict && err != nil) != conflict || err != nil && !conflict {
			t.Errorf("%s %d: %v", text, day, err)
		}
	}
	say("key:2", 2, false)
	say("key:1", 1, false)
	w.is(bob, Discovered, "key:2")
	say("key:3", 3, true)
	say("key:2", 2, true)
	say("key:1", 1, true)
	w.is(bob, Changed, "key:2", "key:3")
	_, err := w.Verify(to(t, bob), "ab-3")
	must(t, err)
	w.open()
	say("key:2", 2, false) // a letter from before
	w.is(bob, Verified, "key:3", "")
	say("key:3@elsewhere", 4, false)
	w.is(bob, Verified, "key:3@elsewhere", "")
	say("key:3", 3, false)
	w.is(bob, Verified, "key:3@elsewhere", "")
	say("key:5", 4, true)
	w.is(bob, Changed, "key:3@elsewhere", "key:5")
	// What the user set nobody certified: any other key is news.
	_, err = w.Set(to(t, bob), []byte("key:9"))
	must(t, err)
	say("key:1", 1, true)
	_, err = w.Verify(to(t, bob), "ab-9")
	must(t, err)
	say("key:9", 7, false)
	say("key:1", 1, false)
	w.is(bob, Verified, "key:9", "")
}

// TestVerify: the fingerprint of the key itself makes it verified, whatever it was.
func TestVerify(t *testing.T) {
	w := begin(t)
	_, err := w.Verify(to(t, bob), "ab-1")
	refused(t, err, errs.NotFound, "no key")
	_, err = w.Discovered(to(t, bob), Key{Text: "key:1"})
	must(t, err)
	_, err = w.Verify(to(t, bob), "ab-2")
	refused(t, err, errs.Auth, "fingerprint")
	w.is(bob, Discovered, "key:1")
	_, err = w.Verify(to(t, bob), "a-B\t1")
	must(t, err)
	w.is(bob, Verified, "key:1")
	w.put("eve@two.example.pem", "key:2")
	_, err = w.Rescan()
	must(t, err)
	_, err = w.Verify(to(t, eve), "ab-2")
	must(t, err)
	w.is(eve, Verified, "key:2")
}

// TestConfig: what the configuration names counts, cannot be changed elsewhere, and is held like any
// other when a relay says another key.
func TestConfig(t *testing.T) {
	w := begin(t, func(o *Options) {
		o.Config = map[string]string{"Bob@two.example": "key:1", "eve@two.example": "nonsense", "x": "key:1"}
	})
	w.is(bob, Config, "key:1")
	_, err := w.Get(to(t, eve))
	refused(t, err, errs.Corrupt, "cannot be read")
	if bad := w.Bad(); len(bad) != 2 || bad[0].Name != "eve@two.example" || bad[1].Name != "x" {
		t.Errorf("%+v", bad)
	}
	_, err = w.Set(to(t, bob), []byte("key:2"))
	refused(t, err, errs.Denied, "configuration")
	refused(t, w.Remove(to(t, bob)), errs.Denied, "configuration")
	refused(t, w.Remove(to(t, eve)), errs.NotFound, "no key")
	w.put("bob@two.example.pem", "key:2")
	r, err := w.Rescan()
	must(t, err)
	if len(r.Bad) != 3 {
		t.Errorf("%+v", r.Bad)
	}
	w.is(bob, Config, "key:1")
	must(t, w.fs.Remove(dir+"/bob@two.example.pem"))
	_, err = w.Verify(to(t, bob), "ab-1")
	must(t, err)

	_, err = w.Discovered(to(t, bob), Key{Text: "key:2"})
	refused(t, err, errs.Conflict, "nothing is sent")
	w.is(bob, Changed, "key:1", "key:2")
	_, err = w.Verify(to(t, bob), "ab-2")
	refused(t, err, errs.Denied, "configuration")
	_, err = w.Set(to(t, bob), []byte("key:2"))
	refused(t, err, errs.Denied, "configuration")
	refused(t, w.Remove(to(t, bob)), errs.Denied, "configuration")
	w.is(bob, Changed, "key:1", "key:2")
	_, err = w.Verify(to(t, bob), "ab-1")
	must(t, err)
	w.is(bob, Config, "key:1", "")

	// The user changes it where the error said.
	_, err = w.Discovered(to(t, bob), Key{Text: "key:2"})
	refused(t, err, errs.Conflict, "nothing is sent")
	w.o.Config = map[string]string{bob: "key:2"}
	w.open()
	w.is(bob, Config, "key:2", "")
}

// TestClassical: a bare key is taken only where the user allows it, and is marked.
func TestClassical(t *testing.T) {
	w := begin(t)
	_, err := w.Set(to(t, bob), []byte("old:1"))
	refused(t, err, errs.Denied, "AllowClassicalRecipients")
	_, err = w.Discovered(to(t, bob), Key{Text: "old:1"})
	refused(t, err, errs.Denied, "AllowClassicalRecipients")
	w.o.AllowClassical = true
	w.open()
	e, err := w.Set(to(t, bob), []byte("old:1"))
	must(t, err)
	if !e.Key.Classical {
		t.Error("not marked")
	}
	w.is(bob, Set, "old:1")
	w.o.AllowClassical = false
	w.open()
	_, err = w.Get(to(t, bob))
	refused(t, err, errs.Corrupt, "cannot be read")
}

// TestFull: a full book takes no more, and what is there can still be changed.
func TestFull(t *testing.T) {
	w := begin(t, func(o *Options) { o.MaxEntries = 2 })
	for i, a := range []string{bob, eve} {
		_, err := w.Set(to(t, a), fmt.Appendf(nil, "key:%d", i))
		must(t, err)
	}
	_, err := w.Set(to(t, "carol@two.example"), []byte("key:3"))
	refused(t, err, errs.Full, "full")
	_, err = w.Discovered(to(t, "carol@two.example"), Key{Text: "key:3"})
	refused(t, err, errs.Full, "full")
	_, err = w.Set(to(t, bob), []byte("key:3"))
	must(t, err)
	w.put("zoe@two.example.pem", "key:4")
	r, err := w.Rescan()
	must(t, err)
	if r.Entries != 2 || len(r.Bad) != 1 || r.Bad[0].Name != "zoe@two.example.pem" {
		t.Errorf("%+v", r)
	}
	if got := w.List(); len(got) != 2 || got[0].Address.Local != "bob" || got[1].Address.Local != "eve" {
		t.Errorf("%+v", got)
	}
}

// TestFileNames: each address has a name of its own, which leads nowhere but into the directory.
func TestFileNames(t *testing.T) {
	seen := map[string]string{}
	for s, want := range map[string]string{
		"bob@two.example": "bob@two.example.pem", `"a@/b"@two.example`: "%22a@%2fb%22@two.example.pem", "a/b@two.example": "a%2fb@two.example.pem",
		`".."@two.example`: "%22..%22@two.example.pem", "a%2fb@two.example": "a%252fb@two.example.pem", "olga@bücher.example": "olga@xn--bcher-kva.example.pem",
		"ü@two.example": "ü@two.example.pem", "a@[IPv6:2001:db8::1]": "a@[ipv6%3a2001%3adb8%3a%3a1].pem", `"a b"@two.example`: "%22a%20b%22@two.example.pem",
	} {
		a := to(t, s)
		got := fileName(a)
		if got != want || strings.ContainsAny(got, "/\\\x00") || seen[got] != "" {
			t.Errorf("%s: %q, want %q", s, got, want)
		}
		seen[got] = s
		if back, err := parseName(got); err != nil || back != a.Canonical() {
			t.Errorf("%s: %v, %v", s, back, err)
		}
	}
	w := begin(t)
	long := mail.Address{Local: strings.Repeat("a", 60), Domain: strings.Repeat("b", 63) + "." + strings.Repeat("c", 63) + "." + strings.Repeat("d", 60)}
	if _, err := w.Set(long, []byte("key:1")); errs.KindOf(err) != errs.Invalid {
		t.Errorf("a name that no file system takes: %v", err)
	}
}

// TestBadDisk: what could not be written is not there.
func TestBadDisk(t *testing.T) {
	faults := vfs.NewFaults(vfs.NewCrashDisk())
	w := begin(t, func(o *Options) { o.FS = faults })
	_, err := w.Set(to(t, bob), []byte("key:1"))
	must(t, err)
	faults.FailFrom(vfs.OpSync, 1, errors.New("no sync"))
	if _, err := w.Discovered(to(t, bob), Key{Text: "key:2"}); errs.KindOf(err) != errs.Unavailable {
		t.Error(err)
	}
	if _, err := w.Set(to(t, eve), []byte("key:2")); errs.KindOf(err) != errs.Unavailable {
		t.Error(err)
	}
	if e, err := w.Get(to(t, bob)); err != nil || e.State != Set || e.Key.Text != "key:1" || len(w.List()) != 1 {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestOpenRefuses: without a directory or a way to read keys there is no book.
func TestOpenRefuses(t *testing.T) {
	for _, o := range []Options{{}, {FS: vfs.NewCrashDisk(), Dir: dir}, {FS: vfs.NewCrashDisk(), Parse: parse}, {Dir: dir, Parse: parse}} {
		_, err := Open(o)
		refused(t, err, errs.Invalid, "needs a directory")
	}
}

// TestConcurrent: readers see whole entries while files and entries change, and nothing gets lost.
func TestConcurrent(t *testing.T) {
	w := begin(t)
	const people, rounds = 8, 12
	var writers, readers sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for {
				for _, e := range w.List() {
					if e.Key.Text == "" || e.Key.Fingerprint == "" || (e.State == Changed) != (e.New.Text != "") {
						t.Errorf("%+v", e)
					}
				}
				select {
				case <-done:
					return
				case <-w.Watch():
				}
			}
		})
	}
	for i := range people {
		writers.Go(func() {
			a := mail.Address{Local: fmt.Sprint("p", i), Domain: "two.example"}
			for n := range rounds {
				if _, err := w.Set(a, fmt.Appendf(nil, "key:%d", n)); err != nil {
					t.Error(err)
				}
				if _, err := w.Discovered(a, Key{Text: fmt.Sprint("key:", n+1)}); errs.KindOf(err) != errs.Conflict {
					t.Error(err)
				}
				if _, err := w.Rescan(); err != nil {
					t.Error(err)
				}
				if e, err := w.Get(a); err != nil || e.State != Changed || e.Key.Text != fmt.Sprint("key:", n) {
					t.Errorf("%+v, %v", e, err)
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
	if len(w.List()) != people {
		t.Error(w.List())
	}
}
