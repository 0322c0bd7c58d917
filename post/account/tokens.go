package account

import (
	"context"
	"slices"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

func (a *Accounts) getTokens(r store.Reader, id seal.AccountID) ([]tokenRecord, error) {
	sealed, err := r.Get(tokensKey(id))
	if is(err, errs.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	plain, err := a.o.Root.Open(seal.PurposeTokens, id[:], sealed)
	if err != nil {
		return nil, err
	}
	return decodeTokens(plain)
}

// fresh leaves out what was not set for TokenDays.
func (a *Accounts) fresh(ts []tokenRecord) []tokenRecord {
	today := DayOf(a.o.Now())
	return slices.DeleteFunc(ts, func(t tokenRecord) bool { return today > t.day && int(today-t.day) >= a.o.TokenDays })
}

// AddToken adds a device token or renews its day. Tokens are a set; beyond
// TokensPerAccount the one set longest ago goes. errs.TooLarge beyond
// MaxTokenLen, errs.Invalid when empty or with control characters or spaces
// (they are listed with spaces between).
func (a *Accounts) AddToken(ctx context.Context, id seal.AccountID, token string) error {
	const op = "account.AddToken"
	if len(token) > MaxTokenLen {
		return errs.E(op, errs.TooLarge, "a device token has at most 4096 bytes", nil)
	}
	if token == "" || slices.ContainsFunc([]byte(token), func(c byte) bool { return c <= ' ' || c == 0x7f }) {
		return errs.E(op, errs.Invalid, "a device token has no spaces and no control characters", nil)
	}
	today := DayOf(a.o.Now())
	err := a.o.Store.Update(ctx, id.Shard(), func(tx store.Tx) error {
		if _, err := tx.Get(infoKey(id)); err != nil {
			return err // no token for an account that is gone
		}
		ts, err := a.getTokens(tx, id)
		if err != nil {
			return err
		}
		ts = a.fresh(ts)
		ts = slices.DeleteFunc(ts, func(t tokenRecord) bool { return t.token == token })
		ts = append(ts, tokenRecord{today, token}) // newest last
		if over := len(ts) - a.o.TokensPerAccount; over > 0 {
			ts = ts[over:]
		}
		sealed, err := a.o.Root.Seal(seal.PurposeTokens, id[:], encodeTokens(ts))
		if err != nil {
			return err
		}
		return tx.Set(tokensKey(id), sealed)
	})
	return errs.Wrap(op, err)
}

// Tokens gives the tokens that were set in the last TokenDays days, in the order
// in which they were set last.
func (a *Accounts) Tokens(ctx context.Context, id seal.AccountID) (tokens []string, err error) {
	err = a.o.Store.View(ctx, id.Shard(), func(r store.Reader) error {
		tokens = nil
		ts, err := a.getTokens(r, id)
		for _, t := range a.fresh(ts) {
			tokens = append(tokens, t.token)
		}
		return err
	})
	return tokens, errs.Wrap("account.Tokens", err)
}
