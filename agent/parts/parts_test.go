package parts

import (
	"bytes"
	"crypto/rand"
	"testing"
	"time"

	"postern.email/kit/clocktest"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/letter"
)

// world is a directory of fragments of letters that are not sealed.
type world struct {
	t     *testing.T
	o     Options
	p     *Parts
	given int
	done  map[Key]bool
}

func newWorld(t *testing.T, letters int, bytes int64) *world {
	clock := clocktest.New(time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC))
	w := &world{t: t, done: map[Key]bool{}}
	w.o = Options{FS: vfs.NewCrashDisk(), Dir: "/parts", Secret: []byte("secret of 32 bytes, or so, or so"), Rand: rand.Reader, Now: clock.Now,
		MaxLetters: letters, MaxBytes: bytes, GivenUp: func() { w.given++ }, Done: func(k Key) bool { return w.done[k] },
		Parse: func(b []byte) (string, *letter.Fragment, error) {
			f, err := letter.ParseFragment(b)
			return "", f, err
		}}
	w.open()
	return w
}

func (w *world) open() {
	w.t.Helper()
	var err error
	if w.p, err = Open(w.o); err != nil {
		w.t.Fatal(err)
	}
}

// letterOf gives the bodies of a letter of n fragments.
func (w *world) letterOf(n int) [][]byte {
	w.t.Helper()
	text := make([]byte, n*4000-200)
	rand.Read(text)
	_, list, err := letter.Split(text, letter.Options{Room: 4000 + letter.HeaderLen}, rand.Reader)
	if err != nil || len(list) != n {
		w.t.Fatal(len(list), err)
	}
	return list
}

func (w *world) add(body []byte) (Key, bool, error) {
	w.t.Helper()
	f, err := letter.ParseFragment(body)
	if err != nil {
		w.t.Fatal(err)
	}
	var h Handle
	rand.Read(h[:])
	return w.p.Add(h, "", f, body)
}

// TestWholeAfterRestart: fragments stay over a restart, a letter that is whole is due at once, and its
// fragments go when its owner has done with it.
func TestWholeAfterRestart(t *testing.T) {
	w := newWorld(t, 10, 1<<20)
	list := w.letterOf(3)
	var k Key
	for i, want := range []bool{false, false, true} {
		w.open()
		var whole bool
		var err error
		if k, whole, err = w.add(list[i]); err != nil || whole != want {
			t.Fatal(i, whole, err)
		}
	}
	w.open()
	var due []Key
	w.p.Tidy(time.Hour, func(k Key) { due = append(due, k) })
	if len(due) != 1 || due[0] != k {
		t.Fatal(due)
	}
	frags, err := w.p.Fragments(k)
	if err != nil || len(frags) != 3 {
		t.Fatal(len(frags), err)
	}
	if l, err := Assemble(frags, letter.MaxWhole); err != nil || len(l.Content) != 11800 {
		t.Fatal(err)
	}
	due = nil
	if next := w.p.Tidy(time.Hour, func(k Key) { due = append(due, k) }); len(due) != 0 || next != w.o.Now().Add(retryRemove) {
		t.Error("a letter whose owner did nothing comes again at once, or never:", due, next)
	}
	w.done[k] = true
	w.open()
	if s := w.p.Status(); s != (Status{}) {
		t.Errorf("after it was done: %+v", s)
	}
}

// TestBounds: the letter that waited longest gives way; one that is whole never does.
func TestBounds(t *testing.T) {
	w := newWorld(t, 2, 1<<20)
	clock := w.o.Now
	add := 0
	w.p.o.Now = func() time.Time { add++; return clock().Add(time.Duration(add) * time.Second) }
	first, second, third := w.letterOf(2), w.letterOf(2), w.letterOf(2)
	one, _, _ := w.add(first[0])
	two, _, _ := w.add(second[0])
	if _, whole, err := w.add(first[1]); !whole || err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.add(third[0]); err != nil || w.given != 1 {
		t.Fatal(err, w.given)
	}
	if f, err := w.p.Fragments(two); f != nil || err != nil {
		t.Error("the letter that had to give way is there")
	}
	if f, err := w.p.Fragments(one); len(f) != 2 || err != nil {
		t.Error("the whole letter gave way")
	}
	if _, whole, err := w.add(third[1]); !whole || err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.add(second[0]); errs.KindOf(err) != errs.Busy || w.given != 1 {
		t.Error("with whole letters only:", err, w.given)
	}

	b := newWorld(t, 10, 10_000)
	list := b.letterOf(5)
	for i, f := range list {
		_, _, err := b.add(f)
		if (i < 2) != (err == nil) || err != nil && errs.KindOf(err) != errs.Busy {
			t.Error(i, err)
		}
	}
}

// TestStrangers: a fragment that does not fit the others of its letter is refused, and one that is
// damaged on the disk makes the letter wait again.
func TestStrangers(t *testing.T) {
	w := newWorld(t, 10, 1<<20)
	list := w.letterOf(2)
	if _, _, err := w.add(list[0]); err != nil {
		t.Fatal(err)
	}
	other := w.letterOf(3)[1]
	copy(other[4:20], list[0][4:20]) // the ID of the first
	if _, _, err := w.add(other); errs.KindOf(err) != errs.Invalid {
		t.Error(err)
	}
	if _, _, err := w.add(list[0]); err != nil || w.p.Status().Fragments != 1 {
		t.Error("a fragment that is there was kept again:", err)
	}
	k, whole, err := w.add(list[1])
	if err != nil || !whole {
		t.Fatal(err)
	}
	names, err := w.o.FS.List("/parts")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if s, _, ok := ParseFileName(n); ok && s == Msg {
			b, err := vfs.ReadFile(w.o.FS, "/parts/"+n)
			if err != nil || bytes.Contains(b, list[0][64:100]) {
				t.Fatal("it lies there unsealed", err)
			}
			b[len(b)-1] ^= 1
			if err := vfs.WriteFileAtomic(w.o.FS, "/parts/"+n, b, 0o600); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	if f, err := w.p.Fragments(k); f != nil || err != nil {
		t.Error(len(f), err)
	}
	if s := w.p.Status(); s.Aside != 1 || s.Fragments != 1 {
		t.Errorf("%+v", s)
	}
	for _, f := range list {
		_, whole, err = w.add(f)
		if err != nil {
			t.Fatal(err)
		}
	}
	if !whole {
		t.Error("a copy of the damaged fragment did not help")
	}
}
