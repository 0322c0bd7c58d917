package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"postern.email/wire/dns/dnstest"
)

// Ports of mail hosts in a world: high, so that no root is needed.
const (
	worldSMTP  = "2525"
	worldHTTPS = "8443"
)

// world is a small Internet on this machine: names, an authority for certificates, and an
// address of its own for each host.
type world struct {
	dns  *dnstest.Server
	ca   *authority
	net  int // second and third number of its addresses
	last int
}

// newWorld needs a machine on which all of 127.0.0.0/8 is there, as on Linux.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{dns: dnstest.New(t), ca: newAuthority(t), net: 1 + os.Getpid()%250}
	l, err := net.Listen("tcp", w.address()+":0")
	if err != nil {
		t.Skip("this machine has only one loopback address")
	}
	l.Close()
	return w
}

// address gives the next address.
func (w *world) address() string {
	w.last++
	return fmt.Sprintf("127.88.%d.%d", w.net, w.last)
}

// relay runs a Postern for a domain: it has a certificate, an MX record and its keys in
// the DNS. sets come last.
func (w *world) relay(t testing.TB, domain string, sets ...string) *server {
	t.Helper()
	at := w.address()
	cert, key := w.ca.issue(t, domain)
	w.dns.Add(t, domain+". 60 IN A "+at, domain+". 60 IN MX 10 "+domain+".")
	all := []string{"domain=" + domain, "tls.mode=files", "tls.cert=" + cert, "tls.key=" + key, "tls.trusted_cas=" + w.ca.file,
		"network.resolver=" + w.dns.Addr, "network.resolver_dnssec=yes", "delivery.remote=true",
		"delivery.routes=* smtp=" + worldSMTP + " https=" + worldHTTPS,
		"listen.smtp=" + at + ":" + worldSMTP, "listen.https=" + at + ":" + worldHTTPS,
		"delivery.first_retry=200ms", "delivery.last_retry=1s"}
	s := start(t, append(all, sets...)...)
	w.publish(t, s)
	return s
}

// publish puts a relay's keys into the DNS.
func (w *world) publish(t testing.TB, s *server) {
	t.Helper()
	var keys struct {
		Pairs []struct {
			Records []struct{ Name, Text string }
		}
	}
	r := command(t, nil, binary(t), "dkim", "show", "--json", "--dir", s.dir)
	r.want(t, 0)
	if err := json.Unmarshal([]byte(r.out), &keys); err != nil || len(keys.Pairs) == 0 {
		t.Fatalf("dkim show: %v: %s", err, r.out)
	}
	for _, p := range keys.Pairs {
		for _, x := range p.Records {
			w.dns.AddTXT(t, x.Name, x.Text)
		}
	}
}

// authority is a certificate authority that everybody in the world trusts.
type authority struct {
	dir, file string
	cert      *x509.Certificate
	key       *ecdsa.PrivateKey
	serial    int64
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	dir := t.TempDir()
	a := &authority{dir: dir, file: filepath.Join(dir, "ca.pem"), serial: 1}
	a.cert, a.key = a.make(t, &x509.Certificate{Subject: pkix.Name{CommonName: "Authority of a small world"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, a.file)
	return a
}

// issue makes a certificate for names and addresses, and gives its files.
func (a *authority) issue(t testing.TB, names ...string) (cert, key string) {
	t.Helper()
	c := &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, KeyUsage: x509.KeyUsageDigitalSignature}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, n)
		}
	}
	cert = filepath.Join(a.dir, names[0]+".pem")
	_, k := a.make(t, c, cert)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	key = filepath.Join(a.dir, names[0]+".key")
	writeFile(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	return cert, key
}

// make signs a certificate (with its own key where there is no authority yet) and writes it.
func (a *authority) make(t testing.TB, c *x509.Certificate, file string) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a.serial++
	c.SerialNumber = big.NewInt(a.serial)
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(48*time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, file, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return made, key
}
