package relay

import (
	"context"

	"postern.email/mixnet/feed"
	"postern.email/mixnet/node"
	"postern.email/post/packetbox"
	"postern.email/post/seal"
)

// arrivals are the mailboxes as the node sees them.
type arrivals struct{ boxes *packetbox.Boxes }

var _ node.Boxes = arrivals{}

// Put is that of node.Boxes.
func (a arrivals) Put(ctx context.Context, list []node.Arrival) []error {
	packets := make([]packetbox.Packet, len(list))
	for i, x := range list {
		packets[i] = packetbox.Packet{Mailbox: x.Mailbox, Name: x.Name, Reply: x.Reply, Mark: x.Mark, Payload: x.Payload}
	}
	return a.boxes.Put(ctx, packets)
}

// feedBoxes are the mailboxes as clients' connections see them.
type feedBoxes struct{ boxes *packetbox.Boxes }

var _ feed.Boxes = feedBoxes{}

// Next is that of feed.Boxes.
func (f feedBoxes) Next(ctx context.Context, account [8]byte, after uint64, limit int) ([]feed.Item, error) {
	list, err := f.boxes.Next(ctx, account, after, limit)
	items := make([]feed.Item, len(list))
	for i, x := range list {
		items[i] = feed.Item{Number: x.Number, Reply: x.Reply, Mark: x.Mark, Payload: x.Payload}
	}
	return items, err
}

// Remove is that of feed.Boxes.
func (f feedBoxes) Remove(ctx context.Context, account [8]byte, numbers []uint64) error {
	return f.boxes.Remove(ctx, account, numbers)
}

// Watch is that of feed.Boxes.
func (f feedBoxes) Watch(account [8]byte) (fires <-chan struct{}, stop func()) {
	w := f.boxes.Watch(seal.AccountID(account))
	return w.C, w.Close
}
