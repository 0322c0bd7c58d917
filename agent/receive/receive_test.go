package receive

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/mail"
	"postern.email/wire/sasl"
	"postern.email/wire/smtp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func certificate(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mail.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// TestRefused: in the clear STARTTLS is asked for; under TLS the honest answer comes at
// MAIL, with a text for the sender's bounce, and no login is offered.
func TestRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- smtp.Serve(ctx, l, smtp.Options{Hostname: "mail.example", Backend: New(), TLS: certificate(t), RequireTLS: true})
	}()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(conn)
	cmd := func(line, want string) string {
		t.Helper()
		if line != "" {
			fmt.Fprintf(conn, "%s\r\n", line)
		}
		var all string
		for {
			got, err := r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			all += got
			if got[3] == ' ' {
				if !strings.HasPrefix(got, want) {
					t.Fatalf("%q: %q, want %q", line, got, want)
				}
				return all
			}
		}
	}
	cmd("", "220 ")
	if got := cmd("EHLO other.example", "250 "); !strings.Contains(got, "STARTTLS") || strings.Contains(got, "AUTH") {
		t.Errorf("%q", got)
	}
	cmd("MAIL FROM:<x@other.example>", "530 5.7.0 Must issue a STARTTLS command first")
	cmd("STARTTLS", "220 ")
	conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	r = bufio.NewReader(conn)
	if got := cmd("EHLO other.example", "250 "); strings.Contains(got, "AUTH") {
		t.Errorf("%q", got)
	}
	cmd("MAIL FROM:<x@other.example>", "554 5.3.2 this relay does not take mail from other hosts yet")
	cmd("RCPT TO:<anna@mail.example>", "503 5.5.1")
	cmd("DATA", "503 5.5.1")
	cmd("QUIT", "221 ")
}

// TestEveryDoorIsShut: no step of the session says yes.
func TestEveryDoorIsShut(t *testing.T) {
	s, err := New().NewSession(t.Context(), smtp.Info{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	defer s.Reset()
	_, data := s.Data(t.Context())
	for what, err := range map[string]error{
		"AUTH": s.Auth(t.Context(), sasl.Credentials{}), "DATA": data,
		"MAIL": s.Mail(t.Context(), mail.Address{}, smtp.MailOptions{}),
		"RCPT": s.Rcpt(t.Context(), mail.Address{}, smtp.RcptOptions{}),
	} {
		if r, ok := err.(*smtp.Reply); !ok || r.Code/100 != 5 {
			t.Errorf("%s: %v", what, err)
		}
	}
}
