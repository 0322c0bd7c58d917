package packetbox

import (
	"bytes"
	"context"
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/kit/clocktest"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/store/pebble"
	"postern.email/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ctx = context.Background()

// anna, ben and carl are in three shards, dora in anna's.
var (
	anna = seal.AccountID{0, 1, 2, 3, 4, 5, 6, 7}
	ben  = seal.AccountID{0, 2, 2, 3, 4, 5, 6, 7}
	carl = seal.AccountID{0, 3, 2, 3, 4, 5, 6, 7}
	dora = seal.AccountID{0, 1, 9, 9, 9, 9, 9, 9}
)

var start = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// world is a store with mailboxes on one disk.
type world struct {
	tb      testing.TB
	fs      vfs.FS
	dir     string
	st      store.Store
	wrap    func(store.Store) store.Store
	root    *seal.Root
	b       *Boxes
	opt     Options
	clock   *clocktest.Clock
	deleted atomic.Int64
}

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
func withFS(fs vfs.FS) func(*world)              { return func(w *world) { w.fs = fs } }
func onDisk(w *world)                            { w.fs, w.dir = vfs.OS(), w.tb.TempDir() }
func runTwice(w *world)                          { w.wrap = storetest.Twice }
func twoLogs(w *world)                           { w.wrap = storetest.SplitLogs }

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
	o.Store, o.Root = w.st, w.root
	if o.Now == nil {
		o.Now = w.clock.Now
	}
	o.Deleted = func() { w.deleted.Add(1) }
	if w.b, err = Open(ctx, o); err != nil {
		w.tb.Fatal(err)
	}
}

func (w *world) close() {
	if w.b != nil {
		w.st.Close()
		w.b = nil
	}
}

func (w *world) reopen() {
	w.tb.Helper()
	w.close()
	w.open()
}

// linkKey is a link key's name.
func linkKey(n byte) (k [KeyLen]byte) {
	k[0], k[31] = n, 0xaa
	return k
}

// register gives an account one client.
func (w *world) register(id seal.AccountID, n byte) {
	w.tb.Helper()
	got, err := w.b.Register(ctx, id, linkKey(n))
	if err != nil || got != w.b.Mailbox(id) {
		w.tb.Fatal(err)
	}
}

// packet makes one with a number in its name, mark and payload; even ones are answers.
func (w *world) packet(to seal.AccountID, n uint32) Packet {
	p := Packet{Mailbox: w.b.Mailbox(to), Reply: n%2 == 0, Payload: make([]byte, PayloadLen)}
	binary.BigEndian.PutUint32(p.Name[:], n)
	if p.Reply {
		copy(p.Mark[:], "mark-canary")
		binary.BigEndian.PutUint32(p.Mark[12:], n)
	}
	copy(p.Payload, "payload-canary")
	binary.BigEndian.PutUint32(p.Payload[PayloadLen-4:], n)
	return p
}

// put puts packets, all of which must be taken.
func (w *world) put(to seal.AccountID, ns ...uint32) {
	w.tb.Helper()
	var list []Packet
	for _, n := range ns {
		list = append(list, w.packet(to, n))
	}
	for i, err := range w.b.Put(ctx, list) {
		if err != nil {
			w.tb.Fatalf("packet %d: %v", ns[i], err)
		}
	}
}

// next gives the numbers in the payloads of what waits, all of it, checked against the
// packets that were put.
func (w *world) next(id seal.AccountID) (ns []uint32) {
	w.tb.Helper()
	for after := uint64(0); ; {
		list, err := w.b.Next(ctx, id, after, 3)
		if err != nil {
			w.tb.Fatal(err)
		}
		if len(list) == 0 {
			return ns
		}
		for _, it := range list {
			if it.Number <= after || len(it.Payload) != PayloadLen {
				w.tb.Fatalf("number %d after %d, %d bytes", it.Number, after, len(it.Payload))
			}
			after = it.Number
			n := binary.BigEndian.Uint32(it.Payload[PayloadLen-4:])
			want := w.packet(id, n)
			if it.Reply != want.Reply || it.Mark != want.Mark || !bytes.Equal(it.Payload, want.Payload) {
				w.tb.Fatalf("packet %d came back otherwise", n)
			}
			ns = append(ns, n)
		}
	}
}

// sound demands that no invariant is broken, and that what is counted is there.
func (w *world) sound() {
	w.tb.Helper()
	if err := w.b.Check(ctx, func(f Finding) { w.tb.Errorf("check: %+v", f) }); err != nil {
		w.tb.Fatal(err)
	}
	var boxes, waiting int64
	err := w.b.each(ctx, func(id seal.AccountID) error {
		boxes++
		waiting += int64(len(w.next(id)))
		return nil
	})
	if err != nil {
		w.tb.Fatal(err)
	}
	if st := w.b.Stats(); st.Boxes != boxes || st.Waiting != waiting {
		w.tb.Errorf("%d mailboxes and %d packets are counted, %d and %d are there", st.Boxes, st.Waiting, boxes, waiting)
	}
}

// marks counts the names of packets that an account remembers.
func (w *world) marks(id seal.AccountID) (n int) {
	w.tb.Helper()
	err := w.st.View(ctx, id.Shard(), func(r store.Reader) error {
		n = 0
		return r.Scan(keyOf(id, kindMark), ends(id, kindMark), func(_, _ []byte) (bool, error) { n++; return true, nil })
	})
	if err != nil {
		w.tb.Fatal(err)
	}
	return n
}

func kindOf(err error) string {
	if err == nil {
		return "nil"
	}
	return errs.KindOf(err).Error()
}

// raw changes records behind the package's back.
func (w *world) raw(s store.Shard, fn func(store.Tx) error) {
	w.tb.Helper()
	if err := w.st.Update(ctx, s, fn); err != nil {
		w.tb.Fatal(err)
	}
}
