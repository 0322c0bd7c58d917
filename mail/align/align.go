// Package align tells whether two domains belong together as DMARC means it (RFC 7489 §3.1,
// relaxed): they have the same organizational domain. That is the name one label below a public
// suffix (§3.2); the suffixes are those of publicsuffix.org, private ones included, as of the
// version of golang.org/x/net in go.mod.
//
// No DMARC record is looked up here: what a domain says itself, strict alignment above all, is in
// mail/dmarc.
package align

import (
	"strings"

	"golang.org/x/net/publicsuffix"

	"postern.email/mail"
)

// Organization gives the organizational domain of a domain, in canonical form. A public suffix
// itself, a name of one label and an address literal have none above them: the answer is the
// domain itself, canonical.
func Organization(domain string) string {
	d := mail.CanonicalDomain(domain)
	if strings.HasPrefix(d, "[") {
		return d
	}
	org, err := publicsuffix.EffectiveTLDPlusOne(d)
	if err != nil {
		return d
	}
	return org
}

// Relaxed reports whether two domains have the same organizational domain. An empty domain and
// an address literal are aligned with nothing.
func Relaxed(a, b string) bool {
	if a == "" || b == "" || a[0] == '[' || b[0] == '[' {
		return false
	}
	return Organization(a) == Organization(b)
}
