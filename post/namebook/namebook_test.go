package namebook

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/store/pebble"
)

type world struct {
	t    testing.TB
	st   store.Store
	now  time.Time
	b    *Book
	told atomic.Int32
}

func newWorld(t testing.TB) *world {
	t.Helper()
	st, err := pebble.Open(context.Background(), pebble.Options{FS: vfs.NewCrashDisk(), Dir: "/store"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	root, err := seal.NewRoot(bytes.Repeat([]byte{7}, seal.KeyLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, st: st, now: time.Unix(1_800_000_000, 0)}
	w.b = New(Options{Store: st, Root: root, Letter: 'z', MaxRecord: 100, What: "the record", Now: func() time.Time { return w.now }, Deleted: func() { w.told.Add(1) }})
	return w
}

func (w *world) after(days int) time.Time { return w.now.Add(time.Duration(days) * 24 * time.Hour) }

func (w *world) load(name, want string) {
	w.t.Helper()
	got, _, err := w.b.Load(context.Background(), name)
	if string(got) != want || (err == nil) != (want != "") || err != nil && errs.KindOf(err) != errs.NotFound {
		w.t.Errorf("%s: %q, %v", name, got, err)
	}
}

// TestSweep: a record goes on the day after its last one, and Sweep tells that something went.
func TestSweep(t *testing.T) {
	w := newWorld(t)
	for name, days := range map[string]int{"a": 1, "b": 3} {
		if err := w.b.Save(t.Context(), name, []byte(name), w.after(days)); err != nil {
			t.Fatal(err)
		}
	}
	if _, ends, err := w.b.Load(t.Context(), "b"); err != nil || !ends.Equal(w.after(3).Truncate(24*time.Hour)) {
		t.Error(ends, err)
	}
	for _, c := range []struct {
		days int
		told int32
		a, b string
	}{{0, 0, "a", "b"}, {1, 0, "a", "b"}, {1, 1, "", "b"}, {2, 2, "", ""}} {
		w.now = w.after(c.days)
		if err := w.b.Sweep(t.Context()); err != nil || w.told.Load() != c.told {
			t.Errorf("%v, told %d times", err, w.told.Load())
		}
		w.load("a", c.a)
		w.load("b", c.b)
	}
}

// TestChange: nobody's change is lost, a record can be made and taken away, an error changes nothing.
func TestChange(t *testing.T) {
	w := newWorld(t)
	add := func(old []byte) ([]byte, time.Time, error) {
		n, _ := strconv.Atoi(string(old))
		return strconv.AppendInt(nil, int64(n+1), 10), w.after(1), nil
	}
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			for range 4 {
				for {
					if err := w.b.Change(t.Context(), "n", add); err == nil {
						break
					} else if errs.KindOf(err) != errs.Conflict {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	all.Wait()
	w.load("n", "20")
	err := w.b.Change(t.Context(), "n", func([]byte) ([]byte, time.Time, error) {
		return []byte("x"), w.now, errs.E("test", errs.Denied, "", nil)
	})
	if errs.KindOf(err) != errs.Denied {
		t.Error(err)
	}
	w.load("n", "20")
	none := func([]byte) ([]byte, time.Time, error) { return nil, time.Time{}, nil }
	for range 2 {
		if err := w.b.Change(t.Context(), "n", none); err != nil {
			t.Error(err)
		}
	}
	w.load("n", "")
	if w.told.Load() != 1 {
		t.Errorf("told %d times", w.told.Load())
	}
	always := func(old []byte) ([]byte, time.Time, error) {
		if err := w.b.Save(t.Context(), "n", fmt.Append(nil, time.Now().UnixNano(), len(old)), w.after(1)); err != nil {
			t.Error(err)
		}
		return []byte("late"), w.after(1), nil
	}
	if err := w.b.Change(t.Context(), "n", always); errs.KindOf(err) != errs.Conflict {
		t.Errorf("somebody else is always faster: %v", err)
	}
}

// TestPrepare: a record is written with somebody else's transaction, or not at all.
func TestPrepare(t *testing.T) {
	w := newWorld(t)
	p, err := w.b.Prepare("a", []byte("x"), w.after(1))
	if err != nil {
		t.Fatal(err)
	}
	w.load("a", "")
	if err := w.st.Update(t.Context(), p.Shard(), p.Put); err != nil {
		t.Fatal(err)
	}
	w.load("a", "x")
	for _, err := range []error{w.b.Save(t.Context(), "a", make([]byte, 101), w.now), w.b.Change(t.Context(), "a", func([]byte) ([]byte, time.Time, error) { return make([]byte, 101), w.now, nil })} {
		if errs.KindOf(err) != errs.TooLarge {
			t.Error(err)
		}
	}
}

// TestNamesAreNowhere: neither a name nor its record can be read in any record.
func TestNamesAreNowhere(t *testing.T) {
	w := newWorld(t)
	if err := w.b.Save(t.Context(), "secret-friend.example", []byte("mx: mx.secret-friend.example"), w.after(1)); err != nil {
		t.Fatal(err)
	}
	n := 0
	err := w.st.Walk(t.Context(), func(_ store.Shard, k, v []byte) (bool, error) {
		n++
		if bytes.Contains(k, []byte("secret")) || bytes.Contains(v, []byte("secret")) {
			t.Errorf("%q %q", k, v)
		}
		return true, nil
	})
	if err != nil || n != 1 {
		t.Errorf("%d records, %v", n, err)
	}
}

// TestDamage: what cannot be read is an error, Check names it, and Change begins anew.
func TestDamage(t *testing.T) {
	w := newWorld(t)
	if err := w.b.Save(t.Context(), "a", []byte("x"), w.after(1)); err != nil {
		t.Fatal(err)
	}
	n, err := w.b.o.Root.Named("a")
	if err != nil {
		t.Fatal(err)
	}
	check := func(want int) {
		t.Helper()
		found := 0
		err := w.b.Check(t.Context(), func(s string) {
			found++
			if s != "the record cannot be read" {
				t.Error(s)
			}
		})
		if err != nil || found != want {
			t.Errorf("%d findings, %v", found, err)
		}
	}
	check(0)
	for _, v := range [][]byte{{}, {9, 0, 0, 0, 0, 1}, {version, 0, 0}} {
		if err := w.st.Update(t.Context(), n.Shard, func(tx store.Tx) error { return tx.Set(w.b.key(n), v) }); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.b.Load(t.Context(), "a"); errs.KindOf(err) != errs.Corrupt {
			t.Error(err)
		}
		check(1)
	}
	err = w.b.Change(t.Context(), "a", func(old []byte) ([]byte, time.Time, error) {
		if old != nil {
			t.Errorf("%q", old)
		}
		return []byte("y"), w.after(1), nil
	})
	if err != nil {
		t.Error(err)
	}
	w.load("a", "y")
	check(0)
}

// TestRun ends with its context.
func TestRun(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.b.Run(ctx); err != nil {
		t.Error(err)
	}
}
