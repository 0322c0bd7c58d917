package mixreceive

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"postern.email/agent/deliver"
	"postern.email/agent/notice"
	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/dsn"
	"postern.email/mixnet/client"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
	"postern.email/post/account"
	"postern.email/post/keybook"
)

// Defaults of Options.
const (
	DefaultEvery = 10 * time.Second // between two looks into an inbox
	DefaultPause = time.Minute      // after something that is only for now; doubled each time …
	lastPause    = time.Hour        // … up to this
)

// Account is an account of the proxy as the mix network knows it. All but Wait and Nyms is needed.
type Account struct {
	Address   mail.Address // canonical
	Store     *client.Store
	Relay     packet.ID // the own relay
	Consensus func() (*directory.Consensus, error)

	// Wait returns when something may have come, or ctx ends. nil: looks are by the clock.
	Wait func(ctx context.Context)

	Nyms Nyms // nil: the account has no reply addresses

	Discover bool // keys that come with vouched mail are put into the key book, as those that are looked up
}

// Nyms knows the reply addresses of an account; agent/mixnym has them.
type Nyms interface {
	// Find gives the name whose reply address it is; false if it is none of this account.
	Find(a mail.Address) (name string, ok bool)
	// Came notes that a mail came for the reply address of a name, before the user can answer it.
	Came(name, messageID string) error
}

// Options of a Receive. Resolve, Deliver and Desk are needed.
type Options struct {
	Resolve func(ctx context.Context, addr mail.Address) (account.Account, error)
	Deliver *deliver.Deliver // with Seen, which remembers for seen.MaxDays
	Desk    *notice.Desk
	Book    *keybook.Book // nil: nobody's key is known

	// Arrived is told of each mail that was delivered and that somebody vouches for: the account, the
	// sender that its From field names, and its header. nil: nobody asks.
	Arrived func(to, from mail.Address, h mail.Header)

	// Returned is told of each delivery report (RFC 3464) that came by the own relay and was delivered: the account,
	// what it says of recipients, and the header of the mail that it is about. nil: nobody asks.
	Returned func(account mail.Address, rcpts []dsn.Returned, header []byte)

	Every, Pause time.Duration
	Now          func() time.Time
	Logger       *slog.Logger // nil: nothing is logged
}

// Receive puts mails into mailboxes.
type Receive struct {
	o Options

	mu     sync.Mutex
	wait   map[letter.ID]*pause
	losses map[mail.Address]*losses // of each account
}

// losses is what an account's user hears of when it can be told. Serve alone uses it.
type losses struct {
	expired int // packets that were given up, and not told of
	damaged int // client.Inbox.Damaged, as it was last told
}

// pause is when a letter is tried again that could not be delivered.
type pause struct {
	tries int
	due   time.Time
}

// New makes a Receive; Serve works.
func New(o Options) *Receive {
	defaults.Positive(&o.Every, DefaultEvery)
	defaults.Positive(&o.Pause, DefaultPause)
	defaults.Clock(&o.Now)
	defaults.Logger(&o.Logger)
	return &Receive{o: o, wait: make(map[letter.ID]*pause), losses: make(map[mail.Address]*losses)}
}

// Serve takes in what comes for an account until ctx ends. It is the one user of the account's inbox.
//
// A look opens all that waits. So that a large mail, of which hundreds of packets come one by one, costs
// little, there is a rest after each look of several times what it took; while the mailbox is full
// there is no hurry at all.
func (r *Receive) Serve(ctx context.Context, a *Account) error {
	for ctx.Err() == nil {
		begun := r.o.Now()
		err := r.pass(ctx, a)
		if err != nil && ctx.Err() == nil {
			r.o.Logger.Debug("mail that came waits", "err", err)
		}
		if err != nil && errs.KindOf(err) == errs.Full {
			rest(ctx, r.o.Pause)
			continue
		}
		rest(ctx, min(restFactor*r.o.Now().Sub(begun), r.o.Every))
		if a.Wait == nil {
			rest(ctx, r.o.Every)
			continue
		}
		within, cancel := context.WithTimeout(ctx, r.o.Every)
		a.Wait(within)
		cancel()
	}
	return nil
}

// restFactor bounds the share of time that looks take to a fifth.
const restFactor = 4

// rest waits.
func rest(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// pass looks into an inbox once.
func (r *Receive) pass(ctx context.Context, a *Account) error {
	const op = "agent/mixreceive.pass"
	to, err := r.o.Resolve(ctx, a.Address)
	if err != nil {
		return errs.Wrap(op, err) // no mailbox yet: everything stays sealed where it is
	}
	in, err := a.Store.Collect()
	if err != nil {
		return errs.Wrap(op, err)
	}
	if err := r.lost(ctx, a, in); err != nil {
		r.o.Logger.Debug("a report about lost mail could not be delivered", "err", err)
	}
	r.forget(in)
	var first error
	for _, got := range in.Letters {
		if ctx.Err() != nil {
			return errs.Wrap(op, ctx.Err())
		}
		if !r.due(got.ID) {
			continue
		}
		err := r.letter(ctx, a, to, got)
		if err == nil {
			err = in.Settle(a.Store, got)
		}
		if err != nil {
			// This letter waits; those behind it do not.
			r.later(got.ID)
			if first == nil {
				first = err
			}
		}
	}
	return errs.Wrap(op, first)
}

func (r *Receive) due(id letter.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.wait[id]
	return p == nil || !r.o.Now().Before(p.due)
}

func (r *Receive) later(id letter.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.wait[id]
	if p == nil {
		p = &pause{}
		r.wait[id] = p
	}
	p.due = r.o.Now().Add(min(r.o.Pause<<min(p.tries, 10), lastPause))
	p.tries++
}

// forget drops the pauses of letters that are gone, once there are more of them than letters could be.
func (r *Receive) forget(in *client.Inbox) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.wait) <= 2*client.DefaultInbox {
		return
	}
	for id := range r.wait {
		if !slices.ContainsFunc(in.Letters, func(l client.Received) bool { return l.ID == id }) {
			delete(r.wait, id)
		}
	}
}
