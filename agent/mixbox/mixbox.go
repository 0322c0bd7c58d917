// Package mixbox is what stands between packet boxes and the mix network: packets that end at a
// node go into the box of their account (Arrivals), and what waits in a box goes to its clients
// over the connections that they keep to the node (Waiting).
package mixbox

import (
	"context"

	"postern.email/kit/errs"
	"postern.email/mixnet/feed"
	"postern.email/mixnet/node"
	"postern.email/mixnet/packet"
	"postern.email/post/packetbox"
	"postern.email/post/seal"
)

// Arrivals are boxes as a node sees them.
type Arrivals struct {
	Boxes *packetbox.Boxes
	// Name gives the name that a box has for a mailbox of the network; false: there is none.
	// nil: it is the same.
	Name func(packet.ID) (packet.ID, bool)
}

var _ node.Boxes = Arrivals{}

// Put is that of node.Boxes.
func (a Arrivals) Put(ctx context.Context, list []node.Arrival) []error {
	out := make([]error, len(list))
	known, at := make([]packetbox.Packet, 0, len(list)), make([]int, 0, len(list))
	for i, v := range list {
		box := v.Mailbox
		if a.Name != nil {
			var ok bool
			if box, ok = a.Name(box); !ok {
				out[i] = errs.E("agent/mixbox.Put", errs.NotFound, "there is no such mailbox", nil)
				continue
			}
		}
		known = append(known, packetbox.Packet{Mailbox: box, Name: v.Name, Reply: v.Reply, Mark: v.Mark, Payload: v.Payload})
		at = append(at, i)
	}
	for i, err := range a.Boxes.Put(ctx, known) {
		out[at[i]] = err
	}
	return out
}

// Waiting are boxes as the connections of clients see them.
type Waiting struct{ Boxes *packetbox.Boxes }

var _ feed.Boxes = Waiting{}

// Next is that of feed.Boxes.
func (w Waiting) Next(ctx context.Context, account [8]byte, after uint64, limit int) ([]feed.Item, error) {
	list, err := w.Boxes.Next(ctx, account, after, limit)
	items := make([]feed.Item, len(list))
	for i, x := range list {
		items[i] = feed.Item{Number: x.Number, Reply: x.Reply, Mark: x.Mark, Payload: x.Payload}
	}
	return items, err
}

// Remove is that of feed.Boxes.
func (w Waiting) Remove(ctx context.Context, account [8]byte, numbers []uint64) error {
	return w.Boxes.Remove(ctx, account, numbers)
}

// Watch is that of feed.Boxes.
func (w Waiting) Watch(account [8]byte) (fires <-chan struct{}, stop func()) {
	x := w.Boxes.Watch(seal.AccountID(account))
	return x.C, x.Close
}
