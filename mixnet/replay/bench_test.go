package replay

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern.email/kit/vfs"
)

// benchBody is the packet that leaves the first mix.
const benchBody = 31_536

// diskRate is how many groups of so many packets a second the disk takes with nothing
// above it: one write and one sync each.
func diskRate(b *testing.B, path string, packets int) float64 {
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer os.Remove(path)
	defer f.Close()
	v, err := vfs.OS().OpenReadWrite(path, vfs.Unspecified)
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	buf := make([]byte, packets*8*blockLen)
	_, _ = rand.Read(buf)
	n, at, start := 0, int64(0), time.Now()
	for ; time.Since(start) < time.Second; n++ {
		if _, err := v.WriteAt(buf, at); err != nil {
			b.Fatal(err)
		}
		if err := v.SyncData(); err != nil {
			b.Fatal(err)
		}
		if at += int64(len(buf)); at > 64<<20 {
			at = 0
			if err := f.Truncate(0); err != nil {
				b.Fatal(err)
			}
		}
	}
	return float64(n) / time.Since(start).Seconds()
}

// BenchmarkAdd measures packets a second through Add on a real disk, each sent at once, by
// one and more adders, and calls with a batch as a link with 64 unanswered frames makes
// them; beside it what the same disk takes with groups of the same mean size, measured right
// after. A shared disk changes from second to second: look at several runs (-count).
func BenchmarkAdd(b *testing.B) {
	for _, c := range []struct{ adders, batch int }{{1, 1}, {16, 1}, {64, 1}, {4, 16}} {
		b.Run(fmt.Sprintf("adders=%d/batch=%d", c.adders, c.batch), func(b *testing.B) {
			dir := b.TempDir()
			l, err := Open(Options{FS: vfs.OS(), Dir: dir, Secret: secret, Rand: rand.Reader})
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			body := bodyOf(1, benchBody)
			var next atomic.Uint64
			b.SetBytes(benchBody)
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for range c.adders {
				wg.Go(func() {
					recs := make([]Record, c.batch)
					for {
						for i := range recs {
							recs[i] = Record{Key: 1, Body: body}
							binary.BigEndian.PutUint64(recs[i].Tag[:], next.Add(1))
						}
						if binary.BigEndian.Uint64(recs[0].Tag[:]) > uint64(b.N) {
							return
						}
						out, err := l.Add(b.Context(), recs...)
						if err != nil {
							b.Error(err)
							return
						}
						for i := range out {
							l.Sent(out[i].Entry)
						}
					}
				})
			}
			wg.Wait()
			took := b.Elapsed().Seconds()
			b.StopTimer()
			s := l.Stats()
			rate := float64(s.Tags) / took
			group := max(1, int(float64(s.Tags)/float64(s.Groups)+0.5))
			disk := diskRate(b, dir+"/raw", group) * float64(group)
			b.ReportMetric(rate, "packets/s")
			b.ReportMetric(float64(s.Tags)/float64(s.Groups), "packets/sync")
			b.ReportMetric(disk, "disk-packets/s")
			b.ReportMetric(100*rate/disk, "%disk")
		})
	}
}

// BenchmarkRead measures reading a packet back.
func BenchmarkRead(b *testing.B) {
	l, err := Open(Options{FS: vfs.OS(), Dir: b.TempDir(), Secret: secret, Rand: rand.Reader})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	out, err := l.Add(b.Context(), Record{Key: 1, Tag: tagOf(1), Body: bodyOf(1, benchBody)})
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, BufferLen)
	b.SetBytes(benchBody)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Read(out[0].Entry, buf); err != nil {
			b.Fatal(err)
		}
	}
}
