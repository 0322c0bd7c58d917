package mail

import "postern.email/kit/errs"

// Limits of RFC 5321 §4.5.3.1, in octets of the unquoted, UTF-8 form.
const (
	MaxLocal   = 64
	MaxDomain  = 255
	MaxAddress = 254 // local + "@" + domain (RFC 3696 erratum 1690)
)

// Address is a mail address. Local holds the unquoted local part (UTF-8), Domain
// a host name (A-labels or U-labels, as given) or a literal with its brackets:
// "[192.0.2.1]", "[IPv6:2001:db8::1]". The zero Address is SMTP's null path.
type Address struct{ Local, Domain string }

// ParseAddress reads a strict addr-spec (RFC 5321 §4.1.2 with RFC 6531 UTF-8):
// dot-string or quoted local part, domain or address literal; no comments, no
// white space, no angle brackets. Errors are errs.Invalid or errs.TooLarge.
func ParseAddress(s string) (Address, error) {
	return Address{}, errs.E("mail.ParseAddress", errs.Unsupported, "", nil)
}

// ParsePath reads the path of MAIL FROM or RCPT TO (RFC 5321 §4.1.2): "<addr>",
// "<>" (the zero Address, without error) and "<@a,@b:addr>", whose source route
// is checked and dropped (§4.1.1.3).
func ParsePath(s string) (Address, error) {
	return Address{}, errs.E("mail.ParsePath", errs.Unsupported, "", nil)
}

// IsZero reports whether a is the null path.
func (a Address) IsZero() bool { return a == Address{} }

// String gives the addr-spec, with a quoted local part where it needs one. The
// zero Address gives "".
func (a Address) String() string { return "" }

// Canonical gives the form that is compared and looked up: local part and domain
// folded to ASCII lower case, the domain as IDNA A-labels (UTS 46, non-transitional).
// A domain that IDNA refuses is only folded.
func (a Address) Canonical() Address { return a }

// Equal compares the canonical forms.
func (a Address) Equal(b Address) bool { return a.Canonical() == b.Canonical() }
