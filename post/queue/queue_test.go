package queue

import (
	"slices"
	"testing"
	"time"
)

// TestRoundTrip: what was queued comes out as it was, small and large, also after a restart,
// and is gone without a trace when its last recipient is settled.
func TestRoundTrip(t *testing.T) {
	for _, size := range []int{0, 1000, big, 300_000} {
		w := newWorld(t)
		m := mailOf(size, "a@x.example", "b@X.Example", "c@y.example")
		m.UTF8, m.RequireTLS, m.Verified = true, true, true
		if size > 0 {
			m.Tell, m.TellID = addr("who-canary@home.example"), "<1@home.example>"
		}
		id := w.put(m)
		for range 2 {
			dests, next := w.q.Due()
			slices.Sort(dests)
			if !slices.Equal(dests, []string{"x.example", "y.example"}) || !next.IsZero() {
				t.Fatalf("due: %q, %v", dests, next)
			}
			it := w.lease("x.example")
			want := Info{From: m.From, Tell: m.Tell, TellID: m.TellID, EightBit: true, UTF8: true, RequireTLS: true, Verified: true, Return: ReturnHeaders, EnvID: m.EnvID, Kind: Submission,
				Created: start, Expires: m.Expires, Shard: 5, Size: int64(len(textOf(m)))}
			if it.ID != id || it.Mail != want || it.Dest != "x.example" || len(it.Rcpts) != 2 {
				t.Fatalf("leased %+v", it)
			}
			for i, r := range it.Rcpts {
				rcpt := m.Rcpts[i]
				rcpt.Dest = "x.example"
				if r != (Waiting{N: i, Rcpt: rcpt, Since: start}) {
					t.Errorf("recipient %+v", r)
				}
			}
			b, err := w.q.Body(ctx, it)
			if got := body(t, b, err); got != textOf(m) {
				t.Fatalf("size %d: the body is %d bytes, want %d", size, len(got), len(textOf(m)))
			}
			w.sound()
			w.reopen() // the lease ends with the process
		}
		w.settle(w.lease("x.example"), []Result{{N: 0, Outcome: Delivered}, {N: 1, Outcome: Failed}})
		if w.deleted.Load() != 1 {
			t.Errorf("%d calls of Deleted, want 1", w.deleted.Load())
		}
		w.sound()
		w.settle(w.lease("y.example"), []Result{{N: 2, Outcome: Delivered}})
		w.empty()
		w.reopen()
		w.empty()
	}
}

// TestDeferred: a recipient that was put off comes back when it is due, with the reason, and
// the others of the same mail are not touched.
func TestDeferred(t *testing.T) {
	w := newWorld(t, runTwice)
	w.put(mailOf(100, "a@x.example", "b@x.example", "c@x.example"))
	it := w.lease("x.example")
	due := start.Add(5 * time.Minute)
	w.clock.Add(time.Second)
	w.settle(it, []Result{{N: 1, Outcome: Deferred, Due: due, Why: "451 try\r\nagain"}, {N: 0, Outcome: Delivered}})
	for range 2 {
		it = w.lease("x.example")
		if len(it.Rcpts) != 1 || it.Rcpts[0].N != 2 || it.Rcpts[0].Tries != 0 {
			t.Fatalf("the one without a result: %+v", it.Rcpts)
		}
		if dests, next := w.q.Due(); len(dests) != 0 || !next.IsZero() {
			t.Errorf("while it is leased: %q, %v", dests, next)
		}
		w.q.Release(it)
		w.reopen()
	}
	w.settle(w.lease("x.example"), []Result{{N: 2, Outcome: Delivered}})
	if dests, next := w.q.Due(); len(dests) != 0 || !next.Equal(due) {
		t.Fatalf("due %q, next %v, want %v", dests, next, due)
	}
	if items := w.q.Lease("x.example", 10); len(items) != 0 {
		t.Fatal("leased before it was due")
	}
	w.clock.Add(5 * time.Minute)
	it = w.lease("x.example")
	r := it.Rcpts[0]
	if len(it.Rcpts) != 1 || r.N != 1 || r.Tries != 1 || r.LastWhy != "451 try  again" || !r.Since.Equal(start.Add(time.Second)) {
		t.Fatalf("after it was put off: %+v", it.Rcpts)
	}
	w.settle(it, all(it, Delivered, time.Time{}, ""))
	w.empty()
}
