// Package deliver hands mail over to where it is going: mailboxes of this relay, at once, and
// other hosts, through the queue (Out).
//
// It is the one owner of the acknowledgement rule: a mail may be acknowledged when,
// and only when, Mail.Hand (or Local) has returned nil, which is after the commit
// that holds every copy of it is on disk.
package deliver

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/mail"
	"postern.email/mail/dsn"
	"postern.email/post/account"
	"postern.email/post/mailbox"
	"postern.email/post/queue"
	"postern.email/post/seen"
	"postern.email/store"
)

// DefaultMemory bounds the sealed copies of all mails that are being delivered at one
// time, in bytes. One mail to 1,000 recipients may take 64 MiB.
const DefaultMemory = 256 << 20

// largeFan is the size in bytes of all copies of a mail beyond which it may use only half
// of the memory, so that ordinary mails pass meanwhile.
const largeFan = 1 << 20

// DefaultLifetime is how long a mail may wait for another host.
const DefaultLifetime = 48 * time.Hour

// Recipients tells who has an address here.
type Recipients interface {
	Resolve(ctx context.Context, addr mail.Address) (account.Account, error)
	Ours(addr mail.Address) bool
}

// Options of a Deliver. Store and Boxes are needed; Queue, Accounts and Domain where mail
// goes to other hosts too.
type Options struct {
	Store store.Store
	Boxes *mailbox.Boxes
	Queue *queue.Queue // nil: mail goes to mailboxes only
	// Sign gives the DKIM-Signature fields of a mail that leaves; nil: it goes unsigned.
	Sign     func(header []byte, body ...[]byte) (fields []byte, err error)
	Accounts Recipients
	Proxies  Proxies // nil: all accounts are read without a mail proxy
	Replies  Replies // nil: there are no reply addresses
	Aliases  Aliases // nil: there are no aliases; with Numbers
	Numbers  Numbers // accounts by their numbers, of the owners of aliases
	Domain   string  // of the sender of reports
	// Returned is shown each report on a mail of the queue, before it is sent, and gives the one to be
	// sent in its place (nil: none); is is false for a mail that is nothing to it. nil: nobody is
	// asked. agent/forward, whose envelope senders stand for nobody's mailbox, has one.
	Returned func(ctx context.Context, r dsn.Report) (instead *dsn.Report, is bool)
	Lifetime time.Duration    // how long a mail may wait for another host; 0: DefaultLifetime
	Seen     *seen.Seen       // remembers parcels with a Proof; nil: nothing is remembered
	Letters  *seen.Seen       // remembers parcels with a Letter; nil: there are none
	Memory   *limits.Bytes    // for sealed copies; nil: a budget of DefaultMemory
	Now      func() time.Time // nil: time.Now
	Rand     io.Reader        // nil: crypto/rand.Reader
	Logger   *slog.Logger     // nil: nothing is logged
}

// Where at least crowd mails are under way, a sender who has just been answered is taken
// to be one of many who send without pause, and the next mail is expected for so long.
const (
	crowd     = 3
	expectFor = 250 * time.Microsecond
)

// Deliver hands mails over. It may be used by many goroutines.
type Deliver struct {
	o    Options
	open atomic.Int32 // mails between Begin and their end
}

// New makes a Deliver.
func New(o Options) *Deliver {
	defaults.Clock(&o.Now)
	defaults.Rand(&o.Rand)
	if o.Memory == nil {
		o.Memory = limits.NewBytes(DefaultMemory)
	}
	defaults.Positive(&o.Lifetime, DefaultLifetime)
	defaults.Logger(&o.Logger)
	return &Deliver{o: o}
}

// Local is Begin and Mail.Local in one.
func (d *Deliver) Local(ctx context.Context, from mail.Address, rcpts []account.Account, raw []byte) error {
	return d.Begin().Local(ctx, from, rcpts, raw)
}

// Mail is one mail that is coming: from the moment its first byte is awaited, the
// store may hold a group commit open for it.
type Mail struct {
	d    *Deliver
	done func()
}

// Begin announces a mail. Call Local or Cancel exactly once.
func (d *Deliver) Begin() *Mail {
	d.open.Add(1)
	done := d.o.Store.Intend()
	return &Mail{d: d, done: func() {
		d.open.Add(-1)
		done()
	}}
}

// Expect is called when a sender's mail was acknowledged. While many mails are under way
// it announces the sender's next one to the store for expectFor, so that a group
// commit takes it in; else it does nothing, so that nobody waits for a sender who
// went away. cancel may be called any number of times: when the next mail begins.
func (d *Deliver) Expect() (cancel func()) {
	if d.open.Load() < crowd {
		return func() {}
	}
	cancel = sync.OnceFunc(d.o.Store.Intend())
	time.AfterFunc(expectFor, cancel)
	return cancel
}

// Cancel says that the mail does not come.
func (m *Mail) Cancel() { m.done() }

// Local puts one mail into the INBOX of each account (each account once, however often
// it is named), sealed to it, under the header rules of final delivery with from as
// Return-Path. It is Hand for recipients here only.
func (m *Mail) Local(ctx context.Context, from mail.Address, rcpts []account.Account, raw []byte) error {
	return m.Hand(ctx, Parcel{From: from, Local: rcpts, Head: raw})
}

// copies gives the memory that the sealed copies of a mail take: a body beyond mailbox.MaxInline
// is sealed once for all mailboxes, into a file. What goes to a mail proxy is sealed twice, as
// letter and as packets.
func copies(size int, proxied []bool) (n int64) {
	for _, p := range proxied {
		switch {
		case p:
			n += 2 * int64(size)
		case size <= mailbox.MaxInline:
			n += int64(size)
		}
	}
	if size > mailbox.MaxInline && slices.Contains(proxied, false) {
		n += int64(size)
	}
	return n
}

func (d *Deliver) reserve(size int64) bool {
	if size > largeFan {
		return d.o.Memory.AcquireHalf(size)
	}
	return d.o.Memory.Acquire(size)
}

// refusal turns what went wrong in the transaction into words for the sender, which
// must not tell one recipient from the others.
func refusal(op string, err error) error {
	switch errs.KindOf(err) {
	case errs.Full:
		return errs.E(op, errs.Full, "a mailbox is full", err)
	case errs.NotFound:
		// The account was there at RCPT; the next try will hear that it is gone.
		return errs.E(op, errs.Unavailable, "a recipient is not available now", err)
	}
	return errs.Wrap(op, err)
}
