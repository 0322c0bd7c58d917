package access

import (
	"context"
	"log/slog"
	"sync"

	"postern.email/kit/errs"
	"postern.email/post/account"
	"postern.email/post/mailbox"
	"postern.email/post/seal"
	"postern.email/wire/imap"
	"postern.email/wire/pop3"
)

// DefaultMaxSessions is how many IMAP sessions one account may have at once.
const DefaultMaxSessions = 100

// Options of New. Accounts and Boxes are needed.
type Options struct {
	Accounts *account.Accounts
	Boxes    *mailbox.Boxes
	// MaxSessions bounds the IMAP sessions of one account; 0: DefaultMaxSessions.
	MaxSessions int
	// Server gives the annotations of the server (GETMETADATA ""), by full name in
	// lower case, like "/shared/vendor/deltachat/turn". It is asked each time,
	// because some of them change; an empty value means there is none. Nil: none.
	Server func(context.Context) map[string]string
	// Guard is asked before anything that takes room: an appended or copied mail, a
	// new folder, an annotation. Its error refuses that; reading, flags and deleting
	// go on. Nil: nothing is asked.
	Guard  func() error
	Logger *slog.Logger
}

// Access gives accounts and mailboxes to the protocols.
type Access struct {
	o Options

	mu       sync.Mutex
	sessions map[seal.AccountID]int // bounded by the number of connections
}

// New makes the backends. errs.Invalid without accounts or mailboxes.
func New(o Options) (*Access, error) {
	if o.Accounts == nil || o.Boxes == nil {
		return nil, errs.E("agent/access.New", errs.Invalid, "accounts and mailboxes are needed", nil)
	}
	if o.MaxSessions <= 0 {
		o.MaxSessions = DefaultMaxSessions
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Access{o: o, sessions: make(map[seal.AccountID]int)}, nil
}

// IMAP gives the backend of an IMAP server.
func (a *Access) IMAP() imap.Backend { return imapBackend{a} }

// POP3 gives the backend of a POP3 server.
func (a *Access) POP3() pop3.Backend { return NewMaildrops(a.o.Accounts, a.o.Boxes) }

// enter counts a session of an account; ok is false when it has too many.
func (a *Access) enter(id seal.AccountID) (ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sessions[id] >= a.o.MaxSessions {
		return false
	}
	a.sessions[id]++
	return true
}

func (a *Access) leave(id seal.AccountID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sessions[id]--; a.sessions[id] <= 0 {
		delete(a.sessions, id)
	}
}
