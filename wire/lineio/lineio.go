// Package lineio reads and writes the CRLF lines of SMTP, IMAP and POP3: strictly
// (a bare CR, a bare LF or a NUL is an error, never a line end), with bounds on
// length and time, with exact byte counts, and without holding a buffer while a
// connection is idle.
//
// Errors are of three sorts. ErrBareCR, ErrBareLF, ErrNUL and ErrTooLong say what
// the other side did wrong; the stream cannot be trusted afterwards and should be
// closed after a reply. ErrInterrupted says that Interrupt was called. All others
// come from the connection (io.EOF, os.ErrDeadlineExceeded, ...).
package lineio

import (
	"io"
	"sync"
	"time"

	"postern.email/kit/errs"
)

// The faults of a line. Compare with errors.Is.
var (
	ErrBareCR      error = errs.E("wire/lineio", errs.Invalid, "CR without LF", nil)
	ErrBareLF      error = errs.E("wire/lineio", errs.Invalid, "LF without CR", nil)
	ErrNUL         error = errs.E("wire/lineio", errs.Invalid, "NUL in a line", nil)
	ErrTooLong     error = errs.E("wire/lineio", errs.TooLarge, "line too long", nil)
	ErrInterrupted error = errs.E("wire/lineio", errs.Canceled, "interrupted", nil)
	// ErrBuffered: bytes lie in the buffer where none may (before a handshake).
	ErrBuffered error = errs.E("wire/lineio", errs.Invalid, "commands before the handshake", nil)
)

// BufferSize is the size of one pooled buffer, and so the longest line that Line can
// give. It is a bit more than a TLS record, so that one read drains one.
const BufferSize = 17 << 10

// idleBytes is what a reader holds while it waits for the first byte: enough for a
// usual pipelined group, so that its replies leave together.
const idleBytes = 512

// buffers are shared by all readers and writers of the process; sync.Pool is empty
// or full, never wrong, so it is no state.
var buffers = sync.Pool{New: func() any { return new([BufferSize]byte) }}

// Conn is what a Reader reads from; a net.Conn is one.
type Conn interface {
	io.Reader
	SetReadDeadline(t time.Time) error
}

// Times bounds how long reads may take. Zero means no such bound.
type Times struct {
	Idle time.Duration // until the next byte when nothing is there
	Line time.Duration // from the first byte of a line to its end (slow loris)
}
