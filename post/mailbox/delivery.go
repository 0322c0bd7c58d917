package mailbox

import (
	"context"
	"time"

	"postern.email/kit/errs"
	"postern.email/post/blob"
	"postern.email/post/seal"
	"postern.email/store"
)

// Target is one recipient of a delivery.
type Target struct {
	ID     seal.AccountID
	Public seal.PublicKey
	Quota  int64  // bytes; 0: the default of Options, negative: none
	Box    uint32 // Inbox on delivery
	// Unsealed is set when the owner is here (APPEND); nil on delivery. Keywords
	// need it.
	Unsealed *seal.Opened
}

// Delivery is a sealed mail on its way into one or more accounts. It is for one
// goroutine at a time.
type Delivery struct {
	b        *Boxes
	entry    Entry
	keywords []string
	to       []sealedCopy
	blobs    []blob.Name
}

// sealedCopy is the mail as one target gets it.
type sealedCopy struct {
	target Target
	slot   *seal.Slot
	record []byte // the message record
	body   []byte // the body record; nil with a blob
	head   messageHead
}

// Prepare parses a mail, seals it once per target and writes what is too large for the
// store to synced files. It needs no transaction. Every Delivery must be
// ended by Discard. Errors: errs.TooLarge (Options.MaxMessage), errs.Invalid (bad
// keywords, or keywords without Unsealed), errs.NoSpace, errs.Unavailable (disk).
func (b *Boxes) Prepare(ctx context.Context, m Message, targets []Target) (*Delivery, error) {
	const op = "post/mailbox.Prepare"
	if int64(len(m.Raw)) > b.o.MaxMessage {
		return nil, errs.E(op, errs.TooLarge, "message too large", nil)
	}
	words, err := cleanKeywords(m.Keywords)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	now := b.o.Now()
	date := m.Date
	if date.IsZero() {
		date = now
	}
	s, err := summarize(&m, date, now)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	d := &Delivery{b: b, keywords: words, to: make([]sealedCopy, len(targets))}
	// The hour of arrival is the clock's, not the internal date of an APPEND: expiry
	// must not take mails that were just put there by their owner's old archive.
	d.entry = Entry{Flags: m.Flags & SystemFlags, Bucket: Bucket(s.size), Hour: hour(now)}
	if len(words) > 0 {
		d.entry.Flags |= HasKeywords
		for i := range targets {
			if targets[i].Unsealed == nil {
				return nil, errs.E(op, errs.Invalid, "", nil)
			}
		}
	}
	var blobSize int64
	large := len(m.Raw) > MaxInline
	if large && len(targets) > 0 {
		k, err := seal.NewMailKey(b.o.Rand)
		if err != nil {
			return nil, errs.Wrap(op, err)
		}
		names, err := b.blobs.NewNames(len(targets))
		if err != nil {
			return nil, errs.Wrap(op, err)
		}
		if blobSize, err = b.blobs.Write(k, names, m.Raw); err != nil {
			return nil, errs.Wrap(op, err)
		}
		d.blobs = names
		s.blobKey = k.Bytes()
	}
	plain := s.encode()
	for i := range targets {
		err := ctx.Err()
		if err == nil {
			err = d.sealFor(i, targets[i], plain, m.Raw, large, blobSize)
		}
		if err != nil {
			d.Discard()
			return nil, errs.Wrap(op, err)
		}
	}
	clear(s.blobKey)
	return d, nil
}

// hour is the readable time of arrival.
func hour(t time.Time) uint32 { return uint32(max(t.Unix()/3600, 0)) }

func (d *Delivery) sealFor(i int, to Target, plain, raw []byte, large bool, blobSize int64) error {
	slot, err := d.b.o.Chains.Next(to.ID, to.Public)
	if err != nil {
		return err
	}
	sum, err := slot.Key.SealPart(seal.PartSummary, 0, plain)
	if err != nil {
		return err
	}
	c := &d.to[i]
	c.target, c.slot = to, slot
	c.head = messageHead{chain: slot.Chain, index: slot.Index, stored: int64(len(sum))}
	if large {
		c.head.blob, c.head.name = true, d.blobs[i]
		c.head.stored += blobSize
	} else {
		if c.body, err = slot.Key.SealPart(seal.PartBody, 0, raw); err != nil {
			return err
		}
		c.head.stored += int64(len(c.body))
	}
	c.record = encodeMessage(&c.head, sum)
	return nil
}

// Len gives the number of targets.
func (d *Delivery) Len() int { return len(d.to) }

// Put writes the mail into the mailbox of target i; tx lies in the shard of that
// account. It only does index work. A function that calls it may be run again.
// Errors: errs.Full (quota), errs.NotFound (no such account or mailbox).
func (d *Delivery) Put(tx store.Tx, i int) (Placed, error) {
	const op = "post/mailbox.Put"
	if i < 0 || i >= len(d.to) {
		return Placed{}, errs.E(op, errs.Invalid, "", nil)
	}
	t := &txn{b: d.b, tx: tx, id: d.to[i].target.ID}
	p, err := d.put(t, i)
	if err == nil {
		err = t.flush()
	}
	return p, errs.Wrap(op, err)
}

func (d *Delivery) put(t *txn, i int) (Placed, error) {
	c := &d.to[i]
	n, err := t.counters()
	if err != nil {
		if errs.KindOf(err) == errs.NotFound {
			err = errs.E("post/mailbox.put", errs.NotFound, "no such mailbox", err)
		}
		return Placed{}, err
	}
	limit := d.b.limit(c.target.Quota)
	if limit > 0 && n.used+c.head.stored > limit {
		return Placed{}, errs.E("post/mailbox.put", errs.Full, "mailbox is full", nil)
	}
	x, err := t.open(c.target.Box)
	if err != nil {
		return Placed{}, err
	}
	e := d.entry
	e.Mid = n.nextMid
	n.nextMid++
	n.used += c.head.stored
	n.limit = limit
	uid, err := x.add(e, c.head.stored)
	if err != nil {
		return Placed{}, err
	}
	if len(d.keywords) > 0 {
		if err := x.setKeywords(c.target.Unsealed, uid, d.keywords); err != nil {
			return Placed{}, err
		}
	}
	t.refChain(c.head.chain, 1, c.slot.Encap)
	if c.head.blob {
		err = t.tx.Set(blobKey(t.id, c.head.name), encodeCount(e.Mid))
	} else {
		err = t.tx.SetShared(bodyKey(t.id, e.Mid), c.body)
	}
	if err != nil {
		return Placed{}, err
	}
	return Placed{UID: uid, UIDValidity: x.st.uidValidity}, t.tx.SetShared(messageKey(t.id, e.Mid), c.record)
}

// Discard ends the delivery: call it once, when no transaction with a Put of it is
// running or will follow. It removes the files that no committed Put refers to, so
// `defer d.Discard()` is right after success, failure and half success alike.
func (d *Delivery) Discard() {
	blobs := d.blobs
	d.blobs = nil
	for i, n := range blobs {
		id := d.to[i].target.ID
		d.b.blobs.EndFlight(d.b.o.Store, id.Shard(), blobKey(id, n), n)
	}
	d.to = nil
}
