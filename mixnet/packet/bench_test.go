package packet

import (
	"crypto/rand"
	"testing"
)

// BenchmarkUnwrap is one hop; bench/mixbench sets it beside its primitives.
func BenchmarkUnwrap(b *testing.B) {
	nodes, hops := path(b)
	good := deliver(b, hops, Content{})
	buf := make([]byte, len(good))
	b.SetBytes(Size)
	b.ReportAllocs()
	for b.Loop() {
		copy(buf, good)
		if _, err := Unwrap(nodes[0].key, buf); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBuild is a whole packet of five layers.
func BenchmarkBuild(b *testing.B) {
	_, hops := path(b)
	r, d := Route{Hops: hops}, Dest{Command: Deliver, Mailbox: mailbox}
	var p []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if p, err = Build(p[:0], r, d, Content{}, rand.Reader); err != nil {
			b.Fatal(err)
		}
	}
}
