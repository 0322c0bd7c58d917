package mailbox

import (
	"encoding/binary"
	"math"
	"time"

	"postern.email/kit/codec"
	"postern.email/kit/errs"
	"postern.email/mail/mime"
	"postern.email/post/blob"
	"postern.email/post/seal"
)

// messageHead is the readable part of a message record.
type messageHead struct {
	chain  seal.ChainID
	index  uint16
	stored int64 // sealed bytes of summary and body: what the quota counts
	blob   bool  // the body lies in the file name; else in a body record
	name   blob.Name
}

// encodeMessage puts the sealed summary behind the head.
func encodeMessage(h *messageHead, summary []byte) []byte {
	b := make([]byte, 0, 1+16+3+10+1+16+len(summary))
	b = append(b, formatVersion)
	b = append(b, h.chain[:]...)
	b = binary.AppendUvarint(b, uint64(h.index))
	b = binary.AppendUvarint(b, uint64(h.stored))
	if h.blob {
		b = append(b, 1)
		b = append(b, h.name[:]...)
	} else {
		b = append(b, 0)
	}
	return append(b, summary...)
}

// decodeMessage splits a message record without copying.
func decodeMessage(b []byte) (h messageHead, summary []byte, err error) {
	d := newDec(b)
	copy(h.chain[:], d.Bytes(len(h.chain)))
	h.index = uint16(d.Int(seal.MaxChainMails - 1))
	h.stored = d.Int(math.MaxInt64)
	switch d.Byte() {
	case 0:
	case 1:
		h.blob = true
		copy(h.name[:], d.Bytes(len(h.name)))
	default:
		d.Fail()
	}
	if d.Bad() {
		return h, nil, errs.E("post/mailbox.decodeMessage", errs.Corrupt, "", nil)
	}
	return h, d.Rest(), nil
}

// summary is what lies inside the sealed summary.
type summary struct {
	size      int64
	date      time.Time
	blobKey   []byte // key of the blob file; nil when the body is a record
	header    []byte
	structure []byte    // mime.Encode
	saved     time.Time // save date in UTC, see savedate.go; zero in records of version 1
}

// summaryVersion is the second form of a summary; the first, which is still read, had no
// save date.
const summaryVersion = 2

func (s *summary) encode() []byte {
	_, zone := s.date.Zone()
	b := make([]byte, 0, 40+len(s.blobKey)+len(s.header)+len(s.structure))
	version := byte(summaryVersion)
	if s.saved.IsZero() {
		version = formatVersion
	}
	b = append(b, version)
	b = binary.AppendUvarint(b, uint64(s.size))
	b = binary.AppendVarint(b, s.date.Unix())
	b = binary.AppendVarint(b, int64(zone/60))
	b = codec.AppendSized(b, s.blobKey)
	b = codec.AppendSized(b, s.header)
	b = codec.AppendSized(b, s.structure)
	if version == summaryVersion { // as the distance from the internal date, which is mostly none
		b = binary.AppendVarint(b, s.saved.Unix()-s.date.Unix())
	}
	return b
}

// decodeSummary shares the bytes of b.
func decodeSummary(b []byte) (s summary, err error) {
	d := &dec{*codec.Fields(b)}
	version := d.Byte()
	if version != formatVersion && version != summaryVersion {
		d.Fail()
	}
	s.size = d.Int(math.MaxInt64)
	sec, zone := d.Varint(), d.Varint()
	s.blobKey = d.Sized(seal.KeyLen)
	s.header = d.Sized(MaxHeader)
	s.structure = d.Sized(maxStructure)
	if version == summaryVersion {
		s.saved = time.Unix(sec+d.Varint(), 0).UTC()
		if s.saved.IsZero() {
			d.Fail() // that is the other version
		}
	}
	if n := len(s.blobKey); n != 0 && n != seal.KeyLen || zone < -24*60 || zone > 24*60 {
		d.Fail()
	}
	if zone == 0 {
		s.date = time.Unix(sec, 0).UTC()
	} else {
		s.date = time.Unix(sec, 0).In(time.FixedZone("", int(zone)*60))
	}
	return s, d.End("post/mailbox.decodeSummary")
}

// summarize parses a mail. What is too large for the summary is left out and made again
// from the body when it is asked for.
func summarize(m *Message, date, saved time.Time) (*summary, error) {
	s := &summary{size: int64(len(m.Raw)), date: date, saved: saved}
	root, err := mime.Parse(m.Raw)
	if err != nil {
		return nil, err
	}
	if root.BodyStart <= MaxHeader && root.BodyStart <= int64(len(m.Raw)) {
		s.header = m.Raw[:root.BodyStart]
	}
	if b := mime.Encode(root); len(b) <= maxStructure {
		s.structure = b
	}
	return s, nil
}
