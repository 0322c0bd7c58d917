package mailbox

import (
	"context"
	"encoding/binary"
	"slices"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// expunge removes the mails of uids (ascending) for which may is still true in the
// transaction. It needs no account key.
func (b *Boxes) expunge(ctx context.Context, id seal.AccountID, box uint32, uids []uint32, may func(*Entry) bool) (gone []uint32, modseq uint64, err error) {
	for part := range slices.Chunk(uids, batchMails) {
		var now []uint32
		err := b.update(ctx, id, func(t *txn) error {
			now = nil
			x, err := t.open(box)
			if err != nil {
				return err
			}
			err = x.edit(part, func(e *Entry) (bool, error) {
				if !may(e) {
					return true, nil
				}
				now = append(now, e.UID)
				return false, x.drop(e)
			})
			if err != nil {
				return err
			}
			modseq = x.st.highest
			return x.bury(now)
		})
		if err != nil {
			return gone, modseq, err
		}
		gone = append(gone, now...)
	}
	return gone, modseq, nil
}

// drop removes what belongs to one mail of the mailbox but for its row.
func (x *boxTx) drop(e *Entry) error {
	h, err := x.t.head(e.Mid)
	if err != nil {
		return errs.E("post/mailbox.drop", errs.Corrupt, "", err)
	}
	x.st.size -= h.stored
	if err := x.dropOwn(e); err != nil {
		return err
	}
	return x.t.release(e.Mid, &h)
}

// dropOwn removes the records that a mail has in this mailbox alone.
func (x *boxTx) dropOwn(e *Entry) error {
	if err := x.dropSaved(e); err != nil {
		return err
	}
	return x.dropKeywords(e)
}

func (x *boxTx) dropKeywords(e *Entry) error {
	if e.Flags&HasKeywords == 0 {
		return nil
	}
	x.t.deleted = true
	return x.t.tx.Delete(keywordsKey(x.t.id, x.st.series, e.UID))
}

// bury remembers expunged UIDs (ascending) under the transaction's modseq, and forgets
// the oldest ones beyond maxTombstones.
func (x *boxTx) bury(uids []uint32) error {
	if len(uids) == 0 {
		return nil
	}
	id, series := x.t.id, x.st.series
	k := tombstoneKey(id, series, x.bump())
	if old, err := x.t.tx.Get(k); err == nil { // a move within one mailbox buries twice
		had, err := decodeTombstone(nil, old)
		if err != nil {
			return err
		}
		x.st.tombs -= len(had)
		uids = ascending(append(had, uids...))
	} else if errs.KindOf(err) != errs.NotFound {
		return err
	}
	if err := x.t.tx.Set(k, encodeTombstone(uids)); err != nil {
		return err
	}
	x.st.tombs += len(uids)
	if x.st.tombs <= maxTombstones {
		return nil
	}
	var forget [][]byte
	start := key32(id, kindTombstone, series)
	err := x.t.tx.Scan(start, k, func(k, v []byte) (bool, error) {
		had, err := decodeTombstone(nil, v)
		if err != nil {
			return false, err
		}
		forget = append(forget, slices.Clone(k))
		x.st.tombs -= len(had)
		x.st.tombFloor = binary.BigEndian.Uint64(k[len(k)-8:])
		return x.st.tombs > maxTombstones, nil
	})
	if err != nil {
		return err
	}
	for _, k := range forget {
		if err := x.t.tx.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

func encodeTombstone(uids []uint32) []byte {
	b := make([]byte, 0, 4+2*len(uids))
	b = append(b, formatVersion)
	b = binary.AppendUvarint(b, uint64(len(uids)))
	var p uint32
	for _, u := range uids {
		b = binary.AppendUvarint(b, uint64(u-p))
		p = u
	}
	return b
}

func decodeTombstone(dst []uint32, b []byte) ([]uint32, error) {
	d := newDec(b)
	n := d.Int(maxTombstones)
	var p uint64
	for range n {
		step := d.Uvarint()
		if p += step; step == 0 || p > 1<<32-1 {
			d.Fail()
		}
		if d.Bad() {
			break
		}
		dst = append(dst, uint32(p))
	}
	return dst, d.End("post/mailbox.decodeTombstone")
}

// Expunged gives the UIDs that were expunged after modseq since, ascending. complete
// is false when the mailbox no longer remembers that far back; the list then
// must not be relied on (RFC 7162 §3.2.5.2: the server tells all UIDs that are not there).
func (a *Account) Expunged(ctx context.Context, box uint32, since uint64) (uids []uint32, complete bool, err error) {
	const op = "post/mailbox.Expunged"
	id := a.key.ID()
	err = a.read(ctx, func(r store.Reader) error {
		uids, complete = nil, false
		st, err := getState(r, id, box)
		if err != nil {
			return err
		}
		if complete = since >= st.tombFloor; since >= st.highest {
			return nil
		}
		start := tombstoneKey(id, st.series, since+1)
		return r.Scan(start, after(key32(id, kindTombstone, st.series)), func(_, v []byte) (bool, error) {
			var err error
			uids, err = decodeTombstone(uids, v)
			return true, err
		})
	})
	if err != nil {
		return nil, false, errs.Wrap(op, err)
	}
	slices.Sort(uids)
	return uids, complete, nil
}

// doom takes a mailbox away: its state goes at once, and what lies under its series is
// left to reap.
func (t *txn) doom(box uint32) (series uint32, err error) {
	st, err := getState(t.tx, t.id, box)
	if err != nil {
		return 0, err
	}
	if err := t.tx.Set(doomedKey(t.id, st.series), []byte{formatVersion}); err != nil {
		return 0, err
	}
	if err := t.tx.Delete(metadataKey(t.id, box)); err != nil {
		return 0, err
	}
	return st.series, t.tx.Delete(stateKey(t.id, box))
}

// reap takes apart what lies under a doomed series, in bounded transactions.
func (b *Boxes) reap(ctx context.Context, id seal.AccountID, series uint32) error {
	for done := false; !done; {
		err := b.update(ctx, id, func(t *txn) error {
			done = false
			if _, err := t.tx.Get(doomedKey(id, series)); err != nil {
				if done = errs.KindOf(err) == errs.NotFound; done {
					return nil // somebody else was faster
				}
				return err
			}
			n := 0
			var keys [][]byte
			var mids []uint64
			start, end := pageRange(id, series)
			err := t.tx.Scan(start, end, func(k, v []byte) (bool, error) {
				rows, _, err := decodePage(nil, v)
				for i := range rows {
					mids = append(mids, rows[i].Mid)
				}
				keys = append(keys, slices.Clone(k))
				n += len(rows)
				return n < batchMails-pageEntries, err
			})
			if err != nil {
				return err
			}
			for _, mid := range mids {
				h, err := t.head(mid)
				if err != nil {
					return errs.E("post/mailbox.reap", errs.Corrupt, "", err)
				}
				if err := t.release(mid, &h); err != nil {
					return err
				}
			}
			for _, k := range keys {
				if err := t.tx.Delete(k); err != nil {
					return err
				}
			}
			if len(keys) > 0 {
				return nil
			}
			done, t.deleted = true, true
			for _, kind := range []byte{kindKeywords, kindSaved, kindTombstone} {
				start := key32(id, kind, series)
				if err := t.tx.DeleteRange(start, after(start)); err != nil {
					return err
				}
			}
			if err := t.tx.Delete(keyNamesKey(id, series)); err != nil {
				return err
			}
			return t.tx.Delete(doomedKey(id, series))
		})
		if err != nil {
			return err
		}
	}
	return nil
}
