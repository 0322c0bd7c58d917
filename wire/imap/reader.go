package imap

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// readBufferSize is what one active session holds for input.
const readBufferSize = 4 << 10

// waitBufferSize is what a waiting session holds for input: enough for DONE and
// the first bytes of a command.
const waitBufferSize = 64

var (
	errLineTooLong = errors.New("line too long")
	errBareLF      = errors.New("line does not end with CRLF")
	errBadByte     = errors.New("NUL or CR inside a line")
)

// readBuffers lends input buffers to active sessions.
var readBuffers = sync.Pool{New: func() any { return new([readBufferSize]byte) }}

// reader reads lines and literals. Between commands it holds no buffer.
type reader struct {
	src  io.Reader
	buf  *[readBufferSize]byte // nil while waiting
	r, w int                   // unread bytes are buf[r:w]
}

// wait blocks until a byte can be read, without a buffer of the pool in the
// meantime.
func (r *reader) wait() error {
	if r.r < r.w {
		return nil
	}
	r.release()
	var small [waitBufferSize]byte
	n, err := r.src.Read(small[:])
	if n == 0 {
		if err == nil {
			return io.ErrNoProgress
		}
		return err
	}
	// An error beside data comes again with the next read.
	r.buf = readBuffers.Get().(*[readBufferSize]byte)
	r.r, r.w = 0, copy(r.buf[:], small[:n])
	return nil
}

// release gives the buffer back if nothing is left in it.
func (r *reader) release() {
	if r.buf != nil && r.r == r.w {
		readBuffers.Put(r.buf)
		r.buf, r.r, r.w = nil, 0, 0
	}
}

// buffered gives the number of bytes that were received and not yet used.
func (r *reader) buffered() int { return r.w - r.r }

func (r *reader) fill() error {
	if r.buf == nil {
		r.buf = readBuffers.Get().(*[readBufferSize]byte)
	}
	r.r, r.w = 0, 0
	for range 100 {
		n, err := r.src.Read(r.buf[:])
		if n > 0 {
			r.w = n
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// line appends the bytes of the next line to dst, without its CRLF. It reads at
// most max bytes. errBareLF and errBadByte are found after the whole line was
// read, so that the conversation can go on; errLineTooLong leaves it unfinished.
func (r *reader) line(dst []byte, max int) ([]byte, error) {
	start := len(dst)
	for {
		if r.r == r.w {
			if err := r.fill(); err != nil {
				if len(dst) > start && errors.Is(err, io.EOF) {
					err = io.ErrUnexpectedEOF
				}
				return dst, err
			}
		}
		chunk := r.buf[r.r:r.w]
		end := bytes.IndexByte(chunk, '\n')
		if end >= 0 {
			chunk = chunk[:end+1]
		}
		r.r += len(chunk)
		if len(dst)-start+len(chunk) > max+2 {
			return dst, errLineTooLong
		}
		dst = append(dst, chunk...)
		if end < 0 {
			continue
		}
		line := dst[start:]
		if len(line) < 2 || line[len(line)-2] != '\r' {
			return dst[:len(dst)-1], errBareLF
		}
		line = line[:len(line)-2]
		if bytes.IndexByte(line, 0) >= 0 || bytes.IndexByte(line, '\r') >= 0 {
			return dst[:len(dst)-2], errBadByte
		}
		return dst[:len(dst)-2], nil
	}
}

// Read gives what is buffered first; it is used for literals.
func (r *reader) Read(p []byte) (int, error) {
	if r.r == r.w {
		if len(p) >= readBufferSize {
			return r.src.Read(p)
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.buf[r.r:r.w])
	r.r += n
	return n, nil
}
