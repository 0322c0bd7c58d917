package letter

import (
	"github.com/klauspost/reedsolomon"

	"postern.email/kit/errs"
)

// cut gives the data of all fragments: the whole with zeros behind it, and for each chunk
// the fragments of its erasure code. Those with data alone lie within whole, but the last.
func (l *layout) cut(whole []byte) ([][]byte, error) {
	part := func(i int) []byte {
		from := i * l.size
		if to := from + l.size; to <= len(whole) {
			return whole[from:to:to]
		}
		return append(make([]byte, 0, l.size), whole[from:]...)[:l.size]
	}
	out := make([][]byte, 0, l.total())
	if l.chunks == 0 {
		for i := range l.parts {
			out = append(out, part(i))
		}
		return out, nil
	}
	for c := range l.chunks {
		first, k := l.chunk(c)
		from := len(out)
		for i := range k {
			out = append(out, part(first+i))
		}
		for range chunkTotal(k) - k {
			out = append(out, make([]byte, l.size))
		}
		code, err := newCode(k)
		if err == nil {
			err = code.Encode(out[from:])
		}
		if err != nil {
			return nil, errs.E("mixnet/letter.cut", errs.Internal, "", err)
		}
	}
	return out, nil
}

func newCode(k int) (reedsolomon.Encoder, error) {
	return reedsolomon.New(k, chunkTotal(k)-k, reedsolomon.WithMaxGoroutines(1))
}

// whole reports whether so many fragments of each chunk, all without erasure code, are enough.
func (l *layout) whole(have []int) bool {
	if l.chunks == 0 {
		return have[0] == l.parts
	}
	for c, n := range have {
		if _, k := l.chunk(c); n < k {
			return false
		}
	}
	return true
}

// join makes the whole of the fragments that are there; the others are nil.
func (l *layout) join(data [][]byte) ([]byte, error) {
	const op = "mixnet/letter.join"
	whole := make([]byte, 0, l.parts*l.size)
	if l.chunks == 0 {
		for _, d := range data {
			whole = append(whole, d...)
		}
	}
	for c, from := 0, 0; c < l.chunks; c++ {
		_, k := l.chunk(c)
		shards := data[from : from+chunkTotal(k)]
		code, err := newCode(k)
		if err == nil {
			err = code.ReconstructData(shards)
		}
		if err != nil {
			return nil, errs.E(op, errs.Invalid, rejected, err)
		}
		for _, d := range shards[:k] {
			whole = append(whole, d...)
		}
		from += len(shards)
	}
	if int64(len(whole)) < l.length {
		return nil, errs.E(op, errs.Internal, "", errLayout)
	}
	for _, c := range whole[l.length:] {
		if c != 0 {
			return nil, errs.E(op, errs.Invalid, rejected, errForm)
		}
	}
	return whole[:l.length], nil
}
