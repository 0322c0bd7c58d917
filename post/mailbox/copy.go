package mailbox

import (
	"context"
	"slices"

	"postern.email/kit/errs"
)

// maxCopy bounds one COPY, because it is one transaction (RFC 9051 §6.4.7: all or nothing).
const maxCopy = 20_000

// Copy puts mails also into another mailbox; both share the message record, and the
// quota counts it once. It is all or nothing; errs.TooLarge beyond 20,000 mails.
// UIDs that do not exist are left out. errs.NotFound: no such mailbox.
func (a *Account) Copy(ctx context.Context, from uint32, uids []uint32, to uint32) (CopyResult, error) {
	const op = "post/mailbox.Copy"
	uids = ascending(uids)
	if len(uids) > maxCopy {
		return CopyResult{}, errs.E(op, errs.TooLarge, "too many messages in one copy", nil)
	}
	res, err := a.transfer(ctx, from, uids, to, false)
	return res, errs.Wrap(op, err)
}

// Move moves mails (RFC 6851): each mail is in exactly one of both mailboxes at any
// time. Batches as in SetFlags; on an error the result tells what was moved before.
func (a *Account) Move(ctx context.Context, from uint32, uids []uint32, to uint32) (CopyResult, error) {
	const op = "post/mailbox.Move"
	var res CopyResult
	uids = ascending(uids)
	if len(uids) == 0 { // the target is still looked up
		res, err := a.transfer(ctx, from, nil, to, true)
		return res, errs.Wrap(op, err)
	}
	for part := range slices.Chunk(uids, batchMails) {
		r, err := a.transfer(ctx, from, part, to, true)
		if err != nil {
			return res, errs.Wrap(op, err)
		}
		if res.UIDValidity != 0 && res.UIDValidity != r.UIDValidity {
			return res, errs.E(op, errs.NotFound, "no such mailbox", nil) // deleted and made again meanwhile
		}
		res.UIDValidity = r.UIDValidity
		res.Src = append(res.Src, r.Src...)
		res.Dst = append(res.Dst, r.Dst...)
	}
	return res, nil
}

// transfer copies or moves mails in one transaction.
func (a *Account) transfer(ctx context.Context, from uint32, uids []uint32, to uint32, move bool) (CopyResult, error) {
	var res CopyResult
	now := a.b.o.Now()
	err := a.b.update(ctx, a.key.ID(), func(t *txn) error {
		res = CopyResult{}
		src, err := t.open(from)
		if err != nil {
			return err
		}
		dst, err := t.open(to)
		if err != nil {
			return err
		}
		res.UIDValidity = dst.st.uidValidity
		var mails []transferred
		err = src.edit(uids, func(e *Entry) (bool, error) {
			m := transferred{entry: *e}
			if err := src.takeOut(a, &m, move); err != nil {
				return false, err
			}
			mails = append(mails, m)
			res.Src = append(res.Src, e.UID)
			return !move, nil
		})
		if err != nil {
			return err
		}
		if move {
			if err := src.bury(res.Src); err != nil {
				return err
			}
		}
		if len(mails) == 0 {
			return nil
		}
		saved, err := dst.sealSaved(a.key, now, len(mails))
		if err != nil {
			return err
		}
		for i := range mails {
			m := &mails[i]
			m.entry.Flags |= Copied
			uid, err := dst.add(m.entry, m.stored)
			if err != nil {
				return err
			}
			if err := t.tx.Set(savedKey(t.id, dst.st.series, uid), saved); err != nil {
				return err
			}
			if len(m.words) > 0 {
				if err := dst.setKeywords(a.key, uid, m.words); err != nil {
					return err
				}
			}
			res.Dst = append(res.Dst, uid)
		}
		return nil
	})
	return res, err
}

// transferred is a mail between two mailboxes.
type transferred struct {
	entry  Entry
	stored int64
	words  []string
}

// takeOut reads what goes along with a mail, and either takes it from this mailbox or
// gives its message record one more reference.
func (x *boxTx) takeOut(a *Account, m *transferred, move bool) error {
	h, err := x.t.head(m.entry.Mid)
	if err != nil {
		return errs.E("post/mailbox.takeOut", errs.Corrupt, "", err)
	}
	m.stored = h.stored
	if m.entry.Flags&HasKeywords != 0 {
		if m.words, err = x.keywords(a.key, m.entry.UID); err != nil {
			return err
		}
	}
	if !move {
		return x.t.share(m.entry.Mid)
	}
	x.st.size -= h.stored
	return x.dropOwn(&m.entry)
}
