package queue

import (
	"io"
	"log/slog"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/vfs"
	"postern.email/post/seal"
	"postern.email/store"
)

// Defaults of Options.
const (
	DefaultMaxMails      = 100_000
	DefaultMaxRecipients = 1_000_000
	DefaultMaxBytes      = 8 << 30
	DefaultSweepEvery    = 6 * time.Hour

	// reserve: reports may use so much more than mails of users, as a part of each
	// bound (one eighth), so that a full queue can still say what became of its mails.
	reserve = 8
)

// Options of Open. Store, Root and Dir are needed; zero values mean the defaults.
type Options struct {
	Store store.Store
	Root  *seal.Root
	FS    vfs.FS // disk of the large bodies; nil: the machine's own
	Dir   string // directory of the large bodies, for the queue alone; made if missing

	MaxMails      int   // mails in the queue; also bounds its memory
	MaxRecipients int   // recipients of all of them
	MaxBytes      int64 // stored bytes

	SweepEvery time.Duration // how often Run looks for files that no mail refers to

	// Deleted is called after each commit that deleted something, so that its owner has
	// the store purged soon (mailbox.Boxes.Run does). It must not block. nil: nobody does.
	Deleted func()

	Now    func() time.Time
	Rand   io.Reader // numbers and keys of mails; nil: crypto/rand
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	defaults.Zero(&o.FS, vfs.OS())
	defaults.Positive(&o.MaxMails, DefaultMaxMails)
	defaults.Positive(&o.MaxRecipients, DefaultMaxRecipients)
	defaults.Positive(&o.MaxBytes, DefaultMaxBytes)
	defaults.Positive(&o.SweepEvery, DefaultSweepEvery)
	if o.Deleted == nil {
		o.Deleted = func() {}
	}
	defaults.Clock(&o.Now)
	defaults.Rand(&o.Rand)
	defaults.Logger(&o.Logger)
	return o
}
