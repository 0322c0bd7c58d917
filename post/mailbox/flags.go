package mailbox

import (
	"context"
	"slices"

	"postern.email/kit/errs"
)

// keywordBatch is batchMails for changes of keywords, which are sealed inside the transaction.
const keywordBatch = 200

// ascending gives a sorted copy without doubles and zeros.
func ascending(uids []uint32) []uint32 {
	uids = slices.Clone(uids)
	slices.Sort(uids)
	uids = slices.Compact(uids)
	if len(uids) > 0 && uids[0] == 0 {
		uids = uids[1:]
	}
	return uids
}

// SetFlags changes flags and keywords. Long lists go in several transactions of at most
// 1,000 mails (200 with keywords), each of which is atomic and has one modseq;
// UnchangedSince holds for each mail in the transaction that changes it. On an error the
// result tells what was done before.
func (a *Account) SetFlags(ctx context.Context, box uint32, r SetFlags) (FlagsResult, error) {
	const op = "post/mailbox.SetFlags"
	var res FlagsResult
	words, err := cleanKeywords(r.Keywords)
	if err != nil {
		return res, errs.Wrap(op, err)
	}
	r.Flags &= SystemFlags
	size := batchMails
	if len(words) > 0 || r.Op == FlagsSet {
		size = keywordBatch
	}
	for part := range slices.Chunk(ascending(r.UIDs), size) {
		var changed []Entry
		var modified []uint32
		err := a.b.update(ctx, a.key.ID(), func(t *txn) error {
			changed, modified = nil, nil
			x, err := t.open(box)
			if err != nil {
				return err
			}
			return x.edit(part, func(e *Entry) (bool, error) {
				if r.UnchangedSince != nil && e.ModSeq > *r.UnchangedSince {
					modified = append(modified, e.UID)
					return true, nil
				}
				did, err := x.setFlags(a, e, &r, words)
				if did {
					e.ModSeq = x.bump()
					changed = append(changed, *e)
				}
				return true, err
			})
		})
		if err != nil {
			return res, errs.Wrap(op, err)
		}
		res.Changed = append(res.Changed, changed...)
		res.Modified = append(res.Modified, modified...)
	}
	return res, nil
}

// setFlags changes one mail and reports whether anything changed.
func (x *boxTx) setFlags(a *Account, e *Entry, r *SetFlags, words []string) (bool, error) {
	old := e.Flags
	var newWords []string
	wordsChanged := false
	had := old&HasKeywords != 0
	if had && (r.Op == FlagsSet || len(words) > 0) || !had && len(words) > 0 && r.Op != FlagsRemove {
		var oldWords []string
		if had {
			var err error
			if oldWords, err = x.keywords(a.key, e.UID); err != nil {
				return false, err
			}
		}
		newWords, wordsChanged = applyKeywords(oldWords, words, r.Op)
		if len(newWords) > MaxKeywords {
			return false, errs.E("post/mailbox.setFlags", errs.TooLarge, "too many keywords", nil)
		}
	}
	switch r.Op {
	case FlagsSet:
		e.Flags = r.Flags | old&^SystemFlags
	case FlagsAdd:
		e.Flags |= r.Flags
	case FlagsRemove:
		e.Flags &^= r.Flags
	}
	if wordsChanged {
		if err := x.setKeywords(a.key, e.UID, newWords); err != nil {
			return false, err
		}
		e.Flags &^= HasKeywords
		if len(newWords) > 0 {
			e.Flags |= HasKeywords
		}
	}
	return wordsChanged || e.Flags != old, nil
}

// applyKeywords gives the keywords after the change, and whether they differ.
func applyKeywords(old, words []string, op FlagsOp) ([]string, bool) {
	var out []string
	switch op {
	case FlagsSet:
		out = words
	case FlagsAdd:
		out = slices.Clone(old)
		for _, w := range words {
			if findFold(out, w) < 0 {
				out = append(out, w)
			}
		}
	case FlagsRemove:
		for _, w := range old {
			if findFold(words, w) < 0 {
				out = append(out, w)
			}
		}
	}
	if len(out) != len(old) {
		return out, true
	}
	return out, slices.ContainsFunc(out, func(w string) bool { return findFold(old, w) < 0 })
}

// Expunge removes the mails of uids that have \Deleted (nil: all that have it); gone lists
// them. Batches as in SetFlags: on an error gone tells what was removed before. modseq is
// the mailbox's highest afterwards.
func (a *Account) Expunge(ctx context.Context, box uint32, uids []uint32) (gone []uint32, modseq uint64, err error) {
	const op = "post/mailbox.Expunge"
	v, err := a.b.view(ctx, a.key.ID(), box)
	if err != nil {
		return nil, 0, errs.Wrap(op, err)
	}
	if uids == nil {
		uids = v.deletedUIDs()
	}
	modseq = v.HighestModSeq
	gone, after, err := a.b.expunge(ctx, a.key.ID(), box, ascending(uids), func(e *Entry) bool { return e.Flags&Deleted != 0 })
	return gone, max(modseq, after), errs.Wrap(op, err)
}
