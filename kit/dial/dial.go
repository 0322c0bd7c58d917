// Package dial is how the program reaches other machines: which resolver it asks
// for names, and whose certificates it believes. Everything that connects to the
// outside takes its Dialer from here, so that the two options mean the same
// everywhere.
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
	Resolver string   // "host:port" of a DNS server; empty: the system's
	CAFiles  []string // PEM files of certificates that are believed beside the system's
	FS       vfs.FS   // where the files lie; nil: the machine's disk
	Timeout  time.Duration
}

// DefaultTimeout bounds one look-up and one connection with its handshake.
const DefaultTimeout = 10 * time.Second

// Dialer reaches others. It may be used by many goroutines.
type Dialer struct {
	o        Options
	resolver *net.Resolver
	roots    *x509.CertPool
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
	d := &Dialer{o: o, resolver: &net.Resolver{}}
	if o.Resolver != "" {
		// The pure Go resolver asks whom Dial connects it to, whatever resolv.conf names.
		d.resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var nd net.Dialer
			return nd.DialContext(ctx, network, o.Resolver)
		}}
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
	d.roots = roots
	return d, nil
}

// Addresses looks up the addresses of an absolute domain name. errs.NotFound when
// it has none.
func (d *Dialer) Addresses(ctx context.Context, domain string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, d.o.Timeout)
	defer cancel()
	list, err := d.resolver.LookupNetIP(ctx, "ip", domain+".")
	return list, lookupError("kit/dial.Addresses", err)
}

// MX looks up the mail servers of an absolute domain name, best first.
// errs.NotFound when it names none.
func (d *Dialer) MX(ctx context.Context, domain string) ([]*net.MX, error) {
	ctx, cancel := context.WithTimeout(ctx, d.o.Timeout)
	defer cancel()
	list, err := d.resolver.LookupMX(ctx, domain+".")
	return list, lookupError("kit/dial.MX", err)
}

func lookupError(op string, err error) error {
	if err == nil {
		return nil
	}
	var de *net.DNSError
	if errors.As(err, &de) && de.IsNotFound {
		return errs.E(op, errs.NotFound, "the name has no such record", err)
	}
	return errs.E(op, errs.Unavailable, "the resolver does not answer", err)
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
	t := tls.Client(c, &tls.Config{ServerName: name, RootCAs: d.roots})
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

// TXT looks up the TXT records of an absolute domain name, the strings of each joined.
// errs.NotFound when it has none. authentic says that DNSSEC vouches for the answer,
// which this resolver cannot tell yet: it is always false.
func (d *Dialer) TXT(ctx context.Context, domain string) (txts []string, authentic bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.o.Timeout)
	defer cancel()
	txts, err = d.resolver.LookupTXT(ctx, domain+".")
	return txts, false, lookupError("kit/dial.TXT", err)
}
