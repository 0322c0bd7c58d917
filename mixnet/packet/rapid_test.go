package packet

import (
	"bytes"
	"crypto/rand"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever a sender says, the hops read: any route, any delays, any content.
func TestRoundTrips(t *testing.T) {
	nodes, hops := path(t)
	blocks := make([]*SURB, 3)
	for i := range blocks {
		blocks[i], _ = block(t, hops)
	}
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.IntRange(0, Last).Draw(t, "first")
		end := rapid.IntRange(first, Last).Draw(t, "end")
		h := append([]Hop(nil), hops[first:end+1]...)
		for i := range h[:len(h)-1] {
			h[i].Delay = time.Duration(rapid.Uint32().Draw(t, "delay")) * time.Millisecond
		}
		h[len(h)-1].Delay = 0
		d := Dest{Command: rapid.SampledFrom([]Command{Drop, Ping}).Draw(t, "command")}
		if end == Last {
			d.Command = rapid.SampledFrom([]Command{Deliver, Exit, Drop, Ping}).Draw(t, "last command")
		}
		switch d.Command {
		case Deliver:
			d.Mailbox = ID(drawBytes(t, 32))
		case Ping:
			d.Mark = Mark(drawBytes(t, 16))
		}
		c := Content{Kind: rapid.Uint8().Draw(t, "kind")}
		limit := MaxBody
		if rapid.Bool().Draw(t, "with a block") {
			c.SURB, limit = rapid.SampledFrom(blocks).Draw(t, "block"), MaxBodySURB
		}
		if c.Kind == 0 {
			limit = 0 // no kind, no body
		}
		size := rapid.OneOf(rapid.IntRange(0, limit), rapid.SampledFrom([]int{0, min(1, limit), max(0, limit-1), limit})).Draw(t, "size")
		c.Body = bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, size)

		p, err := Build(nil, Route{First: first, Hops: h}, d, c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for i, hop := range h {
			r, err := Unwrap(nodes[first+i].key, p)
			if err != nil {
				t.Fatal(err)
			}
			if r.Layer != first+i || r.Delay != hop.Delay {
				t.Fatalf("%+v", r)
			}
			if i < len(h)-1 {
				if r.Command != Forward || r.Next != h[i+1].Node {
					t.Fatalf("%+v", r)
				}
				p = r.Packet
				continue
			}
			if r.Command != d.Command || r.Mailbox != d.Mailbox || r.Mark != d.Mark {
				t.Fatalf("%+v", r)
			}
			got, err := OpenContent(p[len(p)-PayloadLen:])
			if err != nil {
				t.Fatal(err)
			}
			if got.Kind != c.Kind || !bytes.Equal(got.Body, c.Body) || (got.SURB == nil) != (c.SURB == nil) ||
				c.SURB != nil && got.SURB.raw != c.SURB.raw {
				t.Fatal("another content")
			}
		}
	})
}

func drawBytes(t *rapid.T, n int) []byte {
	return rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "bytes")
}
