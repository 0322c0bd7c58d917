package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
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

// TestFilesReload: changed files are taken over, a bad pair is not.
func TestFilesReload(t *testing.T) {
	made := func(domain string) (cert, key []byte) {
		dir := t.TempDir()
		if _, err := New(Options{FS: vfs.OS(), Dir: dir, Domain: domain}); err != nil {
			t.Fatal(err)
		}
		cert, _ = os.ReadFile(filepath.Join(dir, CertName))
		key, _ = os.ReadFile(filepath.Join(dir, KeyName))
		return cert, key
	}
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "c"), filepath.Join(dir, "k")
	at := time.Now()
	put := func(cert, key []byte) {
		t.Helper()
		at = at.Add(time.Second) // file systems with coarse clocks
		for f, b := range map[string][]byte{certFile: cert, keyFile: key} {
			if os.WriteFile(f, b, 0o600) != nil || os.Chtimes(f, at, at) != nil {
				t.Fatal("write")
			}
		}
	}
	c1, k1 := made("one.example")
	c2, k2 := made("two.example")
	put(c1, k1)
	c, err := New(Options{FS: vfs.OS(), CertFile: certFile, KeyFile: keyFile, Poll: time.Millisecond})
	if err != nil || c.SelfSigned() {
		t.Fatal(err, c.SelfSigned())
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	put(c2, k2)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); leaf(t, c.now.Load()).Subject.CommonName != "two.example"; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("not reloaded")
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	put(c1, k2)
	if err := c.Refresh(); errs.KindOf(err) != errs.Invalid || leaf(t, c.now.Load()).Subject.CommonName != "two.example" {
		t.Errorf("a bad pair was taken: %v", err)
	}
	os.Remove(keyFile)
	if err := c.Refresh(); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("missing file: %v", err)
	}
	if _, err := New(Options{FS: vfs.OS(), CertFile: certFile}); errs.KindOf(err) != errs.Invalid {
		t.Errorf("half a pair: %v", err)
	}
}
