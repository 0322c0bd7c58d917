package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
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

// selfSign makes a server certificate for domain, a name or an IP address, and for
// this machine itself. It is no authority: who trusts it trusts one key for these
// names only.
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
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	// An address belongs into a SAN of its own kind: clients compare it with no name
	// (RFC 6125 §1.7.2, RFC 5280 §4.2.1.6).
	if ip := net.ParseIP(domain); ip == nil {
		t.DNSNames = append([]string{domain}, t.DNSNames...)
	} else {
		t.IPAddresses = append([]net.IP{ip}, t.IPAddresses...)
	}
	return x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
}
