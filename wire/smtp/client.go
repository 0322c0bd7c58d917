package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/wire/lineio"
)

// Default times of a Client: RFC 5321 §4.5.3.2, as far as it names them. DataBlock and
// the handshake have those of the server.
const (
	DefaultGreeting    = 5 * time.Minute  // §4.5.3.2.1
	DefaultCommand     = 5 * time.Minute  // §4.5.3.2.2 and 3: one reply
	DefaultDataInit    = 2 * time.Minute  // §4.5.3.2.4: the reply to DATA
	DefaultDataEnd     = 10 * time.Minute // §4.5.3.2.6: the reply to the whole mail
	DefaultTransaction = time.Hour        // one Send, without DataEnd
	DefaultQuit        = 5 * time.Second  // the reply to QUIT
)

// Default bounds of one reply.
const (
	DefaultReplyLines = 128
	DefaultReplyBytes = 32 << 10
)

// Timeouts of a Client. Each bounds the whole of what it names, so a server that sends a
// byte now and then gains nothing. Zero: the default.
type Timeouts struct {
	Greeting    time.Duration // the 220
	Command     time.Duration // one reply to EHLO, STARTTLS, MAIL, RCPT, RSET
	Handshake   time.Duration // TLS
	DataInit    time.Duration // the 354
	DataBlock   time.Duration // one write: a group of commands or a block of the mail
	DataEnd     time.Duration // the reply to the last byte of a mail; for chunks, to each
	Transaction time.Duration // Send up to the last byte of the mail; DataEnd comes on top
	Quit        time.Duration // the reply to QUIT
}

func (t Timeouts) withDefaults() Timeouts {
	defaults.Positive(&t.Greeting, DefaultGreeting)
	defaults.Positive(&t.Command, DefaultCommand)
	defaults.Positive(&t.Handshake, DefaultHandshake)
	defaults.Positive(&t.DataInit, DefaultDataInit)
	defaults.Positive(&t.DataBlock, DefaultDataBlock)
	defaults.Positive(&t.DataEnd, DefaultDataEnd)
	defaults.Positive(&t.Transaction, DefaultTransaction)
	defaults.Positive(&t.Quit, DefaultQuit)
	return t
}

// ClientOptions are what a Client needs to know about itself and its server.
type ClientOptions struct {
	Hostname string // what the client calls itself in EHLO; default "localhost"
	Host     string // the server's name: TLS's ServerName where TLS names none

	// TLS is used after STARTTLS, or at once where Implicit. nil: no TLS. Whose
	// certificate is believed is decided in it (RootCAs, VerifyConnection).
	TLS      *tls.Config
	Implicit bool
	// RequireTLS: without TLS nothing is sent (ErrNoTLS). Otherwise a server that does
	// not offer STARTTLS, or refuses it, is spoken to in the clear.
	RequireTLS bool

	// NoChunking: DATA even where CHUNKING is offered, for a server whose BDAT does
	// not work.
	NoChunking bool

	Timeouts      Timeouts
	MaxReplyLines int          // of one reply
	MaxReplyBytes int          // of one reply, with line ends
	Logger        *slog.Logger // nil: nothing is logged; addresses and replies' texts never are
}

func (o ClientOptions) withDefaults() ClientOptions {
	o.Timeouts = o.Timeouts.withDefaults()
	if o.Hostname == "" {
		o.Hostname = "localhost"
	}
	defaults.Positive(&o.MaxReplyLines, DefaultReplyLines)
	defaults.Positive(&o.MaxReplyBytes, DefaultReplyBytes)
	defaults.Logger(&o.Logger)
	return o
}

// Why there is no TLS; compare with errors.Is.
var (
	// ErrNoTLS: RequireTLS, and the server does not offer STARTTLS, refuses it, or
	// somebody has put replies behind its answer.
	ErrNoTLS error = errs.E("wire/smtp", errs.Denied, "the server does not offer TLS", nil)
	// ErrHandshake: the TLS handshake failed; the certificate may be the reason (then
	// there is a *tls.CertificateVerificationError, or what VerifyConnection gave,
	// in the chain).
	ErrHandshake error = errs.E("wire/smtp", errs.Denied, "the TLS handshake failed", nil)
	// ErrProtocol: the server has said something that is no SMTP at this place.
	ErrProtocol error = errs.E("wire/smtp", errs.Unavailable, "the server does not speak SMTP properly", nil)
)

// Client is the client's side of one connection. It knows the protocol and no policy:
// whom to connect to, whose certificate to believe and when to try again is its
// user's. It is used by one goroutine; only Close may be called by others.
type Client struct {
	o       ClientOptions
	raw     net.Conn // as given
	conn    net.Conn // raw, or TLS over it
	in      *lineio.Reader
	out     *lineio.Writer
	replies replyReader
	ext     Extensions
	secure  bool

	mails  int       // transactions that the server answered
	dirty  bool      // a transaction may be open on the server: RSET comes first
	until  time.Time // of the transaction; zero: none
	failed bool      // the connection is over
}

// NewClient takes the greeting on conn, says EHLO (HELO where the server knows no
// better), goes to TLS and says EHLO again. It owns conn, and closes it with an error:
//
//   - errs.Denied: ErrNoTLS or ErrHandshake under RequireTLS; or the server refuses us for
//     good (5xx, the *Reply is in the chain)
//   - errs.Unavailable: 4xx (with the *Reply), a timeout, ErrProtocol, a broken connection, or
//     ErrHandshake without RequireTLS
//   - errs.Canceled: ctx ended
//   - errs.Invalid: the options are at fault
//
// ctx governs this call only.
func NewClient(ctx context.Context, conn net.Conn, o ClientOptions) (*Client, error) {
	const op = "wire/smtp.NewClient"
	o = o.withDefaults()
	if o.TLS == nil && (o.Implicit || o.RequireTLS) {
		conn.Close()
		return nil, errs.E(op, errs.Invalid, "TLS is needed, but not configured", nil)
	}
	if !isValue(o.Hostname) {
		conn.Close()
		return nil, errs.E(op, errs.Invalid, "the client's own host name is malformed", nil)
	}
	c := &Client{o: o, raw: conn, conn: conn}
	c.in = lineio.NewReader(conn, lineio.Times{})
	c.out = lineio.NewWriter(conn, o.Timeouts.DataBlock)
	c.replies = replyReader{in: c.in, maxLines: o.MaxReplyLines, maxBytes: o.MaxReplyBytes}
	done := c.guard(ctx)
	err := c.setUp(ctx)
	if err = done(err); err != nil {
		c.abandon()
		return nil, errs.Wrap(op, err)
	}
	return c, nil
}

// guard cuts the connection when ctx ends. done must be called with the error of what
// was guarded and gives the one to return.
func (c *Client) guard(ctx context.Context) (done func(error) error) {
	forget := context.AfterFunc(ctx, func() { c.raw.Close() })
	return func(err error) error {
		if forget() || ctx.Err() == nil {
			return err
		}
		c.failed = true
		if err == nil {
			err = ctx.Err()
		}
		return errs.E("wire/smtp.Client", errs.Canceled, "", err)
	}
}

func (c *Client) setUp(ctx context.Context) error {
	if t, ok := c.conn.(interface{ ConnectionState() tls.ConnectionState }); ok {
		c.secure = t.ConnectionState().HandshakeComplete
	}
	if c.o.Implicit && !c.secure {
		if err := c.handshake(ctx); err != nil {
			return err
		}
	}
	if err := c.greeting(); err != nil {
		return err
	}
	if err := c.hello(); err != nil {
		return err
	}
	if c.secure {
		return nil
	}
	return c.startTLS(ctx)
}

// greeting reads the server's first words (RFC 5321 §3.1).
func (c *Client) greeting() error {
	code, err := c.read(c.o.Timeouts.Greeting)
	switch {
	case err != nil:
		return err
	case code/100 == 2:
		return nil
	}
	return c.refused("greeting")
}

// hello says EHLO, and HELO where that is refused for good (RFC 5321 §3.2).
func (c *Client) hello() error {
	c.ext = Extensions{}
	code, err := c.command(c.o.Timeouts.Command, c.ext.line, "EHLO ", c.o.Hostname)
	if err == nil && code/100 == 5 {
		c.ext = Extensions{}
		code, err = c.command(c.o.Timeouts.Command, nil, "HELO ", c.o.Hostname)
	}
	switch {
	case err != nil:
		return err
	case code/100 == 2:
		c.ext.RequireTLS = c.ext.RequireTLS && c.secure // RFC 8689 §2: only there it means something
		return nil
	}
	return c.refused("EHLO")
}

// startTLS is RFC 3207.
func (c *Client) startTLS(ctx context.Context) error {
	const op = "wire/smtp.STARTTLS"
	if c.o.TLS == nil {
		return nil
	}
	if !c.ext.StartTLS {
		if c.o.RequireTLS {
			return errs.E(op, errs.Denied, "", ErrNoTLS)
		}
		return nil
	}
	code, err := c.command(c.o.Timeouts.Command, nil, "STARTTLS")
	switch {
	case err != nil:
		return err
	case code == 421, code/100 == 3:
		return c.refused("STARTTLS")
	case code/100 != 2:
		if c.o.RequireTLS {
			return errs.E(op, errs.Denied, "", because(ErrNoTLS, c.replies.reply()))
		}
		c.debug("STARTTLS")
		return nil
	case c.in.Buffered() > 0:
		// What came behind the 220 came in the clear and would be taken for what the
		// server says under TLS (RFC 3207 §6, CVE-2011-0411).
		kind, why := errs.Unavailable, ErrProtocol
		if c.o.RequireTLS {
			kind, why = errs.Denied, ErrNoTLS
		}
		return errs.E(op, kind, "", because(why, lineio.ErrBuffered))
	}
	if err := c.handshake(ctx); err != nil {
		return err
	}
	return c.hello() // §4.2: what was learnt before is forgotten
}

// handshake turns TLS on.
func (c *Client) handshake(ctx context.Context) error {
	const op = "wire/smtp.handshake"
	conf := c.o.TLS
	if conf.ServerName == "" && c.o.Host != "" {
		conf = conf.Clone()
		conf.ServerName = c.o.Host
	}
	c.raw.SetDeadline(time.Time{}) // those of the last command
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeouts.Handshake)
	defer cancel()
	t := tls.Client(c.raw, conf)
	if err := t.HandshakeContext(ctx); err != nil {
		kind := errs.Unavailable
		if c.o.RequireTLS {
			kind = errs.Denied
		}
		return errs.E(op, kind, "", because(ErrHandshake, err))
	}
	if err := c.in.Rebase(t); err != nil {
		return errs.E(op, errs.Unavailable, "", err)
	}
	if err := c.out.Rebase(t); err != nil {
		return errs.E(op, errs.Unavailable, "", err)
	}
	c.conn, c.secure = t, true
	return nil
}

// Extensions gives what the server offers.
func (c *Client) Extensions() Extensions { return c.ext }

// TLS gives the state of TLS, or nil.
func (c *Client) TLS() *tls.ConnectionState {
	if t, ok := c.conn.(interface{ ConnectionState() tls.ConnectionState }); ok && c.secure {
		s := t.ConnectionState()
		return &s
	}
	return nil
}

// Reusable reports whether another Send may be tried on this connection. The server may
// still have closed it in the meantime: see Sent.Stale.
func (c *Client) Reusable() bool {
	return !c.failed && (c.ext.Limits.MailMax == 0 || c.mails < c.ext.Limits.MailMax)
}

// Reset ends a transaction that was left open (RFC 5321 §4.1.1.5). Send does it by itself,
// together with its first command; to call Reset is a way to find out whether the
// connection still lives. An error ends the connection.
func (c *Client) Reset(ctx context.Context) error {
	const op = "wire/smtp.Client.Reset"
	if c.failed {
		return errs.E(op, errs.Unavailable, "the connection is closed", nil)
	}
	done := c.guard(ctx)
	c.until = time.Time{}
	code, err := c.command(c.o.Timeouts.Command, nil, "RSET")
	if err == nil && code/100 != 2 {
		err = c.refused("RSET")
	}
	if err = done(err); err != nil {
		c.failed = true
		return errs.Wrap(op, err)
	}
	c.dirty = false
	return nil
}

// Quit says QUIT (RFC 5321 §4.1.1.10), waits a moment for the answer and closes.
func (c *Client) Quit() {
	if !c.failed {
		c.failed = true
		c.until = time.Time{}
		c.conn.SetWriteDeadline(time.Now().Add(c.o.Timeouts.Quit))
		_, err := c.conn.Write([]byte("QUIT\r\n"))
		if err == nil {
			_, err = c.read(c.o.Timeouts.Quit)
		}
		if err == nil {
			c.conn.Close() // TLS says goodbye too
		}
	}
	c.abandon()
}

// Close closes the connection without a word. Any goroutine may call it.
func (c *Client) Close() error { return c.raw.Close() }

// abandon is the end of the connection.
func (c *Client) abandon() {
	c.failed = true
	c.in.Close()
	c.raw.Close()
}

// command sends one line and reads its reply; each gets every line of it.
func (c *Client) command(limit time.Duration, each func(string), words ...string) (code int, err error) {
	for _, w := range words {
		c.out.WriteString(w)
	}
	c.out.WriteString("\r\n")
	if err := c.flush(); err != nil {
		return 0, err
	}
	c.replies.each = each
	code, err = c.read(limit)
	c.replies.each = nil
	return code, err
}

// read reads one reply within limit. A 421 makes the connection unusable (RFC 5321 §3.8).
func (c *Client) read(limit time.Duration) (code int, err error) {
	until := time.Now().Add(limit)
	if !c.until.IsZero() && c.until.Before(until) {
		until = c.until
	}
	c.in.Until(until)
	code, err = c.replies.next()
	if err != nil {
		c.failed = true
		return 0, broken(err)
	}
	if code == 421 {
		c.failed = true
	}
	return code, nil
}

func (c *Client) flush() error {
	if err := c.out.Flush(); err != nil {
		c.failed = true
		return broken(err)
	}
	return nil
}

// broken gives an error of the stream its kind and words.
func broken(err error) error {
	const op = "wire/smtp.Client"
	switch {
	case errors.Is(err, ErrProtocol):
		return errs.Wrap(op, err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errs.E(op, errs.Unavailable, "the server did not answer in time", err)
	}
	return errs.E(op, errs.Unavailable, "the connection broke", err)
}

// refused makes an error of the reply read last, which is no yes, and puts it in the chain.
func (c *Client) refused(what string) error {
	const op = "wire/smtp.Client"
	c.debug(what)
	r := c.replies.reply()
	switch r.Code / 100 {
	case 4:
		return errs.E(op, errs.Unavailable, "the server refuses the session for now", r)
	case 5:
		return errs.E(op, errs.Denied, "the server refuses the session", r)
	}
	return c.violation()
}

// because joins a sentinel and what lies behind it.
func because(what, cause error) error { return fmt.Errorf("%w: %w", what, cause) }

// debug logs a refusal: where, and its codes.
func (c *Client) debug(what string) {
	c.o.Logger.Debug("smtp client: refused", "at", what, "code", c.replies.code, "enhanced", string(c.replies.enhanced))
}
