package mail

import (
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"postern.email/kit/errs"
)

// Limits of RFC 5321 §4.5.3.1, in octets of the unquoted, UTF-8 form.
const (
	MaxLocal   = 64
	MaxDomain  = 255
	MaxAddress = 254 // local + "@" + domain (RFC 3696 erratum 1690)

	maxLabel = 63 // RFC 1035 §2.3.4
	// Every octet of a quoted local part may carry a backslash, and a source route
	// is one command line at most (RFC 5321 §4.5.3.1.4 with room for UTF-8).
	maxSpecText = 2*MaxLocal + 2 + 1 + MaxDomain
	maxPathText = 4096
)

// Address is a mail address. Local holds the unquoted local part (UTF-8), Domain
// a host name (A-labels or U-labels, as given) or a literal with its brackets:
// "[192.0.2.1]", "[IPv6:2001:db8::1]". The zero Address is SMTP's null path.
type Address struct{ Local, Domain string }

// hostNames maps U-labels to A-labels (UTS 46). STD 3 rules are left out because
// names like "_test.example" are real; asciiDomain checks the result instead. The
// profile is never changed.
var hostNames = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false), idna.StrictDomainName(false))

// ParseAddress reads a strict addr-spec (RFC 5321 §4.1.2 with RFC 6531 UTF-8):
// dot-string or quoted local part, domain or address literal; no comments, no
// white space, no angle brackets. An empty quoted local part is refused, since
// nothing can be delivered to it. Errors are errs.Invalid or errs.TooLarge.
func ParseAddress(s string) (Address, error) {
	const op = "mail.ParseAddress"
	if len(s) > maxSpecText {
		return Address{}, errs.E(op, errs.TooLarge, "address too long", nil)
	}
	a, rest, why := cutSpec(s)
	if why == "" && rest != "" {
		why = "text behind the address"
	}
	if why != "" {
		return Address{}, errs.E(op, errs.Invalid, why, nil)
	}
	if len(a.Local) > MaxLocal || len(a.Domain) > MaxDomain || len(a.Local)+1+len(a.Domain) > MaxAddress {
		return Address{}, errs.E(op, errs.TooLarge, "address too long", nil)
	}
	return a, nil
}

// ParsePath reads the path of MAIL FROM or RCPT TO (RFC 5321 §4.1.2): "<addr>",
// "<>" (the zero Address, without error) and "<@a,@b:addr>", whose source route
// is checked and dropped (§4.1.1.3). "<postmaster>", in any case and without a
// domain (§4.5.1), gives Address{Local: "postmaster"}; only RCPT may take it.
func ParsePath(s string) (Address, error) {
	const op = "mail.ParsePath"
	path, rest, ok := CutPath(s)
	if !ok || rest != "" {
		return Address{}, errs.E(op, errs.Invalid, "path is not in angle brackets", nil)
	}
	in := path[1 : len(path)-1]
	switch {
	case in == "":
		return Address{}, nil
	case strings.EqualFold(in, "postmaster"):
		return Address{Local: "postmaster"}, nil
	}
	in, ok = cutRoute(in)
	if !ok {
		return Address{}, errs.E(op, errs.Invalid, "malformed source route", nil)
	}
	a, err := ParseAddress(in)
	if err != nil {
		return Address{}, errs.Wrap(op, err)
	}
	return a, nil
}

// cutRoute drops "@a,@b:" from the start of s.
func cutRoute(s string) (rest string, ok bool) {
	if s[0] != '@' {
		return s, true
	}
	for s != "" && s[0] == '@' {
		i := 1
		if end := strings.IndexByte(s, ']'); i < len(s) && s[i] == '[' && end > 0 {
			i = end // the colon of an IPv6 literal ends nothing
		}
		n := strings.IndexAny(s[i:], ",:")
		if n < 0 || !validDomain(s[1:i+n]) {
			return s, false
		}
		last := s[i+n] == ':'
		s = s[i+n+1:]
		if last {
			return s, true
		}
	}
	return s, false
}

// CutPath splits "<path> rest" behind the closing bracket, which it does not mistake
// for one inside a quoted local part. rest keeps its leading space. ok is false
// when s does not start with a whole path of sane length.
func CutPath(s string) (path, rest string, ok bool) {
	if s == "" || s[0] != '<' {
		return "", s, false
	}
	quoted := false
	for i := 1; i < len(s) && i < maxPathText; i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == '>' && !quoted:
			return s[:i+1], s[i+1:], true
		}
	}
	return "", s, false
}

// cutSpec reads an addr-spec at the start of s; why tells what is wrong.
func cutSpec(s string) (a Address, rest, why string) {
	local, rest, why := cutLocal(s)
	if why != "" {
		return a, s, why
	}
	if rest == "" || rest[0] != '@' {
		return a, s, "address without @"
	}
	domain := rest[1:]
	if !validDomain(domain) {
		return a, s, "malformed domain"
	}
	return Address{Local: local, Domain: domain}, "", ""
}

// cutLocal reads a Dot-string or a Quoted-string (RFC 5321 §4.1.2).
func cutLocal(s string) (local, rest, why string) {
	if s != "" && s[0] == '"' {
		return cutQuotedLocal(s)
	}
	i := 0
	for i < len(s) && (s[i] >= utf8.RuneSelf || isAtext(s[i]) || s[i] == '.') {
		i++
	}
	local = s[:i]
	if !isDotString(local) || !cleanUTF8(local) {
		return "", s, "malformed local part"
	}
	return local, s[i:], ""
}

func cutQuotedLocal(s string) (local, rest, why string) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '"':
			if b.Len() == 0 || !cleanUTF8(b.String()) {
				return "", s, "malformed local part"
			}
			return b.String(), s[i+1:], ""
		case c == '\\':
			i++
			if i == len(s) || s[i] < ' ' || s[i] > '~' {
				return "", s, "malformed local part"
			}
			b.WriteByte(s[i])
		case c < ' ' || c == 0x7f:
			return "", s, "malformed local part"
		default:
			b.WriteByte(c)
		}
	}
	return "", s, "malformed local part"
}

// isAtext is RFC 5322 §3.2.3 without the UTF-8 part.
func isAtext(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

// isDotString reports atoms joined by single dots.
func isDotString(s string) bool {
	atom := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '.':
			if !atom {
				return false
			}
			atom = false
		case s[i] >= utf8.RuneSelf || isAtext(s[i]):
			atom = true
		default:
			return false
		}
	}
	return atom
}

// cleanUTF8 refuses broken UTF-8 and control characters (C1 included).
func cleanUTF8(s string) bool {
	for i, r := range s {
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return false
			}
		}
		if unicode.IsControl(r) {
			return false
		}
	}
	return true
}

// validDomain accepts a host name or an address literal.
func validDomain(s string) bool {
	if s == "" || len(s) > MaxDomain {
		return false
	}
	if s[0] == '[' {
		_, _, ok := parseLiteral(s)
		return ok
	}
	if isASCII(s) {
		return asciiDomain(s)
	}
	if !cleanUTF8(s) {
		return false
	}
	a, err := hostNames.ToASCII(s)
	return err == nil && asciiDomain(a)
}

// asciiDomain checks labels of letters, digits, "-" (not at the ends) and "_".
func asciiDomain(s string) bool {
	if s == "" || len(s) > MaxDomain {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := 0; i < len(label); i++ {
			c := label[i]
			switch {
			case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
			default:
				return false
			}
		}
	}
	return true
}

// parseLiteral reads "[1.2.3.4]" or "[IPv6:...]" (RFC 5321 §4.1.3). Other tags are
// registered nowhere.
func parseLiteral(s string) (ip netip.Addr, v6, ok bool) {
	if len(s) < 2 || s[0] != '[' || s[len(s)-1] != ']' {
		return ip, false, false
	}
	in := s[1 : len(s)-1]
	if len(in) > 5 && strings.EqualFold(in[:5], "ipv6:") {
		ip, err := netip.ParseAddr(in[5:])
		return ip, true, err == nil && ip.Is6() && ip.Zone() == ""
	}
	ip, err := netip.ParseAddr(in)
	return ip, false, err == nil && ip.Is4()
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// IsZero reports whether a is the null path.
func (a Address) IsZero() bool { return a == Address{} }

// String gives the addr-spec, with a quoted local part where it needs one. The
// zero Address gives "", an Address without domain its local part.
func (a Address) String() string {
	if a.IsZero() {
		return ""
	}
	local := a.Local
	if !isDotString(local) {
		local = quote(local)
	}
	if a.Domain == "" {
		return local
	}
	return local + "@" + a.Domain
}

// quote writes a quoted-string (RFC 5321 §4.1.2).
func quote(s string) string {
	var b strings.Builder
	b.Grow(len(s) + 2)
	b.WriteByte('"')
	for i := 0; i < len(s); i++ {
		if s[i] == '"' || s[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('"')
	return b.String()
}

// Canonical gives the form that is compared and looked up: local part and domain
// folded to ASCII lower case, the domain as IDNA A-labels (UTS 46, non-transitional),
// an IP literal in its shortest form. A domain that IDNA refuses is only folded.
// Letters beyond ASCII in a local part are left as they are: to fold them is up to
// the host that owns the name (RFC 6531 §3.2).
func (a Address) Canonical() Address {
	return Address{Local: lower(a.Local), Domain: CanonicalDomain(a.Domain)}
}

// CanonicalDomain is the domain half of Canonical.
func CanonicalDomain(d string) string {
	if ip, v6, ok := parseLiteral(d); ok {
		if v6 {
			return "[ipv6:" + ip.String() + "]"
		}
		return "[" + ip.String() + "]"
	}
	if !isASCII(d) {
		if ascii, err := hostNames.ToASCII(d); err == nil && asciiDomain(ascii) {
			return lower(ascii)
		}
	}
	return lower(d)
}

// lower folds ASCII letters only; strings.ToLower would also fold the Kelvin sign.
func lower(s string) string {
	i := 0
	for i < len(s) && (s[i] < 'A' || s[i] > 'Z') {
		i++
	}
	if i == len(s) {
		return s
	}
	b := []byte(s)
	for ; i < len(b); i++ {
		if 'A' <= b[i] && b[i] <= 'Z' {
			b[i] += 'a' - 'A'
		}
	}
	return string(b)
}

// Mailbox gives the canonical form without a subaddress: "name+tag" is the mailbox "name"
// (RFC 5233 §1).
func (a Address) Mailbox() Address {
	a = a.Canonical()
	if i := strings.IndexByte(a.Local, '+'); i > 0 {
		a.Local = a.Local[:i]
	}
	return a
}

// Equal compares the canonical forms.
func (a Address) Equal(b Address) bool { return a == b || a.Canonical() == b.Canonical() }

// PlainLocal reports whether a local part has only the characters a-z, 0-9, dot, underscore
// and hyphen, and needs no quotes for its dots (RFC 5321 §4.1.2, Dot-string): what every mail
// program and every form on the web takes.
func PlainLocal(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return isDotString(s)
}
