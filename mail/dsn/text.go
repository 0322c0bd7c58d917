package dsn

import (
	"bytes"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"postern.email/mail"
)

// clean makes one line of printable ASCII of at most n bytes from a stranger's text.
func clean(s string, n int) string {
	b := make([]byte, 0, min(len(s), n))
	space := false
	for _, r := range s {
		switch {
		case r == ' ' || r < ' ' || r == 0x7f:
			space = len(b) > 0
			continue
		case r > 0x7f:
			r = '?'
		}
		if space {
			b = append(b, ' ')
			space = false
		}
		if b = append(b, byte(r)); len(b) >= n {
			return string(b[:n])
		}
	}
	return string(b)
}

// typed gives an address with its type, in ASCII: a domain as A-labels, and a local part
// beyond ASCII in the form utf-8-addr-xtext (RFC 6533 §3).
func typed(a mail.Address) string {
	a.Domain = mail.CanonicalDomain(a.Domain)
	if s := a.String(); ascii(s) {
		return "rfc822; " + s
	}
	return "utf-8; " + escaped(a.String())
}

// original gives an ORCPT in ASCII, "" for none, a malformed or a long one.
func original(s string) string {
	kind, addr, ok := strings.Cut(s, ";")
	kind, addr = strings.TrimSpace(kind), strings.TrimSpace(addr)
	if !ok || kind == "" || addr == "" || len(s) > MaxOriginal || !utf8.ValidString(s) ||
		strings.ContainsFunc(kind, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>@,:\"/[]?=`, r) }) ||
		strings.ContainsFunc(addr, unicode.IsControl) {
		return ""
	}
	if !ascii(addr) {
		return "utf-8; " + escaped(addr)
	}
	return kind + "; " + addr
}

// escaped writes what is beyond ASCII, and what xtext has for itself, as \x{HEX}.
func escaped(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r > ' ' && r < 0x7f && r != '\\' && r != '+' && r != '=' {
			b.WriteByte(byte(r))
			continue
		}
		hex := strings.ToUpper(strconv.FormatInt(int64(r), 16))
		if len(hex) < 2 {
			hex = "0" + hex
		}
		b.WriteString(`\x{` + hex + `}`)
	}
	return b.String()
}

// shown gives an address for people, in its own script, without characters that cannot be
// seen or that turn the writing around.
func shown(a mail.Address) string { return shownLine(a.String()) }

func shownLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// host gives the name of a remote server, "" if it is none.
func host(s string) string {
	if !plainAddress(mail.Address{Local: "x", Domain: s}) || !ascii(s) {
		return ""
	}
	return s
}

// wrapped writes words in lines of at most 72 columns behind an indent.
func wrapped(b *bytes.Buffer, indent, text string) {
	const width = 72
	col := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case col == 0:
			b.WriteString(indent)
			col = len(indent)
		case col+1+len(word) > width:
			b.WriteString("\r\n" + indent)
			col = len(indent)
		default:
			b.WriteByte(' ')
			col++
		}
		b.WriteString(word)
		col += len(word)
	}
	b.WriteString("\r\n")
}
