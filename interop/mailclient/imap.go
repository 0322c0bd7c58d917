package mailclient

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// maxLiteral bounds what one response may make this client hold.
const maxLiteral = 64 << 20

// Response is one IMAP response: its text, in which each literal is replaced by
// "{i}" (i counting from 0), and the literals.
type Response struct {
	Text     string
	Literals [][]byte
}

// IMAPError is a tagged NO or BAD.
type IMAPError struct {
	Command string // first word
	Text    string // "NO [AUTHENTICATIONFAILED] ..."
}

func (e *IMAPError) Error() string { return e.Command + ": " + e.Text }

// IMAP is one session. It is not safe for concurrent use, except that Close may
// be called at any time.
type IMAP struct {
	Timeout  time.Duration
	Greeting string
	LoginOK  string // text of the tagged OK of LOGIN

	conn net.Conn
	r    *bufio.Reader
	n    int
}

// DialIMAP connects, reads the greeting and, with STARTTLS, upgrades.
func DialIMAP(addr string, sec Security, d Dialer) (*IMAP, error) {
	conn, err := d.dial(addr, sec == TLS)
	if err != nil {
		return nil, err
	}
	c := &IMAP{Timeout: d.timeout(), conn: conn, r: bufio.NewReaderSize(conn, 4096)}
	c.deadline(c.Timeout)
	greet, err := c.response()
	if err != nil {
		conn.Close()
		return nil, err
	}
	c.Greeting = greet.Text
	if !strings.HasPrefix(greet.Text, "* OK") {
		conn.Close()
		return nil, &IMAPError{"greeting", greet.Text}
	}
	if sec != STARTTLS {
		return c, nil
	}
	if _, err := c.Cmd("STARTTLS"); err != nil {
		conn.Close()
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), d.timeout())
	defer cancel()
	tc, err := handshake(ctx, conn, d.config())
	if err != nil {
		return nil, err
	}
	c.conn = tc
	c.r.Reset(tc)
	return c, nil
}

func (c *IMAP) deadline(t time.Duration) {
	if t == 0 {
		t = DefaultTimeout
	}
	_ = c.conn.SetDeadline(time.Now().Add(t))
}

// response reads one response with its literals.
func (c *IMAP) response() (Response, error) {
	var resp Response
	var text strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return resp, err
		}
		line = strings.TrimRight(line, "\r\n")
		size, head, ok := literalAt(line)
		if !ok {
			text.WriteString(line)
			resp.Text = text.String()
			return resp, nil
		}
		if size > maxLiteral {
			return resp, fmt.Errorf("literal of %d bytes", size)
		}
		lit := make([]byte, size)
		if _, err := io.ReadFull(c.r, lit); err != nil {
			return resp, err
		}
		text.WriteString(head)
		fmt.Fprintf(&text, "{%d}", len(resp.Literals))
		resp.Literals = append(resp.Literals, lit)
	}
}

func literalAt(line string) (size int, head string, ok bool) {
	if !strings.HasSuffix(line, "}") {
		return 0, "", false
	}
	i := strings.LastIndexByte(line, '{')
	if i < 0 {
		return 0, "", false
	}
	n, err := strconv.Atoi(strings.TrimSuffix(line[i+1:len(line)-1], "+"))
	if err != nil || n < 0 {
		return 0, "", false
	}
	if strings.HasSuffix(line[:i], "~") { // literal8, RFC 3516
		i--
	}
	return n, line[:i], true
}

// Cmd sends one command and collects the untagged responses until the tagged
// one, which is the last of the result. NO and BAD are an *IMAPError.
func (c *IMAP) Cmd(format string, args ...any) ([]Response, error) {
	var all []Response
	err := c.Each(func(r Response) { all = append(all, r) }, format, args...)
	return all, err
}

// Each is Cmd with a function called for each response (for long fetches).
func (c *IMAP) Each(f func(Response), format string, args ...any) error {
	line := fmt.Sprintf(format, args...)
	tag, err := c.start(line)
	if err != nil {
		return err
	}
	return c.finish(tag, line, f)
}

func (c *IMAP) start(line string) (tag string, err error) {
	c.n++
	tag = "t" + strconv.Itoa(c.n)
	c.deadline(c.Timeout)
	_, err = io.WriteString(c.conn, tag+" "+line+"\r\n")
	return tag, err
}

func (c *IMAP) finish(tag, line string, f func(Response)) error {
	for {
		c.deadline(c.Timeout)
		resp, err := c.response()
		if err != nil {
			return err
		}
		if f != nil {
			f(resp)
		}
		if rest, ok := strings.CutPrefix(resp.Text, tag+" "); ok {
			if strings.HasPrefix(rest, "OK") {
				return nil
			}
			word, _, _ := strings.Cut(line, " ")
			return &IMAPError{word, rest}
		}
		if strings.HasPrefix(resp.Text, "* BYE") && !strings.HasPrefix(line, "LOGOUT") {
			return errors.New(resp.Text)
		}
	}
}

// Quote makes an IMAP quoted string.
func Quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// Login logs in.
func (c *IMAP) Login(user, password string) error {
	all, err := c.Cmd("LOGIN %s %s", Quote(user), Quote(password))
	if err == nil {
		c.LoginOK = all[len(all)-1].Text
	}
	return err
}

// Mailbox is what SELECT said.
type Mailbox struct {
	Exists      int
	UIDNext     int
	UIDValidity int
}

// Select opens a mailbox.
func (c *IMAP) Select(name string) (Mailbox, error) {
	var m Mailbox
	err := c.Each(func(r Response) {
		var n int
		if _, err := fmt.Sscanf(r.Text, "* %d EXISTS", &n); err == nil {
			m.Exists = n
		}
		if _, err := fmt.Sscanf(r.Text, "* OK [UIDNEXT %d]", &n); err == nil {
			m.UIDNext = n
		}
		if _, err := fmt.Sscanf(r.Text, "* OK [UIDVALIDITY %d]", &n); err == nil {
			m.UIDValidity = n
		}
	}, "SELECT %s", Quote(name))
	return m, err
}

// Message is one fetched mail.
type Message struct {
	UID   int
	Flags string // as sent, without the parentheses
	Raw   []byte
}

// FetchAll calls f for each message of the selected mailbox with UIDs in set
// ("1:*"), with the full text.
func (c *IMAP) FetchAll(set string, f func(Message)) error {
	return c.Each(messages(f), "UID FETCH %s (FLAGS BODY.PEEK[])", set)
}

// messages turns FETCH responses with a literal into messages.
func messages(f func(Message)) func(Response) {
	return func(r Response) {
		if !strings.Contains(r.Text, " FETCH (") || len(r.Literals) == 0 {
			return
		}
		m := Message{Raw: r.Literals[0]}
		if _, rest, ok := strings.Cut(r.Text, "UID "); ok {
			_, _ = fmt.Sscanf(rest, "%d", &m.UID)
		}
		if _, rest, ok := strings.Cut(r.Text, "FLAGS ("); ok {
			m.Flags, _, _ = strings.Cut(rest, ")")
		}
		f(m)
	}
}

// Append stores a message and returns the tagged OK text.
func (c *IMAP) Append(mailbox, flags string, data []byte) (string, error) {
	line := fmt.Sprintf("APPEND %s (%s) {%d}", Quote(mailbox), flags, len(data))
	tag, err := c.start(line)
	if err != nil {
		return "", err
	}
	if err := c.continuation(tag, line); err != nil {
		return "", err
	}
	c.deadline(c.Timeout)
	if _, err := c.conn.Write(append(data[:len(data):len(data)], "\r\n"...)); err != nil {
		return "", err
	}
	var last string
	err = c.finish(tag, line, func(r Response) { last = r.Text })
	return last, err
}

// continuation reads up to the "+" of a command that waits for it.
func (c *IMAP) continuation(tag, line string) error {
	for {
		c.deadline(c.Timeout)
		resp, err := c.response()
		if err != nil {
			return err
		}
		if strings.HasPrefix(resp.Text, "+") {
			return nil
		}
		if rest, ok := strings.CutPrefix(resp.Text, tag+" "); ok {
			word, _, _ := strings.Cut(line, " ")
			return &IMAPError{word, rest}
		}
	}
}

// Idle starts IDLE (RFC 2177); Wait and Done follow.
func (c *IMAP) Idle() error {
	tag, err := c.start("IDLE")
	if err != nil {
		return err
	}
	return c.continuation(tag, "IDLE")
}

// Wait reads one untagged response within an IDLE, at most for timeout.
func (c *IMAP) Wait(timeout time.Duration) (string, error) {
	c.deadline(timeout)
	resp, err := c.response()
	return resp.Text, err
}

// Done ends the IDLE that was started last, and gives what came meanwhile to f.
func (c *IMAP) Done(f func(Response)) error {
	c.deadline(c.Timeout)
	if _, err := io.WriteString(c.conn, "DONE\r\n"); err != nil {
		return err
	}
	return c.finish("t"+strconv.Itoa(c.n), "IDLE", f)
}

// Logout says LOGOUT and closes.
func (c *IMAP) Logout() {
	_, _ = c.Cmd("LOGOUT")
	c.conn.Close()
}

// Close drops the connection.
func (c *IMAP) Close() { c.conn.Close() }

// DoneAndFetch ends the IDLE and fetches the message with sequence number seq,
// both in one write.
func (c *IMAP) DoneAndFetch(seq int, f func(Message)) error {
	idle := "t" + strconv.Itoa(c.n)
	c.n++
	tag := "t" + strconv.Itoa(c.n)
	c.deadline(c.Timeout)
	if _, err := fmt.Fprintf(c.conn, "DONE\r\n%s FETCH %d (UID BODY.PEEK[])\r\n", tag, seq); err != nil {
		return err
	}
	each := messages(f)
	if err := c.finish(idle, "IDLE", each); err != nil {
		return err
	}
	return c.finish(tag, "FETCH", each)
}

// Send writes commands and reads no answer: for a client that does not listen.
func (c *IMAP) Send(lines ...string) error {
	for _, line := range lines {
		if _, err := c.start(line); err != nil {
			return err
		}
	}
	return nil
}
