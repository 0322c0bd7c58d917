package dane

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"time"

	"postern.email/kit/errs"
	"postern.email/wire/dns"
)

// Values of the fields of a TLSA record that can be used here (RFC 7218). The usages 0
// and 1 need a set of authorities that both sides agree on, which mail does not have (RFC
// 7672 §3.1.3).
const (
	UsageTA      = 2 // DANE-TA: the certificate of an authority, or its key
	UsageEE      = 3 // DANE-EE: the server's own
	SelectorCert = 0
	SelectorSPKI = 1
	MatchFull    = 0
	MatchSHA256  = 1
	MatchSHA512  = 2
)

// Verify reports whether a record vouches for the chain that a server sent, its own
// certificate first. With DANE-EE the record alone decides, whatever names and dates
// stand in the certificate (RFC 7672 §3.1.1). With DANE-TA the chain must lead to the
// certificate that the record names, each certificate must be valid at now, and the
// server's must have one of names: the base domain and, where the MX records were
// authentic, the domain of the mail (RFC 7672 §3.2.2). A name in the certificate's common
// name is not looked at.
//
// Errors: errs.Denied when no record vouches, errs.Unsupported when none of them can be
// used at all (see Policy.Authenticates).
func Verify(records []dns.TLSA, names []string, chain []*x509.Certificate, now time.Time) error {
	const op = "wire/dane.Verify"
	list := usable(records)
	switch {
	case len(list) == 0:
		return errs.E(op, errs.Unsupported, "no TLSA record of the mail server can be used", nil)
	case len(chain) == 0:
		return errs.E(op, errs.Denied, "the mail server shows no certificate", nil)
	}
	var anchors []*x509.Certificate
	for _, r := range list {
		if r.Usage == UsageEE && matches(r, chain[0]) {
			return nil
		}
		if r.Usage != UsageTA {
			continue
		}
		for _, c := range chain[1:] {
			if matches(r, c) {
				anchors = append(anchors, c)
			}
		}
		if r.Selector == SelectorCert && r.Matching == MatchFull { // it need not be sent (RFC 7671 §5.2.2)
			if c, err := x509.ParseCertificate(r.Data); err == nil {
				anchors = append(anchors, c)
			}
		}
	}
	if len(anchors) == 0 {
		return errs.E(op, errs.Denied, "the mail server's certificate is not the one that its TLSA records name", nil)
	}
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now}
	for _, c := range anchors {
		opts.Roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(opts); err != nil {
		return errs.E(op, errs.Denied, "the mail server's certificate does not lead to the one that its TLSA records name", err)
	}
	for _, n := range names {
		if chain[0].VerifyHostname(n) == nil {
			return nil
		}
	}
	return errs.E(op, errs.Denied, "the mail server's certificate is for another name", nil)
}

// VerifyConnection fits tls.Config.VerifyConnection, in a configuration that sends Base
// as ServerName and leaves the verification to it (InsecureSkipVerify). domains are names
// that the certificate may have beside Base, see Verify. now may be nil.
func (p Policy) VerifyConnection(now func() time.Time, domains ...string) func(tls.ConnectionState) error {
	if now == nil {
		now = time.Now
	}
	names := append([]string{p.Base}, domains...)
	return func(s tls.ConnectionState) error { return Verify(p.Records, names, s.PeerCertificates, now()) }
}

// usable leaves the records that can decide: known fields, and data that can be what they
// say. Where the same thing is stated with two digests, only the stronger one counts (RFC
// 7671 §9).
func usable(records []dns.TLSA) []dns.TLSA {
	strong := func(r dns.TLSA) bool {
		for _, o := range records {
			if o.Matching == MatchSHA512 && o.Usage == r.Usage && o.Selector == r.Selector && formed(o) {
				return true
			}
		}
		return false
	}
	var list []dns.TLSA
	for _, r := range records {
		if formed(r) && !(r.Matching == MatchSHA256 && strong(r)) {
			list = append(list, r)
		}
	}
	return list
}

func formed(r dns.TLSA) bool {
	if r.Usage != UsageTA && r.Usage != UsageEE || r.Selector > SelectorSPKI {
		return false
	}
	switch r.Matching {
	case MatchSHA256:
		return len(r.Data) == sha256.Size
	case MatchSHA512:
		return len(r.Data) == sha512.Size
	case MatchFull:
		var err error
		if r.Selector == SelectorCert {
			_, err = x509.ParseCertificate(r.Data)
		} else {
			_, err = x509.ParsePKIXPublicKey(r.Data)
		}
		return err == nil
	}
	return false
}

// matches compares a record that can be used with one certificate (RFC 6698 §2.1).
func matches(r dns.TLSA, c *x509.Certificate) bool {
	data := c.Raw
	if r.Selector == SelectorSPKI {
		data = c.RawSubjectPublicKeyInfo
	}
	switch r.Matching {
	case MatchSHA256:
		sum := sha256.Sum256(data)
		data = sum[:]
	case MatchSHA512:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	return bytes.Equal(data, r.Data)
}
