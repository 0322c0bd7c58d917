package storetest_test

import (
	"context"
	"errors"
	"path"
	"sync"
	"testing"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/store"
	"postern.email/store/pebble"
	"postern.email/store/storetest"

	pvfs "github.com/cockroachdb/pebble/v2/vfs"
)

// These tests plant defects in a good engine and demand that the suite finds them.

func sound(ctx context.Context, fs vfs.FS, dir string) (store.Store, error) {
	db, err := pebble.Open(ctx, pebble.Options{FS: fs, Dir: dir, MemTableBytes: 64 << 10, CacheBytes: 1 << 20})
	if err != nil {
		return nil, err
	}
	return db, nil
}

// broken is the engine with every store wrapped.
func broken(wrap func(store.Store) store.Store) storetest.Engine {
	return storetest.Engine{OneLog: true, Open: func(ctx context.Context, fs vfs.FS, dir string) (store.Store, error) {
		st, err := sound(ctx, fs, dir)
		if err != nil {
			return nil, err
		}
		return wrap(st), nil
	}}
}

var (
	crashConfig  = storetest.CrashConfig{Writers: 4, Txs: 20, Seed: 1}
	linearConfig = storetest.LinearConfig{Clients: 6, Ops: 40, Seed: 1}
)

// noSync is a disk whose log syncs do nothing: an engine that acknowledges before
// the disk has it.
type noSync struct{ vfs.FS }

func (f noSync) Create(name string, c pvfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	if err == nil && path.Ext(name) == ".log" {
		file = noSyncFile{file}
	}
	return file, err
}

type noSyncFile struct{ vfs.File }

func (noSyncFile) Sync() error                { return nil }
func (noSyncFile) SyncData() error            { return nil }
func (noSyncFile) SyncTo(int64) (bool, error) { return false, nil }

func TestSoundEnginePasses(t *testing.T) {
	e := storetest.Engine{OneLog: true, Open: sound}
	if _, err := storetest.CrashCheck(t.Context(), e, crashConfig); err != nil {
		t.Error(err)
	}
	if err := storetest.LinearCheck(t.Context(), e, linearConfig); err != nil {
		t.Error(err)
	}
}

func TestFindsAcknowledgementBeforeSync(t *testing.T) {
	e := storetest.Engine{OneLog: true, Open: func(ctx context.Context, fs vfs.FS, dir string) (store.Store, error) {
		return sound(ctx, noSync{fs}, dir)
	}}
	_, err := storetest.CrashCheck(t.Context(), e, crashConfig)
	if err == nil {
		t.Fatal("an engine that does not sync its log passed the crash check")
	}
	t.Log(err)
}

// recorder notes the writes of a transaction.
type recorder struct {
	store.Tx
	shard  store.Shard
	writes *[]func(store.Tx) (store.Shard, error)
}

func (r recorder) Set(k, v []byte) error {
	k, v = append([]byte(nil), k...), append([]byte(nil), v...)
	*r.writes = append(*r.writes, func(tx store.Tx) (store.Shard, error) {
		if tx == nil {
			return r.shard, nil
		}
		return r.shard, tx.Set(k, v)
	})
	return nil
}

func (r recorder) DeleteRange(a, b []byte) error {
	*r.writes = append(*r.writes, func(tx store.Tx) (store.Shard, error) {
		if tx == nil {
			return r.shard, nil
		}
		return r.shard, tx.DeleteRange(a, b)
	})
	return nil
}

func (r recorder) Other(s store.Shard) (store.Tx, error) {
	o, err := r.Tx.Other(s)
	return recorder{o, s, r.writes}, err
}

var errTakeBack = errors.New("only looked")

// record runs fn without effect and gives its writes.
func record(ctx context.Context, st store.Store, s store.Shard, fn func(store.Tx) error) (writes []func(store.Tx) (store.Shard, error), err error) {
	err = st.Update(ctx, s, func(tx store.Tx) error {
		writes = nil
		if err := fn(recorder{tx, s, &writes}); err != nil {
			return err
		}
		return errTakeBack
	})
	if errors.Is(err, errTakeBack) {
		err = nil
	}
	return writes, err
}

// halves writes each record of a transaction for itself. A lock keeps it
// serializable, so that only a crash shows the defect.
type halves struct {
	store.Store
	mu *sync.Mutex
}

func (h halves) Update(ctx context.Context, s store.Shard, fn func(store.Tx) error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	writes, err := record(ctx, h.Store, s, fn)
	for _, w := range writes {
		if err != nil {
			break
		}
		sh, _ := w(nil)
		err = h.Store.Update(ctx, sh, func(tx store.Tx) error { _, err := w(tx); return err })
	}
	return err
}

func TestFindsHalfTransactions(t *testing.T) {
	e := broken(func(st store.Store) store.Store { return halves{st, new(sync.Mutex)} })
	c := crashConfig
	c.Writers = 1 // others would see the halves without any crash
	_, err := storetest.CrashCheck(t.Context(), e, c)
	if err == nil {
		t.Fatal("an engine that tears transactions passed the crash check")
	}
	t.Log(err)
}

// lostUpdates reads in one transaction and writes in another.
type lostUpdates struct{ store.Store }

func (l lostUpdates) Update(ctx context.Context, s store.Shard, fn func(store.Tx) error) error {
	writes, err := record(ctx, l.Store, s, fn)
	if err != nil {
		return err
	}
	return l.Store.Update(ctx, s, func(tx store.Tx) error {
		for _, w := range writes {
			at := tx
			sh, _ := w(nil)
			if sh != s {
				var err error
				if at, err = tx.Other(sh); err != nil {
					return err
				}
			}
			if _, err := w(at); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestFindsLostUpdates(t *testing.T) {
	e := broken(func(st store.Store) store.Store { return lostUpdates{st} })
	c := linearConfig
	for c.Seed = range 100 { // it is a race: not every history shows it
		if err := storetest.LinearCheck(t.Context(), e, c); err != nil {
			t.Log(err)
			return
		}
	}
	t.Fatal("an engine that loses updates passed the linearizability check")
}

// staleViews reads the state before the last commit.
type staleViews struct {
	store.Store
	mu   *sync.Mutex
	last *map[string]string
}

func (s staleViews) View(ctx context.Context, sh store.Shard, fn func(store.Reader) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := *s.last
	now := make(map[string]string)
	err := s.Store.View(ctx, sh, func(r store.Reader) error {
		return r.Scan(nil, nil, func(k, v []byte) (bool, error) { now[string(k)] = string(v); return true, nil })
	})
	if err != nil {
		return err
	}
	*s.last = now
	return fn(mapReader(old))
}

type mapReader map[string]string

func (m mapReader) Get(k []byte) ([]byte, error) {
	v, ok := m[string(k)]
	if !ok {
		return nil, errs.E("test", errs.NotFound, "", nil)
	}
	return []byte(v), nil
}

func (mapReader) GetMany(_ [][]byte, _ func(_ int, _ []byte) (bool, error)) error  { return nil }
func (mapReader) Scan(_, _ []byte, _ func(_, _ []byte) (bool, error)) error        { return nil }
func (mapReader) ScanReverse(_, _ []byte, _ func(_, _ []byte) (bool, error)) error { return nil }

func TestFindsStaleViews(t *testing.T) {
	e := broken(func(st store.Store) store.Store {
		return staleViews{st, new(sync.Mutex), new(map[string]string)}
	})
	if err := storetest.LinearCheck(t.Context(), e, linearConfig); err == nil {
		t.Fatal("an engine whose Views lag behind passed the linearizability check")
	} else {
		t.Log(err)
	}
}

// deafToFaults acknowledges although the disk failed.
type deafToFaults struct{ store.Store }

func (d deafToFaults) Update(ctx context.Context, s store.Shard, fn func(store.Tx) error) error {
	err := d.Store.Update(ctx, s, fn)
	if errors.Is(err, errs.Unavailable) {
		return nil
	}
	return err
}

func TestFindsAcknowledgementAfterFault(t *testing.T) {
	met, err := storetest.FaultCheck(t.Context(), broken(func(st store.Store) store.Store { return deafToFaults{st} }),
		storetest.FaultConfig{Writers: 2, Txs: 20, Break: func(f *vfs.Faults) { f.FailNth(vfs.OpSync, 5, errors.New("boom")) }})
	if !met || err == nil {
		t.Fatalf("an engine that acknowledges after a failed sync passed the fault check (met %v)", met)
	}
	t.Log(err)
}

func TestSplitLogs(t *testing.T) {
	e := broken(storetest.SplitLogs)
	e.OneLog = false
	c := crashConfig
	c.Every = 3
	if _, err := storetest.CrashCheck(t.Context(), e, c); err != nil {
		t.Error(err)
	}
	st, err := e.Open(t.Context(), vfs.NewCrashDisk(), "/s")
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	err = st.Update(t.Context(), 1, func(tx store.Tx) error { _, err := tx.Other(2); return err })
	if !errors.Is(err, errs.Unsupported) {
		t.Errorf("Other gave %v, want unsupported", err)
	}
}

func TestFaulty(t *testing.T) {
	inner, err := sound(t.Context(), vfs.NewCrashDisk(), "/s")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	before, after := errors.New("before"), errors.New("after")
	f := &storetest.Faulty{
		Store: inner,
		Before: func(n int64) error {
			if n == 2 {
				return before
			}
			return nil
		},
		After: func(n int64) error {
			if n == 3 {
				return after
			}
			return nil
		},
	}
	for i, want := range []error{nil, before, after, nil} {
		err := f.Update(t.Context(), 1, func(tx store.Tx) error { return tx.Set([]byte{byte(i)}, nil) })
		if !errors.Is(err, want) {
			t.Errorf("update %d gave %v, want %v", i+1, err, want)
		}
	}
	var keys []byte
	err = f.View(t.Context(), 1, func(r store.Reader) error {
		return r.Scan(nil, nil, func(k, _ []byte) (bool, error) { keys = append(keys, k...); return true, nil })
	})
	if err != nil {
		t.Fatal(err)
	}
	if string(keys) != "\x00\x02\x03" {
		t.Errorf("written: %v, want 0 2 3", keys)
	}
	if f.Count() != 4 {
		t.Errorf("counted %d", f.Count())
	}
}
