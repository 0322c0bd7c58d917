package receive

import (
	"context"

	"postern.email/wire/mxdeliv"
	"postern.email/wire/smtp"
)

// Web gives the same policy as the backend of wire/mxdeliv. A mail that came this way
// passes the very steps of one that came by SMTP.
func (r *Receive) Web() mxdeliv.Backend { return web{r} }

type web struct{ r *Receive }

// Deliver takes a mail for all of its recipients or for none.
func (b web) Deliver(ctx context.Context, m mxdeliv.Mail) (mxdeliv.Outcome, string) {
	c := &session{r: b.r, tls: true} // wire/mxdeliv speaks only under TLS
	defer c.Close()
	if err := c.Mail(ctx, m.From, smtp.MailOptions{Size: int64(len(m.Raw))}); err != nil {
		return mxdeliv.Refused, smtp.ReplyFor(err).String()
	}
	var refused error
	taken := 0
	for _, to := range m.To {
		if err := c.Rcpt(ctx, to, smtp.RcptOptions{}); err != nil {
			refused = err
		} else {
			taken++
		}
	}
	switch {
	case refused != nil && taken > 0:
		return mxdeliv.Split, "451 4.5.3 not all recipients are accepted; use SMTP, which answers for each"
	case refused != nil:
		return mxdeliv.Refused, smtp.ReplyFor(refused).String()
	}
	if err := c.Commit(ctx, m.Raw); err != nil {
		return mxdeliv.Refused, smtp.ReplyFor(err).String()
	}
	return mxdeliv.Accepted, "250 2.0.0 OK"
}
