package world

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/wire/sasl"
	"postern.email/wire/smtp"
)

// exchange takes mail from other hosts for the accounts here.
type exchange struct{ w *World }

// NewSession implements smtp.Backend.
func (e *exchange) NewSession(context.Context, smtp.Info) (smtp.Session, error) {
	return &session{w: e.w, with: "ESMTP"}, nil
}

// submission takes mail from users here for everybody.
type submission struct{ w *World }

// NewSession implements smtp.Backend.
func (s *submission) NewSession(context.Context, smtp.Info) (smtp.Session, error) {
	return &session{w: s.w, with: "ESMTPA", users: true}, nil
}

// session is one connection of either.
type session struct {
	w     *World
	with  string
	users bool
	login string

	from mail.Address
	to   []mail.Address
}

var errDomain = errs.E("lab/world", errs.Denied, "this host takes mail for its own domain only", nil)

// Auth implements smtp.Session.
func (s *session) Auth(_ context.Context, c sasl.Credentials) error {
	local, ok := s.w.boxes.check(c.Username, c.Password)
	if !ok || !s.users {
		return errs.E("lab/world.Auth", errs.Auth, "", nil)
	}
	s.login = local
	return nil
}

// Mail implements smtp.Session.
func (s *session) Mail(_ context.Context, from mail.Address, _ smtp.MailOptions) error {
	if s.users && !from.Equal(mail.Address{Local: s.login, Domain: s.w.c.Domain}) {
		return errs.E("lab/world.Mail", errs.Denied, "the sender is not the address of this login", nil)
	}
	s.from = from
	return nil
}

// Rcpt implements smtp.Session.
func (s *session) Rcpt(_ context.Context, to mail.Address, _ smtp.RcptOptions) error {
	switch here := strings.EqualFold(to.Domain, s.w.c.Domain); {
	case here && !s.w.boxes.there(to.Local):
		return errs.E("lab/world.Rcpt", errs.NotFound, "there is no such address here", nil)
	case !here && !s.users:
		return errDomain
	}
	s.to = append(s.to, to)
	return nil
}

// Data implements smtp.Session.
func (s *session) Data(context.Context) (smtp.Transfer, error) { return s, nil }

// Reset implements smtp.Session.
func (s *session) Reset() { s.from, s.to = mail.Address{}, nil }

// Close implements smtp.Session.
func (s *session) Close() {}

// Abort implements smtp.Transfer.
func (s *session) Abort() {}

// Commit implements smtp.Transfer.
func (s *session) Commit(_ context.Context, raw []byte) error {
	raw, err := s.stamped(raw)
	if err != nil {
		return err
	}
	for _, to := range s.to {
		if strings.EqualFold(to.Domain, s.w.c.Domain) {
			err = s.w.boxes.deliver(to.Local, append([]byte("Return-Path: <"+s.from.String()+">\r\n"), raw...))
		} else {
			err = s.w.queue.put(s.from, to, raw)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// stamped puts the trace field in front, and in mail from users what they left out, with the host's
// signature.
func (s *session) stamped(raw []byte) ([]byte, error) {
	h, body, err := mail.ParseHeader(raw)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if s.users {
		if h.Count("Date") == 0 {
			h = h.Append("Date", mail.FormatDate(now))
		}
		if h.Count("Message-ID") == 0 {
			id, err := mail.NewMessageID(rand.Reader, s.w.c.Domain)
			if err != nil {
				return nil, err
			}
			h = h.Append("Message-ID", id)
		}
		head := headerBytes(h)
		signature, err := s.w.signer.Sign(head, raw[body:])
		if err != nil {
			return nil, err
		}
		raw = slices.Concat(signature, head, raw[body:])
	}
	trace := fmt.Sprintf("Received: by %s with %s; %s\r\n", s.w.c.Domain, s.with, mail.FormatDate(now))
	return append([]byte(trace), raw...), nil
}

// headerBytes gives a header with its empty line.
func headerBytes(h mail.Header) []byte {
	b := h.Bytes()
	if !strings.HasSuffix(string(b), "\r\n\r\n") {
		b = append(b, "\r\n"...)
	}
	return b
}
