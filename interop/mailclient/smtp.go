package mailclient

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Reply is one SMTP reply: the code and the text of all lines, joined by "\n".
type Reply struct {
	Code int
	Text string
}

func (r Reply) String() string { return fmt.Sprintf("%d %s", r.Code, r.Text) }

// SMTPError is a reply that was not the one hoped for.
type SMTPError struct {
	At string // "MAIL", "RCPT", "DATA", "end of data", "AUTH", ...
	Reply
}

func (e *SMTPError) Error() string { return "at " + e.At + ": " + e.Reply.String() }

// CodeOf gives the SMTP code within err, or 0.
func CodeOf(err error) int {
	var se *SMTPError
	if errors.As(err, &se) {
		return se.Code
	}
	return 0
}

// SMTP is one session. It is not safe for concurrent use.
type SMTP struct {
	Timeout    time.Duration // one step
	Extensions []string      // the EHLO lines after the first
	Greeting   string

	conn net.Conn
	r    *bufio.Reader
	out  []byte
}

// DialSMTP connects, says EHLO and, with STARTTLS, upgrades.
func DialSMTP(addr string, sec Security, d Dialer) (*SMTP, error) {
	conn, err := d.dial(addr, sec == TLS)
	if err != nil {
		return nil, err
	}
	c := &SMTP{Timeout: d.timeout(), conn: conn, r: bufio.NewReaderSize(conn, 2048)}
	fail := func(err error) (*SMTP, error) { c.conn.Close(); return nil, err }
	greet, err := c.read()
	if err != nil {
		return fail(err)
	}
	if greet.Code != 220 {
		return fail(&SMTPError{"greeting", greet})
	}
	c.Greeting = greet.Text
	if err := c.ehlo(); err != nil {
		return fail(err)
	}
	if sec != STARTTLS {
		return c, nil
	}
	if _, err := c.expect("STARTTLS", 220, "STARTTLS"); err != nil {
		return fail(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), d.timeout())
	defer cancel()
	conn, err = handshake(ctx, c.conn, d.config())
	if err != nil {
		return fail(err)
	}
	c.conn = conn
	c.r.Reset(conn)
	if err := c.ehlo(); err != nil {
		return fail(err)
	}
	return c, nil
}

func (c *SMTP) ehlo() error {
	rep, err := c.expect("EHLO", 250, "EHLO [127.0.0.1]")
	if err != nil {
		return err
	}
	lines := strings.Split(rep.Text, "\n")
	c.Extensions = lines[1:]
	return nil
}

// Has reports whether the server offers an extension ("PIPELINING").
func (c *SMTP) Has(ext string) bool {
	for _, e := range c.Extensions {
		if name, _, _ := strings.Cut(e, " "); strings.EqualFold(name, ext) {
			return true
		}
	}
	return false
}

func (c *SMTP) deadline() {
	t := c.Timeout
	if t == 0 {
		t = DefaultTimeout
	}
	_ = c.conn.SetDeadline(time.Now().Add(t))
}

func (c *SMTP) read() (Reply, error) {
	c.deadline()
	var rep Reply
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return rep, err
		}
		s := strings.TrimRight(string(line), "\r\n")
		if len(s) < 3 || s[0] < '2' || s[0] > '5' {
			return rep, fmt.Errorf("not an SMTP reply: %q", s)
		}
		code := int(s[0]-'0')*100 + int(s[1]-'0')*10 + int(s[2]-'0')
		more := len(s) > 3 && s[3] == '-'
		text := ""
		if len(s) > 4 {
			text = s[4:]
		}
		if rep.Code == 0 {
			rep = Reply{code, text}
		} else {
			rep.Text += "\n" + text
		}
		if !more {
			return rep, nil
		}
	}
}

// Cmd sends one line (without CRLF) and reads one reply, whatever it is.
func (c *SMTP) Cmd(line string) (Reply, error) {
	if err := c.Raw(line + "\r\n"); err != nil {
		return Reply{}, err
	}
	return c.read()
}

// Raw writes bytes as they are.
func (c *SMTP) Raw(s string) error {
	c.deadline()
	_, err := io.WriteString(c.conn, s)
	return err
}

// ReadReply reads the next reply.
func (c *SMTP) ReadReply() (Reply, error) { return c.read() }

func (c *SMTP) expect(at string, code int, line string) (Reply, error) {
	rep, err := c.Cmd(line)
	if err == nil && rep.Code != code {
		err = &SMTPError{at, rep}
	}
	return rep, err
}

// AuthPlain logs in with AUTH PLAIN and an initial response (RFC 4616).
func (c *SMTP) AuthPlain(user, password string) error {
	_, err := c.expect("AUTH", 235, "AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)))
	return err
}

// Send sends one mail and returns when the server answered the end of data.
// data must be CRLF text that ends with CRLF; leading dots are stuffed only
// when it has any. With PIPELINING the envelope goes out in one write.
// A refused recipient fails the whole mail (it is reset).
func (c *SMTP) Send(from string, to []string, data []byte) error {
	if err := c.Envelope(from, to); err != nil {
		return err
	}
	return c.Data(data)
}

// Envelope sends MAIL, RCPT and DATA up to the 354.
func (c *SMTP) Envelope(from string, to []string) error {
	b := c.out[:0]
	b = append(b, "MAIL FROM:<"...)
	b = append(b, from...)
	b = append(b, ">\r\n"...)
	if !c.Has("PIPELINING") {
		return c.slowEnvelope(from, to)
	}
	for _, rcpt := range to {
		b = append(b, "RCPT TO:<"...)
		b = append(b, rcpt...)
		b = append(b, ">\r\n"...)
	}
	b = append(b, "DATA\r\n"...)
	c.out = b
	c.deadline()
	if _, err := c.conn.Write(b); err != nil {
		return err
	}
	var first error
	check := func(at string, want int) (Reply, error) {
		rep, err := c.read()
		if err != nil {
			return rep, err
		}
		if rep.Code != want && first == nil {
			first = &SMTPError{at, rep}
		}
		return rep, nil
	}
	if _, err := check("MAIL", 250); err != nil {
		return err
	}
	for range to {
		if _, err := check("RCPT", 250); err != nil {
			return err
		}
	}
	rep, err := check("DATA", 354)
	if err != nil {
		return err
	}
	if first == nil {
		return nil
	}
	// RFC 2920 §3.1: with some recipients accepted the server waits for data
	// now; an empty mail would be sent, so the session is of no more use.
	if rep.Code == 354 {
		c.conn.Close()
		return first
	}
	if _, err := c.Cmd("RSET"); err != nil {
		return err
	}
	return first
}

func (c *SMTP) slowEnvelope(from string, to []string) error {
	step := func(at string, want int, line string) error {
		_, err := c.expect(at, want, line)
		var se *SMTPError
		if errors.As(err, &se) {
			if _, e := c.Cmd("RSET"); e != nil {
				return e
			}
		}
		return err
	}
	if err := step("MAIL", 250, "MAIL FROM:<"+from+">"); err != nil {
		return err
	}
	for _, rcpt := range to {
		if err := step("RCPT", 250, "RCPT TO:<"+rcpt+">"); err != nil {
			return err
		}
	}
	return step("DATA", 354, "DATA")
}

// Data sends the mail after a 354 and reads the answer.
func (c *SMTP) Data(data []byte) error {
	b := c.out[:0]
	if hasLeadingDot(data) {
		b = appendStuffed(b, data)
	} else {
		b = append(b, data...)
	}
	b = append(b, ".\r\n"...)
	c.out = b
	c.deadline()
	if _, err := c.conn.Write(b); err != nil {
		return err
	}
	rep, err := c.read()
	if err != nil {
		return err
	}
	if rep.Code != 250 {
		return &SMTPError{"end of data", rep}
	}
	return nil
}

// Quit says QUIT and closes.
func (c *SMTP) Quit() {
	_, _ = c.Cmd("QUIT")
	c.conn.Close()
}

// Close drops the connection.
func (c *SMTP) Close() { c.conn.Close() }

func hasLeadingDot(data []byte) bool {
	if len(data) > 0 && data[0] == '.' {
		return true
	}
	for i := 1; i < len(data); i++ {
		if data[i] == '.' && data[i-1] == '\n' {
			return true
		}
	}
	return false
}

func appendStuffed(b, data []byte) []byte {
	start := true
	for _, ch := range data {
		if start && ch == '.' {
			b = append(b, '.')
		}
		b = append(b, ch)
		start = ch == '\n'
	}
	return b
}
