package queue

import (
	"fmt"
	"runtime"
	"strconv"
	"testing"
	"time"

	"postern.email/post/seal"
	"postern.email/store"
)

const manyMails = 100_000

// fill queues n mails of one recipient each, of some hundred senders to some thousand
// destinations, several in one transaction.
func fill(tb testing.TB, w *world, n int) {
	tb.Helper()
	const perTx = 500
	for i := 0; i < n; {
		var batch []*Entry
		shard := store.Shard(i / perTx % 400)
		for range min(perTx, n-i) {
			m := mailOf(1000, fmt.Sprintf("recipient%d@domain%d.example", i, i%5000))
			m.From, m.Shard = addr(fmt.Sprintf("sender%d@here.example", shard)), shard
			e, err := w.q.Prepare(ctx, m)
			if err != nil {
				tb.Fatal(err)
			}
			batch = append(batch, e)
			i++
		}
		err := w.st.Update(ctx, shard, func(tx store.Tx) error {
			for _, e := range batch {
				if err := e.Put(tx); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			tb.Fatal(err)
		}
		for _, e := range batch {
			e.Committed()
			e.Discard()
		}
	}
}

func heapNow() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkOpen opens a queue of 100,000 mails and measures the memory that its
// schedule keeps.
func BenchmarkOpen(b *testing.B) {
	w := newWorld(b, onDisk)
	fill(b, w, manyMails)
	for b.Loop() {
		b.StopTimer()
		w.q.Close()
		w.q = nil
		before := heapNow()
		b.StartTimer()
		began := time.Now()
		q, err := Open(ctx, Options{Store: w.st, Root: w.root, FS: w.fs, Dir: w.fs.PathJoin(w.dir, "queue")})
		if err != nil {
			b.Fatal(err)
		}
		took := time.Since(began)
		b.StopTimer()
		b.ReportMetric(float64(heapNow()-before)/manyMails, "B/mail")
		b.ReportMetric(took.Seconds(), "s/open")
		if st := q.Stats(); st.Mails != manyMails {
			b.Fatalf("%d mails", st.Mails)
		}
		w.q = q
		b.StartTimer()
	}
}

// BenchmarkOpenEmpty opens a queue without mails.
func BenchmarkOpenEmpty(b *testing.B) {
	w := newWorld(b, onDisk)
	for b.Loop() {
		q, err := Open(ctx, Options{Store: w.st, Root: w.root, FS: w.fs, Dir: w.fs.PathJoin(w.dir, "queue")})
		if err != nil {
			b.Fatal(err)
		}
		q.Close()
	}
}

// BenchmarkPrepare seals a mail of 10 KB.
func BenchmarkPrepare(b *testing.B) {
	w := newWorld(b, onDisk)
	m := mailOf(10_000, "a@x.example")
	b.ReportAllocs()
	for b.Loop() {
		e, err := w.q.Prepare(ctx, m)
		if err != nil {
			b.Fatal(err)
		}
		e.Discard()
	}
}

// BenchmarkRoad takes a mail in, leases it and settles it, from many sides at once.
func BenchmarkRoad(b *testing.B) {
	for _, side := range []int{1, 64} {
		b.Run(strconv.Itoa(side), func(b *testing.B) {
			w := newWorld(b, onDisk)
			b.SetParallelism(side)
			b.RunParallel(func(pb *testing.PB) {
				id, _ := seal.NewAccountID(w.q.o.Rand)
				dest := id.String() + ".example"
				m := mailOf(10_000, "a@"+dest)
				m.Shard = id.Shard()
				for pb.Next() {
					w.put(m)
					it := w.lease(dest)
					w.settle(it, all(it, Delivered, time.Time{}, ""))
				}
			})
		})
	}
}
