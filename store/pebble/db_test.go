package pebble_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/store"
	"postern.email/store/pebble"

	pvfs "github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"
)

func openDB(t *testing.T, o pebble.Options) *pebble.DB {
	t.Helper()
	db, err := pebble.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// fill writes records of random bytes, which nothing can compress, to shards.
func fill(t *testing.T, db store.Store, shards, records, size int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	for s := range shards {
		err := db.Update(t.Context(), store.Shard(s), func(tx store.Tx) error {
			for i := range records {
				v := make([]byte, size)
				for j := range v {
					v[j] = byte(rng.Uint32())
				}
				if err := tx.Set(fmt.Appendf(nil, "%06d", i), v); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestNoGoroutineIsLeft(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	db, err := pebble.Open(t.Context(), pebble.Options{FS: vfs.NewCrashDisk(), Dir: "/s", MemTableBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, db, 8, 20, 2000)
	if err := db.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestNoGoroutineIsLeftAfterFailure(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	f := vfs.NewFaults(vfs.NewCrashDisk())
	db, err := pebble.Open(t.Context(), pebble.Options{FS: f, Dir: "/s"})
	if err != nil {
		t.Fatal(err)
	}
	f.FailFrom(vfs.OpSync, 1, syscall.EIO)
	if err := set(t.Context(), db, "k"); !errors.Is(err, errs.Unavailable) {
		t.Fatal(err)
	}
	if err := db.Close(); !errors.Is(err, errs.Unavailable) {
		t.Fatalf("Close after a failure gave %v", err)
	}
}

// Fatalf ends the store, not the process, and its words stay private.
func TestFatalStopsTheStore(t *testing.T) {
	var log bytes.Buffer
	db := openDB(t, pebble.Options{FS: vfs.NewCrashDisk(), Dir: "/s",
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err := set(t.Context(), db, "before"); err != nil {
		t.Fatal(err)
	}
	db.Fatal("private words")
	<-db.Failed()
	err := set(t.Context(), db, "after")
	if !errors.Is(err, errs.Unavailable) || strings.Contains(errs.Public(err), "private") {
		t.Fatalf("got %v, public %q", err, errs.Public(err))
	}
	err = db.View(t.Context(), 1, func(r store.Reader) error {
		_, err := r.Get([]byte("before"))
		return err
	})
	if err != nil {
		t.Errorf("reading stopped: %v", err)
	}
	_ = db.Close()
	if !strings.Contains(log.String(), "level=ERROR msg=\"the store stopped\"") {
		t.Error("the failure was not logged")
	}
	if !strings.Contains(log.String(), "level=DEBUG msg=\"pebble: ") {
		t.Error("Pebble's remarks were not logged at debug level")
	}
}

func TestOpenErrors(t *testing.T) {
	full := vfs.NewCrashDisk()
	full.TestingSetDiskUsage(pvfs.DiskUsage{AvailBytes: 1000, TotalBytes: 1 << 30})
	readOnly := vfs.NewFaults(vfs.NewCrashDisk())
	readOnly.SetReadOnly(true)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		o    pebble.Options
		want errs.Kind
	}{
		"no directory": {t.Context(), pebble.Options{}, errs.Invalid},
		"canceled":     {ended, pebble.Options{FS: vfs.NewCrashDisk(), Dir: "/s"}, errs.Canceled},
		"full disk":    {t.Context(), pebble.Options{FS: full, Dir: "/s"}, errs.NoSpace},
		"read-only":    {t.Context(), pebble.Options{FS: readOnly, Dir: "/s"}, errs.Unavailable},
	} {
		if _, err := pebble.Open(c.ctx, c.o); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestOpenInUse(t *testing.T) {
	o := pebble.Options{Dir: t.TempDir()}
	openDB(t, o)
	_, err := pebble.Open(t.Context(), o)
	if !errors.Is(err, errs.Busy) || errs.Public(err) != "the store is in use by another process" {
		t.Errorf("got %v, public %q", err, errs.Public(err))
	}
}

func TestOpenOtherVersion(t *testing.T) {
	disk := vfs.NewCrashDisk()
	db := openDB(t, pebble.Options{FS: disk, Dir: "/s"})
	if err := db.Raw([]byte("\xff\xffversion"), []byte{0, 0, 0, 99}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := pebble.Open(t.Context(), pebble.Options{FS: disk, Dir: "/s"}); !errors.Is(err, errs.Unsupported) {
		t.Errorf("a store of version 99: %v, want unsupported", err)
	}
}

// A store with data is never taken for the rest of a cut creation.
func TestLostBornFileLosesNothing(t *testing.T) {
	disk := vfs.NewCrashDisk()
	db := openDB(t, pebble.Options{FS: disk, Dir: "/s"})
	fill(t, db, 1, 10, 1000)
	left := disk.Clone(vfs.Kept, 0) // all of it in the log
	if err := left.Remove("/s/" + pebble.BornFile); err != nil {
		t.Fatal(err)
	}
	db = openDB(t, pebble.Options{FS: left, Dir: "/s"})
	err := db.View(t.Context(), 0, func(r store.Reader) error {
		_, err := r.Get([]byte("000009"))
		return err
	})
	if err != nil {
		t.Errorf("the record is gone: %v", err)
	}
}

func TestCheckFindsDamage(t *testing.T) {
	dir := t.TempDir()
	o := pebble.Options{Dir: dir, MemTableBytes: 64 << 10}
	db := openDB(t, o)
	fill(t, db, 4, 50, 1000)
	if err := db.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found, err := db.Check(t.Context()); len(found) != 0 || err != nil {
		t.Fatalf("a sound store: %v, %v", found, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	data, err := os.ReadFile(tables[0])
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/3] ^= 1
	if err := os.WriteFile(tables[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	db = openDB(t, o)
	found, err := db.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	named := false
	for _, f := range found {
		named = named || strings.Contains(f.What, filepath.Base(tables[0]))
	}
	if !named {
		t.Errorf("one flipped bit in %s: found %v", filepath.Base(tables[0]), found)
	}
	// Reading the damaged part says so.
	err = db.Walk(t.Context(), func(store.Shard, []byte, []byte) (bool, error) { return true, nil })
	if !errors.Is(err, errs.Corrupt) {
		t.Errorf("reading everything gave %v, want corrupt", err)
	}
}

func TestCheckFindsStrangeRecords(t *testing.T) {
	db := openDB(t, pebble.Options{FS: vfs.NewCrashDisk(), Dir: "/s"})
	for _, k := range []string{"\x20\x00beyond the last shard", "\x00\x01" + strings.Repeat("k", store.MaxKey+1)} {
		if err := db.Raw([]byte(k), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := set(t.Context(), db, "k"); err != nil { // the new durable state holds them
		t.Fatal(err)
	}
	found, err := db.Check(t.Context())
	if err != nil || len(found) != 2 {
		t.Errorf("found %v, %v; want two findings", found, err)
	}
}

// Purge after little was deleted rewrites little of a large store.
func TestPurgeIsAffordable(t *testing.T) {
	db := openDB(t, pebble.Options{FS: vfs.NewCrashDisk(), Dir: "/s", MemTableBytes: 256 << 10})
	const shards, perShard = 64, 40
	fill(t, db, shards, perShard, 10_000) // 25 MB
	if err := db.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := compacted(db)
	if before < 20<<20 {
		t.Fatalf("the first purge compacted %d bytes: the store is too small to show anything", before)
	}
	err := db.Update(t.Context(), 30, func(tx store.Tx) error { return tx.Delete([]byte("000007")) })
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := compacted(db) - before; n > 8<<20 {
		t.Errorf("one deleted record: %d bytes rewritten", n)
	} else {
		t.Logf("one deleted record: %d bytes rewritten", n)
	}
	before = compacted(db)
	if err := db.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := compacted(db) - before; n != 0 {
		t.Errorf("nothing deleted: %d bytes rewritten", n)
	}
}

// compacted is how many bytes compactions have written.
func compacted(db *pebble.DB) uint64 {
	var n uint64
	m := db.Metrics()
	for _, l := range m.Levels {
		n += l.TableBytesCompacted
	}
	return n
}

// A deleted record's bytes are gone from the log at once, not only at reuse: no
// log waits to be used again.
func TestLogsAreNotKept(t *testing.T) {
	disk := vfs.NewCrashDisk()
	db := openDB(t, pebble.Options{FS: disk, Dir: "/s", MemTableBytes: 64 << 10})
	for range 3 {
		fill(t, db, 8, 20, 2000)
		if err := db.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		names, err := disk.List("/s")
		if err != nil {
			t.Fatal(err)
		}
		logs := 0
		for _, n := range names {
			if strings.HasSuffix(n, ".log") {
				logs++
			}
		}
		if logs != 1 {
			t.Errorf("%d logs after Purge, want 1", logs)
		}
	}
}

func TestDirectoryIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "store")
	openDB(t, pebble.Options{Dir: dir})
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, want 0700", info.Mode().Perm())
	}
}

func TestMemTableBytes(t *testing.T) {
	flushed := func(size int64) int64 {
		db := openDB(t, pebble.Options{FS: vfs.NewCrashDisk(), Dir: "/s", MemTableBytes: size})
		fill(t, db, 20, 20, 1000) // 400 kB
		return db.Metrics().Flush.Count
	}
	if small, large := flushed(64<<10), flushed(8<<20); small == 0 || large != 0 {
		t.Errorf("%d flushes with 64 KiB, %d with 8 MiB; want some and none", small, large)
	}
}
