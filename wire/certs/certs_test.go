package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// handshake connects to a server with cfg and gives what the client saw.
func handshake(t *testing.T, server, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		a, err := l.Accept()
		if err == nil {
			defer a.Close()
			err = tls.Server(a, server).HandshakeContext(t.Context())
		}
		done <- err
	}()
	b, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	c := tls.Client(b, client)
	err = c.HandshakeContext(t.Context())
	if err != nil {
		b.Close()
	}
	if serr := <-done; err == nil {
		err = serr
	}
	return c.ConnectionState(), err
}

func TestSelfSigned(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	now := time.Now()
	o := Options{FS: vfs.OS(), Dir: dir, Domain: "mail.example", Now: func() time.Time { return now }}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if !c.SelfSigned() || c.File() != filepath.Join(dir, CertName) {
		t.Errorf("SelfSigned %v, File %s", c.SelfSigned(), c.File())
	}
	for _, f := range []string{CertName, KeyName} {
		if st, err := os.Stat(filepath.Join(dir, f)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f, st.Mode(), err)
		}
	}
	text, _ := os.ReadFile(c.File())
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	for _, name := range []string{"mail.example", "localhost", "127.0.0.1", "::1"} {
		if _, err := handshake(t, c.Config(tls.VersionTLS13), &tls.Config{RootCAs: roots, ServerName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := handshake(t, c.Config(tls.VersionTLS13), &tls.Config{RootCAs: roots, ServerName: "other.example"}); err == nil {
		t.Error("a name that is not ours was served")
	}

	// The second start keeps it.
	if again, err := New(o); err != nil || !bytes.Equal(again.now.Load().Certificate[0], c.now.Load().Certificate[0]) {
		t.Errorf("the second start made a new certificate: %v", err)
	}
	// Near its end it is renewed with the same key.
	now = now.Add(selfSignedFor - renewBefore + time.Hour)
	old := c.now.Load()
	if err := c.Refresh(); err != nil {
		t.Fatal(err)
	}
	fresh := c.now.Load()
	if bytes.Equal(fresh.Certificate[0], old.Certificate[0]) {
		t.Error("not renewed")
	}
	if a, b := leaf(t, old), leaf(t, fresh); !bytes.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo) || b.IsCA {
		t.Error("the renewed certificate has another key, or is an authority")
	}
	// A damaged key is not silently replaced: clients pinned it.
	os.WriteFile(filepath.Join(dir, KeyName), []byte("x"), 0o600)
	if _, err := New(o); errs.KindOf(err) != errs.Corrupt {
		t.Errorf("damaged key: %v", err)
	}
}

func leaf(t *testing.T, c *tls.Certificate) *x509.Certificate {
	t.Helper()
	x, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// TestSelfSignedNames: an address is in a SAN of its kind, a name that begins with an
// underscore in one of names; each verifies, and is kept at the second start.
func TestSelfSignedNames(t *testing.T) {
	for _, name := range []string{"_x.example", "192.0.2.1", "2001:db8::1"} {
		o := Options{FS: vfs.NewCrashDisk(), Dir: "/tls", Domain: name}
		c, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		x := leaf(t, c.now.Load())
		for _, n := range []string{name, "localhost", "127.0.0.1"} {
			if err := x.VerifyHostname(n); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if net.ParseIP(name) != nil && slices.Contains(x.DNSNames, name) {
			t.Errorf("%s stands among the names", name)
		}
		if again, err := New(o); err != nil || !bytes.Equal(again.now.Load().Certificate[0], c.now.Load().Certificate[0]) {
			t.Errorf("%s: the second start made a new certificate: %v", name, err)
		}
		if s := c.Status(); s.Mode != "self-signed" || len(s.Certs) != 1 || s.Certs[0].Names[0] != name && !slices.Contains(s.Certs[0].Names, name) || s.Certs[0].Error != "" {
			t.Errorf("status %+v", s)
		}
	}
}

func TestVersionsAndALPN(t *testing.T) {
	c, err := New(Options{FS: vfs.OS(), Dir: t.TempDir(), Domain: "mail.example"})
	if err != nil {
		t.Fatal(err)
	}
	old := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}
	if _, err := handshake(t, c.Config(tls.VersionTLS13), old); err == nil {
		t.Error("TLS 1.2 where 1.3 is the least")
	}
	if _, err := handshake(t, c.Config(tls.VersionTLS12), old); err != nil {
		t.Errorf("TLS 1.2 where it is allowed: %v", err)
	}
	old.MaxVersion = tls.VersionTLS11
	old.MinVersion = tls.VersionTLS10
	if _, err := handshake(t, c.Config(tls.VersionTLS12), old); err == nil {
		t.Error("TLS 1.1 was served")
	}
	for _, x := range []struct {
		offer []string
		want  string
		ok    bool
	}{{nil, "", true}, {[]string{"imap"}, "imap", true}, {[]string{"h2", "http/1.1"}, "h2", true}, {[]string{"xmpp"}, "", false}} {
		s, err := handshake(t, c.Config(tls.VersionTLS13, "imap", "smtp", "h2", "http/1.1"), &tls.Config{InsecureSkipVerify: true, NextProtos: x.offer})
		if (err == nil) != x.ok || err == nil && s.NegotiatedProtocol != x.want {
			t.Errorf("%v: %q, %v", x.offer, s.NegotiatedProtocol, err)
		}
	}
}
