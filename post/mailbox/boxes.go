package mailbox

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/post/blob"
	"postern.email/post/seal"
	"postern.email/store"
)

// Options of New. Zero values mean the defaults.
type Options struct {
	Store  store.Store
	FS     vfs.FS       // disk of the blob files; nil: the machine's own
	Dir    string       // directory of the blob files; made if missing
	Chains *seal.Chains // the writer's side of sealing

	Quota      int64 // bytes an account may hold when Target.Quota is 0
	MaxMessage int64 // bytes of the largest mail
	ViewBytes  int64 // memory for views that no session holds

	MailAge     time.Duration // mails older are deleted; negative: never
	LargeAge    time.Duration // large mails that were seen and are older are deleted; negative: never
	ExpireEvery time.Duration // how often Run looks for old mails and full accounts
	PurgeEvery  time.Duration // how soon deleted bytes leave the store's files
	SweepEvery  time.Duration // how often Run looks for blob files nobody refers to

	Now    func() time.Time
	Rand   io.Reader // names and keys of blob files; nil: crypto/rand
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	defaults.Zero(&o.Quota, DefaultQuota)
	defaults.Zero(&o.MaxMessage, DefaultMaxMessage)
	defaults.Zero(&o.ViewBytes, DefaultViewBytes)
	defaults.Zero(&o.MailAge, DefaultMailAge)
	defaults.Zero(&o.LargeAge, DefaultLargeAge)
	defaults.Zero(&o.ExpireEvery, DefaultExpireEvery)
	defaults.Zero(&o.PurgeEvery, DefaultPurgeEvery)
	defaults.Zero(&o.SweepEvery, DefaultSweepEvery)
	defaults.Zero(&o.FS, vfs.OS())
	defaults.Clock(&o.Now)
	defaults.Rand(&o.Rand)
	defaults.Logger(&o.Logger)
	return o
}

// Boxes holds the mailboxes of all accounts. All methods may be called by many goroutines.
type Boxes struct {
	o     Options
	views *viewCache
	blobs *blob.Files
	purge *purger
	full  chan fullAccount // accounts that Room saw nearly full, for Run to trim

	remakes chan struct{} // holds one for each mail that is parsed again
}

type fullAccount struct {
	id    seal.AccountID
	limit int64
}

// maxFull bounds the queue of nearly full accounts; one that finds no place is found
// by the next walk over all accounts.
const maxFull = 256

// New opens the mailboxes over a store. Call Run to keep them clean and Close at the end.
func New(o Options) (*Boxes, error) {
	const op = "post/mailbox.New"
	if o.Store == nil || o.Chains == nil || o.Dir == "" {
		return nil, errs.E(op, errs.Invalid, "", nil)
	}
	o = o.withDefaults()
	s, err := blob.New(o.FS, o.Dir, o.Rand)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	return &Boxes{o: o, views: newViewCache(o.ViewBytes), blobs: s, purge: newPurger(),
		full: make(chan fullAccount, maxFull), remakes: make(chan struct{}, maxRemakes)}, nil
}

// Close gives back what New took; the store stays open. Nothing may be running.
func (b *Boxes) Close() error { return b.blobs.Close() }

// firstFolders are the folders of a new account.
var firstFolders = [...]struct{ name, use string }{
	{"INBOX", ""}, {"Drafts", `\Drafts`}, {"Junk", `\Junk`}, {"Trash", `\Trash`}, {"Sent", `\Sent`},
}

// Init makes INBOX, Drafts, Junk, Trash and Sent of a new account, in its shard and
// in the transaction that creates it. They are subscribed: many programs show
// subscribed folders only.
func (b *Boxes) Init(tx store.Tx, key *seal.Opened) error {
	const op = "post/mailbox.Init"
	t := &txn{b: b, tx: tx, id: key.ID(), cRead: true, cChanged: true}
	var err error
	if t.c, err = b.firstCounters(tx, key.ID()); err != nil {
		return errs.Wrap(op, err)
	}
	for _, f := range firstFolders {
		if _, err := t.newFolder(key, f.name, f.use, true); err != nil {
			return errs.Wrap(op, err)
		}
	}
	if err := t.folderListChanged(); err != nil {
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, t.flush())
}

// firstCounters gives where the numbers of a new account begin. After Remove (a password
// reset) they go on. Else UIDVALIDITY begins at random, so that a program that
// knew an earlier account of the same name sees that these are other mails (RFC 9051 §2.3.1.1).
func (b *Boxes) firstCounters(tx store.Tx, id seal.AccountID) (counters, error) {
	c, err := getCounters(tx, id)
	if err == nil {
		c.nextBox = Inbox
		return c, nil
	}
	if errs.KindOf(err) != errs.NotFound {
		return c, err
	}
	var r [4]byte
	if _, err := io.ReadFull(b.o.Rand, r[:]); err != nil {
		return c, errs.E("post/mailbox.firstCounters", errs.Internal, "", err)
	}
	return counters{nextMid: 1, nextBox: Inbox, nextSeries: 1,
		nextUIDValidity: 1 + binary.BigEndian.Uint32(r[:])>>2}, nil
}

// Remove deletes all mailboxes of an account, with their blob files. Only its counters
// stay, so that Init after it gives no number twice. It may be repeated.
func (b *Boxes) Remove(ctx context.Context, id seal.AccountID) error {
	const op = "post/mailbox.Remove"
	var names []blob.Name
	err := b.o.Store.Update(ctx, id.Shard(), func(tx store.Tx) error {
		names = names[:0]
		start := key(id, kindBlob)
		err := tx.Scan(start, after(start), func(k, _ []byte) (bool, error) {
			if _, _, rest, ok := kindOf(k); ok && len(rest) == len(blob.Name{}) {
				names = append(names, blob.Name(rest))
			}
			return true, nil
		})
		if err != nil {
			return err
		}
		// Single deletes first, so that watches fire and sessions see their mailbox go.
		start = key(id, kindState)
		var states [][]byte
		err = tx.Scan(start, after(start), func(k, _ []byte) (bool, error) {
			states = append(states, append([]byte(nil), k...))
			return true, nil
		})
		if err != nil {
			return err
		}
		for _, k := range states {
			if err := tx.Delete(k); err != nil {
				return err
			}
		}
		for _, kind := range []byte(kinds) {
			start := key(id, kind)
			if err := tx.DeleteRange(start, after(start)); err != nil {
				return err
			}
		}
		c, err := getCounters(tx, id)
		if err != nil {
			if errs.KindOf(err) == errs.NotFound {
				return nil
			}
			return err
		}
		c.used, c.folders = 0, 0
		return tx.Set(countersKey(id), c.encode())
	})
	if err != nil {
		return errs.Wrap(op, err)
	}
	b.purge.note()
	b.unlink(names)
	return nil
}

// limit gives the bytes an account may hold; 0 for no limit.
func (b *Boxes) limit(quota int64) int64 {
	switch {
	case quota < 0:
		return 0
	case quota == 0:
		return max(b.o.Quota, 0)
	}
	return quota
}

// Trimming begins above trimAt percent of the quota and goes down to trimTo (reference §1.5).
const (
	trimAt = 75
	trimTo = 70
)

// Room is errs.Full when a mail of size bytes would not fit into the account now,
// and errs.TooLarge when it is larger than any mail may be. quota as in Target.
func (b *Boxes) Room(ctx context.Context, id seal.AccountID, quota, size int64) error {
	const op = "post/mailbox.Room"
	if size > b.o.MaxMessage {
		return errs.E(op, errs.TooLarge, "message too large", nil)
	}
	limit := b.limit(quota)
	var c counters
	err := b.o.Store.View(ctx, id.Shard(), func(r store.Reader) (err error) {
		c, err = getCounters(r, id)
		return err
	})
	if err != nil {
		return errs.Wrap(op, err)
	}
	if limit > 0 && c.used > limit/100*trimAt {
		select {
		case b.full <- fullAccount{id, limit}:
		default:
		}
	}
	if limit > 0 && c.used+max(size, 1) > limit {
		return errs.E(op, errs.Full, "mailbox is full", nil)
	}
	return nil
}

// unlink removes blob files whose records are gone. What fails is swept later.
func (b *Boxes) unlink(names []blob.Name) {
	for _, n := range names {
		if err := b.blobs.Remove(n); err != nil {
			b.o.Logger.Debug("cannot remove the file of a deleted mail", "err", err)
		}
	}
}
