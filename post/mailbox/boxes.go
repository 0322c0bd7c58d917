package mailbox

import (
	"context"
	"io"
	"log/slog"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/post/seal"
	"postern.email/store"
)

// Options of New. Zero values mean the defaults.
type Options struct {
	Store  store.Store
	FS     vfs.FS       // disk of the blob files
	Dir    string       // directory of the blob files; made if missing
	Chains *seal.Chains // the writer's side of sealing

	Quota      int64 // bytes an account may hold when Target.Quota is 0
	MaxMessage int64 // bytes of the largest mail
	ViewBytes  int64 // memory for views that no session holds

	MailAge     time.Duration // mails older are deleted; negative: never
	LargeAge    time.Duration // large mails that were seen and are older are deleted; negative: never
	ExpireEvery time.Duration // how often Run looks for old mails
	PurgeEvery  time.Duration // how soon deleted bytes leave the store's files
	SweepEvery  time.Duration // how often Run looks for blob files nobody refers to

	Now    func() time.Time
	Rand   io.Reader // names and keys of blob files; nil: crypto/rand
	Logger *slog.Logger
}

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

// Boxes holds the mailboxes of all accounts. All methods may be called by many goroutines.
type Boxes struct{ o Options }

// New opens the mailboxes over a store. Call Run to keep them clean.
func New(o Options) (*Boxes, error) { return &Boxes{o: o}, nil }

// Init makes INBOX, Drafts, Junk, Trash and Sent of a new account, in its shard and
// in the transaction that creates it.
func (b *Boxes) Init(tx store.Tx, key *seal.Opened) error { return todo("Init") }

// Remove deletes all mailboxes of an account, with their blob files. It may be repeated.
func (b *Boxes) Remove(ctx context.Context, id seal.AccountID) error { return todo("Remove") }

// Room is errs.Full when a mail of size bytes would not fit into the account now.
// quota as in Target.
func (b *Boxes) Room(ctx context.Context, id seal.AccountID, quota, size int64) error {
	return todo("Room")
}

// Run deletes what is too old or over quota, takes deleted bytes out of the store's
// files, and removes blob files nobody refers to, until ctx ends.
func (b *Boxes) Run(ctx context.Context) error { return todo("Run") }

// Check walks every invariant and reports each one that is broken.
func (b *Boxes) Check(ctx context.Context, report func(Finding)) error { return todo("Check") }

// Prepare parses a mail, seals it once per target and writes what is too large for the
// store to synced files. It needs no transaction. Every Delivery must be
// ended by Discard.
func (b *Boxes) Prepare(ctx context.Context, m Message, targets []Target) (*Delivery, error) {
	return nil, todo("Prepare")
}

// Delivery is a sealed mail on its way into one or more accounts.
type Delivery struct{}

// Put writes the mail into the mailbox of target i; tx lies in the shard of that
// account. It only does index work. A function that calls it may be run again.
// Errors: errs.Full (quota), errs.NotFound (no such account or mailbox).
func (d *Delivery) Put(tx store.Tx, i int) (Placed, error) { return Placed{}, todo("Put") }

// Discard ends the delivery: call it once, when no transaction with a Put of it is
// running or will follow. It removes the files that no committed Put refers to, so
// `defer d.Discard()` is right after success, failure and half success alike.
func (d *Delivery) Discard() {}

func todo(what string) error {
	return errs.E("post/mailbox."+what, errs.Unsupported, "", nil)
}
