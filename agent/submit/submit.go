// Package submit is the message submission agent (RFC 6409): the policy for mail that
// users of this relay hand in. It is the Backend of wire/smtp on the submission
// ports.
//
// The rules and the words of the replies are those of chatmail relays, because
// clients and their tests know them.
package submit

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"postern.email/agent/aliasmail"
	"postern.email/agent/deliver"
	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/mail"
	"postern.email/post/account"
	"postern.email/post/seal"
	"postern.email/wire/smtp"
)

// Defaults of Options.
const (
	DefaultPerMinute = 60
	DefaultBurst     = 10
	DefaultMaxKeys   = 100_000 // senders whose rate is remembered
)

// Login is one logged-in user.
type Login interface {
	// Current gives the account as it is now; an error when it may not send any more.
	Current(ctx context.Context) (account.Account, error)
	io.Closer
}

// Accounts is what submission needs of the register of accounts.
type Accounts interface {
	Login(ctx context.Context, r account.LoginRequest) (Login, error)
	Resolve(ctx context.Context, addr mail.Address) (account.Account, error)
	Ours(addr mail.Address) bool
}

// Rooms tells whether a mailbox has room for size more bytes: errs.Full if not.
type Rooms interface {
	Room(ctx context.Context, id seal.AccountID, quota, size int64) error
}

// Options of a Submit. Accounts, Rooms and Deliver are needed.
type Options struct {
	Accounts Accounts // see Register
	Rooms    Rooms
	Deliver  *deliver.Deliver

	Replies deliver.Replies // reply addresses here; nil: there are none

	// Aliases are the aliases here; nil: there are none.
	Aliases *aliasmail.Door
	// AliasNames lets the display name in From stay in mail as an alias; else only the address is sent,
	// since mail programs write their user's name there whatever the address is.
	AliasNames bool
	// AliasKeys lets keys and signatures that are attached stay in unencrypted mail as an alias.
	AliasKeys bool

	Remote bool // take mail for other hosts: Deliver has a queue

	// Guard is asked before a mail is taken (at MAIL). Its error refuses the mail:
	// errs.NoSpace while the disk is nearly full, errs.Unavailable after a failed
	// sync. nil: always open. It must be quick.
	Guard func() error

	PerMinute int // mails a sender may hand in each minute; 0: no limit
	Burst     int // of them at once
	MaxKeys   int // senders whose rate is remembered; 0: DefaultMaxKeys

	// The exceptions to "only end-to-end encrypted mail", each of which can be
	// turned off.
	NoSecureJoin   bool // refuse the first step of a key exchange
	NoSetupMessage bool // refuse Autocrypt setup messages to oneself

	Now    func() time.Time // nil: time.Now
	Rand   io.Reader        // nil: crypto/rand.Reader
	Logger *slog.Logger     // nil: nothing is logged
}

// Submit is the policy. It may be used by many goroutines.
type Submit struct {
	o    Options
	rate *limits.GCRA
}

// New makes a Submit.
func New(o Options) *Submit {
	defaults.Clock(&o.Now)
	defaults.Positive(&o.MaxKeys, DefaultMaxKeys)
	defaults.Logger(&o.Logger)
	return &Submit{o: o, rate: limits.NewGCRA(o.PerMinute, o.Burst, o.MaxKeys, o.Now)}
}

// Sender gives the account of a login as it is now. The error is a *smtp.Reply for one that may not send
// any more.
func Sender(ctx context.Context, l Login) (account.Account, error) {
	a, err := l.Current(ctx)
	switch k := errs.KindOf(err); {
	case err == nil && a.Blocked, err != nil && (k == errs.Denied || k == errs.NotFound):
		return account.Account{}, replyGone
	}
	return a, errs.Wrap("agent/submit.Sender", err)
}

// NewSession begins a session for wire/smtp.
func (s *Submit) NewSession(_ context.Context, c smtp.Info) (smtp.Session, error) {
	return &session{s: s, peer: c.Peer}, nil
}

// Register joins the register of accounts to submission.
func Register(a *account.Accounts) Accounts { return register{a} }

type register struct{ *account.Accounts }

func (r register) Login(ctx context.Context, q account.LoginRequest) (Login, error) {
	s, err := r.Accounts.Login(ctx, q)
	if err != nil {
		return nil, err
	}
	return login{s}, nil
}

type login struct{ *account.Session }

func (l login) Close() error {
	l.Session.Close()
	return nil
}

// The replies of the policy. Those without an enhanced code are word for word the
// reference's.
var (
	replyCleartext   = &smtp.Reply{Code: 523, Text: "Encryption Needed: Invalid Unencrypted Mail"}
	replyStrictAlias = &smtp.Reply{Code: 523, Text: "Encryption Needed: this alias sends end-to-end encrypted mail only"}
	replySigned      = &smtp.Reply{Code: 550, Enhanced: "5.7.1", Text: "this mail is signed in a way that shows who you are (S/MIME); send it unsigned"}
	replyStranger    = &smtp.Reply{Code: 523, Text: "Encryption Needed: unencrypted mail as an alias goes only to who wrote to it, or whom you have allowed"}
	replyNotUTF8     = &smtp.Reply{Code: 554, Text: "Non-UTF-8 message"}
	replySender      = &smtp.Reply{Code: 553, Enhanced: "5.7.1", Text: "Sender address rejected: not owned by user"}
	replyUnknown     = &smtp.Reply{Code: 550, Enhanced: "5.1.1", Text: "Recipient address rejected: User unknown"}
	replyBlocked     = &smtp.Reply{Code: 550, Enhanced: "5.2.1", Text: "Recipient address rejected: mailbox disabled"}
	replyRemote      = &smtp.Reply{Code: 550, Enhanced: "5.1.2", Text: "this relay does not deliver to other hosts"}
	replyNoDomain    = &smtp.Reply{Code: 550, Enhanced: "5.1.2", Text: "Recipient address rejected: a full domain name is needed"}
	replySeparate    = &smtp.Reply{Code: 452, Enhanced: "4.5.3", Text: "send separately"}
	replyFull        = &smtp.Reply{Code: 452, Enhanced: "4.2.2", Text: "Recipient address rejected: mailbox full"}
	replyGone        = &smtp.Reply{Code: 550, Enhanced: "5.7.1", Text: "this account may not send mail any more"}
)

// replyRate names the sender's own address, which goes to nobody but the sender.
func replyRate(from mail.Address, until time.Time) *smtp.Reply {
	return &smtp.Reply{Code: 450, Text: fmt.Sprintf("4.7.1: Too much mail from <%s>, rate-limited until %s",
		from, until.UTC().Format(time.RFC3339))}
}

func replyFrom(header, envelope mail.Address) *smtp.Reply {
	return &smtp.Reply{Code: 500, Text: fmt.Sprintf("Invalid FROM <%s> for <%s>", header, envelope)}
}

func replyFromHeader(err error) *smtp.Reply {
	return &smtp.Reply{Code: 500, Text: "Invalid FROM header: " + errs.Public(err)}
}

func replyParse(err error) *smtp.Reply {
	return &smtp.Reply{Code: 500, Text: "Failed to parse message: " + errs.Public(err)}
}
