package mixsubmit

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"postern.email/agent/submit"
	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/mail"
	"postern.email/post/account"
	"postern.email/wire/sasl"
	"postern.email/wire/smtp"
)

// session is one connection of a mail program.
type session struct {
	s     *Submit
	peer  limits.Peer
	login submit.Login // nil before AUTH
	mail  envelope
}

// envelope is one transaction.
type envelope struct {
	account *Account
	from    mail.Address
	options smtp.MailOptions
	rcpts   []recipient
}

// Auth logs in to an account of the proxy.
func (c *session) Auth(ctx context.Context, cred sasl.Credentials) error {
	l, err := c.s.o.Local.Login(ctx, account.LoginRequest{Name: cred.Username, Password: cred.Password, Peer: c.peer})
	if err == nil {
		c.login = l
	}
	return err
}

// Mail begins a mail: from must be the account that was logged in to, and have keys in the mix
// network.
func (c *session) Mail(ctx context.Context, from mail.Address, o smtp.MailOptions) error {
	const op = "agent/mixsubmit.Mail"
	c.Reset()
	if c.login == nil && !c.s.o.NoAuth {
		return replyNoLogin
	}
	if c.s.o.Guard != nil {
		if err := c.s.o.Guard(); err != nil {
			return errs.Wrap(op, err)
		}
	}
	a, err := c.writer(ctx, from)
	if err != nil {
		return err
	}
	if err := c.s.fits(a, o.Size); err != nil {
		return err
	}
	c.mail = envelope{account: a, from: from, options: o}
	return nil
}

// writer gives the account that a mail of an envelope sender is from: "sender = login", or one of the
// login's own reply addresses.
func (c *session) writer(ctx context.Context, from mail.Address) (*Account, error) {
	if c.login == nil { // NoAuth: any account of the proxy
		for _, a := range c.s.o.Accounts() {
			if _, own := a.owns(from); own || a.Address.Equal(from) {
				return a, nil
			}
		}
		return nil, replySender
	}
	who, err := submit.Sender(ctx, c.login)
	if err != nil {
		return nil, errs.Wrap("agent/mixsubmit.writer", err)
	}
	a := c.s.account(who.Address)
	if a != nil {
		if _, own := a.owns(from); own {
			return a, nil
		}
	}
	switch {
	case !submit.SenderAllowed(who, from, nil):
		return nil, replySender
	case a == nil:
		return nil, replyUnregistered
	}
	return a, nil
}

// fits refuses a mail that the line would carry for longer than SizeTime.
func (s *Submit) fits(a *Account, size int64) error {
	most, known := s.size(a)
	if size <= most {
		return nil
	}
	why := fmt.Sprintf("a mail has %s at most, and this one has %s", bytesText(most), bytesText(size))
	if known {
		why = fmt.Sprintf("the network carries %s for this account in %d hours, and this mail has %s", bytesText(most), int(SizeTime.Hours()), bytesText(size))
	}
	return &smtp.Reply{Code: 552, Enhanced: "5.3.4", Text: why}
}

// Rcpt takes a recipient for whom there is a way.
func (c *session) Rcpt(_ context.Context, to mail.Address, o smtp.RcptOptions) error {
	m := &c.mail
	if to.Domain == "" { // <postmaster>: RFC 5321 §4.5.1 means the host's own
		return replyPostmaster
	}
	if slices.ContainsFunc(m.rcpts, func(r recipient) bool { return r.To.Equal(to) }) {
		return nil // one copy
	}
	if len(m.rcpts) >= MaxRecipients {
		return replyManyRcpts
	}
	if _, err := c.s.road(m.account, to, false); err != nil {
		// What the header asks for is not known yet: of what goes anonymously another exit may take care.
		if _, aerr := c.s.road(m.account, to, true); aerr != nil {
			return err
		}
	}
	m.rcpts = append(m.rcpts, recipient{To: to.Canonical(), Notify: uint8(o.Notify), OriginalType: o.OriginalType, OriginalAddress: o.OriginalAddress})
	return nil
}

// Data begins a mail.
func (c *session) Data(context.Context) (smtp.Transfer, error) { return &transfer{c: c}, nil }

// transfer is a mail on its way in.
type transfer struct {
	c    *session
	text string
}

// Commit takes the mail, or says why not.
func (t *transfer) Commit(_ context.Context, raw []byte) (err error) {
	defer t.c.Reset()
	t.text, err = t.c.s.take(&t.c.mail, raw)
	return err
}

// Text tells when the mail arrives.
func (t *transfer) Text() string { return t.text }

// Abort is the end of a mail that did not come.
func (t *transfer) Abort() { t.c.Reset() }

// Reset forgets the mail.
func (c *session) Reset() { c.mail = envelope{} }

// Close ends the login.
func (c *session) Close() {
	if c.login != nil {
		c.login.Close()
		c.login = nil
	}
}

// The replies of the policy.
var (
	replyNoLogin      = &smtp.Reply{Code: 530, Enhanced: "5.7.0", Text: "Authentication required"}
	replySender       = &smtp.Reply{Code: 553, Enhanced: "5.7.1", Text: "Sender address rejected: it is not the account of this proxy that is logged in"}
	replyUnregistered = &smtp.Reply{Code: 550, Enhanced: "5.7.1", Text: "this account is not registered with its relay, so that nothing can be sent: postern proxy -f FILE -r"}
	replyPostmaster   = &smtp.Reply{Code: 550, Enhanced: "5.1.1", Text: "a mail proxy has no postmaster: write the whole address"}
	replyManyRcpts    = &smtp.Reply{Code: 452, Enhanced: "4.5.3", Text: "too many recipients"}
	replyNoNetwork    = &smtp.Reply{Code: 451, Enhanced: "4.4.3", Text: "the directory of the mix network is not known yet, try again later"}
	replyNoRoad       = &smtp.Reply{Code: 550, Enhanced: "5.1.2", Text: "Recipient address rejected: no key is known, and no relay of the mix network has mailboxes of this domain"}
	replyNoDoor       = &smtp.Reply{Code: 550, Enhanced: "5.1.2", Text: "Recipient address rejected: no key is known, and the relay of this domain takes no mail from the mix network"}
	replyNoBox        = &smtp.Reply{Code: 550, Enhanced: "5.1.1", Text: "Recipient address rejected: the key book has a bare X25519 key, and the recipient's relay does not tell the rest"}
	replyCleartext    = &smtp.Reply{Code: 523, Enhanced: "5.7.10", Text: "Encryption Needed: the recipient's mail proxy is not known, and other mailboxes take only mail that is encrypted from end to end"}
	replyWorldClear   = &smtp.Reply{Code: 523, Enhanced: "5.7.10", Text: "Encryption Needed: mail for addresses outside of the network leaves only if it is encrypted from end to end; Proxy.AllowCleartext = true lets it leave as it is, where an exit takes it"}
	replyNoExit       = &smtp.Reply{Code: 523, Enhanced: "5.7.10", Text: "Encryption Needed: no exit of the network takes mail that is not encrypted from end to end"}
	replyReplyClear   = &smtp.Reply{Code: 523, Enhanced: "5.7.10", Text: "Encryption Needed: the relay of a reply address could read this mail before it is sealed; Proxy.AllowCleartext = true lets it leave nevertheless"}
)

func replyFromHeader(err error) *smtp.Reply {
	return &smtp.Reply{Code: 550, Enhanced: "5.6.0", Text: "Invalid FROM header: " + errs.Public(err)}
}

func replyParse(err error) *smtp.Reply {
	return &smtp.Reply{Code: 550, Enhanced: "5.6.0", Text: "Failed to parse message: " + errs.Public(err)}
}

var replyFrom = &smtp.Reply{Code: 550, Enhanced: "5.7.1", Text: "Invalid FROM header: it is not the sender of the envelope"}

// bytesText is a size for people.
func bytesText(n int64) string {
	switch {
	case n >= 10_000_000:
		return fmt.Sprintf("%d MB", n/1_000_000)
	case n >= 1_000_000:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(n)/1e6), ".0") + " MB"
	case n >= 1000:
		return fmt.Sprintf("%d kB", n/1000)
	}
	return fmt.Sprintf("%d bytes", n)
}
