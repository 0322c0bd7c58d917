package smtp

import (
	"context"
	"strconv"
	"strings"

	"postern.email/mail"
	"postern.email/wire/sasl"
)

// ehlo answers EHLO and HELO (RFC 5321 §4.1.1.1). What the client calls itself goes to a Greeter, and is kept
// nowhere else.
// A second one ends the mail transaction, as RSET does (§4.1.4).
func (s *session) ehlo(name string, extended bool) {
	if name == "" || strings.ContainsRune(name, ' ') {
		s.fault(replySyntax)
		return
	}
	s.resetTx(true)
	s.greeted, s.extended = true, extended
	if g, ok := s.backend.(Greeter); ok {
		g.Hello(name)
	}
	if !extended {
		s.text("250 " + s.o.Hostname + "\r\n")
		return
	}
	lines := []string{s.o.Hostname, "PIPELINING", "SIZE " + strconv.FormatInt(s.o.offer(), 10), "8BITMIME", "SMTPUTF8",
		"CHUNKING", "DSN", "ENHANCEDSTATUSCODES",
		"LIMITS RCPTMAX=" + strconv.Itoa(s.o.MaxRecipients) + " MAILMAX=" + strconv.Itoa(s.o.MaxMails)}
	if s.o.TLS != nil && !s.secure {
		lines = append(lines, "STARTTLS")
	}
	if s.secure { // RFC 8689 §2: not before TLS
		lines = append(lines, "REQUIRETLS")
	}
	if m := s.mechanisms(); len(m) > 0 && !s.authed {
		lines = append(lines, "AUTH "+strings.Join(m, " "))
	}
	lines = append(lines, "HELP")
	for i, l := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		s.text("250" + sep + l + "\r\n")
	}
}

func (s *session) mechanisms() []string {
	if !s.o.OfferAuth {
		return nil
	}
	return sasl.Mechanisms(sasl.Conn{TLS: s.secure, Private: s.o.Private})
}

// vrfy tells nobody who exists (RFC 5321 §7.3).
func (s *session) vrfy(arg string) {
	if arg == "" {
		s.fault(replySyntax)
		return
	}
	s.reply(reply(252, "2.0.0", "send some mail, I will try to deliver it"))
}

// startTLS is RFC 3207. Whatever was sent behind the command came in the clear and
// could be another's: then nothing is believed any more.
func (s *session) startTLS(ctx context.Context, arg string) {
	switch {
	case arg != "":
		s.fault(replySyntax)
		return
	case s.secure:
		s.fault(replySequence)
		return
	case s.o.TLS == nil:
		s.fault(reply(502, "5.5.1", "STARTTLS is not offered"))
		return
	case s.in.Buffered() > 0:
		s.reply(reply(501, "5.5.1", "nothing may follow STARTTLS"))
		s.quit, s.drain = true, true
		return
	}
	s.reply(reply(220, "2.0.0", "go ahead"))
	if s.out.Flush() != nil || !s.handshake(ctx) {
		s.quit = true
		return
	}
	// RFC 3207 §4.2: everything learnt before is forgotten.
	s.resetTx(true)
	s.backend.Close()
	s.backend = nil
	s.greeted, s.extended, s.authed = false, false, false
	if !s.begin(ctx) {
		s.quit = true
	}
}

// mail is MAIL (RFC 5321 §4.1.1.2).
func (s *session) mail(ctx context.Context, arg string) {
	switch {
	case !s.greeted || s.tx.open:
		s.fault(replySequence)
		return
	case s.o.RequireTLS && !s.secure:
		s.fault(replyTLSNow)
		return
	case s.o.RequireAuth && !s.authed:
		if sasl.MayAuth(sasl.Conn{TLS: s.secure, Private: s.o.Private}) || s.o.TLS == nil {
			s.fault(replyAuthNow)
		} else {
			s.fault(replyTLSNow)
		}
		return
	case s.mails >= s.o.MaxMails:
		s.reply(replyManyMails)
		return
	}
	from, params, r := cutPath(arg, "FROM:")
	if r == nil && from.Domain == "" && !from.IsZero() {
		r = reply(501, "5.1.7", "bad sender address syntax") // <postmaster> is for RCPT only
	}
	var o MailOptions
	if r == nil {
		o, r = parseMailParams(params)
	}
	switch {
	case r != nil:
	case params != "" && !s.extended:
		r = replyUnknownParam // HELO knows no parameters
	case o.RequireTLS && !s.secure:
		r = replyUnknownParam // it was not offered
	case !o.UTF8 && !asciiAddress(from):
		r = replyNotUTF8
	case o.Size > s.o.MaxSize:
		r = replyTooLarge
	}
	if r != nil {
		s.fault(r)
		return
	}
	s.resetTx(false)
	if err := s.backend.Mail(ctx, from, o); err != nil {
		s.fail("MAIL", err)
		return
	}
	s.mails++
	s.tx = transaction{open: true, utf8: o.UTF8}
	s.reply(reply(250, "2.1.0", "OK"))
}

func asciiAddress(a mail.Address) bool { return isASCII(a.Local) && isASCII(a.Domain) }

// rcpt is RCPT (RFC 5321 §4.1.1.3).
func (s *session) rcpt(ctx context.Context, arg string) {
	if !s.tx.open || s.tx.chunks != nil {
		s.fault(replySequence)
		return
	}
	to, params, r := cutPath(arg, "TO:")
	if r == nil && to.IsZero() {
		r = reply(501, "5.1.3", "bad recipient address syntax")
	}
	var o RcptOptions
	if r == nil {
		o, r = parseRcptParams(params, s.tx.utf8)
	}
	switch {
	case r != nil:
	case params != "" && !s.extended:
		r = replyUnknownParam
	case !s.tx.utf8 && !asciiAddress(to):
		r = replyNotUTF8
	}
	if r != nil {
		s.fault(r)
		return
	}
	// RFC 9422 §4.2 (RCPTMAX) counts commands, and so do we: otherwise one mail could
	// try out any number of names.
	if s.tx.tried++; s.tx.tried > s.o.MaxRecipients {
		s.reply(reply(452, "4.5.3", "too many recipients"))
		return
	}
	if err := s.backend.Rcpt(ctx, to, o); err != nil {
		// Whoever has logged in may well write to a group with members who left;
		// a stranger who meets only refusals is trying names out. What is put off is no
		// refusal, and a mail that is taken makes up for those before it: a relay that sends much
		// over one connection is cut off for neither.
		if s.fail("RCPT", err).Code/100 == 5 {
			s.refused++
		}
		if !s.authed && s.refused >= s.o.MaxRefused && !s.quit {
			s.reply(replyManyErrors)
		}
		return
	}
	s.tx.rcpts++
	s.reply(reply(250, "2.1.5", "OK"))
}
