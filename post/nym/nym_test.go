package nym

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"postern.email/kit/clocktest"
	"postern.email/kit/disktest"
	"postern.email/kit/errs"
	"postern.email/kit/racetest"
	"postern.email/kit/vfs"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/store/pebble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	ctx   = context.Background()
	start = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
)

const fox, owl = "foxfoxfoxfoxfoxfoxfoxfoxfo", "owlowlowlowlowlowlowlowlow"

type world struct {
	tb    testing.TB
	fs    vfs.FS
	st    store.Store
	s     *Stock
	clock *clocktest.Clock
	names int
}

func newWorld(tb testing.TB, fs vfs.FS, names int) *world {
	tb.Helper()
	w := &world{tb: tb, fs: fs, clock: clocktest.New(start), names: names}
	w.open()
	tb.Cleanup(w.close)
	return w
}

func (w *world) open() {
	w.tb.Helper()
	root, err := seal.NewRoot(bytes.Repeat([]byte{7}, seal.KeyLen), nil)
	must(w.tb, err)
	w.st, err = pebble.Open(ctx, pebble.Options{FS: w.fs, Dir: "/store"})
	must(w.tb, err)
	w.s, err = Open(ctx, Options{Store: w.st, Root: root, MaxNames: w.names, Now: w.clock.Now})
	must(w.tb, err)
}

func (w *world) close() {
	if w.s != nil {
		w.st.Close()
		w.s = nil
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func wantKind(tb testing.TB, what string, err error, k errs.Kind) {
	tb.Helper()
	if err == nil || errs.KindOf(err) != k {
		tb.Errorf("%s: %v, want %v", what, err, k)
	}
}

// block is one with a name in its first bytes.
func block(name string, life time.Duration) Block {
	b := make([]byte, BlockLen)
	copy(b, name)
	return Block{b, start.Add(life)}
}

// blocks of a feed, which expire two days after start.
func blocks(feed, n int) (list []Block) {
	for i := range n {
		list = append(list, block(fmt.Sprintf("%d-%d", feed, i), 48*time.Hour))
	}
	return list
}

func (w *world) feed(name string, serial uint64, set byte, list []Block) (Held, error) {
	return w.s.Feed(ctx, name, Fed{Serial: serial, Hint: [HintLen]byte{set}, Key: [KeyLen]byte{set, 1}, Blocks: list})
}

// held fails unless the name has so many blocks.
func (w *world) held(name string, serial uint64, set byte, list []Block, want int) {
	w.tb.Helper()
	h, err := w.feed(name, serial, set, list)
	must(w.tb, err)
	if h.Blocks != want || h.Until.IsZero() != (want == 0) {
		w.tb.Errorf("%d blocks until %v, want %d", h.Blocks, h.Until, want)
	}
}

// send takes bodies for a name, with blocks of its first set that has enough.
func (w *world) send(name string, bodies ...string) error {
	sets, err := w.s.Sets(ctx, name)
	if err != nil {
		return err
	}
	var list [][]byte
	for _, b := range bodies {
		list = append(list, []byte(b))
	}
	for _, set := range sets {
		if set.Blocks < len(list) {
			continue
		}
		p, err := w.s.Prepare(name, set, list)
		if err != nil {
			return err
		}
		if err := w.st.Update(ctx, p.Shard(), p.Put); err != nil {
			return err
		}
		p.Committed()
		return nil
	}
	return errs.Full
}

// waiting is what is to be sent: "block: body".
func (w *world) waiting() string {
	w.tb.Helper()
	var out []string
	var last *Out
	for {
		list, err := w.s.Next(ctx, last, 2)
		must(w.tb, err)
		if len(list) == 0 {
			return strings.Join(out, ", ")
		}
		for _, o := range list {
			out = append(out, strings.TrimRight(string(o.Block), "\x00")+": "+string(o.Body))
		}
		last = list[len(list)-1]
	}
}

// TestFeedOnce: a feed that comes again, or late, adds nothing; a question changes nothing, and
// makes no name.
func TestFeedOnce(t *testing.T) {
	w := newWorld(t, vfs.NewCrashDisk(), 0)
	w.held(fox, 1, 1, nil, 0)
	w.held(fox, 2, 1, blocks(1, 4), 4)
	w.held(fox, 2, 1, blocks(1, 4), 4)
	w.held(fox, 1, 1, blocks(2, 4), 4)
	w.held(fox, 3, 1, blocks(3, 2), 6)
	w.held(fox, 9, 1, nil, 6)
	w.held(fox, 4, 2, blocks(4, 1), 7)
	w.held(owl, 1, 1, nil, 0)
	if st := w.s.Stats(); st.Names != 1 || st.Fed != 7 {
		t.Errorf("%+v", st)
	}
	_, err := w.feed(fox, 10, 1, []Block{{Raw: make([]byte, BlockLen-1), Expires: start.Add(48 * time.Hour)}})
	wantKind(t, "a short block", err, errs.Invalid)
	_, err = w.feed(fox, 10, 1, blocks(5, MaxFeed+1))
	wantKind(t, "many blocks", err, errs.Invalid)
}

// TestBounds: of blocks, sets and names, and of when a block expires.
func TestBounds(t *testing.T) {
	w := newWorld(t, vfs.NewCrashDisk(), 2)
	for i := range 5 {
		w.held(fox, uint64(i+1), 1, blocks(i, 15), min(MaxBlocks, 15*(i+1)))
	}
	for i := range MaxSets + 1 {
		w.held(owl, uint64(i+1), byte(i), blocks(i, 1), min(i+1, MaxSets))
	}
	_, err := w.feed("another", 1, 1, blocks(1, 1))
	wantKind(t, "a third name", err, errs.Busy)
	w.held(owl, 100, 1, []Block{block("early", LeastLife-time.Second), block("late", MostLife+time.Second)}, MaxSets)
	w.held(owl, 101, 1, []Block{block("short", LeastLife), block("long", MostLife)}, MaxSets+2)
}

// TestNewNames: many new ones at once are put off, while those that are there are fed.
func TestNewNames(t *testing.T) {
	w := newWorld(t, vfs.NewCrashDisk(), 0)
	n := 0
	for ; ; n++ {
		if _, err := w.feed(fmt.Sprint("name ", n), 1, 1, blocks(1, 1)); err != nil {
			wantKind(t, "too many", err, errs.Busy)
			break
		}
	}
	if n != newBurst {
		t.Errorf("%d new names", n)
	}
	w.held("name 0", 2, 1, blocks(2, 1), 2)
}

// TestPut: all that belongs together is taken or none of it, each with a block of its own, those
// first that expire first.
func TestPut(t *testing.T) {
	w := newWorld(t, vfs.NewCrashDisk(), 0)
	if err := w.send(fox, "x"); errs.KindOf(err) != errs.NotFound {
		t.Errorf("nobody's: %v", err)
	}
	w.held(fox, 1, 1, []Block{block("b", 40*time.Hour), block("c", 48*time.Hour), block("a", 30*time.Hour)}, 3)
	must(t, w.send(fox, "1", "2"))
	if got := w.waiting(); got != "b: 2, a: 1" {
		t.Error(got)
	}
	if err := w.send(fox, "3", "4"); !errors.Is(err, errs.Full) {
		t.Error(err)
	}
	sets, err := w.s.Sets(ctx, fox)
	must(t, err)
	p, err := w.s.Prepare(fox, sets[0], [][]byte{{5}})
	must(t, err)
	q, err := w.s.Prepare(fox, sets[0], [][]byte{{6}})
	must(t, err)
	must(t, w.st.Update(ctx, p.Shard(), p.Put))
	wantKind(t, "the block that another took", w.st.Update(ctx, q.Shard(), q.Put), errs.Full)
	w.held(fox, 1, 1, blocks(1, 3), 0)
	if err := w.send(fox, "7"); !errors.Is(err, errs.Full) {
		t.Errorf("used up, and still known: %v", err)
	}
	for _, bad := range [][][]byte{make([][]byte, MaxBlocks+1), {make([]byte, maxBody+1)}} {
		_, err := w.s.Prepare(fox, sets[0], bad)
		wantKind(t, "too large", err, errs.TooLarge)
	}
}

// TestSent: what the node has goes with its block, and nothing else.
func TestSent(t *testing.T) {
	w := newWorld(t, vfs.NewCrashDisk(), 0)
	w.held(fox, 1, 1, blocks(1, 3), 3)
	must(t, w.send(fox, "1", "2"))
	list, err := w.s.Next(ctx, nil, 1)
	must(t, err)
	must(t, w.s.Sent(ctx, list[0], false))
	must(t, w.s.Sent(ctx, list[0], true)) // again, as after a crash
	if got := w.waiting(); got != "1-1: 2" {
		t.Error(got)
	}
	must(t, w.send(fox, "3"))
	if got := w.waiting(); got != "1-1: 2, 1-2: 3" {
		t.Error(got)
	}
}

// TestExpires: a block is not used in its last hour, and a name dies with its last block; what was
// taken before is still to be sent, and the name may begin anew beside it.
func TestExpires(t *testing.T) {
	w := newWorld(t, vfs.NewCrashDisk(), 0)
	w.held(fox, 1, 1, []Block{block("a", 3*time.Hour), block("b", 5*time.Hour), block("c", 5*time.Hour)}, 3)
	must(t, w.send(fox, "1"))
	must(t, w.send(fox, "2"))
	w.clock.Add(4*time.Hour + time.Second)
	if err := w.send(fox, "3"); !errors.Is(err, errs.Full) {
		t.Error(err)
	}
	must(t, w.s.sweep(ctx))
	if st := w.s.Stats(); st.Names != 1 || st.Expired != 1 {
		t.Errorf("%+v", st)
	}
	w.clock.Add(time.Hour)
	if err := w.send(fox, "4"); errs.KindOf(err) != errs.NotFound {
		t.Errorf("the name should be dead: %v", err)
	}
	must(t, w.s.sweep(ctx))
	if st := w.s.Stats(); st.Names != 0 {
		t.Errorf("%+v", st)
	}
	w.held(fox, 1, 1, blocks(9, 2), 2)
	must(t, w.send(fox, "5"))
	if got := w.waiting(); got != "a: 1, b: 2, 9-0: 5" {
		t.Error(got)
	}
}

// TestRun: the sweep comes by itself.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, vfs.NewCrashDisk(), 0)
		w.held(fox, 1, 1, blocks(1, 1), 1)
		w.clock.Add(49 * time.Hour)
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- w.s.Run(ctx) }()
		synctest.Wait()
		if n := w.s.Stats().Names; n != 0 {
			t.Errorf("%d names", n)
		}
		cancel()
		must(t, <-done)
		w.close()
	})
}

// TestCheck: what cannot be read is named and in nobody's way; what can is printed with the node key.
func TestCheck(t *testing.T) {
	w := newWorld(t, vfs.NewCrashDisk(), 0)
	w.held(fox, 1, 1, blocks(1, 3), 3)
	must(t, w.send(fox, "1"))
	must(t, w.send(fox, "2"))
	found := func() (n int) {
		must(t, w.s.Check(ctx, func(string) { n++ }))
		return n
	}
	if n := found(); n != 0 {
		t.Errorf("%d findings in a sound store", n)
	}
	var lines []string
	must(t, w.s.Reveal(ctx, func(p, l string) { lines = append(lines, p+": "+l) }))
	if len(lines) != 3 || !strings.Contains(lines[0], "mix-reply: a reply address with 1 reply blocks in 1 sets, the last good until 2026-11-22") {
		t.Error(lines)
	}
	p := w.s.place(fox)
	must(t, w.st.Update(ctx, p.shard, func(tx store.Tx) error {
		return errors.Join(tx.Set(p.numbered(kindOut, 0), []byte("x")), tx.Set(p.key(kindStock), []byte("y")))
	}))
	if n := found(); n != 2 {
		t.Errorf("%d findings", n)
	}
	if got := w.waiting(); got != "1-1: 2" {
		t.Error(got)
	}
	_, err := w.feed(fox, 2, 1, blocks(2, 1))
	wantKind(t, "damaged", err, errs.Corrupt)
	must(t, w.s.sweep(ctx))
}

// TestCrash cuts a session before and after every sync: what was acknowledged is there as a whole,
// nothing is there in part, and no block is there for two bodies.
func TestCrash(t *testing.T) {
	every := int64(1)
	if racetest.Enabled {
		every = 7
	}
	if cuts := disktest.Cuts(every, func(n int64, after bool, u vfs.Unsynced) bool { return crashAt(t, n, after, u) }); cuts < 8 {
		t.Fatalf("only %d cuts", cuts)
	}
}

func crashAt(t *testing.T, n int64, after bool, u vfs.Unsynced) bool {
	disk := vfs.NewCrashDisk()
	var acked atomic.Int64
	at := int64(-1)
	cut := vfs.CutAt(disk, n, after, u, uint64(n), func() { at = acked.Load() })
	w := newWorld(t, cut.FS, 0)
	defer w.close()
	picture := func(w *world) string {
		h, err := w.feed(fox, 0, 1, nil)
		must(t, err)
		return fmt.Sprintf("%d blocks, waiting %s, %d names", h.Blocks, w.waiting(), w.s.Stats().Names)
	}
	pictures := []string{picture(w)}
	for _, step := range []func() error{
		func() error { _, err := w.feed(fox, 1, 1, blocks(1, 4)); return err },
		func() error { return w.send(fox, "1", "2") },
		func() error {
			list, err := w.s.Next(ctx, nil, 1)
			must(t, err)
			return w.s.Sent(ctx, list[0], false)
		},
		func() error { _, err := w.feed(fox, 2, 1, blocks(2, 4)); return err },
		func() error { return w.send(fox, "3") },
	} {
		must(t, step())
		acked.Add(1)
		pictures = append(pictures, picture(w))
	}
	crashed := cut.Disk()
	if crashed == nil {
		return false
	}
	next := newWorld(t, crashed, 0)
	defer next.close()
	got := picture(next)
	if got != pictures[at] && (at+1 >= int64(len(pictures)) || got != pictures[at+1]) {
		t.Fatalf("cut %d (after %v, %v): %d steps were acknowledged, and the disk shows %s, want %s", n, after, u, at, got, pictures[at])
	}
	return true
}

// FuzzDecode: what is read is written again in the same bytes.
func FuzzDecode(f *testing.F) {
	st := &stock{serial: 3, sets: []blockSet{{hint: [HintLen]byte{1}}}}
	st.add(&st.sets[0], 9)
	st.add(&st.sets[0], 7)
	f.Add(st.encode())
	f.Add((&stock{}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if st, err := decode(b); err == nil && !bytes.Equal(st.encode(), b) {
			t.Errorf("%+v", st)
		}
	})
}
