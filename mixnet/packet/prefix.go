package packet

import (
	"encoding/binary"

	"postern.email/kit/errs"
)

// Prefix is what a packet says in the clear to the hop that it is for
// (docs/packet.md §4.1).
type Prefix struct {
	Layer int    // 0 to Last
	KeyID uint32 // which key of the hop opens it
}

// ParsePrefix reads the prefix of a packet and checks the packet's size against it. A
// node asks it first: whether the layer is its own, and which key to take. Whatever is
// not canonical is errs.Invalid.
func ParsePrefix(packet []byte) (Prefix, error) {
	const op = "packet.ParsePrefix"
	p, err := parsePrefix(packet)
	switch {
	case err != nil:
		return Prefix{}, reject(op, errs.Invalid, err)
	case len(packet) != SizeAt(p.Layer):
		return Prefix{}, reject(op, errs.Invalid, errSize)
	}
	return p, nil
}

// parsePrefix reads the prefix alone. The key ID is the only field that may hold what
// the reader does not know: a prefix has one form, so it carries no mark.
func parsePrefix(b []byte) (Prefix, error) {
	if len(b) < PrefixLen {
		return Prefix{}, errSize
	}
	if b[0] != Version || b[1] != 0 || b[2] > Last || b[3] != 0 || binary.BigEndian.Uint64(b[8:]) != 0 {
		return Prefix{}, errPrefix
	}
	return Prefix{Layer: int(b[2]), KeyID: binary.BigEndian.Uint32(b[4:])}, nil
}

// put writes the prefix to the first PrefixLen bytes of b.
func (p Prefix) put(b []byte) {
	clear(b[:PrefixLen])
	b[0], b[2] = Version, byte(p.Layer)
	binary.BigEndian.PutUint32(b[4:], p.KeyID)
}
