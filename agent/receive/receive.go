// Package receive is the policy for mail from other hosts: the Backend of wire/smtp on
// port 25.
//
// What a relay asks of a stranger's mail is a valid DKIM signature of the domain in
// its From field. Until that can be checked here, no such mail is taken, and the
// sender is told so at MAIL, before anything else.
package receive

import (
	"context"

	"postern.email/mail"
	"postern.email/wire/sasl"
	"postern.email/wire/smtp"
)

// Receive is the policy. It has no state.
type Receive struct{}

// New makes a Receive.
func New() *Receive { return &Receive{} }

var (
	replyNotYet = &smtp.Reply{Code: 554, Enhanced: "5.3.2", Text: "this relay does not take mail from other hosts yet"}
	replyNoAuth = &smtp.Reply{Code: 502, Enhanced: "5.5.1", Text: "AUTH is not offered"}
)

// NewSession begins a session for wire/smtp.
func (*Receive) NewSession(context.Context, smtp.Info) (smtp.Session, error) { return session{}, nil }

type session struct{}

func (session) Auth(context.Context, sasl.Credentials) error { return replyNoAuth }
func (session) Mail(context.Context, mail.Address, smtp.MailOptions) error {
	return replyNotYet
}
func (session) Rcpt(context.Context, mail.Address, smtp.RcptOptions) error { return replyNotYet }
func (session) Data(context.Context) (smtp.Transfer, error)                { return nil, replyNotYet }
func (session) Reset()                                                     {}
func (session) Close()                                                     {}
