package mixnym

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/anon"
	"postern.email/mixnet/client"
)

// When addresses are fed, beside once a day.
const (
	// LowBlocks is how many blocks a stock has when it is low.
	LowBlocks = client.DailyBlocks / 2
	// lowRest is how long after a feed the next one is that a low stock asks for, at least: who empties the
	// stock on purpose makes its owner feed it so often, and no more.
	lowRest = 2 * time.Hour
	// wantedRest is how long after a feed the next one is that waiting mail asks for, at least.
	wantedRest = 10 * time.Minute
	// spread is within what time a feed is made up for.
	spread = time.Hour
	// leastAnswer is for how long an address must live when mail that names it leaves.
	leastAnswer = 12 * time.Hour

	firstPause = time.Minute // after a feed that failed, doubled each time …
	lastPause  = time.Hour   // … up to this

	// feedTime ends a feed that gets no further: its blocks would be old.
	feedTime = 6 * time.Hour
	// atOnce is how many addresses are fed at once.
	atOnce = 4

	defaultEvery = 10 * time.Second
	asleep       = time.Minute // a longer pause between two looks was the machine's
)

// Nyms is what client.Nyms does.
type Nyms interface {
	List() ([]client.Nym, error)
	Get(label string) (client.Nym, error)
	Forget(label string) error
	Left() (map[string]int, error)
	Feed(ctx context.Context, label string, more func()) (client.Nym, error)
	Came(label, messageID string) error
	Thread(messageID string) (labels []string, err error)
}

// Options of a Desk. Nyms and Domain are needed.
type Options struct {
	Nyms   Nyms
	Domain string // of the addresses: that of the account

	// Online tells whether the relay can be asked now. nil: always.
	Online func() bool
	// Changed is told when an address has more blocks than before. nil: nobody.
	Changed func()

	Every  time.Duration // between two looks; 0: 10 seconds
	Now    func() time.Time
	Rand   io.Reader    // must serve many goroutines; nil: crypto/rand
	Logger *slog.Logger // nil: nothing is logged
}

// Desk is the reply addresses of an account. It may be used by many goroutines.
type Desk struct {
	o    Options
	wake chan struct{}

	mu    sync.Mutex
	plans map[string]*plan // by label
	last  time.Time        // when it was looked at addresses
	since time.Time        // since when they are looked at without a gap, and with a line to the relay
}

// plan is what is known of one address while the proxy runs.
type plan struct {
	due    time.Time // when it is fed; zero: not drawn
	drawn  time.Time // when due was drawn
	of     time.Time // what due was drawn for: the last feed
	low    bool      // due was drawn for a low stock
	busy   bool      // it is being fed
	tries  int       // that failed since
	pause  time.Time // not tried before
	wanted bool      // mail waits for it
	err    error     // of the last try
}

// New makes a Desk; addresses are fed while Run runs.
func New(o Options) *Desk {
	defaults.Positive(&o.Every, defaultEvery)
	defaults.Clock(&o.Now)
	defaults.Rand(&o.Rand)
	defaults.Logger(&o.Logger)
	if o.Online == nil {
		o.Online = func() bool { return true }
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	return &Desk{o: o, wake: make(chan struct{}, 1), plans: make(map[string]*plan)}
}

// Get gives the reply address of a name, and makes one if there is none: it is durable then, and fed
// soon. errs.Full when the account has client.MaxNyms.
func (d *Desk) Get(name string) (mail.Address, error) {
	const op = "agent/mixnym.Get"
	n, err := d.o.Nyms.Get(anon.Name(name))
	if err != nil {
		return mail.Address{}, errs.Wrap(op, err)
	}
	d.nudge()
	return d.address(&n), nil
}

func (d *Desk) address(n *client.Nym) mail.Address { return anon.ReplyAddress(n.Name(), d.o.Domain) }

// Find gives the name whose reply address it is; false if it is none of this account.
func (d *Desk) Find(a mail.Address) (name string, ok bool) {
	in, ok := anon.ReplyName(a)
	if !ok || mail.CanonicalDomain(a.Domain) != mail.CanonicalDomain(d.o.Domain) {
		return "", false
	}
	list, err := d.o.Nyms.List()
	if err != nil {
		return "", false
	}
	for i := range list {
		if list[i].Name() == in {
			return list[i].Label, true
		}
	}
	return "", false
}

// Came notes that a mail with a Message-ID came for the address of a name: it is durable on return.
func (d *Desk) Came(name, messageID string) error {
	return errs.Wrap("agent/mixnym.Came", d.o.Nyms.Came(name, messageID))
}

// Thread gives the names for whose addresses a mail with a Message-ID came.
func (d *Desk) Thread(messageID string) ([]string, error) {
	names, err := d.o.Nyms.Thread(messageID)
	return names, errs.Wrap("agent/mixnym.Thread", err)
}

// Forget gives an address up: it dies when its last block has expired, within client.BlockLife. errs.NotFound.
func (d *Desk) Forget(name string) error {
	label := anon.Name(name)
	err := d.o.Nyms.Forget(label)
	if err == nil {
		d.mu.Lock()
		delete(d.plans, label)
		d.mu.Unlock()
	}
	return errs.Wrap("agent/mixnym.Forget", err)
}

// Ready tells whether mail that names a reply address may leave now: its relay has so many blocks at
// least, for long enough. If not, the address is fed as soon as it can be, and the error says what is
// waited for: errs.Unavailable; errs.Unsupported where the relay has no reply addresses; errs.NotFound
// where the address was given up.
func (d *Desk) Ready(name string, blocks int) error {
	const op = "agent/mixnym.Ready"
	label := anon.Name(name)
	list, err := d.states()
	if err != nil {
		return errs.Wrap(op, err)
	}
	for i := range list {
		s := &list[i]
		if s.Label != label {
			continue
		}
		if s.Left >= min(blocks, client.DailyBlocks) && s.Until.Sub(d.o.Now()) >= leastAnswer {
			return nil
		}
		d.mu.Lock()
		p := d.plan(label)
		p.wanted = true
		err := p.err
		d.mu.Unlock()
		d.nudge()
		switch {
		case errs.KindOf(err) == errs.Unsupported && err != nil:
			return errs.Wrap(op, err)
		case err != nil && errs.Public(err) != "":
			return errs.E(op, errs.Unavailable, "its reply address cannot be fed now: "+errs.Public(err), err)
		}
		return errs.E(op, errs.Unavailable, "its reply address is being fed with reply blocks, so that it can be answered", nil)
	}
	return errs.E(op, errs.NotFound, "its reply address was given up", nil)
}

// Refused gives the error with which the relay said last that it has no reply addresses; nil if it did not.
func (d *Desk) Refused() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.plans {
		if p.err != nil && errs.KindOf(p.err) == errs.Unsupported {
			return p.err
		}
	}
	return nil
}

// State is how one address stands.
type State struct {
	Label   string
	Address mail.Address
	Made    time.Time
	Fed     time.Time // zero: never as a whole
	Left    int       // blocks that its relay can use, as far as that is known
	Until   time.Time // it lives until then at least; zero: it does not
	Due     time.Time // when it is fed next, as far as that was drawn
	Busy    bool      // it is being fed
	Err     error     // of the last feed; nil: it went well
}

// States gives all addresses in the order in which they were made.
func (d *Desk) States() ([]State, error) {
	list, err := d.states()
	return list, errs.Wrap("agent/mixnym.States", err)
}

func (d *Desk) states() ([]State, error) {
	list, err := d.o.Nyms.List()
	if err != nil {
		return nil, err
	}
	left, err := d.o.Nyms.Left()
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]State, 0, len(list))
	for i := range list {
		n := &list[i]
		s := State{Label: n.Label, Address: d.address(n), Made: n.Made, Fed: n.Fed, Left: left[n.Name()]}
		if n.Alive(d.o.Now()) {
			s.Until = n.Until
		}
		if p := d.plans[n.Label]; p != nil {
			s.Busy, s.Err, s.Due = p.busy, p.err, p.due
			if p.pause.After(s.Due) {
				s.Due = p.pause
			}
		}
		out = append(out, s)
	}
	return out, nil
}

// plan is that of a label; the lock is held.
func (d *Desk) plan(label string) *plan {
	p := d.plans[label]
	if p == nil {
		p = &plan{}
		d.plans[label] = p
	}
	return p
}

func (d *Desk) nudge() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}
