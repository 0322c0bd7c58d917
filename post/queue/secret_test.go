package queue

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/post/blob"
	"postern.email/store"
)

// search counts the files under the world's directory that hold one of pieces.
func search(tb testing.TB, w *world, pieces ...[]byte) (n int) {
	tb.Helper()
	for _, dir := range []string{"store", "queue"} {
		dir = w.fs.PathJoin(w.dir, dir)
		names, err := w.fs.List(dir)
		if err != nil {
			tb.Fatal(err)
		}
		for _, name := range names {
			b, err := vfs.ReadFile(w.fs, w.fs.PathJoin(dir, name))
			if err != nil {
				continue // gone since
			}
			for _, p := range pieces {
				if bytes.Contains(b, p) {
					n++
				}
			}
		}
	}
	return n
}

// TestNothingInTheClear: no word of a mail, of its people, of its destinations or of why it
// waits is in any file.
func TestNothingInTheClear(t *testing.T) {
	w := newWorld(t)
	for _, size := range []int{1000, big} {
		w.put(mailOf(size, "rcpt-canary@dest-canary.example"))
	}
	for _, it := range w.q.Lease("dest-canary.example", 10) {
		w.settle(it, all(it, Deferred, start.Add(time.Hour), "why-canary"))
	}
	w.close() // so that all is in the files
	if n := search(t, w, []byte("canary"), []byte("CANARY"), []byte("here.example")); n != 0 {
		t.Errorf("in the clear in %d places", n)
	}
	if n := search(t, w, []byte{letter, kindRcpt}); n == 0 {
		t.Error("the records are not where the search looks")
	}
}

// TestLengthsTellNothing: records of short and long addresses have one length, and mails of
// nearly one size too.
func TestLengthsTellNothing(t *testing.T) {
	w := newWorld(t)
	lengths := func(m Mail) string {
		e, err := w.q.Prepare(ctx, m)
		if err != nil {
			t.Fatal(err)
		}
		defer e.Discard()
		return fmt.Sprint(len(e.meta), len(e.rows[0]), len(e.body))
	}
	a, b := mailOf(10_000, "a@b.example"), mailOf(10_020, "averylongname@averylongdomain.example")
	b.From = addr("s@x.example")
	a.Rcpts[0].OriginalAddress, b.Rcpts[0].OriginalAddress = "", ""
	if x, y := lengths(a), lengths(b); x != y {
		t.Errorf("lengths %s and %s", x, y)
	}
}

// TestDeletedBytesLeave: the bytes of a sent mail are in no file after the next purge, which
// Deleted asks for.
func TestDeletedBytesLeave(t *testing.T) {
	w := newWorld(t)
	small := w.put(mailOf(1000, "a@x.example"))
	large := w.put(mailOf(big, "a@x.example"))
	pieces := [][]byte{w.file(large)[100:140]}
	for _, k := range [][]byte{mailKey(small), rcptKey(small, 0), textKey(small), mailKey(large)} {
		err := w.st.View(ctx, 5, func(r store.Reader) error {
			v, err := r.Get(k)
			if err == nil {
				pieces = append(pieces, bytes.Clone(v[len(v)-40:]))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := search(t, w, pieces...); n < len(pieces) {
		t.Fatalf("found in %d places before: the search is blind", n)
	}
	for _, it := range w.q.Lease("x.example", 10) {
		w.settle(it, all(it, Delivered, time.Time{}, ""))
	}
	if w.deleted.Load() != 2 {
		t.Errorf("%d calls of Deleted, want 2", w.deleted.Load())
	}
	if err := w.st.Purge(ctx); err != nil {
		t.Fatal(err)
	}
	if n := search(t, w, pieces...); n != 0 {
		t.Errorf("%d places hold bytes of sent mails", n)
	}
}

// TestRunSweeps: a file that no mail names is gone at the start, and later ones after
// SweepEvery; the files of mails stay, of damaged ones too.
func TestRunSweeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.put(mailOf(big, "a@x.example"))
		hurt := w.put(mailOf(big, "a@y.example"))
		bodyOnly := w.put(mailOf(big, "a@z.example"))
		w.raw(5, flip(mailKey(hurt)))
		w.raw(5, func(tx store.Tx) error { return tx.Delete(mailKey(bodyOnly)) })
		orphan := func(n byte) {
			f, err := w.fs.Create(w.path(ID{n}), vfs.Unspecified)
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
		orphan(1)
		ctx, cancel := context.WithCancel(ctx)
		ran := make(chan error)
		go func() { ran <- w.q.Run(ctx) }()
		synctest.Wait()
		if n := len(w.files()); n != 3 {
			t.Errorf("%d files after the start, want 3", n)
		}
		orphan(2)
		time.Sleep(DefaultSweepEvery - time.Minute)
		if n := len(w.files()); n != 4 {
			t.Errorf("%d files before SweepEvery, want 4", n)
		}
		time.Sleep(2 * time.Minute)
		if n := len(w.files()); n != 3 {
			t.Errorf("%d files after SweepEvery, want 3", n)
		}
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		w.close()
	})
}

// TestManyHands: agents, users and an operator at once; every mail is sent or dropped exactly
// once, and nothing is left.
func TestManyHands(t *testing.T) {
	w := newWorld(t)
	const senders, each = 4, 40
	var mu sync.Mutex
	sent, dropped := map[ID]int{}, map[ID]bool{}
	var ids []ID
	done := make(chan struct{})
	var agents, users sync.WaitGroup
	for g := range senders {
		users.Go(func() {
			for i := range each {
				size := 100
				if i%10 == 0 {
					size = big
				}
				m := mailOf(size, "a@x.example", fmt.Sprintf("b@y%d.example", i%3))
				m.Shard = store.Shard(g)
				id, err := w.tryPut(m)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				ids = append(ids, id)
				mu.Unlock()
			}
		})
	}
	step := func() (busy bool) {
		dests, _ := w.q.Due()
		for i, d := range dests {
			for _, it := range w.q.Lease(d, 3) {
				busy = true
				b, err := w.q.Body(ctx, it)
				if err == nil {
					b.Close()
				}
				rs := all(it, Delivered, time.Time{}, "")
				if (i+len(it.Rcpts)+it.Rcpts[0].Tries)%3 == 1 {
					rs = all(it, Deferred, start, "once more")
				}
				err = w.q.Settle(ctx, it, rs, nil)
				if err == nil && rs[0].Outcome == Delivered {
					mu.Lock()
					sent[it.ID] += len(rs)
					mu.Unlock()
				} else if err != nil && errs.KindOf(err) != errs.NotFound {
					t.Error(err)
				}
				w.q.Release(it)
			}
		}
		return busy
	}
	for range 4 {
		agents.Go(func() {
			for {
				busy := step()
				select {
				case <-done:
					if !busy {
						return
					}
				default:
				}
			}
		})
	}
	agents.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if _, err := w.q.Hold(ctx, Filter{Dest: "y1.example"}); err != nil {
				t.Error(err)
			}
			page, _, err := w.q.List(ctx, Filter{}, "", 5)
			if err != nil {
				t.Error(err)
			}
			if _, err := w.q.Unhold(ctx, Filter{}); err != nil {
				t.Error(err)
			}
			if len(page) == 5 {
				if err := w.q.Drop(ctx, page[4].ID); err == nil {
					mu.Lock()
					dropped[page[4].ID] = true
					mu.Unlock()
				}
			}
			w.q.Stats()
		}
	})
	users.Wait()
	close(done)
	agents.Wait()
	for step() {
	}
	for _, id := range ids {
		if n := sent[id]; n != 2 && !dropped[id] || n > 2 {
			t.Errorf("mail %s reached %d recipients, want 2", id, n)
		}
	}
	w.empty()
	w.sound()
}

// TestLocksGiveUp: who waits for a mail that somebody else changes gives up with its context.
func TestLocksGiveUp(t *testing.T) {
	var l locks
	unlock, err := l.acquire(ctx, ID{1})
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.acquire(ctx, ID{2})
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = l.acquire(ended, ID{1})
	wantKind(t, err, errs.Canceled, "canceled")
	got := make(chan func())
	go func() {
		u, err := l.acquire(ctx, ID{1})
		if err != nil {
			t.Error(err)
		}
		got <- u
	}()
	select {
	case <-got:
		t.Error("two have one lock")
	default:
	}
	unlock()
	(<-got)()
	other()
	if len(l.held) != 0 {
		t.Errorf("%d locks are left", len(l.held))
	}
}

// TestTextsArePublic: no error text of this package holds anything private.
func TestTextsArePublic(t *testing.T) {
	w := newWorld(t)
	m := mailOf(10, "rcpt-canary@x.example")
	id := w.put(m)
	_, err := w.q.Show(ctx, ID{1})
	m.Rcpts[0].To.Local = strings.Repeat("canary", 20)
	_, err2 := w.q.Prepare(ctx, m)
	for _, e := range []error{err, err2} {
		if e == nil || strings.Contains(errs.Public(e), "canary") || strings.Contains(errs.Public(e), id.String()) {
			t.Errorf("%v", e)
		}
	}
	if len(blob.Name(id).String()) != 32 {
		t.Error("the name of a file")
	}
}
