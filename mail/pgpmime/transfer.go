package pgpmime

import (
	"bytes"
	"encoding/base64"

	"postern.email/mail/mime"
)

// maxEncodedLine is the longest line that SMTP carries (RFC 5321 §4.5.3.1.6), rounded up.
const maxEncodedLine = 1024

// strictBase64 refuses set bits behind the end.
var strictBase64 = base64.StdEncoding.Strict()

// transferDecode undoes a content transfer encoding strictly (no foreign characters, no
// text behind the padding) and hands the result on in pieces. It stops when
// write says false. It reports whether all went well.
func transferDecode(body []byte, encoding string, write func([]byte) bool) bool {
	switch encoding {
	case "", "7bit", "8bit", "binary":
		return write(body)
	case "base64":
		d := base64Lines{sink: write}
		empty := false
		for line := range crlfLines(body) {
			switch {
			case line == nil:
				return false
			case len(line) == 0:
				empty = true // only at the end
			case empty || !d.line(line):
				return false
			}
		}
		return d.complete()
	case "quoted-printable":
		return decodeQP(body, write)
	}
	return false
}

// crlfLines gives the lines of b without their CRLF; nil for a line with a bare CR or LF.
func crlfLines(b []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			line := b
			if i := bytes.IndexByte(b, '\n'); i < 0 {
				b = nil
			} else if i == 0 || b[i-1] != '\r' {
				yield(nil)
				return
			} else {
				line, b = b[:i-1], b[i+1:]
			}
			if bytes.IndexByte(line, '\r') >= 0 {
				yield(nil)
				return
			}
			if !yield(line) {
				return
			}
		}
	}
}

// base64Lines decodes base64 line by line; a quantum may cross a line end.
type base64Lines struct {
	sink  func([]byte) bool
	buf   [3 * maxEncodedLine / 4]byte
	carry [4]byte // characters of an open quantum
	n     int
	ended bool // padding was seen
}

// line decodes one line without its end.
func (d *base64Lines) line(s []byte) bool {
	if d.ended || len(s) > maxEncodedLine {
		return false
	}
	if d.n > 0 {
		k := copy(d.carry[d.n:], s)
		d.n += k
		s = s[k:]
		if d.n < 4 {
			return true
		}
		d.n = 0
		if !d.quanta(d.carry[:]) || d.ended && len(s) > 0 {
			return false
		}
	}
	whole := len(s) &^ 3
	if whole > 0 && !d.quanta(s[:whole]) || d.ended && whole < len(s) {
		return false
	}
	d.n = copy(d.carry[:], s[whole:])
	return true
}

func (d *base64Lines) quanta(s []byte) bool {
	n, err := strictBase64.Decode(d.buf[:], s)
	want := len(s) / 4 * 3
	for i := len(s) - 1; s[i] == '=' && i > 0; i-- {
		d.ended = true
		want--
	}
	// Decode skips CR and LF; then n is short.
	return err == nil && n == want && d.sink(d.buf[:n])
}

func (d *base64Lines) complete() bool { return d.n == 0 }

// decodeQP is RFC 2045 §6.7 without its tolerance.
func decodeQP(body []byte, write func([]byte) bool) bool {
	var buf [maxEncodedLine + 2]byte
	rest := body
	for line := range crlfLines(body) {
		if line == nil || len(line) > maxEncodedLine {
			return false
		}
		rest = rest[len(line):]
		hard := len(rest) > 0 // the last line may have no end
		if hard {
			rest = rest[2:]
		}
		out := buf[:0]
		for i := 0; i < len(line); i++ {
			c := line[i]
			switch {
			case c == '=' && i == len(line)-1:
				hard = false
			case c == '=':
				if i+2 >= len(line) {
					return false
				}
				hi, lo := mime.Unhex(line[i+1]), mime.Unhex(line[i+2])
				if hi > 15 || lo > 15 {
					return false
				}
				out = append(out, hi<<4|lo)
				i += 2
			case c == '\t', c >= ' ' && c <= '~':
				out = append(out, c)
			default:
				return false
			}
		}
		if hard {
			out = append(out, '\r', '\n')
		}
		if !write(out) {
			return false
		}
	}
	return true
}

// decodeSmall decodes a body that must fit into the capacity of buf.
func decodeSmall(buf, body []byte, encoding string) ([]byte, bool) {
	ok := transferDecode(body, encoding, func(p []byte) bool {
		if len(buf)+len(p) > cap(buf) {
			return false
		}
		buf = append(buf, p...)
		return true
	})
	return buf, ok
}
