//go:build !race

package link

import (
	"runtime"
	"testing"

	"postern.email/mixnet/packet"
)

// TestAllocations: no buffer of a packet's size is made for a frame, at either end.
func TestAllocations(t *testing.T) {
	b := start(t, options("b", known(t, Mix, "a").who, commitAll))
	a := start(t, options("a", known(t, Mix, "b").who, commitAll))
	line := a.line(t, "b", b.addr)
	u := unit(1)
	send := func(n int) {
		for range n {
			if err := line.Send(soon(t), u); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const count = 200
	send(count)
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / count; each > packet.Size/8 {
		t.Errorf("%d bytes a unit", each)
	}
}
