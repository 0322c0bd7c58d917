package relay

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"postern.email/kit/dial"
	"postern.email/kit/errs"
	"postern.email/wire/lineio"
	"postern.email/wire/smtp"
)

// publicDoors are the ports that strangers come to, and how TLS begins there.
var publicDoors = []struct{ name, begins string }{{"smtp", "smtp"}, {"https", ""}, {"https_alt", ""}, {"imaps", ""}, {"imap", "imap"},
	{"submissions", ""}, {"submission", "smtp"}, {"pop3s", ""}, {"pop3", "pop3"}}

// Bounds of what is connected to.
const (
	maxDoorAddresses = 8
	doorsAtOnce      = 8
)

// diagnoseDoors connects to what others are told to connect to.
func (s *Server) diagnoseDoors(ctx context.Context, trust *dial.Dialer, addrs []netip.Addr, d *diagnoses) {
	if port := s.portOf("smtp"); port != 0 && port != 25 {
		d.Advise("smtp", "Set listen.smtp to :25, unless something passes port 25 on.", "mail from others comes to port 25, and this relay listens on port %d", port)
	} else if port == 0 {
		d.Advise("smtp", "Set listen.smtp to :25.", "it is off: mail comes only from hosts that hand it over by HTTPS")
	}
	type try struct {
		name, begins string
		at           netip.AddrPort
	}
	var tries []try
	for _, door := range publicDoors {
		if port := s.portOf(door.name); port != 0 {
			for _, a := range addrs[:min(len(addrs), maxDoorAddresses)] {
				tries = append(tries, try{door.name, door.begins, netip.AddrPortFrom(a.Unmap(), uint16(port))})
			}
		}
	}
	found := make([]diagnoses, len(tries))
	slots := make(chan struct{}, doorsAtOnce)
	var all sync.WaitGroup
	for i, t := range tries {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			s.diagnoseDoor(ctx, trust, t.name, t.begins, t.at, &found[i])
		})
	}
	all.Wait()
	for _, f := range found {
		*d = append(*d, f...)
	}
}

// diagnoseDoor connects to one port as a stranger does.
func (s *Server) diagnoseDoor(ctx context.Context, trust *dial.Dialer, name, begins string, at netip.AddrPort, d *diagnoses) {
	ctx, cancel := context.WithTimeout(ctx, doorTime)
	defer cancel()
	chain, err := s.knock(ctx, begins, at)
	switch {
	case errs.KindOf(err) == errs.NotFound && err != nil:
		d.Fault(name, "Look at the firewall, and whether the address is this machine's. Some routers do not lead a machine to its own public address: then look from another one.", "%s does not answer", at)
		return
	case err != nil:
		d.Fault(name, "Look at what listens there: is it this relay?", "%s answers, but there is no TLS: %s", at, errs.Public(err))
		return
	}
	own := s.leaf()
	same := own != nil && len(chain) > 0 && own.Equal(chain[0])
	if s.c.bare() && s.certs.SelfSigned() && same {
		d.OK(name, "%s answers with its own certificate, which apps of such a relay are told to accept", at)
		return
	}
	if text, next := chainFault(chain, s.c.host(), trust.Roots(), s.d.Now()); text != "" {
		if !same && own != nil {
			text += " (it is not the one that this relay has: another program answers there, or another machine)"
		}
		d.Fault(name, next, "%s answers with a certificate %s", at, text)
		return
	}
	d.OK(name, "%s answers with a certificate that is trusted", at)
}

// knock connects to a port, begins TLS and gives the certificates that are shown, whatever
// they are. errs.NotFound when nobody answers.
func (s *Server) knock(ctx context.Context, begins string, at netip.AddrPort) (chain []*x509.Certificate, err error) {
	const op = "role/relay.knock"
	var nd net.Dialer
	c, err := nd.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return nil, errs.E(op, errs.NotFound, "no connection", err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	conf := &tls.Config{ServerName: s.c.host(), InsecureSkipVerify: true, // it is judged afterwards
		VerifyConnection: func(cs tls.ConnectionState) error { chain = cs.PeerCertificates; return nil }}
	if begins == "smtp" {
		cl, err := smtp.NewClient(ctx, c, smtp.ClientOptions{Hostname: s.c.Domain, Host: s.c.host(), TLS: conf, RequireTLS: true})
		if err != nil {
			return nil, errs.Wrap(op, err)
		}
		cl.Quit()
		return chain, nil
	}
	if begins != "" {
		if err := startTLS(c, begins); err != nil {
			return nil, errs.E(op, errs.Unavailable, "the server does not begin it", err)
		}
	}
	if err := tls.Client(c, conf).HandshakeContext(ctx); err != nil {
		return nil, errs.E(op, errs.Unavailable, "the handshake fails", err)
	}
	return chain, nil
}

// startTLS asks for TLS by IMAP (RFC 9051 §6.2.1) or POP3 (RFC 2595 §4).
func startTLS(c net.Conn, protocol string) error {
	in := lineio.NewReader(c, lineio.Times{Line: doorTime})
	defer in.Close()
	ask, yes := "a STARTTLS\r\n", "a OK"
	if protocol == "pop3" {
		ask, yes = "STLS\r\n", "+OK"
	}
	if _, err := in.Line(maxDoorLine); err != nil { // the greeting
		return err
	}
	if _, err := c.Write([]byte(ask)); err != nil {
		return err
	}
	for range maxDoorLines {
		line, err := in.Line(maxDoorLine)
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(string(line), yes):
			if in.Buffered() > 0 {
				return errors.New("there is more behind the answer")
			}
			return nil
		case protocol == "pop3" || strings.HasPrefix(string(line), "a "):
			return errors.New("it was refused")
		}
	}
	return errors.New("too many lines")
}

const maxDoorLine, maxDoorLines = 1024, 20

// A certificate is renewed long before the last part of its time; what is in it stays there
// by mistake.
const (
	lateShare = 6 // of a certificate's whole time, the last sixth
	lateMost  = 14 * day
)

// chainFault says what a stranger finds wrong with the certificates that a host shows, as
// the rest of a sentence that begins with "a certificate", and what to do. It is empty
// when nothing is.
func chainFault(chain []*x509.Certificate, host string, roots *x509.CertPool, now time.Time) (text, next string) {
	if len(chain) == 0 {
		return "that cannot be read", ""
	}
	leaf := chain[0]
	const renew = "Renew it. What comes from an authority by ACME renews itself: postern status says why it does not."
	sent := x509.NewCertPool()
	var signer bool // the leaf's was sent
	for _, c := range chain[1:] {
		sent.AddCert(c)
		signer = signer || string(c.RawSubject) == string(leaf.RawIssuer)
	}
	switch {
	case now.After(leaf.NotAfter):
		return "that is no longer valid since " + leaf.NotAfter.UTC().Format(time.DateOnly), renew
	case now.Before(leaf.NotBefore):
		return "that is valid only from " + leaf.NotBefore.UTC().Format(time.DateTime) + " on", "Look at this machine's clock."
	case leaf.VerifyHostname(host) != nil:
		return "for " + namesOf(leaf) + ", not for " + host, "Give the relay a certificate for " + host + " (tls.mode = \"acme\", or tls.cert)."
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: sent, CurrentTime: now})
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown) && string(leaf.RawIssuer) == string(leaf.RawSubject):
		return "that is self-signed: it is not trusted", "Let the relay get one from an authority (tls.mode = \"acme\"), or give it one (tls.cert, tls.key)."
	case errors.As(err, &unknown) && !signer:
		return fmt.Sprintf("by %s, whose own certificate is not sent along: strangers do not trust it", issuerOf(leaf)),
			"The certificate file holds only the last certificate; use the full chain (certbot: fullchain.pem). If the authority is one of your own, name it in tls.trusted_cas."
	case errors.As(err, &unknown):
		return fmt.Sprintf("by %s: it is not trusted", issuerOf(chain[len(chain)-1])),
			"Let the relay get one from an authority that all trust (tls.mode = \"acme\"), or name this one in tls.trusted_cas."
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "of whose chain a part is no longer valid", "Get the present chain of the authority, and put it into tls.cert."
	case err != nil:
		return "that is not in order: " + oneLine(err.Error()), "Get another one."
	}
	if left := leaf.NotAfter.Sub(now); left < min(lateMost, leaf.NotAfter.Sub(leaf.NotBefore)/lateShare) {
		return fmt.Sprintf("that is valid until %s only", leaf.NotAfter.UTC().Format(time.DateTime)), renew
	}
	return "", ""
}

// namesOf gives the names that a certificate is for, a few of them.
func namesOf(c *x509.Certificate) string {
	names := c.DNSNames
	for _, ip := range c.IPAddresses {
		names = append(names[:len(names):len(names)], ip.String())
	}
	switch n := len(names); {
	case n == 0:
		return "no name"
	case n > 3:
		return oneLine(strings.Join(names[:3], ", ")) + " and others"
	}
	return oneLine(strings.Join(names, ", "))
}

// issuerOf names who gave out a certificate.
func issuerOf(c *x509.Certificate) string {
	for _, n := range append([]string{c.Issuer.CommonName}, c.Issuer.Organization...) {
		if n != "" {
			return oneLine(n)
		}
	}
	return "an authority without a name"
}
