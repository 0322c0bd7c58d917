package link

import (
	"runtime"
	"sync"
	"testing"

	"postern.email/mixnet/packet"
)

// BenchmarkFrames is one sender and one receiver over TLS on loopback, with a handler that
// commits at once; both ends run in this process.
func BenchmarkFrames(b *testing.B) {
	got := start(b, options("b", known(b, Mix, "a").who, commitAll))
	a := start(b, options("a", known(b, Mix, "b").who, commitAll))
	line := a.line(b, "b", got.addr)
	u := unit(1)
	if err := line.Send(soon(b), u); err != nil {
		b.Fatal(err)
	}
	sem := make(chan struct{}, 128)
	var wg sync.WaitGroup
	done := func(err error) {
		if err != nil {
			b.Error(err)
		}
		<-sem
		wg.Done()
	}
	b.SetBytes(packet.Size)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		sem <- struct{}{}
		wg.Add(1)
		if err := line.Post(u, done); err != nil {
			b.Fatal(err)
		}
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "units/s")
}

// BenchmarkIdle tells what an open connection holds while nothing crosses it: both ends, which
// are in this process.
func BenchmarkIdle(b *testing.B) {
	const lines = 100
	for range b.N {
		var before, after runtime.MemStats
		got := start(b, options("b", known(b, Mix, "a").who, commitAll))
		o := options("a", known(b, Mix, "b").who, commitAll)
		a := start(b, o)
		got.o.ConnsPerKey = lines
		runtime.GC()
		runtime.ReadMemStats(&before)
		all := make([]*running, lines)
		for i := range all {
			all[i] = a.line(b, "b", got.addr)
			if err := all[i].Send(soon(b), unit(1)); err != nil {
				b.Fatal(err)
			}
		}
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapInuse+after.StackInuse-before.HeapInuse-before.StackInuse)/lines, "B/connection")
		for _, l := range all {
			l.stop()
		}
	}
}
