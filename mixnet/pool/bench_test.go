package pool

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	mrand "math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/vfs"
	"postern.email/mixnet/replay"
)

func benchLog(b *testing.B) *replay.Log {
	l, err := replay.Open(replay.Options{FS: vfs.OS(), Dir: b.TempDir(), Secret: make([]byte, 32), Rand: rand.Reader})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	return l
}

// BenchmarkMix measures packets a second through a mix on a real disk: 64 links add one
// each, all leave at once and are sent.
func BenchmarkMix(b *testing.B) {
	l := benchLog(b)
	m := newMix(b, l, Default(Poisson), nil)
	ctx, cancel := context.WithCancel(b.Context())
	var sent atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.Run(ctx, func(ps []*Packet) {
			for _, p := range ps {
				if _, err := p.Body(nil); err != nil {
					b.Error(err)
				}
				p.Sent()
				sent.Add(1)
			}
		})
	}()
	body := record(1, began).Body
	var next atomic.Uint64
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for {
				r := replay.Record{Key: 1, Body: body, Due: time.Now()}
				n := next.Add(1)
				if n > uint64(b.N) {
					return
				}
				binary.BigEndian.PutUint64(r.Tag[:], n)
				if _, err := m.Add(ctx, r); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "packets/s")
	b.StopTimer()
	cancel()
	<-done
	b.ReportMetric(100*float64(sent.Load())/float64(b.N), "%sent")
}

// TestMemory is 100 packets a second with a mean delay of 20 s, for a minute of virtual time
// and with the log on a real disk: the packets in memory stay within the budget, the heap within
// the bar of 256 MiB.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 200 MB")
	}
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		l := openLog(t, vfs.OS(), func(o *replay.Options) { o.Dir = dir })
		m := newMix(t, l, Default(Poisson), func(o *Options) { o.Memory = 40 << 20 })
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = m.Run(ctx, func(ps []*Packet) {
				for _, p := range ps {
					p.Sent()
				}
			})
		}()
		rng := mrand.New(source(1))
		body := record(1, began).Body
		recs := make([]replay.Record, 4)
		most := int64(0)
		for n := range 1500 {
			for i := range recs {
				recs[i] = replay.Record{Key: 1, Body: body, Due: time.Now().Add(time.Duration(rng.ExpFloat64() * 20 * float64(time.Second)))}
				binary.BigEndian.PutUint64(recs[i].Tag[:], uint64(4*n+i))
			}
			if _, err := m.Add(ctx, recs...); err != nil {
				t.Fatal(err)
			}
			most = max(most, m.Stats().Memory)
			<-time.After(40 * time.Millisecond)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		s := m.Stats()
		heap := int64(after.HeapAlloc) - int64(before.HeapAlloc)
		t.Logf("%d held, %d bytes of packets, heap grew by %d, %+v", s.Held, s.Memory, heap, l.Stats())
		if s.Held < 1500 || most > 40<<20 || most < 39<<20 || heap > 256<<20 {
			t.Errorf("%d held, up to %d bytes of packets in memory, heap grew by %d", s.Held, most, heap)
		}
		cancel()
		<-done
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}
