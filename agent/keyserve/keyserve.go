// Package keyserve answers, at a relay, who comes through the mix network and asks for the
// certificate of an address (docs/mix-relay.md §6). It knows neither who asks nor remembers what
// was asked. Somebody who has no address in hand learns none: there is no list, and an address
// that is unknown, blocked or not published has one answer.
package keyserve

import (
	"context"
	"log/slog"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mixnet/content"
	"postern.email/mixnet/node"
)

// Options of a Server.
type Options struct {
	// Certificate gives the certificate of an address whose owner has published it. errs.NotFound
	// for every other address; other kinds of errors mean that it cannot be told now. nil: the
	// service is not given.
	Certificate func(ctx context.Context, a mail.Address) ([]byte, error)
	Logger      *slog.Logger // nil: nothing is logged
}

// Server is what a node asks. It may be used by many goroutines.
type Server struct{ o Options }

var _ node.Services = (*Server)(nil)

// New makes a Server.
func New(o Options) *Server {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{o}
}

// Serve is that of node.Services.
func (s *Server) Serve(ctx context.Context, service uint8, request []byte) (status uint8, answer []byte) {
	if service != content.ServiceCertificate || s.o.Certificate == nil {
		return content.AnswerRefused, nil
	}
	text, err := content.ParseLookup(request)
	if err != nil {
		return content.AnswerRefused, nil
	}
	a, err := mail.ParseAddress(text)
	if err != nil || a.Canonical().String() != text {
		return content.AnswerRefused, nil
	}
	cert, err := s.o.Certificate(ctx, a)
	switch {
	case err == nil && len(cert) > 0 && len(cert) <= content.MaxAnswer:
		return content.AnswerOK, cert
	case err != nil && errs.KindOf(err) == errs.NotFound:
		return content.AnswerUnknown, nil
	case ctx.Err() == nil:
		s.o.Logger.Warn("the certificate of an address cannot be given now", "kind", errs.KindOf(err))
	}
	return content.AnswerLater, nil
}
