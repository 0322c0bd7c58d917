package rig

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"postern.email/interop/mailclient"
)

// Dialer is how every client of the benchmark connects: TLS 1.3, a full
// handshake each time (no resumption), certificates not checked.
var Dialer = mailclient.Dialer{
	TLS:     &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519}}, //nolint:gosec // loopback
	Timeout: 2 * time.Minute,
}

func userID(name string) (int, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(u.Uid)
}

// selfSigned makes a P-256 certificate.
func selfSigned(name string) (tls.Certificate, []byte, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return tls.Certificate{}, nil, nil, err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	return cert, certPEM, keyPEM, err
}

func writeCertificate(dir, name string) error {
	_, certPEM, keyPEM, err := selfSigned(name)
	if err != nil {
		return err
	}
	return errors.Join(
		writeFile(filepath.Join(dir, "cert.pem"), string(certPEM), 0o644),
		writeFile(filepath.Join(dir, "key.pem"), string(keyPEM), 0o600),
	)
}
