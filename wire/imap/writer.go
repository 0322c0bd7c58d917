package imap

import (
	"io"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

// writeBufferSize is what one active session holds for output: one TLS record.
const writeBufferSize = 16 << 10

// maxQuoted is the longest text written as a quoted string; longer ones are
// literals, because clients have line limits too.
const maxQuoted = 1000

var writeBuffers = sync.Pool{New: func() any { return new([writeBufferSize]byte) }}

// deadliner is the part of net.Conn that bounds a write.
type deadliner interface{ SetWriteDeadline(time.Time) error }

// writer collects responses in one buffer of fixed size. The first error stays;
// everything written later is dropped, so callers check err where it matters.
type writer struct {
	dst     io.Writer
	conn    deadliner
	timeout time.Duration
	buf     *[writeBufferSize]byte
	n       int
	err     error
}

func (w *writer) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 && w.err == nil {
		if w.buf == nil {
			w.buf = writeBuffers.Get().(*[writeBufferSize]byte)
		}
		if w.n == len(w.buf) {
			w.send()
			continue
		}
		if w.n == 0 && len(p) > len(w.buf) { // a full buffer's worth that need not be copied
			w.sendBytes(p[:len(w.buf)])
			p = p[len(w.buf):]
			continue
		}
		n := copy(w.buf[w.n:], p)
		w.n += n
		p = p[n:]
	}
	if w.err != nil {
		return 0, w.err
	}
	return total, nil
}

func (w *writer) send() {
	if w.n > 0 {
		w.sendBytes(w.buf[:w.n])
		w.n = 0
	}
}

func (w *writer) sendBytes(p []byte) {
	if w.err != nil {
		return
	}
	// Real time, not Options.Now: the deadline is the socket's own.
	if err := w.conn.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
		w.err = err
		return
	}
	_, w.err = w.dst.Write(p)
}

// flush sends what is there and gives the buffer back.
func (w *writer) flush() error {
	w.send()
	if w.buf != nil {
		writeBuffers.Put(w.buf)
		w.buf, w.n = nil, 0
	}
	return w.err
}

// s writes text as it is.
func (w *writer) s(parts ...string) *writer {
	for _, p := range parts {
		for len(p) > 0 && w.err == nil {
			if w.buf == nil {
				w.buf = writeBuffers.Get().(*[writeBufferSize]byte)
			}
			if w.n == len(w.buf) {
				w.send()
				continue
			}
			n := copy(w.buf[w.n:], p)
			w.n += n
			p = p[n:]
		}
	}
	return w
}

// u writes a number.
func (w *writer) u(n uint64) *writer {
	var b [20]byte
	_, _ = w.Write(strconv.AppendUint(b[:0], n, 10))
	return w
}

func (w *writer) u32(n uint32) *writer { return w.u(uint64(n)) }

func (w *writer) crlf() *writer { return w.s("\r\n") }

// str writes a string: quoted where that is possible, else a literal. With utf8
// quoted strings may hold UTF-8 (RFC 9051 §4.3, RFC 6855 §3).
func (w *writer) str(v string, utf8ok bool) *writer {
	if !quotable(v, utf8ok) {
		return w.s("{").u(uint64(len(v))).s("}\r\n", v)
	}
	w.s(`"`)
	start := 0
	for i := 0; i < len(v); i++ {
		if v[i] == '"' || v[i] == '\\' {
			w.s(v[start:i], `\`)
			start = i
		}
	}
	return w.s(v[start:], `"`)
}

// nstr writes NIL for the empty string (nstring, RFC 9051 §9).
func (w *writer) nstr(v string, utf8ok bool) *writer {
	if v == "" {
		return w.s("NIL")
	}
	return w.str(v, utf8ok)
}

func quotable(v string, utf8ok bool) bool {
	if len(v) > maxQuoted {
		return false
	}
	ascii := true
	for i := 0; i < len(v); i++ {
		switch b := v[i]; {
		case b == 0 || b == '\r' || b == '\n':
			return false
		case b >= 0x80:
			ascii = false
		}
	}
	return ascii || (utf8ok && utf8.ValidString(v))
}

// lit writes a literal.
func (w *writer) lit(b []byte) *writer {
	w.s("{").u(uint64(len(b))).s("}\r\n")
	_, _ = w.Write(b)
	return w
}
