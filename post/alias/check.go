package alias

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postern.email/kit/errs"
	"postern.email/post/names"
	"postern.email/post/seal"
	"postern.email/store"
)

// Finding is one thing that is not as it should be.
type Finding struct {
	What     string
	Owner    string // its number; may be empty
	Leftover bool   // a crash between two steps left it; it does no harm, and housekeeping removes it
}

// What Check says.
const (
	foundPlace    = "records of an owner of aliases lie in a shard that its number does not belong to"
	foundOwner    = "the record of an owner of aliases cannot be read"
	foundHalf     = "aliases are left of an owner who was deleted"
	foundKey      = "the key of derived aliases cannot be read"
	foundVault    = "the public key for labels and correspondents cannot be read"
	foundToken    = "a token for aliases cannot be read"
	foundDeaf     = "a token for aliases opens nothing: make it anew"
	foundDangling = "half of a token for aliases is left"
	foundAlias    = "an alias cannot be read"
	foundNameless = "an alias cannot be found by its name"
	foundUnnamed  = "a derived alias has no name yet"
	foundSent     = "which mails were sent as an alias cannot be read: reports on them are judged as other mail"
	foundPeople   = "an address of a correspondent belongs to nobody"
	foundCount    = "the number of an owner's aliases is wrong"
	foundName     = "the name of an alias leads nowhere"
	foundStray    = "a record among the aliases has no known form"
)

// Check reads everything and reports what is wrong. It may run beside a working server and changes
// nothing; what is just being made or deleted is looked at twice.
func (a *Aliases) Check(ctx context.Context, report func(Finding)) error {
	const op = "post/alias.Check"
	err := seal.EachNumber(ctx, a.o.Store, letterOwner, func(s store.Shard, owner Owner) error {
		if owner.Shard() != s {
			report(Finding{What: foundPlace, Owner: owner.String()})
			return nil
		}
		return a.checkOwner(ctx, owner, report)
	})
	if err != nil {
		return errs.Wrap(op, err)
	}
	err = a.o.Names.Walk(ctx, names.Place{}, func(s names.Stored) (bool, error) {
		if s.Err != nil || s.Kind != names.Alias { // post/account names those that cannot be read
			return true, nil
		}
		led, err := a.leads(ctx, s)
		if err != nil || led {
			return true, err
		}
		if now, err := a.o.Names.At(ctx, s.Place); err != nil || now != s.Record {
			return true, nil
		}
		report(Finding{What: foundName, Owner: s.ID.String(), Leftover: true})
		return true, nil
	})
	if err != nil {
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, a.eachPlace(ctx, func(p tokenPlace) error {
		if p.err != nil {
			report(Finding{What: foundToken})
			return nil
		}
		listed, err := a.listed(ctx, p)
		if err == nil && !listed {
			report(Finding{What: foundDangling, Owner: p.rec.owner.String(), Leftover: true})
		}
		return err
	}))
}

func (a *Aliases) checkOwner(ctx context.Context, owner Owner, report func(Finding)) error {
	say := func(what string, leftover bool) {
		report(Finding{What: what, Owner: owner.String(), Leftover: leftover})
	}
	var rec *ownerRecord
	var tokens []*tokenRecord
	var ids [][idLen]byte
	if half, err := a.remains(ctx, owner); half {
		say(foundHalf, true)
	} else if err != nil && !is(err, errs.Corrupt) {
		return err
	}
	err := a.o.Store.View(ctx, owner.Shard(), func(r store.Reader) error {
		tokens, ids = nil, nil
		var err error
		switch rec, err = a.getRecord(r, owner); {
		case is(err, errs.NotFound):
			say(foundHalf, true)
			return nil
		case err == nil && rec.ended:
			return nil
		case is(err, errs.Corrupt):
			say(foundOwner, false)
		case err != nil:
			return err
		}
		if _, err := a.getKey(r, owner); is(err, errs.Corrupt) || is(err, errs.NotFound) {
			say(foundKey, false)
		} else if err != nil {
			return err
		}
		if pub, err := getVault(r, owner); is(err, errs.Corrupt) || err == nil && !seal.ValidPublicKey(pub) {
			say(foundVault, false)
		} else if err != nil && !is(err, errs.NotFound) {
			return err
		}
		all, err := tokenIDs(r, owner)
		for _, id := range all {
			t, terr := a.getToken(r, owner, id)
			if terr != nil {
				say(foundToken, false)
				continue
			}
			tokens, ids = append(tokens, t), append(ids, id)
		}
		return err
	})
	if err != nil {
		return err
	}
	if rec != nil && rec.ended {
		return nil // what is left of it, if anything, was said
	}
	for i, t := range tokens {
		if err := a.checkToken(ctx, owner, ids[i], t, say); err != nil {
			return err
		}
	}
	var living uint32
	err = a.eachStored(ctx, owner, nil, func(s stored) (bool, error) {
		if s.err == nil && s.rules.deleted == 0 {
			living++
		}
		return true, a.checkAlias(ctx, owner, s, say)
	})
	if err != nil || rec == nil || rec.count == living {
		return err
	}
	// Is it still so? Aliases may be made and deleted at this moment.
	again, err := a.count(ctx, owner)
	if err == nil && !again {
		say(foundCount, false)
	}
	return err
}

// count reports, in one state of the store, whether an owner's aliases are as many as its record
// says.
func (a *Aliases) count(ctx context.Context, owner Owner) (right bool, err error) {
	err = a.o.Store.View(ctx, owner.Shard(), func(r store.Reader) error {
		rec, err := a.getOwner(r, owner)
		if is(err, errs.NotFound) || is(err, errs.Corrupt) {
			right = true
			return nil
		}
		if err != nil {
			return err
		}
		var living uint32
		prefix := ownerPrefix(owner, kindAlias)
		err = r.Scan(prefix, store.Behind(prefix), func(k, v []byte) (bool, error) {
			if len(k) != headLen+1 || k[headLen] != partRules {
				return true, nil
			}
			plain, err := a.o.Root.Open(seal.PurposeAliasRules, k, v)
			if err != nil {
				return true, nil
			}
			if rs, err := decodeRules(plain); err == nil && rs.deleted == 0 {
				living++
			}
			return true, nil
		})
		right = rec.count == living
		return err
	})
	return right, err
}

// checkToken looks whether a token opens something.
func (a *Aliases) checkToken(ctx context.Context, owner Owner, id [idLen]byte, t *tokenRecord, say func(string, bool)) error {
	err := a.o.Store.View(ctx, store.Shard(t.shard), func(r store.Reader) error {
		plain, err := a.open(r, seal.PurposeAliasToken, placeKey(t.place))
		if err != nil {
			return err
		}
		rec, err := decodePlace(plain)
		if err == nil && (rec.owner != owner || rec.id != id) {
			err = errs.E("post/alias.checkToken", errs.NotFound, "", nil)
		}
		return err
	})
	if is(err, errs.NotFound) {
		var still *tokenRecord
		err = a.o.Store.View(ctx, owner.Shard(), func(r store.Reader) error { still, err = a.getToken(r, owner, id); return err })
		if err == nil && still.place == t.place {
			say(foundDeaf, false)
		}
		return nil
	}
	if is(err, errs.Corrupt) {
		return nil // said by itself
	}
	return err
}

// checkAlias looks at one alias and for its name.
func (a *Aliases) checkAlias(ctx context.Context, owner Owner, s stored, say func(string, bool)) error {
	if s.keys > 0 {
		say(foundStray, false)
	}
	if s.err != nil {
		if s.keys == 0 {
			say(foundAlias, false)
		}
		return nil
	}
	if s.deaf {
		say(foundSent, false)
	}
	for t := range s.names {
		if find(s.state.people, t) < 0 {
			say(foundPeople, false)
			break
		}
	}
	n, err := a.o.Names.Lookup(ctx, s.rules.addr)
	switch {
	case is(err, errs.NotFound) && s.rules.derived:
		say(foundUnnamed, true)
		return nil
	case is(err, errs.Corrupt):
		return nil // post/account names it
	case err != nil && !is(err, errs.NotFound):
		return err
	case err == nil && n.ID == owner && (n.Kind == names.Alias || n.Kind == names.GoneAlias && s.rules.deleted != 0):
		return nil
	}
	if _, err := a.read(ctx, owner, s.rules.addr, false); is(err, errs.NotFound) {
		return nil // deleted meanwhile
	}
	say(foundNameless, false)
	return nil
}

// Reveal gives everything here that the node key opens, for `postern store reveal`. kind is the Name
// of a seal.Purpose. What cannot be opened is given with the kind and the words "cannot be opened".
func (a *Aliases) Reveal(ctx context.Context, emit func(kind, text string)) error {
	const op = "post/alias.Reveal"
	const shut = "cannot be opened"
	err := a.eachOwner(ctx, func(owner Owner) error {
		show := func(p seal.Purpose, err error, format string, args ...any) error {
			switch {
			case err == nil:
				emit(p.String(), fmt.Sprintf("owner %s: ", owner)+fmt.Sprintf(format, args...))
			case is(err, errs.Corrupt):
				emit(p.String(), fmt.Sprintf("owner %s: a record %s", owner, shut))
			case !is(err, errs.NotFound):
				return err
			}
			return nil
		}
		err := a.o.Store.View(ctx, owner.Shard(), func(r store.Reader) error {
			rec, err := a.getRecord(r, owner)
			if err != nil {
				rec = new(ownerRecord)
			}
			if err := show(seal.PurposeAliasOwner, err, "%s, %d aliases, %d deleted, since %s, here last %s, ended: %t, vault wrapped by an account: %t",
				orMailbox(rec), rec.count, rec.dead, rec.began, rec.seen, rec.ended, len(rec.wrapped) > 0); err != nil {
				return err
			}
			key, err := a.getKey(r, owner)
			if err := show(seal.PurposeAliasKey, err, "derives with %x", key); err != nil {
				return err
			}
			ids, err := tokenIDs(r, owner)
			for _, id := range ids {
				t, terr := a.getToken(r, owner, id)
				if terr != nil {
					t = new(tokenRecord)
				}
				err = errors.Join(err, show(seal.PurposeAliasToken, terr, "token %s, scope %d, made %s, used last %s", idText(id), t.scope, t.made, t.used))
			}
			return err
		})
		if err != nil {
			return err
		}
		return a.eachStored(ctx, owner, nil, func(s stored) (bool, error) {
			if s.err != nil {
				return true, show(seal.PurposeAliasRules, errs.E(op, errs.Corrupt, "", nil), "")
			}
			al := a.aliasOf(owner, s.rules, s.state)
			return true, show(seal.PurposeAliasRules, nil, "%s mode=%s class=%s derived=%t paused=%t created=%s deleted=%s expires=%s max-mails=%d idle-days=%d received=%d refused=%d sent=%d last=%s sent-lately=%d tags under %x: %s",
				al.Address, al.Mode, al.Class, al.Derived, al.Paused, al.Created, al.Deleted, untilText(al.Expires), al.MaxMails, al.IdleDays,
				al.Received, al.Refused, al.Sent, al.Last, len(s.sent), al.tags, tagsText(al.people))
		})
	})
	if err != nil {
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, a.eachPlace(ctx, func(p tokenPlace) error {
		text := "a token " + shut
		if p.err == nil {
			text = fmt.Sprintf("a token is owner %s's number %s", p.rec.owner, idText(p.rec.id))
		}
		emit(seal.PurposeAliasToken.String(), text)
		return nil
	}))
}

func orMailbox(rec *ownerRecord) string {
	if rec.target.IsZero() {
		return "mail goes into its mailbox"
	}
	return "mail goes to " + rec.target.String()
}

func untilText(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Format(time.RFC3339)
}

func tagsText(people []person) string {
	if len(people) == 0 {
		return "none"
	}
	text := ""
	for i := range people {
		p := &people[i]
		text += fmt.Sprintf("%x %s %d mails from %s to %s; ", p.tag, p.state(), p.mails, p.first, p.last)
	}
	return text
}
