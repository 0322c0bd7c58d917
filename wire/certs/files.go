package certs

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// digest stands for the content of a certificate's two files.
type digest [sha256.Size]byte

// fault is what is wrong with the files at present.
type fault struct {
	at    digest // of their content; zero when they cannot be read
	err   error
	times int // how often it was found, one look after another
}

// look reads the two files and takes them over if their content is new and fits
// together. Content is compared, not times: a symbolic link that is turned to
// another file (as certbot and mounted secrets do it) may show an older time, and
// two files written in one tick of the clock the same. mu is held, or c is new.
func (c *Certs) look() error {
	at, pair, err := c.read()
	if err == nil && at == c.seen {
		c.bad = fault{}
		return nil
	}
	if err != nil {
		if c.bad.err != nil && c.bad.at == at {
			c.bad.times++
		} else {
			c.bad = fault{at: at, times: 1}
		}
		c.bad.err = err
		return err
	}
	c.now.Store(pair)
	c.seen, c.bad = at, fault{}
	c.warn(pair)
	return nil
}

// persists reports whether err was found twice now, and for the first time: a pair
// that is looked at between the writing of its two halves does not fit together,
// and is whole at the next look.
func (c *Certs) persists(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bad.err == nil || c.bad.err == err && c.bad.times == 2
}

// read gives the pair that the files hold now.
func (c *Certs) read() (at digest, pair *tls.Certificate, err error) {
	const op = "wire/certs.read"
	var text [2][]byte
	for i, name := range []string{c.cert, c.key} {
		if text[i], err = vfs.ReadFile(c.o.FS, name); err != nil {
			return at, nil, errs.E(op, errs.Unavailable, "cannot read "+name, err)
		}
	}
	certSum, keySum := sha256.Sum256(text[0]), sha256.Sum256(text[1])
	at = sha256.Sum256(append(certSum[:], keySum[:]...))
	pair, err = parsePair(text[0], text[1])
	return at, pair, err
}

// parsePair reads a certificate with its chain, and its key. errs.Invalid when they
// do not fit together, or when the chain ends in the middle of a certificate: such a
// file is being written, and half a chain would be refused by every client.
func parsePair(cert, key []byte) (*tls.Certificate, error) {
	const op = "wire/certs.parsePair"
	rest := cert
	for b := (&pem.Block{}); b != nil; {
		b, rest = pem.Decode(rest)
	}
	if bytes.Contains(rest, []byte("-----BEGIN")) {
		return nil, errs.E(op, errs.Invalid, "the file of the TLS certificate ends in the middle of a certificate", nil)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, errs.E(op, errs.Invalid, "the TLS certificate and key do not fit together", err)
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return nil, errs.E(op, errs.Invalid, "the TLS certificate cannot be read", err)
		}
	}
	return &pair, nil
}

// warn tells the operator what clients will complain about in a given certificate,
// which is used all the same.
func (c *Certs) warn(pair *tls.Certificate) {
	if c.selfSigned {
		return
	}
	leaf := pair.Leaf
	if len(pair.Certificate) == 1 && !bytes.Equal(leaf.RawIssuer, leaf.RawSubject) {
		c.o.Logger.Warn("the file in tls.cert holds a certificate without its chain; clients that do not know its issuer refuse it", "issuer", leaf.Issuer.CommonName)
	}
	if !c.o.Now().Before(leaf.NotAfter) {
		c.o.Logger.Warn("the TLS certificate in tls.cert is no longer valid", "not_after", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if c.o.Domain != "" && leaf.VerifyHostname(c.o.Domain) != nil {
		c.o.Logger.Warn("the TLS certificate in tls.cert does not name the domain", "domain", c.o.Domain)
	}
}
