package mail

import (
	"io"
	"mime"
	"strings"
	"unicode"

	"golang.org/x/text/encoding/htmlindex"

	"postern.email/kit/errs"
)

// DecodeWords turns the encoded words (RFC 2047) of an unfolded value into UTF-8. A word
// that cannot be decoded stays as written. Control characters, which an encoded word
// can hide, become spaces; broken UTF-8 becomes U+FFFD.
func DecodeWords(value string) string {
	out := value
	if strings.Contains(value, "=?") {
		d := mime.WordDecoder{CharsetReader: CharsetReader}
		if s, err := d.DecodeHeader(value); err == nil {
			out = s
		}
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(out, "\uFFFD"))
}

// CharsetReader turns text in a named character set into UTF-8; errs.Unsupported for
// a name that is not known.
func CharsetReader(charset string, r io.Reader) (io.Reader, error) {
	e, err := htmlindex.Get(charset)
	if err != nil {
		return nil, errs.E("mail.CharsetReader", errs.Unsupported, "unknown character set", err)
	}
	return e.NewDecoder().Reader(r), nil
}
