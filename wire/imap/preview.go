package imap

import (
	"bufio"
	"io"
	"strings"
	"unicode"

	"postern.email/mail/mime"
)

// Bounds of PREVIEW (RFC 8970 §3.1): at most 200 characters, made from the
// beginning of one part.
const (
	previewLength = 200
	previewRead   = 16 << 10
)

// preview gives the beginning of the text that a reader sees first, in one line. It
// is empty for mail without such text: encrypted mail has none.
func preview(tree *mime.Part, body Body) (string, error) {
	p := previewPart(tree, 0)
	if p == nil {
		return "", nil
	}
	src, err := mime.NewDecoder(io.NewSectionReader(body, p.BodyStart, min(p.Size(), previewRead)), p.Encoding)
	if err != nil {
		return "", nil // an encoding that nobody knows: nothing to show
	}
	in := bufio.NewReader(charsetReader(p.Param("charset"), src))
	var b strings.Builder
	html, inTag, space, n := p.Subtype == "html", false, false, 0
	for n < previewLength {
		r, size, err := in.ReadRune()
		if err != nil {
			break // what can be read is shown
		}
		switch {
		case r == '\uFFFD' && size == 1:
		case html && r == '<':
			inTag, space = true, true
		case html && inTag:
			inTag = r != '>'
		case unicode.IsSpace(r) || unicode.IsControl(r):
			space = true
		default:
			if space && n > 0 {
				b.WriteByte(' ')
				n++
			}
			space = false
			if n < previewLength {
				b.WriteRune(r)
				n++
			}
		}
	}
	return b.String(), nil
}

// previewPart finds the first text that is not an attachment; plain text of
// alternatives comes first by itself (RFC 2046 §5.1.4).
func previewPart(p *mime.Part, depth int) *mime.Part {
	if p == nil || depth > mime.MaxDepth || p.Disposition == "attachment" || p.Multipart() && p.Subtype == "encrypted" {
		return nil
	}
	if len(p.Parts) == 0 {
		if p.MediaType == "text" && (p.Subtype == "plain" || p.Subtype == "html") {
			return p
		}
		return nil
	}
	for _, child := range p.Parts {
		if found := previewPart(child, depth+1); found != nil {
			return found
		}
	}
	return nil
}
