package smtp

import (
	"bytes"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"postern.email/mail"
)

// Limits of RFC 3461 §4.2 and §4.4, of the values as sent.
const (
	maxEnvID = 100
	maxORCPT = 500
)

// maxParams bounds the parameters of one command: more than all that exist.
const maxParams = 16

// splitVerb gives the command in capitals and what follows the first space, with
// trailing white space cut.
func splitVerb(line []byte) (verb, rest string) {
	s := strings.TrimRight(string(line), " \t")
	verb, rest, _ = strings.Cut(s, " ")
	return strings.ToUpper(verb), rest
}

// cutFold cuts an ASCII prefix without regard to case.
func cutFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// cutPath reads "FROM:<path>" or "TO:<path>" and gives the parameters behind it. A
// space behind the colon is no RFC 5321, but common and harmless.
func cutPath(arg, keyword string) (a mail.Address, params string, r *Reply) {
	rest, ok := cutFold(arg, keyword)
	if !ok {
		return a, "", replySyntax
	}
	badPath := reply(501, "5.1.3", "bad recipient address syntax")
	if keyword == "FROM:" {
		badPath = reply(501, "5.1.7", "bad sender address syntax")
	}
	path, params, ok := mail.CutPath(strings.TrimLeft(rest, " "))
	if !ok || params != "" && params[0] != ' ' {
		return a, "", badPath
	}
	a, err := mail.ParsePath(path)
	if err != nil {
		return a, "", badPath
	}
	return a, params, nil
}

// eachParam calls fn for each "KEY[=value]" (RFC 5321 §4.1.2, esmtp-param) with the
// key in capitals. A key that comes twice is refused: two readers could differ.
func eachParam(params string, fn func(key, value string, hasValue bool) *Reply) *Reply {
	var seen [maxParams]string
	n := 0
	for p := range strings.FieldsSeq(params) {
		key, value, hasValue := strings.Cut(p, "=")
		key = strings.ToUpper(key)
		if !isKeyword(key) || hasValue && !isValue(value) || n == maxParams {
			return replySyntax
		}
		for _, s := range seen[:n] {
			if s == key {
				return replySyntax
			}
		}
		seen[n] = key
		n++
		if r := fn(key, value, hasValue); r != nil {
			return r
		}
	}
	return nil
}

func isKeyword(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !('A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' && i > 0) {
			return false
		}
	}
	return s != ""
}

// isValue: no control characters, spaces or "=" (RFC 5321 §4.1.2 esmtp-value; UTF-8 by
// RFC 6531 §3.3).
func isValue(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] == '=' || s[i] == 0x7f {
			return false
		}
	}
	return s != ""
}

var replyUnknownParam = reply(555, "5.5.4", "unknown parameter")

// parseMailParams reads the parameters of MAIL. Whether those that need an extension
// which is not always offered may be used is the caller's to judge.
func parseMailParams(params string) (o MailOptions, r *Reply) {
	r = eachParam(params, func(key, value string, hasValue bool) *Reply {
		switch key {
		case "SIZE":
			return parseSize(value, &o.Size)
		case "BODY":
			switch strings.ToUpper(value) {
			case "7BIT":
				o.Body = Body7Bit
			case "8BITMIME":
				o.Body = Body8Bit
			default: // BINARYMIME is not offered
				return reply(555, "5.5.4", "unknown BODY value")
			}
		case "SMTPUTF8":
			if hasValue {
				return replySyntax
			}
			o.UTF8 = true
		case "REQUIRETLS":
			if hasValue {
				return replySyntax
			}
			o.RequireTLS = true
		case "RET":
			switch strings.ToUpper(value) {
			case "FULL":
				o.Return = ReturnFull
			case "HDRS":
				o.Return = ReturnHeaders
			default:
				return replySyntax
			}
		case "ENVID":
			text, ok := xtext(value)
			if !ok || len(value) > maxEnvID {
				return replySyntax
			}
			o.EnvID = text
		case "AUTH":
			// RFC 4954 §5: who wrote it first. Anything but our own login is not
			// believed, so the value is checked and dropped.
			if _, ok := xtext(value); !ok {
				return replySyntax
			}
		default:
			return replyUnknownParam
		}
		return nil
	})
	return o, r
}

// parseSize reads SIZE (RFC 1870 §5: at most 20 digits). What no int64 holds is surely too
// large.
func parseSize(value string, size *int64) *Reply {
	if len(value) == 0 || len(value) > 20 {
		return replySyntax
	}
	for i := 0; i < len(value); i++ {
		if value[i] < '0' || value[i] > '9' {
			return replySyntax
		}
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return replyTooLarge
	}
	*size = n
	return nil
}

// parseRcptParams reads the parameters of RCPT.
func parseRcptParams(params string, utf8 bool) (o RcptOptions, r *Reply) {
	r = eachParam(params, func(key, value string, hasValue bool) *Reply {
		switch key {
		case "NOTIFY":
			return parseNotify(value, &o.Notify)
		case "ORCPT":
			return parseORCPT(value, utf8, &o)
		}
		return replyUnknownParam
	})
	return o, r
}

func parseNotify(value string, n *Notify) *Reply {
	for word := range strings.SplitSeq(value, ",") {
		var bit Notify
		switch strings.ToUpper(word) {
		case "NEVER":
			bit = NotifyNever
		case "SUCCESS":
			bit = NotifySuccess
		case "FAILURE":
			bit = NotifyFailure
		case "DELAY":
			bit = NotifyDelay
		}
		if bit == 0 || *n&bit != 0 {
			return replySyntax
		}
		*n |= bit
	}
	if *n&NotifyNever != 0 && *n != NotifyNever {
		return replySyntax // RFC 3461 §4.1: NEVER appears alone
	}
	return nil
}

func parseORCPT(value string, utf8 bool, o *RcptOptions) *Reply {
	typ, addr, ok := strings.Cut(value, ";")
	if !ok || typ == "" || addr == "" || len(value) > maxORCPT || !isKeyword(strings.ToUpper(typ)) {
		return replySyntax
	}
	o.OriginalType = strings.ToLower(typ)
	if o.OriginalType == "utf-8" {
		// RFC 6533 §3: as UTF-8 (with SMTPUTF8) or with \x{...}; kept as written.
		if !utf8 && !isASCII(addr) {
			return replySyntax
		}
		o.OriginalAddress = addr
		return nil
	}
	if o.OriginalAddress, ok = xtext(addr); !ok || o.OriginalAddress == "" {
		return replySyntax
	}
	return nil
}

// xtext decodes RFC 3461 §4: printable ASCII but "+" and "=", and "+" with two
// capital hex digits. What decodes to a control character is refused: it could
// only serve to forge lines. UTF-8 is taken, because Postfix writes the
// addresses of RFC 6531 so.
func xtext(s string) (string, bool) {
	if s == "" {
		return "", false
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '+' {
			if i+2 >= len(s) {
				return "", false
			}
			hi, lo := hexDigit(s[i+1]), hexDigit(s[i+2])
			if hi < 0 || lo < 0 {
				return "", false
			}
			c = byte(hi<<4 | lo)
			i += 2
		} else if c <= ' ' || c >= 0x7f || c == '=' {
			return "", false
		}
		b.WriteByte(c)
	}
	return b.String(), plainUTF8(b.String())
}

// plainUTF8 reports UTF-8 without control characters.
func plainUTF8(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// parseBDAT reads "size [LAST]" (RFC 3030 §2). ok is false when the size cannot be
// known, and so not skipped.
func parseBDAT(arg string) (size int64, last, ok bool) {
	digits, rest, more := strings.Cut(arg, " ")
	if len(digits) == 0 || len(digits) > 18 || strings.Trim(digits, "0123456789") != "" {
		return 0, false, false
	}
	size, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || more && !strings.EqualFold(rest, "LAST") {
		return 0, false, false
	}
	return size, more, true
}

// printable reports a line argument of ASCII or UTF-8 without control characters.
func printable(b []byte) bool {
	return bytes.IndexFunc(b, func(r rune) bool { return r < ' ' || r == 0x7f }) < 0
}
