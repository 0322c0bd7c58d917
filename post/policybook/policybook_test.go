package policybook

import (
	"bytes"
	"context"
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
	disk *vfs.CrashDisk
	st   store.Store
	now  time.Time
	b    *Book
	told int
}

// newWorld has records whose first byte is the number of days that they hold.
func newWorld(t testing.TB, disk *vfs.CrashDisk) *world {
	t.Helper()
	st, err := pebble.Open(context.Background(), pebble.Options{FS: disk, Dir: "/store"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	root, err := seal.NewRoot(bytes.Repeat([]byte{7}, seal.KeyLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, disk: disk, st: st, now: time.Unix(1_800_000_000, 0)}
	start := w.now
	w.b = New(Options{Store: st, Root: root, Now: func() time.Time { return w.now }, Deleted: func() { w.told++ }, Ends: func(r []byte) (time.Time, error) {
		if len(r) == 0 {
			return time.Time{}, errs.E("test", errs.Corrupt, "", nil)
		}
		return start.Add(time.Duration(r[0]) * 24 * time.Hour), nil
	}})
	return w
}

func (w *world) load(domain, want string, kind errs.Kind) {
	w.t.Helper()
	got, err := w.b.Load(context.Background(), domain)
	if string(got) != want || (err == nil) != (want != "") || err != nil && errs.KindOf(err) != kind {
		w.t.Errorf("%s: %q, %v", domain, got, err)
	}
}

// TestBook: a record is there after a crash, newer ones replace it, and it goes when it has ended.
func TestBook(t *testing.T) {
	w := newWorld(t, vfs.NewCrashDisk())
	w.load("a.example", "", errs.NotFound)
	for domain, record := range map[string]string{"a.example": "\x02first", "b.example": "\x09second"} {
		if err := w.b.Save(t.Context(), domain, []byte(record)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.b.Save(t.Context(), "a.example", []byte("\x03newer")); err != nil {
		t.Fatal(err)
	}
	after := newWorld(t, w.disk.Clone(vfs.Dropped, 1))
	after.load("a.example", "\x03newer", 0)
	after.load("b.example", "\x09second", 0)
	after.now = after.now.Add(4 * 24 * time.Hour)
	if err := after.b.Sweep(t.Context()); err != nil || after.told != 1 {
		t.Errorf("%v, told %d times", err, after.told)
	}
	after.load("a.example", "", errs.NotFound)
	after.load("b.example", "\x09second", 0)
	if err := after.b.Save(t.Context(), "c.example", nil); errs.KindOf(err) != errs.Corrupt {
		t.Error(err)
	}
	if err := after.b.Save(t.Context(), "c.example", make([]byte, MaxRecord+1)); errs.KindOf(err) != errs.TooLarge {
		t.Error(err)
	}
}

// TestPlace: where a record lies, and in what form, is that of stores which are there.
func TestPlace(t *testing.T) {
	w := newWorld(t, vfs.NewCrashDisk())
	if err := w.b.Save(t.Context(), "a.example", []byte("\x05x")); err != nil {
		t.Fatal(err)
	}
	root, err := seal.NewRoot(bytes.Repeat([]byte{7}, seal.KeyLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	n, err := root.Named("a.example")
	if err != nil {
		t.Fatal(err)
	}
	err = w.st.View(t.Context(), n.Shard, func(r store.Reader) error {
		v, err := r.Get(append([]byte("p"), n.Place[:]...))
		if err != nil {
			return err
		}
		record, err := n.Open(v[5:])
		if !bytes.Equal(v[:5], []byte{1, 0, 0, 0x51, 0x66}) || string(record) != "\x05x" {
			t.Errorf("%x %q", v[:5], record)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if err := w.b.Check(t.Context(), func(s string) { t.Error(s) }); err != nil {
		t.Error(err)
	}
}
