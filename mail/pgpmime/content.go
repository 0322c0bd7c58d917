package pgpmime

import (
	"strings"

	"postern.email/mail"
)

// maxBoundary is RFC 2046 §5.1.1.
const maxBoundary = 70

// content is what the MIME header fields of one entity say.
type content struct {
	kind     string // "type/subtype", lower case; "text/plain" when missing
	boundary string
	encoding string // lower case; "" when missing
}

func (c content) is(kind string) bool { return c.kind == kind }

// identity reports an encoding that changes nothing.
func (c content) identity() bool {
	switch c.encoding {
	case "", "7bit", "8bit", "binary":
		return true
	}
	return false
}

// readContent reads Content-Type and Content-Transfer-Encoding. Two of either, and
// forms that readers take apart differently (comments, two boundaries, RFC 2231
// boundaries), are refused.
func readContent(h mail.Header) (c content, why string) {
	c.kind = "text/plain"
	types, encodings := 0, 0
	for _, f := range h.Fields() {
		switch {
		case len(f.Name) == len("Content-Type") && strings.EqualFold(f.Name, "Content-Type"):
			types++
			if why = c.readType(f.Value()); why != "" {
				return c, why
			}
		case len(f.Name) == len("Content-Transfer-Encoding") && strings.EqualFold(f.Name, "Content-Transfer-Encoding"):
			encodings++
			c.encoding = strings.ToLower(f.Value())
		}
	}
	if types > 1 || encodings > 1 {
		return c, "repeated MIME header field"
	}
	return c, ""
}

// readType reads a Content-Type (RFC 2045 §5.1) strictly.
func (c *content) readType(v string) string {
	kind, params, _ := strings.Cut(v, ";")
	kind = strings.Trim(kind, " \t")
	major, minor, ok := strings.Cut(kind, "/")
	if !ok || !isToken(major) || !isToken(minor) {
		return "malformed Content-Type"
	}
	c.kind = strings.ToLower(kind)
	for {
		params = strings.TrimLeft(params, " \t;")
		if params == "" {
			return ""
		}
		name, rest, ok := strings.Cut(params, "=")
		name = strings.TrimRight(name, " \t")
		if !ok || !isToken(name) {
			return "malformed Content-Type"
		}
		value, rest, quoted, ok := cutValue(strings.TrimLeft(rest, " \t"))
		if !ok {
			return "malformed Content-Type"
		}
		params = rest
		if len(name) < len("boundary") || !strings.EqualFold(name[:len("boundary")], "boundary") {
			continue
		}
		if len(name) > len("boundary") && name[len("boundary")] != '*' {
			continue
		}
		if len(name) > len("boundary") || c.boundary != "" || !isBoundary(value) || !quoted && strings.ContainsAny(value, " <>@,") {
			return "malformed boundary"
		}
		c.boundary = value
	}
}

// cutValue takes a quoted string or a token from the start of s; rest starts at ";". A
// token may have spaces, as file names of careless programs do, but nothing that
// could begin a quoted string or a comment.
func cutValue(s string) (value, rest string, quoted, ok bool) {
	if s == "" || s[0] != '"' {
		value, rest, _ = strings.Cut(s, ";")
		value = strings.TrimRight(value, " \t")
		return value, rest, false, value != "" && !strings.ContainsAny(value, "\t\"()\\")
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			value, rest = s[1:i], strings.TrimLeft(s[i+1:], " \t")
			return value, rest, true, rest == "" || rest[0] == ';'
		}
	}
	return "", "", true, false
}

// isToken is RFC 2045 §5.1.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?=`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// isBoundary allows a little more than RFC 2046 §5.1.1 (all printable ASCII but the
// characters that need a backslash) and keeps its length and its last character.
func isBoundary(s string) bool {
	if s == "" || len(s) > maxBoundary || s[len(s)-1] == ' ' {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' || s[i] == '\\' || s[i] == '"' {
			return false
		}
	}
	return true
}

// cleanHeader refuses control characters but TAB and CRLF: where one reader sees the end
// of a line, or of the text, another does not.
func cleanHeader(b []byte) bool {
	for i, c := range b {
		if c >= ' ' && c != 0x7f || c == '\t' {
			continue
		}
		if c == '\r' && i+1 < len(b) && b[i+1] == '\n' || c == '\n' && i > 0 && b[i-1] == '\r' {
			continue
		}
		return false
	}
	return true
}
