package mime

import (
	"bufio"
	"io"

	"postern.email/kit/errs"
)

// NewDecoder undoes a content transfer encoding ("base64", "quoted-printable", "7bit",
// "8bit", "binary", ""), in lower case, tolerating what real mail does wrong. It keeps a
// few KiB. An encoding that is not known is errs.Unsupported (IMAP: UNKNOWN-CTE).
func NewDecoder(r io.Reader, encoding string) (io.Reader, error) {
	switch encoding {
	case "", "7bit", "8bit", "binary":
		return r, nil
	case "base64":
		return &base64Reader{in: bufio.NewReader(r)}, nil
	case "quoted-printable":
		return &qpReader{in: bufio.NewReader(r)}, nil
	}
	return nil, errs.E("mail/mime.NewDecoder", errs.Unsupported, "unknown transfer encoding", nil)
}

// base64Reader skips characters that are not in the alphabet (RFC 2045 §6.8), goes on
// behind padding (pieces that were joined), and gives what an unfinished end holds.
type base64Reader struct {
	in   *bufio.Reader
	bits uint32
	n    int // characters in bits
	out  [3]byte
	have []byte // of out, not yet read
	err  error
}

func (d *base64Reader) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(d.have) > 0 {
			k := copy(p[n:], d.have)
			d.have = d.have[k:]
			n += k
			continue
		}
		if d.err != nil {
			break
		}
		c, err := d.in.ReadByte()
		if err != nil {
			d.err = err
			d.flush()
			continue
		}
		if c == '=' {
			d.flush()
			continue
		}
		v := base64Value(c)
		if v > 63 {
			continue
		}
		d.bits = d.bits<<6 | uint32(v)
		if d.n++; d.n == 4 {
			d.out = [3]byte{byte(d.bits >> 16), byte(d.bits >> 8), byte(d.bits)}
			d.have, d.bits, d.n = d.out[:], 0, 0
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, d.err
	}
	return n, nil
}

// flush gives the octets of an unfinished quantum.
func (d *base64Reader) flush() {
	bits := d.bits << (6 * (4 - d.n))
	if d.n >= 2 {
		d.out = [3]byte{byte(bits >> 16), byte(bits >> 8)}
		d.have = d.out[:d.n-1]
	}
	d.bits, d.n = 0, 0
}

func base64Value(c byte) byte {
	switch {
	case 'A' <= c && c <= 'Z':
		return c - 'A'
	case 'a' <= c && c <= 'z':
		return c - 'a' + 26
	case '0' <= c && c <= '9':
		return c - '0' + 52
	case c == '+':
		return 62
	case c == '/':
		return 63
	}
	return 255
}

// maxSpaces bounds the white space that is held back because it may stand before a line
// end, where it does not count (RFC 2045 §6.7 rule 3). No line is longer.
const maxSpaces = 1024

// qpReader decodes quoted-printable; "=" without two hexadecimal digits stays as it is.
type qpReader struct {
	in   *bufio.Reader
	held []byte // white space that may be dropped
	buf  []byte // decoded, not yet read
	err  error
}

func (d *qpReader) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(d.buf) > 0 {
			k := copy(p[n:], d.buf)
			d.buf = d.buf[k:]
			n += k
			continue
		}
		if d.err != nil {
			break
		}
		d.buf = d.step(d.buf[:0])
	}
	if n == 0 && len(p) > 0 {
		return 0, d.err
	}
	return n, nil
}

// step reads one character or escape and appends what it stands for.
func (d *qpReader) step(out []byte) []byte {
	c, err := d.in.ReadByte()
	if err != nil {
		d.err = err
		d.held = d.held[:0] // white space at the end of the text
		return out
	}
	switch c {
	case ' ', '\t':
		if len(d.held) < maxSpaces {
			d.held = append(d.held, c)
			return out
		}
	case '\n':
		d.held = d.held[:0]
		return append(out, c)
	case '\r':
		if next, _ := d.in.Peek(1); len(next) == 1 && next[0] == '\n' {
			d.held = d.held[:0]
			return append(out, c)
		}
	}
	out = append(out, d.held...)
	d.held = d.held[:0]
	if c != '=' {
		return append(out, c)
	}
	next, _ := d.in.Peek(2)
	if len(next) == 2 {
		hi, lo := Unhex(next[0]), Unhex(next[1])
		if hi < 16 && lo < 16 {
			d.discard(2)
			return append(out, hi<<4|lo)
		}
	}
	if d.softBreak() {
		return out
	}
	return append(out, '=')
}

// softBreak eats white space and a line end behind "=", or the end of the text.
func (d *qpReader) softBreak() bool {
	n := 0
	for n < maxSpaces {
		next, _ := d.in.Peek(n + 1)
		if len(next) <= n {
			d.discard(n)
			return true
		}
		switch next[n] {
		case ' ', '\t', '\r':
			n++
		case '\n':
			d.discard(n + 1)
			return true
		default:
			return false
		}
	}
	return false
}

// discard drops bytes that Peek has shown.
func (d *qpReader) discard(n int) {
	if _, err := d.in.Discard(n); err != nil {
		d.err = err
	}
}

// Unhex gives the value of a hexadecimal digit in either case, or 255.
func Unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}
