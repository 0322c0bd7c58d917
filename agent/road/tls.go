package road

import (
	"crypto/tls"
	"errors"

	"postern.email/wire/dane"
)

// errDANE is in the chain of a handshake's error when the certificate does not fit the
// TLSA records.
var errDANE = errors.New("the certificate does not fit the TLSA records")

// tls gives the configuration for one host: what it must prove. DANE, where records exist
// that can be used, takes the place of the authorities (RFC 7672 §2.1); an MTA-STS policy asks
// for them all the same (RFC 8461 §2: neither may weaken the other).
func (r *Roads) tls(t *target, d dane.Policy) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.name, RootCAs: r.o.Roots, Time: r.o.Now, ClientSessionCache: r.sessions}
	if d.Authenticates() {
		// A resumed session shows no new certificate; what must fit each time is not resumed.
		c.ClientSessionCache = nil
		check := d.VerifyConnection(r.o.Now, t.domain)
		c.VerifyConnection = func(s tls.ConnectionState) error {
			if err := check(s); err != nil {
				return errors.Join(errDANE, err)
			}
			return nil
		}
		if !t.webpki {
			c.InsecureSkipVerify = true // VerifyConnection does it
			c.ServerName = d.Base
		}
		return c
	}
	if t.trust != Verified {
		c.InsecureSkipVerify = true // the operator's word, or a name that cannot be certified
		c.ClientSessionCache = nil
	}
	return c
}
