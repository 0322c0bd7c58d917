package replay

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"

	"postern.email/kit/errs"
)

// Sizes of the format (docs/mixlog.md §3), in bytes.
const (
	// MaxBody is the longest packet that a record holds.
	MaxBody = 32 << 10
	// BufferLen is the capacity that Read needs to read any packet without allocating.
	BufferLen = MaxBody + sealOverhead

	blockLen     = 4096
	headLen      = 96
	sealOverhead = 16
	sealedHead   = headLen + sealOverhead
	maxMarks     = 500 // in one record
)

// kind says what a record is.
type kind uint8

const (
	kindPacket kind = iota + 1 // a tag and a packet that waits
	kindTag                    // a tag alone
	kindSent                   // numbers of packets that need not be sent any more
	kindEnded                  // a key has ended: tags before this are void
	kindEnd                    // nothing follows in this segment, and all before is synced
	kindMoved                  // a packet that was written before, without its tag
)

// head is the first part of a record. Which fields are set depends on kind.
type head struct {
	kind  kind
	use   uint8
	key   Key
	seq   uint64 // of the record: one more than that of the record before it
	group uint64 // seq of the first record that shares its sync
	id    uint64 // packet, moved: the seq it was first written under
	due   int64  // milliseconds since 1970
	tag   Tag
	next  NodeID
	body  uint32 // bytes of the body, before sealing
}

// blocks is how many blocks a record with that body takes.
func (h *head) blocks() uint32 {
	n := uint32(sealedHead)
	if h.body > 0 {
		n += h.body + sealOverhead
	}
	return (n + blockLen - 1) / blockLen
}

// put writes h to b, whose length is headLen.
func (h *head) put(b []byte) {
	clear(b[:headLen])
	b[0], b[1] = byte(h.kind), h.use
	binary.BigEndian.PutUint32(b[4:], uint32(h.key))
	binary.BigEndian.PutUint64(b[8:], h.seq)
	binary.BigEndian.PutUint64(b[16:], h.group)
	binary.BigEndian.PutUint64(b[24:], h.id)
	binary.BigEndian.PutUint64(b[32:], uint64(h.due))
	copy(b[40:56], h.tag[:])
	copy(b[56:88], h.next[:])
	binary.BigEndian.PutUint32(b[88:], h.body)
}

// parse reads what put writes, and nothing else: a head has one form. errs.Corrupt.
func (h *head) parse(b []byte) error {
	if len(b) != headLen {
		return errs.E("mixnet/replay.parse", errs.Corrupt, "", nil)
	}
	*h = head{
		kind:  kind(b[0]),
		use:   b[1],
		key:   Key(binary.BigEndian.Uint32(b[4:])),
		seq:   binary.BigEndian.Uint64(b[8:]),
		group: binary.BigEndian.Uint64(b[16:]),
		id:    binary.BigEndian.Uint64(b[24:]),
		due:   int64(binary.BigEndian.Uint64(b[32:])),
		tag:   Tag(b[40:56]),
		next:  NodeID(b[56:88]),
		body:  binary.BigEndian.Uint32(b[88:]),
	}
	rest := binary.BigEndian.Uint32(b[92:]) | uint32(b[2]) | uint32(b[3])
	if rest != 0 || !h.canonical() {
		return errs.E("mixnet/replay.parse", errs.Corrupt, "", nil)
	}
	return nil
}

func (h *head) canonical() bool {
	if h.kind == kindEnd {
		return *h == head{kind: kindEnd}
	}
	if h.group == 0 || h.group > h.seq {
		return false
	}
	// What is left when the fields that the kind uses are taken away must be zero.
	r := *h
	r.kind, r.seq, r.group = 0, 0, 0
	switch h.kind {
	case kindPacket:
		return h.id == h.seq && h.body > 0 && h.body <= MaxBody
	case kindMoved:
		return h.id > 0 && h.id < h.seq && h.tag == Tag{} && h.body > 0 && h.body <= MaxBody
	case kindTag:
		r.key, r.tag = 0, Tag{}
	case kindSent:
		if h.body == 0 || h.body > 8*maxMarks || h.body%8 != 0 {
			return false
		}
		r.body = 0
	case kindEnded:
		r.key = 0
	default:
		return false
	}
	return r == head{}
}

// Parts of a record, and the check of a segment's header: what is sealed at one block as
// one part is sealed once.
const (
	partHead   = 0
	partBody   = 1
	partEnd    = 2 // the head of kindEnd, which may be written where another record was torn
	partHeader = 3
)

// secretLen is the length of Options.Secret and of all keys, salts likewise.
const (
	secretLen = 32
	saltLen   = 32
)

// derive makes a key for one purpose.
func derive(secret, salt []byte, purpose string) ([]byte, error) {
	return hkdf.Key(sha256.New, secret, salt, "postern/mixlog "+purpose, secretLen)
}

// newAEAD makes the cipher of one segment.
func newAEAD(secret, salt []byte) (cipher.AEAD, error) {
	key, err := derive(secret, salt, "segment")
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// scratch is memory that sealing and opening would otherwise allocate.
type scratch struct {
	nonce [12]byte
	plain [headLen]byte
}

func (s *scratch) at(block uint32, part byte) []byte {
	binary.BigEndian.PutUint32(s.nonce[4:], block)
	s.nonce[11] = part
	return s.nonce[:]
}

// appendRecord appends the record that begins at a block, padded to whole blocks.
func appendRecord(dst []byte, a cipher.AEAD, s *scratch, block uint32, h *head, body []byte) []byte {
	end := len(dst) + int(h.blocks())*blockLen
	h.put(s.plain[:])
	part := byte(partHead)
	if h.kind == kindEnd {
		part = partEnd
	}
	dst = a.Seal(dst, s.at(block, part), s.plain[:], nil)
	if h.body > 0 {
		dst = a.Seal(dst, s.at(block, partBody), body, nil)
	}
	n := len(dst)
	dst = append(dst, zeroBlock[:end-n]...)
	return dst
}

var zeroBlock [blockLen]byte

// openHead reads the head at a block; sealed has sealedHead bytes. errs.Corrupt where there
// is none.
func openHead(a cipher.AEAD, s *scratch, block uint32, sealed []byte) (h head, err error) {
	for _, part := range [...]byte{partHead, partEnd} {
		plain, err := a.Open(s.plain[:0], s.at(block, part), sealed, nil)
		if err != nil {
			continue
		}
		if err := h.parse(plain); err != nil {
			return head{}, err
		}
		if (h.kind == kindEnd) == (part == partEnd) {
			return h, nil
		}
	}
	return head{}, errs.E("mixnet/replay.openHead", errs.Corrupt, "", nil)
}

// openBody opens a sealed body in place.
func openBody(a cipher.AEAD, s *scratch, block uint32, sealed []byte) ([]byte, error) {
	plain, err := a.Open(sealed[:0], s.at(block, partBody), sealed, nil)
	if err != nil {
		return nil, errs.E("mixnet/replay.openBody", errs.Corrupt, "", err)
	}
	return plain, nil
}
