package alias

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode"

	"postern.email/kit/errs"
	"postern.email/mail/aliasname"
	"postern.email/post/seal"
	"postern.email/store"
)

// Scope is what a token may do.
type Scope uint8

// The scopes.
const (
	ScopeCreate Scope = 1 << iota // make aliases
	ScopeList                     // see them
	ScopeManage                   // change and delete them, and tokens

	ScopeAll = ScopeCreate | ScopeList | ScopeManage
)

// Token is a token as its owner sees it.
type Token struct {
	ID       string // 16 hex digits
	Name     string // empty when it cannot be opened
	Scope    Scope
	Created  Day
	LastUsed Day // 0: never
}

// NewToken draws a token for the vault's owner and gives it, this once, with its number.
// errs.Full with MaxTokens others, errs.Invalid for a scope or name that is none.
func (a *Aliases) NewToken(ctx context.Context, v *Vault, s Scope, name string) (token, id string, err error) {
	const op = "post/alias.NewToken"
	token, err = aliasname.NewToken(a.o.Rand)
	if err != nil {
		return "", "", errs.Wrap(op, err)
	}
	n, err := a.addToken(ctx, v, token, s, name, nil)
	if err != nil {
		return "", "", errs.Wrap(op, err)
	}
	return token, idText(n), nil
}

// TakeToken makes a token of a secret that was given out by another program, which goes on working.
// errs.Invalid when it has not the form of one, errs.Exists when it is one already, errs.Full with
// MaxTokens others.
func (a *Aliases) TakeToken(ctx context.Context, v *Vault, token string, s Scope, name string) error {
	const op = "post/alias.TakeToken"
	if !aliasname.TokenForm(token) {
		return errs.E(op, errs.Invalid, textTokenForm, nil)
	}
	_, err := a.addToken(ctx, v, token, s, name, nil)
	return errs.Wrap(op, err)
}

// addToken writes a token, in the place of old if that is not nil.
func (a *Aliases) addToken(ctx context.Context, v *Vault, token string, s Scope, name string, old *[idLen]byte) (id [idLen]byte, err error) {
	const op = "post/alias.addToken"
	if s == 0 || s > ScopeAll {
		return id, errs.E(op, errs.Invalid, textScope, nil)
	}
	if len(name) > maxTokenName || strings.ContainsFunc(name, unicode.IsControl) {
		return id, errs.E(op, errs.Invalid, textTokenName, nil)
	}
	if _, err := io.ReadFull(a.o.Rand, id[:]); err != nil {
		return id, errs.E(op, errs.Internal, "", err)
	}
	at, shard := a.o.Root.TokenPlace(token)
	found := &placeRecord{owner: v.Owner, id: id, scope: s}
	if found.wrapped, err = v.key.WrapToken(token); err != nil {
		return id, err
	}
	rec := &tokenRecord{place: at, shard: uint16(shard), scope: s, made: DayOf(a.o.Now())}
	if rec.nameBytes, err = v.sealTokenName(id, name); err != nil {
		return id, err
	}
	var gone *tokenRecord
	own := func(tx store.Tx) (err error) {
		gone = nil
		if _, err := a.getOwner(tx, v.Owner); err != nil {
			return err
		}
		if pub, err := getVault(tx, v.Owner); err != nil {
			return err
		} else if !bytes.Equal(pub, v.key.Public()) { // its owner began anew
			return errs.E(op, errs.Conflict, "", nil)
		}
		if old == nil {
			if n, err := a.countTokens(tx, v.Owner); err != nil {
				return err
			} else if n >= a.o.MaxTokens {
				return errs.E(op, errs.Full, textMostTokens, nil)
			}
		} else {
			if gone, err = a.getToken(tx, v.Owner, *old); err != nil {
				return err
			}
			if err := tx.Delete(tokenKey(v.Owner, *old)); err != nil {
				return err
			}
		}
		return a.set(tx, seal.PurposeAliasToken, tokenKey(v.Owner, id), rec.encode())
	}
	other := func(tx store.Tx) error {
		// One that another owner has listed under the same place is a token of that one.
		if _, err := tx.Get(placeKey(at)); err == nil {
			return errs.E(op, errs.Exists, textTakenToken, nil)
		} else if !is(err, errs.NotFound) {
			return err
		}
		return a.set(tx, seal.PurposeAliasToken, placeKey(at), found.encode())
	}
	// What a token finds comes first: it counts for nothing until its owner lists it.
	if err := a.both(ctx, v.Owner.Shard(), own, shard, other); err != nil {
		return id, err
	}
	if gone != nil {
		a.dropPlace(ctx, gone)
		a.o.Deleted()
	}
	return id, nil
}

// errTwoLogs says inside a transaction that two records have no common log.
var errTwoLogs = errors.New("two logs")

// both runs own in a transaction in the shard home, and other before it in the shard at: in one
// transaction where both lie in one log.
func (a *Aliases) both(ctx context.Context, home store.Shard, own func(store.Tx) error, at store.Shard, other func(store.Tx) error) error {
	err := a.o.Store.Update(ctx, home, func(tx store.Tx) error {
		in, err := elsewhere(tx, home, at)
		if err != nil {
			return err
		}
		if err := other(in); err != nil {
			return err
		}
		return own(tx)
	})
	if !errors.Is(err, errTwoLogs) {
		return err
	}
	if err := a.o.Store.Update(ctx, at, other); err != nil {
		return err
	}
	return a.o.Store.Update(ctx, home, own)
}

// elsewhere gives tx, which is in the shard home, in the shard at. errTwoLogs where that is not
// possible.
func elsewhere(tx store.Tx, home, at store.Shard) (store.Tx, error) {
	if home == at {
		return tx, nil
	}
	in, err := tx.Other(at)
	if is(err, errs.Unsupported) {
		return nil, errTwoLogs
	}
	return in, err
}

func (v *Vault) sealTokenName(id [idLen]byte, name string) ([]byte, error) {
	return v.key.SealRecord(purposeTokenName, tokenKey(v.Owner, id), []byte(name))
}

func (v *Vault) openTokenName(id [idLen]byte, sealed []byte) (string, error) {
	b, err := v.key.OpenRecord(purposeTokenName, tokenKey(v.Owner, id), sealed)
	if is(err, errs.Corrupt) {
		return "", nil
	}
	return string(b), err
}

func (a *Aliases) getToken(r store.Reader, owner Owner, id [idLen]byte) (*tokenRecord, error) {
	plain, err := a.open(r, seal.PurposeAliasToken, tokenKey(owner, id))
	if err != nil {
		return nil, err
	}
	return decodeToken(plain)
}

// tokenIDs gives the numbers of an owner's tokens.
func tokenIDs(r store.Reader, owner Owner) (ids [][idLen]byte, err error) {
	prefix := ownerPrefix(owner, kindToken)
	err = r.Scan(prefix, store.Behind(prefix), func(k, _ []byte) (bool, error) {
		if len(k) == len(prefix)+idLen {
			ids = append(ids, [idLen]byte(k[len(prefix):]))
		}
		return true, nil
	})
	return ids, err
}

func (a *Aliases) countTokens(r store.Reader, owner Owner) (int, error) {
	ids, err := tokenIDs(r, owner)
	return len(ids), err
}

// ByToken opens the vault of a token's owner. errs.Auth when there is no such token; nothing of how
// long it takes tells how much of a token was right. The caller bounds how often it may be asked.
func (a *Aliases) ByToken(ctx context.Context, token string) (*Vault, Scope, error) {
	const op = "post/alias.ByToken"
	wrong := errs.E(op, errs.Auth, textToken, nil)
	if !aliasname.TokenForm(token) {
		return nil, 0, wrong
	}
	at, shard := a.o.Root.TokenPlace(token)
	var rec *placeRecord
	err := a.o.Store.View(ctx, shard, func(r store.Reader) error {
		plain, err := a.open(r, seal.PurposeAliasToken, placeKey(at))
		if err != nil {
			return err
		}
		rec, err = decodePlace(plain)
		return err
	})
	if is(err, errs.NotFound) {
		a.burn(token)
		return nil, 0, wrong
	}
	if err != nil {
		return nil, 0, errs.Wrap(op, err)
	}
	key, err := seal.UnwrapToken(rec.owner, token, rec.wrapped, a.o.Rand)
	if err != nil {
		return nil, 0, errs.Wrap(op, err)
	}
	v := &Vault{Owner: rec.owner, key: key, hasToken: true, id: rec.id}
	var own *ownerRecord
	var tok *tokenRecord
	err = a.o.Store.View(ctx, rec.owner.Shard(), func(r store.Reader) (err error) {
		if tok, err = a.getToken(r, rec.owner, rec.id); err != nil {
			return err
		}
		if own, err = a.getOwner(r, rec.owner); err != nil {
			return err
		}
		v.aliasKey, err = a.getKey(r, rec.owner)
		return err
	})
	switch {
	case is(err, errs.NotFound) || err == nil && tok.place != at: // revoked, and the other half of it was left by a crash
		v.Close()
		return nil, 0, wrong
	case err != nil:
		v.Close()
		return nil, 0, errs.Wrap(op, err)
	}
	a.touch(ctx, rec.owner, own, tok, rec.id)
	return v, tok.scope, nil
}

// burn does the work that opening a vault costs, so that an unknown token takes as long.
func (a *Aliases) burn(token string) {
	wrapped := make([]byte, seal.TokenWrapLen)
	wrapped[0] = 1
	if key, err := seal.UnwrapToken(Owner{1}, token, wrapped, a.o.Rand); err == nil {
		key.Close()
	}
	if key, err := seal.FromSeed(Owner{1}, make([]byte, seal.SeedLen), a.o.Rand); err == nil {
		key.Close()
	}
}

// Tokens lists the tokens of a vault's owner, the one that was made last at the end.
func (a *Aliases) Tokens(ctx context.Context, v *Vault) (list []Token, err error) {
	const op = "post/alias.Tokens"
	err = a.o.Store.View(ctx, v.Owner.Shard(), func(r store.Reader) error {
		list = nil
		ids, err := tokenIDs(r, v.Owner)
		for _, id := range ids {
			rec, err := a.getToken(r, v.Owner, id)
			if is(err, errs.Corrupt) {
				continue // Check names it
			}
			if err != nil {
				return err
			}
			name, err := v.openTokenName(id, rec.nameBytes)
			if err != nil {
				return err
			}
			list = append(list, Token{ID: idText(id), Name: name, Scope: rec.scope, Created: rec.made, LastUsed: rec.used})
		}
		return err
	})
	slices.SortStableFunc(list, func(x, y Token) int { return int(x.Created) - int(y.Created) })
	return list, errs.Wrap(op, err)
}

// RevokeToken ends a token by its number. errs.NotFound when the owner has none such, errs.Denied
// when it is the only one of an owner without account, who could not get in any more.
func (a *Aliases) RevokeToken(ctx context.Context, v *Vault, id string) error {
	const op = "post/alias.RevokeToken"
	n, err := parseID(id)
	if err != nil {
		return errs.Wrap(op, err)
	}
	var rec *tokenRecord
	err = a.o.Store.Update(ctx, v.Owner.Shard(), func(tx store.Tx) error {
		var err error
		if rec, err = a.getToken(tx, v.Owner, n); is(err, errs.NotFound) {
			return errs.E(op, errs.NotFound, textNoToken, nil)
		} else if err != nil {
			return err
		}
		own, err := a.getOwner(tx, v.Owner)
		if err != nil {
			return err
		}
		if len(own.wrapped) == 0 {
			if all, err := a.countTokens(tx, v.Owner); err != nil {
				return err
			} else if all == 1 {
				return errs.E(op, errs.Denied, textLastToken, nil)
			}
		}
		if err := tx.Delete(tokenKey(v.Owner, n)); err != nil {
			return err
		}
		in, err := elsewhere(tx, v.Owner.Shard(), store.Shard(rec.shard))
		if errors.Is(err, errTwoLogs) {
			return nil // it counts for nothing any more; dropPlace follows
		}
		if err != nil {
			return err
		}
		return in.Delete(placeKey(rec.place))
	})
	if err != nil {
		return errs.Wrap(op, err)
	}
	a.dropPlace(ctx, rec)
	a.o.Deleted()
	return nil
}

// RotateToken draws a token in the place of one, which ends with it: scope and name stay. errs.Auth
// when there is none such.
func (a *Aliases) RotateToken(ctx context.Context, token string) (string, error) {
	const op = "post/alias.RotateToken"
	v, _, err := a.ByToken(ctx, token)
	if err != nil {
		return "", errs.Wrap(op, err)
	}
	defer v.Close()
	fresh, err := aliasname.NewToken(a.o.Rand)
	if err != nil {
		return "", errs.Wrap(op, err)
	}
	var tok *tokenRecord
	err = a.o.Store.View(ctx, v.Owner.Shard(), func(r store.Reader) error { tok, err = a.getToken(r, v.Owner, v.id); return err })
	if err == nil {
		var name string
		if name, err = v.openTokenName(v.id, tok.nameBytes); err == nil {
			_, err = a.addToken(ctx, v, fresh, tok.scope, name, &v.id)
		}
	}
	if is(err, errs.NotFound) { // revoked meanwhile
		return "", errs.E(op, errs.Auth, textToken, err)
	}
	if err != nil {
		return "", errs.Wrap(op, err)
	}
	return fresh, nil
}

// dropPlace removes the record that a token finds, where that was not in the transaction that ended
// the token. It opens nothing any more; what stays, Check names and housekeeping removes.
func (a *Aliases) dropPlace(ctx context.Context, rec *tokenRecord) {
	err := a.o.Store.Update(ctx, store.Shard(rec.shard), func(tx store.Tx) error { return tx.Delete(placeKey(rec.place)) })
	if err != nil {
		a.o.Logger.Warn("half of a token for aliases stays; it opens nothing", "kind", errs.KindOf(err).Error())
	}
}

// dropTokens ends all tokens of an owner.
func (a *Aliases) dropTokens(ctx context.Context, owner Owner) error {
	var gone []*tokenRecord
	err := a.o.Store.Update(ctx, owner.Shard(), func(tx store.Tx) error {
		gone = nil
		ids, err := tokenIDs(tx, owner)
		if err != nil {
			return err
		}
		for _, id := range ids {
			rec, err := a.getToken(tx, owner, id)
			if err == nil {
				gone = append(gone, rec)
			} else if !is(err, errs.Corrupt) {
				return err
			}
			if err := tx.Delete(tokenKey(owner, id)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, rec := range gone {
		a.dropPlace(ctx, rec)
	}
	return nil
}
