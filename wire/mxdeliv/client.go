package mxdeliv

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/mail"
)

// Default times and bounds of a Client.
const (
	DefaultConnect     = 30 * time.Second // TCP and TLS
	DefaultBlock       = 3 * time.Minute  // until the host has taken the next piece of a mail
	DefaultJudge       = 5 * time.Minute  // from the last byte of a mail to the last of the answer
	DefaultTotal       = 30 * time.Minute // one Deliver up to the last byte of the mail
	DefaultIdle        = 30 * time.Second // an unused connection; less than servers usually allow, see Client
	DefaultMaxIdle     = 64               // unused connections, to all hosts
	DefaultMaxHostIdle = 2                // unused connections, to one host
	DefaultMaxPerHost  = 8                // connections to one host
)

// Fixed bounds of an answer.
const (
	maxAnswer       = 4 << 10  // bytes read of the body
	maxAnswerHeader = 16 << 10 // bytes of the header
	maxReply        = 1024     // bytes of the SMTP reply that are kept
)

// ClientOptions are what a Client needs. DialTLS is needed.
type ClientOptions struct {
	// DialTLS connects and does the TLS handshake. Which address a host has and whose
	// certificate is believed is decided there. With the protocol "h2" negotiated the
	// connection is one of HTTP/2, otherwise of HTTP/1.1. ctx bounds it by Connect.
	DialTLS func(ctx context.Context, host, port string) (*tls.Conn, error)

	Connect, Block, Judge, Total, Idle time.Duration // zero: the defaults
	MaxIdle, MaxHostIdle, MaxPerHost   int
}

func (o ClientOptions) withDefaults() ClientOptions {
	defaults.Positive(&o.Connect, DefaultConnect)
	defaults.Positive(&o.Block, DefaultBlock)
	defaults.Positive(&o.Judge, DefaultJudge)
	defaults.Positive(&o.Total, DefaultTotal)
	defaults.Positive(&o.Idle, DefaultIdle)
	defaults.Positive(&o.MaxIdle, DefaultMaxIdle)
	defaults.Positive(&o.MaxHostIdle, DefaultMaxHostIdle)
	defaults.Positive(&o.MaxPerHost, DefaultMaxPerHost)
	return o
}

// Client hands mail to other relays. It may be used by many goroutines. It keeps
// connections for the next mail, but not for long: over HTTP/1.1 a host that closes an unused
// connection at the moment when we use it leaves it open whether it has taken the mail.
type Client struct {
	o ClientOptions
	t *http.Transport
}

// NewClient makes a Client. Close ends it.
func NewClient(o ClientOptions) *Client {
	o = o.withDefaults()
	c := &Client{o: o}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	c.t = &http.Transport{
		DialTLSContext:         c.dial,
		Protocols:              protocols,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: o.Idle, PingTimeout: o.Connect, WriteByteTimeout: o.Block},
		DisableCompression:     true,
		MaxIdleConns:           o.MaxIdle,
		MaxIdleConnsPerHost:    o.MaxHostIdle,
		MaxConnsPerHost:        o.MaxPerHost,
		IdleConnTimeout:        o.Idle,
		MaxResponseHeaderBytes: maxAnswerHeader,
	}
	return c
}

// Close closes the connections that are not in use.
func (c *Client) Close() { c.t.CloseIdleConnections() }

func (c *Client) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.o.Connect)
	defer cancel()
	t, err := c.o.DialTLS(ctx, host, port)
	if err != nil {
		return nil, err // a nil *tls.Conn would be no nil net.Conn
	}
	return t, nil
}

// Content is a mail as it is sent: CRLF line ends. It is not read any more when Deliver
// has returned.
type Content interface {
	io.ReaderAt
	Size() int64
}

// Outgoing is one mail to some recipients at one host.
type Outgoing struct {
	From    mail.Address // zero: the null path
	To      []mail.Address
	Content Content
}

// Answer is what a host said.
type Answer struct {
	// Outcome is Accepted, Refused or Fallback, and means something only without an error.
	// Some hosts refuse the whole mail because of one recipient: Refused, for more than
	// one, says nothing about each.
	Outcome Outcome
	// Reply is the host's SMTP reply on one line of clean text, 4xx or 5xx when it refuses; empty
	// when it gave none.
	Reply string
	// Why is, for Fallback, what happened; private.
	Why error
	// Unknown, with an error: all of the mail has gone out and no answer came, so the host
	// may have taken it.
	Unknown bool
}

// Why a mail falls back; compare with errors.Is.
var (
	// ErrNoAnswer: the host cannot be reached, has no trusted certificate, or broke off
	// before it had the whole mail. The chain tells.
	ErrNoAnswer error = errs.E("wire/mxdeliv", errs.Unavailable, "the host cannot be reached by HTTPS", nil)
	// ErrNotOffered: there is a web server, but it does not take mail.
	ErrNotOffered error = errs.E("wire/mxdeliv", errs.Unsupported, "the host does not take mail by HTTPS", nil)
	// ErrNotNow: the host takes mail, but not this one this way.
	ErrNotNow error = errs.E("wire/mxdeliv", errs.Unavailable, "the host does not take this mail by HTTPS", nil)
	// ErrNotASCII: an address could be misread by hosts that know ASCII only. Nothing was
	// sent.
	ErrNotASCII error = errs.E("wire/mxdeliv", errs.Unsupported, "an address is not ASCII", nil)
)

// Deliver posts a mail to a host: a name, or a name with a port. Redirects are not followed. Errors are
// errs.Unavailable when no answer came to a mail that went out whole; errs.Canceled when ctx ended;
// errs.Invalid when host or mail are no such thing; and the Content's own.
func (c *Client) Deliver(ctx context.Context, host string, m Outgoing) (Answer, error) {
	const op = "wire/mxdeliv.Client.Deliver"
	if len(m.To) == 0 || m.Content.Size() == 0 {
		return Answer{}, errs.E(op, errs.Invalid, "a mail without recipients or without text", nil)
	}
	u := &url.URL{Scheme: "https", Host: host, Path: Path}
	if back, err := url.Parse(u.String()); err != nil || *back != *u || host == "" {
		return Answer{}, errs.E(op, errs.Invalid, "malformed host name", err)
	}
	header, ok := envelope(&m)
	if !ok {
		return Answer{Outcome: Fallback, Why: ErrNotASCII}, nil
	}

	work, cancel := context.WithCancel(ctx)
	defer cancel()
	up := &upload{content: m.Content, size: m.Content.Size(), block: c.o.Block, judge: c.o.Judge, end: time.Now().Add(c.o.Total)}
	up.watch = time.AfterFunc(c.o.Connect+c.o.Block, cancel)
	defer up.stop()
	req := (&http.Request{Method: http.MethodPost, URL: u, Host: host, Header: header, ContentLength: up.size, Body: up.body(),
		GetBody: func() (io.ReadCloser, error) { return up.body(), nil }}).WithContext(work)
	res, err := c.t.RoundTrip(req)
	if err == nil {
		var text []byte
		if text, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer+1)); err == nil {
			res.Body.Close()
			a := judge(res.StatusCode, res.Header.Get("Content-Type"), text)
			if a.Outcome == Accepted && !up.whole() {
				// Nobody can have taken a mail that was not there yet.
				a = Answer{Outcome: Fallback, Why: ErrNotOffered}
			}
			return a, nil
		}
		res.Body.Close()
	}
	whole, fault := up.state()
	switch {
	case fault != nil:
		return Answer{}, errs.Wrap(op, fault)
	case ctx.Err() != nil:
		return Answer{Unknown: whole}, errs.E(op, errs.Canceled, "", err)
	case whole:
		return Answer{Unknown: true}, errs.E(op, errs.Unavailable, "no answer came", err)
	}
	return Answer{Outcome: Fallback, Why: errs.E(op, errs.Unavailable, "", fmt.Errorf("%w: %w", ErrNoAnswer, err))}, nil
}

// envelope writes the addresses. Domains go as A-labels. Other hosts read headers as ASCII:
// one drops a recipient whose name is not and says 200 all the same.
func envelope(m *Outgoing) (h http.Header, ok bool) {
	// An empty User-Agent is not sent: nobody needs to know what we are.
	h = http.Header{"User-Agent": {""}}
	to := make([]string, 0, len(m.To))
	for _, a := range m.To {
		text, ok := field(a)
		if !ok {
			return nil, false
		}
		to = append(to, text)
	}
	h["X-Mail-To"] = to
	if !m.From.IsZero() {
		text, ok := field(m.From)
		if !ok {
			return nil, false
		}
		h["X-Mail-From"] = []string{text}
	}
	return h, true
}

func field(a mail.Address) (string, bool) {
	text := a.String()
	if i := len(text) - len(a.Domain); !ascii(a.Domain) {
		text = text[:i] + mail.CanonicalDomain(a.Domain)
	}
	if !ascii(text) {
		return "", false
	}
	_, err := mail.ParseAddress(text)
	return text, err == nil
}

func ascii(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// upload is a mail on its way out, and the clock over it. The transport may read a body
// from another goroutine, and a moment longer than the request lives.
type upload struct {
	content      Content
	size         int64
	block, judge time.Duration
	end          time.Time
	watch        *time.Timer // ends the request

	mu    sync.Mutex
	over  bool  // nothing is read any more
	all   bool  // the last byte was handed out
	fault error // of content
}

// body begins at the start: also again, when the transport knows that the host has not looked at
// the first (HTTP/2's GOAWAY).
func (u *upload) body() *pass {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.all = false
	return &pass{u: u}
}

func (u *upload) stop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.over = true
	u.watch.Stop()
}

func (u *upload) whole() bool { all, _ := u.state(); return all }

func (u *upload) state() (all bool, fault error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.all, u.fault
}

// pass is one reading of the mail: the body of one request.
type pass struct {
	u   *upload
	off int64
}

func (b *pass) Close() error { return nil }

func (b *pass) Read(p []byte) (int, error) {
	u := b.u
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over {
		return 0, io.ErrClosedPipe
	}
	if b.off == u.size {
		return 0, io.EOF
	}
	want := int(min(int64(len(p)), u.size-b.off))
	n, err := u.content.ReadAt(p[:want], b.off)
	if n < want {
		if err == nil || err == io.EOF {
			err = errs.E("wire/mxdeliv", errs.Corrupt, "the mail is shorter than its size", io.ErrUnexpectedEOF)
		}
		u.fault = err
		return 0, err
	}
	b.off += int64(n)
	if b.off == u.size {
		u.all = true
		u.watch.Reset(u.judge)
	} else {
		u.watch.Reset(min(u.block, time.Until(u.end)))
	}
	return n, nil
}
