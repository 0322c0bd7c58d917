package lineio

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// Reader reads lines and counted bytes. It never asks the connection for more
// than one Read at a time, and takes nothing past what that gave. It is used by one
// goroutine; only Interrupt may be called by others.
type Reader struct {
	conn  Conn
	times Times
	until time.Time // absolute bound; zero: none

	small [idleBytes]byte   // where an idle reader waits
	buf   *[BufferSize]byte // nil while idle
	lo, n int               // buf[lo:n] is unread
	total int64

	onWait func() error

	mu          sync.Mutex
	interrupted bool
}

// NewReader reads from conn.
func NewReader(conn Conn, times Times) *Reader { return &Reader{conn: conn, times: times} }

// SetTimes changes the bounds from the next read on.
func (r *Reader) SetTimes(t Times) { r.times = t }

// Until sets an absolute end for all reads, for example of one whole message; the
// zero time lifts it.
func (r *Reader) Until(t time.Time) { r.until = t }

// OnWait sets a function that is called before every read from the connection, so
// before every time the Reader may have to wait: the place to flush replies, and thus
// to answer a pipelined group in one write (RFC 2920 §3.2). An error ends the read.
func (r *Reader) OnWait(fn func() error) { r.onWait = fn }

// Interrupt makes the read that waits now, and every later read from the
// connection, fail with ErrInterrupted. Bytes that lie in the buffer can still be
// read. Any goroutine may call it.
func (r *Reader) Interrupt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.interrupted = true
	r.conn.SetReadDeadline(time.Unix(1, 0))
}

// Resume takes an Interrupt back.
func (r *Reader) Resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.interrupted = false
}

// Buffered gives the number of bytes that were received and not yet read.
func (r *Reader) Buffered() int { return r.n - r.lo }

// Total gives the number of bytes that were read out of this Reader so far.
func (r *Reader) Total() int64 { return r.total }

// Rebase goes on with another connection on top of the same stream (TLS after
// STARTTLS, DEFLATE after COMPRESS). It fails with ErrBuffered when bytes have already been
// received: they were sent before the other side could know our answer, and
// would be taken as if they had been protected (RFC 3207 §6, CVE-2011-0411). To
// be sure, call it before the handshake begins.
func (r *Reader) Rebase(conn Conn) error {
	if r.Buffered() > 0 {
		return ErrBuffered
	}
	r.release()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conn = conn
	if r.interrupted {
		conn.SetReadDeadline(time.Unix(1, 0))
	}
	return nil
}

// Close gives the buffer back. The Reader must not be used afterwards. It does not
// close the connection.
func (r *Reader) Close() {
	r.lo = r.n
	r.release()
}

// release gives an empty buffer back to the pool.
func (r *Reader) release() {
	if r.buf != nil && r.lo == r.n {
		buffers.Put(r.buf)
		r.buf = nil
		r.lo, r.n = 0, 0
	}
}

// arm sets the deadline of the next read; started is when the line began, zero if
// it did not.
func (r *Reader) arm(started time.Time) error {
	var d time.Time
	switch {
	case !started.IsZero() && r.times.Line > 0:
		d = started.Add(r.times.Line)
	case r.times.Idle > 0:
		d = time.Now().Add(r.times.Idle)
	}
	if !r.until.IsZero() && (d.IsZero() || r.until.Before(d)) {
		d = r.until
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.interrupted {
		return ErrInterrupted
	}
	return r.conn.SetReadDeadline(d)
}

// fill reads once. There must be room in the buffer.
func (r *Reader) fill(started time.Time) error {
	if err := r.arm(started); err != nil {
		return err
	}
	if r.buf == nil {
		// Wait with the small array, so that idle sessions hold no buffer.
		n, err := r.read(r.small[:])
		if n == 0 {
			return err
		}
		r.buf = buffers.Get().(*[BufferSize]byte)
		r.lo, r.n = 0, copy(r.buf[:], r.small[:n])
		return nil // an error comes again with the next read
	}
	if r.lo > 0 {
		r.n = copy(r.buf[:], r.buf[r.lo:r.n])
		r.lo = 0
	}
	n, err := r.read(r.buf[r.n:])
	r.n += n
	if n > 0 {
		return nil
	}
	return err
}

func (r *Reader) read(p []byte) (int, error) {
	if r.onWait != nil {
		if err := r.onWait(); err != nil {
			return 0, err
		}
	}
	n, err := r.conn.Read(p)
	if n > 0 {
		return n, nil
	}
	if err == nil {
		return 0, io.ErrNoProgress
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.interrupted {
			return 0, ErrInterrupted
		}
	}
	return 0, err
}

// Wait blocks until at least one byte can be read, holding no buffer meanwhile.
func (r *Reader) Wait() error {
	if r.Buffered() > 0 {
		return nil
	}
	r.release()
	return r.fill(time.Time{})
}

// Line gives the next line without its CRLF. limit bounds it in octets, CRLF
// not counted, and may be at most BufferSize-2. The slice is valid until the next
// call of any method. At a fault of the line the bytes stay unread: the caller
// replies and closes, or calls SkipLine. io.ErrUnexpectedEOF: the stream ended
// inside a line.
func (r *Reader) Line(limit int) ([]byte, error) {
	limit = min(limit, BufferSize-2)
	if err := r.Wait(); err != nil {
		return nil, err
	}
	var started time.Time
	seen := 0 // bytes known to hold no line end
	for {
		have := r.buf[r.lo:r.n]
		if i := bytes.IndexByte(have[seen:], '\n'); i >= 0 {
			i += seen
			if i == 0 || have[i-1] != '\r' {
				return nil, ErrBareLF
			}
			line := have[:i-1]
			if err := check(line, limit); err != nil {
				return nil, err
			}
			r.take(i + 1)
			return line, nil
		}
		seen = len(have)
		if err := check(have[:max(0, seen-1)], limit); err != nil {
			return nil, err
		}
		if seen > limit+1 {
			return nil, ErrTooLong
		}
		if started.IsZero() {
			started = time.Now()
		}
		if err := r.fill(started); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// check looks for what may not stand inside a line.
func check(line []byte, limit int) error {
	switch {
	case bytes.IndexByte(line, '\r') >= 0:
		return ErrBareCR
	case bytes.IndexByte(line, 0) >= 0:
		return ErrNUL
	case len(line) > limit:
		return ErrTooLong
	}
	return nil
}

// SkipLine drops everything up to and including the next CRLF, whatever it holds,
// but at most limit octets: beyond, ErrTooLong.
func (r *Reader) SkipLine(limit int64) error {
	var dropped int64
	var last byte
	started := time.Now()
	for {
		if r.Buffered() == 0 {
			r.release()
			if err := r.fill(started); err != nil {
				return err
			}
		}
		have := r.buf[r.lo:r.n]
		i := bytes.IndexByte(have, '\n')
		if i < 0 {
			last = have[len(have)-1]
			dropped += int64(len(have))
			r.take(len(have))
		} else {
			if i > 0 {
				last = have[i-1]
			}
			dropped += int64(i + 1)
			r.take(i + 1)
			if last == '\r' {
				return nil
			}
			last = '\n'
		}
		if dropped > limit {
			return ErrTooLong
		}
	}
}

func (r *Reader) take(n int) {
	r.lo += n
	r.total += int64(n)
}

// Peek waits for at least one byte and gives all that is buffered. The slice is
// valid until the next call of any method. Use Advance to take bytes.
func (r *Reader) Peek() ([]byte, error) {
	if err := r.Wait(); err != nil {
		return nil, err
	}
	return r.buf[r.lo:r.n], nil
}

// PeekMore reads once more and then gives all that is buffered, as Peek does: for a
// caller that needs more than Peek gave, in the middle of something long (unlike
// Peek it holds a buffer while it waits). ErrTooLong when the buffer is full.
func (r *Reader) PeekMore() ([]byte, error) {
	if r.Buffered() == BufferSize {
		return nil, ErrTooLong
	}
	if r.buf == nil {
		r.buf = buffers.Get().(*[BufferSize]byte)
		r.lo, r.n = 0, 0
	}
	if err := r.fill(time.Time{}); err != nil {
		return nil, err
	}
	return r.buf[r.lo:r.n], nil
}

// Advance takes n bytes of what Peek gave.
func (r *Reader) Advance(n int) {
	if n < 0 || n > r.Buffered() {
		n = r.Buffered()
	}
	r.take(n)
}

// Read gives bytes that are buffered or waits for some, so that a Reader can stand
// below other readers. It holds no buffer of its own for large reads.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.Buffered() == 0 && len(p) >= idleBytes {
		r.release()
		if err := r.arm(time.Time{}); err != nil {
			return 0, err
		}
		n, err := r.read(p)
		r.total += int64(n)
		return n, err
	}
	have, err := r.Peek()
	if err != nil {
		return 0, err
	}
	n := copy(p, have)
	r.take(n)
	return n, nil
}

// ReadFull fills p: the bytes of a literal or of a chunk. io.ErrUnexpectedEOF when the
// stream ended before.
func (r *Reader) ReadFull(p []byte) error {
	_, err := io.ReadFull(r, p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Discard drops exactly n bytes.
func (r *Reader) Discard(n int64) error {
	for n > 0 {
		if r.Buffered() == 0 {
			if _, err := r.PeekMore(); err != nil {
				if err == io.EOF {
					err = io.ErrUnexpectedEOF
				}
				return err
			}
		}
		k := int(min(n, int64(r.Buffered())))
		r.take(k)
		n -= int64(k)
	}
	return nil
}
