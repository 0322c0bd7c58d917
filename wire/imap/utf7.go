package imap

import (
	"encoding/base64"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// utf7 is the base64 of RFC 3501 §5.1.3: "," instead of "/", no padding.
var utf7 = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").
	WithPadding(base64.NoPadding).Strict()

// encodeUTF7 gives a UTF-8 mailbox name in modified UTF-7.
func encodeUTF7(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		if c := s[i]; c >= 0x20 && c < 0x7f {
			b.WriteByte(c)
			if c == '&' {
				b.WriteByte('-')
			}
			i++
			continue
		}
		start := i
		for i < len(s) && (s[i] < 0x20 || s[i] >= 0x7f) {
			_, n := utf8.DecodeRuneInString(s[i:])
			i += n
		}
		units := utf16.Encode([]rune(s[start:i]))
		raw := make([]byte, 0, 2*len(units))
		for _, u := range units {
			raw = append(raw, byte(u>>8), byte(u))
		}
		b.WriteString("&" + utf7.EncodeToString(raw) + "-")
	}
	return b.String()
}

// decodeUTF7 gives a mailbox name in modified UTF-7 as UTF-8. Only the one right
// encoding of a name is accepted, so that two spellings never name one mailbox.
func decodeUTF7(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); {
		c := s[i]
		if c < 0x20 || c >= 0x7f {
			return "", syntaxf("mailbox name is not modified UTF-7")
		}
		i++
		if c != '&' {
			b.WriteByte(c)
			continue
		}
		end := strings.IndexByte(s[i:], '-')
		if end < 0 {
			return "", syntaxf("mailbox name is not modified UTF-7")
		}
		word := s[i : i+end]
		i += end + 1
		if word == "" {
			b.WriteByte('&')
			continue
		}
		raw, err := utf7.DecodeString(word)
		if err != nil || len(raw)%2 != 0 {
			return "", syntaxf("mailbox name is not modified UTF-7")
		}
		units := make([]uint16, len(raw)/2)
		for k := range units {
			units[k] = uint16(raw[2*k])<<8 | uint16(raw[2*k+1])
		}
		b.WriteString(string(utf16.Decode(units)))
	}
	out := b.String()
	if encodeUTF7(out) != s {
		return "", syntaxf("mailbox name is not modified UTF-7")
	}
	return out, nil
}
