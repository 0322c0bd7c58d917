package packet

import (
	"io"
	"slices"
	"time"

	"postern.email/kit/errs"
)

// Hop is one node on the way of a packet.
type Hop struct {
	Node  ID
	Key   *PublicKey
	Delay time.Duration // how long it shall keep the packet, 0 to MaxDelay, cut to whole milliseconds; 0 at the last hop
}

// Route is the way of a packet.
type Route struct {
	First int   // layer of the first hop
	Hops  []Hop // one for each layer from First on
}

// Dest is what the last hop of a route shall do.
type Dest struct {
	Command Command // Deliver or Exit at the last layer, Drop or Ping at any
	Mailbox ID      // Deliver
	Mark    Mark    // Ping
}

// Build makes a packet, appends it to dst and gives the extended slice; SizeAt(r.First)
// bytes are added. random gives the payload's keys (32 bytes a hop) and the header's
// fill of a route that ends early; the encapsulations use the standard library's own
// randomness. The first hop is r.Hops[0].Node.
//
// errs.TooLarge for a body that does not fit; errs.Invalid for a body without a kind, and
// for a route or destination that the format cannot say.
func Build(dst []byte, r Route, d Dest, c Content, random io.Reader) ([]byte, error) {
	return build(dst, r, d, c, random, Adiantum)
}

func build(dst []byte, r Route, d Dest, c Content, random io.Reader, wide func(*[keyLen]byte) WideBlock) ([]byte, error) {
	const op = "packet.Build"
	if d.Command == Forward || d.Command == Reply {
		return dst, badRoute(op)
	}
	last := routing{command: d.Command, next: d.Mailbox, mark: d.Mark}
	if err := r.check(last); err != nil {
		return dst, errs.Wrap(op, err)
	}
	keys := make([][keyLen]byte, len(r.Hops))
	defer clear(keys)
	for i := range keys {
		if _, err := io.ReadFull(random, keys[i][:]); err != nil {
			return dst, errs.E(op, errs.Internal, "", err)
		}
	}
	out, p := extend(dst, SizeAt(r.First))
	payload := p[len(p)-PayloadLen:]
	if err := c.put(payload); err != nil {
		return dst, errs.Wrap(op, err)
	}
	for _, key := range slices.Backward(keys) {
		wide(&key).Encrypt(payload)
	}
	if err := r.wrap(p[:len(p)-PayloadLen], last, keys, random); err != nil {
		return dst, errs.Wrap(op, err)
	}
	return out, nil
}

// extend gives dst with n more bytes, and those.
func extend(dst []byte, n int) (whole, added []byte) {
	whole = slices.Grow(dst, n)[:len(dst)+n]
	return whole, whole[len(dst):]
}

func badRoute(op string) error {
	return errs.E(op, errs.Invalid, "the route is not possible", nil)
}

// check refuses a route that no packet can take to a last hop that reads last.
func (r Route) check(last routing) error {
	const op = "packet.Route"
	end := r.First + len(r.Hops) - 1
	if r.First < 0 || len(r.Hops) == 0 || end > Last || r.Hops[len(r.Hops)-1].Delay != 0 {
		return badRoute(op)
	}
	for _, h := range r.Hops {
		if h.Key == nil || h.Delay < 0 || h.Delay > MaxDelay {
			return badRoute(op)
		}
	}
	var b [routingLen]byte
	last.put(b[:])
	if err := new(routing).parse(b[:], end); err != nil {
		return badRoute(op)
	}
	return nil
}

// wrap writes prefix and header of a packet to head, from the last layer to the first.
// keys are those of the payload's layers.
func (r Route) wrap(head []byte, last routing, keys [][keyLen]byte, random io.Reader) error {
	const op = "packet.Route"
	end := r.First + len(r.Hops) - 1
	if _, err := io.ReadFull(random, head[len(head)-headerAt(end+1):]); err != nil {
		return errs.E(op, errs.Internal, "", err)
	}
	for i, h := range slices.Backward(r.Hops) {
		layer := r.First + i
		read := last
		if layer < end {
			next := r.Hops[i+1]
			read = routing{command: Forward, delay: h.Delay, next: next.Node, nextKey: next.Key.ID()}
		}
		read.payload = keys[i]
		enc, k, err := h.Key.encapsulate()
		if err != nil {
			return errs.E(op, errs.Invalid, "", err)
		}
		// The header so far moves forward by the length of the tag, which comes behind it.
		header := head[len(head)-headerAt(layer):]
		copy(header, enc)
		plain := header[encapLen : len(header)-aeadLen]
		copy(plain[routingLen:], header[LayerLen:])
		read.put(plain)
		var prefix [PrefixLen]byte
		Prefix{Layer: layer, KeyID: h.Key.ID()}.put(prefix[:])
		k.seal(prefix[:], plain)
		if i == 0 {
			copy(head, prefix[:])
		}
	}
	return nil
}
