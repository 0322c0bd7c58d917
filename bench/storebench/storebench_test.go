// Package storebench measures the store engine against Pebble alone: the same
// records, the same disk, the same number of writers, in turn in one run.
//
//	go test ./bench/storebench -bench . -benchtime 2s
//	go test ./bench/storebench -run Ratio -v -args -ratio
//
// The first gives Go's own benchmark lines, the second a table with ratios. The
// bar is 60 % of Pebble's commits a second with 64 writers.
package storebench

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern.email/store"
	"postern.email/store/pebble"

	bare "github.com/cockroachdb/pebble/v2"
)

// recordBytes is the size of one record, about that of a small sealed mail's index
// and summary.
const recordBytes = 2 << 10

var writerCounts = []int{1, 16, 64}

// engine commits one durable record.
type engine struct {
	commit func(key, value []byte) error
	syncs  func() uint64 // so far; nil when it does not tell
	close  func() error
}

// ours announces each commit, as the program's callers do.
func ours(dir string) (*engine, error) {
	ctx := context.Background()
	db, err := pebble.Open(ctx, pebble.Options{Dir: dir})
	if err != nil {
		return nil, err
	}
	return &engine{
		commit: func(key, value []byte) error {
			done := db.Intend()
			defer done()
			shard := store.Shard(binary.BigEndian.Uint16(key) % store.Shards)
			return db.Update(ctx, shard, func(tx store.Tx) error { return tx.Set(key, value) })
		},
		syncs: func() uint64 { return db.Stats().Syncs },
		close: db.Close,
	}, nil
}

// pebbleAlone is Pebble with its own defaults and the same bounds on memory.
func pebbleAlone(dir string) (*engine, error) {
	db, err := bare.Open(dir, &bare.Options{
		FormatMajorVersion: bare.FormatNewest,
		MemTableSize:       pebble.DefaultMemTableBytes,
		CacheSize:          pebble.DefaultCacheBytes + 2*pebble.DefaultMemTableBytes,
		Logger:             quiet{},
	})
	if err != nil {
		return nil, err
	}
	return &engine{
		commit: func(key, value []byte) error { return db.Set(key, value, bare.Sync) },
		close:  db.Close,
	}, nil
}

type quiet struct{}

func (quiet) Infof(string, ...any)           {}
func (quiet) Errorf(string, ...any)          {}
func (quiet) Fatalf(format string, a ...any) { panic(fmt.Sprintf(format, a...)) }

// write lets writers commit until more() is false, and gives how many they did.
func write(e *engine, writers int, more func() bool) (commits int64, err error) {
	var (
		wg    sync.WaitGroup
		total atomic.Int64
		once  sync.Once
	)
	for w := range writers {
		rng := rand.New(rand.NewPCG(uint64(w), 1))
		wg.Go(func() {
			key, value := make([]byte, 16), make([]byte, recordBytes)
			for i := range value {
				value[i] = byte(rng.Uint32())
			}
			for more() {
				binary.BigEndian.PutUint64(key, rng.Uint64())
				binary.BigEndian.PutUint64(key[8:], rng.Uint64())
				if cerr := e.commit(key, value); cerr != nil {
					once.Do(func() { err = cerr })
					return
				}
				total.Add(1)
			}
		})
	}
	wg.Wait()
	return total.Load(), err
}

func BenchmarkCommit(b *testing.B) {
	for _, k := range []struct {
		name string
		open func(string) (*engine, error)
	}{{"postern", ours}, {"pebble", pebbleAlone}} {
		for _, writers := range writerCounts {
			b.Run(fmt.Sprintf("%s/writers=%d", k.name, writers), func(b *testing.B) {
				e, err := k.open(b.TempDir())
				if err != nil {
					b.Fatal(err)
				}
				defer e.close()
				var left atomic.Int64
				left.Store(int64(b.N))
				b.SetBytes(recordBytes)
				b.ResetTimer()
				if _, err := write(e, writers, func() bool { return left.Add(-1) >= 0 }); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if e.syncs != nil {
					b.ReportMetric(float64(e.syncs())/float64(b.N), "syncs/op")
				}
			})
		}
	}
}

var (
	ratio    = flag.Bool("ratio", false, "measure and print the ratios")
	duration = flag.Duration("for", time.Second, "how long each measurement lasts")
	rounds   = flag.Int("rounds", 5, "measurements of each kind; their medians count")
)

// measure gives commits a second and syncs a commit of one engine on a new store.
func measure(t *testing.T, open func(string) (*engine, error), writers int) (rate, syncs float64) {
	t.Helper()
	e, err := open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.close(); err != nil {
			t.Error(err)
		}
	}()
	begin := time.Now()
	n, err := write(e, writers, func() bool { return time.Since(begin) < *duration })
	if err != nil {
		t.Fatal(err)
	}
	rate = float64(n) / time.Since(begin).Seconds()
	if e.syncs != nil {
		syncs = float64(e.syncs()) / float64(n)
	}
	return rate, syncs
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// leastRatio is what 64 writers must reach of Pebble's own speed in the same run.
const leastRatio = 0.6

// TestRatio measures, when asked, and judges the one ratio that is promised.
func TestRatio(t *testing.T) {
	if !*ratio {
		t.Skip("a measurement: run with -args -ratio")
	}
	fmt.Printf("%8s %12s %12s %8s %12s\n", "writers", "postern/s", "pebble/s", "ratio", "syncs/commit")
	for _, writers := range writerCounts {
		var a, b, s []float64
		for range *rounds { // in turn, as the disk's speed drifts
			rate, syncs := measure(t, ours, writers)
			a, s = append(a, rate), append(s, syncs)
			rate, _ = measure(t, pebbleAlone, writers)
			b = append(b, rate)
		}
		fmt.Printf("%8d %12.0f %12.0f %7.0f%% %12.3f\n",
			writers, median(a), median(b), 100*median(a)/median(b), median(s))
		if r := median(a) / median(b); writers == 64 && r < leastRatio {
			t.Errorf("64 writers reach %.0f%% of Pebble alone, at least %.0f%% are wanted", 100*r, 100*leastRatio)
		}
	}
}

// TestEnginesAgree shows that both sides of the measurement do the same work: all
// that was counted is there afterwards.
func TestEnginesAgree(t *testing.T) {
	for name, open := range map[string]func(string) (*engine, error){"postern": ours, "pebble": pebbleAlone} {
		dir := t.TempDir()
		e, err := open(dir)
		if err != nil {
			t.Fatal(err)
		}
		var left atomic.Int64
		left.Store(200)
		n, err := write(e, 8, func() bool { return left.Add(-1) >= 0 })
		if err != nil || n != 200 {
			t.Fatalf("%s: %d commits, %v", name, n, err)
		}
		if err := e.close(); err != nil {
			t.Fatal(err)
		}
		if got := count(t, dir); got != 200 {
			t.Errorf("%s: %d records, want 200", name, got)
		}
	}
}

// count counts the 16-byte keys of a Pebble directory, with or without shard.
func count(t *testing.T, dir string) (n int) {
	t.Helper()
	db, err := bare.Open(dir, &bare.Options{FormatMajorVersion: bare.FormatNewest, Logger: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	it, err := db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if len(it.Key()) >= 16 {
			n++
		}
	}
	return n
}
