package dircache

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"postern.email/kit/clocktest"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/dirtest"
)

// BenchmarkLargeNetwork: what a cache holds, and what taking and giving costs, in the largest
// network: 512 nodes with five keys each, five authorities.
func BenchmarkLargeNetwork(b *testing.B) {
	a := dirtest.New(b, "test.net", time.Hour, 5)
	// Those of four epochs: each hour one node in 24 has a new descriptor with a new key.
	var chain []*directory.Consensus
	for hour := range 4 {
		var nodes []*directory.Descriptor
		for i := range directory.MaxNodes {
			day := (hour + i) / 24
			name := fmt.Sprintf("mix%d", i)
			at := bubble.Add(time.Duration(day-i/24) * time.Hour)
			nodes = append(nodes, a.Mix(b, name, at, func(d *directory.Descriptor) {
				d.Keys = nil
				for k := range 5 {
					from := bubble.Add(time.Duration(k+day-i/24-3) * 24 * time.Hour)
					d.Keys = append(d.Keys, directory.PacketKey{From: from, Until: from.Add(96 * time.Hour),
						Key: dirtest.PacketKey(b, fmt.Sprint(name, k+day)).Public()})
				}
			}))
		}
		var last *directory.Consensus
		if hour > 0 {
			last = chain[hour-1]
		}
		chain = append(chain, a.Agree(b, hour0+uint64(hour), last, nodes...))
	}
	var texts [][]byte
	for _, c := range chain {
		texts = append(texts, c.Bytes())
	}
	w := &world{Authorities: a, t: b}
	disk := func(o *Options) { o.FS, o.Dir = vfs.OS(), b.TempDir() }
	filled := func() *Cache {
		clock := clocktest.New(bubble)
		c := w.cache(at(clock), disk)
		for _, t := range texts {
			must(b, c.Put(t))
			clock.Add(time.Hour)
		}
		clock.Add(-time.Hour)
		return c
	}
	chain = nil
	b.Run("hold", func(b *testing.B) {
		held := func() int64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.GC() // what pools still had
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		// The texts are counted too.
		before := held()
		c := filled()
		now := held()
		for b.Loop() {
			runtime.KeepAlive(c)
		}
		b.ReportMetric(float64(now-before+int64(len(texts[0])*len(texts)))/(1<<20), "MiB-held")
	})
	c := filled()
	ask := func(r directory.Request) []byte {
		r.Kind = directory.RequestConsensus
		q, err := directory.AppendRequest(nil, r)
		must(b, err)
		return q
	}
	for name, r := range map[string]directory.Request{"whole": {}, "packed": {Packed: true}, "difference": {From: directory.HashOf(texts[2]), Packed: true}} {
		b.Run("answer-"+name, func(b *testing.B) {
			q := ask(r)
			size := 0
			for b.Loop() {
				got, err := c.Answer(q)
				must(b, err)
				size = len(got)
			}
			b.ReportMetric(float64(size), "answer-bytes")
		})
	}
	b.Run("take", func(b *testing.B) {
		got, err := c.Answer(ask(directory.Request{From: directory.HashOf(texts[2]), Packed: true}))
		must(b, err)
		for b.Loop() {
			b.StopTimer()
			clock := clocktest.New(bubble.Add(3 * time.Hour))
			mine := w.cache(at(clock), disk)
			must(b, mine.Put(texts[2]))
			b.StartTimer()
			doc, err := directory.OpenConsensus(got, mine.Newest())
			must(b, err)
			must(b, mine.Put(doc))
		}
	})
}
