package pop3

import (
	"bytes"
	"io"

	"postern.email/wire/lineio"
)

// bodyChunk is how much of a message is in memory at once.
const bodyChunk = 16 << 10

// sendBody writes a message as a multi-line response (RFC 1939 §3). With top >= 0
// it ends after the header, the empty line and that many lines of the body (§7, TOP).
func sendBody(w *lineio.Writer, r io.Reader, top int64) error {
	dots := lineio.NewDotWriter(w)
	cut := topCutter{left: top}
	buf := make([]byte, bodyChunk)
	for {
		n, err := r.Read(buf)
		part, end := buf[:n], false
		if top >= 0 {
			part, end = cut.take(part)
		}
		if _, werr := dots.Write(part); werr != nil {
			return werr
		}
		if end || err == io.EOF {
			return dots.Close()
		}
		if err != nil {
			return err
		}
	}
}

// topCutter finds where TOP ends in a message that comes in pieces.
type topCutter struct {
	left   int64 // lines of the body that may still pass
	inBody bool
	line   int // octets of the current line so far, its line end not counted
}

// take gives the part of b that belongs to the answer, and whether that is all.
func (c *topCutter) take(b []byte) (part []byte, end bool) {
	rest := b
	for len(rest) > 0 {
		if c.inBody && c.left == 0 {
			return b[:len(b)-len(rest)], true
		}
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			c.line += len(rest) - bytes.Count(rest, []byte{'\r'})
			return b, false
		}
		c.line += i - bytes.Count(rest[:i], []byte{'\r'})
		switch {
		case c.inBody:
			c.left--
		case c.line == 0:
			c.inBody = true
		}
		c.line = 0
		rest = rest[i+1:]
	}
	return b, c.inBody && c.left == 0
}
