package lineio

import (
	"strings"
	"unicode"
)

// Clean makes the words of a stranger fit to be shown and logged: UTF-8 on one line, at most
// limit octets, without control characters and without such that change the direction of
// writing. Every one of these becomes a space, and broken UTF-8 a question mark.
func Clean(s string, limit int) string {
	s = strings.ToValidUTF8(s[:min(len(s), limit)], "?")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Bidi_Control, unicode.Zl, unicode.Zp) {
			return ' '
		}
		return r
	}, s))
}
