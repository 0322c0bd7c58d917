package alias

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"

	"postern.email/kit/codec"
	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// An alias remembers, as keyed hashes, the Message-IDs of the mails that were last sent as it: a delivery report
// (RFC 3464) is from a host that no list of senders names, and its form can be imitated by anybody; but only who
// got one of these mails can quote its id.

// MostSent bounds Options.MaxSent, so that a record stays small.
const MostSent = 1024

// sentMail is a mail that was sent as an alias.
type sentMail struct {
	tag tag // keyed hash of its Message-ID
	day Day
}

// encodeSent is the record of what was sent, the oldest first.
func encodeSent(list []sentMail) []byte {
	b := binary.BigEndian.AppendUint32([]byte{version}, uint32(len(list)))
	for i := range list {
		b = append(b, list[i].tag[:]...)
		b = binary.BigEndian.AppendUint32(b, uint32(list[i].day))
	}
	return codec.Fill(b, block)
}

func decodeSent(b []byte) (list []sentMail, err error) {
	d := codec.NewReader(b, version)
	number := func() uint32 {
		if v := d.Bytes(4); v != nil {
			return binary.BigEndian.Uint32(v)
		}
		return 0
	}
	n := number()
	if n > MostSent {
		d.Fail()
		n = 0
	}
	for range n {
		var s sentMail
		copy(s.tag[:], d.Bytes(tagLen))
		s.day = Day(number())
		if d.Bad() {
			break
		}
		list = append(list, s)
	}
	d.Filling(block)
	if err := d.End("post/alias.decodeSent"); err != nil {
		return nil, err
	}
	return list, nil
}

// Remember has reports on the mail with this Message-ID be known for such, for SentDays and until MaxSent further ones
// were sent. It is for what WroteTo gives; an empty id is not remembered.
func (r *Arrival) Remember(id string) *Arrival {
	r.id = strings.TrimSpace(id)
	return r
}

// Answers reports whether a mail with this Message-ID was sent as the alias lately, so that there is something a
// delivery report can be about.
func (a *Aliases) Answers(ctx context.Context, al *Alias, id string) (yes bool, err error) {
	if id = strings.TrimSpace(id); id == "" || !al.Stored {
		return false, nil
	}
	var list []sentMail
	err = a.o.Store.View(ctx, al.Owner.Shard(), func(r store.Reader) (err error) {
		list, err = a.getSent(r, al.Owner, al.place())
		return err
	})
	if err != nil {
		return false, errs.Wrap("post/alias.Answers", err)
	}
	t := al.tagOfID(id)
	return slices.ContainsFunc(a.stillSent(list), func(s sentMail) bool { return s.tag == t }), nil
}

// putSent writes that a mail was sent.
func (r *Arrival) putSent(tx store.Tx, p place) error {
	list, err := r.a.getSent(tx, r.al.Owner, p)
	if err != nil {
		return err
	}
	list = append(r.a.stillSent(list), sentMail{r.al.tagOfID(r.id), DayOf(r.now)})
	list = list[max(0, len(list)-r.a.o.MaxSent):]
	return r.a.set(tx, seal.PurposeAliasRules, sentKey(r.al.Owner, p), encodeSent(list))
}

// getSent reads what was sent as an alias. A record that cannot be read is as good as none, and Check names it.
func (a *Aliases) getSent(r store.Reader, owner Owner, p place) ([]sentMail, error) {
	plain, err := a.open(r, seal.PurposeAliasRules, sentKey(owner, p))
	if err != nil {
		if is(err, errs.NotFound) || is(err, errs.Corrupt) {
			return nil, nil
		}
		return nil, err
	}
	list, err := decodeSent(plain)
	if err != nil {
		return nil, nil
	}
	return list, nil
}

// stillSent gives those that are not too old.
func (a *Aliases) stillSent(list []sentMail) []sentMail {
	now := int64(DayOf(a.o.Now()))
	return slices.DeleteFunc(list, func(s sentMail) bool { return now-int64(s.day) > int64(a.o.SentDays) })
}

// tagOfID is the keyed hash of a Message-ID. It has two NULs in front, as no address's has.
func (a *Alias) tagOfID(id string) (t tag) {
	m := hmac.New(sha256.New, a.tags[:])
	m.Write([]byte{0, 0})
	m.Write([]byte(id))
	var sum [sha256.Size]byte
	copy(t[:], m.Sum(sum[:0]))
	return t
}

// sweepSent removes what is remembered of mails that were sent, when all of it is too old.
func (a *Aliases) sweepSent(ctx context.Context, owner Owner, s stored) error {
	if s.sent == nil || len(a.stillSent(slices.Clone(s.sent))) > 0 {
		return nil
	}
	return a.o.Store.Update(ctx, owner.Shard(), func(tx store.Tx) error {
		list, err := a.getSent(tx, owner, s.place)
		if err != nil || len(a.stillSent(list)) > 0 {
			return err
		}
		return tx.Delete(sentKey(owner, s.place))
	})
}
