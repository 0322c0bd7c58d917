package pop3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/wire/lineio"
	"postern.email/wire/sasl"
)

// conn is one connection. It is used by one goroutine.
type conn struct {
	o       *Options
	raw     net.Conn // what is read and written now: the TLS connection once there is one
	peer    limits.Peer
	tls     bool
	r       *lineio.Reader
	w       *lineio.Writer
	drop    Maildrop // nil in the AUTHORIZATION state
	deleted map[int]bool
	fails   int
}

// command is one verb: in which states it is allowed, and what does it.
type command struct {
	auth, trans bool // allowed in the AUTHORIZATION, the TRANSACTION state
	run         func(c *conn, ctx context.Context, arg string) (quit bool, err error)
}

// commands is fixed; no code writes to it.
func commands(verb string) (command, bool) {
	switch verb {
	case "CAPA":
		return command{true, true, (*conn).capa}, true
	case "QUIT":
		return command{true, true, (*conn).quit}, true
	case "NOOP":
		return command{false, true, (*conn).noop}, true
	case "STLS":
		return command{true, false, (*conn).stls}, true
	case "USER":
		return command{true, false, (*conn).user}, true
	case "AUTH":
		return command{true, false, (*conn).auth}, true
	case "UTF8":
		return command{true, false, (*conn).utf8}, true
	case "STAT":
		return command{false, true, (*conn).stat}, true
	case "LIST":
		return command{false, true, (*conn).list}, true
	case "UIDL":
		return command{false, true, (*conn).uidl}, true
	case "RETR":
		return command{false, true, (*conn).retr}, true
	case "TOP":
		return command{false, true, (*conn).top}, true
	case "DELE":
		return command{false, true, (*conn).dele}, true
	case "RSET":
		return command{false, true, (*conn).rset}, true
	}
	return command{}, false
}

func (c *conn) serve(ctx context.Context) error {
	defer c.release() // without QUIT nothing is deleted (RFC 1939 §6)
	if err := c.reply("+OK POP3 ready"); err != nil {
		return err
	}
	for {
		// Replies to pipelined commands leave together (RFC 2449 §6.6).
		if c.r.Buffered() == 0 {
			if err := c.flush(); err != nil {
				return err
			}
		}
		line, err := c.readLine()
		if err != nil {
			return c.readFailed(err)
		}
		quit, err := c.one(ctx, line)
		if err != nil || quit {
			if ferr := c.flush(); err == nil {
				err = ferr
			}
			return err
		}
	}
}

// one runs one command line.
func (c *conn) one(ctx context.Context, line string) (quit bool, err error) {
	verb, arg, _ := strings.Cut(line, " ")
	cmd, known := commands(strings.ToUpper(verb))
	switch {
	case !known:
		return c.mistake("-ERR unknown command")
	case c.drop == nil && !cmd.auth:
		return c.mistake("-ERR log in first")
	case c.drop != nil && !cmd.trans:
		return c.mistake("-ERR not after login")
	}
	return cmd.run(c, ctx, arg)
}

// mistake answers a wrong command and ends the session after too many.
func (c *conn) mistake(text string) (quit bool, err error) {
	c.fails++
	if c.fails > MaxMistakes {
		return true, c.reply("-ERR too many errors")
	}
	return false, c.reply(text)
}

func (c *conn) reply(format string, args ...any) error {
	if len(args) > 0 {
		format = fmt.Sprintf(format, args...)
	}
	_, err := c.w.WriteString(format + "\r\n")
	return err
}

func (c *conn) flush() error { return c.w.Flush() }

func (c *conn) readLine() (string, error) {
	line, err := c.r.Line(MaxLine)
	return string(line), err
}

// readFailed says why the session ends, where somebody is left to hear it.
func (c *conn) readFailed(err error) error {
	switch k := errs.KindOf(err); {
	case errors.Is(err, lineio.ErrInterrupted):
		_ = c.reply("-ERR [SYS/TEMP] the server stops")
	case k == errs.Invalid || k == errs.TooLarge:
		_ = c.reply("-ERR " + errs.Public(err))
	}
	_ = c.flush()
	return err
}

func (c *conn) capa(context.Context, string) (bool, error) {
	caps := []string{"TOP", "UIDL", "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE", "UTF8", "EXPIRE " + c.o.expire(), "IMPLEMENTATION Postern"}
	if c.drop == nil {
		if sasl.MayAuth(c.security()) {
			caps = append(caps, "USER", "SASL "+strings.Join(sasl.Mechanisms(c.security()), " "))
		}
		if c.mayStartTLS() {
			caps = append(caps, "STLS")
		}
	}
	return false, c.reply("+OK capabilities follow\r\n" + strings.Join(caps, "\r\n") + "\r\n.")
}

func (c *conn) noop(context.Context, string) (bool, error) { return false, c.reply("+OK") }

// utf8 switches to RFC 6856 mode. Mails are always sent as they are stored, so
// the mode changes nothing but the server's knowledge that the client can read them.
func (c *conn) utf8(context.Context, string) (bool, error) { return false, c.reply("+OK UTF8 enabled") }

func (c *conn) security() sasl.Conn { return sasl.Conn{TLS: c.tls, Private: c.o.Private} }

func (c *conn) mayStartTLS() bool { return !c.tls && c.o.TLS != nil }

// stls is RFC 2595 §4. What was sent behind the command in clear text must never be
// taken for something the encrypted client said: the connection ends.
func (c *conn) stls(ctx context.Context, arg string) (bool, error) {
	switch {
	case arg != "":
		return c.mistake("-ERR STLS takes no argument")
	case !c.mayStartTLS():
		return c.mistake("-ERR STLS is not possible here")
	case c.r.Buffered() > 0:
		return true, c.reply("-ERR commands behind STLS")
	}
	if err := c.reply("+OK begin TLS"); err != nil {
		return true, err
	}
	if err := c.flush(); err != nil {
		return true, err
	}
	return false, c.startTLS(ctx)
}

func (c *conn) startTLS(ctx context.Context) error {
	if err := c.r.Rebase(c.raw); err != nil { // nothing may be buffered
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.o.LoginTimeout)
	defer cancel()
	t := tls.Server(c.raw, c.o.TLS)
	if err := t.HandshakeContext(ctx); err != nil {
		return err
	}
	if err := c.r.Rebase(t); err != nil {
		return err
	}
	c.raw, c.tls = t, true
	return c.w.Rebase(t)
}
