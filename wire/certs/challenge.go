package certs

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	"postern.email/kit/errs"
)

// ChallengeProtocol is the ALPN name under which an authority looks for the answer
// to a challenge (RFC 8737 §3). A connection that speaks it is done after the
// handshake.
const ChallengeProtocol = acmez.ACMETLS1Protocol

// challengePath is where an authority looks for the answer by HTTP (RFC 8555 §8.3).
const challengePath = "/.well-known/acme-challenge/"

// isChallenge knows an authority's handshake: this one protocol and a name.
func isChallenge(hello *tls.ClientHelloInfo) bool {
	return len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == ChallengeProtocol
}

// challenge gives the certificate that answers the challenge under way for a name
// (for an address: its name in in-addr.arpa or ip6.arpa, RFC 8738 §6).
func (a *authority) challenge(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	const op = "wire/certs.challenge"
	chal, ok := certmagic.GetACMEChallenge(strings.ToLower(hello.ServerName))
	if !ok || chal.Type != acme.ChallengeTypeTLSALPN01 {
		return nil, errs.E(op, errs.NotFound, "no challenge is under way", nil)
	}
	cert, err := acmez.TLSALPN01ChallengeCert(chal.Challenge)
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	return cert, nil
}

// Challenge answers an authority's request by HTTP and reports whether it did. A
// request under /.well-known/acme-challenge/ is always answered, so that it leads
// nowhere else; any other never.
func (c *Certs) Challenge(w http.ResponseWriter, r *http.Request) bool {
	if !strings.HasPrefix(r.URL.Path, challengePath) {
		return false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	chal, ok := certmagic.GetACMEChallenge(strings.ToLower(host))
	if c.acme == nil || !ok || chal.Type != acme.ChallengeTypeHTTP01 || r.URL.Path != chal.HTTP01ResourcePath() {
		http.NotFound(w, r)
		return true
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	io.WriteString(w, chal.KeyAuthorization)
	return true
}

func tlsRoots(roots *x509.CertPool) *tls.Config {
	if roots == nil {
		return nil
	}
	return &tls.Config{RootCAs: roots}
}
