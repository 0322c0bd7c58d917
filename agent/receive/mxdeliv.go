package receive

import (
	"context"

	"postern.email/kit/limits"
	"postern.email/wire/mxdeliv"
	"postern.email/wire/smtp"
)

// maxRefused is how many recipients of one request over HTTPS may be refused before
// the rest is left to SMTP; there a session ends at as many.
const maxRefused = smtp.DefaultMaxRefused

// replySplit is the answer of HTTPS when recipients do not fare alike.
var replySplit = &smtp.Reply{Code: 451, Enhanced: "4.5.3", Text: "not all recipients are accepted; use SMTP, which answers for each"}

// Web gives the same policy as the backend of wire/mxdeliv. A mail that came this way
// passes the very steps of one that came by SMTP.
func (r *Receive) Web() mxdeliv.Backend { return web{r} }

type web struct{ r *Receive }

// Admit spares both sides the bytes of a mail that would be put off. It counts
// nothing: Deliver does.
func (b web) Admit(_ context.Context, p limits.Peer) (reply string, ok bool) {
	if err := b.r.admit(p.Network(), false); err != nil {
		return smtp.ReplyFor(err).String(), false
	}
	return "", true
}

// Deliver takes a mail for all of its recipients or for none.
func (b web) Deliver(ctx context.Context, m mxdeliv.Mail) (mxdeliv.Outcome, string) {
	c := &session{r: b.r, tls: true, peer: m.Peer, network: m.Peer.Network()} // wire/mxdeliv speaks only under TLS
	defer c.Close()
	if err := c.Mail(ctx, m.From, smtp.MailOptions{Size: int64(len(m.Raw))}); err != nil {
		return refuse(err)
	}
	var refusal error
	taken, refused := 0, 0
	for _, to := range m.To {
		err := c.Rcpt(ctx, to, smtp.RcptOptions{})
		switch {
		case err == replyManyUnknown:
			return refuse(err)
		case err != nil:
			refusal = err
			refused++
		default:
			taken++
		}
		if refused > 0 && taken > 0 || refused == maxRefused {
			return mxdeliv.Split, replySplit.String()
		}
	}
	if refusal != nil {
		return refuse(refusal)
	}
	if err := c.Commit(ctx, m.Raw); err != nil {
		return refuse(err)
	}
	return mxdeliv.Accepted, "250 2.0.0 OK"
}

// refuse gives the answer to a mail that is taken for nobody.
func refuse(err error) (mxdeliv.Outcome, string) {
	switch err {
	case replyManyMails, replyManyBytes, replyManyUnknown:
		return mxdeliv.Later, smtp.ReplyFor(err).String()
	}
	return mxdeliv.Refused, smtp.ReplyFor(err).String()
}
