package mail

import (
	"bytes"
	"slices"
	"strings"

	"postern.email/kit/errs"
)

// Limits of a header. RFC 5322 sets none.
const (
	MaxHeaderBytes = 256 << 10
	MaxFields      = 1000
)

// Field is one header field over the raw bytes. Name is as written; Raw is the
// whole field with its folding and final CRLF; it must not be changed.
type Field struct {
	Name string
	Raw  []byte
}

// Value gives the field body unfolded (RFC 5322 §2.2.3) and trimmed. A NUL, which no
// protocol can carry on, becomes a space.
func (f Field) Value() string {
	i := bytes.IndexByte(f.Raw, ':')
	return unfold(f.Raw[i+1:])
}

// unfold takes the line ends out and leaves the white space that followed them.
func unfold(raw []byte) string {
	raw = bytes.Trim(raw, " \t\r\n")
	if bytes.IndexByte(raw, '\n') < 0 && bytes.IndexByte(raw, '\r') < 0 && bytes.IndexByte(raw, 0) < 0 {
		return string(raw)
	}
	b := make([]byte, 0, len(raw))
	for _, c := range raw {
		switch c {
		case '\r', '\n':
		case 0:
			b = append(b, ' ')
		default:
			b = append(b, c)
		}
	}
	return string(b)
}

// Header is the ordered fields of one header. It shares the bytes it was parsed
// from and is never changed; edits make new bytes.
type Header struct{ fields []Field }

// ParseHeader reads the header at the start of raw. The body begins at bodyOffset,
// behind the empty line; without an empty line bodyOffset is len(raw). A line may end
// in a bare LF. Errors: errs.TooLarge beyond the limits, errs.Invalid for a line that
// is no field and no continuation. With an error, what was read until then is
// returned, and bodyOffset is the start of the line that did not fit.
func ParseHeader(raw []byte) (h Header, bodyOffset int, err error) {
	const op = "mail.ParseHeader"
	type span struct{ start, name, end int }
	var few [32]span // most headers fit; no allocation
	spans := few[:0]
	pos := 0
	for pos < len(raw) {
		end := len(raw)
		if i := bytes.IndexByte(raw[pos:], '\n'); i >= 0 {
			end = pos + i + 1
		}
		line := raw[pos:end]
		if line[0] == '\n' || len(line) == 2 && line[0] == '\r' && line[1] == '\n' {
			pos = end
			break
		}
		if end > MaxHeaderBytes {
			err = errs.E(op, errs.TooLarge, "message header too large", nil)
			break
		}
		if (line[0] == ' ' || line[0] == '\t') && len(spans) > 0 {
			spans[len(spans)-1].end = end
			pos = end
			continue
		}
		n := fieldName(line)
		if n == 0 {
			err = errs.E(op, errs.Invalid, "malformed message header", nil)
			break
		}
		if len(spans) == MaxFields {
			err = errs.E(op, errs.TooLarge, "too many header fields", nil)
			break
		}
		spans = append(spans, span{pos, n, end})
		pos = end
	}
	if len(spans) == 0 {
		return Header{}, pos, err
	}
	names := string(raw[:spans[len(spans)-1].end]) // one allocation for all names
	fields := make([]Field, len(spans))
	for i, s := range spans {
		fields[i] = Field{Name: names[s.start : s.start+s.name], Raw: raw[s.start:s.end:s.end]}
	}
	return Header{fields}, pos, err
}

// fieldName gives the length of the name at the start of a line, 0 if there is none.
// White space before the colon is the obsolete form (RFC 5322 §4.5).
func fieldName(line []byte) int {
	n := 0
	for n < len(line) && line[n] > ' ' && line[n] < 0x7f && line[n] != ':' {
		n++
	}
	for i := n; i < len(line); i++ {
		switch line[i] {
		case ':':
			return n
		case ' ', '\t':
		default:
			return 0
		}
	}
	return 0
}

// Fields gives all fields in order. The slice must not be changed.
func (h Header) Fields() []Field { return h.fields }

// Get gives the value of the first field of that name (any case), "" if none.
func (h Header) Get(name string) string {
	for _, f := range h.fields {
		if strings.EqualFold(f.Name, name) {
			return f.Value()
		}
	}
	return ""
}

// All gives the values of all fields of that name in order.
func (h Header) All(name string) []string {
	var out []string
	for _, f := range h.fields {
		if strings.EqualFold(f.Name, name) {
			out = append(out, f.Value())
		}
	}
	return out
}

// Count gives the number of fields of that name.
func (h Header) Count(name string) int {
	n := 0
	for _, f := range h.fields {
		if strings.EqualFold(f.Name, name) {
			n++
		}
	}
	return n
}

// Bytes gives the header as bytes with CRLF line ends and the empty line. Fields that
// came with CRLF stay as they were, byte for byte.
func (h Header) Bytes() []byte {
	n := 2
	for _, f := range h.fields {
		n += len(f.Raw) + 2
	}
	b := make([]byte, 0, n)
	for _, f := range h.fields {
		b = appendCRLF(b, f.Raw)
	}
	return append(b, '\r', '\n')
}

// AppendField appends a field to header bytes, with every line ended by CRLF. A field
// that has CRLF already stays as it is, byte for byte.
func AppendField(b []byte, f Field) []byte { return appendCRLF(b, f.Raw) }

func appendCRLF(b, raw []byte) []byte {
	for len(raw) > 0 {
		line := raw
		if i := bytes.IndexByte(raw, '\n'); i >= 0 {
			line = raw[:i+1]
		}
		raw = raw[len(line):]
		line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte{'\n'}), []byte{'\r'})
		b = append(b, line...)
		b = append(b, '\r', '\n')
	}
	return b
}

// Remove gives a Header without the fields of these names.
func (h Header) Remove(names ...string) Header {
	out := make([]Field, 0, len(h.fields)+1)
	for _, f := range h.fields {
		if !slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, f.Name) }) {
			out = append(out, f)
		}
	}
	return Header{out}
}

// Replace gives a Header in which the first field of that name has the given
// value and the others of that name are gone; without one, it is appended.
func (h Header) Replace(name, value string) Header {
	out := make([]Field, 0, len(h.fields)+1)
	done := false
	for _, f := range h.fields {
		if !strings.EqualFold(f.Name, name) {
			out = append(out, f)
		} else if !done {
			out = append(out, newField(name, value))
			done = true
		}
	}
	if !done {
		out = append(out, newField(name, value))
	}
	return Header{out}
}

// Prepend gives a Header with a field before all others.
func (h Header) Prepend(name, value string) Header {
	return Header{append([]Field{newField(name, value)}, h.fields...)}
}

// Append gives a Header with a field behind all others.
func (h Header) Append(name, value string) Header {
	return Header{append(slices.Clip(h.fields), newField(name, value))}
}

// newField makes a field on one line. CR, LF and NUL in the value become spaces, so
// that no value can smuggle in a field.
func newField(name, value string) Field {
	raw := make([]byte, 0, len(name)+len(value)+4)
	raw = append(raw, name...)
	raw = append(raw, ':', ' ')
	for i := 0; i < len(value); i++ {
		c := value[i]
		if c == '\r' || c == '\n' || c == 0 {
			c = ' '
		}
		raw = append(raw, c)
	}
	raw = append(raw, '\r', '\n')
	return Field{Name: name, Raw: raw}
}
