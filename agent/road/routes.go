package road

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// Trust says what a host must prove before it is given a mail.
type Trust uint8

// The kinds of trust, strictest first. Only an operator's route may name a lower one.
const (
	Verified  Trust = iota // TLS, with a certificate that is vouched for (WebPKI or DANE)
	Encrypted              // TLS with any certificate
	Plain                  // TLS only where the host offers it
)

// String gives the word of the configuration.
func (t Trust) String() string { return [...]string{"verify", "any", "none"}[t] }

// Route is what the operator says about the way to a domain, in place of the DNS.
type Route struct {
	Domain string // canonical; "*" for every domain without a route of its own
	Host   string // where to connect: a name or an address; empty: what the DNS says
	Name   string // the name that the certificate must show; empty: Host
	SMTP   uint16 // port; 0: the usual one
	HTTPS  uint16 // port; 0: the usual one
	NoSMTP bool   // never by SMTP
	NoWeb  bool   // never by HTTPS
	Trust  Trust
}

// Routes are the operator's routes by domain.
type Routes map[string]Route

// MaxRoutes bounds the routes of a configuration.
const MaxRoutes = 1000

// ParseRoute reads one route: the domain, then words of the form key=value, in any order:
//
//	example.org host=10.0.0.7 smtp=2525 https=off name=mail.example.org tls=verify
//
// host is a name or an IP address; smtp and https are ports or "off"; tls is "verify",
// "any" (TLS, but the certificate is not checked) or "none" (without TLS where the host has
// none). errs.Invalid says which word is wrong.
func ParseRoute(s string) (Route, error) {
	const op = "agent/road.ParseRoute"
	bad := func(format string, args ...any) (Route, error) {
		return Route{}, errs.E(op, errs.Invalid, fmt.Sprintf(format, args...), nil)
	}
	words := strings.Fields(s)
	if len(words) < 2 {
		return bad("a route is a domain and at least one of host=, smtp=, https=, name=, tls=")
	}
	r := Route{Domain: words[0]}
	if r.Domain != "*" {
		r.Domain = mail.CanonicalDomain(r.Domain)
		if _, err := mail.ParseAddress("x@" + r.Domain); err != nil {
			return bad("%q is not a domain", words[0])
		}
	}
	seen := map[string]bool{}
	for _, w := range words[1:] {
		key, value, ok := strings.Cut(w, "=")
		if !ok || value == "" || seen[key] {
			return bad("%q: write each of host=, smtp=, https=, name=, tls= at most once, with a value", w)
		}
		seen[key] = true
		var err error
		switch key {
		case "host":
			r.Host, err = hostName(value)
		case "name":
			r.Name, err = hostName(value)
		case "smtp":
			r.SMTP, r.NoSMTP, err = portOrOff(value)
		case "https":
			r.HTTPS, r.NoWeb, err = portOrOff(value)
		case "tls":
			switch value {
			case "verify":
				r.Trust = Verified
			case "any":
				r.Trust = Encrypted
			case "none":
				r.Trust = Plain
			default:
				return bad("%q: tls is verify, any or none", w)
			}
		default:
			return bad("%q: the words of a route are host=, smtp=, https=, name=, tls=", w)
		}
		if err != nil {
			return bad("%q: %v", w, err)
		}
	}
	if r.NoSMTP && r.NoWeb {
		return bad("a route with smtp=off and https=off leads nowhere")
	}
	return r, nil
}

// ParseRoutes reads the routes of a configuration; each domain may have one.
func ParseRoutes(list []string) (Routes, error) {
	const op = "agent/road.ParseRoutes"
	if len(list) > MaxRoutes {
		return nil, errs.E(op, errs.TooLarge, fmt.Sprintf("there are more than %d routes", MaxRoutes), nil)
	}
	routes := make(Routes, len(list))
	for _, s := range list {
		r, err := ParseRoute(s)
		if err != nil {
			return nil, err
		}
		if _, twice := routes[r.Domain]; twice {
			return nil, errs.E(op, errs.Invalid, fmt.Sprintf("the domain %q has two routes", r.Domain), nil)
		}
		routes[r.Domain] = r
	}
	return routes, nil
}

// For gives the route of a canonical domain: its own, else that of "*", else the
// zero Route, which is the way of the DNS.
func (r Routes) For(domain string) Route {
	if x, ok := r[domain]; ok {
		return x
	}
	return r["*"]
}

func hostName(s string) (string, error) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return a.String(), nil
	}
	s = mail.CanonicalDomain(s)
	if _, err := mail.ParseAddress("x@" + s); err != nil {
		return "", fmt.Errorf("not the name or address of a host")
	}
	return s, nil
}

func portOrOff(s string) (port uint16, off bool, err error) {
	if s == "off" {
		return 0, true, nil
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, false, fmt.Errorf("write a port from 1 to 65535, or off")
	}
	return uint16(n), false, nil
}
