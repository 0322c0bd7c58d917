// Package receive is the policy for mail from other hosts: the Backend of wire/smtp on
// port 25, and of wire/mxdeliv on the HTTPS port.
//
// A stranger's mail is asked for three things: a way that nobody can listen on (TLS),
// end-to-end encryption, and a valid DKIM signature of exactly the domain in its From
// field. The rules, their order and the words of the replies are those of chatmail relays:
// form, From, encryption, and the signature last, because it alone costs a look-up.
//
// A From field whose domain is an IP literal can have no key in the DNS, so such mail
// is refused like any other without a valid signature.
package receive

import (
	"context"
	"log/slog"
	"time"
	"unicode/utf8"

	"postern.email/agent/aliasmail"
	"postern.email/agent/deliver"
	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/mail"
	"postern.email/mail/dkim"
	"postern.email/mail/pgpmime"
	"postern.email/mail/spf"
	"postern.email/post/account"
	"postern.email/post/seal"
	"postern.email/wire/smtp"
)

// CheckTime bounds all look-ups of one mail.
const CheckTime = 60 * time.Second

// Accounts is what this policy needs of the register of accounts.
type Accounts interface {
	Resolve(ctx context.Context, addr mail.Address) (account.Account, error)
	Ours(addr mail.Address) bool
}

// Rooms tells whether a mailbox has room for size more bytes: errs.Full if not.
type Rooms interface {
	Room(ctx context.Context, id seal.AccountID, quota, size int64) error
}

// Options of a Receive. Domain, Accounts, Rooms, Deliver and Keys are needed.
type Options struct {
	Domain   string // whose postmaster "<postmaster>" is
	Accounts Accounts
	Rooms    Rooms
	Deliver  *deliver.Deliver

	// Proxy reports whether an account is read with a mail proxy: such an account takes mail that is
	// not encrypted. nil: none does.
	Proxy func(context.Context, seal.AccountID) (bool, error)

	// Replies are the reply addresses here; they take mail that is not encrypted where accounts with a
	// mail proxy do. nil: there are none.
	Replies deliver.Replies

	// Aliases are the aliases here. nil: there are none.
	Aliases *aliasmail.Door

	// SPF are the look-ups by which a domain vouches for mail to aliases that has no DKIM signature. The zero
	// value: DKIM alone counts.
	SPF spf.Lookups

	// Forwards serves aliases whose owner has a mailbox elsewhere. nil: there are none.
	Forwards Forwards

	// Bounce takes note of a mail to an address where what an exit of the mix network sent comes back:
	// such a mail is taken and dropped. false, with a mail or without one (count false): it is no
	// such address. nil: there is none.
	Bounce func(to mail.Address, count bool) bool

	Keys   dkim.Lookup       // where signers' keys are looked up, and what their domains say of DMARC
	Forget func(name string) // see dkim.Verifier

	// Guard is asked before a mail is taken (at MAIL). Its error refuses the mail:
	// errs.NoSpace while the disk is nearly full, errs.Unavailable after a failed
	// sync. nil: always open. It must be quick.
	Guard func() error

	// Limits of one network (limits.Peer.Network); nil: no such limit. All of them put off
	// and never refuse for good.
	Mails   *limits.GCRA // mails begun
	KiB     *limits.GCRA // KiB received, counted by Received
	Unknown *limits.GCRA // recipients refused: beyond, none is looked up, so that nobody can try names out

	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: nothing is logged
}

// Receive is the policy. It may be used by many goroutines.
type Receive struct {
	o        Options
	verifier *dkim.Verifier
	checks   []check
}

// incoming is a whole mail that is judged.
type incoming struct {
	raw     []byte // as received
	from    mail.Address
	header  mail.Header
	rcpts   []account.Account
	replies bool           // there are reply addresses among to
	to      []mail.Address // as written
	proof   []byte         // what makes this mail this mail; set once the signature is valid
}

// check is one rule over a whole mail. Its error, usually a *smtp.Reply, refuses it.
// Rules that other hosts' mail has to pass beyond form are in Receive.checks and run
// in that order: here SPF, DMARC and content scanners take their place, the ones that
// look something up behind those that do not.
type check func(context.Context, *incoming) error

// New makes a Receive.
func New(o Options) *Receive {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Receive{o: o, verifier: &dkim.Verifier{Lookup: o.Keys, Forget: o.Forget, Now: o.Now}}
	r.checks = []check{r.encrypted, r.signed}
	return r
}

// judge applies the rules to the content.
func (r *Receive) judge(ctx context.Context, m *incoming) error {
	body, err := m.form()
	if err != nil {
		return err
	}
	for _, c := range r.checks {
		if err := c(ctx, m); err != nil {
			return err
		}
	}
	// The header holds the valid signature, and that the hash of the body. It is the whole
	// header, not the signature alone: fields that the signature does not cover can be changed
	// by whoever got the mail too, and such a copy, sent ahead, must not stop the real one.
	m.proof = m.raw[:body]
	return nil
}

// form reads the header, and gives where the body begins.
func (m *incoming) form() (body int, err error) {
	if !utf8.Valid(m.raw) {
		return 0, replyNotUTF8
	}
	if m.header, body, err = mail.ParseHeader(m.raw); err != nil {
		return 0, replyParse(err)
	}
	if m.from, err = mail.FromAddress(m.header); err != nil {
		return 0, replyFromHeader(err)
	}
	return body, nil
}

// Vouched applies to a mail from the mix network what other hosts' mail has to pass, for one
// recipient here that was written as to: its form, and that it is encrypted or a listed exception,
// or the account takes cleartext. The signature is left out: agent/vouch has told who vouches for
// the sender. Its error, usually a *smtp.Reply, refuses the mail for this recipient.
func (r *Receive) Vouched(ctx context.Context, raw []byte, a account.Account, to mail.Address) error {
	m := &incoming{raw: raw, rcpts: []account.Account{a}, to: []mail.Address{to}}
	if _, err := m.form(); err != nil {
		return err
	}
	return r.encrypted(ctx, m)
}

// Recipient judges one recipient of a mail of size bytes as RCPT does. Its error, usually a
// *smtp.Reply, refuses the recipient.
func (r *Receive) Recipient(ctx context.Context, to mail.Address, size int64) (account.Account, error) {
	const op = "agent/receive.Recipient"
	a, err := r.o.Accounts.Resolve(ctx, to)
	switch {
	case err != nil && errs.KindOf(err) == errs.NotFound:
		return a, replyUnknown
	case err != nil:
		return a, errs.Wrap(op, err)
	case a.Blocked:
		return a, replyBlocked
	}
	if err := r.o.Rooms.Room(ctx, a.ID, a.Quota, size); err != nil {
		if errs.KindOf(err) == errs.Full {
			return a, replyFull
		}
		return a, errs.Wrap(op, err)
	}
	return a, nil
}

// encrypted lets pass what is end-to-end encrypted or a listed exception, and anything
// when every recipient takes it.
func (r *Receive) encrypted(ctx context.Context, m *incoming) error {
	verdict := pgpmime.Check(m.raw, pgpmime.Incoming, m.to)
	if verdict.Allowed() {
		return nil
	}
	if m.replies && r.o.Proxy == nil {
		return replyCleartext
	}
	for _, a := range m.rcpts {
		takes, err := r.takesCleartext(ctx, a)
		if err != nil {
			return errs.Wrap("agent/receive.encrypted", err)
		}
		if !takes {
			r.o.Logger.Debug("receive: not encrypted", "reason", verdict.Reason)
			return replyCleartext
		}
	}
	return nil
}

// takesCleartext: its owner opened the account, or reads it with a mail proxy, to which the mail is
// sealed before it is written.
func (r *Receive) takesCleartext(ctx context.Context, a account.Account) (bool, error) {
	if a.AcceptCleartext || r.o.Proxy == nil {
		return a.AcceptCleartext, nil
	}
	return r.o.Proxy(ctx, a.ID)
}

// signed asks for a valid signature of the domain in From.
func (r *Receive) signed(ctx context.Context, m *incoming) error {
	_, err := r.vouch(ctx, m.raw, m.from, voucher{exact: true})
	return err
}

// replyFor answers a mail without a valid signature.
func replyFor(res dkim.Result) *smtp.Reply {
	switch res.Verdict {
	case dkim.None:
		return replyNoSignature
	case dkim.Temporary:
		return replyLater
	}
	return replyNotValid
}

// The replies of the policy. Those without an enhanced code are word for word the
// reference's.
var (
	replyNoAuth      = &smtp.Reply{Code: 502, Enhanced: "5.5.1", Text: "AUTH is not offered"}
	replyTLS         = &smtp.Reply{Code: 530, Enhanced: "5.7.0", Text: "Must issue a STARTTLS command first"}
	replyRelay       = &smtp.Reply{Code: 554, Enhanced: "5.7.1", Text: "Relay access denied"}
	replyUnknown     = &smtp.Reply{Code: 550, Enhanced: "5.1.1", Text: "Recipient address rejected: User unknown"}
	replyBlocked     = &smtp.Reply{Code: 550, Enhanced: "5.2.1", Text: "Recipient address rejected: mailbox disabled"}
	replyFull        = &smtp.Reply{Code: 452, Enhanced: "4.2.2", Text: "Recipient address rejected: mailbox full"}
	replySeparate    = &smtp.Reply{Code: 452, Enhanced: "4.5.3", Text: "send separately"}
	replyNotUTF8     = &smtp.Reply{Code: 554, Text: "Non-UTF-8 message"}
	replyCleartext   = &smtp.Reply{Code: 523, Text: "Encryption Needed: Invalid Unencrypted Mail"}
	replyNoSignature = &smtp.Reply{Code: 554, Enhanced: "5.7.1", Text: "No DKIM signature found"}
	replyNotValid    = &smtp.Reply{Code: 554, Enhanced: "5.7.1", Text: "No valid DKIM signature found"}
	replyManyMails   = &smtp.Reply{Code: 451, Enhanced: "4.7.1", Text: "too many mails from your network, try again later"}
	replyManyBytes   = &smtp.Reply{Code: 451, Enhanced: "4.7.1", Text: "too many bytes from your network, try again later"}
	replyManyUnknown = &smtp.Reply{Code: 451, Enhanced: "4.7.1", Text: "too many refused recipients from your network, try again later"}
	replyVouchLater  = &smtp.Reply{Code: 451, Enhanced: "4.7.5", Text: "what the sender's domain says of its mail (DKIM, SPF, DMARC) cannot be looked up now, try again later"}
	replyLater       = &smtp.Reply{Code: 451, Enhanced: "4.7.5", Text: "DKIM key cannot be looked up now, try again later"}
)

func replyFromHeader(err error) *smtp.Reply {
	return &smtp.Reply{Code: 500, Text: "Invalid FROM header: " + errs.Public(err)}
}

func replyParse(err error) *smtp.Reply {
	return &smtp.Reply{Code: 500, Text: "Failed to parse message: " + errs.Public(err)}
}
