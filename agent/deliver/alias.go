package deliver

import (
	"context"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/account"
	"postern.email/post/alias"
	"postern.email/post/seal"
	"postern.email/store"
)

// ForAlias is the copy of a mail for an alias here.
type ForAlias struct {
	Owner account.Account
	// Fields stand in front of the mail, which then is stored as it came: the header rules of final
	// delivery do not apply. mail/sanitize.Alias makes them.
	Fields []byte
	// Clean applies the header rules of final delivery all the same, behind Fields: nothing is kept
	// with which somebody else could be shown who sent the mail.
	Clean   bool
	Arrival Write // what the mail changes of the alias; nil: nothing
}

// Aliases tells whose an alias is, for reports on mail that was sent as one.
type Aliases interface {
	Ours(addr mail.Address) bool
	Lookup(ctx context.Context, addr mail.Address) (*alias.Alias, error)
}

// Numbers gives accounts by their numbers.
type Numbers interface {
	ByNumber(ctx context.Context, id seal.AccountID) (account.Account, error)
}

// addAlias prepares the copy for an alias, behind list. What the mail changes of the alias is written
// only where its owner has not got the mail before.
func (d *Deliver) addAlias(ctx context.Context, w *writes, list []localCopy, p *Parcel, to *ForAlias) ([]localCopy, error) {
	owner := []account.Account{to.Owner}
	proxied, err := d.read(ctx, owner)
	if err != nil {
		return nil, err
	}
	var made writes
	m := &hereMail{from: p.From, fields: to.Fields, clean: to.Clean, head: p.Head, tail: p.Tail, proof: p.Proof, change: to.Arrival}
	err = d.addCopies(ctx, &made, m, owner, proxied)
	w.unused = append(w.unused, made.unused...)
	return append(list, made.copies...), err
}

// with gives what writes a copy and what the mail changes of its alias, in that order of
// failures: a mail that the alias does not take is not written.
func with(c Write, at store.Shard, put func(store.Tx) error) func(store.Tx) error {
	return func(tx store.Tx) error {
		in := tx
		if c.Shard() != at {
			var err error
			if in, err = tx.Other(c.Shard()); err != nil {
				return err
			}
		}
		if err := c.Put(in); err != nil {
			return err
		}
		return put(tx)
	}
}

// ownerOf gives the account behind an address here that is an alias. errs.NotFound for any other, and
// for an alias whose owner has no mailbox here.
func (d *Deliver) ownerOf(ctx context.Context, addr mail.Address) (account.Account, error) {
	const op = "agent/deliver.ownerOf"
	if d.o.Aliases == nil || d.o.Numbers == nil || !d.o.Aliases.Ours(addr) {
		return account.Account{}, errs.E(op, errs.NotFound, "", nil)
	}
	al, err := d.o.Aliases.Lookup(ctx, addr)
	if err != nil {
		return account.Account{}, errs.Wrap(op, err)
	}
	a, err := d.o.Numbers.ByNumber(ctx, al.Owner)
	return a, errs.Wrap(op, err)
}
