package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/wire/lineio"
	"postern.email/wire/sasl"
)

// maxLine is the longest line read: an AUTH command with its initial response.
const maxLine = sasl.MaxLine + 64

// session is one connection.
type session struct {
	o       *Options
	raw     net.Conn // as accepted
	conn    net.Conn // raw, or TLS over it
	in      *lineio.Reader
	out     *lineio.Writer
	peer    limits.Peer
	memory  limits.Share // of Options.Memory
	backend Session

	secure   bool // TLS is on
	greeted  bool // EHLO or HELO was accepted
	extended bool // EHLO
	authed   bool
	quit     bool // close after the replies are out
	drain    bool // the client may still be sending: close gently

	errors  int
	refused int // recipients, without login
	fails   int // logins
	mails   int

	tx transaction

	// stopping and idle belong to the shutdown: a session that waits for a command
	// is interrupted, one at work is let through.
	mu       sync.Mutex
	stopping bool
	idle     bool
	over     bool
	cut      *time.Timer
}

// transaction is the state between MAIL and the end of the mail.
type transaction struct {
	open   bool // MAIL was accepted
	utf8   bool
	tried  int // RCPT commands without a fault
	rcpts  int // accepted
	chunks *chunks
}

func newSession(o *Options, conn net.Conn, peer limits.Peer) *session {
	s := &session{o: o, raw: conn, conn: conn, peer: peer, memory: o.Memory.Share(peer, o.Share), idle: true}
	s.in = lineio.NewReader(conn, lineio.Times{Idle: o.Idle, Line: o.Line})
	s.out = lineio.NewWriter(conn, o.Write)
	s.in.OnWait(s.out.Flush)
	return s
}

// stop makes the session end at the next command; after the grace cut is called.
// Any goroutine may call it, once.
func (s *session) stop(cut func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.stopping = true
	s.cut = time.AfterFunc(s.o.Grace, cut)
	if s.idle {
		s.in.Interrupt()
	}
}

// work marks the time in which a shutdown waits for the session.
func (s *session) work(on bool) (stopping bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = !on
	return s.stopping
}

func (s *session) run(ctx context.Context) {
	defer s.close()
	if !s.start(ctx) {
		return
	}
	for !s.quit {
		line, err := s.in.Line(maxLine)
		if err != nil {
			s.lineFault(err)
			return
		}
		if s.work(true) {
			s.reply(replyShutdown)
			return
		}
		s.command(ctx, line)
		if s.work(false) && !s.quit {
			s.reply(replyShutdown)
			return
		}
		if s.errors > s.o.MaxErrors && !s.quit {
			s.reply(replyManyErrors)
		}
	}
}

// start does the handshake of implicit TLS and greets.
func (s *session) start(ctx context.Context) bool {
	if t, ok := s.conn.(interface{ ConnectionState() tls.ConnectionState }); ok {
		s.secure = t.ConnectionState().HandshakeComplete
	}
	if s.o.Implicit && !s.secure {
		if !s.handshake(ctx) {
			return false
		}
	}
	if !s.begin(ctx) {
		return false
	}
	s.text("220 " + s.o.Hostname + " ESMTP\r\n")
	return true
}

// begin starts a fresh session of the backend.
func (s *session) begin(ctx context.Context) bool {
	b, err := s.o.Backend.NewSession(ctx, Info{Peer: s.peer, TLS: s.secure})
	if err != nil {
		r := ReplyFor(err)
		if r.Code/100 != 4 && r.Code/100 != 5 {
			r = replyShutdown
		}
		s.reply(r)
		return false
	}
	s.backend = b
	return true
}

// handshake turns TLS on. The deadlines go back to the reader and writer.
func (s *session) handshake(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, s.o.Handshake)
	defer cancel()
	t := tls.Server(s.raw, s.o.TLS)
	if err := t.HandshakeContext(ctx); err != nil {
		s.o.Logger.Debug("smtp: TLS handshake failed", "error", err)
		return false
	}
	if err := s.in.Rebase(t); err != nil {
		return false
	}
	if err := s.out.Rebase(t); err != nil {
		return false
	}
	s.conn, s.secure = t, true
	return true
}

// close ends everything; the replies go out first.
func (s *session) close() {
	s.resetTx(true)
	if s.backend != nil {
		s.backend.Close()
	}
	err := s.out.Flush()
	s.in.Close()
	s.mu.Lock()
	s.over = true
	if s.cut != nil {
		s.cut.Stop()
	}
	s.mu.Unlock()
	if s.drain && err == nil {
		farewell(s.conn, s.raw)
		return
	}
	s.conn.Close()
	s.raw.Close() // a tls.Conn whose handshake failed leaves it open
}

// lineFault answers what is wrong with the stream itself; the session ends.
func (s *session) lineFault(err error) {
	switch {
	case errors.Is(err, lineio.ErrInterrupted):
		s.reply(replyShutdown)
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.reply(replyTimeout)
	case err == lineio.ErrTooLong:
		s.reply(replyLineTooLong)
		s.drain = true
	case err == lineio.ErrBareCR, err == lineio.ErrBareLF, err == lineio.ErrNUL:
		s.reply(replyNotCRLF)
		s.drain = true
	}
}

// text puts raw reply text into the buffer; it goes out when the session would have
// to wait for the client.
func (s *session) text(t string) { s.out.WriteString(t) }

// maxReply is the longest reply line without its CRLF (RFC 5321 §4.5.3.1.5).
const maxReply = 510

func (s *session) reply(r *Reply) {
	t := r.String()
	if len(t) > maxReply {
		t = strings.ToValidUTF8(t[:maxReply], "")
	}
	s.text(t)
	s.text("\r\n")
	if r.Code == 421 { // RFC 5321 §3.8: the server closes after it
		s.quit, s.drain = true, true
	}
}

// fault replies to a command that the client should not have sent.
func (s *session) fault(r *Reply) {
	s.errors++
	s.reply(r)
}

// fail replies with an error of the backend and logs its cause for those who debug.
func (s *session) fail(what string, err error) *Reply {
	r := ReplyFor(err)
	if r.Code/100 != 4 && r.Code/100 != 5 {
		r = reply(451, "4.3.0", "local error, try again later") // an error is never a yes
	}
	s.o.Logger.Debug("smtp: refused", "at", what, "kind", errs.KindOf(err).Error(), "error", err)
	s.reply(r)
	return r
}

// resetTx ends the transaction. abandon tells the backend, which a Commit has not.
func (s *session) resetTx(abandon bool) {
	open, c := s.tx.open, s.tx.chunks
	s.tx = transaction{}
	if c != nil {
		c.drop()
		s.commandTimes()
	}
	if abandon && open && s.backend != nil {
		s.backend.Reset()
	}
}

// command runs one command line.
func (s *session) command(ctx context.Context, line []byte) {
	if len(line) > MaxCommand && !isAuth(line) {
		s.fault(replyLineTooLong)
		return
	}
	if !printable(line) {
		// A BDAT with control characters has a size nobody can know, and its bytes
		// would follow as commands.
		s.fault(reply(500, "5.5.2", "control characters in a command"))
		s.quit, s.drain = true, true
		return
	}
	verb, arg := splitVerb(line)
	switch verb {
	case "EHLO":
		s.ehlo(arg, true)
	case "HELO":
		s.ehlo(arg, false)
	case "MAIL":
		s.mail(ctx, arg)
	case "RCPT":
		s.rcpt(ctx, arg)
	case "DATA":
		s.data(ctx, arg)
	case "BDAT":
		s.bdat(ctx, arg)
	case "RSET":
		s.plain(arg, func() {
			s.resetTx(true)
			s.reply(replyOK)
		})
	case "NOOP":
		s.reply(replyOK)
	case "QUIT":
		s.plain(arg, func() {
			s.reply(reply(221, "2.0.0", "Bye"))
			s.quit = true
		})
	case "AUTH":
		s.auth(ctx, arg)
	case "STARTTLS":
		s.startTLS(ctx, arg)
	case "VRFY":
		s.vrfy(arg)
	case "HELP":
		s.reply(reply(214, "2.0.0", "see RFC 5321"))
	case "EXPN":
		s.fault(reply(502, "5.5.1", "EXPN is not offered"))
	default:
		s.fault(replyUnknown)
	}
}

// plain runs a command that takes no argument.
func (s *session) plain(arg string, do func()) {
	if arg != "" {
		s.fault(replySyntax)
		return
	}
	do()
}

func isAuth(line []byte) bool {
	return len(line) > 5 && strings.EqualFold(string(line[:5]), "AUTH ")
}
