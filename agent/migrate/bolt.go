package migrate

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"io"
)

// Bolt's file, as far as it must be known to see that it hangs together (bbolt, internal/common: page.go,
// meta.go, bucket.go). All numbers are little-endian on the machines that we run on.
const (
	boltMagic     = 0xED0CDAED
	pageHeader    = 16 // number, flags, count, overflow
	metaLen       = 64 // magic, version, page size, flags, root and sequence of the root bucket, freelist, high water mark, transaction, check sum
	elementLen    = 16
	bucketHeader  = 16 // root page, sequence
	flagBranch    = 1
	flagLeaf      = 2
	flagBucket    = 1 // of an element of a leaf
	maxBoltPage   = 1 << 16
	maxBoltNested = 64 // buckets and branches within each other
)

var errUnsound = errors.New("its pages do not hang together")

// sound walks over all pages that bbolt would read. bbolt trusts a file: one whose pages name each
// other in a circle would keep it busy, and its memory growing, for ever.
func sound(r io.ReaderAt, size int64) error {
	w := walker{r: r, size: size, seen: map[uint64]bool{}}
	root, err := w.meta()
	if err != nil {
		return err
	}
	return w.page(root, 0)
}

type walker struct {
	r    io.ReaderAt
	size int64
	len  int64 // of a page
	seen map[uint64]bool
}

// meta finds the root page: that of the newer one of two.
func (w *walker) meta() (root uint64, err error) {
	var first [pageHeader + metaLen]byte
	if _, err := w.r.ReadAt(first[:], 0); err != nil {
		return 0, errUnsound
	}
	le := binary.LittleEndian
	// Where the first is broken, its page size may be: then it is that of this file's second one.
	found, newest := false, uint64(0)
	for _, at := range []int64{0, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15, 1 << 16} {
		var b [pageHeader + metaLen]byte
		if _, err := w.r.ReadAt(b[:], at); err != nil {
			break
		}
		m := b[pageHeader:]
		sum := fnv.New64a()
		sum.Write(m[:metaLen-8])
		size, tx := int64(le.Uint32(m[8:])), le.Uint64(m[48:])
		if le.Uint32(m) != boltMagic || le.Uint64(m[56:]) != sum.Sum64() || at != 0 && at != size || size < 1<<10 || size > maxBoltPage || found && tx < newest {
			continue
		}
		found, newest, root, w.len = true, tx, le.Uint64(m[16:]), size
	}
	if !found {
		return 0, errUnsound
	}
	return root, nil
}

// page walks over a page and all below it.
func (w *walker) page(id uint64, depth int) error {
	if id < 2 || id > uint64(w.size/w.len) || w.seen[id] || depth > maxBoltNested {
		return errUnsound
	}
	w.seen[id] = true
	at := int64(id) * w.len
	var h [pageHeader]byte
	if _, err := w.r.ReadAt(h[:], at); err != nil || binary.LittleEndian.Uint64(h[:]) != id {
		return errUnsound
	}
	n := (1 + int64(binary.LittleEndian.Uint32(h[12:]))) * w.len
	if at+n > w.size {
		return errUnsound
	}
	b := make([]byte, n)
	if _, err := w.r.ReadAt(b, at); err != nil {
		return errUnsound
	}
	return w.elements(b, depth)
}

// elements walks over those of a page, or of a bucket that lies within one.
func (w *walker) elements(b []byte, depth int) error {
	if len(b) < pageHeader || depth > maxBoltNested {
		return errUnsound
	}
	le := binary.LittleEndian
	flags, count := le.Uint16(b[8:]), int(le.Uint16(b[10:]))
	if flags != flagBranch && flags != flagLeaf || flags == flagBranch && count == 0 || pageHeader+count*elementLen > len(b) {
		return errUnsound
	}
	for i := range count {
		e := b[pageHeader+i*elementLen:]
		if flags == flagBranch {
			if pos, key := uint64(le.Uint32(e)), uint64(le.Uint32(e[4:])); pos+key > uint64(len(e)) {
				return errUnsound
			}
			if err := w.page(le.Uint64(e[8:]), depth+1); err != nil {
				return err
			}
			continue
		}
		pos, key, value := uint64(le.Uint32(e[4:])), uint64(le.Uint32(e[8:])), uint64(le.Uint32(e[12:]))
		if pos+key+value > uint64(len(e)) {
			return errUnsound
		}
		if le.Uint32(e)&flagBucket == 0 {
			continue
		}
		v := e[pos+key : pos+key+value]
		var err error
		switch {
		case len(v) < bucketHeader:
			err = errUnsound
		case le.Uint64(v) == 0:
			err = w.elements(v[bucketHeader:], depth+1)
		default:
			err = w.page(le.Uint64(v), depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
