package packetbox

import (
	"fmt"
	"testing"

	"postern.email/post/seal"
)

// BenchmarkPut stores packets as a node hands them over: so many in one call, of as many
// accounts.
func BenchmarkPut(b *testing.B) {
	for _, c := range []struct{ accounts, each int }{{1, 1}, {1, 32}, {32, 1}} {
		b.Run(fmt.Sprintf("%daccounts,%deach", c.accounts, c.each), func(b *testing.B) {
			w := newWorld(b, onDisk, withOptions(func(o *Options) { o.MaxPackets = 1 << 30 }))
			ids := make([]seal.AccountID, c.accounts)
			for i := range ids {
				ids[i] = seal.AccountID{1, byte(i), 3}
				if _, err := w.b.Register(ctx, ids[i], linkKey(byte(i+1))); err != nil {
					b.Fatal(err)
				}
			}
			n := uint32(0)
			list := make([]Packet, 0, c.accounts*c.each)
			for _, id := range ids {
				for range c.each {
					list = append(list, w.packet(id, 0))
				}
			}
			b.SetBytes(int64(len(list)) * PayloadLen)
			b.ReportAllocs()
			for b.Loop() {
				for i := range list {
					n++
					list[i].Name = [markLen]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}
				}
				for _, err := range w.b.Put(ctx, list) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(list)), "µs/packet")
		})
	}
}

// BenchmarkTake reads and removes packets as a client's connection does.
func BenchmarkTake(b *testing.B) {
	w := newWorld(b, onDisk, withOptions(func(o *Options) { o.MaxPackets = 1 << 30 }))
	w.register(anna, 1)
	n := uint32(0)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		list := make([]Packet, 16)
		for i := range list {
			n++
			list[i] = w.packet(anna, n)
		}
		for _, err := range w.b.Put(ctx, list) {
			if err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		got, err := w.b.Next(ctx, anna, 0, 16)
		if err != nil || len(got) != 16 {
			b.Fatal(len(got), err)
		}
		numbers := make([]uint64, len(got))
		for i := range got {
			numbers[i] = got[i].Number
		}
		if err := w.b.Remove(ctx, anna, numbers); err != nil {
			b.Fatal(err)
		}
	}
}
