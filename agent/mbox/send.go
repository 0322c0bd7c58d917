package mbox

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/wire/smtp"
)

// Sender is a way on which mail leaves.
type Sender interface {
	// Open begins to send some mails, one after another. An error means that the way does not work
	// now, for nobody.
	Open(ctx context.Context) (Session, error)
}

// Session sends mails. It is for one goroutine.
type Session interface {
	// Send returns nil when somebody else has taken the mail over. errs.Unavailable: the
	// session broke, and nothing is known of the mail; errs.Canceled: ctx ended. Other
	// temporary kinds: this recipient cannot be reached now. Any other kind: it never will be.
	Send(ctx context.Context, from, to mail.Address, text []byte) error
	Close()
}

// SMTP is a mail server that takes all mail of this node (mixminiond's SMTPServer).
type SMTP struct {
	Address  string // host and port; the port may be missing: 25
	Hostname string // what this node calls itself
	TLS      *tls.Config
	// Dial connects; nil: a TCP connection within DialTime.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// Bounds of sending.
const (
	DialTime    = 30 * time.Second
	CommandTime = 5 * time.Minute // of one mail by a command
	maxOutput   = 4 << 10         // of a command, in the cause of an error
)

// host gives host and port.
func (s *SMTP) host() (host, address string) {
	host, port, err := net.SplitHostPort(s.Address)
	if err != nil {
		host, port = strings.Trim(s.Address, "[]"), "25"
	}
	return host, net.JoinHostPort(host, port)
}

// local reports whether a host is this machine: mail to it crosses no network.
func local(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
}

// Open connects. To another machine mail goes only under TLS with a certificate that the
// TLS configuration believes.
func (s *SMTP) Open(ctx context.Context) (Session, error) {
	const op = "agent/mbox.SMTP.Open"
	host, address := s.host()
	dial := s.Dial
	if dial == nil {
		dial = func(ctx context.Context, address string) (net.Conn, error) {
			d := net.Dialer{Timeout: DialTime}
			return d.DialContext(ctx, "tcp", address)
		}
	}
	conn, err := dial(ctx, address)
	if err != nil {
		return nil, errs.E(op, errs.Unavailable, "the mail server cannot be reached", err)
	}
	o := smtp.ClientOptions{Hostname: s.Hostname, Host: host}
	if !local(host) {
		o.TLS, o.RequireTLS = s.TLS, true
		if o.TLS == nil {
			o.TLS = &tls.Config{}
		}
	}
	c, err := smtp.NewClient(ctx, conn, o)
	if err != nil {
		if errs.KindOf(err) == errs.Canceled {
			return nil, errs.Wrap(op, err)
		}
		return nil, errs.E(op, errs.Unavailable, "the mail server takes no mail from this node", err)
	}
	return &smtpSession{c}, nil
}

type smtpSession struct{ c *smtp.Client }

func (s *smtpSession) Close() { s.c.Quit() }

func (s *smtpSession) Send(ctx context.Context, from, to mail.Address, text []byte) error {
	const op = "agent/mbox.SMTP.Send"
	if !s.c.Reusable() {
		return errs.E(op, errs.Unavailable, "", errors.New("the connection is used up"))
	}
	e := smtp.Envelope{From: from, Rcpts: []smtp.Recipient{{To: to}}}
	if bytes.ContainsFunc(text, func(r rune) bool { return r >= 0x80 }) {
		e.Options.Body = smtp.Body8Bit
	}
	sent, err := s.c.Send(ctx, e, bytes.NewReader(text))
	if len(sent.Rcpts) == 1 {
		var reply *smtp.Reply
		switch r := sent.Rcpts[0]; {
		case r == nil:
			return nil
		case errors.As(r, &reply) && reply.Code >= 500:
			return errs.E(op, errs.Denied, "", r)
		case errors.As(r, &reply):
			return errs.E(op, errs.Busy, "", r)
		}
	}
	switch errs.KindOf(err) {
	case errs.Canceled, errs.Invalid, errs.TooLarge:
		return errs.Wrap(op, err)
	}
	return errs.E(op, errs.Unavailable, "the mail server ended the connection", err)
}

// Command is a program that takes a mail on its standard input and its recipients from the fields
// To (mixminiond's SendmailCommand): "sendmail -i -t".
type Command struct {
	Args []string // the program, found as execvp(3) finds it, and its arguments; no shell is involved
	// Run starts it; nil: os/exec. It gives the exit status, or an error where it could not
	// be started or ended by a signal.
	Run func(ctx context.Context, args []string, stdin []byte) (status int, err error)
}

// ParseCommand cuts a command at white space; parts may stand between quotes. errs.Invalid.
func ParseCommand(s string) (*Command, error) {
	const op = "agent/mbox.ParseCommand"
	var args []string
	var word strings.Builder
	in, quote := false, rune(0)
	for _, r := range s {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '"' || r == '\'':
			in, quote = true, r
		case r == ' ' || r == '\t' || r == '\n':
			if in {
				args = append(args, word.String())
				word.Reset()
			}
			in = false
		case r == 0:
			return nil, errs.E(op, errs.Invalid, "a command has no zero byte", nil)
		default:
			in = true
			word.WriteRune(r)
		}
	}
	if quote != 0 {
		return nil, errs.E(op, errs.Invalid, "a quote in the command is not closed", nil)
	}
	if in {
		args = append(args, word.String())
	}
	if len(args) == 0 || args[0] == "" {
		return nil, errs.E(op, errs.Invalid, "the command is empty", nil)
	}
	return &Command{Args: args}, nil
}

// Open does nothing: each mail is a run of its own.
func (c *Command) Open(context.Context) (Session, error) { return commandSession{c}, nil }

type commandSession struct{ c *Command }

func (commandSession) Close() {}

// Exit statuses of sysexits.h.
const (
	exDataErr     = 65
	exNoUser      = 67
	exNoHost      = 68
	exUnavailable = 69
	exNoPerm      = 77
)

func (s commandSession) Send(ctx context.Context, _, _ mail.Address, text []byte) error {
	const op = "agent/mbox.Command.Send"
	run := s.c.Run
	if run == nil {
		run = runCommand
	}
	ctx, cancel := context.WithTimeout(ctx, CommandTime)
	defer cancel()
	// Programs expect the line ends of the machine.
	status, err := run(ctx, s.c.Args, bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")))
	switch {
	case err != nil:
		return errs.E(op, errs.Unavailable, "the command that sends mail could not be run", err)
	case status == 0:
		return nil
	case status == exDataErr || status == exNoUser || status == exNoHost || status == exUnavailable || status == exNoPerm:
		return errs.E(op, errs.Denied, "", fmt.Errorf("exit status %d", status))
	}
	return errs.E(op, errs.Busy, "", fmt.Errorf("exit status %d", status))
}

// tail keeps the end of what was written.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	t.b = t.b[max(0, len(t.b)-maxOutput):]
	return len(p), nil
}

func runCommand(ctx context.Context, args []string, stdin []byte) (int, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin = bytes.NewReader(stdin)
	var out tail
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, out.b)
	}
	return 0, nil
}
