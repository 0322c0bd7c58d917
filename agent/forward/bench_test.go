package forward

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkForward is one mail of a known sender for an alias, to its commit into the queue.
func BenchmarkForward(b *testing.B) {
	w := newWorld(b, nil)
	al := w.reg.byAddr[w.Address("shop-1@"+aliases)]
	for i := range b.N {
		raw := []byte(strings.Replace(news, "m1@", fmt.Sprintf("m%d@", i), 1))
		if err := w.f.Forward(b.Context(), Mail{Alias: al, From: w.Address(shop), Raw: raw, Proof: raw}); err != nil {
			b.Fatal(err)
		}
	}
}
