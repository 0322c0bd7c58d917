package account

import (
	"context"
	"io"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/mail"
	"postern.email/post/seal"
)

// Accounts is the office's register. Safe for use by many goroutines.
type Accounts struct{ o Options }

var errTodo = errs.E("account", errs.Unsupported, "", nil)

// New opens the register in o.Store.
func New(ctx context.Context, o Options) (*Accounts, error) { return nil, errTodo }

// LoginRequest is one attempt.
type LoginRequest struct {
	Name     string // full address
	Password string
	Peer     limits.Peer
}

// Session is a login that lives until Close. Key is shared with the account's
// other sessions.
type Session struct {
	Account
	Key *seal.Opened
}

// Close ends the session. The opened key stays for the grace. It may be called
// more than once.
func (s *Session) Close() {}

// Current gives the account's record as it is now: errs.Denied when it was
// blocked meanwhile, errs.NotFound when it was deleted or reset.
func (s *Session) Current(ctx context.Context) (Account, error) { return Account{}, errTodo }

// Login opens the account of a name with its password, and makes it if the name
// is new and new addresses may be made. Kinds of error: errs.Auth (name or
// password wrong), errs.Busy (slowed down, or too many at once: try later),
// errs.Denied (blocked, no new address by policy, name or password against the
// rules), errs.Unavailable and errs.NoSpace (not now), errs.Canceled.
func (a *Accounts) Login(ctx context.Context, r LoginRequest) (*Session, error) { return nil, errTodo }

// Resolve gives the account that mail to addr is for; "+" and what follows in
// the local part is cut. errs.NotFound when there is none; blocked accounts are
// given with Blocked set. Cheap: served from memory mostly.
func (a *Accounts) Resolve(ctx context.Context, addr mail.Address) (Account, error) {
	return Account{}, errTodo
}

// Ours reports whether addr lies in one of our domains.
func (a *Accounts) Ours(addr mail.Address) bool { return false }

// CreateRequest is an account made by the operator: neither MayCreate nor the
// limits of new addresses are asked, the rules of names and passwords are.
type CreateRequest struct {
	Address         mail.Address
	Password        string
	Class           Class
	AcceptCleartext bool
	Quota           int64
}

// Create makes an account: errs.Exists when the name is taken, errs.Denied when
// it belonged to a deleted account or breaks the rules.
func (a *Accounts) Create(ctx context.Context, r CreateRequest) (Account, error) {
	return Account{}, errTodo
}

// Show gives the account of exactly this address.
func (a *Accounts) Show(ctx context.Context, addr mail.Address) (Account, error) {
	return Account{}, errTodo
}

// List gives up to limit accounts after the cursor ("" to begin) in an order
// that says nothing, and the next cursor, "" at the end.
func (a *Accounts) List(ctx context.Context, cursor string, limit int) (page []Account, next string, err error) {
	return nil, "", errTodo
}

// Passwd wraps the account's key under a new password: errs.Auth when old is
// wrong. Stored mail stays readable, sessions go on.
func (a *Accounts) Passwd(ctx context.Context, addr mail.Address, old, new string) error {
	return errTodo
}

// Reset gives the account a new key under a new password. All stored mail becomes
// unreadable and is removed; sessions end.
func (a *Accounts) Reset(ctx context.Context, addr mail.Address, new string) error { return errTodo }

// Block and Unblock say whether the account may log in and get mail.
func (a *Accounts) Block(ctx context.Context, addr mail.Address) error   { return errTodo }
func (a *Accounts) Unblock(ctx context.Context, addr mail.Address) error { return errTodo }

// Change names the settings to change; nil leaves one as it is.
type Change struct {
	Class           *Class
	AcceptCleartext *bool
	Quota           *int64
}

// Set changes settings and gives the new record.
func (a *Accounts) Set(ctx context.Context, addr mail.Address, c Change) (Account, error) {
	return Account{}, errTodo
}

// Delete removes the account with all its mail. The name leaves a tombstone.
func (a *Accounts) Delete(ctx context.Context, addr mail.Address) error { return errTodo }

// AddToken adds a device token or renews it; beyond the limit the one set
// longest ago goes.
func (a *Accounts) AddToken(ctx context.Context, id seal.AccountID, token string) error {
	return errTodo
}

// Tokens gives the tokens that were set in the last TokenDays days, oldest first.
func (a *Accounts) Tokens(ctx context.Context, id seal.AccountID) ([]string, error) {
	return nil, errTodo
}

// ExportKeys writes the opened keys for the next process, which reads them with
// ImportKeys: for a planned restart, through Memfd only, never a file.
func (a *Accounts) ExportKeys(w io.Writer) (n int, err error) { return 0, errTodo }

// ImportKeys takes over what ExportKeys wrote. Keys whose account has changed are
// left out. It reads at most MaxIdleKeys keys.
func (a *Accounts) ImportKeys(ctx context.Context, r io.Reader) (n int, err error) {
	return 0, errTodo
}

// Run does the housekeeping until ctx ends: grace of opened keys, inactive
// accounts, tombstones, orphans.
func (a *Accounts) Run(ctx context.Context) error { return errTodo }

// Finding is one broken invariant.
type Finding struct {
	Kind string // stable word
	Text string // for the operator; names numbers and shards, no addresses
}

// Check walks all accounts and reports what is wrong.
func (a *Accounts) Check(ctx context.Context, report func(Finding)) error { return errTodo }

// Reveal gives everything of accounts that the node key opens: for `postern
// store reveal`. kind is the Name of a seal.Purpose.
func (a *Accounts) Reveal(ctx context.Context, emit func(kind, text string)) error { return errTodo }

// Close ends the register: waits for running password hashes and erases all
// opened keys. Sessions that are still open fail from then on.
func (a *Accounts) Close() {}
