package smtp

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/wire/sasl"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// got is one mail that the fake backend took.
type got struct {
	From  string
	Mail  MailOptions
	To    []string
	Rcpt  []RcptOptions
	Raw   string
	Login string
}

// fake is a backend that takes everything but a few magic names.
type fake struct {
	mu     sync.Mutex
	mails  []got
	infos  []Info
	open   int // transfers without Commit or Abort
	resets int
	hold   chan struct{} // when set, Commit waits for it
	held   chan struct{} // when set, closed by a Commit that waits
	quiet  bool          // keep no mails (benchmarks)
}

func (f *fake) NewSession(_ context.Context, c Info) (Session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.infos = append(f.infos, c)
	return &fakeSession{f: f}, nil
}

func (f *fake) taken() []got {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]got(nil), f.mails...)
}

type fakeSession struct {
	f     *fake
	login string
	cur   got
}

func (s *fakeSession) Auth(_ context.Context, c sasl.Credentials) error {
	switch {
	case c.Username == "busy":
		return errs.E("fake", errs.Busy, "slow down", nil)
	case c.Password != "secret":
		return errs.E("fake", errs.Auth, "", errors.New("private cause of "+c.Username))
	}
	s.login = c.Username
	return nil
}

func (s *fakeSession) Mail(_ context.Context, from mail.Address, o MailOptions) error {
	if from.Local == "wordy" {
		return reply(550, "5.7.1", strings.Repeat("ü", 300))
	}
	if from.Local == "blocked" {
		return reply(550, "5.7.1", "blocked")
	}
	s.cur = got{From: from.String(), Mail: o, Login: s.login}
	return nil
}

func (s *fakeSession) Rcpt(_ context.Context, to mail.Address, o RcptOptions) error {
	switch to.Local {
	case "unknown":
		return errs.E("fake", errs.NotFound, "no such user", errors.New("private"))
	case "bug":
		return errors.New("an inner secret")
	}
	s.cur.To = append(s.cur.To, to.String())
	s.cur.Rcpt = append(s.cur.Rcpt, o)
	return nil
}

func (s *fakeSession) Data(context.Context) (Transfer, error) {
	if s.cur.From == "nodata@example.org" {
		return nil, errs.E("fake", errs.NoSpace, "", nil)
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	s.f.open++
	return s, nil
}

func (s *fakeSession) Commit(ctx context.Context, raw []byte) error {
	if s.f.hold != nil {
		if s.f.held != nil {
			close(s.f.held)
		}
		select {
		case <-s.f.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	s.f.open--
	if bytes.Contains(raw, []byte("X-Refuse: 1")) {
		return reply(523, "", "Encryption Needed: Invalid Unencrypted Mail")
	}
	if s.f.quiet {
		return nil
	}
	s.cur.Raw = string(raw)
	s.f.mails = append(s.f.mails, s.cur)
	return nil
}

func (s *fakeSession) Abort() {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	s.f.open--
}

func (s *fakeSession) Reset() {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	s.f.resets++
	s.cur = got{}
}

func (s *fakeSession) Close() {}

// testTLS makes a certificate for tests and the client's side of it.
func testTLS(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"},
		DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		&tls.Config{RootCAs: pool, ServerName: "localhost"}
}

// start serves o on a free port until the test ends and gives the address.
func start(t testing.TB, o Options) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, o) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String()
}

// client is a bare hand on the wire.
type client struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

func dial(t testing.TB, addr string, conf *tls.Config) *client {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if conf != nil {
		conn = tls.Client(conn, conf)
	}
	c := &client{t: t, conn: conn, r: bufio.NewReader(conn)}
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { conn.Close() })
	return c
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, s); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// line reads one line without its end; "" at the end of the stream.
func (c *client) line() string {
	c.t.Helper()
	s, err := c.r.ReadString('\n')
	if err != nil && s == "" {
		return ""
	}
	if !strings.HasSuffix(s, "\r\n") {
		c.t.Fatalf("reply line %q without CRLF", s)
	}
	return s[:len(s)-2]
}

// expect reads one whole reply whose last line begins with want.
func (c *client) expect(want string) string {
	c.t.Helper()
	for {
		l := c.line()
		if len(l) > 3 && l[3] == '-' {
			continue
		}
		if !strings.HasPrefix(l, want) {
			c.t.Fatalf("reply %q, want %q", l, want)
		}
		return l
	}
}

// closed waits for the server's end of the stream.
func (c *client) closed() {
	c.t.Helper()
	b, err := io.ReadAll(c.r)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		c.t.Fatal("the connection is still open")
	}
	if len(b) > 0 {
		c.t.Fatalf("more came: %q", b)
	}
}

// eventually polls until ok or ten seconds have passed.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	end := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("never happened: %s", what)
		}
	}
}
