package receive

import (
	"context"

	"postern.email/agent/aliasmail"
	"postern.email/agent/forward"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/wire/smtp"
)

// Forwards takes mail for the addresses that are given out where mail for aliases goes to mailboxes
// elsewhere; agent/forward has one. Errors are usually a *smtp.Reply, and refuse the mail or the recipient.
type Forwards interface {
	// Made reports whether an address has the form of one that is given out: for what comes back, or to
	// answer a sender.
	Made(to mail.Address) bool
	// Recipient judges such an address as RCPT does.
	Recipient(ctx context.Context, to mail.Address) error
	// Take takes responsibility for a mail for such addresses.
	Take(ctx context.Context, m forward.Incoming) error
}

// maxMade bounds the addresses of one mail that Forwards gave out.
const maxMade = 50

// made judges a recipient that Forwards gave out. is is false for any other.
func (c *session) made(ctx context.Context, to mail.Address) (is bool, err error) {
	m, o := &c.mail, &c.r.o
	if o.Forwards == nil || !o.Forwards.Made(to) {
		return false, nil
	}
	switch {
	case !c.r.mayTry(c.network):
		return true, replyManyUnknown
	case len(m.to)+len(m.bounced) > 0, len(m.made) == maxMade:
		return true, replySeparate
	}
	if err := o.Forwards.Recipient(ctx, to); err != nil {
		if r := smtp.ReplyFor(err); r.Code >= 500 {
			o.Unknown.Charge(c.network, 1)
		}
		return true, err
	}
	m.made = append(m.made, to)
	return true, nil
}

// takeMade hands a mail over to Forwards.
func (c *session) takeMade(ctx context.Context, raw []byte) error {
	in := forward.Incoming{To: c.mail.made, Options: c.mail.options, Raw: raw}
	if h, _, err := mail.ParseHeader(raw); err == nil {
		if from, err := mail.FromAddress(h); err == nil {
			in.From = from
		}
	}
	in.Vouched = func(ctx context.Context) (bool, error) { return c.vouches(ctx, raw, in.From) }
	return errs.Wrap("agent/receive.takeMade", c.r.o.Forwards.Take(ctx, in))
}

// vouches reports whether the domain of a mail's sender vouches for it.
func (c *session) vouches(ctx context.Context, raw []byte, from mail.Address) (bool, error) {
	_, err := c.r.vouch(ctx, raw, from, c.voucher(false))
	if err == aliasmail.NotAligned {
		return false, nil
	}
	return err == nil, err
}
