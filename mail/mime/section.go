package mime

import (
	"bytes"
	"strings"

	"postern.email/mail"
)

// What names the piece of a part that a section asks for (RFC 9051 §6.4.5.1).
type What uint8

const (
	Whole  What = iota // BODY[], BODY[1]
	Header             // BODY[HEADER], BODY[1.HEADER]: of the root or of a message part, with the empty line
	Text               // BODY[TEXT], BODY[1.TEXT]
	MIME               // BODY[1.MIME], with the empty line
)

// Range is a run of bytes of the whole message: [Start, End).
type Range struct{ Start, End int64 }

// Len gives End-Start.
func (r Range) Len() int64 { return r.End - r.Start }

// Section finds a piece of the message whose root is p. path is the part specifier (1-based;
// empty: the message itself). ok is false when there is no such piece: IMAP answers NIL.
// For HEADER.FIELDS ask for Header and give the bytes to FilterFields.
//
// Part 1 of a message that is no multipart is its body; for it HEADER and TEXT are
// answered too, as those of the message, since clients ask.
func (p *Part) Section(path []int, what What) (r Range, ok bool) {
	part, own := p, true
	if len(path) > 0 {
		if part, own = p.find(path); part == nil {
			return Range{}, false
		}
	}
	switch what {
	case Whole:
		if len(path) == 0 {
			return Range{part.HeaderStart, part.BodyEnd}, true
		}
		return Range{part.BodyStart, part.BodyEnd}, true
	case MIME:
		if len(path) == 0 {
			return Range{}, false
		}
		return Range{part.HeaderStart, part.BodyStart}, true
	case Header, Text:
		if part.Message != nil && len(path) > 0 {
			part = part.Message
		} else if !own {
			return Range{}, false
		}
		if what == Header {
			return Range{part.HeaderStart, part.BodyStart}, true
		}
		return Range{part.BodyStart, part.BodyEnd}, true
	}
	return Range{}, false
}

// Find gives the part at a path, nil if there is none; the empty path gives p. For a message
// part it is the part that holds the message.
func (p *Part) Find(path []int) *Part {
	part, _ := p.find(path)
	return part
}

// find also says whether the part is a whole message (the root, or the message of a
// message part) that is its own part 1.
func (p *Part) find(path []int) (part *Part, own bool) {
	part = p
	for i, n := range path {
		in := part
		if i > 0 && in.Message != nil {
			in = in.Message
		} else if i > 0 && !in.Multipart() {
			return nil, false // a leaf has no parts; it was its own part 1 already
		}
		switch {
		case in.Multipart() && n >= 1 && n <= len(in.Parts):
			part, own = in.Parts[n-1], false
		case !in.Multipart() && n == 1:
			part, own = in, true
		default:
			return nil, false
		}
	}
	return part, own
}

// FilterFields gives the fields of header that have one of the names (not: none of the
// names), in their order and as written, and an empty line behind them (RFC 9051
// §6.4.5.1). Lines that are no field are left out.
func FilterFields(header []byte, names []string, not bool) []byte {
	var out []byte
	for len(header) > 0 {
		h, off, err := mail.ParseHeader(header)
		for _, f := range h.Fields() {
			if hasName(names, f.Name) != not {
				out = append(out, f.Raw...)
			}
		}
		if err == nil {
			break
		}
		header = header[off:]
		if i := bytes.IndexByte(header, '\n'); i >= 0 {
			header = header[i+1:]
		} else {
			break
		}
	}
	if n := len(out); n > 0 && out[n-1] != '\n' {
		out = append(out, "\r\n"...)
	}
	return append(out, "\r\n"...)
}

func hasName(names []string, name string) bool {
	for _, n := range names {
		if len(n) == len(name) && strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}
