package relay

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"postern.email/kit/dial"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/wire/certs"
	"postern.email/wire/web"
)

// The values of tls.mode.
const (
	tlsAuto       = "auto"
	tlsACME       = "acme"
	tlsFiles      = "files"
	tlsSelfSigned = "self-signed"
)

// unvouched are the ends of names that belong to nobody in the public tree, so that
// no authority can vouch for one: RFC 6761 (test, example, invalid, localhost), RFC
// 6762 (local), RFC 7686 (onion), RFC 8375 (home.arpa), RFC 9476 (alt), ICANN's
// reservation (internal), and the names of I2P.
var unvouched = []string{".test", ".example", ".invalid", ".localhost", ".local", ".onion", ".home.arpa", ".alt", ".internal", ".i2p"}

// tlsMode is tls.mode with auto resolved.
func (c *Config) tlsMode() string {
	if c.TLS.Mode != tlsAuto {
		return c.TLS.Mode
	}
	host := c.host()
	_, err := netip.ParseAddr(host)
	switch {
	case c.TLS.Cert != "" || c.TLS.Key != "":
		return tlsFiles
	case err == nil, strings.HasPrefix(host, "_"), !strings.Contains(host, "."),
		slices.ContainsFunc(unvouched, func(end string) bool { return strings.HasSuffix(host, end) }):
		return tlsSelfSigned
	}
	return tlsACME
}

// checkTLS finds options of certificates that make no sense together.
func (c *Config) checkTLS() string {
	given := c.TLS.Cert != "" || c.TLS.Key != ""
	switch mode := c.tlsMode(); {
	case given && (c.TLS.Cert == "" || c.TLS.Key == ""):
		return "tls.cert and tls.key belong together: give both or neither"
	case given && mode != tlsFiles:
		return "tls.cert is given and tls.mode is " + mode + ": use one or the other"
	case !given && mode == tlsFiles:
		return "tls.mode is files: give tls.cert and tls.key"
	case mode == tlsACME && c.Listen.HTTP == "off" && c.Listen.HTTPS == "off" && c.Listen.HTTPSAlt == "off":
		return "a certificate authority looks for this server by HTTP or HTTPS: turn on listen.http or listen.https, or choose another tls.mode"
	}
	return ""
}

// host is the name or address that clients connect to: the domain, without the
// brackets of an address literal.
func (c *Config) host() string { return web.HostOf(c.Domain) }

// withLiteral gives the configuration with an address as domain written as it stands
// behind the @ (RFC 5321 §4.1.3).
func (c Config) withLiteral() Config {
	if ip, err := netip.ParseAddr(c.Domain); err == nil {
		tag := ""
		if ip.Is6() {
			tag = "IPv6:"
		}
		c.Domain = mail.CanonicalDomain("[" + tag + ip.String() + "]")
	}
	return c
}

// openCerts opens the certificates. Nobody is asked for any before the listeners are there.
func (s *Server) openCerts() (err error) {
	c, d := &s.c, &s.d
	o := certs.Options{FS: d.FS, Dir: s.path(tlsDir), Domain: c.host(), CertFile: c.TLS.Cert, KeyFile: c.TLS.Key,
		Poll: c.TLS.Poll.Std(), Now: d.Now, Logger: d.Logger}
	if c.tlsMode() == tlsACME {
		names, err := dial.New(dial.Options{CAFiles: c.TLS.TrustedCAs, FS: d.FS})
		if err != nil {
			return errs.Wrap("role/relay.openCerts", err)
		}
		o.ACME = &certs.ACME{Directory: c.TLS.ACMEDir, Email: c.TLS.ACMEEmail, Names: c.TLS.ACMENames, Alias: c.webNames(),
			Roots: names.Roots(), Resolver: c.Network.Resolver, Lookup: s.addresses, Doors: s.doors}
	}
	s.certs, err = certs.New(o)
	return err
}

// doors tells where an authority's challenges arrive.
func (s *Server) doors() (http, https netip.AddrPort) {
	at := func(name string) netip.AddrPort {
		for _, p := range s.ports {
			if p.name == name && p.l != nil {
				if a, ok := p.l.Addr().(*net.TCPAddr); ok {
					return netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
				}
			}
		}
		return netip.AddrPort{}
	}
	if https = at("https"); !https.IsValid() {
		https = at("https_alt")
	}
	return at("http"), https
}
