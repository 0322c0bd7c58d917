package alias

import (
	"context"
	"io"
	"slices"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/aliasname"
	"postern.email/post/seal"
	"postern.email/store"
)

// BeginOptions is how an owner begins.
type BeginOptions struct {
	Target  mail.Address // where its mail goes, elsewhere; zero: into its mailbox here
	Account *seal.Opened // the account's opened key, which wraps the vault's; nil where there is no account
}

// Begin makes the keys of an owner, and gives them: errs.Exists when it has begun before
// (ByAccount and ByToken open then), errs.Invalid for an owner without account and target. An
// owner elsewhere needs a token before its vault is closed; without one nobody opens it again, and
// it may begin anew.
func (a *Aliases) Begin(ctx context.Context, owner Owner, o BeginOptions) (*Vault, error) {
	const op = "post/alias.Begin"
	if o.Account == nil && o.Target.IsZero() || o.Account != nil && o.Account.ID() != owner || owner == (Owner{}) {
		return nil, errs.E(op, errs.Invalid, textTarget, nil)
	}
	if err := a.checkTarget(o.Target); err != nil {
		return nil, errs.Wrap(op, err)
	}
	v := &Vault{Owner: owner}
	var err error
	if v.key, err = seal.Generate(owner, a.o.Rand); err != nil {
		return nil, errs.Wrap(op, err)
	}
	if _, err = io.ReadFull(a.o.Rand, v.aliasKey[:]); err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	rec := &ownerRecord{began: DayOf(a.o.Now()), seen: DayOf(a.o.Now()), target: o.Target.Canonical()}
	if o.Account != nil {
		if rec.wrapped, err = wrapFor(o.Account, v.key); err != nil {
			v.Close()
			return nil, errs.Wrap(op, err)
		}
	}
	if err := a.finishEnd(ctx, owner); err != nil {
		v.Close()
		return nil, errs.Wrap(op, err)
	}
	key := v.aliasKey
	begun := false
	err = a.o.Store.Update(ctx, owner.Shard(), func(tx store.Tx) error {
		key, begun = v.aliasKey, false
		locked, err := a.locked(tx, owner)
		if err != nil {
			return err
		}
		now := *rec
		switch old, err := a.getRecord(tx, owner); {
		case err == nil && old.ended: // only what it has deleted counts on
			now.dead = old.dead
		case err == nil && !locked:
			// What began it at the same moment may be on its way to the disk still. Written again behind it, it is
			// there for all who read once the caller is told.
			begun = true
			return a.setOwner(tx, owner, old)
		case err == nil: // aliases and alias key stay
			now.began, now.count, now.target, now.dead = old.began, old.count, old.target, old.dead
			if !rec.target.IsZero() {
				now.target = rec.target
			}
			if k, err := a.getKey(tx, owner); err == nil {
				key = k
			} else if !is(err, errs.NotFound) {
				return err
			}
		case !is(err, errs.NotFound):
			return err
		}
		if err := a.setOwner(tx, owner, &now); err != nil {
			return err
		}
		if err := a.set(tx, seal.PurposeAliasKey, keyKey(owner), encodeKey(&key)); err != nil {
			return err
		}
		return tx.Set(vaultKey(owner), encodeVault(v.key.Public()))
	})
	if err == nil && begun {
		err = errs.E(op, errs.Exists, textBegun, nil)
	}
	if err != nil {
		v.Close()
		return nil, errs.Wrap(op, err)
	}
	v.aliasKey = key
	a.keys.add(owner, key)
	return v, nil
}

// locked reports whether nothing opens the vault of an owner: it has none, its account was reset, or
// it began and got no token before a crash.
func (a *Aliases) locked(r store.Reader, owner Owner) (bool, error) {
	rec, err := a.getOwner(r, owner)
	if is(err, errs.NotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if _, err := r.Get(vaultKey(owner)); is(err, errs.NotFound) {
		return true, nil
	} else if err != nil {
		return false, err
	}
	n, err := a.countTokens(r, owner)
	return len(rec.wrapped) == 0 && n == 0, err
}

// wrapFor seals the vault's seed to an account.
func wrapFor(account, vault *seal.Opened) ([]byte, error) {
	seed, err := vault.AppendSeed(make([]byte, 0, seal.SeedLen))
	if err != nil {
		return nil, err
	}
	defer clear(seed)
	return account.SealRecord(purposeSeed, seedAAD(vault.ID(), vault.Public()), seed)
}

func seedAAD(owner Owner, pub seal.PublicKey) []byte { return append(owner[:], pub...) }

// checkTarget refuses a target that is an alias itself, whose mail would come back here.
func (a *Aliases) checkTarget(target mail.Address) error {
	if !target.IsZero() && (a.Ours(target) && !a.o.TargetsHere || target.Local == "" || target.Domain == "") {
		return errs.E("post/alias.checkTarget", errs.Invalid, textTarget, nil)
	}
	return nil
}

// ByAccount opens the vault of an account with its opened key: errs.NotFound before Begin, and
// after ResetOwner until Begin was called again.
func (a *Aliases) ByAccount(ctx context.Context, account *seal.Opened) (*Vault, error) {
	const op = "post/alias.ByAccount"
	owner := account.ID()
	var rec *ownerRecord
	var pub seal.PublicKey
	var key [32]byte
	err := a.o.Store.View(ctx, owner.Shard(), func(r store.Reader) (err error) {
		if pub, err = getVault(r, owner); err != nil {
			return err
		}
		if rec, err = a.getOwner(r, owner); err != nil {
			return err
		}
		key, err = a.getKey(r, owner)
		return err
	})
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if len(rec.wrapped) == 0 {
		return nil, errs.E(op, errs.NotFound, textNoOwner, nil)
	}
	seed, err := account.OpenRecord(purposeSeed, seedAAD(owner, pub), rec.wrapped)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	defer clear(seed)
	opened, err := seal.FromSeed(owner, seed, a.o.Rand)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	v := &Vault{Owner: owner, key: opened, aliasKey: key}
	if !slices.Equal(opened.Public(), pub) {
		v.Close()
		return nil, errs.E(op, errs.Corrupt, "", nil)
	}
	a.touch(ctx, owner, rec, nil, [idLen]byte{})
	return v, nil
}

// touch writes the day on which an owner was here, and its token was used, once a day. A disk
// that is full or fails keeps nobody out.
func (a *Aliases) touch(ctx context.Context, owner Owner, rec *ownerRecord, token *tokenRecord, id [idLen]byte) {
	now := DayOf(a.o.Now())
	if rec.seen >= now && (token == nil || token.used >= now) {
		return
	}
	err := a.o.Store.Update(ctx, owner.Shard(), func(tx store.Tx) error {
		rec, err := a.getOwner(tx, owner)
		if err != nil {
			return err
		}
		if rec.seen = max(rec.seen, now); token == nil {
			return a.setOwner(tx, owner, rec)
		}
		tok, err := a.getToken(tx, owner, id)
		if err != nil {
			return err
		}
		tok.used = max(tok.used, now)
		if err := a.set(tx, seal.PurposeAliasToken, tokenKey(owner, id), tok.encode()); err != nil {
			return err
		}
		return a.setOwner(tx, owner, rec)
	})
	if err != nil && ctx.Err() == nil {
		a.o.Logger.Warn("the day on which an owner of aliases was here was not written", "kind", errs.KindOf(err).Error())
	}
}

// getOwner reads the record of an owner: errs.NotFound also for one that has ended.
func (a *Aliases) getOwner(r store.Reader, owner Owner) (*ownerRecord, error) {
	rec, err := a.getRecord(r, owner)
	if err == nil && rec.ended {
		return nil, errs.E("post/alias.getOwner", errs.NotFound, textNoOwner, nil)
	}
	return rec, err
}

// getRecord is getOwner, and gives the record of one that has ended, too.
func (a *Aliases) getRecord(r store.Reader, owner Owner) (*ownerRecord, error) {
	plain, err := a.open(r, seal.PurposeAliasOwner, ownerKey(owner))
	if err != nil {
		return nil, err
	}
	return decodeOwner(plain)
}

func (a *Aliases) setOwner(tx store.Tx, owner Owner, rec *ownerRecord) error {
	return a.set(tx, seal.PurposeAliasOwner, ownerKey(owner), rec.encode())
}

func (a *Aliases) getKey(r store.Reader, owner Owner) (key [32]byte, err error) {
	plain, err := a.open(r, seal.PurposeAliasKey, keyKey(owner))
	if err != nil {
		return key, err
	}
	return decodeKey(plain)
}

// readKey reads an owner's alias key.
func (a *Aliases) readKey(ctx context.Context, owner Owner) (key [32]byte, err error) {
	err = a.o.Store.View(ctx, owner.Shard(), func(r store.Reader) (err error) {
		key, err = a.getKey(r, owner)
		return err
	})
	return key, err
}

// Target is where an owner's mail goes, elsewhere; zero: into its mailbox here. errs.NotFound when
// there is no such owner.
func (a *Aliases) Target(ctx context.Context, owner Owner) (target mail.Address, err error) {
	err = a.o.Store.View(ctx, owner.Shard(), func(r store.Reader) error {
		rec, err := a.getOwner(r, owner)
		if err == nil {
			target = rec.target
		}
		return err
	})
	return target, errs.Wrap("post/alias.Target", err)
}

// SetTarget changes where an owner's mail goes: zero is possible only for an account's.
func (a *Aliases) SetTarget(ctx context.Context, owner Owner, target mail.Address) error {
	const op = "post/alias.SetTarget"
	if err := a.checkTarget(target); err != nil {
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, a.o.Store.Update(ctx, owner.Shard(), func(tx store.Tx) error {
		rec, err := a.getOwner(tx, owner)
		if err != nil {
			return err
		}
		if target.IsZero() && len(rec.wrapped) == 0 {
			return errs.E(op, errs.Invalid, textTarget, nil)
		}
		rec.target = target.Canonical()
		return a.setOwner(tx, owner, rec)
	}))
}

// ResetOwner is for an account that gets a new key: its tokens end and its labels and
// correspondents' addresses are lost, since whoever knew the old password may have the key to
// them. The aliases stay with their rules, and the alias key does. Begin makes a new vault. It may
// be repeated, and is no error for who is no owner.
func (a *Aliases) ResetOwner(ctx context.Context, owner Owner) error {
	const op = "post/alias.ResetOwner"
	if err := a.dropTokens(ctx, owner); err != nil {
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, a.o.Store.Update(ctx, owner.Shard(), func(tx store.Tx) error {
		rec, err := a.getOwner(tx, owner)
		if is(err, errs.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		rec.wrapped = nil
		if err := tx.Delete(vaultKey(owner)); err != nil {
			return err
		}
		return a.setOwner(tx, owner, rec)
	}))
}

// derivedBy reports whether an address is one that the owner's key derives.
func derivedBy(key *[32]byte, addr mail.Address) bool {
	return aliasname.Verify(key, addr.Domain, addr.Local)
}
