package mixclient

import (
	"context"
	"time"

	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/client"
)

// CertificateFile is the name of the file in the client's directory in which the relay says whose
// keys these are (docs/vouch.md).
const CertificateFile = "certificate"

// certificateRequest asks the own relay, over the line, for a new certificate.
const certificateRequest = "postern-certificate 1\n"

// When a certificate is renewed: early enough for the relay to be away for some days.
const (
	renewBefore = 3 * 24 * time.Hour // its end
	renewUrgent = 36 * time.Hour     // before its end it is urgent: the user hears of it
	renewPause  = time.Hour          // between two looks
	renewSoon   = 5 * time.Minute    // the same, with less than an hour left
	renewWarn   = 12 * time.Hour     // between two warnings
)

// Certificate gives the certificate of the client's keys. While Run runs it is renewed. errs.NotFound
// where the keys are not registered.
func (c *Client) Certificate() (*vouch.Certificate, error) {
	cert := c.certified()
	if cert == nil {
		return nil, errs.E("agent/mixclient.Certificate", errs.NotFound, "the keys of this client are not registered with its relay", nil)
	}
	return cert, nil
}

// certified gives nil where there is no certificate.
func (c *Client) certified() *vouch.Certificate {
	c.certMu.Lock()
	defer c.certMu.Unlock()
	return c.cert
}

// checkCertificate reads a certificate and tells whether it is of this client.
func checkCertificate(b []byte, p *Profile, id *client.Identity) (*vouch.Certificate, error) {
	const op = "agent/mixclient.Certificate"
	cert, err := vouch.Parse(b)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if cert.Relay != p.node || cert.Mailbox != p.mailbox || !cert.Letter.Equal(id.Letter.Public()) || cert.Key.ID() != id.Sign.Public().ID() {
		return nil, errs.E(op, errs.Invalid, "the relay gave a certificate of other keys than those of this client", nil)
	}
	return cert, nil
}

func (o *Options) saveCertificate(c *vouch.Certificate) error {
	return vfs.WriteFileAtomic(o.FS, o.FS.PathJoin(o.Dir, CertificateFile), c.Bytes(), 0o600)
}

// loadCertificate gives nil where there is none.
func (o *Options) loadCertificate(p *Profile, id *client.Identity) (*vouch.Certificate, error) {
	const op = "agent/mixclient.Certificate"
	b, err := vfs.ReadFile(o.FS, o.FS.PathJoin(o.Dir, CertificateFile))
	switch {
	case err != nil && errs.KindOf(err) == errs.NotFound:
		return nil, nil
	case err != nil:
		return nil, errs.Wrap(op, err)
	}
	cert, err := checkCertificate(b, p, id)
	if err != nil {
		return nil, errs.E(op, errs.Corrupt, "the file "+CertificateFile+" of the client is damaged: register again", err)
	}
	return cert, nil
}

// fetcher is mixnet/client.Client.Fetch.
type fetcher func(ctx context.Context, request []byte) ([]byte, error)

// renew keeps the certificate valid while the client runs, if there is one. The request leaves at a
// tick of the clocks like everything else, so that the line does not show it.
func (c *Client) renew(ctx context.Context, fetch fetcher) error {
	t := time.NewTimer(0)
	defer t.Stop()
	var warned time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		cert, now, pause := c.certified(), c.o.Now(), renewPause
		if cert == nil {
			return nil // to register needs a password
		}
		if left := cert.Until.Sub(now); left < renewBefore {
			if err := c.renewOnce(ctx, fetch, cert); err != nil && ctx.Err() == nil {
				c.o.Logger.Debug("mix client: the certificate was not renewed", "error", err)
				if left < renewUrgent && now.Sub(warned) >= renewWarn {
					warned = now
					c.o.Warn("the certificate of this client, which ends on " + cert.Until.UTC().Format("2006-01-02 15:04 MST") + ", could not be renewed: " + errs.Public(err))
				}
				if left < renewPause {
					pause = renewSoon
				}
			}
		}
		t.Reset(pause)
	}
}

// renewOnce asks the relay for a certificate that is newer, and keeps it.
func (c *Client) renewOnce(ctx context.Context, fetch fetcher, old *vouch.Certificate) error {
	const op = "agent/mixclient.renew"
	b, err := fetch(ctx, []byte(certificateRequest))
	if err != nil {
		return errs.Wrap(op, err)
	}
	cert, err := checkCertificate(b, c.profile, c.id)
	switch {
	case err != nil:
		return errs.Wrap(op, err)
	case !cert.Until.After(old.Until):
		return errs.E(op, errs.Unavailable, "the relay gave no newer certificate", nil)
	}
	if err := c.o.saveCertificate(cert); err != nil {
		return errs.Wrap(op, err)
	}
	c.certMu.Lock()
	defer c.certMu.Unlock()
	c.cert = cert
	return nil
}
