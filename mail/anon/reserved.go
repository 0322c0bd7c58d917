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

// ReplyNameLen is how long the name in a reply address is.
const ReplyNameLen = 26

// ReplyAddress gives the reply address with a name (mixnet/content.ReplyName) in a domain.
func ReplyAddress(name, domain string) mail.Address {
	return mail.Address{Local: ReplyPrefix + name, Domain: domain}.Canonical()
}

// ReplyName gives the name in a reply address; false for an address that is none.
func ReplyName(a mail.Address) (name string, ok bool) {
	if !Reserved(a) {
		return "", false
	}
	name, ok = strings.CutPrefix(a.Canonical().Local, ReplyPrefix)
	return name, ok && len(name) == ReplyNameLen
}

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
