package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"postern.email/kit/vfs"
	"postern.email/store"
)

// CrashConfig sizes CrashCheck.
type CrashConfig struct {
	Writers int    // concurrent writers
	Txs     int    // transactions each
	Every   int    // look at every n-th sync only; 0 and 1 mean all
	Seed    uint64 // of what survives in torn crashes
}

// CrashCheck runs concurrent writers and some Purges on a crashable disk and, before and after
// every sync, restarts the engine on what a crash at that moment would leave:
// unsynced data dropped, kept and torn. Everything acknowledged (and everything a
// reader was shown) must be there, no transaction by half, and the transactions
// found must be a prefix of the order in which they were committed. It gives the
// number of restarts and the first thing that was wrong.
func CrashCheck(ctx context.Context, e Engine, c CrashConfig) (restarts int, err error) {
	var (
		mu    sync.Mutex
		first error
		disk  = vfs.NewCrashDisk()
		s     = newSession(e, c.Writers)

		running atomic.Pointer[store.Store]
	)
	look := func(where string, mode vfs.Unsynced, seed uint64) {
		mu.Lock()
		defer mu.Unlock()
		if first != nil {
			return
		}
		if st := running.Load(); st != nil {
			// What a reader is shown while the disk is busy must survive too. It
			// fails while the store closes; then nothing was shown.
			_ = s.look(ctx, *st)
		}
		a := s.snapshot() // before the clone: all of this must be on it
		after := disk.Clone(mode, seed)
		restarts++
		if err := s.restart(ctx, e, after, a, mode); err != nil {
			first = fmt.Errorf("%s, unsynced data %v (seed %d): %w", where, mode, seed, err)
		}
	}
	fs := vfs.NewSyncPoints(disk, func(p vfs.SyncPoint) {
		if c.Every > 1 && p.N%int64(c.Every) != 0 {
			return
		}
		if p.After {
			// Only what is lost is of interest here; the rest shows before the next.
			look(fmt.Sprintf("after sync %d (%s)", p.N, p.Path), vfs.Dropped, 0)
			return
		}
		where := fmt.Sprintf("before sync %d (%s)", p.N, p.Path)
		for _, mode := range []vfs.Unsynced{vfs.Dropped, vfs.Kept, vfs.Torn} {
			look(where, mode, c.Seed+uint64(p.N))
		}
	})
	st, err := e.Open(ctx, fs, dir)
	if err != nil {
		return 0, err
	}
	running.Store(&st)
	purged := make(chan error, 1)
	go func() { purged <- errors.Join(st.Purge(ctx), st.Purge(ctx), st.Purge(ctx)) }()
	err = s.run(ctx, st, c.Txs)
	err = errors.Join(err, <-purged)
	if err == nil {
		for _, mode := range []vfs.Unsynced{vfs.Dropped, vfs.Kept, vfs.Torn} {
			look("at the end", mode, c.Seed)
		}
	}
	err = errors.Join(err, st.Close())
	mu.Lock()
	defer mu.Unlock()
	return restarts, errors.Join(first, err)
}

// restart opens the engine on a disk after a crash and compares. What it shows
// then must survive a second crash at once, and it must go on working.
func (s *session) restart(ctx context.Context, e Engine, disk *vfs.CrashDisk, a acks, mode vfs.Unsynced) error {
	var again *vfs.CrashDisk
	shown := newSession(e, s.writers)
	err := using(ctx, e, disk, func(st store.Store) error {
		if err := s.verify(ctx, st, a); err != nil {
			return err
		}
		if err := shown.look(ctx, st); err != nil {
			return err
		}
		if mode == vfs.Kept {
			again = disk.Clone(vfs.Dropped, 0)
		}
		return shown.write(ctx, st, 0)
	})
	if err != nil {
		return err
	}
	err = using(ctx, e, disk, func(st store.Store) error { return s.verify(ctx, st, shown.snapshot()) })
	if err != nil {
		return fmt.Errorf("after one more transaction and a clean stop: %w", err)
	}
	if again == nil {
		return nil
	}
	a.seen = max(a.seen, shown.seen)
	err = using(ctx, e, again, func(st store.Store) error { return s.verify(ctx, st, a) })
	if err != nil {
		return fmt.Errorf("after a second crash right after the restart: %w", err)
	}
	return nil
}

// using runs fn on an open store and closes it.
func using(ctx context.Context, e Engine, fs vfs.FS, fn func(store.Store) error) error {
	st, err := e.Open(ctx, fs, dir)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	return errors.Join(fn(st), st.Close())
}

func crash(t *testing.T, e Engine) {
	c := CrashConfig{Writers: 4, Txs: 40, Seed: 1}
	if sample() {
		c.Every = 8
	}
	n, err := CrashCheck(t.Context(), e, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d restarts", n)
	if !sample() && n < 100 {
		t.Fatalf("only %d restarts: the workload syncs too seldom to show anything", n)
	}
}
