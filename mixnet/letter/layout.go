package letter

import (
	"encoding/binary"
	"errors"

	"postern.email/kit/errs"
)

// ID names a letter. That of a sealed one follows from its encapsulation, so nobody can give
// a letter the name of another.
type ID [16]byte

// HeaderLen is the size of the header of a fragment.
const HeaderLen = 64

// Bounds of letters.
const (
	MaxContent = 32 << 20                        // bytes of the content
	MaxWhole   = MaxContent + headLen + maxProof // bytes before they are cut
	MinPart    = 1024                            // data of a fragment, where there are several
	MaxParts   = 44_000                          // fragments with data; with the code a third more
)

// The erasure code: a chunk has up to maxChunk fragments with data, and a third more with
// checks (type III's k = 16, n = ⌈4k/3⌉).
const maxChunk = 16

func chunkTotal(k int) int { return (4*k + 2) / 3 }

// Header is what a fragment says of itself.
type Header struct {
	ID     ID
	Total  int   // fragments of the letter, those with checks included
	Index  int   // of this one, from 0
	Length int64 // bytes of the whole before it was cut
	K, N   int   // of its chunk: fragments with data, and all; 0 without erasure code
	Chunk  int   // its chunk, from 0
}

const headerVersion = 1

// append writes the header.
func (h *Header) append(b []byte) []byte {
	var out [HeaderLen]byte
	out[0] = headerVersion
	copy(out[4:], h.ID[:])
	binary.BigEndian.PutUint32(out[20:], uint32(h.Total))
	binary.BigEndian.PutUint32(out[24:], uint32(h.Index))
	binary.BigEndian.PutUint64(out[28:], uint64(h.Length))
	out[36], out[37] = byte(h.K), byte(h.N)
	binary.BigEndian.PutUint16(out[38:], uint16(h.Chunk))
	return append(b, out[:]...)
}

// Why a fragment is not taken; private causes.
var (
	errForm    = errors.New("form of a fragment")
	errVersion = errors.New("version of a fragment")
	errLayout  = errors.New("fragment does not fit its letter")
)

// rejected is the public text for what came from outside.
const rejected = "rejected"

// parseHeader reads the header of a fragment with size bytes of data. All that follows from
// length and size must be as it follows.
func parseHeader(op string, b []byte, size int) (Header, error) {
	if len(b) < HeaderLen {
		return Header{}, errs.E(op, errs.Invalid, rejected, errForm)
	}
	if b[0] != headerVersion {
		return Header{}, errs.E(op, errs.Unsupported, rejected, errVersion)
	}
	total, index, length := binary.BigEndian.Uint32(b[20:]), binary.BigEndian.Uint32(b[24:]), binary.BigEndian.Uint64(b[28:])
	for _, c := range b[40:HeaderLen] {
		if c != 0 {
			return Header{}, errs.E(op, errs.Invalid, rejected, errForm)
		}
	}
	if b[1] != 0 || b[2] != 0 || b[3] != 0 || length < headLen || length > MaxWhole || total > 2*MaxParts || index >= total {
		return Header{}, errs.E(op, errs.Invalid, rejected, errForm)
	}
	h := Header{ID: ID(b[4:20]), Total: int(total), Index: int(index), Length: int64(length), K: int(b[36]), N: int(b[37]),
		Chunk: int(binary.BigEndian.Uint16(b[38:]))}
	l := newLayout(h.Length, size, h.N != 0)
	if l == nil || l.header(h.ID, h.Index) != h {
		return Header{}, errs.E(op, errs.Invalid, rejected, errLayout)
	}
	return h, nil
}

// layout is how a whole of some length is cut.
type layout struct {
	length int64
	size   int // data of a fragment
	parts  int // fragments with data
	chunks int // 0: no erasure code
}

// newLayout gives nil for what cannot be cut so.
func newLayout(length int64, size int, coded bool) *layout {
	if length <= 0 || size <= 0 {
		return nil
	}
	parts := (length + int64(size) - 1) / int64(size)
	if parts > MaxParts || parts > 1 && size < MinPart {
		return nil
	}
	l := &layout{length: length, size: size, parts: int(parts)}
	if coded {
		if parts == 1 {
			return nil // one fragment has nothing to be coded with
		}
		l.chunks = (l.parts + maxChunk - 1) / maxChunk
	}
	return l
}

// chunk gives the first part of a chunk and how many it has: they differ by one at most.
func (l *layout) chunk(i int) (first, k int) {
	k, more := l.parts/l.chunks, l.parts%l.chunks
	if i < more {
		return i * (k + 1), k + 1
	}
	return i*k + more, k
}

// total is the number of all fragments.
func (l *layout) total() int {
	if l.chunks == 0 {
		return l.parts
	}
	k, more := l.parts/l.chunks, l.parts%l.chunks
	return more*chunkTotal(k+1) + (l.chunks-more)*chunkTotal(k)
}

// place tells the chunk of a fragment, and its number within.
func (l *layout) place(index int) (chunk, at int) {
	k, more := l.parts/l.chunks, l.parts%l.chunks
	big := chunkTotal(k + 1)
	if index < more*big {
		return index / big, index % big
	}
	index -= more * big
	return more + index/chunkTotal(k), index % chunkTotal(k)
}

// chunkOf tells the chunk of a fragment, 0 without erasure code.
func (l *layout) chunkOf(index int) int {
	if l.chunks == 0 {
		return 0
	}
	chunk, _ := l.place(index)
	return chunk
}

// header is that of a fragment; the zero Header for one that does not exist.
func (l *layout) header(id ID, index int) Header {
	if index < 0 || index >= l.total() {
		return Header{}
	}
	h := Header{ID: id, Total: l.total(), Index: index, Length: l.length}
	if l.chunks > 0 {
		h.Chunk, _ = l.place(index)
		_, h.K = l.chunk(h.Chunk)
		h.N = chunkTotal(h.K)
	}
	return h
}
