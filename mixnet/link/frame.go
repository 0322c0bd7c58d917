package link

import (
	"bytes"
	"encoding/binary"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// Sizes of a frame in bytes (docs/link.md §3).
const (
	headLen   = 64
	bodyLen   = packet.Size
	FrameSize = headLen + bodyLen
)

// window is how many units may be unanswered in one direction of a connection: as many
// as a map of answers has bits.
const window = 64

// Types of frames.
const (
	typeHello  = 1
	typeSend   = 2
	typeJunk   = 3
	typeFetch  = 4
	typePiece  = 5
	typeGoAway = 6
)

// Codes of a GOAWAY.
const (
	awayOld      = 1
	awayEnding   = 2
	awayReplaced = 3
	awayUnknown  = 4
	awayBroken   = 5
)

// Codes of a PIECE without a document.
const (
	pieceNone    = 1
	pieceLater   = 2
	pieceRefused = 3
)

// head is the first 64 bytes of a frame.
type head struct {
	typ     uint8
	length  uint16 // bytes used in the body of FETCH and PIECE
	request uint32
	number  uint64
	answers
	total           uint32
	code            uint8
	lowest, highest uint8
}

// answers to units: bit i of a map is unit first+i.
type answers struct {
	first, taken, later uint64
}

// any reports whether there are answers.
func (a answers) any() bool { return a.taken|a.later != 0 }

func (h *head) put(b *[headLen]byte) {
	*b = [headLen]byte{0: h.typ, 44: h.code, 45: h.lowest, 46: h.highest}
	binary.BigEndian.PutUint16(b[2:], h.length)
	binary.BigEndian.PutUint32(b[4:], h.request)
	binary.BigEndian.PutUint64(b[8:], h.number)
	binary.BigEndian.PutUint64(b[16:], h.first)
	binary.BigEndian.PutUint64(b[24:], h.taken)
	binary.BigEndian.PutUint64(b[32:], h.later)
	binary.BigEndian.PutUint32(b[40:], h.total)
}

// broken makes the error for a peer that does not keep to the protocol.
func broken(what string) error {
	return errs.E("mixnet/link", errs.Invalid, "the peer does not keep to the link protocol: "+what, nil)
}

var (
	errFrameType  = broken("a frame of an unknown type")
	errReserved   = broken("a reserved field is not zero")
	errAnswers    = broken("malformed answers")
	errPadding    = broken("padding is not zero")
	errHeadFields = broken("malformed fields of a frame")
)

// parseHead reads a head and checks all that can be seen in it alone.
func parseHead(b *[headLen]byte) (head, error) {
	h := head{
		typ: b[0], length: binary.BigEndian.Uint16(b[2:]), request: binary.BigEndian.Uint32(b[4:]),
		number: binary.BigEndian.Uint64(b[8:]),
		answers: answers{first: binary.BigEndian.Uint64(b[16:]), taken: binary.BigEndian.Uint64(b[24:]),
			later: binary.BigEndian.Uint64(b[32:])},
		total: binary.BigEndian.Uint32(b[40:]), code: b[44], lowest: b[45], highest: b[46],
	}
	if h.typ < typeHello || h.typ > typeGoAway {
		return head{}, errFrameType
	}
	if b[1] != 0 || !bytes.Equal(b[47:], zeros[:headLen-47]) || !h.reserved() {
		return head{}, errReserved
	}
	if h.any() {
		// The number of bit i must exist: 1 to 2^64-1.
		if h.taken&h.later != 0 || (h.taken|h.later)&1 == 0 || h.first == 0 || h.first > 1<<63 {
			return head{}, errAnswers
		}
	} else if h.first != 0 {
		return head{}, errAnswers
	}
	if !h.sound() {
		return head{}, errHeadFields
	}
	return h, nil
}

// reserved reports whether what this type does not use is zero.
func (h *head) reserved() bool {
	is := func(types ...uint8) bool { return bytes.IndexByte(types, h.typ) >= 0 }
	switch {
	case (h.length != 0 || h.request != 0) && !is(typeFetch, typePiece),
		h.number != 0 && !is(typeSend),
		(h.first|h.taken|h.later) != 0 && is(typeHello),
		h.total != 0 && !is(typePiece),
		h.code != 0 && !is(typePiece, typeGoAway),
		(h.lowest|h.highest) != 0 && !is(typeHello):
		return false
	}
	return true
}

// sound reports whether the fields that this type uses can be true.
func (h *head) sound() bool {
	switch h.typ {
	case typeHello:
		return h.lowest > 0 && h.lowest <= h.highest
	case typeSend:
		return h.number > 0
	case typeFetch:
		return h.request > 0 && h.length <= bodyLen
	case typePiece:
		if h.code != 0 {
			return h.request > 0 && h.code <= pieceRefused && h.length == 0 && h.total == 0
		}
		return h.request > 0 && h.length <= bodyLen && uint32(h.length) <= h.total
	case typeGoAway:
		return h.code >= awayOld && h.code <= awayBroken
	}
	return true
}

// used gives how many bytes of the body mean something; the rest must be zero.
func (h *head) used() int {
	switch h.typ {
	case typeSend:
		return bodyLen
	case typeFetch, typePiece:
		return int(h.length)
	}
	return 0
}

// zeros is never written to.
var zeros [bodyLen]byte

func isZero(b []byte) bool { return bytes.Equal(b, zeros[:len(b)]) }
