// Package notice puts reports of a mail proxy into its users' own mailboxes: what became of a mail
// (mail/dsn), and what a user should hear of otherwise. What strangers can cause is bounded, so
// that garbage fills no mailbox; and a report that is named by a proof is there once, whatever
// crash comes between.
package notice

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"postern.email/agent/deliver"
	"postern.email/kit/day"
	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/dsn"
	"postern.email/post/account"
)

// DefaultPerDay is how many reports that strangers caused an account gets in a day (UTC).
const DefaultPerDay = 20

// Domain is that of the sender of reports: the proxy has no domain of its own.
const Domain = "localhost"

// reporter is who reports.
const reporter = "the mail proxy on your own computer"

// Options of a Desk. Deliver and Resolve are needed.
type Options struct {
	Deliver *deliver.Deliver // with Seen, so that proofs count
	Resolve func(ctx context.Context, addr mail.Address) (account.Account, error)
	PerDay  int // reports that strangers caused, for one account; 0: DefaultPerDay
	Now     func() time.Time
	Rand    io.Reader    // nil: crypto/rand
	Logger  *slog.Logger // nil: nothing is logged
}

// Desk writes reports. It may be used by many goroutines.
type Desk struct {
	o Options

	mu  sync.Mutex
	day day.Day
	n   map[mail.Address]int // of that day; as many as there are accounts
}

// New makes a Desk.
func New(o Options) *Desk {
	defaults.Positive(&o.PerDay, DefaultPerDay)
	defaults.Clock(&o.Now)
	defaults.Logger(&o.Logger)
	return &Desk{o: o, n: make(map[mail.Address]int)}
}

// Note is a report in words.
type Note struct {
	Subject  string   // ASCII
	Text     string   // paragraphs, with an empty line between two; one that begins with spaces keeps its lines
	Stranger bool     // somebody else can cause it: bounded by Options.PerDay
	Proof    [][]byte // what makes it this report; empty: it comes as often as it is told
}

// Tell puts a report into the INBOX of an account. Beyond the bound nothing is written, and the
// answer is nil. The errors are those of Resolve and of deliver.Hand.
func (d *Desk) Tell(ctx context.Context, to mail.Address, n Note) error {
	const op = "agent/notice.Tell"
	text := n.Text
	if n.Stranger {
		told := d.told(to, 0)
		if told >= d.o.PerDay {
			d.o.Logger.Debug("notice: too many reports today", "subject", n.Subject)
			return nil
		}
		if told == d.o.PerDay-1 {
			text += fmt.Sprintf("\n\nThis is the last of %d reports about such mail today: there will be none about whatever else comes.", d.o.PerDay)
		}
	}
	raw, err := dsn.Note{Domain: Domain, To: to, Subject: n.Subject, Text: text, Now: d.o.Now(), Rand: d.o.Rand}.Build()
	if err != nil {
		return errs.Wrap(op, err)
	}
	if err := d.hand(ctx, to, raw, n.Proof); err != nil {
		return errs.Wrap(op, err)
	}
	if n.Stranger {
		d.told(to, 1)
	}
	return nil
}

// told gives how many reports that strangers caused an account got today, and counts more.
func (d *Desk) told(to mail.Address, more int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if today := day.Of(d.o.Now()); today != d.day {
		d.day = today
		clear(d.n)
	}
	to = to.Canonical()
	n := d.n[to]
	if more > 0 {
		d.n[to] = n + more
	}
	return n
}

// Report puts a delivery report into the INBOX of r.To. Domain, Reporter, the words for delivered
// mail, Now and Rand are filled in.
func (d *Desk) Report(ctx context.Context, r dsn.Report, proof ...[]byte) error {
	const op = "agent/notice.Report"
	r.Domain, r.Reporter, r.Now, r.Rand = Domain, reporter, d.o.Now(), d.o.Rand
	r.Delivered = "Your mail was delivered: it is on the disk of the relay of each of these addresses, where the recipient's program fetches it:"
	raw, err := r.Build()
	if err != nil {
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, d.hand(ctx, r.To, raw, proof))
}

func (d *Desk) hand(ctx context.Context, to mail.Address, raw []byte, proof [][]byte) error {
	a, err := d.o.Resolve(ctx, to)
	if err != nil {
		return err
	}
	return d.o.Deliver.Begin().Hand(ctx, deliver.Parcel{Local: []account.Account{a}, Head: raw, Proof: proof})
}
