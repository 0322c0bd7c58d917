package management

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/serve"
)

// Client speaks to a running proxy. It is used by one goroutine.
type Client struct {
	c net.Conn
	r *bufio.Reader
}

// Dial connects to the socket. errs.NotFound when nobody listens there, errs.Denied when it is
// somebody else's.
func Dial(ctx context.Context, path string) (*Client, error) {
	const op = "wire/management.Dial"
	c, err := serve.DialPrivate(ctx, path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, errs.E(op, errs.NotFound, "no proxy answers on the management socket "+path, err)
	case errors.Is(err, fs.ErrPermission):
		return nil, errs.E(op, errs.Denied, "the management socket "+path+" belongs to another user", err)
	case err != nil:
		return nil, errs.E(op, errs.Unavailable, "the management socket "+path+" does not answer", err)
	}
	m := &Client{c: c, r: bufio.NewReaderSize(c, MaxLine+1024)}
	if code, _, err := m.read(); err != nil || code != codeReady {
		c.Close()
		return nil, errs.E(op, errs.Unavailable, "the management socket "+path+" does not answer", err)
	}
	return m, nil
}

// Close ends the connection.
func (c *Client) Close() error {
	_, _ = io.WriteString(c.c, cmdQuit+"\r\n")
	return c.c.Close()
}

// clientTime bounds one command.
const clientTime = 2 * time.Minute

func (c *Client) line() (string, error) {
	b, err := c.r.ReadSlice('\n')
	if err != nil {
		return "", errs.E("wire/management.Client", errs.Unavailable, "the proxy ended the connection", err)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

func (c *Client) read() (code, text string, err error) {
	c.c.SetDeadline(time.Now().Add(clientTime))
	l, err := c.line()
	code, text, _ = strings.Cut(l, " ")
	return code, text, err
}

// do sends one command and gives the text of its 250.
func (c *Client) do(words ...string) (string, error) {
	const op = "wire/management.Client"
	for _, w := range words {
		if w == "" || strings.ContainsAny(w, " \t\r\n") {
			return "", errs.E(op, errs.Invalid, "an address or key is one word", nil)
		}
	}
	if _, err := io.WriteString(c.c, strings.Join(words, " ")+"\r\n"); err != nil {
		return "", errs.E(op, errs.Unavailable, "the proxy ended the connection", err)
	}
	code, text, err := c.read()
	switch {
	case err != nil:
		return "", err
	case code == codeOK:
		return text, nil
	case code == codeSyntax && words[0] == cmdSet:
		return "", errs.E(op, errs.Invalid, "this is no key: pk: and base64url, as postern proxy verify shows it to the recipient", nil)
	case code == codeSyntax || code == codeUnknown:
		return "", errs.E(op, errs.Invalid, "the proxy does not understand it: "+code+" "+text, nil)
	case text == textFailed:
		return "", errs.E(op, errs.NotFound, "the proxy knows no such recipient", nil)
	}
	return "", errs.E(op, errs.Denied, "the proxy refused: "+strings.TrimPrefix(text, textFailed+": "), nil)
}

// Get gives the key of a recipient. errs.NotFound.
func (c *Client) Get(user string) (string, error) { return c.do(cmdGet, user) }

// Set puts a recipient's key in. errs.Invalid for what is no key, errs.Denied where the proxy
// refuses it.
func (c *Client) Set(user, key string) error { _, err := c.do(cmdSet, user, key); return err }

// Remove takes a recipient out. errs.NotFound.
func (c *Client) Remove(user string) error { _, err := c.do(cmdRemove, user); return err }

// Query has the key of user looked up for an account of the proxy.
func (c *Client) Query(sender, user string) error { _, err := c.do(cmdQuery, sender, user); return err }

// Shutdown stops the proxy.
func (c *Client) Shutdown() error { _, err := c.do(cmdShutdown); return err }

// List gives all recipients.
func (c *Client) List() ([]Recipient, error) {
	if _, err := c.do(cmdList); err != nil {
		return nil, err
	}
	var out []Recipient
	for size := 0; size < maxList; {
		l, err := c.line()
		if err != nil {
			return nil, err
		}
		if l == "." {
			return out, nil
		}
		size += len(l)
		user, key, _ := strings.Cut(strings.TrimPrefix(l, "."), " ")
		out = append(out, Recipient{user, key})
	}
	return nil, errs.E("wire/management.List", errs.TooLarge, "the list of recipients is too long", nil)
}
