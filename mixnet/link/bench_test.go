package link

import (
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
