package queue

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/racetest"
	"postern.email/kit/vfs"
	"postern.email/post/blob"
	"postern.email/store"
)

// raw changes records of the store behind the queue's back.
func (w *world) raw(s store.Shard, fn func(tx store.Tx) error) {
	w.tb.Helper()
	if err := w.st.Update(ctx, s, fn); err != nil {
		w.tb.Fatal(err)
	}
}

// flip changes one bit of a record.
func flip(k []byte) func(store.Tx) error {
	return func(tx store.Tx) error {
		v, err := tx.Get(k)
		if err != nil {
			return err
		}
		v = slices.Clone(v)
		v[len(v)-1] ^= 1
		return tx.Set(k, v)
	}
}

// damages are what can happen to the records of a mail to a@x.example and b@y.example.
var damages = []struct {
	name  string
	large bool
	do    func(w *world, id ID)
	// What Check says; what List says before and after a restart; what is still sent.
	check, live, reopened string
	sent                  []string
}{
	{"envelope", false, func(w *world, id ID) { w.raw(5, flip(mailKey(id))) },
		damagedMail, damagedMail, damagedMail, nil},
	{"envelope of another mail", false, func(w *world, id ID) {
		other := w.put(mailOf(10, "c@z.example"))
		w.raw(5, func(tx store.Tx) error {
			v, err := tx.Get(mailKey(other))
			if err != nil {
				return err
			}
			return tx.Set(mailKey(id), slices.Clone(v))
		})
	}, damagedMail, damagedMail, damagedMail, nil},
	{"no envelope", false, func(w *world, id ID) { w.raw(5, func(tx store.Tx) error { return tx.Delete(mailKey(id)) }) },
		damagedNoMail, damagedMail, damagedNoMail, nil},
	{"recipient", false, func(w *world, id ID) { w.raw(5, flip(rcptKey(id, 0))) },
		damagedRcpt, damagedRcpt, damagedRcpt, []string{"y.example"}},
	{"no recipients", false, func(w *world, id ID) {
		w.raw(5, func(tx store.Tx) error { return tx.DeleteRange(rcptKey(id, 0), rcptKey(id, 9)) })
	}, damagedNoRcpts, damagedMail, damagedNoRcpts, nil},
	{"body", false, func(w *world, id ID) { w.raw(5, flip(textKey(id))) },
		damagedBody, damagedBody, damagedBody, nil},
	{"no body", false, func(w *world, id ID) { w.raw(5, func(tx store.Tx) error { return tx.Delete(textKey(id)) }) },
		"its body is missing", damagedBody, damagedBody, nil},
	{"file", true, func(w *world, id ID) {
		b := w.file(id)
		b[len(b)/2] ^= 1
		w.writeFile(id, b)
	}, damagedBody, damagedBody, damagedBody, nil},
	{"short file", true, func(w *world, id ID) { w.writeFile(id, w.file(id)[:100]) },
		damagedBody, damagedBody, damagedBody, nil},
	{"no file", true, func(w *world, id ID) {
		if err := w.fs.Remove(w.path(id)); err != nil {
			w.tb.Fatal(err)
		}
	}, "its body is missing", damagedBody, damagedBody, nil},
}

func (w *world) path(id ID) string {
	return w.fs.PathJoin(w.dir, "queue", blob.Name(id).String())
}

func (w *world) file(id ID) []byte {
	w.tb.Helper()
	b, err := vfs.ReadFile(w.fs, w.path(id))
	if err != nil {
		w.tb.Fatal(err)
	}
	return b
}

func (w *world) writeFile(id ID, b []byte) {
	w.tb.Helper()
	if err := vfs.WriteFileAtomic(w.fs, w.path(id), b, 0o600); err != nil {
		w.tb.Fatal(err)
	}
}

// TestDamage: what cannot be read is set aside, named by Check and List, never sent, never in
// the way of others, and gone without a trace after Drop.
func TestDamage(t *testing.T) {
	for _, d := range damages {
		for _, reopen := range []bool{false, true} {
			if racetest.Enabled && reopen && d.name != "recipient" {
				continue
			}
			t.Run(fmt.Sprintf("%s/%v", d.name, reopen), func(t *testing.T) {
				w := newWorld(t)
				size := 1000
				if d.large {
					size = big
				}
				id := w.put(mailOf(size, "a@x.example", "b@y.example"))
				fine := w.put(mailOf(100, "fine@x.example"))
				d.do(w, id)
				if want := fmt.Sprintf("queued mail %s: %s", id, d.check); !slices.Contains(w.check(), want) {
					t.Errorf("check: %q, want %q", w.check(), want)
				}
				want := d.live
				if reopen {
					want = d.reopened
					w.reopen()
				}
				sent := w.work(id)
				if !slices.Equal(sent, d.sent) {
					t.Errorf("sent to %q, want %q", sent, d.sent)
				}
				if dests, _ := w.q.Due(); slices.Contains(dests, "x.example") || slices.Contains(dests, "y.example") {
					t.Errorf("still due: %q", dests)
				}
				page, _, err := w.q.List(ctx, Filter{Damaged: true}, "", 10)
				if err != nil || len(page) != 1 || page[0].ID != id || page[0].Damaged != want {
					t.Fatalf("listed %+v, %v, want %q", page, err, want)
				}
				if l, err := w.q.Show(ctx, id); err != nil || l.Damaged != want {
					t.Errorf("shown %+v, %v", l, err)
				}
				if _, err := w.q.Show(ctx, fine); err == nil {
					t.Error("the mail that is well was not sent")
				}
				if st := w.q.Stats(); st.Damaged != 1 || st.Leased != 0 {
					t.Errorf("stats %+v", st)
				}
				if err := w.q.Drop(ctx, id); err != nil {
					t.Fatal(err)
				}
				for _, k := range w.records() {
					if strings.Contains(k, id.String()) {
						t.Errorf("left: %s", k)
					}
				}
				if n := len(w.files()); n != 0 {
					t.Errorf("%d files left", n)
				}
				if st := w.q.Stats(); st.Damaged != 0 {
					t.Errorf("stats after Drop: %+v", st)
				}
				w.sound()
			})
		}
	}
}

// work sends what is due at two destinations, as an agent does, and gives where the mail
// id went.
func (w *world) work(id ID) (sent []string) {
	for _, dest := range []string{"x.example", "y.example"} {
		for _, it := range w.q.Lease(dest, 10) {
			b, err := w.q.Body(ctx, it)
			if err == nil {
				_, err = b.WriteTo(stopper{ctx})
				b.Close()
			}
			if err != nil { // what an agent does with a mail that it cannot read
				if errs.KindOf(err) != errs.Corrupt {
					w.tb.Errorf("a damaged mail gave %v", err)
				}
				w.q.Release(it)
				continue
			}
			if it.ID == id {
				sent = append(sent, dest)
			}
			w.settle(it, all(it, Delivered, time.Time{}, ""))
		}
	}
	return sent
}

// TestMended: what was mended goes on after Retry.
func TestMended(t *testing.T) {
	w := newWorld(t)
	m := mailOf(big, "a@x.example")
	id := w.put(m)
	good := w.file(id)
	if err := w.fs.Remove(w.path(id)); err != nil {
		t.Fatal(err)
	}
	it := w.lease("x.example")
	_, err := w.q.Body(ctx, it)
	wantKind(t, err, errs.Corrupt, "corrupt")
	w.q.Release(it)
	if items := w.q.Lease("x.example", 1); len(items) != 0 {
		t.Fatal("a mail without its body is handed out again")
	}
	w.writeFile(id, good)
	if n, err := w.q.Retry(ctx, Filter{ID: id}); n != 1 || err != nil {
		t.Fatalf("retry: %d, %v", n, err)
	}
	it = w.lease("x.example")
	b, err := w.q.Body(ctx, it)
	if got := body(t, b, err); got != textOf(m) {
		t.Error("the body is another")
	}
	w.settle(it, all(it, Delivered, time.Time{}, ""))
	w.empty()
}

// TestDamageInFlight: a mail that is found damaged while one of its leases goes on keeps its
// records, whatever the lease ends with.
func TestDamageInFlight(t *testing.T) {
	w := newWorld(t)
	id := w.put(mailOf(100, "a@x.example", "b@y.example"))
	x := w.lease("x.example")
	w.raw(5, flip(rcptKey(id, 1)))
	if items := w.q.Lease("y.example", 1); len(items) != 0 {
		t.Fatal("a recipient that cannot be read was handed out")
	}
	w.settle(x, all(x, Delivered, time.Time{}, ""))
	l, err := w.q.Show(ctx, id)
	if err != nil || l.Damaged != damagedRcpt || l.Mail.Size == 0 {
		t.Fatalf("%+v, %v", l, err)
	}
	w.reopen()
	if l, err = w.q.Show(ctx, id); err != nil || l.Damaged != damagedRcpt {
		t.Fatalf("after a restart: %+v, %v", l, err)
	}
	if err := w.q.Drop(ctx, id); err != nil {
		t.Fatal(err)
	}
	w.empty()
}

// TestOtherFindings: what else Check names.
func TestOtherFindings(t *testing.T) {
	w := newWorld(t)
	stray := ID{9}
	w.raw(1, func(tx store.Tx) error {
		for _, k := range [][]byte{textKey(stray), {letter, kindMail, 1}, {letter, kindRcpt}, {letter, 'z', 1}} {
			if err := tx.Set(k, []byte("x")); err != nil {
				return err
			}
		}
		return nil
	})
	f, err := w.fs.Create(w.path(ID{8}), vfs.Unspecified)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	const form = "a record of the queue has a key of the wrong form"
	want := []string{form, form, form, "queued mail " + stray.String() + ": a body belongs to no mail", Leftover}
	got := w.check()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("check: %q, want %q", got, want)
	}
	w.reopen() // none of it is in the way
	if st := w.q.Stats(); st.Mails != 0 {
		t.Errorf("stats %+v", st)
	}
}
