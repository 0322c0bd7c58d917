package storetest

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/store"
)

// FaultConfig sizes FaultCheck.
type FaultConfig struct {
	Writers, Txs int

	// Break arms the fault on the open store's disk.
	Break func(*vfs.Faults)
}

// FaultCheck runs concurrent writers on a disk that fails as c.Break says. Either
// the fault is never met, or: the store says so (Health, Failed), no Update is
// acknowledged any more, Views go on and show all that was acknowledged and
// nothing that was not, and a restart on the mended disk, after whatever crash,
// finds everything that was acknowledged. It reports whether the fault was met.
func FaultCheck(ctx context.Context, e Engine, c FaultConfig) (met bool, err error) {
	disk := vfs.NewCrashDisk()
	f := vfs.NewFaults(disk)
	s := newSession(e, c.Writers)
	st, err := e.Open(ctx, f, dir)
	if err != nil {
		return false, err
	}
	c.Break(f)
	err = s.run(ctx, st, c.Txs)
	health := st.Health()
	if health == nil {
		// Background work may fail after the last Update, and before Close is done.
		closeErr := st.Close()
		if health = st.Health(); health == nil {
			return false, errors.Join(err, closeErr)
		}
		return true, s.afterFault(ctx, e, disk)
	}
	if err == nil {
		err = st.Update(ctx, 1, func(tx store.Tx) error { return tx.Set([]byte("late"), nil) })
	}
	err = errors.Join(
		stopped("the first failing Update", err),
		stopped("Health", health),
		stopped("a later Update", st.Update(ctx, 1, func(tx store.Tx) error { return tx.Set([]byte("late"), nil) })),
		stopped("Purge", st.Purge(ctx)),
		failedIsClosed(st),
		s.exactly(ctx, st),
	)
	_ = st.Close() // it may fail; it must come back
	return true, errors.Join(err, s.afterFault(ctx, e, disk))
}

// afterFault restarts on the mended disk, as the process left it and after a
// power cut.
func (s *session) afterFault(ctx context.Context, e Engine, disk *vfs.CrashDisk) error {
	a := s.snapshot()
	for _, mode := range []vfs.Unsynced{vfs.Kept, vfs.Dropped, vfs.Torn} {
		if err := s.restart(ctx, e, disk.Clone(mode, 1), a, mode); err != nil {
			return fmt.Errorf("restart after the failure, unsynced data %v: %w", mode, err)
		}
	}
	return nil
}

func stopped(what string, err error) error {
	const want = "the store stopped: the disk failed a write; restart after mending the disk"
	if !errors.Is(err, errs.Unavailable) || errs.Public(err) != want {
		return fmt.Errorf("%s gave %v (public %q)", what, err, errs.Public(err))
	}
	return nil
}

func failedIsClosed(st store.Store) error {
	select {
	case <-st.Failed():
		return nil
	default:
		return errors.New("the channel of Failed is not closed")
	}
}

// exactly compares a failed store, which still reads, with the acknowledgements:
// nothing more may show.
func (s *session) exactly(ctx context.Context, st store.Store) error {
	a := s.snapshot()
	if err := s.verify(ctx, st, a); err != nil {
		return fmt.Errorf("reading after the failure: %w", err)
	}
	order, _, _ := s.shards(0)
	return st.View(ctx, order, func(r store.Reader) error {
		n, err := number(r, "count")
		if err == nil && n != a.count {
			err = fmt.Errorf("after the failure a View shows transaction %d, the last acknowledged one is %d", n, a.count)
		}
		return err
	})
}

func faults(t *testing.T, e Engine) {
	eio := syscall.EIO
	t.Run("Change", func(t *testing.T) {
		everyNth(t, e, func(f *vfs.Faults, n int) { f.FailNth(vfs.OpAny, n, eio) })
	})
	t.Run("Sync", func(t *testing.T) {
		everyNth(t, e, func(f *vfs.Faults, n int) { f.FailNth(vfs.OpSync, n, eio) })
	})
	t.Run("SyncForGood", func(t *testing.T) {
		everyNth(t, e, func(f *vfs.Faults, n int) { f.FailFrom(vfs.OpSync, n, eio) })
	})
	t.Run("Write", func(t *testing.T) {
		everyNth(t, e, func(f *vfs.Faults, n int) { f.FailNth(vfs.OpWrite, n, eio) })
	})
	t.Run("Create", func(t *testing.T) {
		everyNth(t, e, func(f *vfs.Faults, n int) { f.FailNth(vfs.OpCreate, n, eio) })
	})
	t.Run("SyncDir", func(t *testing.T) {
		everyNth(t, e, func(f *vfs.Faults, n int) { f.FailNth(vfs.OpSyncDir, n, eio) })
	})
	t.Run("Full", func(t *testing.T) {
		everyNth(t, e, func(f *vfs.Faults, n int) { f.SetSpace(int64(n) * 9973) })
	})
	t.Run("ReadOnly", func(t *testing.T) {
		met, err := FaultCheck(t.Context(), e, FaultConfig{Writers: 4, Txs: 5, Break: func(f *vfs.Faults) { f.SetReadOnly(true) }})
		if err != nil {
			t.Fatal(err)
		}
		if !met {
			t.Fatal("a read-only disk was not noticed")
		}
	})
	t.Run("Open", func(t *testing.T) { openFaults(t, e) })
}

// everyNth breaks the 1st, 2nd, ... operation until the workload is over before.
func everyNth(t *testing.T, e Engine, fault func(*vfs.Faults, int)) {
	t.Helper()
	const writers, txs = 3, 25
	step := func(n int) int { return 1 + n/8 } // densely at first, then sparser
	if sample() {
		step = func(n int) int { return 1 + n }
	}
	count := 0
	for n := 1; ; n += step(n) {
		met, err := FaultCheck(t.Context(), e, FaultConfig{
			Writers: writers, Txs: txs, Break: func(f *vfs.Faults) { fault(f, n) },
		})
		if err != nil {
			t.Fatalf("n=%d: %v", n, err)
		}
		if !met {
			break
		}
		count++
	}
	if count < 3 && !sample() || count == 0 {
		t.Fatalf("the fault was met only %d times", count)
	}
}

// openFaults breaks the n-th change while a store with a log to recover is opened,
// and opens it again on the mended disk.
func openFaults(t *testing.T, e Engine) {
	disk := vfs.NewCrashDisk()
	s := newSession(e, 2)
	st, err := e.Open(t.Context(), disk, dir)
	must(t, err)
	must(t, s.run(t.Context(), st, 10))
	left := disk.Clone(vfs.Kept, 0) // as kill -9 leaves it
	must(t, st.Close())
	failures := 0
	step := 8
	if sample() {
		step = 2
	}
	for n := 1; ; n += 1 + n/step {
		disk := left.Clone(vfs.Kept, 0)
		f := vfs.NewFaults(disk)
		f.FailNth(vfs.OpAny, n, syscall.ENOSPC)
		st, err := e.Open(t.Context(), f, dir)
		if err == nil {
			if err := s.verify(t.Context(), st, s.snapshot()); err != nil {
				t.Fatalf("n=%d: %v", n, err)
			}
			_ = st.Close()
			if f.Count(vfs.OpAny) < n {
				break
			}
		} else {
			failures++
			if errs.KindOf(err) == errs.Internal || errs.Public(err) == errs.KindOf(err).Error() {
				t.Errorf("n=%d: no public text: %v", n, err)
			}
		}
		if err := s.restart(t.Context(), e, disk.Clone(vfs.Dropped, 0), s.snapshot(), vfs.Dropped); err != nil {
			t.Fatalf("n=%d: after mending: %v", n, err)
		}
	}
	if failures < 4 {
		t.Fatalf("only %d failed opens", failures)
	}
}
