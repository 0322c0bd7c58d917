package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"

	"postern.email/kit/disktest"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

func key(n int) (k Key)     { binary.BigEndian.PutUint64(k[:], uint64(n)); return k }
func value(n int) (v Value) { binary.BigEndian.PutUint64(v[8:], uint64(n)); return v }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, fs vfs.FS, max int) *Ledger {
	t.Helper()
	l, err := Open(fs, "ledger", max)
	must(t, err)
	return l
}

// TestLedger: what was set is there, the last value counts, also after a new start, and the file has a bound,
// however often the same is written.
func TestLedger(t *testing.T) {
	fs := vfs.NewCrashDisk()
	l := open(t, fs, 10)
	for n := range 3000 {
		must(t, l.Set(key(n%7), value(n)))
	}
	must(t, l.Close())
	for range 2 {
		l = open(t, fs, 10)
		if l.Len() != 7 {
			t.Fatal(l.Len())
		}
		for k := range 7 {
			if v, ok := l.Get(key(k)); !ok || v != value(2999-(2999-k)%7) {
				t.Errorf("%d: %v %v", k, v, ok)
			}
		}
		must(t, l.Close())
	}
	if _, ok := l.Get(key(7)); ok {
		t.Error("a key that was never set")
	}
	info, err := fs.Stat("ledger")
	must(t, err)
	if n := (info.Size() - headLen) / recordLen; n > 2*7+slack+1 {
		t.Errorf("%d records", n)
	}
	if err := l.Set(key(1), value(1)); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("a closed ledger: %v", err)
	}
}

// TestFull: a full ledger takes no new key, but new values.
func TestFull(t *testing.T) {
	fs := vfs.NewCrashDisk()
	l := open(t, fs, 2)
	must(t, l.Set(key(1), value(1)))
	must(t, l.Set(key(2), value(1)))
	if err := l.Set(key(3), value(1)); errs.KindOf(err) != errs.Full {
		t.Error(err)
	}
	must(t, l.Set(key(2), value(2)))
	if _, err := Open(fs, "ledger", 1); errs.KindOf(err) != errs.TooLarge {
		t.Error(err)
	}
}

// TestUpdate: who updates sees the table and may leave it; only one of many who want to be first is.
func TestUpdate(t *testing.T) {
	l := open(t, vfs.NewCrashDisk(), 10)
	taken := errors.New("taken")
	var wg sync.WaitGroup
	won := make(chan int, 20)
	for i := range 20 {
		wg.Go(func() {
			err := l.Update(func(get func(Key) (Value, bool)) (Record, bool, error) {
				if _, ok := get(key(1)); ok {
					return Record{}, false, taken
				}
				return Record{key(1), value(i)}, true, nil
			})
			if err == nil {
				won <- i
			} else if !errors.Is(err, taken) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	close(won)
	if v, _ := l.Get(key(1)); len(won) != 1 || v != value(<-won) {
		t.Error("more than one was first")
	}
	must(t, l.Update(func(func(Key) (Value, bool)) (Record, bool, error) { return Record{key(2), value(2)}, false, nil }))
	if l.Len() != 1 {
		t.Error("written although it should not be")
	}
}

// TestDamage: a torn end is cut off, damage before others is told.
func TestDamage(t *testing.T) {
	fs := vfs.NewCrashDisk()
	l := open(t, fs, 10)
	for n := range 3 {
		must(t, l.Set(key(n), value(n)))
	}
	must(t, l.Close())
	good, err := vfs.ReadFile(fs, "ledger")
	must(t, err)
	for cut := headLen; cut <= len(good); cut++ {
		must(t, vfs.WriteFileAtomic(fs, "ledger", good[:cut], 0o600))
		l := open(t, fs, 10)
		if l.Len() != (cut-headLen)/recordLen {
			t.Errorf("cut at %d: %d", cut, l.Len())
		}
		must(t, l.Set(key(9), value(9)))
		must(t, l.Close())
		l = open(t, fs, 10)
		if _, ok := l.Get(key(9)); !ok || l.Len() != (cut-headLen)/recordLen+1 {
			t.Errorf("cut at %d: what was written afterwards is gone", cut)
		}
		must(t, l.Close())
	}
	must(t, vfs.WriteFileAtomic(fs, "ledger", append(bytes.Clone(good), make([]byte, 3*recordLen)...), 0o600))
	if l := open(t, fs, 10); l.Len() != 3 {
		t.Error("zeros at the end")
	}
	for _, at := range []int{0, 8, 15, headLen, headLen + 20, headLen + recordLen + 3} {
		b := bytes.Clone(good)
		b[at] ^= 1
		must(t, vfs.WriteFileAtomic(fs, "ledger", b, 0o600))
		if _, err := Open(fs, "ledger", 10); errs.KindOf(err) != errs.Corrupt {
			t.Errorf("damage at %d: %v", at, err)
		}
	}
}

// TestBadDisk: after a failed sync nothing is taken until the table is opened again.
func TestBadDisk(t *testing.T) {
	faults := vfs.NewFaults(vfs.NewCrashDisk())
	l := open(t, faults, 10)
	must(t, l.Set(key(1), value(1)))
	faults.FailNth(vfs.OpSync, 1, errors.New("no sync"))
	if err := l.Set(key(2), value(2)); errs.KindOf(err) != errs.Unavailable {
		t.Error(err)
	}
	if _, ok := l.Get(key(2)); ok {
		t.Error("what is not durable is shown")
	}
	if err := l.Set(key(3), value(3)); errs.KindOf(err) != errs.Unavailable {
		t.Error(err)
	}
	l = open(t, faults, 10)
	must(t, l.Set(key(3), value(3)))
}

// TestCrash cuts the disk before and after every sync: what was acknowledged is there.
func TestCrash(t *testing.T) {
	cuts := disktest.Cuts(1, func(n int64, after bool, u vfs.Unsynced) bool {
		disk := vfs.NewCrashDisk()
		must(t, vfs.WriteFileAtomic(disk, "ledger", append(head(), encode(Record{key(0), value(0)})[:20]...), 0o600))
		acked, at := 0, 0
		cut := vfs.CutAt(disk, n, after, u, uint64(n), func() { at = acked })
		l := open(t, cut.FS, 100)
		for i := range 6 {
			must(t, l.Set(key(i), value(i+1)))
			acked++
		}
		d := cut.Disk()
		if d == nil {
			return false
		}
		l = open(t, d, 100)
		for i := range at {
			if v, ok := l.Get(key(i)); !ok || v != value(i+1) {
				t.Errorf("cut %d %v %v: %d of %d is gone", n, after, u, i, at)
			}
		}
		if l.Len() > at+1 {
			t.Errorf("cut %d: more than was written", n)
		}
		return true
	})
	if cuts < 10 {
		t.Error(fmt.Sprint("only ", cuts, " cuts"))
	}
}

// TestAnew: a file of which most is old is written anew at the start, and while it is in use; cut before and after
// every sync of that, what was acknowledged is there.
func TestAnew(t *testing.T) {
	before := func(n int) *vfs.CrashDisk {
		disk, b := vfs.NewCrashDisk(), head()
		for i := range n {
			b = append(b, encode(Record{key(0), value(i)})...)
		}
		must(t, vfs.WriteFileAtomic(disk, "ledger", b, 0o600))
		return disk
	}
	size := func(fs vfs.FS) int64 {
		info, err := fs.Stat("ledger")
		must(t, err)
		return (info.Size() - headLen) / recordLen
	}
	disk := before(2 + slack + 1)
	must(t, open(t, disk, 10).Close())
	if n := size(disk); n != 1 {
		t.Errorf("%d records after a start", n)
	}
	last := int64(0)
	cuts := disktest.Cuts(1, func(n int64, after bool, u vfs.Unsynced) bool {
		disk := before(2 + slack - 1)
		acked, at := 0, 0
		cut := vfs.CutAt(disk, n, after, u, uint64(n), func() { at = acked })
		l := open(t, cut.FS, 10)
		for i := range 5 {
			must(t, l.Set(key(0), value(10_000+i)))
			acked = i + 1
		}
		last = size(cut.FS)
		d := cut.Disk()
		if d == nil {
			return false
		}
		l = open(t, d, 10)
		v, _ := l.Get(key(0))
		if got := int(binary.BigEndian.Uint64(v[8:])) - 10_000 + 1; at > 0 && (got < at || got > at+1) {
			t.Errorf("cut %d %v %v: %d of %d", n, after, u, got, at)
		}
		return true
	})
	if cuts < 6 || last > 10 {
		t.Errorf("%d cuts, %d records in use", cuts, last)
	}
	faults := vfs.NewFaults(before(2 + slack - 1))
	l := open(t, faults, 10)
	must(t, l.Set(key(0), value(1)))
	must(t, l.Set(key(0), value(2)))
	faults.FailNth(vfs.OpSync, 1, errors.New("no sync"))
	if err := l.Set(key(0), value(3)); err == nil {
		t.Error("a file that could not be written anew is in use")
	}
	if err := l.Set(key(0), value(3)); errs.KindOf(err) != errs.Unavailable {
		t.Error(err)
	}
	l = open(t, faults, 10)
	if v, _ := l.Get(key(0)); v != value(2) {
		t.Error(v)
	}
}

// FuzzOpen: no file does anything but be read, or be refused as corrupt or too large.
func FuzzOpen(f *testing.F) {
	f.Add(head())
	f.Add(append(head(), encode(Record{key(1), value(1)})...))
	f.Add(append(head(), make([]byte, 80)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		fs := vfs.NewCrashDisk()
		must(t, vfs.WriteFileAtomic(fs, "ledger", b, 0o600))
		l, err := Open(fs, "ledger", 100)
		if err != nil {
			if k := errs.KindOf(err); k != errs.Corrupt && k != errs.TooLarge {
				t.Fatal(err)
			}
			return
		}
		n := l.Len()
		must(t, l.Close())
		if l, err = Open(fs, "ledger", 100); err != nil || l.Len() != n {
			t.Fatal(err)
		}
	})
}
