package authority

import (
	"fmt"
	"testing"
	"time"

	"postern.email/mixnet/directory"
)

// What an epoch of the largest network costs an authority that is alone: descriptors of 512
// nodes are published, a vote, a reveal and a signature made, and the consensus kept. Making
// the descriptors is not measured.
func BenchmarkEpoch(b *testing.B) {
	var nodes []*someNode
	for i := range directory.MaxNodes {
		nodes = append(nodes, newNode(b, fmt.Sprintf("n%d", i), directory.Mix))
	}
	a := newAlone(b)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		epoch := a.net.Epoch(a.clock.Now()) + 2
		a.clock.Add(a.net.Begin(epoch - 1).Sub(a.clock.Now()))
		var docs []*directory.Descriptor
		for _, n := range nodes {
			docs = append(docs, n.descriptor(b, a.clock.Now()))
		}
		b.StartTimer()
		for i, d := range docs {
			held, err := a.publish(nodes[i].linkKey(b), d.Bytes())
			must(b, err)
			if held {
				must(b, a.approve(d.ID(), d.Hash()))
			}
		}
		for range 8 {
			a.tick()
			a.clock.Add(time.Hour / 8)
		}
		if n := a.newest.Load(); n == nil || n.Epoch != epoch || len(n.Nodes) != len(nodes) {
			b.Fatal("the newest is another one")
		}
	}
	b.ReportMetric(float64(len(a.newest.Load().Bytes())), "consensus-bytes")
}
