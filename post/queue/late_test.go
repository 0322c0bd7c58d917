package queue

import (
	"errors"
	"slices"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/store"
)

// late leases what Late gives and returns who waits; it is released again.
func (w *world) late(notify uint8, age time.Duration) (to []string) {
	for _, it := range w.q.Late(notify, w.clock.Now().Add(-age), 100) {
		for _, r := range it.Rcpts {
			to = append(to, r.To.String())
		}
		w.q.Release(it)
	}
	slices.Sort(to)
	return to
}

// TestLate: those are given whose mail came before, who asked, are not held and were not told, whether
// they are due or their destination is kept back; once told, and over a restart, they are not.
func TestLate(t *testing.T) {
	w := newWorld(t)
	m := mailOf(100, "asked@a.example", "silent@a.example", "asked@b.example")
	m.Expires = w.clock.Now().Add(48 * time.Hour)
	m.Rcpts[0].Notify, m.Rcpts[1].Notify, m.Rcpts[2].Notify = 4|2, 2, 4
	w.put(m)
	w.q.Pause("b.example", w.clock.Now().Add(24*time.Hour), "421 no answer")
	if got := w.late(4, time.Hour); got != nil {
		t.Errorf("at once: %q", got)
	}
	w.clock.Add(2 * time.Hour)
	if got := w.late(4, time.Hour); !slices.Equal(got, []string{"asked@a.example", "asked@b.example"}) {
		t.Errorf("after two hours: %q", got)
	}
	if got := w.late(1, time.Hour); got != nil {
		t.Errorf("who asked for something else: %q", got)
	}
	if _, err := w.q.Hold(ctx, Filter{Dest: "a.example"}); err != nil {
		t.Fatal(err)
	}
	if got := w.late(4, time.Hour); !slices.Equal(got, []string{"asked@b.example"}) {
		t.Errorf("with a held one: %q", got)
	}
	if _, err := w.q.Unhold(ctx, Filter{}); err != nil {
		t.Fatal(err)
	}
	busy := w.lease("a.example")
	if got := w.late(4, time.Hour); !slices.Equal(got, []string{"asked@b.example"}) {
		t.Errorf("with one that is being sent: %q", got)
	}
	w.settle(busy, all(busy, Deferred, w.clock.Now().Add(time.Hour), "450 greylisted"))

	it := w.q.Late(4, w.clock.Now(), 1)[0]
	if got := w.late(4, time.Hour); len(got) != 1 || got[0] == it.Rcpts[0].To.String() {
		t.Errorf("beside what is leased: %q", got)
	}
	before, err := w.q.Show(ctx, it.ID)
	if err != nil {
		t.Fatal(err)
	}
	w.settle(it, all(it, Warned, time.Time{}, ""))
	for again := range 2 {
		l, err := w.q.Show(ctx, it.ID)
		if err != nil || len(l.Rcpts) != 3 {
			t.Fatalf("%+v, %v", l, err)
		}
		for i, r := range l.Rcpts {
			if warned := r.N == it.Rcpts[0].N; r.Warned != warned || r.Tries != before.Rcpts[i].Tries || r.LastWhy != before.Rcpts[i].LastWhy ||
				again == 0 && !r.Due.Equal(before.Rcpts[i].Due) {
				t.Errorf("%d: %+v, before %+v", again, r, before.Rcpts[i])
			}
		}
		if got := w.late(4, time.Hour); len(got) != 1 || got[0] == it.Rcpts[0].To.String() {
			t.Errorf("%d: after the report: %q", again, got)
		}
		w.reopen()
	}
	w.clock.Add(time.Hour)
	next := w.lease("a.example")
	w.settle(next, all(next, Deferred, w.clock.Now().Add(time.Hour), "450 greylisted"))
	if got := w.late(4, time.Hour); len(got) != 1 {
		t.Errorf("after one more try: %q", got)
	}
	w.clock.Add(72 * time.Hour)
	if got := w.late(4, time.Hour); got != nil {
		t.Errorf("what has expired: %q", got)
	}
	w.sound()
}

// TestWarnedForm: what is new in a recipient's record is one bit; without it the record is as before.
func TestWarnedForm(t *testing.T) {
	w := goldenRcpt()
	plain := w.encode()
	w.Warned = true
	with := w.encode()
	if with[1] != plain[1]|2 {
		t.Errorf("flags %d and %d", plain[1], with[1])
	}
	if got, err := decodeRcpt(with); err != nil || !got.Warned || got.held != w.held {
		t.Errorf("%+v, %v", got, err)
	}
	with[1] = 4
	if _, err := decodeRcpt(with); errs.KindOf(err) != errs.Corrupt {
		t.Errorf("an unknown flag: %v", err)
	}
}

// TestDropWith: the mail goes and the report comes, or neither; what is being sent stays.
func TestDropWith(t *testing.T) {
	w := newWorld(t)
	id := w.put(mailOf(100, "a@x.example", "b@y.example"))
	shard := w.q.s.entries[id].shard
	report := func(l Listed) (func(store.Tx) error, error) {
		if l.ID != id || len(l.Rcpts) != 2 {
			t.Errorf("the report is of %+v", l)
		}
		if items := w.q.Lease("x.example", 10); len(items) > 0 {
			t.Error("it can be leased while it is removed")
		}
		return func(tx store.Tx) error { return tx.Set([]byte("zz report"), []byte{1}) }, nil
	}
	busy := w.lease("x.example")
	wantKind(t, w.q.DropWith(ctx, id, report), errs.Busy, "the mail is being sent at this moment")
	w.q.Release(busy)
	no := errs.E("test", errs.Full, "no room", nil)
	for _, fails := range []func(Listed) (func(store.Tx) error, error){
		func(Listed) (func(store.Tx) error, error) { return nil, no },
		func(Listed) (func(store.Tx) error, error) { return func(store.Tx) error { return no }, nil },
	} {
		if err := w.q.DropWith(ctx, id, fails); !errors.Is(err, no) {
			t.Errorf("the report fails: %v", err)
		}
	}
	if dests, _ := w.q.Due(); len(dests) != 2 || w.q.Stats().Leased != 0 {
		t.Errorf("then %q are due, %d leased", dests, w.q.Stats().Leased)
	}
	if err := w.q.DropWith(ctx, id, report); err != nil {
		t.Fatal(err)
	}
	if s := w.q.Stats(); s.Mails != 0 || s.Leased != 0 || s.Recipients != 0 {
		t.Errorf("%+v", s)
	}
	err := w.st.View(ctx, shard, func(r store.Reader) error { _, err := r.Get([]byte("zz report")); return err })
	if err != nil {
		t.Errorf("the report: %v", err)
	}
	wantKind(t, w.q.DropWith(ctx, id, report), errs.NotFound, "no such mail in the queue")
	lost := w.put(mailOf(100, "c@z.example"))
	w.q.setAside(w.q.s.entries[lost], damagedBody)
	wantKind(t, w.q.DropWith(ctx, lost, report), errs.Corrupt, "the mail cannot be read, so nobody can be told")
}
