package packetbox

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// Invitations let somebody register in a relay that asks for one. What is kept of one is a keyed
// hash of its text, until when it can be used, and by which account it was.

// Bounds of invitations.
const (
	MaxInvites    = 10_000
	MaxInviteDays = 365
	inviteChars   = 20 // of base32: 100 bits
	inviteGroup   = 5
)

const (
	nameInvite = 'i'
	inviteLen  = 1 + 4 + 8 // version, day of the end, account; zero: it was not used
)

// Invite is one invitation as the operator sees it.
type Invite struct {
	Used bool
	day  uint32
}

// Until is the last day on which it can be used, midnight UTC.
func (i Invite) Until() time.Time { return time.Unix(int64(i.day)*24*60*60, 0).UTC() }

var inviteDigits = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// invitePlace finds the record of an invitation; hyphens, spaces and case do not count.
func (b *Boxes) invitePlace(text string) (place [placeLen]byte, shard store.Shard, ok bool) {
	text = strings.ToLower(strings.NewReplacer("-", "", " ", "").Replace(text))
	if len(text) != inviteChars {
		return place, 0, false
	}
	place, shard = b.o.Root.MixPlace(nameInvite, sha256.Sum256([]byte(text)))
	return place, shard, true
}

// MakeInvite makes an invitation that can be used once, today and so many days more. Its text
// comes from random and is kept nowhere. errs.Full with MaxInvites of them.
func (b *Boxes) MakeInvite(ctx context.Context, random io.Reader, days int) (text string, until time.Time, err error) {
	const op = "post/packetbox.MakeInvite"
	if days < 1 || days > MaxInviteDays {
		return "", until, errs.E(op, errs.Invalid, "an invitation lasts for 1 to 365 days", nil)
	}
	all, err := b.Invites(ctx)
	if err != nil {
		return "", until, errs.Wrap(op, err)
	}
	if len(all) >= MaxInvites {
		return "", until, errs.E(op, errs.Full, "there are 10,000 invitations, which is the most; old ones go when their time is over", nil)
	}
	var raw [(inviteChars*5 + 7) / 8]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return "", until, errs.E(op, errs.Internal, "", err)
	}
	code := inviteDigits.EncodeToString(raw[:])[:inviteChars]
	place, shard, _ := b.invitePlace(code)
	day := dayOf(b.o.Now()) + uint32(days)
	sealed, err := b.sealInvite(place, day, seal.AccountID{})
	if err == nil {
		err = b.o.Store.Update(ctx, shard, func(tx store.Tx) error { return tx.Set(nameKey(nameInvite, place), sealed) })
	}
	if err != nil {
		return "", until, errs.Wrap(op, err)
	}
	var groups []string
	for g := range slices.Chunk([]byte(code), inviteGroup) {
		groups = append(groups, string(g))
	}
	return strings.Join(groups, "-"), Invite{day: day}.Until(), nil
}

// UseInvite notes that an account uses an invitation. It may be repeated by the same account, so
// that nothing is lost when what follows fails. errs.Denied for one that is not known, is over,
// or was used by another.
func (b *Boxes) UseInvite(ctx context.Context, text string, id seal.AccountID) error {
	const op = "post/packetbox.UseInvite"
	denied := errs.E(op, errs.Denied, "the invitation is not valid: it was used, or its time is over", nil)
	place, shard, ok := b.invitePlace(text)
	if !ok {
		return denied
	}
	today := dayOf(b.o.Now())
	return errs.Wrap(op, b.o.Store.Update(ctx, shard, func(tx store.Tx) error {
		v, err := tx.Get(nameKey(nameInvite, place))
		if err != nil {
			if errs.KindOf(err) == errs.NotFound {
				return denied
			}
			return err
		}
		day, user, err := b.openInvite(place, v)
		switch {
		case err != nil:
			return err
		case day < today, user != seal.AccountID{} && user != id:
			return denied
		case user == id:
			return nil
		}
		sealed, err := b.sealInvite(place, day, id)
		if err != nil {
			return err
		}
		return tx.Set(nameKey(nameInvite, place), sealed)
	}))
}

// Invites lists the invitations, in no order.
func (b *Boxes) Invites(ctx context.Context) (list []Invite, err error) {
	err = b.invites(ctx, func(_ store.Shard, _ [placeLen]byte, day uint32, user seal.AccountID, err error) error {
		if err == nil {
			list = append(list, Invite{Used: user != seal.AccountID{}, day: day})
		}
		return nil
	})
	return list, errs.Wrap("post/packetbox.Invites", err)
}

// invites calls fn for each invitation; err of fn says that it cannot be read.
func (b *Boxes) invites(ctx context.Context, fn func(store.Shard, [placeLen]byte, uint32, seal.AccountID, error) error) error {
	return b.records(ctx, nameInvite, func(n storedName, v []byte) error {
		if n.err != nil {
			return fn(n.shard, n.place, 0, seal.AccountID{}, n.err)
		}
		day, user, err := b.openInvite(n.place, v)
		return fn(n.shard, n.place, day, user, err)
	})
}

// forgetInvites removes those whose time is over.
func (b *Boxes) forgetInvites(ctx context.Context) error {
	today := dayOf(b.o.Now())
	return b.invites(ctx, func(s store.Shard, place [placeLen]byte, day uint32, _ seal.AccountID, err error) error {
		if err != nil || day >= today {
			return nil
		}
		return b.o.Store.Update(ctx, s, func(tx store.Tx) error { return tx.Delete(nameKey(nameInvite, place)) })
	})
}

func (b *Boxes) sealInvite(place [placeLen]byte, day uint32, user seal.AccountID) ([]byte, error) {
	plain := binary.BigEndian.AppendUint32([]byte{version}, day)
	return b.o.Root.Seal(seal.PurposeMixName, nameAAD(nameInvite, place), append(plain, user[:]...))
}

func (b *Boxes) openInvite(place [placeLen]byte, v []byte) (day uint32, user seal.AccountID, err error) {
	const op = "post/packetbox.openInvite"
	plain, err := b.o.Root.Open(seal.PurposeMixName, nameAAD(nameInvite, place), v)
	if err != nil {
		return 0, user, errs.Wrap(op, err)
	}
	if len(plain) != inviteLen || plain[0] != version {
		return 0, user, corrupt(op, nil)
	}
	return binary.BigEndian.Uint32(plain[1:]), seal.AccountID(plain[5:]), nil
}
