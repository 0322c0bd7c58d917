package node

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/mixnet/directory"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
)

// TestExtra: a mix that no authority lists works in the layer that it says, with nodes that know
// its descriptor: packets whose sender names it pass through it. No loop does. Where it is not
// known, or its descriptor is no longer fresh, they are dropped.
func TestExtra(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, time.Hour)
		for i := range 3 {
			w.add(fmt.Sprintf("mix%d", i), directory.Mix)
		}
		w.add("relay0", directory.Relay|directory.Mailbox)
		w.add("relay1", directory.Relay|directory.Mailbox)
		w.know("alice")
		listed := slices.Clone(w.names)
		trial := w.add("trial", directory.Mix)
		trial.more = directory.Parameters{{Name: directory.LayerParameter, Value: 2}}
		d := trial.describe(time.Now())
		for _, name := range listed {
			w.members[name].tune = func(o *Options) { o.Extra = []*directory.Descriptor{d} }
		}
		w.agree(w.net.Epoch(time.Now()), listed...)
		for _, name := range w.names {
			w.members[name].start()
		}
		wait(10 * time.Second)
		alice := w.client("alice", w.members["relay0"])
		relay1 := w.members["relay1"]
		send := func(text string) {
			r := w.route(w.members["relay0"], relay1, time.Second)
			r.Hops[2] = packet.Hop{Node: d.ID(), Key: d.Key(d.Published), Delay: time.Second}
			must(t, alice.line.Post(w.build(r, packet.Dest{Command: packet.Deliver, Mailbox: packet.ID{1}}, packet.Content{Kind: 6, Body: []byte(text)}), func(error) {}))
			wait(10 * time.Minute)
		}
		send("one")
		if got := texts(t, relay1.boxes.list()); got["one"] != 1 {
			t.Errorf("%v arrived", got)
		}
		if s := trial.Status(); s.Listed || !slices.Equal(s.Layers, []int{2}) {
			t.Errorf("listed %v, layers %v", s.Listed, s.Layers)
		}
		first := w.layer(1)
		if !slices.Contains(first.Status().Insecurities, "one node is known from files and not from the directory: no authority has looked at what is there") {
			t.Errorf("%q", first.Status().Insecurities)
		}
		for _, name := range w.names {
			m := w.members[name]
			if slices.Contains(m.loops.targets(m.Node.view.Load()), d.ID()) {
				t.Errorf("%s sends loops through it", name)
			}
		}

		s := *first.settings()
		s.Extra = nil
		must(t, first.Reload(s))
		send("two")
		if first.stats.get("Dropped next") != 1 {
			t.Errorf("%v", first.stats.m)
		}
		s.Extra = []*directory.Descriptor{d}
		must(t, first.Reload(s))
		send("three")
		wait(4 * time.Hour)
		w.agree(w.net.Epoch(time.Now()), listed...)
		w.give()
		send("four")
		if got := texts(t, relay1.boxes.list()); first.stats.get("Dropped next") != 2 || got["three"] != 1 || len(got) != 2 {
			t.Errorf("%v arrived, %v", got, first.stats.m)
		}
		alice.end()
		w.stop()
	})
}

// TestExtraGivesWay: a descriptor in a file takes nothing from nodes of the directory: neither
// what that says of the same node, nor a link key.
func TestExtraGivesWay(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, _ *client) {
		first, second := w.layer(1), w.layer(2)
		second.more = directory.Parameters{{Name: directory.LayerParameter, Value: 3}}
		same := second.describe(time.Now())
		stolen, err := directory.SignDescriptor(directory.Descriptor{Network: same.Network, Published: same.Published, Node: same.Node}, identity(t, "thief"))
		must(t, err)
		moved := same.Node
		moved.LinkKey = directory.Hash{8}
		other, err := directory.SignDescriptor(directory.Descriptor{Network: same.Network, Published: same.Published, Node: moved}, second.keys.Identity())
		must(t, err)
		nowhere := *same
		nowhere.LinkKey, nowhere.Parameters = directory.Hash{9}, nil
		lost, err := directory.SignDescriptor(directory.Descriptor{Network: same.Network, Published: same.Published, Node: nowhere.Node}, identity(t, "nowhere"))
		must(t, err)
		s := *first.settings()
		s.Extra = []*directory.Descriptor{same, other, stolen, lost, first.describe(time.Now())}
		must(t, first.Reload(s))
		wait(time.Minute)
		v := first.Node.view.Load()
		if len(v.extra) != 5 || v.beside != 0 || v.nodes[stolen.ID()] != nil || v.nodes[lost.ID()] != nil || !v.takes(same.ID(), 2) || v.takes(same.ID(), 3) || v.nodes[same.ID()].peer.Key == link.Key(moved.LinkKey) {
			t.Errorf("%d of %d were taken beside the directory", v.beside, len(v.extra))
		}
	})
}
