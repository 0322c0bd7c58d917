package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/store"
)

func canceled(t *testing.T, _ Engine, st store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ran := false
	wantKind(t, st.Update(ctx, 1, func(store.Tx) error { ran = true; return nil }), errs.Canceled)
	wantKind(t, st.View(ctx, 1, func(store.Reader) error { ran = true; return nil }), errs.Canceled)
	wantKind(t, st.Walk(ctx, func(store.Shard, []byte, []byte) (bool, error) { ran = true; return true, nil }), errs.Canceled)
	if ran {
		t.Error("a function ran although its context had ended")
	}
	// A long scan notices.
	var pairs []string
	for i := range 2000 {
		pairs = append(pairs, fmt.Sprintf("%05d", i), "x")
	}
	put(t, st, 1, pairs...)
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	n := 0
	err := st.View(ctx, 1, func(r store.Reader) error {
		return r.Scan(nil, nil, func(_, _ []byte) (bool, error) {
			n++
			if n == 10 {
				cancel()
			}
			return true, nil
		})
	})
	wantKind(t, err, errs.Canceled)
	if n >= 2000 {
		t.Error("the scan went on to its end")
	}
}

// canceledWhileWaiting: an Update whose context ends before it is taken up writes
// nothing, and one that was taken up is awaited.
func canceledWhileWaiting(t *testing.T, _ Engine, st store.Store) {
	inside, goOn := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first := make(chan error, 1)
	go func() {
		first <- st.Update(ctx, 1, func(tx store.Tx) error {
			close(inside)
			<-goOn // only a test may block here
			return tx.Set([]byte("first"), nil)
		})
	}()
	<-inside
	waiting, cancelWaiting := context.WithCancel(t.Context())
	second := make(chan error, 1)
	go func() {
		second <- st.Update(waiting, 1, func(tx store.Tx) error { return tx.Set([]byte("second"), nil) })
	}()
	cancelWaiting()
	wantKind(t, <-second, errs.Canceled)
	cancel() // too late for the first
	close(goOn)
	must(t, <-first)
	wantShard(t, st, 1, "first=")
}

func viewIsOneState(t *testing.T, _ Engine, st store.Store) {
	put(t, st, 1, "a", "1", "b", "1")
	must(t, st.View(t.Context(), 1, func(r store.Reader) error {
		wantDump(t, r, "", "", false, "a=1 b=1")
		put(t, st, 1, "a", "2", "b", "2", "c", "2") // by another goroutine's road
		wantDump(t, r, "", "", false, "a=1 b=1")
		v, err := r.Get([]byte("b"))
		if string(v) != "1" {
			t.Errorf("a View saw a later commit: %q", v)
		}
		return err
	}))
	wantShard(t, st, 1, "a=2 b=2 c=2")
}

func viewSeesEarlierUpdates(t *testing.T, _ Engine, st store.Store) {
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				want := fmt.Sprint(i)
				err := st.Update(t.Context(), 1, func(tx store.Tx) error {
					return tx.Set(fmt.Appendf(nil, "%d", w), []byte(want))
				})
				if err == nil {
					err = st.View(t.Context(), 1, func(r store.Reader) error {
						v, err := r.Get(fmt.Appendf(nil, "%d", w))
						if err == nil && string(v) != want {
							err = fmt.Errorf("a View after the Update saw %q, want %q", v, want)
						}
						return err
					})
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func fired(w *store.Watch) bool {
	select {
	case <-w.C:
		return true
	default:
		return false
	}
}

func watch(t *testing.T, e Engine, st store.Store) {
	w := st.Watch(1, []byte("k"))
	w2 := st.Watch(1, []byte("k"))
	elsewhere := []*store.Watch{st.Watch(1, []byte("kk")), st.Watch(2, []byte("k")), st.Watch(1, []byte(""))}
	if fired(w) {
		t.Fatal("it fired before any commit")
	}
	put(t, st, 1, "k", "1")
	if !fired(w) || !fired(w2) {
		t.Fatal("a set did not fire")
	}
	put(t, st, 1, "k", "2")
	put(t, st, 1, "k", "3")
	if !fired(w) {
		t.Fatal("two sets did not fire")
	}
	if fired(w) {
		t.Fatal("two sets fired twice: the wake-ups must join")
	}
	must(t, st.Update(t.Context(), 1, func(tx store.Tx) error { return tx.Delete([]byte("k")) }))
	if !fired(w) {
		t.Fatal("a delete did not fire")
	}
	_ = st.Update(t.Context(), 1, func(tx store.Tx) error {
		_ = tx.Set([]byte("k"), nil)
		return errors.New("no")
	})
	must(t, st.Update(t.Context(), 1, func(tx store.Tx) error { return tx.DeleteRange(nil, nil) }))
	if fired(w) {
		t.Fatal("it fired without a commit of this key")
	}
	if e.OneLog {
		must(t, st.Update(t.Context(), 3, func(tx store.Tx) error {
			o, err := tx.Other(1)
			must(t, err)
			return o.Set([]byte("k"), nil)
		}))
		if !fired(w) {
			t.Fatal("a set through another shard did not fire")
		}
	}
	w.Close()
	put(t, st, 1, "k", "4")
	if fired(w) {
		t.Fatal("it fired after Close")
	}
	if !fired(w2) {
		t.Fatal("closing one watch closed another")
	}
	for i, o := range elsewhere {
		if fired(o) {
			t.Errorf("watch %d of another key fired", i)
		}
		o.Close()
	}
	w2.Close()
}

// intend: announcing must neither lose nor stop anything, whatever callers do.
func intend(t *testing.T, _ Engine, st store.Store) {
	never := st.Intend() // announced, and no Update follows
	put(t, st, 1, "a", "1")
	put(t, st, 1, "a", "2")
	never()
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			done := st.Intend()
			defer done()
			if i%4 == 0 {
				return
			}
			err := st.Update(t.Context(), 1, func(tx store.Tx) error { return tx.Set(fmt.Appendf(nil, "b%02d", i), nil) })
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	n := 0
	must(t, st.View(t.Context(), 1, func(r store.Reader) error {
		return r.Scan([]byte("b"), []byte("c"), func(_, _ []byte) (bool, error) { n++; return true, nil })
	}))
	if n != 24 {
		t.Errorf("%d of 24 Updates arrived", n)
	}
}

func walk(t *testing.T, _ Engine, st store.Store) {
	put(t, st, 300, "c", "3")
	put(t, st, 1, "b", "2", "a", "1")
	put(t, st, store.Shards-1, "z", "4")
	var got string
	must(t, st.Walk(t.Context(), func(s store.Shard, k, v []byte) (bool, error) {
		got += fmt.Sprintf("%d/%s=%s ", s, k, v)
		return true, nil
	}))
	if want := "1/a=1 1/b=2 300/c=3 4095/z=4 "; got != want {
		t.Errorf("walked %q, want %q", got, want)
	}
	n := 0
	must(t, st.Walk(t.Context(), func(store.Shard, []byte, []byte) (bool, error) { n++; return false, nil }))
	if n != 1 {
		t.Errorf("went on for %d records after false", n)
	}
	boom := errors.New("boom")
	err := st.Walk(t.Context(), func(store.Shard, []byte, []byte) (bool, error) { return true, boom })
	if !errors.Is(err, boom) {
		t.Errorf("got %v, want the function's own error", err)
	}
}

func occupied(t *testing.T, _ Engine, st store.Store) {
	look := func(want ...store.Shard) {
		t.Helper()
		got, err := st.Occupied(t.Context())
		must(t, err)
		if !slices.Equal(got, want) {
			t.Errorf("shards %v, want %v", got, want)
		}
	}
	look()
	put(t, st, 300, "c", "3", "\xff\xff\xff", "the last of its shard")
	put(t, st, 1, "", "a key without bytes")
	put(t, st, 0, "a", "")
	put(t, st, store.Shards-1, "z", "4")
	look(0, 1, 300, store.Shards-1)
	must(t, st.Update(t.Context(), 300, func(tx store.Tx) error { return tx.DeleteRange(nil, nil) }))
	must(t, st.Update(t.Context(), 1, func(tx store.Tx) error { return tx.Delete(nil) }))
	look(0, store.Shards-1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := st.Occupied(ctx)
	wantKind(t, err, errs.Canceled)
}

func healthy(t *testing.T, _ Engine, st store.Store) {
	put(t, st, 1, "a", "1")
	must(t, st.Health())
	select {
	case <-st.Failed():
		t.Error("Failed is closed on a healthy store")
	default:
	}
}

func reopen(t *testing.T, e Engine) {
	disk := vfs.NewCrashDisk()
	for i := range 5 {
		must(t, using(t.Context(), e, disk, func(st store.Store) error {
			want := ""
			if i > 0 {
				want = fmt.Sprintf("n=%d", i)
			}
			wantShard(t, st, 9, want)
			put(t, st, 9, "n", fmt.Sprint(i+1))
			return nil
		}))
	}
}

func closed(t *testing.T, e Engine) {
	st, err := e.Open(t.Context(), vfs.NewCrashDisk(), dir)
	must(t, err)
	must(t, st.Close())
	must(t, st.Close()) // a second one does nothing
	wantKind(t, st.Update(t.Context(), 1, func(store.Tx) error { return nil }), errs.Unavailable)
	wantKind(t, st.View(t.Context(), 1, func(store.Reader) error { return nil }), errs.Unavailable)
	wantKind(t, st.Purge(t.Context()), errs.Unavailable)
	st.Intend()()

	// Closing answers every Update that waits, and waits for a running View.
	st, err = e.Open(t.Context(), vfs.NewCrashDisk(), dir)
	must(t, err)
	inside, goOn := make(chan struct{}), make(chan struct{})
	viewed := make(chan error, 1)
	go func() {
		viewed <- st.View(context.Background(), 1, func(r store.Reader) error {
			close(inside)
			<-goOn
			return nil
		})
	}()
	<-inside
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for {
				err := st.Update(context.Background(), 1, func(tx store.Tx) error { return tx.Set([]byte("k"), nil) })
				if err != nil {
					if !errors.Is(err, errs.Unavailable) {
						t.Errorf("got %v, want unavailable", err)
					}
					return
				}
			}
		})
	}
	closedNow := make(chan error, 1)
	go func() { closedNow <- st.Close() }()
	wg.Wait()
	select {
	case <-closedNow:
		t.Error("Close did not wait for a View")
	case <-time.After(10 * time.Millisecond):
	}
	close(goOn)
	must(t, <-viewed)
	must(t, <-closedNow)
}

func inUse(t *testing.T, e Engine) {
	disk := vfs.NewCrashDisk()
	st, err := e.Open(t.Context(), disk, dir)
	must(t, err)
	_, err = e.Open(t.Context(), disk, dir)
	wantKind(t, err, errs.Busy)
	put(t, st, 1, "a", "1") // the first one is not harmed
	must(t, st.Close())
	must(t, using(t.Context(), e, disk, func(st store.Store) error {
		wantShard(t, st, 1, "a=1")
		return nil
	}))
}
