package queue

import (
	"crypto/sha256"
	"fmt"
	"sort"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern.email/kit/racetest"
	"postern.email/kit/vfs"
	"postern.email/store"
	"postern.email/store/storetest"
)

// picture is all that an operator can see, apart from what is random.
func picture(tb testing.TB, w *world) string {
	tb.Helper()
	page, _, err := w.q.List(ctx, Filter{}, "", MaxPage)
	if err != nil {
		tb.Fatal(err)
	}
	var mails []string
	for _, l := range page {
		b, err := w.q.Export(ctx, l.ID)
		text := fmt.Sprintf("%s %s %x damaged=%q\n", l.Mail.From, l.Mail.Kind, sha256.Sum256([]byte(body(tb, b, err))), l.Damaged)
		for _, r := range l.Rcpts {
			text += fmt.Sprintf(" %d %s tries=%d why=%q held=%v due=%v\n", r.N, r.To, r.Tries, r.LastWhy, r.Held, r.Due)
		}
		mails = append(mails, text)
	}
	sort.Strings(mails)
	return strings.Join(mails, "")
}

// script is a day of a queue in steps; each is acknowledged when it returns.
func script(w *world) []func() error {
	put := func(size int, to ...string) func() error {
		return func() error { _, err := w.tryPut(mailOf(size, to...)); return err }
	}
	first := func(dest string) *Item {
		items := w.q.Lease(dest, 1)
		if len(items) != 1 {
			w.tb.Fatalf("nothing is due at %s", dest)
		}
		return items[0]
	}
	settle := func(dest string, o Outcome) func() error {
		return func() error {
			it := first(dest)
			return w.q.Settle(ctx, it, all(it, o, start.Add(time.Hour), "451 later"), nil)
		}
	}
	return []func() error{
		put(100, "a@x.example"),
		put(big, "b@y.example", "c@z.example"),
		settle("y.example", Delivered),
		put(200_000, "d@large.example"),
		settle("x.example", Deferred),
		func() error { _, err := w.q.Hold(ctx, Filter{Dest: "z.example"}); return err },
		settle("large.example", Delivered),
		func() error { _, err := w.q.Unhold(ctx, Filter{}); return err },
		func() error { // the last recipient fails: its mail goes, the report comes, together
			it := first("z.example")
			m := mailOf(big, "sender@here.example")
			m.Kind, m.Shard = Report, it.Mail.Shard
			e, err := w.q.Prepare(ctx, m)
			if err != nil {
				return err
			}
			defer e.Discard()
			if err := w.q.Settle(ctx, it, all(it, Failed, time.Time{}, ""), e.Put); err != nil {
				return err
			}
			e.Committed()
			return nil
		},
		put(50, "e@x.example"),
		func() error {
			page, _, err := w.q.List(ctx, Filter{Dest: "x.example"}, "", 1)
			if err != nil || len(page) != 1 {
				return fmt.Errorf("%d mails, %w", len(page), err)
			}
			return w.q.Drop(ctx, page[0].ID)
		},
	}
}

// TestCrash cuts the script before and after every sync, in every way a disk can forget what
// was not synced. What was acknowledged is there, what was settled is not, nothing is there
// twice, and each step is there as a whole or not at all.
func TestCrash(t *testing.T) {
	u := vfs.Dropped
	cuts := 0
	for n, more := int64(1), true; more; n++ {
		for _, after := range []bool{false, true} {
			u = (u + 1) % 3
			if racetest.Enabled && cuts > 0 && (n%7 != 0 || after) && more {
				cuts++ // without the detector every one is tried
				continue
			}
			if crashAt(t, n, after, u) {
				cuts++
			} else {
				more = false
			}
		}
	}
	if cuts < 40 {
		t.Fatalf("only %d cuts: the script did not reach the disk", cuts)
	}
}

func crashAt(t *testing.T, n int64, after bool, u vfs.Unsynced) bool {
	disk := vfs.NewCrashDisk()
	var acked atomic.Int64
	at := int64(-1)
	cut := vfs.CutAt(disk, n, after, u, uint64(n), func() { at = acked.Load() })
	w := newWorld(t, withFS(cut.FS))
	defer w.close()
	early := cut.Disk() != nil // the cut came before there was a queue
	pictures := []string{picture(t, w)}
	for i, step := range script(w) {
		w.clock.Add(time.Second)
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		acked.Add(1)
		pictures = append(pictures, picture(t, w))
	}
	w.sound()
	crashed := cut.Disk()
	if crashed == nil || early {
		return crashed != nil
	}
	next := newWorld(t, withFS(crashed))
	defer next.close()
	got := picture(t, next)
	if got != pictures[at] && (at+1 >= int64(len(pictures)) || got != pictures[at+1]) {
		t.Fatalf("cut %d (after %v, %v): %d steps were acknowledged, and the disk shows\n%s\nwant\n%s", n, after, u, at, got, pictures[at])
	}
	if err := next.q.sweep(ctx); err != nil {
		t.Fatal(err)
	}
	next.sound()
	next.put(mailOf(big, "z@new.example"))
	it := next.lease("new.example")
	next.settle(it, all(it, Delivered, time.Time{}, ""))
	if t.Failed() {
		t.Fatalf("after cut %d (after %v, %v)", n, after, u)
	}
	return true
}

// TestInDoubt: after a failed sync nobody knows what was committed: the file stays, and the
// next start finds the mail or sweeps the file.
func TestInDoubt(t *testing.T) {
	disk := vfs.NewCrashDisk()
	faults := vfs.NewFaults(disk)
	w := newWorld(t, withFS(faults))
	e, err := w.q.Prepare(ctx, mailOf(big, "a@x.example"))
	if err != nil {
		t.Fatal(err)
	}
	faults.FailFrom(vfs.OpSync, 1, fmt.Errorf("the disk is gone"))
	if err := w.st.Update(ctx, e.Shard(), e.Put); err == nil {
		t.Fatal("a failed sync was acknowledged")
	}
	e.Discard()
	if n := len(w.files()); n != 1 {
		t.Fatalf("%d files, want the one that may be needed", n)
	}
	if len(w.q.s.entries) != 0 || w.q.reserved != (room{}) {
		t.Error("a mail whose commit is in doubt entered the schedule")
	}
	for _, mode := range []vfs.Unsynced{vfs.Kept, vfs.Dropped} {
		next := newWorld(t, withFS(disk.Clone(mode, 1)))
		if err := next.q.sweep(ctx); err != nil {
			t.Fatal(err)
		}
		if got, want := len(next.files()), next.q.Stats().Mails; got != want {
			t.Errorf("%v: %d files for %d mails", mode, got, want)
		}
		next.sound()
	}
}

// TestHalfSuccess: whatever becomes of the transaction, Discard leaves exactly what was
// committed.
func TestHalfSuccess(t *testing.T) {
	for _, size := range []int{100, big} {
		w := newWorld(t)
		// Prepared only.
		e, err := w.q.Prepare(ctx, mailOf(size, "a@x.example"))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.q.sweep(ctx); err != nil { // in flight: left alone
			t.Fatal(err)
		}
		if size == big && len(w.files()) != 1 {
			t.Fatal("the sweep took a file that is being prepared")
		}
		e.Discard()
		e.Discard()
		e.Committed() // too late: nothing was committed
		w.empty()
		// The transaction failed after Put.
		e, err = w.q.Prepare(ctx, mailOf(size, "a@x.example"))
		if err != nil {
			t.Fatal(err)
		}
		err = w.st.Update(ctx, e.Shard(), func(tx store.Tx) error {
			if err := e.Put(tx); err != nil {
				return err
			}
			return errNo
		})
		if err != errNo {
			t.Fatal(err)
		}
		e.Discard()
		w.empty()
		// It was committed, run twice, and nobody said so.
		e, err = w.q.Prepare(ctx, mailOf(size, "a@x.example"))
		if err != nil {
			t.Fatal(err)
		}
		if err := storetest.Twice(w.st).Update(ctx, e.Shard(), e.Put); err != nil {
			t.Fatal(err)
		}
		e.Discard()
		it := w.lease("x.example")
		if it.ID != e.ID() {
			t.Fatal("another mail")
		}
		b, err := w.q.Body(ctx, it)
		if got := body(t, b, err); got != textOf(mailOf(size, "a@x.example")) {
			t.Error("the body is another")
		}
		w.sound()
		w.settle(it, all(it, Delivered, time.Time{}, ""))
		w.empty()
	}
}
