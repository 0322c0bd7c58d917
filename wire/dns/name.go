package dns

import (
	"strings"
	"unicode/utf8"

	"postern.email/mail"
)

// Limits of RFC 1035 §2.3.4, without the dot at the end.
const (
	maxName  = 253
	maxLabel = 63
)

// canonical is the form of a name that is asked for: A-labels in lower case. ok is
// false for what no DNS name of ours can be, the root and a domain literal among them.
func canonical(name string) (string, bool) {
	name = strings.TrimSuffix(name, ".")
	ok := utf8.ValidString(name)
	name = mail.CanonicalDomain(name)
	return name, ok && validName(name)
}

// IsLocal reports whether a name means this machine to whoever looks it up (RFC 6761
// §6.3).
func IsLocal(name string) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// hostName reads a name out of an answer.
func hostName(name string) (string, bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	return name, validName(name)
}

// validName checks labels of letters, digits, "-" and "_". Others are possible in the
// DNS and mean nothing to mail; miekg/dns gives them with backslashes, which would be
// read as something else where the name is used.
func validName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	label := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '.':
			if label == 0 {
				return false
			}
			label = 0
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			if label++; label > maxLabel {
				return false
			}
		default:
			return false
		}
	}
	return label > 0
}

// unescape undoes what miekg/dns does to the bytes of a text: \" and \\, and \DDD for
// what cannot be printed.
func unescape(s string) string {
	i := strings.IndexByte(s, '\\')
	if i < 0 {
		return s
	}
	b := append(make([]byte, 0, len(s)), s[:i]...)
	for ; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b = append(b, s[i])
			continue
		}
		i++
		if i+2 < len(s) && isDigit(s[i]) && isDigit(s[i+1]) && isDigit(s[i+2]) {
			b = append(b, (s[i]-'0')*100+(s[i+1]-'0')*10+(s[i+2]-'0'))
			i += 2
			continue
		}
		b = append(b, s[i])
	}
	return string(b)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
