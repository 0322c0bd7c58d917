package anon

import (
	"strings"

	"postern.email/mail"
)

// Local parts that nobody logs in to: return addresses of anonymous mail.
const (
	AnonymousLocal = "anonymous" // answers go nowhere
	ReplyPrefix    = "reply."    // and 26 to 52 characters of base32: answers go to reply blocks
	// AnonymousDomain is the domain of a return address at no relay (RFC 6761 §6.4).
	AnonymousDomain = "anonymous.invalid"
)

// NoReturn is the return address of who wants no answer.
func NoReturn() mail.Address { return mail.Address{Local: AnonymousLocal, Domain: AnonymousDomain} }

// Reserved reports whether an address is one of those that no account may have, since anonymous
// mail names them as its sender (docs/vouch.md §5).
func Reserved(a mail.Address) bool {
	a = a.Canonical()
	if a.Local == AnonymousLocal {
		return true
	}
	s, ok := strings.CutPrefix(a.Local, ReplyPrefix)
	return ok && len(s) >= 26 && len(s) <= 52 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '2' || r > '7')
	})
}
