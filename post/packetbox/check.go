package packetbox

import (
	"context"
	"fmt"
	"slices"
	"time"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// Finding is one thing that is not as it should be.
type Finding struct {
	What    string
	Account string // its number; may be empty
	// Leftover: a crash between two steps left it, and it does no harm.
	Leftover bool
}

// What Check says.
const (
	foundClients  = "the list of its clients of the mix network cannot be read"
	foundIdentity = "the keys of its mail proxy cannot be read: register the proxy again"
	foundInvite   = "an invitation to the mix network cannot be read"
	foundName     = "the name of a mailbox or client of the mix network cannot be read, or lies in the wrong place"
	foundNameless = "a client or mailbox of the mix network cannot be found by its name: register the client again"
	foundLeftover = "the name of a client of the mix network leads to an account that has no such client"
	foundState    = "the counts of its mailbox of the mix network cannot be read"
	foundCount    = "the counts of its mailbox of the mix network are wrong"
	foundPacket   = "a packet of the mix network cannot be read"
	foundMark     = "the name of a packet of the mix network cannot be read"
	foundStranger = "there are packets of the mix network, and no mailbox"
)

// Check reads everything and reports what is wrong. It may run beside a working server and
// changes nothing.
func (b *Boxes) Check(ctx context.Context, report func(Finding)) error {
	const op = "post/packetbox.Check"
	for _, kind := range []byte{nameMailbox, nameClient} {
		err := b.names(ctx, kind, func(n storedName) error { return b.checkName(ctx, n, report) })
		if err != nil {
			return errs.Wrap(op, err)
		}
	}
	err := b.invites(ctx, func(_ store.Shard, _ [placeLen]byte, _ uint32, _ seal.AccountID, err error) error {
		if err != nil {
			report(Finding{What: foundInvite})
		}
		return nil
	})
	if err != nil {
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, seal.EachAccount(ctx, b.o.Store, func(s store.Shard, id seal.AccountID) error {
		if id.Shard() != s {
			return nil // post/account names it
		}
		return b.checkAccount(ctx, id, report)
	}))
}

// checkName looks whether a name leads to an account that has it.
func (b *Boxes) checkName(ctx context.Context, n storedName, report func(Finding)) error {
	if n.err != nil {
		report(Finding{What: foundName})
		return nil
	}
	list, err := b.Clients(ctx, n.id)
	switch errs.KindOf(err) {
	case errs.Corrupt: // told of by checkAccount
		return nil
	case errs.NotFound:
	default:
		if err != nil {
			return err
		}
	}
	has := func(kind byte, name [KeyLen]byte) bool {
		place, shard := b.o.Root.MixPlace(kind, name)
		return place == n.place && shard == n.shard
	}
	if err == nil && (n.kind == nameMailbox && has(n.kind, b.Mailbox(n.id)) ||
		n.kind == nameClient && slices.ContainsFunc(list, func(c Client) bool { return has(n.kind, c.Key) })) {
		return nil
	}
	if there, err := b.named(ctx, n.kind, n.place, n.shard, n.id); err != nil || !there {
		return err // it was removed meanwhile
	}
	report(Finding{What: foundLeftover, Account: n.id.String(), Leftover: true})
	return nil
}

// named reports whether a name leads to an account.
func (b *Boxes) named(ctx context.Context, kind byte, place [placeLen]byte, shard store.Shard, id seal.AccountID) (there bool, err error) {
	err = b.o.Store.View(ctx, shard, func(r store.Reader) error {
		there = false
		v, err := r.Get(nameKey(kind, place))
		if err != nil && errs.KindOf(err) == errs.NotFound {
			return nil
		}
		if err != nil {
			return err
		}
		owner, err := b.openName(kind, place, v)
		there = err == nil && owner == id
		return nil
	})
	return there, err
}

// checkAccount looks at everything in an account's own shard, and for its names.
func (b *Boxes) checkAccount(ctx context.Context, id seal.AccountID, report func(Finding)) error {
	say := func(what string) { report(Finding{What: what, Account: id.String()}) }
	var list []Client
	var open bool
	err := b.o.Store.View(ctx, id.Shard(), func(r store.Reader) error {
		open = false
		var err error
		list, err = b.clients(r, id)
		switch {
		case err == nil:
			open = true
		case errs.KindOf(err) == errs.Corrupt:
			say(foundClients)
		case errs.KindOf(err) != errs.NotFound:
			return err
		}
		if _, err := b.identity(r, id); errs.KindOf(err) == errs.Corrupt {
			say(foundIdentity)
		}
		found, err := b.checkPackets(r, id, say)
		if found && err == nil && !open && list == nil {
			if _, gerr := r.Get(clientsKey(id)); gerr != nil && errs.KindOf(gerr) == errs.NotFound {
				report(Finding{What: foundStranger, Account: id.String(), Leftover: true})
			}
		}
		return err
	})
	if err != nil || !open {
		return err
	}
	names := []nameChange{b.nameOf(nameMailbox, b.Mailbox(id), id)}
	for _, c := range list {
		names = append(names, b.nameOf(nameClient, c.Key, id))
	}
	for i, n := range names {
		there, err := b.named(ctx, n.kind, n.place, n.shard, id)
		if err != nil {
			return err
		}
		if there {
			continue
		}
		// Is it still so? The client, or the account, may be going at this moment.
		now, err := b.Clients(ctx, id)
		if err == nil && (i == 0 || slices.ContainsFunc(now, func(c Client) bool { return c.Key == list[i-1].Key })) {
			say(foundNameless)
		}
	}
	return nil
}

// checkPackets looks at the packets of an account and their counts, in one state of the store.
// found: there is something.
func (b *Boxes) checkPackets(r store.Reader, id seal.AccountID, say func(string)) (found bool, err error) {
	st, stateErr := getState(r, id)
	if stateErr != nil {
		if errs.KindOf(stateErr) != errs.Corrupt {
			return false, stateErr
		}
		found = true
		say(foundState)
	}
	var n uint32
	err = r.Scan(keyOf(id, kindPacket), ends(id, kindPacket), func(k, v []byte) (bool, error) {
		found = true
		n++
		num, ok := number(k)
		if ok {
			_, _, err := b.openPacket(id, num, v)
			ok = err == nil
		}
		if !ok {
			say(foundPacket)
		} else if stateErr == nil && num >= st.next {
			say(foundCount)
		}
		return true, nil
	})
	if err != nil {
		return found, err
	}
	if stateErr == nil && n != st.waiting {
		say(foundCount)
	}
	return found, r.Scan(keyOf(id, kindMark), ends(id, kindMark), func(k, v []byte) (bool, error) {
		found = true
		if _, err := decodeMark(v); err != nil || len(k) != len(markKey(id, [markLen]byte{})) {
			say(foundMark)
		}
		return true, nil
	})
}

// Reveal gives everything here that the node key opens, for `postern store reveal`.
func (b *Boxes) Reveal(ctx context.Context, emit func(kind, text string)) error {
	const op = "post/packetbox.Reveal"
	const shut = "cannot be opened"
	for _, kind := range []byte{nameMailbox, nameClient} {
		what := map[byte]string{nameMailbox: "a mailbox", nameClient: "a link key"}[kind]
		err := b.names(ctx, kind, func(n storedName) error {
			if n.err != nil {
				emit(seal.PurposeMixName.String(), what+" "+shut)
			} else {
				emit(seal.PurposeMixName.String(), fmt.Sprintf("%s is account %s's", what, n.id))
			}
			return nil
		})
		if err != nil {
			return errs.Wrap(op, err)
		}
	}
	err := b.invites(ctx, func(_ store.Shard, _ [placeLen]byte, day uint32, user seal.AccountID, err error) error {
		what := "an invitation until " + Invite{day: day}.Until().Format(time.DateOnly)
		switch {
		case err != nil:
			what = "an invitation " + shut
		case user != seal.AccountID{}:
			what += ", used by account " + user.String()
		}
		emit(seal.PurposeMixName.String(), what)
		return nil
	})
	if err != nil {
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, seal.EachAccount(ctx, b.o.Store, func(_ store.Shard, id seal.AccountID) error {
		return b.revealAccount(ctx, id, shut, emit)
	}))
}

func (b *Boxes) revealAccount(ctx context.Context, id seal.AccountID, shut string, emit func(kind, text string)) error {
	list, err := b.Clients(ctx, id)
	switch {
	case err == nil:
		emit(seal.PurposeMixClient.String(), fmt.Sprintf("account %s: clients: %d", id, len(list)))
	case errs.KindOf(err) == errs.Corrupt:
		emit(seal.PurposeMixClient.String(), fmt.Sprintf("account %s %s", id, shut))
	case errs.KindOf(err) != errs.NotFound:
		return err
	}
	for _, c := range list {
		emit(seal.PurposeMixClient.String(), fmt.Sprintf("account %s: link key %x since %s", id, c.Key, c.Since().Format(time.DateOnly)))
	}
	switch i, err := b.Identity(ctx, id); {
	case err == nil:
		known := "not published"
		if i.Publish {
			known = "published"
		}
		emit(seal.PurposeMixIdentity.String(), fmt.Sprintf("account %s: keys number %d of its mail proxy, %s, since %s", id, i.Serial, known, i.Since().Format(time.DateOnly)))
	case errs.KindOf(err) == errs.Corrupt:
		emit(seal.PurposeMixIdentity.String(), fmt.Sprintf("account %s %s", id, shut))
	case errs.KindOf(err) != errs.NotFound:
		return err
	}
	var lines []string
	for start := packetKey(id, 0); start != nil; {
		var next []byte
		err := b.o.Store.View(ctx, id.Shard(), func(r store.Reader) error {
			lines, next = nil, nil
			return r.Scan(start, ends(id, kindPacket), func(k, v []byte) (bool, error) {
				if len(lines) == maxNext {
					next = append([]byte(nil), k...)
					return false, nil
				}
				n, _ := number(k)
				it, day, err := b.openPacket(id, n, v)
				if err != nil {
					lines = append(lines, fmt.Sprintf("account %s packet %d %s", id, n, shut))
					return true, nil
				}
				came := time.Unix(int64(day)*24*60*60, 0).UTC().Format(time.DateOnly)
				kind := "a message"
				if it.Reply {
					kind = fmt.Sprintf("an answer by the reply block %x", it.Mark)
				}
				lines = append(lines, fmt.Sprintf("account %s packet %d: %s, came on %s, %d bytes sealed end to end", id, n, kind, came, len(it.Payload)))
				return true, nil
			})
		})
		if err != nil {
			return err
		}
		for _, l := range lines {
			emit(seal.PurposeMixPacket.String(), l)
		}
		start = next
	}
	return nil
}
