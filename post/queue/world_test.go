package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern.email/kit/clocktest"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/post/blob"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/store/pebble"
	"postern.email/store/storetest"
)

var ctx = context.Background()

// world is a queue on a disk.
type world struct {
	tb      testing.TB
	fs      vfs.FS
	dir     string
	st      store.Store
	wrap    func(store.Store) store.Store
	root    *seal.Root
	q       *Queue
	opt     Options
	clock   *clocktest.Clock
	deleted atomic.Int64
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newWorld(tb testing.TB, opts ...func(*world)) *world {
	tb.Helper()
	root, err := seal.NewRoot(bytes.Repeat([]byte{7}, seal.KeyLen), nil)
	if err != nil {
		tb.Fatal(err)
	}
	w := &world{tb: tb, fs: vfs.NewCrashDisk(), dir: "/data", root: root, clock: clocktest.New(start)}
	for _, o := range opts {
		o(w)
	}
	w.open()
	tb.Cleanup(w.close)
	return w
}

func withOptions(fn func(*Options)) func(*world) { return func(w *world) { fn(&w.opt) } }

func onDisk(w *world) { w.fs, w.dir = vfs.OS(), w.tb.TempDir() }

func withFS(fs vfs.FS) func(*world) { return func(w *world) { w.fs = fs } }

func (w *world) open() {
	w.tb.Helper()
	st, err := pebble.Open(ctx, pebble.Options{FS: w.fs, Dir: w.fs.PathJoin(w.dir, "store")})
	if err != nil {
		w.tb.Fatal(err)
	}
	w.st = st
	if w.wrap != nil {
		w.st = w.wrap(st)
	}
	o := w.opt
	o.Store, o.Root, o.FS, o.Dir = w.st, w.root, w.fs, w.fs.PathJoin(w.dir, "queue")
	if o.Now == nil {
		o.Now = w.clock.Now
	}
	o.Deleted = func() { w.deleted.Add(1) }
	if w.q, err = Open(ctx, o); err != nil {
		w.tb.Fatal(err)
	}
}

func (w *world) close() {
	if w.q != nil {
		w.q.Close()
		w.st.Close()
		w.q = nil
	}
}

func (w *world) reopen() {
	w.tb.Helper()
	w.close()
	w.open()
}

func runTwice(w *world) { w.wrap = storetest.Twice }

var errNo = errors.New("no")

// addr reads an address that is known to be good.
func addr(s string) mail.Address {
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

const canary = "Subject: canary-subject"

// mailOf makes a mail with a body of about size bytes.
func mailOf(size int, to ...string) Mail {
	m := Mail{From: addr("sender-canary@here.example"), Kind: Submission, Shard: 5, EightBit: true, Return: ReturnHeaders, EnvID: "envid-canary",
		Head: []byte(canary + "\r\n\r\n"), Tail: []byte(strings.Repeat("body-canary\r\n", size/13+1)), Expires: start.Add(48 * time.Hour)}
	for _, a := range to {
		m.Rcpts = append(m.Rcpts, Rcpt{To: addr(a), Notify: 3, OriginalType: "rfc822", OriginalAddress: "original-" + a})
	}
	return m
}

// put queues a mail.
func (w *world) put(m Mail) ID {
	w.tb.Helper()
	id, err := w.tryPut(m)
	if err != nil {
		w.tb.Fatal(err)
	}
	return id
}

func (w *world) tryPut(m Mail) (ID, error) {
	e, err := w.q.Prepare(ctx, m)
	if err != nil {
		return ID{}, err
	}
	defer e.Discard()
	if err := w.st.Update(ctx, e.Shard(), e.Put); err != nil {
		return ID{}, err
	}
	e.Committed()
	return e.ID(), nil
}

// lease takes the one item that is due at a destination.
func (w *world) lease(dest string) *Item {
	w.tb.Helper()
	items := w.q.Lease(dest, 10)
	if len(items) != 1 {
		w.tb.Fatalf("%d items are due at %s, want 1", len(items), dest)
	}
	return items[0]
}

// all gives one result for every recipient of an item.
func all(it *Item, o Outcome, due time.Time, why string) []Result {
	var rs []Result
	for _, r := range it.Rcpts {
		rs = append(rs, Result{N: r.N, Outcome: o, Due: due, Why: why})
	}
	return rs
}

func (w *world) settle(it *Item, rs []Result) {
	w.tb.Helper()
	if err := w.q.Settle(ctx, it, rs, nil); err != nil {
		w.tb.Fatal(err)
	}
}

// fataler is a test, or a run of rapid's.
type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// body reads an open body, both ways.
func body(tb fataler, b Body, err error) string {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
	defer b.Close()
	var out bytes.Buffer
	if _, err := b.WriteTo(&out); err != nil {
		tb.Fatal(err)
	}
	at := make([]byte, b.Size())
	if n, err := b.ReadAt(at, 0); n != len(at) || err != nil && err != io.EOF || !bytes.Equal(at, out.Bytes()) {
		tb.Fatalf("ReadAt gave %d of %d bytes, %v", n, len(at), err)
	}
	return out.String()
}

func textOf(m Mail) string { return string(m.Head) + string(m.Tail) }

// records gives every record of the queue in the store: what is left.
func (w *world) records() (keys []string) {
	w.tb.Helper()
	err := w.st.Walk(ctx, func(s store.Shard, k, _ []byte) (bool, error) {
		if k[0] == letter {
			keys = append(keys, fmt.Sprintf("%d %x", s, k))
		}
		return true, nil
	})
	if err != nil {
		w.tb.Fatal(err)
	}
	return keys
}

func (w *world) files() []string {
	w.tb.Helper()
	list, err := w.fs.List(w.fs.PathJoin(w.dir, "queue"))
	if err != nil {
		w.tb.Fatal(err)
	}
	return list
}

// empty demands that nothing of the queue is left, anywhere.
func (w *world) empty() {
	w.tb.Helper()
	if r, f := w.records(), w.files(); len(r)+len(f) != 0 {
		w.tb.Errorf("left in the store: %q, as files: %q", r, f)
	}
	st := w.q.Stats()
	if st != (Stats{}) {
		w.tb.Errorf("stats of an empty queue: %+v", st)
	}
	if len(w.q.s.dests)+len(w.q.s.ready)+len(w.q.s.entries) != 0 {
		w.tb.Error("the schedule is not empty")
	}
	if w.q.reserved != (room{}) || w.q.files.Flights() != 0 || len(w.q.locks.held) != 0 {
		w.tb.Errorf("reserved %+v, %d files in flight, %d locks", w.q.reserved, w.q.files.Flights(), len(w.q.locks.held))
	}
}

// check gives what Check reports.
func (w *world) check() (found []string) {
	w.tb.Helper()
	if err := w.q.Check(ctx, func(s string) { found = append(found, s) }); err != nil {
		w.tb.Fatal(err)
	}
	return found
}

func (w *world) sound() {
	w.tb.Helper()
	if found := w.check(); len(found) != 0 {
		w.tb.Errorf("check: %q", found)
	}
}

func wantKind(tb fataler, err error, k errs.Kind, public string) {
	tb.Helper()
	if err == nil || errs.KindOf(err) != k || errs.Public(err) != public {
		tb.Errorf("got %v (%v, %q), want %v, %q", err, errs.KindOf(err), errs.Public(err), k, public)
	}
}

const big = blob.MaxInline + 1
