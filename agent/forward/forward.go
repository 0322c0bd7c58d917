package forward

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"sync"
	"time"

	"postern.email/agent/deliver"
	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/mail"
	"postern.email/mail/verp"
	"postern.email/post/account"
	"postern.email/post/alias"
	"postern.email/post/namebook"
	"postern.email/post/seen"
)

// Aliases is what this package needs of the register of aliases; Register makes one of it.
type Aliases interface {
	Ours(addr mail.Address) bool
	// Lookup gives errs.NotFound also for an alias that was deleted.
	Lookup(ctx context.Context, addr mail.Address) (*alias.Alias, error)
	// Target is zero for an owner with a mailbox here.
	Target(ctx context.Context, owner alias.Owner) (mail.Address, error)
	Arrive(al *alias.Alias, from mail.Address, v alias.Verdict) deliver.Write
	WroteTo(al *alias.Alias, to []mail.Address) deliver.Write
}

// Register joins the register of aliases.
func Register(a *alias.Aliases) Aliases { return register{a} }

type register struct{ *alias.Aliases }

func (r register) Arrive(al *alias.Alias, from mail.Address, v alias.Verdict) deliver.Write {
	return r.Aliases.Arrive(al, from, v)
}

func (r register) WroteTo(al *alias.Alias, to []mail.Address) deliver.Write {
	return r.Aliases.WroteTo(al, to)
}

// Letter is the letter with which the keys of the records of Options.Book begin.
const Letter = 'f'

// MaxRecord bounds a record of Options.Book, in bytes: that of an OpenPGP key is the largest.
const MaxRecord = 64 << 10

// Defaults of Options.
const (
	DefaultReturnDays  = 14  // days
	DefaultReverseDays = 730 // days
	DefaultMaxHops     = 100 // RFC 5321 §6.3: not fewer
	DefaultHardBounces = 3
	DefaultSoftPerDay  = 12
	DefaultSoftPerWeek = 40
	DefaultBadDays     = 9
	DefaultSoftPause   = 24 * time.Hour
	DefaultHardPause   = 30 * 24 * time.Hour
	DefaultAskEvery    = time.Hour
	DefaultMaxAsks     = 3
	DefaultAskDays     = 7
	DefaultAsksNetwork = 10 // an hour
	DefaultAsksTotal   = 600
)

// Unsubscribe says what becomes of the fields List-Unsubscribe and List-Unsubscribe-Post of mail that
// is sent on.
type Unsubscribe uint8

// The three ways.
const (
	UnsubscribeKeep  Unsubscribe = iota // as the sender wrote them
	UnsubscribeBlock                    // ours: mail of this sender for this alias is not sent on any more
	UnsubscribeDrop                     // there are none
)

// Options of a Forward. Aliases, Deliver, Book, Key, Domain, URL and Ours are needed.
type Options struct {
	Aliases Aliases
	Deliver *deliver.Deliver                         // with a queue
	Book    *namebook.Book                           // with Letter and MaxRecord; its Run and Check are its owner's business
	Key     [verp.KeyLen]byte                        // seal.Root.ForwardKey
	Seen    *seen.Seen                               // so that a mail that comes again is sent on once; that of Deliver's Letters. nil: nothing is remembered
	Domain  string                                   // from which notes and reports come
	URL     func() string                            // under which Handler is reached, with a slash at its end; "": nowhere, and nobody can be asked
	Ours    func(string) bool                        // whether a domain is of this relay: no target is there
	Tell    func(context.Context, alias.Owner, Note) // tells an owner who also has a mailbox here; nil: nobody can be told

	// Here judges an answer to somebody of this relay as if another host had brought it, and gives the account,
	// or the copy for an alias; both nil: it is on its way already, once for the name. Its error, usually a
	// *smtp.Reply, refuses it. nil: nobody here can be written to.
	Here func(ctx context.Context, raw []byte, to mail.Address, name []byte) (*account.Account, *deliver.ForAlias, error)

	ReturnDays  int // for so long what comes back is read
	ReverseDays int // a reverse address that nobody used for so long is forgotten, until its sender writes again
	MaxHops     int // a mail that has come this way so often goes in a circle

	// The ladder of a target. What comes back is hard (there is no such mailbox) or soft (anything
	// else that is about the mailbox and not about the mail).
	HardBounces int // within a week: pause for HardPause
	SoftPerDay  int // hard and soft ones in a day: pause for SoftPause
	SoftPerWeek int // in a week: pause for HardPause
	BadDays     int // days of ten on which any came: pause for HardPause
	SoftPause   time.Duration
	HardPause   time.Duration

	// How often a mailbox is asked whether it agrees, so that nobody can be bombed.
	AskEvery    time.Duration // between two questions to one mailbox
	MaxAsks     int           // questions to one mailbox, from whomever, within 30 days
	AskDays     int           // for so long a question can be answered
	AsksNetwork int           // questions that one network may cause in an hour
	AsksTotal   int           // that all may cause in an hour

	Unsubscribe Unsubscribe
	Cleartext   bool // aliases of class open-mail may answer in cleartext
	KeepKeys    bool // keys and signatures of the target stay in what it answers

	Now    func() time.Time // nil: time.Now
	Rand   io.Reader        // nil: crypto/rand.Reader
	Logger *slog.Logger     // nil: nothing is logged
}

func (o Options) withDefaults() Options {
	for _, v := range []struct {
		to *int
		d  int
	}{{&o.ReturnDays, DefaultReturnDays}, {&o.ReverseDays, DefaultReverseDays}, {&o.MaxHops, DefaultMaxHops}, {&o.HardBounces, DefaultHardBounces},
		{&o.SoftPerDay, DefaultSoftPerDay}, {&o.SoftPerWeek, DefaultSoftPerWeek}, {&o.BadDays, DefaultBadDays}, {&o.MaxAsks, DefaultMaxAsks},
		{&o.AskDays, DefaultAskDays}, {&o.AsksNetwork, DefaultAsksNetwork}, {&o.AsksTotal, DefaultAsksTotal}} {
		if *v.to <= 0 {
			*v.to = v.d
		}
	}
	for _, v := range []struct {
		to *time.Duration
		d  time.Duration
	}{{&o.SoftPause, DefaultSoftPause}, {&o.HardPause, DefaultHardPause}, {&o.AskEvery, DefaultAskEvery}} {
		if *v.to <= 0 {
			*v.to = v.d
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Forward sends mail on. It may be used by many goroutines.
type Forward struct {
	o      Options
	codes  *verp.Coder
	asks   *limits.GCRA // questions, by network
	total  *limits.GCRA
	asking sync.Mutex // one question is put at a time, so that its bounds hold
}

// New makes a Forward. errs.Invalid for options that make no sense.
func New(o Options) (*Forward, error) {
	const op = "agent/forward.New"
	o = o.withDefaults()
	switch {
	case o.Aliases == nil || o.Deliver == nil || o.Book == nil || o.Ours == nil || o.Domain == "" || o.URL == nil:
		return nil, errs.E(op, errs.Invalid, "", nil)
	case o.ReturnDays > verp.MaxLife:
		return nil, errs.E(op, errs.Invalid, "a return address is good for 60 days at most", nil)
	case o.BadDays > ladderDays:
		return nil, errs.E(op, errs.Invalid, "bounces are remembered for ten days", nil)
	}
	codes, err := verp.New(&o.Key)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	// A limit of so many a minute, by a clock that runs 60 times slower, is one of so many an hour.
	slow := func() time.Time { return time.Unix(0, o.Now().UnixNano()/60) }
	return &Forward{o: o, codes: codes, asks: limits.NewGCRA(o.AsksNetwork, o.AsksNetwork, maxNetworks, slow), total: limits.NewGCRA(o.AsksTotal, o.AsksTotal, 1, slow)}, nil
}

// maxNetworks is how many networks are remembered for AsksNetwork.
const maxNetworks = 10_000
