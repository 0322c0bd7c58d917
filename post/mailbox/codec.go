package mailbox

import (
	"encoding/binary"

	"postern.email/kit/codec"
)

// formatVersion begins every record of this package.
const formatVersion = 1

// dec reads a record.
type dec struct{ codec.Reader }

func newDec(b []byte) *dec { return &dec{*codec.NewReader(b, formatVersion)} }

// encodeCount and decodeCount are the form of all reference counts.
func encodeCount(n uint64) []byte { return binary.AppendUvarint([]byte{formatVersion}, n) }

func decodeCount(b []byte) (uint64, error) {
	d := newDec(b)
	n := d.Uvarint()
	return n, d.End("post/mailbox.decodeCount")
}
