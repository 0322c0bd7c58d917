package dkim

import (
	"bytes"
	"encoding/base64"
	"strings"
)

// maxTags bounds a tag list; the RFCs define about a dozen.
const maxTags = 64

const white = " \t\r\n"

// parseTags reads a tag=value list (RFC 6376 §3.2). Values keep their inner white
// space. A name twice, or something that is no tag, spoils the whole list.
func parseTags(s string) (map[string]string, bool) {
	tags := make(map[string]string, 12)
	for len(s) > 0 {
		var spec string
		spec, s, _ = strings.Cut(s, ";")
		name, value, ok := strings.Cut(spec, "=")
		if !ok {
			// Only behind the last semicolon may there be nothing.
			return tags, s == "" && strings.Trim(spec, white) == "" && len(tags) > 0
		}
		name = strings.Trim(name, white)
		if _, twice := tags[name]; twice || !tagName(name) || len(tags) == maxTags {
			return nil, false
		}
		tags[name] = strings.Trim(value, white)
	}
	return tags, len(tags) > 0
}

func tagName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i] | 0x20
		if !('a' <= c && c <= 'z') && (i == 0 || !('0' <= s[i] && s[i] <= '9') && s[i] != '_') {
			return false
		}
	}
	return s != ""
}

// decode reads base64 with white space anywhere; the padding may be missing.
func decode(s string) ([]byte, bool) {
	s = strings.TrimRight(squeeze(s), "=")
	b, err := base64.RawStdEncoding.DecodeString(s)
	return b, err == nil && len(b) > 0
}

// squeeze drops all white space.
func squeeze(s string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(white, r) {
			return -1
		}
		return r
	}, s)
}

// list reads a colon-separated list; its elements are lower case and without white space
// around them.
func list(s string) []string {
	all := strings.Split(s, ":")
	for i, e := range all {
		all[i] = strings.ToLower(strings.Trim(e, white))
	}
	return all
}

// withoutB gives the field without the value of its b= tag and the white space around
// that value (RFC 6376 §3.7), and without the line end behind it.
func withoutB(raw []byte) []byte {
	raw = bytes.TrimSuffix(raw, []byte("\r\n"))
	start := bytes.IndexByte(raw, ':') + 1
	for start <= len(raw) {
		end := len(raw)
		if i := bytes.IndexByte(raw[start:], ';'); i >= 0 {
			end = start + i
		}
		if eq := bytes.IndexByte(raw[start:end], '='); eq >= 0 && string(bytes.Trim(raw[start:start+eq], white)) == "b" {
			return append(append(make([]byte, 0, len(raw)), raw[:start+eq+1]...), raw[end:]...)
		}
		start = end + 1
	}
	return raw
}
