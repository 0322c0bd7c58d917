package mailbox

import (
	"encoding/binary"

	"postern.email/kit/errs"
)

// formatVersion begins every record of this package.
const formatVersion = 1

// dec reads a record. The first malformed field makes bad true; all later reads
// give zero, so one look at the end is enough.
type dec struct {
	b   []byte
	bad bool
}

func newDec(b []byte) *dec {
	d := &dec{b: b}
	if d.byte() != formatVersion {
		d.bad = true
	}
	return d
}

func (d *dec) byte() byte {
	if len(d.b) == 0 || d.bad {
		d.bad = true
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

// uvarint refuses more bytes than needed, so that a record has one form only.
func (d *dec) uvarint() uint64 {
	if d.bad {
		return 0
	}
	v, n := binary.Uvarint(d.b)
	if n <= 0 || n > 1 && d.b[n-1] == 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *dec) uint32() uint32 {
	v := d.uvarint()
	if v > 1<<32-1 {
		d.bad = true
		return 0
	}
	return uint32(v)
}

// int gives a count or size that is at most limit.
func (d *dec) int(limit int64) int64 {
	v := d.uvarint()
	if v > uint64(limit) {
		d.bad = true
		return 0
	}
	return int64(v)
}

// varint reads a zigzag number.
func (d *dec) varint() int64 {
	v := d.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

// bytes reads n bytes without copying.
func (d *dec) bytes(n int) []byte {
	if d.bad || n < 0 || n > len(d.b) {
		d.bad = true
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

// sized reads a length and so many bytes.
func (d *dec) sized(limit int) []byte { return d.bytes(int(d.int(int64(limit)))) }

// end is errs.Corrupt unless all was read and all was well.
func (d *dec) end(op string) error {
	if d.bad || len(d.b) != 0 {
		return errs.E(op, errs.Corrupt, "", nil)
	}
	return nil
}

func appendSized(b, v []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

func appendString(b []byte, v string) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

// encodeCount and decodeCount are the form of all reference counts.
func encodeCount(n uint64) []byte { return binary.AppendUvarint([]byte{formatVersion}, n) }

func decodeCount(b []byte) (uint64, error) {
	d := newDec(b)
	n := d.uvarint()
	return n, d.end("post/mailbox.decodeCount")
}
