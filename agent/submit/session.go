package submit

import (
	"context"
	"strings"
	"unicode/utf8"

	"postern.email/agent/aliasmail"
	"postern.email/agent/deliver"
	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/mail"
	"postern.email/mail/anon"
	"postern.email/mail/pgpmime"
	"postern.email/mail/sanitize"
	"postern.email/post/account"
	"postern.email/post/alias"
	"postern.email/post/queue"
	"postern.email/wire/sasl"
	"postern.email/wire/smtp"
)

// session is one connection of a user.
type session struct {
	s    *Submit
	peer limits.Peer

	login Login // nil before AUTH
	mail  envelope

	expected func() // ends the announcement of a next mail; nil: there is none
}

// envelope is one transaction. Its slices are kept for the next one.
type envelope struct {
	sender  account.Account
	from    mail.Address
	options smtp.MailOptions
	counted bool              // the rate limit has seen this mail
	rcpts   []account.Account // here
	confirm []queue.Rcpt      // of them those whose delivery is to be told
	remote  []queue.Rcpt      // at other hosts
	replies []mail.Address    // reply addresses here
	as      *alias.Alias      // whom the mail is from; nil: the account
	id      string            // Message-ID of what leaves as the alias
	alias   *aliasmail.Recipient
	to      []mail.Address // all, as written; for the setup message's rule
	coming  *deliver.Mail  // between Data and its end
}

// Auth logs in, and by that makes the account if it is new.
func (c *session) Auth(ctx context.Context, cred sasl.Credentials) error {
	l, err := c.s.o.Accounts.Login(ctx, account.LoginRequest{Name: cred.Username, Password: cred.Password, Peer: c.peer})
	if err != nil {
		return err
	}
	c.login = l
	return nil
}

// Mail begins a mail. Whether from is the sender's own is answered at RCPT, as the
// reference does: there clients look for it.
func (c *session) Mail(ctx context.Context, from mail.Address, o smtp.MailOptions) error {
	const op = "agent/submit.Mail"
	c.Reset()
	if c.login == nil {
		return &smtp.Reply{Code: 530, Enhanced: "5.7.0", Text: "Authentication required"}
	}
	if c.s.o.Guard != nil {
		if err := c.s.o.Guard(); err != nil {
			return errs.Wrap(op, err)
		}
	}
	sender, err := Sender(ctx, c.login)
	if err != nil {
		return errs.Wrap(op, err)
	}
	c.mail.sender, c.mail.from, c.mail.options = sender, from, o
	if !sender.Address.Equal(from) && c.s.o.Aliases.Ours(from) {
		if c.mail.as, err = c.s.owned(ctx, from, c.peer); err != nil {
			return errs.Wrap(op, err)
		}
	}
	return nil
}

// Rcpt judges the sender, then the rate, then the recipient. Failures of recipients here are told
// in the reply itself.
func (c *session) Rcpt(ctx context.Context, to mail.Address, o smtp.RcptOptions) error {
	const op = "agent/submit.Rcpt"
	m := &c.mail
	if !SenderAllowed(m.sender, m.from, m.as) {
		return replySender
	}
	if !m.counted {
		if ok, next := c.s.rate.Allow(string(m.sender.ID[:])); !ok {
			return replyRate(m.from, next)
		}
		m.counted = true
	}
	if to.Domain == "" { // <postmaster>: RFC 5321 §4.5.1 means the host's own
		to.Domain = m.sender.Address.Domain
	}
	asked := queue.Rcpt{To: to, Notify: uint8(o.Notify), OriginalType: o.OriginalType, OriginalAddress: o.OriginalAddress}
	if !c.s.o.Accounts.Ours(to) && !c.s.o.Aliases.Ours(to) {
		switch {
		case !c.s.o.Remote:
			return replyRemote
		case !strings.ContainsAny(to.Domain, ".["):
			return replyNoDomain
		}
		m.remote = append(m.remote, asked)
		m.to = append(m.to, to)
		return nil
	}
	if _, ok := anon.ReplyName(to); ok && c.s.o.Replies != nil {
		return c.rcptReply(ctx, to)
	}
	a, err := c.s.o.Accounts.Resolve(ctx, to)
	switch {
	case err != nil && errs.KindOf(err) == errs.NotFound && c.s.o.Aliases.Ours(to):
		return c.rcptAlias(ctx, to)
	case errs.KindOf(err) == errs.NotFound && err != nil:
		return replyUnknown
	case err != nil:
		return errs.Wrap(op, err)
	case a.Blocked:
		return replyBlocked
	case len(m.rcpts) > 0 && m.rcpts[0].Class != a.Class:
		return replySeparate // issue: classes never share a transaction
	}
	if err := c.s.o.Rooms.Room(ctx, a.ID, a.Quota, m.options.Size); err != nil {
		if errs.KindOf(err) == errs.Full {
			return replyFull
		}
		return errs.Wrap(op, err)
	}
	m.rcpts = append(m.rcpts, a)
	if o.Notify&smtp.NotifySuccess != 0 {
		m.confirm = append(m.confirm, asked)
	}
	m.to = append(m.to, to)
	return nil
}

// rcptReply judges a reply address. That there are not enough reply blocks now looks like a full mailbox.
func (c *session) rcptReply(ctx context.Context, to mail.Address) error {
	m := &c.mail
	err := c.s.o.Replies.Room(ctx, to)
	switch k := errs.KindOf(err); {
	case err == nil && len(m.replies) == deliver.MaxReplies:
		return replySeparate
	case err == nil:
		m.replies = append(m.replies, to)
		m.to = append(m.to, to)
		return nil
	case k == errs.NotFound:
		return replyUnknown
	case k == errs.Full:
		return replyFull
	}
	return errs.Wrap("agent/submit.Rcpt", err)
}

// Data announces the mail to the store.
func (c *session) Data(context.Context) (smtp.Transfer, error) {
	c.mail.coming = c.s.o.Deliver.Begin()
	c.endExpectation()
	return c, nil
}

// Abort is the end of a mail that did not come.
func (c *session) Abort() {
	c.mail.coming.Cancel()
	c.mail.coming = nil
	c.Reset()
}

// fewRecipients is up to how many recipients the next mail is worth waiting for: the
// commands of one to many take longer than others should wait.
const fewRecipients = 2

// Commit judges the whole mail and delivers it.
func (c *session) Commit(ctx context.Context, raw []byte) error {
	m := &c.mail
	defer c.Reset()
	coming := m.coming
	m.coming = nil
	j, err := c.s.judge(m, raw)
	if err != nil {
		coming.Cancel()
		return err
	}
	p := deliver.Parcel{From: m.from, Local: m.rcpts, Remote: m.remote, Replies: m.replies, Home: m.sender.ID.Shard(),
		Options: m.options, Head: j.header, Tail: j.body, Confirm: m.confirm, Verified: j.cleartext}
	if m.as != nil {
		p.From = m.as.Address // as it is written in From
		p.Also = []deliver.Write{c.s.o.Aliases.WroteTo(m.as, m.to, m.id)}
	}
	if err := c.s.hand(ctx, coming, m, p); err != nil {
		return err
	}
	if len(m.to) <= fewRecipients {
		c.expected = c.s.o.Deliver.Expect()
	}
	return nil
}

// hand hands a mail over. One for an alias is judged by the alias's rules, and once more when it
// changes meanwhile.
func (s *Submit) hand(ctx context.Context, coming *deliver.Mail, m *envelope, p deliver.Parcel) error {
	if m.alias == nil {
		return coming.Hand(ctx, p)
	}
	coming.Cancel() // the owner of the alias may have to be asked
	for try := 0; ; try++ {
		c, err := s.forAlias(ctx, m, &p)
		if err != nil {
			return err
		}
		if p.Aliases = nil; c != nil {
			p.Aliases = []deliver.ForAlias{*c}
		}
		if len(p.Local)+len(p.Remote)+len(p.Replies)+len(p.Aliases) == 0 {
			return nil // it went to an owner elsewhere
		}
		err = s.o.Deliver.Begin().Hand(ctx, p)
		if err == nil || errs.KindOf(err) != errs.Denied || try > 0 {
			return err
		}
		if m.alias, err = s.o.Aliases.Again(ctx, m.alias); err != nil {
			return err
		}
		if m.as != nil {
			if m.as, err = s.o.Aliases.Alias(ctx, m.from, limits.Peer{Exempt: true}); err != nil {
				return err
			}
			p.Also = []deliver.Write{s.o.Aliases.WroteTo(m.as, m.to, m.id)}
		}
	}
}

// judged is a mail as it goes on, with a new header and the old body.
type judged struct {
	header, body []byte
	cleartext    bool // it is not encrypted, and not one of the exceptions
}

// judge applies the rules to the content.
func (s *Submit) judge(m *envelope, raw []byte) (j judged, err error) {
	if !utf8.Valid(raw) {
		return j, replyNotUTF8
	}
	h, _, err := mail.ParseHeader(raw)
	if err != nil {
		return j, replyParse(err)
	}
	from, err := mail.FromAddress(h)
	if err != nil {
		return j, replyFromHeader(err)
	}
	if !from.Equal(m.from) || !SenderAllowed(m.sender, from, m.as) {
		return j, replyFrom(from, m.from)
	}
	verdict := pgpmime.Check(raw, pgpmime.Outgoing, m.to)
	if !s.passes(verdict) {
		s.o.Logger.Debug("submit: not encrypted", "reason", verdict.Reason)
		if err := s.mayCleartext(m); err != nil {
			return j, err
		}
		j.cleartext = true
	}
	if m.as != nil {
		if j.header, j.body, err = s.asAlias(m, h, raw, j.cleartext); err == nil {
			written, _, _ := mail.ParseHeader(j.header)
			m.id = written.Get("Message-ID")
		}
		return j, err
	}
	header, off, err := sanitize.Submission(raw)
	if err != nil {
		return j, replyParse(err)
	}
	j.header, j.body = header, raw[off:]
	return j, nil
}

// passes applies the switches of the exceptions.
func (s *Submit) passes(v pgpmime.Verdict) bool {
	if v.Encrypted {
		return true
	}
	switch v.Exception {
	case pgpmime.SecureJoinRequest:
		return !s.o.NoSecureJoin
	case pgpmime.SetupMessage:
		return !s.o.NoSetupMessage
	}
	return false
}

// Reset forgets the mail.
func (c *session) Reset() {
	c.mail = envelope{rcpts: c.mail.rcpts[:0], confirm: c.mail.confirm[:0], remote: c.mail.remote[:0], to: c.mail.to[:0], coming: c.mail.coming}
}

func (c *session) endExpectation() {
	if c.expected != nil {
		c.expected()
		c.expected = nil
	}
}

// Close ends the login.
func (c *session) Close() {
	c.endExpectation()
	if c.login != nil {
		c.login.Close()
		c.login = nil
	}
}
