package seen

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	crvfs "github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/store/pebble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	anna  = seal.AccountID{0, 1, 2, 3, 4, 5, 6, 7}
	ben   = seal.AccountID{0, 1, 2, 3, 4, 5, 6, 8} // in the same shard
	begin = time.Date(2026, 11, 20, 23, 59, 59, 0, time.UTC)
)

func open(t testing.TB, fs vfs.FS, now func() time.Time) *Seen {
	t.Helper()
	st, err := pebble.Open(context.Background(), pebble.Options{FS: fs, Dir: "store"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	root, err := seal.NewRoot(bytes.Repeat([]byte{7}, seal.KeyLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	return New(Options{Store: st, Root: root, Now: now})
}

// once is Once in a transaction of its own.
func (s *Seen) once(t testing.TB, id seal.AccountID, mail string, now time.Time) (first bool) {
	t.Helper()
	m := s.Mark(id, []byte(mail))
	err := s.o.Store.Update(context.Background(), id.Shard(), func(tx store.Tx) (err error) {
		first, err = s.Once(tx, id, m, now)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return first
}

func (s *Seen) records(t testing.TB) (n int) {
	t.Helper()
	err := s.o.Store.Walk(context.Background(), func(_ store.Shard, _, v []byte) (bool, error) { n++; return true, nil })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestOnce: once for each account and mail, for three whole days at least, and again
// after four; not for ever when the clock was wrong.
func TestOnce(t *testing.T) {
	s := open(t, crvfs.NewMem(), nil)
	day := 24 * time.Hour
	for _, c := range []struct {
		id    seal.AccountID
		mail  string
		at    time.Time
		first bool
	}{
		{anna, "m", begin, true},
		{anna, "m", begin, false},
		{anna, "other", begin, true},
		{ben, "m", begin, true},
		{anna, "m", begin.Add(3 * day), false},
		{anna, "m", begin.Add(-3 * day), false}, // the clock was set back
		{anna, "m", begin.Add(3*day + time.Second), true},
		{anna, "m", begin.Add(6 * day), false}, // it counts from the second time
		{ben, "m", begin.Add(-4 * day), true},
		{ben, "m", begin.Add(-4 * day), false},
	} {
		if got := s.once(t, c.id, c.mail, c.at); got != c.first {
			t.Errorf("%s, %q at %v: %v", c.id, c.mail, c.at, got)
		}
	}
	if n := s.records(t); n != 3 {
		t.Errorf("%d records", n)
	}
}

// TestWithTheTransaction: what is noted in a transaction that fails is not noted.
func TestWithTheTransaction(t *testing.T) {
	s := open(t, crvfs.NewMem(), nil)
	fail := errors.New("the mailbox is full")
	err := s.o.Store.Update(t.Context(), anna.Shard(), func(tx store.Tx) error {
		if first, err := s.Once(tx, anna, s.Mark(anna, []byte("m")), begin); err != nil || !first {
			t.Error(first, err)
		}
		if first, err := s.Once(tx, anna, s.Mark(anna, []byte("m")), begin); err != nil || first {
			t.Error("twice in one transaction:", first, err)
		}
		return fail
	})
	if !errors.Is(err, fail) || !s.once(t, anna, "m", begin) {
		t.Error("a mail that did not come is remembered", err)
	}
}

// TestTogether: of many at one time exactly one is the first.
func TestTogether(t *testing.T) {
	s := open(t, crvfs.NewMem(), nil)
	var mu sync.Mutex
	var wg sync.WaitGroup
	firsts := 0
	for range 50 {
		wg.Go(func() {
			m := s.Mark(anna, []byte("m"))
			var first bool
			err := s.o.Store.Update(context.Background(), anna.Shard(), func(tx store.Tx) (err error) {
				first, err = s.Once(tx, anna, m, begin)
				return err
			})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			if first {
				firsts++
			}
		})
	}
	wg.Wait()
	if firsts != 1 {
		t.Errorf("%d were the first", firsts)
	}
}

// TestSweep: what is old goes, and nothing else; what was written anew meanwhile stays.
func TestSweep(t *testing.T) {
	now := begin
	s := open(t, crvfs.NewMem(), func() time.Time { return now })
	for i := range sweepPage + 10 {
		s.once(t, anna, "old"+string(rune(i)), begin)
	}
	s.once(t, ben, "old", begin)
	if err := s.o.Store.Update(t.Context(), 0, func(tx store.Tx) error { return tx.Set([]byte("hello"), []byte("x")) }); err != nil {
		t.Fatal(err)
	}
	now = begin.Add(3 * 24 * time.Hour)
	if err := s.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := s.records(t); n != sweepPage+12 {
		t.Errorf("%d records are left before their time", n)
	}
	s.once(t, anna, "new", now)
	old := key(anna, s.Mark(anna, []byte("new")))
	if err := s.drop(t.Context(), anna.Shard(), [][]byte{old, key(anna, Mark{})}); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Second)
	if err := s.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := s.records(t); n != 2 {
		t.Errorf("%d records are left", n)
	}
	if s.once(t, anna, "new", now) {
		t.Error("what is not old was removed")
	}
}

// TestRun: it sweeps at once and in each interval, and ends with its context.
func TestRun(t *testing.T) {
	s := open(t, crvfs.NewMem(), nil)
	synctest.Test(t, func(t *testing.T) {
		f := &fake{failed: make(chan struct{})}
		r := New(Options{Store: f, Root: s.o.Root, SweepEvery: time.Hour})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()
		if f.views.Load() == 0 {
			t.Error("nothing was looked at")
		}
		n := f.views.Load()
		time.Sleep(time.Hour + time.Second)
		synctest.Wait()
		if got := f.views.Load(); got != 2*n {
			t.Errorf("%d shards looked at, then %d", n, got)
		}
		close(f.failed) // the disk: nothing more to do
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if f.views.Load() > 3*n {
			t.Error("it goes on without a disk")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// fake is an empty store.
type fake struct {
	store.Store
	views  atomic.Int64
	failed chan struct{}
}

func (f *fake) View(context.Context, store.Shard, func(store.Reader) error) error {
	f.views.Add(1)
	return nil
}

func (f *fake) Occupied(context.Context) ([]store.Shard, error) { return []store.Shard{3}, nil }

func (f *fake) Failed() <-chan struct{} { return f.failed }

// TestRemoveAndCheck: an account's marks go with it, and what cannot be read is found,
// and written anew when it is needed.
func TestRemoveAndCheck(t *testing.T) {
	s := open(t, crvfs.NewMem(), nil)
	s.once(t, anna, "m", begin)
	s.once(t, ben, "m", begin)
	var found []Finding
	check := func() []Finding {
		t.Helper()
		found = nil
		if err := s.Check(t.Context(), func(f Finding) { found = append(found, f) }); err != nil {
			t.Fatal(err)
		}
		return found
	}
	if got := check(); len(got) != 0 {
		t.Errorf("%v", got)
	}
	for _, bad := range []string{"", "\x02\x00\x00\x00\x01", "\x01\x00\x00\x00", "\x01\x00\x00\x00\x01\x00"} {
		k := key(ben, s.Mark(ben, []byte("m")))
		if err := s.o.Store.Update(t.Context(), ben.Shard(), func(tx store.Tx) error { return tx.Set(k, []byte(bad)) }); err != nil {
			t.Fatal(err)
		}
		if got := check(); len(got) != 1 || got[0].Account != ben.String() || got[0].What != "the mark of a mail cannot be read" {
			t.Errorf("%q: %v", bad, got)
		}
		if !s.once(t, ben, "m", begin) || len(check()) != 0 {
			t.Errorf("%q stays", bad)
		}
	}
	if err := s.Remove(t.Context(), ben); err != nil {
		t.Fatal(err)
	}
	if s.once(t, anna, "m", begin) || !s.once(t, ben, "m", begin) {
		t.Error("the wrong marks were removed")
	}
}

// TestGolden: the records, byte for byte, and nothing readable of the mail in them.
func TestGolden(t *testing.T) {
	s := open(t, crvfs.NewMem(), nil)
	s.once(t, anna, "a canary", begin)
	err := s.o.Store.Walk(t.Context(), func(in store.Shard, k, v []byte) (bool, error) {
		m := s.o.Root.SeenMark(anna, []byte("a canary"))
		if in != anna.Shard() || string(k) != "a\x00\x01\x02\x03\x04\x05\x06\x07h"+string(m[:]) || string(v) != "\x01\x00\x00\x51\x29" {
			t.Errorf("shard %d: %q = %q", in, k, v)
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(key(anna, s.Mark(anna, []byte("a canary"))), []byte("canary")) {
		t.Error("a mark shows what it was made of")
	}
}

// TestFailures: an error of the store is passed on and says "not first".
func TestFailures(t *testing.T) {
	s := open(t, crvfs.NewMem(), nil)
	broken := errs.E("test", errs.Unavailable, "", nil)
	if first, err := s.Once(brokenTx{get: broken}, anna, Mark{}, begin); first || errs.KindOf(err) != errs.Unavailable {
		t.Error(first, err)
	}
	if _, err := s.Once(brokenTx{get: errs.E("test", errs.NotFound, "", nil), set: broken}, anna, Mark{}, begin); errs.KindOf(err) != errs.Unavailable {
		t.Error(err)
	}
}

type brokenTx struct {
	store.Tx
	get, set error
}

func (b brokenTx) Get([]byte) ([]byte, error) { return nil, b.get }
func (b brokenTx) Set(_, _ []byte) error      { return b.set }

// TestLetters: a letter is taken once, for longer than mails are remembered, and each part of it by
// itself; what is old goes, and what cannot be read is found and written anew.
func TestLetters(t *testing.T) {
	now := begin
	s := open(t, crvfs.NewMem(), func() time.Time { return now })
	take := func(l Letter) bool {
		t.Helper()
		var first bool
		err := s.o.Store.Update(t.Context(), l.Shard, func(tx store.Tx) (err error) {
			first, err = s.OnceLetter(tx, l, now)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return first
	}
	a, b := s.Letter([16]byte{1}), s.Letter([16]byte{2})
	part := s.Letter([16]byte{1}, 7)
	for i, l := range []Letter{a, b, part} {
		before, err := s.KnowsLetter(t.Context(), l)
		if err != nil || before || !take(l) || take(l) {
			t.Error("letter", i, err)
		}
		if after, err := s.KnowsLetter(t.Context(), l); err != nil || !after {
			t.Error("letter", i, "is not known", err)
		}
	}
	now = now.Add(LetterDays * 24 * time.Hour)
	if err := s.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if take(a) {
		t.Error("forgotten too early")
	}
	var found []Finding
	check := func() int {
		t.Helper()
		found = nil
		if err := s.Check(t.Context(), func(f Finding) { found = append(found, f) }); err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	if err := s.o.Store.Update(t.Context(), b.Shard, func(tx store.Tx) error { return tx.Set(letterKey(b.place), []byte("x")) }); err != nil {
		t.Fatal(err)
	}
	if check() != 1 || found[0].What != "the mark of a letter of the mix network cannot be read" || !take(b) || check() != 0 {
		t.Error(found)
	}
	now = now.Add(24 * time.Hour)
	if err := s.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := 0
	if err := s.eachLetter(t.Context(), func(store.Shard, []byte, []byte) error { left++; return nil }); err != nil || left != 1 {
		t.Errorf("%d letters are left, %v", left, err)
	}
	if !take(a) {
		t.Error("remembered for ever")
	}
}
