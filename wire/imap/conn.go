package imap

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/wire/sasl"
)

// state is where a session stands (RFC 9051 §3); used as a set of bits.
type state uint8

const (
	notAuth state = 1 << iota
	auth
	inMailbox

	anyState = notAuth | auth | inMailbox
	loggedIn = auth | inMailbox
)

// features are what a client has enabled (RFC 5161), by ENABLE or by use.
type features struct {
	condstore, qresync bool
	utf8, rev2         bool
}

// utf8ok reports whether strings may be sent as UTF-8.
func (f features) utf8ok() bool { return f.utf8 || f.rev2 }

// conn is one session. Its goroutine owns all of it, but for stopping.
type conn struct {
	s    *Server
	raw  net.Conn // as it was accepted; never changes, so stop may use it
	nc   net.Conn // raw, or the TLS connection over it
	peer limits.Peer
	room limits.Share // of Options.Memory
	r    reader
	w    writer

	tls, compressed bool
	stopping        atomic.Bool
	loginBy         time.Time
	closing         bool // the session ends behind the current command
	bad             int  // wrong commands in a row

	state   state
	session Session
	sel     *selected
	enabled features
	notify  *notify // nil before the first NOTIFY

	tag   string
	after func(context.Context) // runs behind the tagged OK: STARTTLS, COMPRESS
	idle  bool                  // IDLE was accepted
}

// use makes nc the connection to read from and write to.
func (c *conn) use(nc net.Conn) {
	c.nc = nc
	c.r.src = nc
	c.w.dst, c.w.conn, c.w.timeout = nc, nc, c.s.o.WriteTimeout
}

// stop wakes a session that waits for its client, so that it says BYE.
func (c *conn) stop() {
	c.stopping.Store(true)
	_ = c.raw.SetReadDeadline(time.Unix(1, 0))
}

// readBy sets the time by which the next read must succeed; zero: no limit.
func (c *conn) readBy(t time.Time) {
	_ = c.raw.SetReadDeadline(t)
	if c.stopping.Load() { // stop may have come before the line above
		_ = c.raw.SetReadDeadline(time.Unix(1, 0))
	}
}

// handshake runs the TLS handshake within the login time. It has its own stack:
// what it needs would stay with an idle session else.
func (c *conn) handshake(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, c.s.o.LoginTimeout)
	defer cancel()
	t := tls.Server(c.nc, c.s.o.TLS)
	err = errors.New("handshake did not end")
	c.onOwnStack(func() { err = t.HandshakeContext(ctx) })
	if err != nil {
		return err
	}
	c.use(t)
	c.tls = true
	return nil
}

// close ends the session, whatever its state.
func (c *conn) close() {
	_ = c.w.flush()
	c.dropNotify()
	if c.session != nil {
		c.session.Close()
		c.session = nil
	}
	_ = c.nc.Close()
	c.r.r, c.r.w = 0, 0
	c.r.release()
}

// serve runs the session until its end.
func (c *conn) serve(ctx context.Context) {
	c.state = notAuth
	c.loginBy = time.Now().Add(c.s.o.LoginTimeout)
	c.w.s("* OK [CAPABILITY ", c.capabilities(), "] Postern ready\r\n")
	for !c.closing && c.w.err == nil {
		if c.r.buffered() == 0 {
			if c.w.flush() != nil {
				return
			}
			c.readBy(c.commandBy())
			if err := c.waitCommand(ctx); err != nil {
				c.bye(err)
				return
			}
		}
		cmd, err := c.readCommand()
		if err != nil {
			c.bye(err)
			return
		}
		if cmd != nil {
			c.onOwnStack(func() { c.execute(ctx, cmd) })
			cmd.free()
		}
		if c.sel != nil {
			c.sel.view = nil // the shared state need not be kept in memory for us
		}
		if c.after != nil && !c.closing {
			if c.w.flush() != nil {
				return
			}
			c.after(ctx)
		}
		c.after = nil
		if c.idle && !c.closing {
			if err := c.runIdle(ctx); err != nil {
				c.bye(err)
				return
			}
		}
		c.idle = false
	}
}

// commandBy gives the time by which a command must begin.
func (c *conn) commandBy() time.Time {
	if c.state == notAuth {
		return c.loginBy
	}
	return time.Now().Add(c.s.o.IdleTimeout)
}

// bye says why the session ends, if the client can still hear it.
func (c *conn) bye(err error) {
	switch {
	case c.closing: // it is said already
		return
	case errors.Is(err, os.ErrDeadlineExceeded) && c.stopping.Load():
		c.w.s("* BYE [UNAVAILABLE] The server is stopping\r\n")
	case errors.Is(err, os.ErrDeadlineExceeded) && c.state == notAuth:
		c.w.s("* BYE Too slow to log in\r\n")
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.w.s("* BYE Idle for too long\r\n")
	case errors.Is(err, errLineTooLong):
		c.w.s("* BYE [TOOBIG] Line too long\r\n")
	case errors.Is(err, errTooMuch):
		c.w.s("* BYE [TOOBIG] Too much data behind a refused literal\r\n")
	case errors.Is(err, errInflate):
		c.w.s("* BYE Compressed stream is broken\r\n")
	default:
		return
	}
	_ = c.w.flush()
}

// mayAuth asks the one owner of that question.
func (c *conn) mayAuth() bool {
	return sasl.MayAuth(sasl.Conn{TLS: c.tls, Private: c.s.o.Private})
}

// command is one command as it was received.
type command struct {
	text []byte
	data []messageData
	held int64 // bytes of data, counted in memory
	s    *Server

	memory limits.Share // the connection's
}

// commandBuffers lends the memory that command lines are collected in. Larger
// ones are not kept.
var commandBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

const keepCommandBuffer = 16 << 10

func (cmd *command) free() {
	cmd.memory.Release(cmd.held)
	cmd.held = 0
	if cap(cmd.text) <= keepCommandBuffer {
		b := cmd.text[:0]
		commandBuffers.Put(&b)
	}
}

// reply is a tagged OK.
type reply struct{ code, text string }

// handler is one command of the table in commands.go.
type handler struct {
	in state
	// numbers says that the command uses message numbers, so that no EXPUNGE may
	// be sent with it (RFC 9051 §7.5.1).
	numbers bool
	run     func(c *conn, ctx context.Context, p *parser) (reply, error)
}

// execute runs one command and writes its tagged response.
func (c *conn) execute(ctx context.Context, cmd *command) {
	p := &parser{b: cmd.text, data: cmd.data, utf8: c.enabled.utf8ok()}
	tag, err := p.tag()
	if err != nil || !p.take(' ') {
		c.w.s("* BAD A command begins with a tag and a space\r\n")
		c.wrong()
		return
	}
	c.tag = tag
	name, err := p.upperAtom()
	if err == nil && name == "UID" {
		var second string
		if err = p.sp(); err == nil {
			second, err = p.upperAtom()
			name = "UID " + second
		}
	}
	h, ok := commands[name]
	switch {
	case err != nil || !ok:
		err = bad("", "Unknown command")
	case h.in&c.state == 0:
		err = bad("", wrongState(c.state, h.in))
	}
	var rep reply
	before := c.sel
	if err == nil {
		rep, err = h.run(c, ctx, p)
	}
	if err != nil {
		c.after, c.idle = nil, false
	}
	var broken *brokenError
	if errors.As(err, &broken) {
		c.s.o.Logger.Error("imap: a message could not be read to its end", "kind", errs.KindOf(err).Error())
		c.closing = true
		return
	}
	st := (*statusError)(nil)
	if err != nil {
		st = answer(err, c.state == notAuth)
	}
	// What others changed meanwhile is told before the tagged response, but not behind
	// SELECT: its response describes one state (RFC 9051 §6.3.2), and a client that
	// goes by its UIDNEXT would never look for a mail that a second EXISTS told.
	if c.sel != nil && c.sel == before && !c.idle && (st == nil || !st.bad) {
		if err := c.sync(ctx, !h.numbers); err != nil && st == nil {
			st = answer(err, false)
		}
	}
	if c.notify != nil && !c.idle && (st == nil || !st.bad) {
		if err := c.tellOthers(ctx); err != nil && st == nil {
			st = answer(err, false)
		}
	}
	if st == nil {
		c.bad = 0
		if !c.idle {
			c.tagged("OK", rep.code, rep.text)
		}
		return
	}
	if err != nil && errs.KindOf(err) == errs.Internal && !isOwn(err) {
		c.s.o.Logger.Error("imap: command failed", "command", name)
		c.s.o.Logger.Debug("imap: command failed", "command", name, "cause", err)
	}
	if st.closing {
		c.closing = true
		c.w.s("* BYE ", st.text, "\r\n")
	}
	if st.bad {
		c.tagged("BAD", st.code, st.text)
		c.wrong()
		return
	}
	c.tagged("NO", st.code, st.text)
	if st.code == "AUTHENTICATIONFAILED" {
		c.wrong()
	}
}

// isOwn reports an error that this package made to be shown.
func isOwn(err error) bool {
	var st *statusError
	var syn *syntaxError
	return errors.As(err, &st) || errors.As(err, &syn)
}

func (c *conn) tagged(status, code, text string) {
	c.w.s(c.tag, " ", status, " ")
	if code != "" {
		c.w.s("[", code, "] ")
	}
	c.w.s(text, "\r\n")
}

// wrong counts commands that were wrong; too many in a row end the session.
func (c *conn) wrong() {
	if c.bad++; c.bad >= c.s.o.MaxBad {
		c.w.s("* BYE Too many wrong commands\r\n")
		c.closing = true
	}
}

func wrongState(have, want state) string {
	switch {
	case have == notAuth:
		return "Log in first"
	case want == notAuth:
		return "Already logged in"
	}
	return "Select a mailbox first"
}

// folder finds a mailbox by name. NoSelect entries are errs.NotFound when
// selectable is asked for.
func (c *conn) folder(ctx context.Context, name string, selectable bool) (Folder, error) {
	all, err := c.session.Folders(ctx)
	if err != nil {
		return Folder{}, err
	}
	for _, f := range all {
		if f.Name == name && !f.NonExistent && !(selectable && f.NoSelect) {
			return f, nil
		}
	}
	return Folder{}, no("NONEXISTENT", "No such mailbox")
}

// tryCreate is folder for APPEND, COPY and MOVE, which tell the client that it
// may create the mailbox (RFC 9051 §6.3.12).
func (c *conn) tryCreate(ctx context.Context, name string) (Folder, error) {
	f, err := c.folder(ctx, name, true)
	var st *statusError
	if errors.As(err, &st) && st.code == "NONEXISTENT" {
		return f, no("TRYCREATE", st.text)
	}
	return f, err
}

// name writes a mailbox name the way this client reads it.
func (c *conn) name(s string) *writer {
	if c.enabled.utf8ok() {
		return c.w.str(s, true)
	}
	return c.w.str(encodeUTF7(s), false)
}

// isLine reports a line that says nothing but w, in any case.
func isLine(text []byte, w string) bool { return strings.EqualFold(string(text), w) }
