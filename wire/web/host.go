package web

import (
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// PolicyPath is where senders look for the MTA-STS policy of a domain, on the host
// mta-sts.DOMAIN (RFC 8461 §3.3).
const PolicyPath = "/.well-known/mta-sts.txt"

// What stands before the domain in names that are served too. Aliases lists them.
const (
	policyHost     = "mta-sts."
	wwwHost        = "www."
	autoconfigHost = "autoconfig." // where mail programs look for their settings
)

// Aliases are the names beside the domain under which this site is looked for. An
// address has none.
func Aliases(domain string) []string {
	host := HostOf(domain)
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	return []string{policyHost + host, wwwHost + host, autoconfigHost + host}
}

// HostOf gives the host of a mail domain: the domain itself, or the address in an
// address literal, "[192.0.2.1]" or "[IPv6:2001:db8::1]" (RFC 5321 §4.1.3).
func HostOf(domain string) string {
	in, ok := strings.CutPrefix(domain, "[")
	in, closed := strings.CutSuffix(in, "]")
	if !ok || !closed {
		return domain
	}
	const tag = "ipv6:"
	if len(in) > len(tag) && strings.EqualFold(in[:len(tag)], tag) {
		in = in[len(tag):]
	}
	return in
}

// baseURL is the address of the site without a path; port 0 stands for the usual one.
func baseURL(host string, port int) string {
	if strings.Contains(host, ":") { // IPv6
		host = "[" + host + "]"
	}
	if port == 0 || port == 443 {
		return "https://" + host
	}
	return "https://" + host + ":" + strconv.Itoa(port)
}

// requestHost gives the host that a request names, in lower case and without port.
func requestHost(r *http.Request) string {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// redirect leads to the same path of host over HTTPS, never to a host that the
// request names.
func redirect(w http.ResponseWriter, r *http.Request, host string, port int) {
	path := r.URL.EscapedPath()
	if !strings.HasPrefix(path, "/") { // OPTIONS *, CONNECT host:port
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	to := baseURL(host, port) + path
	if r.URL.RawQuery != "" {
		to += "?" + r.URL.RawQuery
	}
	// 308 keeps the method; 301 is what old clients know (RFC 9110 §15.4.2, §15.4.9).
	status := http.StatusPermanentRedirect
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		status = http.StatusMovedPermanently
	}
	w.Header().Set("Location", to)
	w.WriteHeader(status)
}

// Redirect is what plain HTTP serves: the answers to an authority's challenges, and
// for everything else the way to the site of domain over HTTPS on port (0 or 443: the
// usual one; negative: there is none). challenge reports whether it answered; it may
// be nil.
func Redirect(domain string, port int, challenge func(http.ResponseWriter, *http.Request) bool) http.Handler {
	host := HostOf(domain)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Connection", "close") // the next request goes elsewhere
		switch {
		case challenge != nil && challenge(w, r):
		case port < 0, r.URL.Path == PolicyPath: // a policy counts over HTTPS only (RFC 8461 §3.3)
			http.NotFound(w, r)
		default:
			redirect(w, r, host, port)
		}
	})
}
