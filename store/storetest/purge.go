package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/store"
)

const canary = "CANARY-that-must-go-away-"

// holding lists the files below d that hold what. Files that go away meanwhile
// count as gone.
func holding(t *testing.T, fs vfs.FS, d, what string) (files []string) {
	t.Helper()
	names, err := fs.List(d)
	must(t, err)
	for _, n := range names {
		p := fs.PathJoin(d, n)
		info, err := fs.Stat(p)
		if errors.Is(err, iofs.ErrNotExist) {
			continue
		}
		must(t, err)
		if info.IsDir() {
			files = append(files, holding(t, fs, p, what)...)
			continue
		}
		data, err := vfs.ReadFile(fs, p)
		if errors.Is(err, errs.NotFound) {
			continue
		}
		must(t, err)
		if bytes.Contains(data, []byte(what)) {
			files = append(files, p)
		}
	}
	return files
}

func purge(t *testing.T, e Engine) {
	t.Run("Deleted", func(t *testing.T) { purgeDeleted(t, e) })
	t.Run("OverwrittenUnderReader", func(t *testing.T) { purgeUnderReader(t, e) })
	t.Run("WaitsForReaders", func(t *testing.T) { purgeWaits(t, e) })
	t.Run("AfterRestart", func(t *testing.T) { purgeAfterRestart(t, e) })
	t.Run("UnderLoad", func(t *testing.T) { purgeUnderLoad(t, e) })
	t.Run("RealDisk", func(t *testing.T) { purgeRealDisk(t, e) })
}

// fill writes records with canaries into many shards.
func fill(t *testing.T, st store.Store, shards, records int) {
	t.Helper()
	for s := range shards {
		must(t, st.Update(t.Context(), store.Shard(s*61), func(tx store.Tx) error {
			for i := range records {
				v := fmt.Sprintf("%s%d-%d-%s", canary, s, i, payload(s, uint64(i)))
				if err := tx.Set(fmt.Appendf(nil, "r%04d", i), []byte(v)); err != nil {
					return err
				}
			}
			return nil
		}))
	}
}

func purgeDeleted(t *testing.T, e Engine) {
	disk := vfs.NewCrashDisk()
	st := open(t, e, disk)
	fill(t, st, 8, 40)
	must(t, st.Purge(t.Context()))
	fill(t, st, 8, 20)
	if len(holding(t, disk, dir, canary)) == 0 {
		t.Fatal("the canary is not on the disk: the test shows nothing")
	}
	for s := range 8 {
		must(t, st.Update(t.Context(), store.Shard(s*61), func(tx store.Tx) error {
			switch s % 3 {
			case 0: // one by one
				for i := range 40 {
					if err := tx.Delete(fmt.Appendf(nil, "r%04d", i)); err != nil {
						return err
					}
				}
				return nil
			case 1: // at once
				return tx.DeleteRange(nil, nil)
			}
			for i := range 40 { // overwritten
				if err := tx.Set(fmt.Appendf(nil, "r%04d", i), []byte("new")); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	must(t, st.Purge(t.Context()))
	if files := holding(t, disk, dir, canary); len(files) > 0 {
		t.Fatalf("still in %v", files)
	}
	must(t, st.View(t.Context(), 2*61, func(r store.Reader) error {
		v, err := r.Get([]byte("r0007"))
		if string(v) != "new" {
			t.Errorf("purge changed a record: %q", v)
		}
		return err
	}))
}

// purgeUnderReader: a version that was overwritten while a reader held it, and
// written to a file in that time, goes away too.
func purgeUnderReader(t *testing.T, e Engine) {
	disk := vfs.NewCrashDisk()
	st := open(t, e, disk)
	put(t, st, 5, "k", canary)
	must(t, st.View(t.Context(), 5, func(store.Reader) error {
		put(t, st, 5, "k", "second")
		// The purge cannot end while this reader is there, but it may write files.
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		wantKind(t, st.Purge(ctx), errs.Canceled)
		fill(t, st, 4, 60) // much else, so that memory is written out
		return nil
	}))
	for s := range 4 {
		must(t, st.Update(t.Context(), store.Shard(s*61), func(tx store.Tx) error { return tx.DeleteRange(nil, nil) }))
	}
	must(t, st.Purge(t.Context()))
	if files := holding(t, disk, dir, canary); len(files) > 0 {
		t.Fatalf("still in %v", files)
	}
	wantShard(t, st, 5, "k=second")
}

func purgeWaits(t *testing.T, e Engine) {
	disk := vfs.NewCrashDisk()
	st := open(t, e, disk)
	put(t, st, 5, "k", canary)
	purged := make(chan error, 1)
	must(t, st.View(t.Context(), 5, func(r store.Reader) error {
		must(t, st.Update(t.Context(), 5, func(tx store.Tx) error { return tx.Delete([]byte("k")) }))
		go func() { purged <- st.Purge(t.Context()) }()
		select {
		case err := <-purged:
			t.Errorf("Purge came back (%v) while a reader could still read the record", err)
			purged <- err
		case <-time.After(20 * time.Millisecond):
		}
		v, err := r.Get([]byte("k"))
		if string(v) != canary {
			t.Errorf("the reader's state changed: %q", v)
		}
		return err
	}))
	must(t, <-purged)
	if files := holding(t, disk, dir, canary); len(files) > 0 {
		t.Fatalf("still in %v", files)
	}
}

// purgeAfterRestart: what was deleted before a stop or a crash goes away too.
func purgeAfterRestart(t *testing.T, e Engine) {
	for _, crashed := range []bool{false, true} {
		disk := vfs.NewCrashDisk()
		st, err := e.Open(t.Context(), disk, dir)
		must(t, err)
		fill(t, st, 3, 30)
		for s := range 3 {
			must(t, st.Update(t.Context(), store.Shard(s*61), func(tx store.Tx) error { return tx.DeleteRange(nil, nil) }))
		}
		after := disk.Clone(vfs.Dropped, 0)
		must(t, st.Close())
		if !crashed {
			after = disk
		}
		must(t, using(t.Context(), e, after, func(st store.Store) error {
			must(t, st.Purge(t.Context()))
			if files := holding(t, after, dir, canary); len(files) > 0 {
				t.Fatalf("crashed=%v: still in %v", crashed, files)
			}
			return nil
		}))
	}
}

// purgeUnderLoad: writers and readers go on meanwhile, and nothing else is lost.
func purgeUnderLoad(t *testing.T, e Engine) {
	disk := vfs.NewCrashDisk()
	st := open(t, e, disk)
	s := newSession(e, 3)
	ran := make(chan error, 1)
	go func() { ran <- s.run(t.Context(), st, 60) }()
	for round := range 5 {
		put(t, st, 4000, "k", fmt.Sprintf("%s%d", canary, round))
		must(t, st.Update(t.Context(), 4000, func(tx store.Tx) error { return tx.Delete([]byte("k")) }))
		must(t, st.Purge(t.Context()))
		if files := holding(t, disk, dir, canary); len(files) > 0 {
			t.Fatalf("round %d: still in %v", round, files)
		}
	}
	must(t, <-ran)
	must(t, s.verify(t.Context(), st, s.snapshot()))
}

func purgeRealDisk(t *testing.T, e Engine) {
	d := t.TempDir()
	st, err := e.Open(t.Context(), vfs.OS(), d)
	must(t, err)
	fill(t, st, 2, 30)
	for s := range 2 {
		must(t, st.Update(t.Context(), store.Shard(s*61), func(tx store.Tx) error { return tx.DeleteRange(nil, nil) }))
	}
	if len(holding(t, vfs.OS(), d, canary)) == 0 {
		t.Error("the canary is not on the disk: the test shows nothing")
	}
	must(t, st.Purge(t.Context()))
	if files := holding(t, vfs.OS(), d, canary); len(files) > 0 {
		t.Errorf("still in %v", files)
	}
	must(t, st.Close())
}
