package content

import (
	"encoding/binary"
	"slices"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// BoxUnit is a kept packet on its way from a relay to its client. It has the size of every
// unit on a link (docs/content.md §5).
type BoxUnit struct {
	Reply   bool        // Payload is an answer to the reply block that Mark names; else it is a packet.Content
	Item    uint64      // names the packet within its box; above zero
	Mark    packet.Mark // of a reply; else zero
	Payload []byte      // packet.PayloadLen bytes, whole or broken
}

const (
	boxVersion = 1
	boxDeliver = 1
	boxReply   = 2
	boxHead    = 32
)

// AppendBoxUnit appends the packet.Size bytes of u. errs.Invalid for a payload of another
// size, an item of zero, or a mark without a reply.
func AppendBoxUnit(dst []byte, u BoxUnit) ([]byte, error) {
	if len(u.Payload) != packet.PayloadLen || u.Item == 0 || !u.Reply && u.Mark != (packet.Mark{}) {
		return dst, errs.E("mixnet/content.AppendBoxUnit", errs.Invalid, "", nil)
	}
	dst = slices.Grow(dst, packet.Size)
	b := dst[len(dst) : len(dst)+packet.Size]
	clear(b[:boxHead])
	b[0], b[1] = boxVersion, boxDeliver
	if u.Reply {
		b[1] = boxReply
	}
	binary.BigEndian.PutUint64(b[8:], u.Item)
	copy(b[16:], u.Mark[:])
	clear(b[boxHead+copy(b[boxHead:], u.Payload):])
	return dst[:len(dst)+packet.Size], nil
}

// ParseBoxUnit reads what AppendBoxUnit writes and nothing else; Payload lies within unit.
// errs.Unsupported for another version, else errs.Invalid.
func ParseBoxUnit(unit []byte) (BoxUnit, error) {
	const op = "mixnet/content.ParseBoxUnit"
	if len(unit) != packet.Size {
		return BoxUnit{}, errs.E(op, errs.Invalid, rejected, nil)
	}
	if unit[0] != boxVersion {
		return BoxUnit{}, errs.E(op, errs.Unsupported, rejected, nil)
	}
	const end = boxHead + packet.PayloadLen
	u := BoxUnit{Reply: unit[1] == boxReply, Item: binary.BigEndian.Uint64(unit[8:]), Mark: packet.Mark(unit[16:boxHead]), Payload: unit[boxHead:end:end]}
	switch {
	case unit[1] != boxDeliver && unit[1] != boxReply, u.Item == 0, !u.Reply && u.Mark != packet.Mark{},
		!zero(unit[2:8]), !zero(unit[end:]):
		return BoxUnit{}, errs.E(op, errs.Invalid, rejected, nil)
	}
	return u, nil
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
