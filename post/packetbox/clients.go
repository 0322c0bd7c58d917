package packetbox

import (
	"context"
	"errors"
	"slices"
	"time"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// Client is one client of an account.
type Client struct {
	Key [KeyLen]byte // the name of its link key (mixnet/link.Key)
	day uint32
}

// Since is the day on which it was registered, midnight UTC.
func (c Client) Since() time.Time { return time.Unix(int64(c.day)*24*60*60, 0).UTC() }

// Mailbox gives the mailbox of an account, whether anybody is registered for it or not.
func (b *Boxes) Mailbox(id seal.AccountID) [KeyLen]byte { return b.o.Root.MailboxID(id) }

// Register lets a client with a link key fetch the packets of an account, and opens its
// mailbox. Registering it again changes nothing. errs.Full with MaxKeys others, errs.Exists
// when the key is that of another account's client.
func (b *Boxes) Register(ctx context.Context, id seal.AccountID, key [KeyLen]byte) (mailbox [KeyLen]byte, err error) {
	return b.register(ctx, id, key, nil)
}

func (b *Boxes) register(ctx context.Context, id seal.AccountID, key [KeyLen]byte, ident *Identity) (mailbox [KeyLen]byte, err error) {
	const op = "post/packetbox.Register"
	if key == ([KeyLen]byte{}) {
		return mailbox, errs.E(op, errs.Invalid, "this is no link key", nil)
	}
	mailbox = b.Mailbox(id)
	names, err := b.sealNames(id, mailbox, key)
	if err != nil {
		return mailbox, errs.Wrap(op, err)
	}
	today := dayOf(b.o.Now())
	var opened bool
	err = b.update(ctx, id, names, func(tx store.Tx) error {
		list, err := b.clients(tx, id)
		opened = errs.KindOf(err) == errs.NotFound && err != nil
		if err != nil && !opened {
			return err
		}
		if !slices.ContainsFunc(list, func(c Client) bool { return c.Key == key }) {
			if len(list) == MaxKeys {
				return errs.E(op, errs.Full, "the account has four clients of the mix network, which is the most: remove one first", nil)
			}
			if err := b.setClients(tx, id, append(list, Client{key, today})); err != nil {
				return err
			}
		}
		if ident == nil {
			return nil
		}
		return b.setIdentity(tx, id, *ident, today)
	})
	if err == nil && opened {
		b.count.boxes.Add(1)
	}
	return mailbox, errs.Wrap(op, err)
}

// Unregister takes a client from its account. The mailbox and what waits in it stay; with the last
// client the identity goes, so that mail goes into the account's mailbox again. errs.NotFound
// when the account has no such client.
func (b *Boxes) Unregister(ctx context.Context, id seal.AccountID, key [KeyLen]byte) error {
	const op = "post/packetbox.Unregister"
	none := errs.E(op, errs.NotFound, "the account has no client with this link key", nil)
	names := []nameChange{b.nameOf(nameClient, key, id)}
	return errs.Wrap(op, b.update(ctx, id, names, func(tx store.Tx) error {
		list, err := b.clients(tx, id)
		if err != nil && errs.KindOf(err) == errs.NotFound {
			return none
		}
		if err != nil {
			return err
		}
		n := len(list)
		if list = slices.DeleteFunc(list, func(c Client) bool { return c.Key == key }); len(list) == n {
			return none
		}
		if len(list) == 0 {
			if err := tx.Delete(identityKey(id)); err != nil {
				return err
			}
		}
		return b.setClients(tx, id, list)
	}))
}

// Clients lists the clients of an account in the order in which they were registered.
// errs.NotFound when it has no mailbox.
func (b *Boxes) Clients(ctx context.Context, id seal.AccountID) (list []Client, err error) {
	err = b.o.Store.View(ctx, id.Shard(), func(r store.Reader) error {
		list, err = b.clients(r, id)
		return err
	})
	return list, errs.Wrap("post/packetbox.Clients", err)
}

// Client tells whose client a link key is. errs.NotFound for an unknown one.
func (b *Boxes) Client(ctx context.Context, key [KeyLen]byte) (seal.AccountID, error) {
	const op = "post/packetbox.Client"
	id, err := b.find(ctx, nameClient, key)
	if err != nil {
		return id, errs.Wrap(op, err)
	}
	// Where name and account have no common log, a name may be left over from a client that was
	// removed: the account's own list decides.
	list, err := b.Clients(ctx, id)
	if err != nil {
		return seal.AccountID{}, errs.Wrap(op, err)
	}
	if !slices.ContainsFunc(list, func(c Client) bool { return c.Key == key }) {
		return seal.AccountID{}, errs.E(op, errs.NotFound, "", nil)
	}
	return id, nil
}

// Drop removes the mailbox of an account with all that waits in it, and its clients. It may be
// repeated, and is no error for an account without mailbox.
func (b *Boxes) Drop(ctx context.Context, id seal.AccountID) error {
	const op = "post/packetbox.Drop"
	list, err := b.Clients(ctx, id)
	had := err == nil
	if err != nil && errs.KindOf(err) != errs.NotFound && errs.KindOf(err) != errs.Corrupt {
		return errs.Wrap(op, err)
	}
	names := []nameChange{b.nameOf(nameMailbox, b.Mailbox(id), id)}
	for _, c := range list {
		names = append(names, b.nameOf(nameClient, c.Key, id))
	}
	var waited uint32
	err = b.update(ctx, id, names, func(tx store.Tx) error {
		st, err := getState(tx, id)
		if err != nil && errs.KindOf(err) != errs.Corrupt {
			return err
		}
		waited = st.waiting
		if err := tx.DeleteRange(append(id.Prefix(), letter), append(id.Prefix(), letter+1)); err != nil {
			return err
		}
		return tx.Delete(stateKey(id)) // a watch fires for a key that is deleted by itself
	})
	if err != nil {
		return errs.Wrap(op, err)
	}
	if had {
		b.count.boxes.Add(-1)
		b.count.waiting.Add(-int64(waited))
		b.o.Deleted()
	}
	return nil
}

func (b *Boxes) clients(r store.Reader, id seal.AccountID) ([]Client, error) {
	sealed, err := r.Get(clientsKey(id))
	if err != nil {
		return nil, err
	}
	plain, err := b.o.Root.Open(seal.PurposeMixClient, id[:], sealed)
	if err != nil {
		return nil, err
	}
	return decodeClients(plain)
}

func (b *Boxes) setClients(tx store.Tx, id seal.AccountID, list []Client) error {
	sealed, err := b.o.Root.Seal(seal.PurposeMixClient, id[:], encodeClients(list))
	if err != nil {
		return err
	}
	return tx.Set(clientsKey(id), sealed)
}

// find gives the account of a mailbox or link key.
func (b *Boxes) find(ctx context.Context, kind byte, name [KeyLen]byte) (id seal.AccountID, err error) {
	place, shard := b.o.Root.MixPlace(kind, name)
	err = b.o.Store.View(ctx, shard, func(r store.Reader) error {
		v, err := r.Get(nameKey(kind, place))
		if err != nil {
			return err
		}
		id, err = b.openName(kind, place, v)
		return err
	})
	return id, err
}

// nameChange is what becomes of one name.
type nameChange struct {
	kind  byte
	place [placeLen]byte
	shard store.Shard
	id    seal.AccountID
	value []byte // nil: the name is deleted, if it is the account's
}

func (b *Boxes) nameOf(kind byte, name [KeyLen]byte, id seal.AccountID) nameChange {
	place, shard := b.o.Root.MixPlace(kind, name)
	return nameChange{kind: kind, place: place, shard: shard, id: id}
}

// sealNames prepares the names of an account's mailbox and of one client.
func (b *Boxes) sealNames(id seal.AccountID, mailbox, key [KeyLen]byte) ([]nameChange, error) {
	names := []nameChange{b.nameOf(nameClient, key, id), b.nameOf(nameMailbox, mailbox, id)}
	for i := range names {
		var err error
		if names[i].value, err = b.sealName(names[i].kind, names[i].place, id); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// apply makes one change in the shard of the name; fresh: the name was not there before.
// errs.Exists when the name is another account's; deleting such a one changes nothing.
func (b *Boxes) apply(tx store.Tx, n nameChange) (fresh bool, err error) {
	k := nameKey(n.kind, n.place)
	v, err := tx.Get(k)
	if err != nil && errs.KindOf(err) != errs.NotFound {
		return false, err
	}
	fresh = err != nil
	if !fresh {
		// One that cannot be read is nobody's.
		switch owner, err := b.openName(n.kind, n.place, v); {
		case err == nil && owner != n.id && n.value != nil:
			return false, errs.E("post/packetbox.apply", errs.Exists, "this link key is that of another account's client", nil)
		case err == nil && (owner == n.id) == (n.value != nil):
			return false, nil
		case err != nil && errs.KindOf(err) != errs.Corrupt:
			return false, err
		}
	}
	switch {
	case n.value != nil:
		return fresh, tx.Set(k, n.value)
	case !fresh:
		return false, tx.Delete(k)
	}
	return false, nil
}

// errTwoLogs says inside a transaction that account and name have no common log.
var errTwoLogs = errors.New("two logs")

// update changes the records of an account and names with it, in one transaction where both
// lie in one log.
func (b *Boxes) update(ctx context.Context, id seal.AccountID, names []nameChange, fn func(store.Tx) error) error {
	home := id.Shard()
	err := b.o.Store.Update(ctx, home, func(tx store.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		for _, n := range names {
			in := tx
			if n.shard != home {
				var err error
				if in, err = tx.Other(n.shard); err != nil {
					if errs.KindOf(err) == errs.Unsupported {
						return errTwoLogs
					}
					return err
				}
			}
			if _, err := b.apply(in, n); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, errTwoLogs) {
		return b.updateApart(ctx, home, names, fn)
	}
	return err
}

// updateApart is update where account and names have no common log. A name comes before the
// account's record and goes after it: what a crash leaves between the two is a name that leads
// to an account which does not list it, and so nowhere.
func (b *Boxes) updateApart(ctx context.Context, home store.Shard, names []nameChange, fn func(store.Tx) error) error {
	var undo []nameChange
	err := func() error {
		for _, n := range names {
			if n.value == nil {
				continue
			}
			var fresh bool
			err := b.o.Store.Update(ctx, n.shard, func(tx store.Tx) (err error) { fresh, err = b.apply(tx, n); return err })
			if err != nil {
				return err
			}
			if fresh {
				n.value = nil
				undo = append(undo, n)
			}
		}
		return b.o.Store.Update(ctx, home, fn)
	}()
	gone := undo
	if err == nil {
		gone = slices.DeleteFunc(slices.Clone(names), func(n nameChange) bool { return n.value != nil })
	}
	for _, n := range gone {
		gerr := b.o.Store.Update(ctx, n.shard, func(tx store.Tx) error { _, err := b.apply(tx, n); return err })
		if gerr != nil {
			b.o.Logger.Warn("the name of a client of the mix network stays; it leads nowhere", "kind", errs.KindOf(gerr))
		}
	}
	return err
}
