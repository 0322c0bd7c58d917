package mailbox

import (
	"encoding/binary"

	"postern.email/kit/codec"
	"postern.email/kit/errs"
)

// pageInfo is the head of a page: what can be told without reading its rows.
type pageInfo struct {
	count, unseen, deleted int
	highest                uint64 // highest modseq of a row
	oldest                 uint32 // lowest hour of a row
}

// maxRow is the most bytes one row can take; it bounds a page's buffer.
const maxRow = 5 + 10 + 10 + 1 + 1 + 5

// encodePage packs entries, which ascend by UID; there is at least one. Each row holds
// the differences to the row before it (the first: to zero), as varints.
func encodePage(entries []Entry) []byte {
	var in pageInfo
	in.oldest = 1<<32 - 1
	for i := range entries {
		in.add(&entries[i])
	}
	b := make([]byte, 0, 16+len(entries)*10)
	b = append(b, formatVersion)
	b = binary.AppendUvarint(b, uint64(in.count))
	b = binary.AppendUvarint(b, uint64(in.unseen))
	b = binary.AppendUvarint(b, uint64(in.deleted))
	b = binary.AppendUvarint(b, in.highest)
	b = binary.AppendUvarint(b, uint64(in.oldest))
	var p Entry
	for i := range entries {
		e := &entries[i]
		b = binary.AppendUvarint(b, uint64(e.UID-p.UID))
		b = binary.AppendVarint(b, int64(e.Mid-p.Mid))
		b = binary.AppendVarint(b, int64(e.ModSeq-p.ModSeq))
		b = append(b, byte(e.Flags), e.Bucket)
		b = binary.AppendVarint(b, int64(e.Hour)-int64(p.Hour))
		p = *e
	}
	return b
}

func (in *pageInfo) add(e *Entry) {
	in.count++
	if e.Flags&Seen == 0 {
		in.unseen++
	}
	if e.Flags&Deleted != 0 {
		in.deleted++
	}
	in.highest = max(in.highest, e.ModSeq)
	in.oldest = min(in.oldest, e.Hour)
}

// decodeHead reads the head and leaves the rows in d.
func decodeHead(d *dec) pageInfo {
	var in pageInfo
	in.count = int(d.Int(pageEntries))
	in.unseen = int(d.Int(pageEntries))
	in.deleted = int(d.Int(pageEntries))
	in.highest = d.Uvarint()
	in.oldest = d.Uint32()
	if in.count == 0 {
		d.Fail()
	}
	return in
}

// row reads the row behind p.
func (d *dec) row(p *Entry) (e Entry) {
	uid := uint64(p.UID) + d.Uvarint()
	e.Mid = p.Mid + uint64(d.Varint())
	e.ModSeq = p.ModSeq + uint64(d.Varint())
	e.Flags = Flags(d.Byte())
	e.Bucket = d.Byte()
	hour := int64(p.Hour) + d.Varint()
	if uid <= uint64(p.UID) || uid > 1<<32-1 || hour < 0 || hour > 1<<32-1 {
		d.Fail()
	}
	e.UID, e.Hour = uint32(uid), uint32(hour)
	return e
}

// decodePage appends the rows of a page to dst and checks everything: order,
// counts and the head. errs.Corrupt if anything is wrong.
func decodePage(dst []Entry, b []byte) ([]Entry, pageInfo, error) {
	d := newDec(b)
	in := decodeHead(d)
	var p Entry
	have := pageInfo{oldest: 1<<32 - 1}
	for range in.count {
		p = d.row(&p)
		have.add(&p)
		dst = append(dst, p)
	}
	if err := d.End("post/mailbox.decodePage"); err != nil {
		return nil, in, err
	}
	if have != in {
		return nil, in, errs.E("post/mailbox.decodePage", errs.Corrupt, "", nil)
	}
	return dst, in, nil
}

// rows walks a page that decodePage has once accepted, without the checks.
type rows struct {
	b    []byte
	left int
	cur  Entry
}

// openRows starts in front of the first row.
func openRows(b []byte) rows {
	d := dec{*codec.Fields(b[1:])}
	in := decodeHead(&d)
	return rows{b: d.Rest(), left: in.count}
}

// next moves to the next row; false behind the last.
func (r *rows) next() bool {
	if r.left == 0 {
		return false
	}
	r.left--
	b := r.b
	u, n := uvarint(b)
	b = b[n:]
	r.cur.UID += uint32(u)
	u, n = uvarint(b)
	b = b[n:]
	r.cur.Mid += uint64(int64(u>>1) ^ -int64(u&1))
	u, n = uvarint(b)
	b = b[n:]
	r.cur.ModSeq += uint64(int64(u>>1) ^ -int64(u&1))
	r.cur.Flags, r.cur.Bucket = Flags(b[0]), b[1]
	u, n = uvarint(b[2:])
	r.b = b[2+n:]
	r.cur.Hour += uint32(int64(u>>1) ^ -int64(u&1))
	return true
}

// uvarint is binary.Uvarint with the one-byte case first, small enough to inline.
func uvarint(b []byte) (uint64, int) {
	if b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	return binary.Uvarint(b)
}
