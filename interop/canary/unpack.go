package canary

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// maxUnpacked bounds what one compressed block may unfold to; what lies beyond
// is not looked at.
const maxUnpacked = 64 << 20

// maxSnappy bounds a raw snappy block; storage engines use blocks of 4 to 256 KiB.
const maxSnappy = 4 << 20

// unpack calls f with the content of each compressed block that starts anywhere
// in data. A block that breaks off gives what was unpacked up to there.
func unpack(data []byte, f func(how string, part []byte)) {
	for i := range data {
		rest := data[i:]
		var r io.Reader
		var how string
		switch {
		case bytes.HasPrefix(rest, []byte{0x1f, 0x8b, 0x08}):
			if z, err := gzip.NewReader(bytes.NewReader(rest)); err == nil {
				z.Multistream(false)
				r, how = z, "gzip"
			}
		case bytes.HasPrefix(rest, []byte{0x28, 0xb5, 0x2f, 0xfd}):
			if z, err := zstd.NewReader(bytes.NewReader(rest), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxUnpacked)); err == nil {
				r, how = z.IOReadCloser(), "zstd"
			}
		case len(rest) > 6 && rest[0] == 0x78 && binary.BigEndian.Uint16(rest)%31 == 0 && rest[1]&0x20 == 0:
			if z, err := zlib.NewReader(bytes.NewReader(rest)); err == nil {
				r, how = z, "zlib"
			}
		}
		if r != nil {
			part, _ := io.ReadAll(io.LimitReader(r, maxUnpacked))
			if c, ok := r.(io.Closer); ok {
				c.Close()
			}
			if len(part) >= MinLength {
				f(fmt.Sprintf("%s at %d", how, i), part)
			}
		}
		if part := snappyAt(rest); part != nil {
			f(fmt.Sprintf("snappy at %d", i), part)
		}
	}
	// A stream without any header, as IMAP COMPRESS would leave, at the start only.
	if part, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(data)), maxUnpacked)); err == nil && len(part) >= MinLength {
		f("deflate", part)
	}
}

// snappyAt decodes a raw snappy block (format_description.txt of snappy) that
// starts here and whose end is not known; nil when there is none. Almost every
// offset fails within a few steps.
func snappyAt(src []byte) []byte {
	size, n := binary.Uvarint(src)
	if n <= 0 || n > 4 || size < MinLength || size > maxSnappy {
		return nil
	}
	src = src[n:]
	// The first element must be a literal: there is nothing to copy yet. A block
	// worth compressing has a copy; one without shows its bytes raw.
	if len(src) == 0 || src[0]&3 != 0 {
		return nil
	}
	want := int(size)
	var dst []byte
	for len(dst) < want {
		if len(src) == 0 {
			return nil
		}
		tag := src[0]
		var length, offset int
		switch tag & 3 {
		case 0: // literal
			length = int(tag >> 2)
			head := 1
			if length >= 60 {
				extra := length - 59
				if len(src) < 1+extra {
					return nil
				}
				length = 0
				for i := extra; i > 0; i-- {
					length = length<<8 | int(src[i])
				}
				head += extra
			}
			length++
			if length > want-len(dst) || len(src) < head+length {
				return nil
			}
			dst = append(dst, src[head:head+length]...)
			src = src[head+length:]
			continue
		case 1:
			if len(src) < 2 {
				return nil
			}
			length, offset = 4+int(tag>>2&7), int(tag&0xe0)<<3|int(src[1])
			src = src[2:]
		case 2:
			if len(src) < 3 {
				return nil
			}
			length, offset = 1+int(tag>>2), int(binary.LittleEndian.Uint16(src[1:]))
			src = src[3:]
		case 3:
			if len(src) < 5 {
				return nil
			}
			length, offset = 1+int(tag>>2), int(binary.LittleEndian.Uint32(src[1:]))
			src = src[5:]
		}
		if offset <= 0 || offset > len(dst) || length > want-len(dst) {
			return nil
		}
		for range length {
			dst = append(dst, dst[len(dst)-offset])
		}
	}
	return dst
}
