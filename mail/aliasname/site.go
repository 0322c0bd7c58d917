package aliasname

import (
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/align"
)

// maxSiteName bounds what of a site's name stands in a handle, in characters.
const maxSiteName = 24

// MaxSite bounds what SiteHost reads, in bytes.
const MaxSite = 2048

// Site draws a handle that begins with the name of a site: the label under the public suffix,
// folded to [a-z0-9], then six digits and a letter, "shop-482109k": 2^24 possibilities. site is
// anything that SiteHost reads; of an address, and of a name without a letter or digit of
// these, "site" is left. errs.Invalid when SiteHost refuses it.
func Site(r io.Reader, site string) (string, error) {
	host, err := SiteHost(site)
	if err != nil {
		return "", err
	}
	n, err := draw(r, siteDigits)
	if err != nil {
		return "", err
	}
	c, err := draw(r, len(lower))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s-%06d%c", siteName(host), n, lower[c]), nil
}

// SiteHost gives the host name of a site, canonical and without "www.": of a host name, with or
// without a port, or of a URL, of up to MaxSite bytes. errs.Invalid for anything else.
func SiteHost(site string) (string, error) {
	if len(site) > MaxSite {
		return "", errs.E("aliasname.SiteHost", errs.Invalid, "the site is too long", nil)
	}
	s := strings.TrimSpace(site)
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return "", errs.E("aliasname.SiteHost", errs.Invalid, "the site is no host name", nil)
	}
	host := mail.CanonicalDomain(strings.TrimSuffix(u.Hostname(), "."))
	if short := strings.TrimPrefix(host, "www."); strings.Contains(short, ".") {
		host = short
	}
	if _, err := mail.ParseAddress("x@" + host); err != nil || host[0] == '[' {
		return "", errs.E("aliasname.SiteHost", errs.Invalid, "the site is no host name", nil)
	}
	return host, nil
}

// siteName folds the registrable label of a host name to [a-z0-9].
func siteName(host string) string {
	if _, err := netip.ParseAddr(host); err == nil {
		return "site"
	}
	label, _, _ := strings.Cut(align.Organization(host), ".")
	if u, err := idna.ToUnicode(label); err == nil {
		label = u
	}
	name := strings.Map(func(r rune) rune {
		switch r = unicode.ToLower(r); {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return r
		}
		return -1
	}, norm.NFKD.String(label)) // an accent is a character of its own then, and falls away
	switch {
	case name == "":
		return "site"
	case len(name) > maxSiteName:
		return name[:maxSiteName]
	}
	return name
}
