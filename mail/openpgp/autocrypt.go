package openpgp

import (
	"encoding/base64"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// Autocrypt gives the key that a mail carries for its sender (Autocrypt level 1, §2.1), in its binary
// form. errs.NotFound where it carries none that counts: none of this address, or several.
func Autocrypt(h mail.Header, from mail.Address) ([]byte, error) {
	const op = "mail/openpgp.Autocrypt"
	var found []byte
	n := 0
	for _, v := range h.All("Autocrypt") {
		key, ok := autocrypt(v, from)
		if ok {
			found = key
			n++
		}
	}
	if n != 1 {
		return nil, errs.E(op, errs.NotFound, "the mail carries no Autocrypt key", nil)
	}
	return found, nil
}

// autocrypt reads one field: attributes with semicolons between them. One that is not known makes the
// field void, unless its name begins with an underscore.
func autocrypt(value string, from mail.Address) ([]byte, bool) {
	if len(value) > 2*MaxKey {
		return nil, false
	}
	var addr, data string
	for item := range strings.SplitSeq(value, ";") {
		name, v, ok := strings.Cut(strings.TrimSpace(item), "=")
		name = strings.ToLower(strings.TrimSpace(name))
		switch {
		case !ok && name == "":
		case !ok:
			return nil, false
		case name == "addr":
			addr = strings.TrimSpace(v)
		case name == "keydata":
			data = strings.Map(func(r rune) rune {
				if r == ' ' || r == '\t' {
					return -1
				}
				return r
			}, v)
		case name == "prefer-encrypt", strings.HasPrefix(name, "_"):
		default:
			return nil, false
		}
	}
	a, err := mail.ParseAddress(addr)
	if err != nil || !a.Equal(from) {
		return nil, false
	}
	key, err := base64.StdEncoding.DecodeString(data)
	return key, err == nil && len(key) > 0 && len(key) <= MaxKey
}

// autocryptColumns is how many characters of a key stand on a line.
const autocryptColumns = 72

// AutocryptField gives the value of a field with which a mail carries a key in its binary form for its sender; mutual: who
// answers is asked to encrypt (prefer-encrypt). There is white space in it at which it can be folded.
func AutocryptField(from mail.Address, key []byte, mutual bool) string {
	var b strings.Builder
	b.WriteString("addr=" + from.String() + ";")
	if mutual {
		b.WriteString(" prefer-encrypt=mutual;")
	}
	b.WriteString(" keydata=")
	for data := base64.StdEncoding.EncodeToString(key); data != ""; {
		n := min(len(data), autocryptColumns)
		b.WriteString(" " + data[:n])
		data = data[n:]
	}
	return b.String()
}
