package account

import (
	"context"

	"postern.email/kit/errs"
	"postern.email/post/seal"
)

// ByNumber gives the account with a number: for who knows it by something else than its
// address. errs.NotFound when there is none, errs.Unavailable while it is being reset; a
// blocked account is given with Blocked set.
func (a *Accounts) ByNumber(ctx context.Context, id seal.AccountID) (Account, error) {
	const op = "account.ByNumber"
	rec, _, err := a.load(ctx, id)
	if err != nil {
		return Account{}, errs.Wrap(op, err)
	}
	if rec.resetting {
		return Account{}, errs.E(op, errs.Unavailable, textReset, nil)
	}
	return rec.Account, nil
}

// Used notes that an account is in use today without a login, so that it is not removed as
// unused. It writes once a day.
func (a *Accounts) Used(ctx context.Context, id seal.AccountID) error {
	const op = "account.Used"
	rec, _, err := a.load(ctx, id)
	if err != nil {
		return errs.Wrap(op, err)
	}
	a.touch(ctx, rec)
	return nil
}
