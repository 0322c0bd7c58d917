package content

import (
	"encoding/binary"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// Windowed is a flag of Letter and Mail (docs/content.md §7): the packet is one of a window of
// several, which are acknowledged together. Its body begins with WindowHead bytes that say so.
const Windowed uint8 = 0x80

// Bounds of windows.
const (
	MaxWindow  = 8  // packets of one; a window has at least two
	WindowHead = 20 // bytes before the rest of the body

	// WindowWait is for how many mean delays of the network a node waits for the packets of a
	// window that are missing, once it has the one with the reply block. Senders give the block
	// to the packet that they send last: then, of 10,000 windows of eight packets that all
	// arrive, the answer comes too early for 30 in the profile full and for 3 in low.
	WindowWait = 10
)

// Window is the place of a packet in its window.
type Window struct {
	ID    [16]byte // random; the same in all packets of the window
	Index int      // of this one, from 0
	Count int      // of packets, 2 to MaxWindow
}

// AppendWindow appends the head of a body. errs.Invalid for a place that does not exist.
func AppendWindow(dst []byte, w Window) ([]byte, error) {
	if w.Count < 2 || w.Count > MaxWindow || w.Index < 0 || w.Index >= w.Count {
		return dst, errs.E("mixnet/content.AppendWindow", errs.Invalid, "", nil)
	}
	dst = append(dst, w.ID[:]...)
	return append(dst, byte(w.Index), byte(w.Count), 0, 0), nil
}

// CutWindow takes the head off a windowed content: it gives the place, and the content as it
// would be outside a window, whose Body lies within that of c. errs.Invalid for what is none.
func CutWindow(c packet.Content) (Window, packet.Content, error) {
	const op = "mixnet/content.CutWindow"
	kind := c.Kind &^ Windowed
	if c.Kind&Windowed == 0 || kind != Letter && kind != Mail || len(c.Body) < WindowHead {
		return Window{}, packet.Content{}, errs.E(op, errs.Invalid, rejected, nil)
	}
	w := Window{ID: [16]byte(c.Body), Index: int(c.Body[16]), Count: int(c.Body[17])}
	if w.Count < 2 || w.Count > MaxWindow || w.Index >= w.Count || binary.BigEndian.Uint16(c.Body[18:]) != 0 {
		return Window{}, packet.Content{}, errs.E(op, errs.Invalid, rejected, nil)
	}
	return w, packet.Content{Kind: kind, SURB: c.SURB, Body: c.Body[WindowHead:]}, nil
}

// NewAck makes an Ack: of a window bit i of durable (1<<i) is packet i; 0 is the Ack of a packet
// without a window, which has no body.
func NewAck(durable uint8) packet.Content {
	if durable == 0 {
		return packet.Content{Kind: Ack}
	}
	return packet.Content{Kind: Ack, Body: []byte{durable}}
}

// ParseAck reads what NewAck makes. errs.Invalid for another kind, errs.Unsupported for a body
// of a later version.
func ParseAck(c packet.Content) (durable uint8, err error) {
	const op = "mixnet/content.ParseAck"
	switch {
	case c.Kind != Ack || len(c.Body) > MaxAck:
		return 0, errs.E(op, errs.Invalid, rejected, nil)
	case len(c.Body) == 0:
		return 0, nil
	case len(c.Body) > 1 || c.Body[0] == 0:
		return 0, errs.E(op, errs.Unsupported, rejected, nil)
	}
	return c.Body[0], nil
}
