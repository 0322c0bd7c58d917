// Package dial is how the program reaches other machines: whose certificates it
// believes, and how long it tries. Everything that connects to the outside takes its
// Dialer from here, so that the option means the same everywhere. Names are looked up
// elsewhere (wire/dns).
package dial

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// Options for New.
type Options struct {
	CAFiles []string // PEM files of certificates that are believed beside the system's
	FS      vfs.FS   // where the files lie; nil: the machine's disk
	Timeout time.Duration
}

// DefaultTimeout bounds one connection with its handshake.
const DefaultTimeout = 10 * time.Second

// Dialer reaches others. It may be used by many goroutines.
type Dialer struct {
	o     Options
	roots *x509.CertPool
}

// New reads the CA files. errs.Invalid when one holds no certificate.
func New(o Options) (*Dialer, error) {
	const op = "kit/dial.New"
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // a machine without any: the extra ones are all there is
	}
	for _, f := range o.CAFiles {
		text, err := vfs.ReadFile(o.FS, f)
		if err != nil {
			return nil, errs.E(op, errs.KindOf(err), "cannot read the file of trusted certificates "+f, err)
		}
		if !roots.AppendCertsFromPEM(text) {
			return nil, errs.E(op, errs.Invalid, f+" holds no certificate in PEM form", nil)
		}
	}
	return &Dialer{o: o, roots: roots}, nil
}

// TLS connects to addr and does a handshake in which name must be vouched for by
// the system's or the extra certificates. errs.Denied when it is not.
func (d *Dialer) TLS(ctx context.Context, addr netip.AddrPort, name string) (*tls.Conn, error) {
	const op = "kit/dial.TLS"
	ctx, cancel := context.WithTimeout(ctx, d.o.Timeout)
	defer cancel()
	var nd net.Dialer
	c, err := nd.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return nil, errs.E(op, errs.Unavailable, "no connection", err)
	}
	cfg := d.Config()
	cfg.ServerName = name
	t := tls.Client(c, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		c.Close()
		var bad *tls.CertificateVerificationError
		if errors.As(err, &bad) {
			return nil, errs.E(op, errs.Denied, "the certificate is not trusted", err)
		}
		return nil, errs.E(op, errs.Unavailable, "no TLS", err)
	}
	return t, nil
}

// Config is the TLS configuration of a client that believes them; it is the caller's own.
func (d *Dialer) Config() *tls.Config { return &tls.Config{RootCAs: d.roots} }

// Roots are the certificates that are believed. They must not be changed.
func (d *Dialer) Roots() *x509.CertPool { return d.roots }
