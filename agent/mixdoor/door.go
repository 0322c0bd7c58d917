// Package mixdoor is the door through which mail of the mix network reaches ordinary mailboxes of a
// relay (docs/mix-relay.md §7). Letters come in packets for the relay itself, sealed to its letter
// key. A packet is acknowledged when it is on the disk. A letter that is whole is asked who vouches
// for it (agent/vouch), then judged by the rules for other hosts' mail (agent/receive), and handed
// over by agent/deliver, once.
package mixdoor

import (
	"context"
	"io"
	"log/slog"
	"time"

	"postern.email/agent/deliver"
	"postern.email/agent/parts"
	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/node"
	"postern.email/mixnet/packet"
	"postern.email/mixnet/stats"
	"postern.email/post/account"
	"postern.email/post/seen"
)

// Rules judge mail for accounts here; *receive.Receive has those for mail of other hosts.
type Rules interface {
	// Recipient judges one recipient of a mail of size bytes.
	Recipient(ctx context.Context, to mail.Address, size int64) (account.Account, error)
	// Vouched judges a whole mail for one recipient, all but who vouches for its sender.
	Vouched(ctx context.Context, raw []byte, a account.Account, to mail.Address) error
	// Reply judges a mail for a reply address here; false: the address is none.
	Reply(ctx context.Context, raw []byte, to mail.Address) (is bool, err error)
	// Alias judges a mail for an alias here; false: the address is none. copy is for its owner; nil: the
	// owner's mailbox is elsewhere, and the mail went there, once for the name of its letter.
	Alias(ctx context.Context, raw []byte, to mail.Address, anonymous bool, name []byte) (is bool, copy *deliver.ForAlias, err error)
}

// Exit takes mail for recipients at other hosts; *exit.Exit is one.
type Exit interface {
	// Send takes a mail all of whose recipients are elsewhere: on return with nil it is durable, or
	// was before. A temporary kind of error but errs.Full is tried again; with any other the
	// recipients get nothing, and its public text tells the sender why.
	Send(ctx context.Context, v *vouch.Vouched) error
}

// Options of a Door. All but those that say otherwise are needed.
type Options struct {
	FS     vfs.FS
	Dir    string
	Secret []byte // what fragments are sealed under on the disk
	Rand   io.Reader
	Now    func() time.Time
	Logger *slog.Logger // nil: nothing is logged
	Stats  node.Counter // nil: nothing is counted

	Key       *letter.PrivateKey                              // letters to this relay are sealed to it
	Consensus func() (*directory.Consensus, error)            // that is good now
	Relay     func() packet.ID                                // this relay's
	Ours      func(mail.Address) bool                         // whether an address is of a domain here
	Current   func(context.Context, *vouch.Certificate) error // of an account here: errs.Denied when it may not send any more, or has other keys
	Rules     Rules
	Deliver   *deliver.Deliver // with a queue, and with Letters
	Letters   *seen.Seen
	Exit      Exit // nil: there is none, and mail for other hosts is refused

	NoAnonymous bool // mailboxes here take no anonymous mail
	Shut        bool // mailboxes here take no mail at all; the exit may

	MaxLetters int           // letters that wait at one time; 0: DefaultMaxLetters
	MaxBytes   int64         // of them, on the disk; 0: DefaultMaxBytes
	MaxSize    int64         // of one mail with all around it; 0: letter.MaxWhole
	Within     time.Duration // in which a letter must become whole; 0: DefaultWithin
	GiveUp     time.Duration // how long a letter that is whole is tried; 0: DefaultGiveUp
}

// Defaults of Options.
const (
	DefaultMaxLetters = 1024
	DefaultMaxBytes   = 512 << 20
	DefaultWithin     = 10 * 24 * time.Hour // a sender gives up after five
	DefaultGiveUp     = 5 * 24 * time.Hour
	retryAfter        = time.Minute
)

// Door is the door. Exit may be called by many goroutines; one calls Run.
type Door struct {
	o     Options
	parts *parts.Parts
	turn  chan struct{} // holds one token: who has it may change parts
	wake  chan struct{} // capacity 1
}

var _ node.Exits = (*Door)(nil)

// Open takes in what waits. errs.Denied: it is sealed under another secret.
func Open(o Options) (*Door, error) {
	const op = "agent/mixdoor.Open"
	if o.MaxLetters <= 0 {
		o.MaxLetters = DefaultMaxLetters
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.MaxSize <= 0 {
		o.MaxSize = letter.MaxWhole
	}
	if o.Within <= 0 {
		o.Within = DefaultWithin
	}
	if o.GiveUp <= 0 {
		o.GiveUp = DefaultGiveUp
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Stats == nil {
		o.Stats = nobody{}
	}
	d := &Door{o: o, turn: make(chan struct{}, 1), wake: make(chan struct{}, 1)}
	d.turn <- struct{}{}
	var err error
	d.parts, err = parts.Open(parts.Options{FS: o.FS, Dir: o.Dir, Secret: o.Secret, Rand: o.Rand, Now: o.Now, Log: o.Logger, MaxLetters: o.MaxLetters, MaxBytes: o.MaxBytes,
		Done: func(k parts.Key) bool { // what cannot be told now is told by the transaction that delivers
			known, err := o.Letters.KnowsLetter(context.Background(), o.Letters.Letter(k.ID))
			return known && err == nil
		},
		GivenUp: func() { d.count("not whole") },
		Parse: func(body []byte) (string, *letter.Fragment, error) {
			f, err := letter.Open(o.Key, body)
			return "", f, err
		}})
	return d, errs.Wrap(op, err)
}

type nobody struct{}

func (nobody) Count(string, string) {}

// count counts what is given up.
func (d *Door) count(why string) { d.o.Stats.Count(stats.UnretriableDelivery, "mail: "+why) }

// Exit is that of node.Exits, for contents of kind Mail: a fragment is on the disk on return with nil,
// or was there. Kinds of errors: errs.Unsupported for other kinds of contents; errs.Auth and
// errs.Invalid for what is not sealed to this relay; errs.TooLarge; errs.Busy, errs.NoSpace,
// errs.Unavailable and errs.Canceled for now.
func (d *Door) Exit(ctx context.Context, name [16]byte, c packet.Content) error {
	const op = "agent/mixdoor.Exit"
	if c.Kind != content.Mail {
		return errs.E(op, errs.Unsupported, "this relay takes mail only", nil)
	}
	f, err := letter.Open(d.o.Key, c.Body)
	if err != nil {
		return errs.Wrap(op, err)
	}
	if f.Length > d.o.MaxSize {
		return errs.E(op, errs.TooLarge, "the mail is too large for this relay", nil)
	}
	if known, err := d.o.Letters.KnowsLetter(ctx, d.o.Letters.Letter(f.ID)); err != nil || known {
		return errs.Wrap(op, err)
	}
	select {
	case <-d.turn:
		defer func() { d.turn <- struct{}{} }()
	case <-ctx.Done():
		return errs.E(op, errs.Canceled, "", ctx.Err())
	}
	_, whole, err := d.parts.Add(name, "", f, c.Body)
	if err != nil {
		return errs.Wrap(op, err)
	}
	if whole {
		d.poke()
	}
	return nil
}

func (d *Door) poke() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Run works on letters that are whole until ctx ends, which is no error.
func (d *Door) Run(ctx context.Context) error {
	for {
		var next time.Time
		select {
		case <-d.turn:
			next = d.parts.Tidy(d.o.Within, func(k parts.Key) { d.work(ctx, k) })
			d.turn <- struct{}{}
		case <-ctx.Done():
			return nil
		}
		var alarm <-chan time.Time
		var t *time.Timer
		if !next.IsZero() {
			t = time.NewTimer(max(next.Sub(d.o.Now()), time.Millisecond))
			alarm = t.C
		}
		select {
		case <-ctx.Done():
		case <-d.wake:
		case <-alarm:
		}
		if t != nil {
			t.Stop()
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// work does what is to be done with a letter that is whole. What cannot be done now is tried again.
func (d *Door) work(ctx context.Context, k parts.Key) {
	if ctx.Err() != nil {
		return
	}
	err := d.letter(ctx, k)
	switch kind := errs.KindOf(err); {
	case err == nil:
	case ctx.Err() != nil:
		return // it is on the disk, and comes again at the next start
	case kind.Temporary() && !d.over(k):
		d.o.Logger.Warn("a letter of the mix network could not be delivered yet", "kind", kind)
		d.parts.Later(k, d.o.Now().Add(retryAfter))
		return
	default:
		d.o.Logger.Info("a letter of the mix network was refused", "kind", kind)
		d.o.Logger.Debug("a letter of the mix network was refused", "err", err)
		d.count(reason(kind))
	}
	if err := d.parts.Drop(k); err != nil {
		d.o.Logger.Warn("fragments cannot be removed", "kind", errs.KindOf(err))
	}
}

// reason is what a refusal is counted as.
func reason(k errs.Kind) string {
	switch {
	case k == errs.Denied || k == errs.Auth:
		return "nobody vouches"
	case k.Temporary():
		return "given up"
	}
	return "malformed"
}

// letter takes the mail out of a letter that is whole, and delivers it.
func (d *Door) letter(ctx context.Context, k parts.Key) error {
	const op = "agent/mixdoor.letter"
	list, err := d.parts.Fragments(k)
	if err != nil || list == nil {
		return errs.Wrap(op, err)
	}
	cons, err := d.o.Consensus()
	if err != nil {
		return errs.E(op, errs.Unavailable, "there is no valid directory of the network now", err)
	}
	l, err := parts.Assemble(list, d.o.MaxSize)
	if err != nil {
		return errs.Wrap(op, err)
	}
	v, err := vouch.Check(cons, d.o.Now(), l, vouch.Door{})
	if err != nil && d.stranger(cons, l) && d.o.Now().Sub(d.parts.Since(k)) < patience {
		return errs.E(op, errs.Unavailable, "the relay that vouches for the sender is not in the network now", err)
	}
	if err != nil {
		return errs.Wrap(op, err)
	}
	if v.Kind == vouch.User && v.Relay == d.o.Relay() {
		if err := d.o.Current(ctx, v.Certificate); err != nil {
			return errs.Wrap(op, err)
		}
	}
	err = d.deliver(ctx, l.ID, v)
	if errs.KindOf(err).Temporary() && ctx.Err() == nil && d.over(k) && d.expire(ctx, l.ID, v, err) == nil {
		d.count(reason(errs.KindOf(err)))
		return nil
	}
	return errs.Wrap(op, err)
}

// over reports whether a letter has been tried for long enough.
func (d *Door) over(k parts.Key) bool { return d.o.Now().Sub(d.parts.Since(k)) >= d.o.GiveUp }

// patience is how long a letter is kept whose sender's relay is not in the consensus: the relay may have
// missed one, or this one may not know the newest, and what was acknowledged is not to be lost for that.
const patience = time.Hour

// stranger reports whether the relay that vouches for a sender is not in the consensus.
func (d *Door) stranger(cons *directory.Consensus, l *letter.Letter) bool {
	m, err := vouch.ParseMail(l.Content)
	if err != nil || len(m.Certificate) == 0 {
		return false
	}
	c, err := vouch.Parse(m.Certificate)
	return err == nil && cons.Find(c.Relay) == nil
}

// Status gives the numbers of now.
func (d *Door) Status() parts.Status { return d.parts.Status() }
