package account

import (
	"context"
	"io"

	"postern.email/kit/errs"
	"postern.email/post/seal"
)

var errTodo = errs.E("account", errs.Unsupported, "", nil)

// List gives up to limit accounts after the cursor ("" to begin) in an order
// that says nothing, and the next cursor, "" at the end.
func (a *Accounts) List(ctx context.Context, cursor string, limit int) (page []Account, next string, err error) {
	return nil, "", errTodo
}

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
