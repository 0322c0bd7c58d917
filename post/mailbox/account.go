package mailbox

import (
	"context"
	"sync/atomic"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// Account is a user's own sight of the account: cheap to make, safe for many goroutines.
type Account struct {
	b     *Boxes
	key   *seal.Opened
	quota int64

	encap   atomic.Pointer[encapsulation] // the last one read; mails that come together share it
	folders atomic.Pointer[folderList]    // the list as last read
}

type encapsulation struct {
	chain seal.ChainID
	encap []byte
}

// Account gives the owner's sight of an account. quota as in Target.
func (b *Boxes) Account(key *seal.Opened, quota int64) *Account {
	return &Account{b: b, key: key, quota: quota}
}

func (a *Account) read(ctx context.Context, fn func(store.Reader) error) error {
	return a.b.o.Store.View(ctx, a.key.ID().Shard(), fn)
}

// View gives the mailbox as it is on disk now. It is cheap when nothing changed.
// errs.NotFound: no such mailbox.
func (a *Account) View(ctx context.Context, box uint32) (*View, error) {
	v, err := a.b.view(ctx, a.key.ID(), box)
	return v, errs.Wrap("post/mailbox.View", err)
}

// Watch fires on any change of the mailbox; then ask View.
func (a *Account) Watch(box uint32) *store.Watch {
	id := a.key.ID()
	return a.b.o.Store.Watch(id.Shard(), stateKey(id, box))
}

// Status reads a mailbox's counters.
func (a *Account) Status(ctx context.Context, box uint32) (Status, error) {
	const op = "post/mailbox.Status"
	var st *boxState
	err := a.read(ctx, func(r store.Reader) (err error) {
		st, err = getState(r, a.key.ID(), box)
		return err
	})
	if err != nil {
		return Status{}, errs.Wrap(op, err)
	}
	s := Status{Messages: st.messages, Unseen: st.unseen, Deleted: st.deleted, UIDNext: st.uidNext,
		UIDValidity: st.uidValidity, HighestModSeq: st.highest, Size: st.size}
	recent := max(st.recent, a.b.claimed(a.key.ID(), box))
	if recent < st.uidNext && st.messages > 0 {
		v, err := a.b.view(ctx, a.key.ID(), box)
		if err != nil {
			return Status{}, errs.Wrap(op, err)
		}
		i, _ := v.Find(recent)
		s.Recent = min(v.Len()-i, s.Messages)
	}
	return s, nil
}

// ClaimRecent is for IMAP4rev1's \Recent (RFC 3501 §2.3.2): it says that the caller's
// session now shows all mails below upTo, and gives the lowest UID that no session has
// claimed before. The claim is kept in memory and reaches the disk with the mailbox's next
// change, so that a SELECT costs no commit: after a crash, or when many mailboxes are in
// use, a mail may be recent twice, which the RFC allows.
func (a *Account) ClaimRecent(ctx context.Context, box uint32, upTo uint32) (from uint32, err error) {
	const op = "post/mailbox.ClaimRecent"
	var st *boxState
	err = a.read(ctx, func(r store.Reader) (err error) {
		st, err = getState(r, a.key.ID(), box)
		return err
	})
	if err != nil {
		return 0, errs.Wrap(op, err)
	}
	e := a.b.views.get(boxID{a.key.ID(), box})
	e.mu.Lock()
	defer e.mu.Unlock()
	from = max(st.recent, e.recent)
	e.recent = max(from, min(upTo, st.uidNext))
	return from, nil
}

// Quota gives the stored bytes and the limit (0: none).
func (a *Account) Quota(ctx context.Context) (used, limit int64, err error) {
	var c counters
	err = a.read(ctx, func(r store.Reader) (err error) {
		c, err = getCounters(r, a.key.ID())
		return err
	})
	return c.used, a.b.limit(a.quota), errs.Wrap("post/mailbox.Quota", err)
}

// Append stores one mail of the owner. Errors as Prepare and Put.
func (a *Account) Append(ctx context.Context, box uint32, m Message) (uid, uidValidity uint32, err error) {
	uids, uidValidity, err := a.AppendMany(ctx, box, []Message{m})
	if err != nil {
		return 0, 0, err
	}
	return uids[0], uidValidity, nil
}

// maxAppend bounds one AppendMany: mails, and bytes of those that go into the store.
const (
	maxAppend      = batchMails
	maxAppendBytes = store.MaxTx / 4
)

// AppendMany stores all mails or none (RFC 3502). uids are in the order of m. At most
// 1,000 mails and 16 MiB of mails up to 64 KiB at once, else errs.TooLarge.
func (a *Account) AppendMany(ctx context.Context, box uint32, m []Message) (uids []uint32, uidValidity uint32, err error) {
	const op = "post/mailbox.Append"
	var inline int
	for i := range m {
		if len(m[i].Raw) <= MaxInline {
			inline += len(m[i].Raw)
		}
	}
	if len(m) > maxAppend || len(m) > 1 && inline > maxAppendBytes {
		return nil, 0, errs.E(op, errs.TooLarge, "too many messages in one append", nil)
	}
	done := a.b.o.Store.Intend()
	defer done()
	to := []Target{{ID: a.key.ID(), Public: a.key.Public(), Quota: a.quota, Box: box, Unsealed: a.key}}
	all := make([]*Delivery, len(m))
	for i := range m {
		d, err := a.b.Prepare(ctx, m[i], to)
		if err != nil {
			return nil, 0, errs.Wrap(op, err)
		}
		defer d.Discard()
		all[i] = d
	}
	err = a.b.update(ctx, a.key.ID(), func(t *txn) error {
		uids = make([]uint32, 0, len(all))
		for _, d := range all {
			p, err := d.put(t, 0)
			if err != nil {
				return err
			}
			uids, uidValidity = append(uids, p.UID), p.UIDValidity
		}
		return nil
	})
	if err != nil {
		return nil, 0, errs.Wrap(op, err)
	}
	return uids, uidValidity, nil
}
