// Package certs holds the TLS certificate of a server: files that an operator
// gave, reloaded when they change, or a self-signed certificate that is made on
// the first start and renewed with the same key.
package certs

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"sync/atomic"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// A self-signed certificate is valid for 825 days, the longest that Apple's
// systems take for one that the user chose to trust, and is renewed a month
// before its end. The key stays, because clients pin it.
const (
	selfSignedFor = 825 * 24 * time.Hour
	renewBefore   = 30 * 24 * time.Hour
)

// The files of the self-signed certificate, in Options.Dir.
const (
	CertName = "cert.pem"
	KeyName  = "key.pem"
)

// Options for New.
type Options struct {
	FS     vfs.FS
	Dir    string // where the self-signed certificate lies; made when missing
	Domain string
	// CertFile and KeyFile are PEM files given by the operator; both or neither.
	CertFile, KeyFile string
	Poll              time.Duration // how often the files are looked at; 0 = one minute
	Now               func() time.Time
	Logger            *slog.Logger
}

// Certs is one server's certificate. All methods may be called by many goroutines.
type Certs struct {
	o          Options
	selfSigned bool
	cert, key  string // file names
	now        atomic.Pointer[tls.Certificate]
	seen       [2]time.Time // modification times; of the goroutine that runs Reload
}

// New reads the operator's files, or reads or makes the self-signed certificate.
// It is errs.Invalid when the files do not fit together.
func New(o Options) (*Certs, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Poll <= 0 {
		o.Poll = time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	const op = "wire/certs.New"
	c := &Certs{o: o, cert: o.CertFile, key: o.KeyFile}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return nil, errs.E(op, errs.Invalid, "a certificate needs both files: tls.cert and tls.key", nil)
	}
	if o.CertFile == "" {
		c.selfSigned = true
		c.cert, c.key = o.FS.PathJoin(o.Dir, CertName), o.FS.PathJoin(o.Dir, KeyName)
		if err := c.renew(); err != nil {
			return nil, errs.Wrap(op, err)
		}
	}
	if err := c.load(); err != nil {
		return nil, errs.Wrap(op, err)
	}
	return c, nil
}

// SelfSigned reports whether no authority vouches for the certificate.
func (c *Certs) SelfSigned() bool { return c.selfSigned }

// File is the name of the certificate's PEM file, for clients that shall trust it.
func (c *Certs) File() string { return c.cert }

// Config makes a TLS configuration that always serves the newest certificate.
// least is tls.VersionTLS12 (strangers' mail servers, RFC 8314 §4.1) or
// tls.VersionTLS13. protocols are the ALPN names (RFC 7301) that are spoken; a
// client that offers others only is refused, one that offers none is served.
func (c *Certs) Config(least uint16, protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: least,
		NextProtos: protocols,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.now.Load(), nil
		},
	}
}

// Run looks at the files now and then and takes over what changed, until ctx
// ends. A new pair that does not fit together is logged and not used.
func (c *Certs) Run(ctx context.Context) error {
	t := time.NewTicker(c.o.Poll)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if err := c.Refresh(); err != nil {
				c.o.Logger.Error("the new TLS certificate cannot be used; the old one stays in use", "err", err)
			}
		}
	}
}

// Refresh is one look of Run: it reads the files again if they changed and renews
// a self-signed certificate that is near its end. It must not be called by two
// goroutines at once.
func (c *Certs) Refresh() error {
	if c.selfSigned {
		if err := c.renew(); err != nil {
			return err
		}
	}
	var at [2]time.Time
	for i, name := range []string{c.cert, c.key} {
		st, err := c.o.FS.Stat(name)
		if err != nil {
			return errs.E("wire/certs.Refresh", errs.Unavailable, "cannot read the TLS certificate files", err)
		}
		at[i] = st.ModTime()
	}
	if at == c.seen {
		return nil
	}
	return c.load()
}

func (c *Certs) load() error {
	const op = "wire/certs.load"
	var pems [2][]byte
	var at [2]time.Time
	for i, name := range []string{c.cert, c.key} {
		st, err := c.o.FS.Stat(name)
		if err != nil {
			return errs.E(op, errs.Unavailable, "cannot read "+name, err)
		}
		at[i] = st.ModTime()
		if pems[i], err = vfs.ReadFile(c.o.FS, name); err != nil {
			return errs.E(op, errs.Unavailable, "cannot read "+name, err)
		}
	}
	pair, err := tls.X509KeyPair(pems[0], pems[1])
	if err != nil {
		return errs.E(op, errs.Invalid, "the TLS certificate and key do not fit together", err)
	}
	c.now.Store(&pair)
	c.seen = at
	return nil
}

// renew makes sure that a self-signed certificate with enough time left exists.
func (c *Certs) renew() error {
	const op = "wire/certs.renew"
	fs := c.o.FS
	if err := vfs.MkdirAll(fs, c.o.Dir, 0o700); err != nil {
		return errs.E(op, errs.Unavailable, "cannot write the TLS certificate", err)
	}
	key, err := c.ownKey()
	if err != nil {
		return err
	}
	if text, err := vfs.ReadFile(fs, c.cert); err == nil {
		if b, _ := pem.Decode(text); b != nil {
			old, err := x509.ParseCertificate(b.Bytes)
			if err == nil && old.VerifyHostname(c.o.Domain) == nil && c.o.Now().Before(old.NotAfter.Add(-renewBefore)) &&
				key.PublicKey.Equal(old.PublicKey) {
				return nil
			}
		}
	}
	der, err := selfSign(key, c.o.Domain, c.o.Now())
	if err != nil {
		return errs.E(op, errs.Internal, "", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := vfs.WriteFileAtomic(fs, c.cert, text, 0o600); err != nil {
		return errs.E(op, errs.Unavailable, "cannot write the TLS certificate", err)
	}
	return nil
}

// ownKey reads the key of the self-signed certificate, or makes it.
func (c *Certs) ownKey() (*ecdsa.PrivateKey, error) {
	const op = "wire/certs.ownKey"
	if text, err := vfs.ReadFile(c.o.FS, c.key); err == nil {
		if b, _ := pem.Decode(text); b != nil {
			if k, err := x509.ParsePKCS8PrivateKey(b.Bytes); err == nil {
				if ec, ok := k.(*ecdsa.PrivateKey); ok {
					return ec, nil
				}
			}
		}
		return nil, errs.E(op, errs.Corrupt, c.key+" is damaged; remove it to make a new key (clients will ask again whether they trust it)", nil)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := vfs.WriteFileAtomic(c.o.FS, c.key, text, 0o600); err != nil {
		return nil, errs.E(op, errs.Unavailable, "cannot write the TLS key", err)
	}
	return key, nil
}

// selfSign makes a server certificate for domain and for this machine itself. It
// is no authority: who trusts it trusts one key for these names only.
func selfSign(key crypto.Signer, domain string, now time.Time) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: domain},
		NotBefore:             now.Add(-time.Hour), // clients' clocks may be behind
		NotAfter:              now.Add(selfSignedFor),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{domain, "localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	return x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
}
