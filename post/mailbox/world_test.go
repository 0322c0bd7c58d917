package mailbox

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"postern.email/kit/clocktest"
	"postern.email/kit/vfs"
	"postern.email/post/blob"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/store/pebble"
)

// world is a store with mailboxes on one disk.
type world struct {
	tb    testing.TB
	fs    vfs.FS
	dir   string
	st    store.Store
	boxes *Boxes
	clock *clocktest.Clock
	opt   Options
	wrap  func(store.Store) store.Store
}

func newClock() *clocktest.Clock {
	return clocktest.New(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
}

type worldOption func(*world)

func withFS(fs vfs.FS) worldOption { return func(w *world) { w.fs = fs } }

func withStore(wrap func(store.Store) store.Store) worldOption {
	return func(w *world) { w.wrap = wrap }
}

// onDisk puts the world on the machine's own disk.
func onDisk() worldOption {
	return func(w *world) { w.fs, w.dir = vfs.OS(), w.tb.TempDir() }
}

func withOptions(fn func(*Options)) worldOption { return func(w *world) { fn(&w.opt) } }

func newWorld(tb testing.TB, opts ...worldOption) *world {
	tb.Helper()
	w := &world{tb: tb, fs: vfs.NewCrashDisk(), dir: "/data", clock: newClock()}
	for _, o := range opts {
		o(w)
	}
	w.open()
	tb.Cleanup(w.close)
	return w
}

func (w *world) open() {
	w.tb.Helper()
	if err := vfs.MkdirAll(w.fs, w.dir, 0o700); err != nil {
		w.tb.Fatal(err)
	}
	st, err := pebble.Open(context.Background(), pebble.Options{FS: w.fs, Dir: w.dir + "/store"})
	if err != nil {
		w.tb.Fatal(err)
	}
	w.st = st
	if w.wrap != nil {
		w.st = w.wrap(st)
	}
	o := w.opt
	o.Store, o.FS, o.Dir, o.Now = w.st, w.fs, w.blobDir(), w.clock.Now
	if o.Chains == nil {
		o.Chains = seal.NewChains(seal.ChainOptions{Now: w.clock.Now})
	}
	if w.boxes, err = New(o); err != nil {
		w.tb.Fatal(err)
	}
}

func (w *world) close() {
	if w.boxes != nil {
		w.boxes.Close()
		w.st.Close()
		w.boxes = nil
	}
}

func (w *world) blobDir() string { return w.dir + "/blobs" }

func (w *world) blobPath(n blob.Name) string { return w.fs.PathJoin(w.blobDir(), n.String()) }

// reopen ends the process and starts the next one.
func (w *world) reopen() {
	w.tb.Helper()
	w.close()
	w.open()
}

// user makes an account with mailboxes.
func (w *world) user() *seal.Opened {
	w.tb.Helper()
	id, err := seal.NewAccountID(cryptoRand{})
	if err != nil {
		w.tb.Fatal(err)
	}
	key, err := seal.Generate(id, nil)
	if err != nil {
		w.tb.Fatal(err)
	}
	err = w.st.Update(context.Background(), id.Shard(), func(tx store.Tx) error { return w.boxes.Init(tx, key) })
	if err != nil {
		w.tb.Fatal(err)
	}
	return key
}

// cryptoRand is math/rand: account numbers of tests need not be secret.
type cryptoRand struct{}

func (cryptoRand) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(rand.Uint32())
	}
	return len(p), nil
}

// deliver puts a mail into the INBOX of all keys in one transaction.
func (w *world) deliver(raw []byte, keys ...*seal.Opened) []Placed {
	w.tb.Helper()
	p, err := w.tryDeliver(raw, keys...)
	if err != nil {
		w.tb.Fatal(err)
	}
	return p
}

func (w *world) tryDeliver(raw []byte, keys ...*seal.Opened) ([]Placed, error) {
	to := make([]Target, len(keys))
	for i, k := range keys {
		to[i] = Target{ID: k.ID(), Public: k.Public(), Box: Inbox}
	}
	d, err := w.boxes.Prepare(context.Background(), Message{Raw: raw, Date: w.clock.Now()}, to)
	if err != nil {
		return nil, err
	}
	defer d.Discard()
	placed := make([]Placed, len(keys))
	err = w.st.Update(context.Background(), keys[0].ID().Shard(), func(tx store.Tx) error {
		for i, k := range keys {
			in := tx
			if k.ID().Shard() != keys[0].ID().Shard() {
				var err error
				if in, err = tx.Other(k.ID().Shard()); err != nil {
					return err
				}
			}
			var err error
			if placed[i], err = d.Put(in, i); err != nil {
				return err
			}
		}
		return nil
	})
	return placed, err
}

// mailOf makes a mail of exactly size bytes.
func mailOf(n, size int) []byte {
	head := fmt.Sprintf("From: a%d@x.example\r\nTo: b@x.example\r\nSubject: [...] %d\r\nMessage-ID: <%d@x.example>\r\n"+
		"Date: Sun, 1 Mar 2026 12:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n", n, n, n)
	var b bytes.Buffer
	b.WriteString(head)
	line := strings.Repeat(string(rune('a'+n%26)), 70) + "\r\n"
	for b.Len()+len(line) <= size {
		b.WriteString(line)
	}
	for b.Len() < size {
		b.WriteByte('.')
	}
	return b.Bytes()[:size]
}

// readBody gives the whole mail, read both ways.
func readBody(tb testing.TB, a *Account, box uint32, e Entry) []byte {
	tb.Helper()
	body, err := a.Body(context.Background(), box, e)
	if err != nil {
		tb.Fatal(err)
	}
	defer body.Close()
	var out bytes.Buffer
	if n, err := body.WriteTo(&out); err != nil || n != body.Size() {
		tb.Fatalf("WriteTo gave %d of %d bytes: %v", n, body.Size(), err)
	}
	at := make([]byte, body.Size())
	if n, err := body.ReadAt(at, 0); n != len(at) {
		tb.Fatalf("ReadAt gave %d of %d bytes: %v", n, len(at), err)
	}
	if !bytes.Equal(at, out.Bytes()) {
		tb.Fatal("ReadAt and WriteTo differ")
	}
	return out.Bytes()
}

// check demands that no invariant is broken.
func (w *world) check() {
	w.tb.Helper()
	err := w.boxes.Check(context.Background(), func(f Finding) { w.tb.Errorf("check: %+v", f) })
	if err != nil {
		w.tb.Fatal(err)
	}
}

func mustView(tb testing.TB, a *Account, box uint32) *View {
	tb.Helper()
	v, err := a.View(context.Background(), box)
	if err != nil {
		tb.Fatal(err)
	}
	return v
}
