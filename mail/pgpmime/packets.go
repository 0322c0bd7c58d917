package pgpmime

const (
	tagPKESK = 1
	tagSKESK = 3
	tagSEIPD = 18

	// maxESK bounds a session key packet, so that none is a hiding place. The largest real
	// ones (RSA 16384, ML-KEM-1024 with a curve) are about 2 KiB.
	maxESK = 8 << 10

	// minSEIPD is the shortest version 1: version, 8 + 2 bytes prefix, 22 bytes MDC.
	minSEIPD = 33

	// minFirstPartial is RFC 9580 §4.2.1.4.
	minFirstPartial = 512
)

// walker checks a sequence of OpenPGP packets that is written to it in pieces of any
// size (RFC 9580 §10.3, "Encrypted Message"): session key packets (PKESK, SKESK),
// then one SEIPD that ends where the data ends.
type walker struct {
	state   walkState
	tag     byte
	old     bool   // old packet format, RFC 9580 §4.2.2
	partial bool   // the chunk at hand is partial
	first   bool   // no byte of the packet body was seen
	need    int    // length octets still to come
	add     uint64 // to be added to the length octets
	left    uint64 // bytes of the chunk still to come
	size    uint64 // bytes of the packet body so far
	why     string
}

type walkState uint8

const (
	atTag walkState = iota
	atLength
	inLength
	inBody
	atEnd // behind the SEIPD
)

func (w *walker) refuse(why string) bool {
	if w.why == "" {
		w.why = why
	}
	return false
}

// write takes the next piece; false: refused.
func (w *walker) write(p []byte) bool {
	for len(p) > 0 {
		if w.state == inBody && !w.first {
			if uint64(len(p)) < w.left { // nearly always
				w.left -= uint64(len(p))
				return true
			}
			p = p[w.left:]
			w.left = 0
			if !w.chunkEnd() {
				return false
			}
			continue
		}
		if !w.step(p[0]) {
			return false
		}
		p = p[1:]
	}
	return true
}

// step takes one octet of a packet header, or the first of a body.
func (w *walker) step(c byte) bool {
	switch w.state {
	case atTag:
		return w.packetTag(c)
	case atLength:
		return w.firstLength(c)
	case inLength:
		w.left = w.left<<8 | uint64(c)
		w.need--
		if w.need == 0 {
			w.left += w.add
			return w.chunkStart()
		}
	case inBody:
		if !w.version(c) {
			return w.refuse("unknown packet version")
		}
		w.first = false
		w.left--
		if w.left == 0 {
			return w.chunkEnd()
		}
	case atEnd:
		return w.refuse("data behind the encrypted packet")
	}
	return true
}

// packetTag reads the first octet of a packet (RFC 9580 §4.2).
func (w *walker) packetTag(c byte) bool {
	if c&0x80 == 0 {
		return w.refuse("not a packet")
	}
	w.first, w.partial, w.size = true, false, 0
	w.left, w.add = 0, 0
	w.old = c&0x40 == 0
	if w.old {
		w.tag = c >> 2 & 0x0f
		if c&3 == 3 {
			return w.refuse("packet of indeterminate length")
		}
		w.need = 1 << (c & 3)
		w.state = inLength
	} else {
		w.tag = c & 0x3f
		w.state = atLength
	}
	switch w.tag {
	case tagPKESK, tagSKESK, tagSEIPD:
		return true
	}
	return w.refuse("packet that does not belong into an encrypted message")
}

// firstLength reads the first length octet of a chunk in the new format (§4.2.1).
func (w *walker) firstLength(c byte) bool {
	w.partial, w.left, w.add = false, 0, 0
	switch {
	case c < 192:
		w.left = uint64(c)
		return w.chunkStart()
	case c < 224:
		w.left, w.add, w.need = uint64(c-192), 192, 1
	case c == 255:
		w.need = 4
	default:
		if w.tag != tagSEIPD {
			return w.refuse("session key packet of partial length")
		}
		w.partial = true
		w.left = 1 << (c & 0x1f)
		if w.first && w.left < minFirstPartial {
			return w.refuse("first partial length too short")
		}
		return w.chunkStart()
	}
	w.state = inLength
	return true
}

// chunkStart stands before the first body octet of a chunk whose length is known.
func (w *walker) chunkStart() bool {
	w.size += w.left
	if w.tag != tagSEIPD && w.size > maxESK {
		return w.refuse("session key packet too large")
	}
	w.state = inBody
	if w.left == 0 {
		return w.chunkEnd()
	}
	return true
}

// chunkEnd stands behind the last octet of a chunk.
func (w *walker) chunkEnd() bool {
	switch {
	case w.partial:
		w.state = atLength
	case w.first:
		return w.refuse("empty packet")
	case w.tag != tagSEIPD:
		w.state = atTag
	case w.size < minSEIPD:
		return w.refuse("encrypted packet too short")
	default:
		w.state = atEnd
	}
	return true
}

// version judges the first octet of a packet body (RFC 9580 §5.1, 5.3, 5.13; version 5
// of SKESK is what GnuPG 2.3 writes).
func (w *walker) version(c byte) bool {
	switch w.tag {
	case tagPKESK:
		return c == 3 || c == 6
	case tagSKESK:
		return c >= 4 && c <= 6
	}
	return c == 1 || c == 2
}

// finish gives "" or the reason why the sequence is not whole.
func (w *walker) finish() string {
	if w.why == "" && w.state != atEnd {
		w.why = "packets are cut off"
	}
	return w.why
}
