// Package certs holds the TLS certificates of a server, in one of three ways:
// files that an operator gave, read again when they change; certificates that an
// authority gives out by ACME (RFC 8555) and that are renewed in time; or a
// self-signed certificate that is made on the first start and renewed with the
// same key.
package certs

import (
	"context"
	"crypto/tls"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// Options for New.
type Options struct {
	FS  vfs.FS
	Dir string // where the self-signed certificate lies, and in acme/ what ACME needs; made when missing
	// Domain is the name that clients connect to, or an IP address without brackets.
	Domain string
	// CertFile and KeyFile are PEM files given by the operator; both or neither.
	CertFile, KeyFile string
	// ACME says where certificates come from; nil: from nowhere. It excludes CertFile.
	ACME   *ACME
	Poll   time.Duration // how often files and ends of validity are looked at; 0 = one minute
	Now    func() time.Time
	Logger *slog.Logger
}

// Certs is one server's certificates. All methods may be called by many goroutines.
type Certs struct {
	o          Options
	selfSigned bool   // cert and key are our own
	cert, key  string // file names
	now        atomic.Pointer[tls.Certificate]
	acme       *authority // nil: no ACME

	mu   sync.Mutex // one look at a time
	seen digest     // what now was read from
	bad  fault
}

// New reads the operator's files, or reads or makes the self-signed certificate,
// and reads what ACME has brought before. It asks nobody: certificates are obtained
// by Run. It is errs.Invalid when the files do not fit together.
func New(o Options) (*Certs, error) {
	defaults.Clock(&o.Now)
	if o.Poll <= 0 {
		o.Poll = time.Minute
	}
	defaults.Logger(&o.Logger)
	const op = "wire/certs.New"
	c := &Certs{o: o, cert: o.CertFile, key: o.KeyFile}
	switch {
	case (o.CertFile == "") != (o.KeyFile == ""):
		return nil, errs.E(op, errs.Invalid, "a certificate needs both files: tls.cert and tls.key", nil)
	case o.CertFile != "" && o.ACME != nil:
		return nil, errs.E(op, errs.Invalid, "certificates come from files or by ACME, not both", nil)
	}
	if o.CertFile == "" {
		c.selfSigned = true
		c.cert, c.key = o.FS.PathJoin(o.Dir, CertName), o.FS.PathJoin(o.Dir, KeyName)
		if err := c.renew(); err != nil {
			return nil, errs.Wrap(op, err)
		}
	}
	if err := c.look(); err != nil {
		return nil, errs.Wrap(op, err)
	}
	if o.ACME != nil {
		var err error
		if c.acme, err = newAuthority(&c.o); err != nil {
			return nil, errs.Wrap(op, err)
		}
	}
	return c, nil
}

// SelfSigned reports whether no authority vouches for the certificate, now and in
// future. With ACME it is false even before the first certificate is there: clients
// that are told meanwhile to accept anything would do so for ever.
func (c *Certs) SelfSigned() bool { return c.selfSigned && c.acme == nil }

// File is the name of the PEM file of the certificate in use, for clients that
// shall trust it.
func (c *Certs) File() string {
	if c.acme != nil {
		if f := c.acme.file(); f != "" {
			return f
		}
	}
	return c.cert
}

// Config makes a TLS configuration that always serves the newest certificate.
// least is tls.VersionTLS12 (strangers' mail servers, RFC 8314 §4.1) or
// tls.VersionTLS13. protocols are the ALPN names (RFC 7301) that are spoken; a
// client that offers others only is refused, one that offers none is served.
// ChallengeProtocol among them is offered only where ACME is in use.
func (c *Certs) Config(least uint16, protocols ...string) *tls.Config {
	var next []string
	for _, p := range protocols {
		if p != ChallengeProtocol || c.acme != nil {
			next = append(next, p)
		}
	}
	return &tls.Config{MinVersion: least, NextProtos: next, GetCertificate: c.get}
}

// get chooses the certificate of a handshake.
func (c *Certs) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c.acme != nil {
		if isChallenge(hello) {
			return c.acme.challenge(hello)
		}
		if p := c.acme.pair(hello.ServerName); p != nil {
			return p, nil
		}
	}
	return c.now.Load(), nil
}

// Run looks at the files now and then and takes over what changed, and obtains and
// renews what ACME gives, until ctx ends. A new pair that does not fit together is
// logged and not used.
func (c *Certs) Run(ctx context.Context) error {
	var authority sync.WaitGroup
	defer authority.Wait()
	if c.acme != nil {
		authority.Go(func() { c.acme.run(ctx) })
	}
	t := time.NewTicker(c.o.Poll)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if err := c.refresh(); err != nil && c.persists(err) {
				c.o.Logger.Error("the new TLS certificate cannot be used; the old one stays in use", "err", err)
			}
		}
	}
}

// Refresh looks at once instead of at the next time of Run: it reads the files
// again if they changed and renews a self-signed certificate that is near its end.
// A certificate that could not be obtained by ACME is tried again by Run.
func (c *Certs) Refresh() error {
	if c.acme != nil {
		c.acme.again()
	}
	return c.refresh()
}

func (c *Certs) refresh() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.selfSigned {
		if err := c.renew(); err != nil {
			return err
		}
	}
	return c.look()
}
