package mbox

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/wire/sasl"
	"postern.email/wire/smtp"
)

// commandEnv makes the test binary a program that takes a mail: the variable holds the file to
// write it to, and the exit status.
const commandEnv = "POSTERN_TEST_SENDMAIL"

func asCommand() bool {
	file, status, ok := strings.Cut(os.Getenv(commandEnv), "|")
	if !ok {
		return false
	}
	text, err := io.ReadAll(os.Stdin)
	if err == nil {
		err = os.WriteFile(file, append([]byte(strings.Join(os.Args[1:], ",")+"\n"), text...), 0o600)
	}
	code := 99
	if err == nil {
		_, _ = fmt.Sscan(status, &code)
	}
	os.Exit(code)
	return true
}

// TestCommand: a command gets the mail on its standard input with the machine's line ends, and its
// arguments as they stand, without a shell; its exit status decides.
func TestCommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mail")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseCommand(fmt.Sprintf(`"%s" -i "-f x" $HOME ';'`, self))
	if err != nil {
		t.Fatal(err)
	}
	for status, want := range map[int]errs.Kind{0: errs.KindOf(nil), 1: errs.Busy, 65: errs.Denied, 67: errs.Denied, 68: errs.Denied, 69: errs.Denied, 75: errs.Busy, 77: errs.Denied, 78: errs.Busy} {
		t.Setenv(commandEnv, fmt.Sprintf("%s|%d", file, status))
		s, err := c.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		err = s.Send(t.Context(), mail.Address{}, fred, []byte("To: fred@fred.com\r\n\r\n.\r\nText\r\n"))
		s.Close()
		if (status == 0) != (err == nil) || err != nil && errs.KindOf(err) != want {
			t.Errorf("status %d: %v", status, err)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != "-i,-f x,$HOME,;\nTo: fred@fred.com\n\n.\nText\n" {
			t.Errorf("%q, %v", got, err)
		}
	}
	gone := &Command{Args: []string{filepath.Join(t.TempDir(), "missing")}}
	s, err := gone.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), mail.Address{}, fred, nil); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("a command that is not there: %v", err)
	}
}

// TestParseCommand: words, quotes, and mistakes.
func TestParseCommand(t *testing.T) {
	for in, want := range map[string][]string{
		"sendmail -i -t":            {"sendmail", "-i", "-t"},
		"  /usr/sbin/sendmail\t-t ": {"/usr/sbin/sendmail", "-t"},
		`a "b c" 'd"e' f""g ""`:     {"a", "b c", `d"e`, "fg", ""},
	} {
		if c, err := ParseCommand(in); err != nil || !slices.Equal(c.Args, want) {
			t.Errorf("%q: %v, %v", in, c, err)
		}
	}
	for in, want := range map[string]string{
		"": "the command is empty", "  ": "the command is empty", `"" a`: "the command is empty",
		`a "b`: "a quote in the command is not closed", "a\x00": "a command has no zero byte",
	} {
		if _, err := ParseCommand(in); errs.KindOf(err) != errs.Invalid || errs.Public(err) != want {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// server is a mail server on loopback whose answers the test decides.
type server struct {
	mu    sync.Mutex
	rcpt  error
	mails []string
	conns int
}

func (s *server) NewSession(context.Context, smtp.Info) (smtp.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns++
	return &serverSession{s: s}, nil
}

type serverSession struct {
	s        *server
	envelope string
}

func (c *serverSession) Auth(context.Context, sasl.Credentials) error { return errs.Denied }

func (c *serverSession) Mail(_ context.Context, from mail.Address, _ smtp.MailOptions) error {
	c.envelope = from.String()
	return nil
}

func (c *serverSession) Rcpt(_ context.Context, to mail.Address, _ smtp.RcptOptions) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.envelope += " > " + to.String()
	return c.s.rcpt
}

func (c *serverSession) Data(context.Context) (smtp.Transfer, error) { return c, nil }

func (c *serverSession) Commit(_ context.Context, raw []byte) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.mails = append(c.s.mails, c.envelope+"\n"+string(raw))
	return nil
}

func (c *serverSession) Abort() {}
func (c *serverSession) Reset() {}
func (c *serverSession) Close() {}

// serve runs the server on loopback and gives its address.
func (s *server) serve(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- smtp.Serve(ctx, l, smtp.Options{Backend: s}) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return l.Addr().String()
}

// TestSMTP: mails go to the server over one connection, with the return address as envelope sender; a refusal
// is for good or for now as the server says, and a server that is not there is the way's
// failure, not the mail's.
func TestSMTP(t *testing.T) {
	s := &server{}
	way := &SMTP{Address: s.serve(t), Hostname: "mix.example"}
	session, err := way.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	from := mail.Address{Local: "anon", Domain: "mix.example"}
	send := func() error {
		return session.Send(t.Context(), from, fred, []byte("To: fred@fred.com\r\n\r\n.Text\r\n"))
	}
	for range 2 {
		if err := send(); err != nil {
			t.Fatal(err)
		}
	}
	for code, want := range map[int]errs.Kind{450: errs.Busy, 452: errs.Busy, 550: errs.Denied, 552: errs.Denied} {
		s.mu.Lock()
		s.rcpt = &smtp.Reply{Code: code, Enhanced: fmt.Sprintf("%d.1.1", code/100), Text: "no"}
		s.mu.Unlock()
		if err := send(); errs.KindOf(err) != want || strings.Contains(errs.Public(err), "fred") {
			t.Errorf("%d: %v", code, err)
		}
	}
	s.mu.Lock()
	s.rcpt = nil
	if len(s.mails) != 2 || s.mails[0] != "anon@mix.example > fred@fred.com\nTo: fred@fred.com\r\n\r\n.Text\r\n" || s.conns != 1 {
		t.Errorf("%d connections: %q", s.conns, s.mails)
	}
	s.mu.Unlock()
	if err := send(); err != nil {
		t.Error(err)
	}
	session.Close()
	if err := send(); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("a session that is closed: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := way.Open(ctx); err == nil {
		t.Error("the context has ended")
	}
	way.Dial = func(context.Context, string) (net.Conn, error) { return nil, errors.New("refused") }
	if _, err := way.Open(t.Context()); errs.KindOf(err) != errs.Unavailable || errs.Public(err) != "the mail server cannot be reached" {
		t.Errorf("no server: %v", err)
	}
}

// TestSMTPNeedsTLS: to another machine nothing is sent without TLS; to this one it is.
func TestSMTPNeedsTLS(t *testing.T) {
	s := &server{}
	address := s.serve(t)
	var asked string
	way := &SMTP{Address: "mail.example", TLS: &tls.Config{}, Dial: func(ctx context.Context, a string) (net.Conn, error) {
		asked = a
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}}
	if _, err := way.Open(t.Context()); errs.KindOf(err) != errs.Unavailable || !errors.Is(err, smtp.ErrNoTLS) {
		t.Errorf("without TLS: %v", err)
	}
	if asked != "mail.example:25" {
		t.Errorf("asked for %s", asked)
	}
	for _, local := range []string{"localhost", "127.0.0.1:2525", "[::1]", "::1", "[::1]:25", "LOCALHOST:25"} {
		way.Address = local
		session, err := way.Open(t.Context())
		if err != nil {
			t.Errorf("%s: %v", local, err)
			continue
		}
		session.Close()
	}
	if asked != "LOCALHOST:25" {
		t.Errorf("asked for %s", asked)
	}
}
