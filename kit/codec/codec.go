// Package codec reads and writes the fields of stored records: numbers as unsigned
// varints in their shortest form, byte strings behind their length. A record has one
// form only, so what was decoded encodes to the same bytes.
package codec

import (
	"encoding/binary"
	"math"

	"postern.email/kit/errs"
)

// Reader reads a record. The first malformed field makes it bad; all later reads give
// zero, so that one look at the end (End) is enough. It keeps no copy.
type Reader struct {
	b     []byte
	whole int // bytes of the record
	bad   bool
}

// NewReader begins to read b, whose first byte must be version.
func NewReader(b []byte, version byte) *Reader {
	r := Fields(b)
	if r.Byte() != version {
		r.bad = true
	}
	return r
}

// Fields begins to read b, which has no version, or several.
func Fields(b []byte) *Reader { return &Reader{b: b, whole: len(b)} }

// Bad reports whether a field was malformed.
func (r *Reader) Bad() bool { return r.bad }

// Fail makes the record malformed: for a field whose value the caller refuses.
func (r *Reader) Fail() { r.bad = true }

// Byte reads one byte.
func (r *Reader) Byte() byte {
	if len(r.b) == 0 || r.bad {
		r.bad = true
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

// Uvarint reads a number. More bytes than it needs are refused.
func (r *Reader) Uvarint() uint64 {
	if r.bad {
		return 0
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 || n > 1 && r.b[n-1] == 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

// Uint32 reads a number of 32 bits.
func (r *Reader) Uint32() uint32 { return uint32(r.Int(math.MaxUint32)) }

// Varint reads a number with a sign (zigzag, as binary.AppendVarint writes it).
func (r *Reader) Varint() int64 {
	v := r.Uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

// Int reads a count or size that is at most limit.
func (r *Reader) Int(limit int64) int64 {
	v := r.Uvarint()
	if v > uint64(limit) {
		r.bad = true
		return 0
	}
	return int64(v)
}

// Bytes reads n bytes, without copying.
func (r *Reader) Bytes(n int) []byte {
	if r.bad || n < 0 || n > len(r.b) {
		r.bad = true
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

// Sized reads a length of at most limit and so many bytes, without copying.
func (r *Reader) Sized(limit int) []byte { return r.Bytes(int(r.Int(int64(limit)))) }

// String is Sized as a string.
func (r *Reader) String(limit int) string { return string(r.Sized(limit)) }

// Rest reads all that is left, without copying.
func (r *Reader) Rest() []byte { return r.Bytes(len(r.b)) }

// End is errs.Corrupt unless all was read and all was well.
func (r *Reader) End(op string) error {
	if r.bad || len(r.b) != 0 {
		return errs.E(op, errs.Corrupt, "", nil)
	}
	return nil
}

// AppendSized writes what Sized reads.
func AppendSized[T ~string | ~[]byte](b []byte, v T) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

// Fill appends zeros to the record b up to a multiple of block bytes, so that its length
// does not tell the length of what is in it.
func Fill(b []byte, block int) []byte {
	return append(b, make([]byte, (block-len(b)%block)%block)...)
}

// Filling reads what Fill appended, up to the end of the record.
func (r *Reader) Filling(block int) {
	rest := r.Rest()
	if len(rest) >= block || r.whole%block != 0 {
		r.bad = true
	}
	for _, c := range rest {
		if c != 0 {
			r.bad = true
		}
	}
}
