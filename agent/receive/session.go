package receive

import (
	"context"

	"postern.email/agent/aliasmail"
	"postern.email/agent/deliver"
	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/mail"
	"postern.email/post/account"
	"postern.email/post/queue"
	"postern.email/store"
	"postern.email/wire/sasl"
	"postern.email/wire/smtp"
)

// session is one connection of another host.
type session struct {
	r       *Receive
	tls     bool
	peer    limits.Peer
	network string // of peer, for limits
	hello   string // what the client calls itself
	mail    envelope
}

// envelope is one transaction.
type envelope struct {
	from    mail.Address
	options smtp.MailOptions
	rcpts   []account.Account
	confirm []queue.Rcpt // of them those whose delivery is to be told (RFC 3461)
	to      []mail.Address
	replies []mail.Address       // reply addresses
	bounced []mail.Address       // recipients that are where mail of an exit comes back
	alias   *aliasmail.Recipient // then there are no others
	made    []mail.Address       // recipients that Forwards gave out; then there are no others
}

var _ smtp.Greeter = (*session)(nil)

// NewSession begins a session for wire/smtp.
func (r *Receive) NewSession(_ context.Context, c smtp.Info) (smtp.Session, error) {
	return &session{r: r, tls: c.TLS, peer: c.Peer, network: c.Peer.Network()}, nil
}

// Hello is that of smtp.Greeter.
func (c *session) Hello(name string) { c.hello = name }

// Auth: nobody logs in here.
func (*session) Auth(context.Context, sasl.Credentials) error { return replyNoAuth }

// Mail begins a mail. That TLS is needed is the listener's rule too; here it holds
// whatever the listener asks.
func (c *session) Mail(_ context.Context, from mail.Address, o smtp.MailOptions) error {
	c.Reset()
	if !c.tls {
		return replyTLS
	}
	if guard := c.r.o.Guard; guard != nil {
		if err := guard(); err != nil {
			return errs.Wrap("agent/receive.Mail", err)
		}
	}
	if err := c.r.admit(c.network, true); err != nil {
		return err
	}
	c.mail.from, c.mail.options = from, o
	return nil
}

// Rcpt judges a recipient at once: what is taken here is delivered, so nobody has to
// be told later of a failure.
func (c *session) Rcpt(ctx context.Context, to mail.Address, asked smtp.RcptOptions) error {
	m, o := &c.mail, &c.r.o
	if to.Domain == "" { // <postmaster>: RFC 5321 §4.5.1 means the host's own
		to.Domain = o.Domain
	}
	if !o.Accounts.Ours(to) && !o.Aliases.Ours(to) {
		return replyRelay
	}
	if m.alias != nil {
		return replySeparate
	}
	if o.Bounce != nil && o.Bounce(to, false) {
		m.bounced = append(m.bounced, to)
		return nil
	}
	if is, err := c.made(ctx, to); is {
		return err
	}
	if len(m.made) > 0 {
		return replySeparate
	}
	if !c.r.mayTry(c.network) {
		return replyManyUnknown
	}
	if c.r.isReply(to) {
		if err := c.r.replyRoom(ctx, to); err != nil {
			if err == replyUnknown {
				o.Unknown.Charge(c.network, 1)
			}
			return err
		}
		if len(m.replies) == deliver.MaxReplies {
			return replySeparate
		}
		m.replies = append(m.replies, to)
		m.to = append(m.to, to)
		return nil
	}
	a, err := c.r.Recipient(ctx, to, m.options.Size)
	switch {
	case err == replyUnknown && o.Aliases.Ours(to):
		return c.rcptAlias(ctx, to)
	case err == replyUnknown, err == replyBlocked:
		o.Unknown.Charge(c.network, 1)
		return err
	case err != nil && err != replyFull:
		return err
	case len(m.rcpts) > 0 && m.rcpts[0].Class != a.Class:
		return replySeparate // classes never share a transaction
	case err != nil:
		return err
	}
	m.rcpts = append(m.rcpts, a)
	m.to = append(m.to, to)
	if asked.Notify&smtp.NotifySuccess != 0 {
		m.confirm = append(m.confirm, queue.Rcpt{To: to, Notify: uint8(asked.Notify), OriginalType: asked.OriginalType, OriginalAddress: asked.OriginalAddress})
	}
	return nil
}

// Data takes the mail. It is not announced to the store yet: a look-up may come first.
func (c *session) Data(context.Context) (smtp.Transfer, error) { return c, nil }

// Abort is the end of a mail that did not come.
func (c *session) Abort() { c.Reset() }

// Commit judges the whole mail, as it was received, and delivers it. An envelope sender
// that is not the From is emptied: nothing vouches for it, and no report shall go there.
func (c *session) Commit(ctx context.Context, raw []byte) error {
	m := c.mail
	defer c.Reset()
	for _, to := range m.bounced {
		c.r.o.Bounce(to, true)
	}
	if len(m.made) > 0 {
		return c.takeMade(ctx, raw)
	}
	if m.alias != nil {
		return c.commitAlias(ctx, raw)
	}
	if len(m.rcpts)+len(m.replies) == 0 {
		return nil
	}
	in := &incoming{raw: raw, rcpts: m.rcpts, to: m.to, replies: len(m.replies) > 0}
	if err := c.r.judge(ctx, in); err != nil {
		return err
	}
	if !m.from.Equal(in.from) {
		m.from = mail.Address{}
	}
	var home store.Shard
	if len(m.rcpts) > 0 {
		home = m.rcpts[0].ID.Shard()
	}
	return c.r.o.Deliver.Begin().Hand(ctx, deliver.Parcel{From: m.from, Local: m.rcpts, Replies: m.replies, Home: home, Options: m.options,
		Head: raw, Confirm: m.confirm, Proof: [][]byte{in.proof}})
}

// Reset forgets the mail.
func (c *session) Reset() {
	c.mail = envelope{rcpts: c.mail.rcpts[:0], confirm: c.mail.confirm[:0], to: c.mail.to[:0]}
}

// Close ends the session.
func (c *session) Close() { c.Reset() }
