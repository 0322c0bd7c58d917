package replay

import (
	"crypto/cipher"
	"encoding/binary"

	"postern.email/kit/errs"
)

// The first block of a segment: magic 8, version u32, zero u32, number u64, first u64, acked
// u64, made u64, salt 32, check 16, zeros.
const (
	segmentMagic = "PSTNMIX\n"
	version      = 1
	headerLen    = 48 + saltLen
)

// header is the first block of a segment.
type header struct {
	number uint64 // one more than that of the segment before
	first  uint64 // seq of its first record
	acked  uint64 // the last seq before it that was acknowledged: a later one, written before, is void
	made   int64  // milliseconds since 1970
	salt   [saltLen]byte
}

// block writes the header, with a check under the segment's own key.
func (h *header) block(a cipher.AEAD) []byte {
	b := make([]byte, blockLen)
	copy(b, segmentMagic)
	binary.BigEndian.PutUint32(b[8:], version)
	binary.BigEndian.PutUint64(b[16:], h.number)
	binary.BigEndian.PutUint64(b[24:], h.first)
	binary.BigEndian.PutUint64(b[32:], h.acked)
	binary.BigEndian.PutUint64(b[40:], uint64(h.made))
	copy(b[48:], h.salt[:])
	a.Seal(b[headerLen:headerLen], new(scratch).at(0, partHeader), nil, b[:headerLen])
	return b
}

// readHeader reads what block wrote. errs.Corrupt; errs.NotFound where the block is all
// zeros, as a segment that was being dropped leaves it.
func readHeader(secret, b []byte) (h header, a cipher.AEAD, err error) {
	const op = "mixnet/replay.readHeader"
	if len(b) != blockLen {
		return h, nil, errs.E(op, errs.Corrupt, "", nil)
	}
	if [blockLen]byte(b) == zeroBlock {
		return h, nil, errs.E(op, errs.NotFound, "", nil)
	}
	h = header{
		number: binary.BigEndian.Uint64(b[16:]),
		first:  binary.BigEndian.Uint64(b[24:]),
		acked:  binary.BigEndian.Uint64(b[32:]),
		made:   int64(binary.BigEndian.Uint64(b[40:])),
		salt:   [saltLen]byte(b[48:]),
	}
	if a, err = newAEAD(secret, h.salt[:]); err != nil {
		return h, nil, errs.E(op, errs.Internal, "", err)
	}
	if string(h.block(a)) != string(b) || h.acked >= h.first {
		return h, nil, errs.E(op, errs.Corrupt, "", nil)
	}
	return h, a, nil
}
