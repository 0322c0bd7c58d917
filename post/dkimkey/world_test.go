package dkimkey

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail/dkim"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/store/pebble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const domain = "example.org"

// rsaKeys gives keys that were made once; each call another one, in a circle.
func rsaKeys(t testing.TB) func() (*rsa.PrivateKey, error) {
	t.Helper()
	keys := someKeys()
	n := 0
	return func() (*rsa.PrivateKey, error) {
		n++
		return keys[n%len(keys)], nil
	}
}

var someKeys = sync.OnceValue(func() (keys []*rsa.PrivateKey) {
	for range 4 {
		k, err := rsa.GenerateKey(rand.Reader, 1024)
		if err != nil {
			panic(err)
		}
		keys = append(keys, k)
	}
	return keys
})

// world is a relay's keys with a clock and a DNS.
type world struct {
	t     testing.TB
	fs    vfs.FS
	now   time.Time
	dns   map[string][]string
	down  bool // the resolver does not answer
	asked int
	db    store.Store
	*Keys
}

func newWorld(t testing.TB, fs vfs.FS, set ...func(*Options)) *world {
	t.Helper()
	w := &world{t: t, fs: fs, now: time.Date(2026, 11, 5, 10, 0, 0, 0, time.UTC), dns: make(map[string][]string)}
	w.open(set...)
	t.Cleanup(func() { w.db.Close() })
	return w
}

func testRoot(t testing.TB) *seal.Root {
	t.Helper()
	root, err := seal.NewRoot(bytes.Repeat([]byte{7}, seal.KeyLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// open opens the keys on the disk.
func (w *world) open(set ...func(*Options)) {
	w.t.Helper()
	db, err := pebble.Open(w.t.Context(), pebble.Options{FS: w.fs, Dir: "/store"})
	if err != nil {
		w.t.Fatal(err)
	}
	w.db = db
	o := Options{Store: db, Root: testRoot(w.t), Domain: domain, Now: func() time.Time { return w.now }, NewRSA: rsaKeys(w.t)}
	for _, f := range set {
		f(&o)
	}
	if w.Keys, err = Open(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

// reopen is a restart.
func (w *world) reopen(set ...func(*Options)) {
	w.t.Helper()
	if err := w.db.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open(set...)
}

func (w *world) lookup(_ context.Context, name string) ([]string, bool, error) {
	w.asked++
	switch txts, ok := w.dns[name]; {
	case w.down:
		return nil, false, errs.E("test", errs.Unavailable, "", nil)
	case ok:
		return txts, false, nil
	}
	return nil, false, errs.E("test", errs.NotFound, "", nil)
}

// publish puts a pair's records into the DNS.
func (w *world) publish(p Pair) {
	w.t.Helper()
	for _, k := range p.Keys {
		txt, err := dkim.Record(k.Public)
		if err != nil {
			w.t.Fatal(err)
		}
		w.dns[dkim.RecordName(k.Selector, domain)] = []string{txt}
	}
}

func (w *world) withdraw(p Pair) {
	for _, k := range p.Keys {
		delete(w.dns, dkim.RecordName(k.Selector, domain))
	}
}

func (w *world) look() {
	w.t.Helper()
	if err := w.Look(w.t.Context(), w.lookup); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) rotate() Pair {
	w.t.Helper()
	p, err := w.Rotate(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// states gives all pairs in one line.
func states(k *Keys) string {
	var all []string
	for _, p := range k.List() {
		s := p.Name + " " + p.State.String()
		if p.Published {
			s += " published"
		}
		all = append(all, s)
	}
	return strings.Join(all, ", ")
}

func (w *world) want(s string) {
	w.t.Helper()
	if got := states(w.Keys); got != s {
		w.t.Fatalf("%s, want %s", got, s)
	}
}

// signs gives the selectors that sign, and checks that their signatures fit the records
// of the pair.
func signs(t testing.TB, k *Keys) string {
	t.Helper()
	keys, err := k.Signing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const head, body = "From: <joe@example.org>\r\n\r\n", "Hello\r\n"
	fields, err := (&dkim.Signer{Domain: domain, Keys: keys}).Sign([]byte(head), []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	var selectors []string
	for _, p := range k.List() {
		for _, key := range p.Keys {
			if slices.ContainsFunc(keys, func(s dkim.Key) bool { return s.Selector == key.Selector }) {
				selectors = append(selectors, key.Selector)
				txt, err := dkim.Record(key.Public)
				if err != nil {
					t.Fatal(err)
				}
				v := &dkim.Verifier{Lookup: func(_ context.Context, name string) ([]string, bool, error) {
					if name == dkim.RecordName(key.Selector, domain) {
						return []string{txt}, false, nil
					}
					return nil, false, errs.E("test", errs.NotFound, "", nil)
				}}
				if got := v.Verify(t.Context(), append(append(bytes.Clone(fields), head...), body...), domain); got.Verdict != dkim.Valid {
					t.Errorf("%s: %+v", key.Selector, got)
				}
			}
		}
	}
	return strings.Join(selectors, " ")
}

// newWorldAfter opens what a cut has left.
func newWorldAfter(t *testing.T, fs vfs.FS, now time.Time) *world {
	t.Helper()
	w := &world{t: t, fs: fs, now: now, dns: make(map[string][]string)}
	w.open()
	return w
}
