package queue

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/store"
)

// TestHold: what is held is not handed out, also when it expires and after a restart, while
// the rest of the same mail goes on.
func TestHold(t *testing.T) {
	w := newWorld(t, runTwice)
	id := w.put(mailOf(100, "a@x.example", "b@y.example"))
	hold := func(f Filter, want int, do func(context.Context, Filter) (int, error)) {
		t.Helper()
		if n, err := do(ctx, f); n != want || err != nil {
			t.Fatalf("%+v: %d, %v, want %d", f, n, err, want)
		}
	}
	hold(Filter{Dest: "x.example"}, 1, w.q.Hold)
	hold(Filter{}, 1, w.q.Hold)
	hold(Filter{ID: id}, 0, w.q.Hold)
	hold(Filter{Dest: "y.example"}, 1, w.q.Unhold)
	for range 2 {
		if dests, next := w.q.Due(); !slices.Equal(dests, []string{"y.example"}) || !next.IsZero() {
			t.Fatalf("due %q, %v", dests, next)
		}
		l, err := w.q.Show(ctx, id)
		if err != nil || !l.Rcpts[0].Held || l.Rcpts[1].Held {
			t.Fatalf("%+v, %v", l, err)
		}
		w.reopen()
	}
	w.clock.Add(1000 * time.Hour)
	if n, err := w.q.Retry(ctx, Filter{Dest: "x.example"}); n != 0 || err != nil {
		t.Errorf("retry of what is held: %d, %v", n, err)
	}
	if items := w.q.Lease("x.example", 1); len(items) != 0 {
		t.Error("an expired mail is handed out although it is held")
	}
	it := w.lease("y.example")
	w.settle(it, all(it, Delivered, time.Time{}, ""))
	if page, _, err := w.q.List(ctx, Filter{Held: true}, "", 10); err != nil || len(page) != 1 {
		t.Errorf("%d mails with held recipients, %v", len(page), err)
	}
	hold(Filter{Held: true}, 1, w.q.Unhold)
	it = w.lease("x.example")
	w.settle(it, all(it, Failed, time.Time{}, ""))
	w.empty()
	_, err := w.q.Hold(ctx, Filter{ID: id})
	wantKind(t, err, errs.NotFound, "no such mail in the queue")
	w.put(mailOf(100, "a@x.example"))
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = w.q.Hold(ended, Filter{})
	wantKind(t, err, errs.Canceled, "canceled")
}

// TestHoldWhileLeased: the delivery goes on, and what it puts off is held.
func TestHoldWhileLeased(t *testing.T) {
	w := newWorld(t)
	w.put(mailOf(100, "a@x.example", "b@x.example"))
	it := w.lease("x.example")
	if n, err := w.q.Hold(ctx, Filter{}); n != 2 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	w.settle(it, []Result{{N: 0, Outcome: Delivered}, {N: 1, Outcome: Deferred, Due: start, Why: "later"}})
	for range 2 {
		if dests, _ := w.q.Due(); len(dests) != 0 {
			t.Errorf("due: %q", dests)
		}
		if st := w.q.Stats(); st.Held != 1 || st.Recipients != 1 {
			t.Errorf("stats %+v", st)
		}
		w.reopen()
	}
}

// TestRetry: what was put off is due at once, by mail, by destination, by sender, or all.
func TestRetry(t *testing.T) {
	w := newWorld(t)
	var ids []ID
	for i := range 3 {
		m := mailOf(100, fmt.Sprintf("a@x%d.example", i))
		m.From = addr(fmt.Sprintf("s%d@here.example", i))
		ids = append(ids, w.put(m))
	}
	putOff := func() {
		dests, _ := w.q.Due()
		for _, d := range dests {
			it := w.lease(d)
			w.settle(it, all(it, Deferred, w.clock.Now().Add(time.Hour), "later"))
		}
	}
	for _, c := range []struct {
		f    Filter
		want []string
	}{
		{Filter{ID: ids[1]}, []string{"x1.example"}},
		{Filter{Dest: "x0.example"}, []string{"x0.example"}},
		{Filter{Sender: mail.Address{Local: "S2", Domain: "HERE.example"}}, []string{"x2.example"}},
		{Filter{}, []string{"x0.example", "x1.example", "x2.example"}},
		{Filter{Dest: "none.example"}, nil},
		{Filter{ID: ids[1], Dest: "x0.example"}, nil},
	} {
		putOff()
		if n, err := w.q.Retry(ctx, c.f); n != len(c.want) || err != nil {
			t.Errorf("%+v: %d, %v", c.f, n, err)
		}
		if dests, _ := w.q.Due(); !slices.Equal(dests, c.want) {
			t.Errorf("%+v: due %q, want %q", c.f, dests, c.want)
		}
	}
	putOff()
	_, err := w.q.Retry(ctx, Filter{ID: ID{1}})
	wantKind(t, err, errs.NotFound, "no such mail in the queue")
	w.reopen()
	if dests, next := w.q.Due(); len(dests) != 0 || !next.Equal(start.Add(time.Hour)) {
		t.Errorf("after a restart: %q, %v", dests, next)
	}
}

// TestDrop: a mail goes without a trace, also while it is being delivered; the result of that
// delivery is told that it came too late.
func TestDrop(t *testing.T) {
	w := newWorld(t, runTwice)
	for _, size := range []int{100, big} {
		id := w.put(mailOf(size, "a@x.example", "b@y.example"))
		it := w.lease("x.example")
		before := w.deleted.Load()
		if err := w.q.Drop(ctx, id); err != nil {
			t.Fatal(err)
		}
		if w.deleted.Load() != before+1 {
			t.Error("Deleted was not called")
		}
		_, err := w.q.Body(ctx, it)
		wantKind(t, err, errs.NotFound, "not found")
		ran := false
		err = w.q.Settle(ctx, it, all(it, Failed, time.Time{}, ""), func(store.Tx) error { ran = true; return nil })
		wantKind(t, err, errs.NotFound, "the mail was dropped")
		if ran {
			t.Error("a report on a dropped mail was written")
		}
		w.q.Release(it)
		w.empty()
		_, err = w.q.Export(ctx, id)
		wantKind(t, err, errs.NotFound, "no such mail in the queue")
		_, err = w.q.Show(ctx, id)
		wantKind(t, err, errs.NotFound, "no such mail in the queue")
	}
}

// TestList: in pages, oldest first, by destination and sender.
func TestList(t *testing.T) {
	w := newWorld(t)
	var ids []ID
	for i := range 25 {
		m := mailOf(10, fmt.Sprintf("a@x%d.example", i%2))
		m.From = addr(fmt.Sprintf("s%d@here.example", i%5))
		m.Shard = store.Shard(i % 3)
		ids = append(ids, w.put(m))
		w.clock.Add(time.Second)
	}
	list := func(f Filter, limit int) (got []ID) {
		t.Helper()
		for cursor := ""; ; {
			page, next, err := w.q.List(ctx, f, cursor, limit)
			if err != nil || len(page) > limit {
				t.Fatalf("%d mails, %v", len(page), err)
			}
			for _, l := range page {
				got = append(got, l.ID)
			}
			if cursor = next; cursor == "" {
				return got
			}
		}
	}
	every := func(n, from int) (out []ID) {
		for i := from; i < len(ids); i += n {
			out = append(out, ids[i])
		}
		return out
	}
	for _, limit := range []int{1, 4, 24, 25, 100} {
		if got := list(Filter{}, limit); !slices.Equal(got, ids) {
			t.Errorf("pages of %d: %d mails", limit, len(got))
		}
		if got := list(Filter{Dest: "x1.example"}, limit); !slices.Equal(got, every(2, 1)) {
			t.Errorf("by destination, pages of %d: %d mails", limit, len(got))
		}
		if got := list(Filter{Sender: addr("s3@here.example")}, limit); !slices.Equal(got, every(5, 3)) {
			t.Errorf("by sender, pages of %d: %d mails", limit, len(got))
		}
		if got := list(Filter{ID: ids[7]}, limit); !slices.Equal(got, ids[7:8]) {
			t.Errorf("by number: %d mails", len(got))
		}
	}
	if got := list(Filter{Damaged: true}, 10); len(got) != 0 {
		t.Errorf("%d damaged mails", len(got))
	}
	fill(t, w, MaxPage)
	if page, next, err := w.q.List(ctx, Filter{}, "", 10*MaxPage); len(page) != MaxPage || next == "" || err != nil {
		t.Errorf("a page of %d mails, %q, %v", len(page), next, err)
	}
	if page, _, err := w.q.List(ctx, Filter{}, "", 0); len(page) != 1 || err != nil {
		t.Errorf("the smallest page has %d mails, %v", len(page), err)
	}
	for _, c := range []string{"x", "1-x", "-5-" + ids[0].String(), ids[0].String(), "1-" + ids[0].String() + "0"} {
		_, _, err := w.q.List(ctx, Filter{}, c, 1)
		wantKind(t, err, errs.Invalid, "this is no place in the list")
	}
}

// TestExport: the exact bytes, small and large.
func TestExport(t *testing.T) {
	w := newWorld(t)
	for _, size := range []int{10, big} {
		m := mailOf(size, "a@x.example")
		b, err := w.q.Export(ctx, w.put(m))
		if got := body(t, b, err); got != textOf(m) {
			t.Errorf("%d bytes, want %d", len(got), len(textOf(m)))
		}
	}
}

// TestReveal: what a holder of the node key sees is printed, for every record, and nothing of
// the queue's purposes is left out.
func TestReveal(t *testing.T) {
	w := newWorld(t)
	id := w.put(mailOf(100, "rcpt-canary@x.example"))
	it := w.lease("x.example")
	w.settle(it, all(it, Deferred, start.Add(time.Hour), "why-canary"))
	var out strings.Builder
	reveal := func() string {
		out.Reset()
		if err := w.q.Reveal(ctx, func(kind, text string) { fmt.Fprintf(&out, "%s: %s\n", kind, text) }); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	got := reveal()
	for _, want := range []string{
		"queue-mail: queued mail " + id.String() + ": from=<sender-canary@here.example> kind=submission size=",
		"created=2026-03-01T12:00:00Z expires=2026-03-03T12:00:00Z 8bit=true utf8=false requiretls=false verified=false return=2 envid=\"envid-canary\"",
		"queue-body: queued mail " + id.String() + ": the key of its bytes",
		"queue-recipient: queued mail " + id.String() + " recipient 0: to=<rcpt-canary@x.example> destination=x.example tries=1 due=2026-03-01T13:00:00Z held=false" +
			" notify=3 orcpt=\"rfc822;original-rcpt-canary@x.example\" last=\"why-canary\"",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	w.raw(5, flip(mailKey(id)))
	w.raw(5, flip(rcptKey(id, 0)))
	if n := strings.Count(reveal(), "cannot be opened"); n != 2 {
		t.Errorf("%d records cannot be opened, want 2:\n%s", n, out.String())
	}
}
