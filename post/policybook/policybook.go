// Package policybook keeps what other domains say about how mail to them must be delivered
// (MTA-STS, RFC 8461), over restarts: who can suppress a policy in the DNS must not be able
// to turn it off by waiting for one.
//
// A record lies under its domain's name alone (post/namebook), behind the letter p, so that neither
// the disk nor the node key tells which domains the users of this relay wrote to.
package policybook

import (
	"context"
	"log/slog"
	"time"

	"postern.email/kit/errs"
	"postern.email/post/namebook"
	"postern.email/post/seal"
	"postern.email/store"
)

// MaxRecord bounds one record, in bytes.
const MaxRecord = 128 << 10

const letter = 'p'

// Options of a Book. Store, Root and Ends are needed.
type Options struct {
	Store store.Store
	Root  *seal.Root
	// Ends tells when a record may be deleted (mtasts.RecordEnds).
	Ends func(record []byte) (time.Time, error)

	SweepEvery time.Duration // 0: namebook.DefaultSweepEvery
	Deleted    func()        // called after each commit that deleted something; nil: nobody is told
	Now        func() time.Time
	Logger     *slog.Logger // nil: nothing is logged
}

// Book is the store of policies. It may be used by many goroutines.
type Book struct {
	*namebook.Book // Run and Check
	ends           func(record []byte) (time.Time, error)
}

// New makes a Book.
func New(o Options) *Book {
	return &Book{namebook.New(namebook.Options{Store: o.Store, Root: o.Root, Letter: letter, MaxRecord: MaxRecord, What: "the record of a domain's policy",
		SweepEvery: o.SweepEvery, Deleted: o.Deleted, Now: o.Now, Logger: o.Logger}), o.Ends}
}

// Load gives the record of a canonical domain. errs.NotFound: there is none; errs.Corrupt: it
// cannot be read.
func (b *Book) Load(ctx context.Context, domain string) (record []byte, err error) {
	record, _, err = b.Book.Load(ctx, domain)
	return record, errs.Wrap("post/policybook.Load", err)
}

// Save puts the record of a domain in the place of the one before. errs.TooLarge beyond
// MaxRecord.
func (b *Book) Save(ctx context.Context, domain string, record []byte) error {
	const op = "post/policybook.Save"
	if len(record) > MaxRecord {
		return errs.E(op, errs.TooLarge, "", nil)
	}
	ends, err := b.ends(record)
	if err != nil {
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, b.Book.Save(ctx, domain, record, ends))
}
