package sanitize

import (
	"bytes"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// Fields in front of a mail that came for an alias (docs/aliases-mail.md). AliasField is the border:
// what stands behind it is the mail as it came.
const (
	AliasField = "X-Postern-Alias"
	KeyField   = "X-Postern-DKIM-Key"
)

// What AliasField says of the sender.
const (
	SenderExpected   = "expected"   // pinned, allowed, or written to
	SenderFirst      = "first"      // the first to write; from now on the pinned one where the alias pins
	SenderUnexpected = "unexpected" // anybody else
)

// Bounds of KeyField.
const (
	MaxKeyRecord = 4 << 10 // bytes of a key record; a longer one is left out
	keyLine      = 76      // bytes of a line, where it is folded
)

// AliasFields is what stands in front of a mail for an alias.
type AliasFields struct {
	ReturnPath mail.Address // zero: "<>"
	Alias      mail.Address
	Sender     string // SenderExpected, SenderFirst or SenderUnexpected
	Vouched    string // who vouches for the sender: "dkim:shop.example", "spf:shop.example", "login", "end-to-end"
	// KeyName and KeyRecord are the name and the text of the DKIM key that the mail's signature fits, as it was
	// looked up; empty: there is none.
	KeyName, KeyRecord string
}

// Alias gives the fields to stand in front of a mail for an alias. errs.Invalid for an address or
// a word that does not fit on a line.
func Alias(f AliasFields) ([]byte, error) {
	const op = "mail/sanitize.Alias"
	for _, s := range []string{f.ReturnPath.String(), f.Alias.String(), f.Sender, f.Vouched} {
		if strings.ContainsAny(s, "\r\n\x00") || s == f.Sender && s == "" {
			return nil, errs.E(op, errs.Invalid, "malformed field", nil)
		}
	}
	b := make([]byte, 0, 512+2*len(f.KeyRecord))
	b = append(append(append(b, "Return-Path: <"...), f.ReturnPath.String()...), ">\r\n"...)
	if f.KeyName != "" && f.KeyRecord != "" && len(f.KeyRecord) <= MaxKeyRecord && printable(f.KeyName) && printable(f.KeyRecord) {
		b = append(append(append(b, KeyField...), ": "...), f.KeyName...)
		b = append(b, ';')
		for rest := f.KeyRecord; rest != ""; { // a text is cut anywhere: what reads it takes out line ends with their space
			n := min(len(rest), keyLine)
			b = append(append(b, "\r\n "...), rest[:n]...)
			rest = rest[n:]
		}
		b = append(b, "\r\n"...)
	}
	return appendLine(b, AliasField, f.Mark()), nil
}

// Mark is the value of AliasField.
func (f AliasFields) Mark() string {
	return f.Alias.String() + senderWord + f.Sender + vouchedWord + f.Vouched
}

const senderWord, vouchedWord = "; sender=", "; vouched="

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// ReadAlias takes apart a stored mail: the fields that Alias wrote, and the mail as it came, which
// shares the bytes of stored. In front of them those may stand that a mail proxy writes (ArrivalForAlias). false:
// nothing of Alias stands in front of it.
func ReadAlias(stored []byte) (f AliasFields, raw []byte, ok bool) {
	rest := stored
	for n := 0; ; n++ {
		name, field, behind, whole := cutField(rest)
		if !whole {
			return AliasFields{}, nil, false
		}
		rest = behind
		value := field[len(name)+1:]
		switch {
		case n == 0 && (name == SenderField || name == OldSenderField):
			n--
		case n == 0 && name == "Return-Path":
			a, err := mail.ParsePath(strings.TrimSpace(string(value)))
			if err != nil {
				return AliasFields{}, nil, false
			}
			f.ReturnPath = a
		case n == 1 && name == KeyField:
			key, record, cut := strings.Cut(strings.ReplaceAll(string(value[:len(value)-2]), "\r\n ", "\x00"), ";\x00")
			if !cut {
				return AliasFields{}, nil, false
			}
			f.KeyName, f.KeyRecord = strings.TrimSpace(key), strings.ReplaceAll(record, "\x00", "")
		case n > 0 && n < 3 && name == AliasField:
			return f.read(strings.TrimSpace(string(value)), rest)
		default:
			return AliasFields{}, nil, false
		}
	}
}

// read reads the value of AliasField. An address may hold a semicolon only within quotes.
func (f AliasFields) read(value string, rest []byte) (AliasFields, []byte, bool) {
	v := strings.LastIndex(value, vouchedWord)
	if v < 0 {
		return AliasFields{}, nil, false
	}
	s := strings.LastIndex(value[:v], senderWord)
	if s < 0 {
		return AliasFields{}, nil, false
	}
	a, err := mail.ParseAddress(value[:s])
	if err != nil {
		return AliasFields{}, nil, false
	}
	f.Alias, f.Sender, f.Vouched = a, value[s+len(senderWord):v], value[v+len(vouchedWord):]
	return f, rest, true
}

// cutField cuts the first field, with its folded lines, from b; all lines end in CRLF.
func cutField(b []byte) (name string, field, rest []byte, ok bool) {
	colon := bytes.IndexByte(b, ':')
	if colon <= 0 || colon > 64 {
		return "", nil, nil, false
	}
	end := 0
	for {
		n := bytes.Index(b[end:], []byte("\r\n"))
		if n < 0 {
			return "", nil, nil, false
		}
		end += n + 2
		if end == len(b) || b[end] != ' ' && b[end] != '\t' {
			return string(b[:colon]), b[:end], b[end:], colon < end
		}
	}
}
