package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// certLife is how long the lab's certificates are valid.
const certLife = 10 * 365 * 24 * time.Hour

// certAuthority is the certificate authority that everybody in a lab trusts. Its key lives only while
// a new lab is set up: afterwards nobody can make certificates that the lab's members believe.
type certAuthority struct {
	file string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newCertAuthority(dir string) (*certAuthority, error) {
	a := &certAuthority{file: filepath.Join(dir, "ca.pem")}
	var err error
	a.cert, a.key, err = a.make(&x509.Certificate{Subject: pkix.Name{CommonName: "Authority of a Postern lab"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, a.file)
	return a, err
}

// issue writes a certificate for names and addresses, with its chain, and its key into two files.
func (a *certAuthority) issue(cert, key string, names ...string) error {
	c := &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, KeyUsage: x509.KeyUsageDigitalSignature, Subject: pkix.Name{CommonName: names[0]}}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, n)
		}
	}
	_, k, err := a.make(c, cert)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return errs.E("lab.issue", errs.Internal, "", err)
	}
	return writeFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// make signs a certificate (with its own key where there is no authority yet) and writes it.
func (a *certAuthority) make(c *x509.Certificate, file string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	const op = "lab.certificate"
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, errs.E(op, errs.Internal, "", err)
	}
	if c.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return nil, nil, errs.E(op, errs.Internal, "", err)
	}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(certLife)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		return nil, nil, errs.E(op, errs.Internal, "", err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, errs.E(op, errs.Internal, "", err)
	}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if a.cert != nil {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})...)
	}
	return made, key, writeFile(file, chain, 0o644)
}

func writeFile(name string, b []byte, mode os.FileMode) error {
	if err := vfs.WriteFileAtomic(vfs.OS(), name, b, mode); err != nil {
		return errs.E("lab.writeFile", errs.KindOf(err), "cannot write "+name, err)
	}
	return nil
}
