package packet

import (
	"encoding/binary"

	"postern.email/kit/errs"
)

// Content is what the innermost payload holds (docs/packet.md §5).
type Content struct {
	Kind uint8  // what Body is, to whoever gets it; 0: there is none
	SURB *SURB  // for an answer; nil: none is asked for
	Body []byte // at most MaxBody or MaxBodySURB bytes
}

const (
	contentHeadLen = zeroLen + 4 // zeros, kind, flags, length u16
	zeroLen        = 32
	flagSURB       = 1
)

// put writes c to a whole payload. errs.TooLarge for a body that does not fit;
// errs.Invalid for one without a kind.
func (c *Content) put(payload []byte) error {
	limit := MaxBody
	if c.SURB != nil {
		limit = MaxBodySURB
	}
	if len(c.Body) > limit {
		return errs.E("packet.Content", errs.TooLarge, "the body is too large for one packet", nil)
	}
	if c.Kind == 0 && len(c.Body) > 0 {
		return errs.E("packet.Content", errs.Invalid, "a body needs a kind", nil)
	}
	clear(payload)
	payload[zeroLen] = c.Kind
	binary.BigEndian.PutUint16(payload[zeroLen+2:], uint16(len(c.Body)))
	rest := payload[contentHeadLen:]
	if c.SURB != nil {
		payload[zeroLen+1] = flagSURB
		rest = rest[copy(rest, c.SURB.raw[:]):]
	}
	copy(rest, c.Body)
	return nil
}

// Payload gives the content as OpenContent reads it, in PayloadLen bytes: for what goes to a
// mailbox without having been a packet. Errors are those of Build.
func (c Content) Payload() ([]byte, error) {
	b := make([]byte, PayloadLen)
	if err := c.put(b); err != nil {
		return nil, err
	}
	return b, nil
}

// OpenContent reads a payload from which the last layer was taken (Deliver, Exit). One
// that was changed anywhere on its way is errs.Auth; one that was made otherwise than
// the format says is errs.Invalid. Body lies within payload.
func OpenContent(payload []byte) (Content, error) {
	return openContent("packet.OpenContent", payload)
}

func openContent(op string, payload []byte) (Content, error) {
	if len(payload) != PayloadLen {
		return Content{}, reject(op, errs.Invalid, errSize)
	}
	if !allZero(payload[:zeroLen]) {
		return Content{}, reject(op, errs.Auth, errPayload)
	}
	c := Content{Kind: payload[zeroLen]}
	flags, length := payload[zeroLen+1], int(binary.BigEndian.Uint16(payload[zeroLen+2:]))
	rest := payload[contentHeadLen:]
	switch flags {
	case 0:
	case flagSURB:
		var err error
		if c.SURB, err = ParseSURB(rest[:SURBLen]); err != nil {
			return Content{}, errs.Wrap(op, err)
		}
		rest = rest[SURBLen:]
	default:
		return Content{}, reject(op, errs.Invalid, errContent)
	}
	if length > len(rest) || c.Kind == 0 && length > 0 || !allZero(rest[length:]) {
		return Content{}, reject(op, errs.Invalid, errContent)
	}
	c.Body = rest[:length:length]
	return c, nil
}

// allZero takes the same time for every b of a length.
func allZero(b []byte) bool {
	var any byte
	for _, c := range b {
		any |= c
	}
	return any == 0
}
