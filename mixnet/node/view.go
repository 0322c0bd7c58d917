package node

import (
	"time"

	"postern.email/mixnet/directory"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
)

// layers is a set of layers: bit i is layer i.
type layers uint8

func (l layers) has(i int) bool { return i >= 0 && i < packet.Layers && l&(1<<i) != 0 }

// list gives the layers in order.
func (l layers) list() (all []int) {
	for i := range packet.Layers {
		if l.has(i) {
			all = append(all, i)
		}
	}
	return all
}

// layersOf is where a node with that mode, and that layer if it is a mix, stands.
func layersOf(m directory.Mode, layer int) (l layers) {
	if m.Has(directory.Mix) {
		if layer >= 1 && layer < packet.Last {
			l = 1 << layer
		}
		return l
	}
	if m.Has(directory.Relay) {
		l |= 1
	}
	if m.Has(directory.Mailbox) || m.Has(directory.Exit) {
		l |= 1 << packet.Last
	}
	return l
}

// neighbour is another node, as the consensuses know it.
type neighbour struct {
	layers    layers // in any of them
	peer      link.Peer
	addresses []string
	nickname  string
}

// view is what the node goes by: the consensus of now, with the one before and the next one.
// Packets that were built by the one before are still under way when the epoch changes, and
// clocks differ, so a node stands where any of the three puts it. A view does not change.
type view struct {
	previous, current, next *directory.Consensus // nil: not known
	valid                   error                // why there is no current one that is good
	extra                   []*directory.Descriptor
	beside                  int // nodes of extra that none of them lists
	unlisted                int // the layer of this node while it is in none of them

	listed bool   // this node is in current
	own    layers // that this node serves
	nodes  map[packet.ID]*neighbour
	peers  map[link.Key]link.Peer

	parameters directory.Parameters
	maxDelay   time.Duration
}

// look makes the view of a node from what is known. self is its ID, about what it says of itself.
func look(previous, current, next *directory.Consensus, extra []*directory.Descriptor, self packet.ID, about *directory.Node) *view {
	mode := about.Mode
	v := &view{previous: previous, current: current, next: next, extra: extra, unlisted: about.UnlistedLayer(),
		nodes: make(map[packet.ID]*neighbour), peers: make(map[link.Key]link.Peer)}
	if !mode.Has(directory.Mix) {
		v.own = layersOf(mode, 0)
	}
	if current != nil {
		v.parameters = current.Parameters
	}
	v.maxDelay = v.milliseconds(directory.MaxDelay)
	// The current one comes last, as it is right about addresses and keys.
	for _, c := range []*directory.Consensus{previous, next, current} {
		if c == nil {
			continue
		}
		if d := time.Duration(c.Parameters.Get(directory.MaxDelay)) * time.Millisecond; d > v.maxDelay {
			v.maxDelay = d
		}
		for i := range c.Nodes {
			v.add(&c.Nodes[i], self, mode)
		}
	}
	v.listed = current != nil && current.Find(self) != nil
	if v.own == 0 && mode.Has(directory.Mix) {
		v.own = layersOf(mode, v.unlisted)
	}
	for _, d := range extra {
		e := directory.Entry{ID: d.ID(), Layer: d.UnlistedLayer(), Node: d.Node}
		_, taken := v.peers[link.Key(d.LinkKey)]
		if e.ID != self && v.nodes[e.ID] == nil && !taken && layersOf(e.Mode, e.Layer) != 0 {
			v.add(&e, self, mode)
			v.beside++
		}
	}
	return v
}

// fresh gives those descriptors that count at a time.
func fresh(list []*directory.Descriptor, n *directory.Network, now time.Time) (out []*directory.Descriptor) {
	for _, d := range list {
		if d.Fresh(n, now) == nil {
			out = append(out, d)
		}
	}
	return out
}

func (v *view) add(e *directory.Entry, self packet.ID, mode directory.Mode) {
	if e.ID == self {
		if mode.Has(directory.Mix) && e.Mode.Has(directory.Mix) {
			v.own |= layersOf(e.Mode, e.Layer)
		}
		return
	}
	n := v.nodes[e.ID]
	if n == nil {
		n = &neighbour{}
		v.nodes[e.ID] = n
	}
	role := link.Relay
	if e.Mode.Has(directory.Mix) {
		role = link.Mix
	}
	n.layers |= layersOf(e.Mode, e.Layer)
	n.peer = link.Peer{Key: link.Key(e.LinkKey), Role: role}
	n.addresses, n.nickname = e.Addresses, e.Nickname
	v.peers[n.peer.Key] = n.peer
}

// milliseconds gives a parameter of the network as a time.
func (v *view) milliseconds(name string) time.Duration {
	return time.Duration(v.parameters.Get(name)) * time.Millisecond
}

// ahead are the layers whose nodes this one gives packets to: the next of each of its own, and
// layer 1 for the answers of a relay.
func (v *view) ahead() (l layers) {
	for _, i := range v.own.list() {
		if i == packet.Last {
			l |= 1 << 1
		} else {
			l |= 1 << (i + 1)
		}
	}
	return l
}

// takes reports whether a node may be the next hop behind a layer.
func (v *view) takes(id packet.ID, layer int) bool {
	n := v.nodes[id]
	return n != nil && n.layers.has(layer)
}

// addresses of a node; none if it is not known.
func (v *view) addresses(id packet.ID) []string {
	if n := v.nodes[id]; n != nil {
		return n.addresses
	}
	return nil
}

// name of a node for counters: its nickname, which is public.
func (v *view) name(id packet.ID) string {
	if n := v.nodes[id]; n != nil {
		return n.nickname
	}
	return "(unlisted)"
}
