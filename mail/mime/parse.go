package mime

import (
	"bytes"
	"errors"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// maxBoundary is more than RFC 2046 §5.1.1 allows, since real ones are longer.
const maxBoundary = 255

// Parse reads the structure of a whole message in one pass. Broken mail gives the best tree
// there is: a missing final boundary ends its part where an outer one, or the message,
// ends; a header that is followed by text without an empty line ends there; a multipart
// without boundary is text/plain. Lines may end in LF alone. It fails only for a message
// of 4 GiB or more (errs.TooLarge).
func Parse(raw []byte) (*Part, error) {
	if int64(len(raw)) >= 1<<32 {
		return nil, errs.E("mail/mime.Parse", errs.TooLarge, "message too large", nil)
	}
	p := parser{raw: raw, budget: MaxText}
	return p.entity(0, "text", "plain", true), nil
}

type parser struct {
	raw    []byte
	pos    int
	line   int64 // lines before pos
	open   []boundary
	parts  int
	budget int // bytes of strings that may still be kept

	// The boundary line that ended the last piece; level -1: the end of the message.
	level   int
	final   bool // it was the closing one
	endPos  int  // where the piece ends: before the line end that belongs to the boundary
	endLine int64
}

// boundary is the text of an open multipart.
type boundary struct {
	text   []byte
	spaced bool // it has white space, perhaps from folding: compare without
}

// nextLine takes the line at pos with its end.
func (p *parser) nextLine() []byte {
	rest := p.raw[p.pos:]
	if i := bytes.IndexByte(rest, '\n'); i >= 0 {
		rest = rest[:i+1]
		p.line++
	}
	p.pos += len(rest)
	return rest
}

// delimiter finds out whether line is a boundary of an open multipart, innermost first.
func (p *parser) delimiter(line []byte) (level int, final, ok bool) {
	if len(line) < 3 || line[0] != '-' || line[1] != '-' || len(p.open) == 0 {
		return 0, false, false
	}
	text := bytes.TrimRight(line[2:], " \t\r\n")
	if len(text) > 2*maxBoundary {
		return 0, false, false
	}
	var squeezed []byte
	for level = len(p.open) - 1; level >= 0; level-- {
		b, t := p.open[level], text
		if b.spaced {
			if squeezed == nil {
				squeezed = squeeze(text)
			}
			t = squeezed
		}
		if d := len(t) - len(b.text); d != 0 && d != 2 || !bytes.HasPrefix(t, b.text) {
			continue
		}
		switch string(t[len(b.text):]) {
		case "":
			return level, false, true
		case "--":
			return level, true, true
		}
	}
	return 0, false, false
}

func squeeze(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for _, c := range b {
		if c != ' ' && c != '\t' {
			out = append(out, c)
		}
	}
	return out
}

// skipTo reads until the next boundary line or the end of the message and notes where
// the piece that began at start ends.
func (p *parser) skipTo(start int) {
	for p.pos < len(p.raw) {
		at, n := p.pos, p.line
		if level, final, ok := p.delimiter(p.nextLine()); ok {
			p.ended(level, final, start, at, n)
			return
		}
	}
	p.atEnd()
}

// ended notes a boundary line at offset at, before which n lines were read.
func (p *parser) ended(level int, final bool, start, at int, n int64) {
	p.level, p.final, p.endPos, p.endLine = level, final, at, n
	if p.endPos > start && p.raw[p.endPos-1] == '\n' {
		p.endPos--
		p.endLine--
		if p.endPos > start && p.raw[p.endPos-1] == '\r' {
			p.endPos--
		}
	}
}

func (p *parser) atEnd() {
	p.level, p.final, p.endPos, p.endLine = -1, false, len(p.raw), p.line
}

// entity reads a header and its body. When it returns, the boundary line behind it, if any,
// was read and stands in p.level.
func (p *parser) entity(depth int, defType, defSub string, message bool) *Part {
	part := &Part{HeaderStart: int64(p.pos)}
	p.parts++
	start := p.pos
	h, ended := p.header()
	part.BodyStart = int64(p.pos)
	bodyLine := p.line
	p.describe(part, h, defType, defSub)
	if message {
		part.Envelope = p.envelope(h)
	}
	leaf := depth >= MaxDepth || p.parts >= MaxParts
	switch {
	case ended:
		// No body: the boundary came within the header.
		part.BodyStart, bodyLine = int64(p.endPos), p.endLine
		if part.Multipart() || part.isMessage() {
			part.MediaType, part.Subtype, part.Params = "text", "plain", nil
		}
	case part.Multipart():
		b := makeBoundary(part.Param("boundary"))
		switch {
		case leaf:
			p.leaf(part)
			part.MediaType, part.Subtype = "application", "octet-stream"
		case len(b.text) == 0 || !part.identity():
			p.leaf(part)
			part.MediaType, part.Subtype, part.Params = "text", "plain", nil
		default:
			p.multipart(part, depth, b)
		}
	case part.isMessage() && part.identity() && !leaf:
		part.Message = p.entity(depth+1, "text", "plain", true)
	case part.isMessage(): // encoded, which RFC 2046 §5.2.1 forbids, or too deep
		p.leaf(part)
		part.MediaType, part.Subtype = "application", "octet-stream"
	default:
		p.leaf(part)
	}
	part.BodyEnd = max(int64(p.endPos), int64(start))
	part.BodyStart = min(part.BodyStart, part.BodyEnd)
	part.Lines = max(p.endLine-bodyLine, 0)
	if part.BodyEnd > part.BodyStart && p.raw[part.BodyEnd-1] != '\n' {
		part.Lines++
	}
	return part
}

func (p *parser) leaf(part *Part) { p.skipTo(int(part.BodyStart)) }

// multipart reads the children between the boundaries.
func (p *parser) multipart(part *Part, depth int, b boundary) {
	own := len(p.open)
	p.open = append(p.open, b)
	defType, defSub := "text", "plain"
	if part.Subtype == "digest" { // RFC 2046 §5.1.5
		defType, defSub = "message", "rfc822"
	}
	p.skipTo(p.pos) // preamble
	for p.level == own && !p.final && p.parts < MaxParts {
		part.Parts = append(part.Parts, p.entity(depth+1, defType, defSub, false))
	}
	p.open = p.open[:own]
	if p.level >= own { // behind the last part: the epilogue
		p.skipTo(int(part.BodyStart))
	}
	if len(part.Parts) == 0 { // RFC 9051 §9 knows no multipart without parts
		at := int64(p.endPos)
		part.Parts = []*Part{{MediaType: "text", Subtype: "plain", Encoding: "7bit", HeaderStart: at, BodyStart: at, BodyEnd: at}}
		p.parts++
	}
}

// header reads a header up to its empty line. It ends early at a boundary line (ended),
// or where a line is no field: the body begins there.
func (p *parser) header() (h mail.Header, ended bool) {
	start, startLine := p.pos, p.line
	if bytes.HasPrefix(p.raw[start:], []byte("From ")) || bytes.HasPrefix(p.raw[start:], []byte(">From ")) {
		p.nextLine() // an mbox line
	}
	from := p.pos
	end := len(p.raw)
	empty := false
	for p.pos < len(p.raw) {
		at, n := p.pos, p.line
		line := p.nextLine()
		if line[0] == '\n' || len(line) == 2 && line[0] == '\r' && line[1] == '\n' {
			end, empty = at, true
			break
		}
		if level, final, ok := p.delimiter(line); ok {
			p.ended(level, final, start, at, n)
			end, ended = at, true
			break
		}
	}
	h, off, err := mail.ParseHeader(p.raw[from:end])
	if err != nil && errors.Is(err, errs.Invalid) {
		// Text without an empty line before it.
		p.pos = from + off
		p.line = startLine + int64(bytes.Count(p.raw[start:p.pos], []byte{'\n'}))
		return h, false
	}
	if !empty && !ended {
		p.atEnd()
	}
	return h, ended || !empty
}

func (p *parser) envelope(h mail.Header) *Envelope {
	if p.budget <= 0 {
		return &Envelope{}
	}
	e := NewEnvelope(h)
	if p.budget -= e.text(); p.budget < 0 {
		return &Envelope{}
	}
	return e
}

// describe reads the MIME fields of a header.
func (p *parser) describe(part *Part, h mail.Header, defType, defSub string) {
	part.MediaType, part.Subtype, part.Encoding = defType, defSub, "7bit"
	seen := [8]bool{}
	first := func(i int) bool { // the first field of a name counts
		was := seen[i]
		seen[i] = true
		return !was
	}
	for _, f := range h.Fields() {
		if len(f.Name) < len("Content-ID") || !strings.EqualFold(f.Name[:8], "Content-") {
			continue
		}
		switch lower(f.Name[8:]) {
		case "type":
			if first(0) {
				p.contentType(part, f.Value())
			}
		case "transfer-encoding":
			if first(1) {
				if v, _ := parseField(lower(f.Value())); v != "" {
					part.Encoding = p.keep(v)
				}
			}
		case "id":
			if first(2) {
				part.ID = p.keep(f.Value())
			}
		case "description":
			if first(3) {
				part.Description = p.keep(f.Value())
			}
		case "disposition":
			if first(4) {
				v, params := parseField(f.Value())
				part.Disposition = p.keep(lower(v))
				part.DispositionParams = p.keepParams(params)
			}
		case "language":
			if first(5) {
				part.Language = p.languages(f.Value())
			}
		case "location":
			if first(6) {
				part.Location = p.keep(strings.Join(strings.Fields(f.Value()), ""))
			}
		case "md5":
			if first(7) {
				part.MD5 = p.keep(f.Value())
			}
		}
	}
}

func (p *parser) contentType(part *Part, value string) {
	kind, params := parseField(value)
	major, minor, ok := strings.Cut(lower(kind), "/")
	if !ok || !isToken(major) || !isToken(minor) {
		part.MediaType, part.Subtype = "text", "plain" // RFC 2045 §5.2
		return
	}
	part.MediaType, part.Subtype = p.keep(major), p.keep(minor)
	if part.MediaType == "" || part.Subtype == "" {
		part.MediaType, part.Subtype = "text", "plain"
	}
	part.Params = p.keepParams(params)
}

func (p *parser) languages(v string) (out []string) {
	for s := range strings.SplitSeq(v, ",") {
		if s = p.keep(strings.TrimSpace(skipComments(s))); s != "" && len(out) < maxParams {
			p.budget -= 2 // its length, and room for a slice
			out = append(out, s)
		}
	}
	return out
}

// keep bounds a string by itself and by the budget of the tree.
func (p *parser) keep(s string) string {
	s = cut(s)
	if p.budget -= len(s); p.budget < 0 {
		return ""
	}
	return s
}

func (p *parser) keepParams(params []Param) []Param {
	for i, x := range params {
		if p.budget -= len(x.Name) + len(x.Value) + 2; p.budget < 0 {
			if i == 0 {
				return nil
			}
			return params[:i:i]
		}
	}
	return params
}

func (part *Part) isMessage() bool {
	return part.MediaType == "message" && (part.Subtype == "rfc822" || part.Subtype == "global")
}

// identity reports an encoding that changes nothing.
func (part *Part) identity() bool {
	switch part.Encoding {
	case "7bit", "8bit", "binary":
		return true
	case "base64", "quoted-printable":
		return false
	}
	return true // nonsense: the usual reason is a typing error
}

func makeBoundary(s string) boundary {
	s = strings.TrimRight(s, " \t")
	if len(s) > maxBoundary {
		return boundary{}
	}
	if strings.ContainsAny(s, " \t") {
		return boundary{squeeze([]byte(s)), true}
	}
	return boundary{[]byte(s), false}
}

func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?=`, c) >= 0 {
			return false
		}
	}
	return s != ""
}
