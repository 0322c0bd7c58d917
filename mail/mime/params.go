package mime

import (
	"io"
	"slices"
	"strconv"
	"strings"

	"postern.email/mail"
)

// parseField reads "value; name=value; ..." (RFC 2045 §5.1) and what real mail makes of
// it: comments, missing quotes, missing semicolons at the end, spaces around "=".
func parseField(v string) (value string, params []Param) {
	value, rest := cutToken(skipComments(v))
	for len(params) < maxParams {
		rest = skipComments(rest)
		i := strings.IndexByte(rest, ';')
		if i < 0 {
			break
		}
		rest = skipComments(rest[i+1:])
		eq := strings.IndexAny(rest, "=;")
		if eq < 0 || rest[eq] == ';' {
			continue
		}
		name := lower(strings.TrimSpace(rest[:eq]))
		var val string
		val, rest = cutParamValue(skipComments(rest[eq+1:]))
		if name != "" && !strings.ContainsAny(name, " \t\"") {
			params = append(params, Param{cut(name), cut(val)})
		}
	}
	return value, params
}

// cutToken takes text up to a semicolon, white space or comment.
func cutToken(s string) (token, rest string) {
	i := strings.IndexAny(s, "; \t(")
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i:]
}

// cutParamValue takes a quoted string, or everything up to the next semicolon.
func cutParamValue(s string) (value, rest string) {
	if s == "" || s[0] != '"' {
		i := strings.IndexByte(s, ';')
		if i < 0 {
			i = len(s)
		}
		value = s[:i]
		if c := strings.IndexByte(value, '('); c > 0 { // a comment, unless it is part of an unquoted name
			if t := strings.TrimRight(value, " \t"); t[len(t)-1] == ')' {
				value = value[:c]
			}
		}
		return strings.TrimSpace(value), s[i:]
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
}

// skipComments passes white space and comments.
func skipComments(s string) string {
	for {
		s = strings.TrimLeft(s, " \t")
		if s == "" || s[0] != '(' {
			return s
		}
		depth, i := 0, 0
		for ; i < len(s); i++ {
			if s[i] == '\\' {
				i++
			} else if s[i] == '(' {
				depth++
			} else if s[i] == ')' {
				if depth--; depth == 0 {
					break
				}
			}
		}
		if i >= len(s) {
			return ""
		}
		s = s[i+1:]
	}
}

// DecodeParams joins continuations and decodes character sets (RFC 2231 §3, §4), as
// IMAP4rev2 wants it (RFC 9051 §7.5.2). Where "name*" and "name" are both there, the
// former wins. What cannot be decoded stays as written. The order is that of first mention.
func DecodeParams(params []Param) []Param {
	var out []Param
	for _, p := range params {
		name, _, _ := strings.Cut(p.Name, "*")
		if name != "" && !slices.ContainsFunc(out, func(q Param) bool { return q.Name == name }) {
			out = append(out, Param{name, param(params, name)})
		}
	}
	return out
}

// param gives one parameter decoded.
func param(params []Param, name string) string {
	name = lower(name)
	plain, found := "", false
	var pieces [maxParams]string // by number
	var coded [maxParams]bool
	for _, p := range params {
		tail, ok := strings.CutPrefix(p.Name, name)
		if !ok {
			continue
		}
		switch {
		case tail == "":
			if !found {
				plain, found = p.Value, true
			}
		case tail == "*":
			return decodeExtended([]string{p.Value}, []bool{true})
		case tail[0] == '*':
			num, star := strings.CutSuffix(tail[1:], "*")
			if n, err := strconv.Atoi(num); err == nil && n >= 0 && n < maxParams && pieces[n] == "" {
				pieces[n], coded[n] = p.Value, star
			}
		}
	}
	n := 0
	for n < maxParams && pieces[n] != "" {
		n++
	}
	if n > 0 {
		return decodeExtended(pieces[:n], coded[:n])
	}
	return plain
}

// decodeExtended joins pieces, of which the coded ones have %XX, and turns the result from
// the character set that the first piece names into UTF-8.
func decodeExtended(pieces []string, coded []bool) string {
	charset := ""
	var b strings.Builder
	for i, s := range pieces {
		if i == 0 && coded[0] {
			if f := strings.SplitN(s, "'", 3); len(f) == 3 {
				charset, s = f[0], f[2]
			}
		}
		if coded[i] {
			s = unpercent(s)
		}
		b.WriteString(s)
	}
	return toUTF8(b.String(), charset)
}

func toUTF8(s, charset string) string {
	switch lower(charset) {
	case "", "utf-8", "us-ascii":
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	r, err := mail.CharsetReader(charset, strings.NewReader(s))
	if err != nil {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	return string(b)
}

func unpercent(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// lower folds ASCII only.
func lower(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] >= 'A' && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if b[i] >= 'A' && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

// cut bounds one string.
func cut(s string) string {
	if len(s) <= maxValue {
		return s
	}
	return strings.Clone(s[:maxValue])
}
