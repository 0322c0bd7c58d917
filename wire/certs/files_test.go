package certs

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// made gives a self-signed pair for a domain.
func made(t testing.TB, domain string) (cert, key []byte) {
	t.Helper()
	fs := vfs.NewCrashDisk()
	if _, err := New(Options{FS: fs, Dir: "/x", Domain: domain}); err != nil {
		t.Fatal(err)
	}
	cert, err := vfs.ReadFile(fs, "/x/"+CertName)
	if err != nil {
		t.Fatal(err)
	}
	key, err = vfs.ReadFile(fs, "/x/"+KeyName)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func put(t testing.TB, fs vfs.FS, name string, text []byte) {
	t.Helper()
	if err := vfs.WriteFileAtomic(fs, name, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func served(t *testing.T, c *Certs) string {
	t.Helper()
	p, err := c.get(nil)
	if err != nil {
		t.Fatal(err)
	}
	return leaf(t, p).Subject.CommonName
}

// TestFilesReload: Run takes changed files over; a pair that does not fit together,
// whichever half was written first, and a chain that ends in the middle are not
// served, and are taken when they are whole.
func TestFilesReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c1, k1 := made(t, "one.example")
		c2, k2 := made(t, "two.example")
		fs := vfs.NewCrashDisk()
		put(t, fs, "/c", c1)
		put(t, fs, "/k", k1)
		var log bytes.Buffer
		c, err := New(Options{FS: fs, Domain: "one.example", CertFile: "/c", KeyFile: "/k", Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil || c.SelfSigned() || c.File() != "/c" {
			t.Fatal(err, c.SelfSigned(), c.File())
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		look := func(want string) {
			t.Helper()
			time.Sleep(time.Minute) // of the bubble: one look of Run
			synctest.Wait()
			if got := served(t, c); got != want {
				t.Errorf("serves %s, want %s", got, want)
			}
		}
		put(t, fs, "/k", k2)
		look("one.example")
		if log.Len() > 0 {
			t.Errorf("a pair was reported while it may be half written:\n%s", &log)
		}
		put(t, fs, "/c", append(bytes.Clone(c2), c1[:len(c1)/2]...)) // the chain is being written
		look("one.example")
		put(t, fs, "/c", c2)
		look("two.example")
		if !strings.Contains(log.String(), "does not name the domain") {
			t.Errorf("a certificate for another name was taken without a word:\n%s", &log)
		}
		log.Reset()
		put(t, fs, "/c", c1)
		for range 4 {
			look("two.example")
		}
		if n := strings.Count(log.String(), "the old one stays in use"); n != 1 {
			t.Errorf("reported %d times:\n%s", n, &log)
		}
		if s := c.Status(); s.Mode != "files" || s.Certs[0].Names[0] != "two.example" || !strings.Contains(s.Certs[0].Error, "do not fit together") {
			t.Errorf("status %+v", s)
		}
		put(t, fs, "/k", k1)
		look("one.example")
		if s := c.Status(); s.Certs[0].Error != "" {
			t.Errorf("status %+v", s)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestRefresh: an operator who asks hears at once what is wrong.
func TestRefresh(t *testing.T) {
	c1, k1 := made(t, "one.example")
	_, k2 := made(t, "two.example")
	fs := vfs.NewCrashDisk()
	put(t, fs, "/c", c1)
	put(t, fs, "/k", k1)
	c, err := New(Options{FS: fs, CertFile: "/c", KeyFile: "/k"})
	if err != nil {
		t.Fatal(err)
	}
	put(t, fs, "/k", k2)
	if err := c.Refresh(); errs.KindOf(err) != errs.Invalid || served(t, c) != "one.example" {
		t.Errorf("a bad pair: %v", err)
	}
	if err := fs.Remove("/k"); err != nil {
		t.Fatal(err)
	}
	if err := c.Refresh(); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("missing file: %v", err)
	}
	for _, o := range []Options{{FS: fs, CertFile: "/c"}, {FS: fs, CertFile: "/c", KeyFile: "/c", ACME: &ACME{}}} {
		if _, err := New(o); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%+v: %v", o, err)
		}
	}
	put(t, fs, "/cut", c1[:len(c1)-30])
	if _, err := New(Options{FS: fs, CertFile: "/cut", KeyFile: "/k"}); err == nil {
		t.Error("half a certificate was taken")
	}
}

// TestWarnings: what clients will complain about is told when a file is taken.
func TestWarnings(t *testing.T) {
	fs := vfs.NewCrashDisk()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	put(t, fs, "/k", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an authority"}, IsCA: true}
	now := time.Now()
	for _, x := range []struct {
		domain string
		age    time.Duration
		chain  bool
		want   []string
	}{
		{"example.org", 0, true, nil},
		{"example.org", 0, false, []string{"without its chain"}},
		{"other.example", 0, true, []string{"does not name the domain"}},
		{"example.org", 48 * time.Hour, true, []string{"no longer valid"}},
	} {
		leaf := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{x.domain}, NotBefore: now.Add(-x.age - time.Hour), NotAfter: now.Add(-x.age + time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		if x.chain {
			text = append(text, text...)
		}
		put(t, fs, "/c", text)
		var log bytes.Buffer
		if _, err := New(Options{FS: fs, Domain: "example.org", CertFile: "/c", KeyFile: "/k", Logger: slog.New(slog.NewTextHandler(&log, nil))}); err != nil {
			t.Fatal(err)
		}
		for _, w := range x.want {
			if !strings.Contains(log.String(), w) {
				t.Errorf("%+v: %s", x, &log)
			}
		}
		if len(x.want) == 0 && log.Len() > 0 {
			t.Errorf("%+v: %s", x, &log)
		}
	}
}

// TestSymlinkSwap: as certbot does it, and with times that do not tell: the new files
// are older than the old ones.
func TestSymlinkSwap(t *testing.T) {
	dir := t.TempDir()
	for i, name := range []string{"one.example", "two.example"} {
		cert, key := made(t, name)
		at := time.Now().Add(-time.Duration(i) * time.Hour)
		for f, b := range map[string][]byte{"cert": cert, "key": key} {
			p := filepath.Join(dir, f+[]string{"1", "2"}[i])
			if os.WriteFile(p, b, 0o600) != nil || os.Chtimes(p, at, at) != nil {
				t.Fatal("write")
			}
		}
	}
	turn := func(n string, files ...string) {
		t.Helper()
		for _, f := range files {
			if os.Symlink(f+n, filepath.Join(dir, "new")) != nil || os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, f)) != nil {
				t.Fatal("link")
			}
		}
	}
	turn("1", "cert", "key")
	c, err := New(Options{FS: vfs.OS(), CertFile: filepath.Join(dir, "cert"), KeyFile: filepath.Join(dir, "key")})
	if err != nil {
		t.Fatal(err)
	}
	turn("2", "cert")
	if err := c.Refresh(); err == nil || served(t, c) != "one.example" {
		t.Errorf("between the two links: serves %s, %v", served(t, c), err)
	}
	turn("2", "key")
	if err := c.Refresh(); err != nil || served(t, c) != "two.example" {
		t.Errorf("serves %s, %v", served(t, c), err)
	}
}
