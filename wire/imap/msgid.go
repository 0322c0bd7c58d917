package imap

import "strings"

// maxMsgID bounds an identifier in bytes: what would be longer is none. It also bounds
// what looking for the end of one costs.
const maxMsgID = 1000

// nextMsgID finds the next message identifier (RFC 5322 §3.6.4) in a field value and
// gives it without brackets, and what follows it. Quoting and white space inside are
// taken out, so that one identifier has one form (RFC 5256 §3). An "@" is not asked
// for: programs that leave it out exist.
func nextMsgID(s string) (id, rest string, ok bool) {
	for {
		i := strings.IndexByte(s, '<')
		if i < 0 {
			return "", "", false
		}
		s = s[i+1:]
		if id, rest, ok = endOfID(s); ok {
			return id, rest, true
		}
	}
}

// endOfID reads an identifier up to its ">".
func endOfID(s string) (id, rest string, ok bool) {
	plain, quoted := true, false // plain: nothing has to be taken out
	for i := 0; i < min(len(s), maxMsgID); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			plain, quoted = false, !quoted
		case c == ' ' || c == '\t':
			plain = false
		case quoted:
		case c == '<':
			return "", "", false
		case c == '>':
			if id = s[:i]; !plain {
				id = unquoteID(id)
			}
			return id, s[i+1:], id != ""
		}
	}
	return "", "", false
}

func unquoteID(s string) string {
	var b strings.Builder
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ' ' || c == '\t'):
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
