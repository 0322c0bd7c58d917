package imap

import (
	"bufio"
	"io"
	stdmime "mime"
	"strings"

	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/transform"

	"postern.email/kit/errs"
	"postern.email/mail/mime"
)

// decodeWords decodes the encoded words of a header value (RFC 2047).
func decodeWords(v string) string {
	if !strings.Contains(v, "=?") {
		return v
	}
	d := stdmime.WordDecoder{CharsetReader: func(charset string, r io.Reader) (io.Reader, error) {
		return charsetReader(charset, r), nil
	}}
	out, err := d.DecodeHeader(v)
	if err != nil {
		return v
	}
	return out
}

// charsetReader gives text as UTF-8; of an unknown charset the bytes as they are.
func charsetReader(charset string, r io.Reader) io.Reader {
	switch charset = strings.ToLower(charset); charset {
	case "", "us-ascii", "utf-8":
		return r
	}
	e, err := htmlindex.Get(charset)
	if err != nil {
		return r
	}
	return transform.NewReader(r, e.NewDecoder())
}

// matchText looks for text in the decoded text parts, and for TEXT in the headers
// too. Parts are read as a stream, whatever their size.
func (m *candidate) matchText(k *searchKey) (bool, error) {
	if k.text == "" {
		return true, nil
	}
	s, err := m.summary()
	if err != nil {
		return false, err
	}
	if k.op == opText {
		h, err := m.fields()
		if err != nil {
			return false, err
		}
		for _, f := range h.Fields() {
			if strings.Contains(fold(f.Name+": "+decodeWords(f.Value())), k.text) {
				return true, nil
			}
		}
	}
	tree, err := s.Structure()
	if err != nil {
		return false, err
	}
	if err := m.open(); err != nil {
		return false, err
	}
	return m.textIn(tree, k)
}

func (m *candidate) textIn(p *mime.Part, k *searchKey) (bool, error) {
	if p == nil {
		return false, nil
	}
	if err := m.ctx.Err(); err != nil {
		return false, errs.E("wire/imap.search", errs.Canceled, "", err)
	}
	for _, child := range p.Parts {
		if hit, err := m.textIn(child, k); hit || err != nil {
			return hit, err
		}
	}
	if p.Message != nil {
		// The header of an enclosed message is part of the text around it.
		header := io.NewSectionReader(m.body, p.Message.HeaderStart, p.Message.BodyStart-p.Message.HeaderStart)
		if hit, err := containsFolded(header, k.text); hit || err != nil {
			return hit, err
		}
		return m.textIn(p.Message, k)
	}
	if p.MediaType != "text" {
		return false, nil
	}
	src, err := mime.NewDecoder(io.NewSectionReader(m.body, p.BodyStart, p.Size()), p.Encoding)
	if err != nil {
		return false, nil // an unknown encoding holds no text that could be found
	}
	return containsFolded(charsetReader(p.Param("charset"), src), k.text)
}

// containsFolded looks for folded text in a stream, in pieces that overlap.
func containsFolded(r io.Reader, text string) (bool, error) {
	in := bufio.NewReaderSize(r, 16<<10)
	// Folding may change lengths, so the overlap counts folded bytes.
	var window strings.Builder
	for {
		piece, err := readRunes(in, 8<<10)
		window.WriteString(fold(piece))
		s := window.String()
		if strings.Contains(s, text) {
			return true, nil
		}
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			if k := errs.KindOf(err); k == errs.Invalid {
				return false, nil // a part that cannot be decoded holds no text
			}
			return false, err
		}
		if keep := len(text) - 1; len(s) > keep {
			s = s[len(s)-keep:]
		}
		window.Reset()
		window.WriteString(s)
	}
}

// readRunes reads about n bytes that end at a border of a character.
func readRunes(in *bufio.Reader, n int) (string, error) {
	var b strings.Builder
	for b.Len() < n {
		r, size, err := in.ReadRune()
		if err != nil {
			return b.String(), err
		}
		if r == '\uFFFD' && size == 1 {
			continue // not UTF-8: such bytes match nothing
		}
		b.WriteRune(r)
	}
	return b.String(), nil
}
