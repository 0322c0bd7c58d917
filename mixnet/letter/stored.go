package letter

import (
	"crypto/sha256"

	"postern.email/kit/errs"
)

// AppendBinary appends the fragment as it was opened, for an owner that keeps it on disk.
func (f *Fragment) AppendBinary(b []byte) ([]byte, error) {
	var to []byte
	if f.to != nil {
		to = f.to[:]
	}
	b = append(append(b, byte(len(to))), to...)
	return append(f.Header.append(b), f.Data...), nil
}

// ParseOpened reads what Fragment.AppendBinary wrote, and keeps b. errs.Corrupt.
func ParseOpened(b []byte) (*Fragment, error) {
	const op = "mixnet/letter.ParseOpened"
	bad := func(err error) (*Fragment, error) { return nil, errs.E(op, errs.Corrupt, "", err) }
	if len(b) == 0 {
		return bad(errForm)
	}
	f := &Fragment{}
	switch n := int(b[0]); {
	case n == 0:
		b = b[1:]
	case n == sha256.Size && len(b) > n:
		f.to = (*[sha256.Size]byte)(b[1:])
		b = b[1+n:]
	default:
		return bad(errForm)
	}
	if len(b) <= HeaderLen {
		return bad(errForm)
	}
	f.Data = b[HeaderLen:]
	var err error
	if f.Header, err = parseHeader(op, b[:HeaderLen], len(f.Data)); err != nil {
		return bad(err)
	}
	return f, nil
}

// Enough reports whether the fragments of one letter whose headers are in list, each of size
// bytes of data, make it whole. Headers that do not fit the first do not count.
func Enough(list []Header, size int) bool {
	if len(list) == 0 {
		return false
	}
	l := newLayout(list[0].Length, size, list[0].N != 0)
	if l == nil {
		return false
	}
	have := make([]int, max(1, l.chunks))
	seen := make(map[int]bool, len(list))
	for _, h := range list {
		if !seen[h.Index] && l.header(list[0].ID, h.Index) == h {
			seen[h.Index] = true
			have[l.chunkOf(h.Index)]++
		}
	}
	return l.whole(have)
}
