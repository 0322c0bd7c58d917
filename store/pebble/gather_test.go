package pebble_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/store"
	"postern.email/store/pebble"
)

// inBubble runs fn on a store in virtual time. Its disk needs syncTime for a sync.
func inBubble(t *testing.T, o pebble.Options, syncTime time.Duration, fn func(t *testing.T, db *pebble.DB)) {
	synctest.Test(t, func(t *testing.T) {
		var slow bool
		o.FS = vfs.NewSyncPoints(vfs.NewCrashDisk(), func(p vfs.SyncPoint) {
			if slow && p.After {
				time.Sleep(syncTime)
			}
		})
		o.Dir = "/s"
		db, err := pebble.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		slow = true
		fn(t, db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func set(ctx context.Context, db store.Store, key string) error {
	return db.Update(ctx, 1, func(tx store.Tx) error { return tx.Set([]byte(key), []byte("v")) })
}

func TestSingleWriterDoesNotWait(t *testing.T) {
	inBubble(t, pebble.Options{}, 0, func(t *testing.T, db *pebble.DB) {
		begin := time.Now()
		for range 10 {
			done := db.Intend()
			if err := set(t.Context(), db, "k"); err != nil {
				t.Fatal(err)
			}
			done()
		}
		if d := time.Since(begin); d != 0 {
			t.Errorf("a lone writer waited %v", d)
		}
	})
}

func TestGroupWaitsForAnnounced(t *testing.T) {
	inBubble(t, pebble.Options{GatherMax: 10 * time.Millisecond}, 0, func(t *testing.T, db *pebble.DB) {
		before := db.Stats()
		begin := time.Now()
		var wg sync.WaitGroup
		for i := range 5 {
			done := db.Intend()
			wg.Go(func() {
				defer done()
				time.Sleep(time.Duration(i) * time.Millisecond)
				if err := set(t.Context(), db, fmt.Sprint(i)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if d := time.Since(begin); d != 4*time.Millisecond {
			t.Errorf("took %v, want 4ms: until the last announced one came", d)
		}
		if n := db.Stats().Syncs - before.Syncs; n != 1 {
			t.Errorf("%d syncs for 5 announced Updates, want 1", n)
		}
	})
}

// An intent that is not followed by an Update delays others once, not for ever.
func TestGatherMax(t *testing.T) {
	inBubble(t, pebble.Options{GatherMax: 7 * time.Millisecond}, 0, func(t *testing.T, db *pebble.DB) {
		slow, slower := db.Intend(), db.Intend()
		for i, want := range []time.Duration{7 * time.Millisecond, 0, 0} {
			begin := time.Now()
			if err := set(t.Context(), db, "k"); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(begin); d != want {
				t.Errorf("update %d took %v, want %v", i, d, want)
			}
		}
		slow()
		slower()
		slow() // a second call does nothing
		begin := time.Now()
		done := db.Intend()
		if err := set(t.Context(), db, "k"); err != nil {
			t.Fatal(err)
		}
		done()
		if d := time.Since(begin); d != 0 {
			t.Errorf("old intents still count: waited %v", d)
		}
	})
}

func TestGatherOff(t *testing.T) {
	inBubble(t, pebble.Options{GatherMax: -1}, 0, func(t *testing.T, db *pebble.DB) {
		defer db.Intend()()
		defer db.Intend()()
		begin := time.Now()
		if err := set(t.Context(), db, "k"); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begin); d != 0 {
			t.Errorf("waited %v", d)
		}
	})
}

func TestMaxGroup(t *testing.T) {
	inBubble(t, pebble.Options{MaxGroup: 4, GatherMax: 10 * time.Millisecond}, 0, func(t *testing.T, db *pebble.DB) {
		before := db.Stats()
		var wg sync.WaitGroup
		for i := range 8 {
			done := db.Intend()
			wg.Go(func() {
				defer done()
				if err := set(t.Context(), db, fmt.Sprint(i)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := db.Stats().Groups - before.Groups; n < 2 {
			t.Errorf("%d groups for 8 Updates of which 4 fit into one", n)
		}
	})
}

// Sixteen closed-loop connections, each 0.2 ms of work before and 0.3 ms between
// its commits, on a disk that needs 0.3 ms for a sync: at most 0.15 syncs a mail.
func TestSyncsPerMail(t *testing.T) {
	inBubble(t, pebble.Options{}, 300*time.Microsecond, func(t *testing.T, db *pebble.DB) {
		before := db.Stats()
		var wg sync.WaitGroup
		for c := range 16 {
			wg.Go(func() {
				time.Sleep(time.Duration(c) * 37 * time.Microsecond) // not in step
				for i := range 100 {
					done := db.Intend()
					time.Sleep(200*time.Microsecond + time.Duration(c*i%7)*30*time.Microsecond)
					if err := set(t.Context(), db, fmt.Sprint(c, i)); err != nil {
						t.Error(err)
						return
					}
					done()
					time.Sleep(300*time.Microsecond + time.Duration(c*i%5)*40*time.Microsecond)
				}
			})
		}
		wg.Wait()
		s := db.Stats()
		syncs, txs := s.Syncs-before.Syncs, s.Txs-before.Txs
		if txs != 1600 {
			t.Fatalf("%d transactions, want 1600", txs)
		}
		t.Logf("%.3f syncs a transaction", float64(syncs)/float64(txs))
		if float64(syncs) > 0.15*float64(txs) {
			t.Errorf("%d syncs for %d transactions", syncs, txs)
		}
	})
}

// The queue is bounded; those outside wait until their context ends.
func TestQueueIsBounded(t *testing.T) {
	inBubble(t, pebble.Options{}, 0, func(t *testing.T, db *pebble.DB) {
		inside, goOn := make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = db.Update(t.Context(), 1, func(store.Tx) error { close(inside); <-goOn; return nil })
		})
		<-inside
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var mu sync.Mutex
		canceled := 0
		for i := range pebble.MaxQueue + 50 {
			wg.Go(func() {
				err := set(ctx, db, fmt.Sprint(i))
				mu.Lock()
				defer mu.Unlock()
				if errors.Is(err, errs.Canceled) {
					canceled++
				} else if err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		mu.Lock()
		if canceled != pebble.MaxQueue+50 {
			t.Errorf("%d of %d gave up when their context ended", canceled, pebble.MaxQueue+50)
		}
		mu.Unlock()
		close(goOn)
		wg.Wait()
		n := 0
		err := db.View(t.Context(), 1, func(r store.Reader) error {
			return r.Scan(nil, nil, func(_, _ []byte) (bool, error) { n++; return true, nil })
		})
		if err != nil || n != 0 {
			t.Errorf("%d records of canceled Updates, %v", n, err)
		}
		if err := set(t.Context(), db, "later"); err != nil {
			t.Errorf("the queue did not recover: %v", err)
		}
	})
}
