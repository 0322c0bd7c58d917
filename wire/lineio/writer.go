package lineio

import (
	"bytes"
	"io"
	"time"
)

// WriteConn is what a Writer writes to; a net.Conn is one.
type WriteConn interface {
	io.Writer
	SetWriteDeadline(t time.Time) error
}

// Writer gathers replies and sends them in one write. It holds a pooled buffer only
// between the first byte and Flush. It is used by one goroutine. The first error
// stays: all later calls give it.
type Writer struct {
	conn    WriteConn
	timeout time.Duration
	buf     *[BufferSize]byte
	n       int
	err     error
}

// NewWriter writes to conn; one write to the connection may take timeout (zero: no
// bound).
func NewWriter(conn WriteConn, timeout time.Duration) *Writer {
	return &Writer{conn: conn, timeout: timeout}
}

// Rebase goes on with another connection; what was buffered is flushed first.
func (w *Writer) Rebase(conn WriteConn) error {
	err := w.Flush()
	w.conn = conn
	return err
}

// Buffered gives the number of bytes that wait for Flush.
func (w *Writer) Buffered() int { return w.n }

// Write puts p into the buffer and sends whenever that is full. A p larger than the
// buffer goes out directly.
func (w *Writer) Write(p []byte) (int, error) {
	if len(p) >= BufferSize {
		if err := w.Flush(); err != nil {
			return 0, err
		}
		return w.send(p)
	}
	done := 0
	for w.err == nil && done < len(p) {
		if w.buf == nil {
			w.buf = buffers.Get().(*[BufferSize]byte)
		}
		k := copy(w.buf[w.n:], p[done:])
		w.n += k
		done += k
		if w.n == BufferSize {
			w.Flush()
		}
	}
	return done, w.err
}

// WriteString is Write.
func (w *Writer) WriteString(s string) (int, error) {
	done := 0
	for w.err == nil && done < len(s) {
		if w.buf == nil {
			w.buf = buffers.Get().(*[BufferSize]byte)
		}
		k := copy(w.buf[w.n:], s[done:])
		w.n += k
		done += k
		if w.n == BufferSize {
			w.Flush()
		}
	}
	return done, w.err
}

// Flush sends what is buffered and gives the buffer back.
func (w *Writer) Flush() error {
	if w.buf == nil {
		return w.err
	}
	if w.err == nil && w.n > 0 {
		w.send(w.buf[:w.n])
	}
	buffers.Put(w.buf)
	w.buf, w.n = nil, 0
	return w.err
}

func (w *Writer) send(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.timeout > 0 {
		if w.err = w.conn.SetWriteDeadline(time.Now().Add(w.timeout)); w.err != nil {
			return 0, w.err
		}
	}
	var n int
	n, w.err = w.conn.Write(p)
	return n, w.err
}

// DotWriter writes a multi-line body with dot-stuffing (RFC 5321 §4.5.2, RFC 1939
// §3): a line that begins with "." gets a second one. Lines must already end in CRLF. Close
// writes the end: "." on a line of its own.
type DotWriter struct {
	w   io.Writer
	mid bool // the last byte written was not a line end
}

// NewDotWriter writes to w.
func NewDotWriter(w io.Writer) *DotWriter { return &DotWriter{w: w} }

// Write stuffs and writes p, which may begin and end anywhere.
func (d *DotWriter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		rest := p[done:]
		if !d.mid && rest[0] == '.' {
			if _, err := io.WriteString(d.w, "."); err != nil {
				return done, err
			}
		}
		// Up to and with the next LF that is followed by a dot, in one write.
		end := len(rest)
		if i := bytes.Index(rest, []byte("\n.")); i >= 0 {
			end = i + 1
		}
		n, err := d.w.Write(rest[:end])
		done += n
		if n > 0 {
			d.mid = rest[n-1] != '\n'
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// Close ends the body; a last line without CRLF gets one.
func (d *DotWriter) Close() error {
	end := ".\r\n"
	if d.mid {
		end = "\r\n.\r\n"
	}
	_, err := io.WriteString(d.w, end)
	return err
}
