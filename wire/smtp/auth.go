package smtp

import (
	"context"
	"slices"
	"strings"

	"postern.email/kit/errs"
	"postern.email/wire/sasl"
)

// auth is AUTH (RFC 4954).
func (s *session) auth(ctx context.Context, arg string) {
	offered := s.mechanisms()
	mechanism, initial, hasInitial := strings.Cut(arg, " ")
	switch {
	case !s.o.OfferAuth:
		s.fault(reply(502, "5.5.1", "AUTH is not offered"))
		return
	case offered == nil:
		s.fault(reply(538, "5.7.11", "encryption required: issue STARTTLS first"))
		return
	case !s.greeted || !s.extended || s.authed || s.tx.open:
		s.fault(replySequence) // §4: not twice, and not in a mail transaction
		return
	case mechanism == "" || strings.ContainsRune(initial, ' '):
		s.fault(replySyntax)
		return
	case !slices.Contains(offered, strings.ToUpper(mechanism)):
		s.fault(reply(504, "5.5.4", "unknown authentication mechanism"))
		return
	}
	exchange, err := sasl.New(mechanism)
	if err != nil {
		s.fault(reply(504, "5.5.4", "unknown authentication mechanism"))
		return
	}
	var response []byte
	if hasInitial {
		if response, err = sasl.Decode([]byte(initial)); err != nil {
			s.badResponse(err)
			return
		}
	}
	for {
		challenge, done, err := exchange.Next(response)
		if err != nil {
			s.badResponse(err)
			return
		}
		if done {
			break
		}
		s.text("334 " + sasl.Encode(challenge) + "\r\n")
		if response, err = s.response(); err != nil || response == nil {
			return
		}
	}
	s.login(ctx, exchange.Credentials())
}

// response reads one line of an exchange; nil when it was answered already.
func (s *session) response() ([]byte, error) {
	line, err := s.in.Line(sasl.MaxLine)
	if err != nil {
		if errs.KindOf(err) == errs.TooLarge {
			s.reply(reply(500, "5.5.6", "authentication line too long"))
			s.drain = true
		} else {
			s.lineFault(err)
		}
		s.quit = true
		return nil, err
	}
	if string(line) == "*" { // RFC 4954 §4: the client cancels
		s.reply(reply(501, "5.0.0", "authentication cancelled"))
		s.errors++
		return nil, nil
	}
	response, err := sasl.Decode(line)
	if err != nil {
		s.badResponse(err)
		return nil, nil
	}
	return response, nil
}

func (s *session) badResponse(err error) {
	if errs.KindOf(err) == errs.TooLarge {
		s.fault(reply(500, "5.5.6", "authentication line too long"))
		return
	}
	s.fault(reply(501, "5.5.2", clean(errs.Public(err))))
}

func (s *session) login(ctx context.Context, c sasl.Credentials) {
	err := s.backend.Auth(ctx, c)
	if err == nil {
		s.authed = true
		s.reply(reply(235, "2.7.0", "Authentication successful"))
		return
	}
	switch kind := errs.KindOf(err); {
	case isReply(err):
		s.fail("AUTH", err)
	case kind.Temporary(): // RFC 4954 §6: 454 for a failure that may pass
		s.fail("AUTH", reply(454, "4.7.0", authText(err)))
	default:
		s.fail("AUTH", reply(535, "5.7.8", authText(err)))
	}
	if s.fails++; s.fails >= MaxAuth && !s.quit {
		s.reply(replyManyErrors)
	}
}

func isReply(err error) bool {
	_, ok := err.(*Reply)
	return ok
}

func authText(err error) string {
	if k := errs.KindOf(err); k == errs.Internal || k == errs.Corrupt {
		return "local error, try again later"
	}
	return clean(errs.Public(err))
}
