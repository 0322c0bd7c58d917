package imap

import (
	"bytes"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
)

// deflater compresses each write on its own and ends it with a sync flush (RFC
// 4978 §3), so that nothing is held between two writes: a history would cost
// every waiting session hundreds of kilobytes.
type deflater struct{ dst io.Writer }

var deflateBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func (d deflater) Write(p []byte) (int, error) {
	buf := deflateBuffers.Get().(*bytes.Buffer)
	defer deflateBuffers.Put(buf)
	buf.Reset()
	if err := flate.StatelessDeflate(buf, p, false, nil); err != nil {
		return 0, err
	}
	if _, err := d.dst.Write(buf.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}
