package alias

import (
	"crypto/rand"
	"io"
	"log/slog"
	"math"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/names"
	"postern.email/post/seal"
	"postern.email/store"
)

// Defaults of Options.
const (
	DefaultMaxPerOwner       = 10000
	DefaultDeletedTimes      = 10 // MaxDeleted, in multiples of MaxPerOwner
	DefaultMaxTokens         = 32
	DefaultMaxCorrespondents = 64
	DefaultMaxSent           = 128
	DefaultSentDays          = 14
	DefaultAskDays           = 4
	DefaultUndoDays          = 30
	DefaultTriesPerSecond    = 50
	DefaultTriesNetwork      = 5
	DefaultTriesKeys         = 100000
	DefaultCache             = 20000
	DefaultTried             = 100000
	DefaultFlushEvery        = time.Minute
	DefaultSweepEvery        = 6 * time.Hour
	DefaultOrphanAge         = 10 * time.Minute

	// MostCorrespondents bounds MaxCorrespondents, so that a record stays small.
	MostCorrespondents = 1024
)

// Options of Aliases. Store, Root, Names and Domains are needed; zero values stand for the
// defaults.
type Options struct {
	Store   store.Store
	Root    *seal.Root
	Names   *names.Names
	Domains []string // in which there are aliases; the first is the default

	MaxPerOwner       int // aliases of one owner, without deleted ones; DefaultMaxPerOwner
	MaxDeleted        int // deleted aliases of one owner, whose names stay taken for ever; beyond, none is made; DefaultDeletedTimes MaxPerOwner
	MaxTokens         int // tokens of one owner; DefaultMaxTokens
	MaxCorrespondents int // remembered of one alias; beyond, the one that was seen longest ago goes; DefaultMaxCorrespondents
	MaxSent           int // mails sent as one alias of which it is known, so that reports on them are; DefaultMaxSent
	SentDays          int // for how long; DefaultSentDays
	AskDays           int // for how long mail of a sender of whom the owner was asked is put off; DefaultAskDays
	UndoDays          int // for how long a deletion can be undone; DefaultUndoDays
	EndedDays         int // an alias that has ended for so long is deleted; 0: never
	UnusedDays        int // an alias that never got or sent anything is deleted after so many days; 0: never
	OwnerIdleDays     int // an owner elsewhere who was not here for so long, and whose aliases got nothing, is removed; 0: never

	// TargetsHere: the mail of an owner elsewhere may go to a domain of aliases, where a mail server of another
	// kind has mailboxes, too. The caller looks that it is no alias.
	TargetsHere bool

	TriesPerSecond int // of derived addresses that are not known; DefaultTriesPerSecond; negative: no limit
	TriesNetwork   int // the same for one network; DefaultTriesNetwork; negative: no limit
	TriesKeys      int // networks remembered for that; DefaultTriesKeys

	Cache int // aliases remembered; DefaultCache
	Tried int // derived addresses of which it is remembered whose they are; DefaultTried

	FlushEvery time.Duration // counts of refused mails are written so often; DefaultFlushEvery
	SweepEvery time.Duration // housekeeping; DefaultSweepEvery
	OrphanAge  time.Duration // what a creation that was cut off left is kept so long; DefaultOrphanAge

	DerivedMode  Mode  // of derived aliases, until their owner says another
	DerivedClass Class // the same

	// Deleted is called after each commit that deleted something. nil: nobody is told.
	Deleted func()

	Now    func() time.Time // default time.Now
	Rand   io.Reader        // default crypto/rand.Reader
	Logger *slog.Logger     // default: discards
}

func (o Options) withDefaults() Options {
	for _, v := range []struct {
		to *int
		d  int
	}{{&o.MaxPerOwner, DefaultMaxPerOwner}, {&o.MaxTokens, DefaultMaxTokens}, {&o.MaxCorrespondents, DefaultMaxCorrespondents}, {&o.AskDays, DefaultAskDays},
		{&o.MaxSent, DefaultMaxSent}, {&o.SentDays, DefaultSentDays},
		{&o.UndoDays, DefaultUndoDays}, {&o.TriesPerSecond, DefaultTriesPerSecond}, {&o.TriesNetwork, DefaultTriesNetwork}, {&o.TriesKeys, DefaultTriesKeys},
		{&o.Cache, DefaultCache}, {&o.Tried, DefaultTried}} {
		if *v.to == 0 {
			*v.to = v.d
		}
	}
	if o.MaxDeleted == 0 {
		o.MaxDeleted = min(o.MaxPerOwner, math.MaxInt32) * DefaultDeletedTimes
	}
	for _, v := range []struct {
		to *time.Duration
		d  time.Duration
	}{{&o.FlushEvery, DefaultFlushEvery}, {&o.SweepEvery, DefaultSweepEvery}, {&o.OrphanAge, DefaultOrphanAge}} {
		if *v.to == 0 {
			*v.to = v.d
		}
	}
	if o.Deleted == nil {
		o.Deleted = func() {}
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

// check refuses options that make no sense.
func (o *Options) check() error {
	const op = "post/alias.Options"
	bad := func(what string) error { return errs.E(op, errs.Invalid, what, nil) }
	switch {
	case o.Store == nil || o.Root == nil || o.Names == nil:
		return bad("a store, a root key and the register of names are needed")
	case len(o.Domains) == 0:
		return bad("a domain is needed")
	case o.MaxPerOwner < 1 || o.MaxTokens < 1:
		return bad("an owner has at least one alias and one token")
	case o.MaxDeleted < 1:
		return bad("an owner may delete at least one alias")
	case o.MaxCorrespondents < 1 || o.MaxCorrespondents > MostCorrespondents:
		return bad("an alias remembers 1 to 1024 correspondents")
	case o.MaxSent < 1 || o.MaxSent > MostSent:
		return bad("an alias remembers 1 to 1024 mails that were sent")
	case o.AskDays < 0 || o.SentDays < 0 || o.UndoDays < 0 || o.EndedDays < 0 || o.UnusedDays < 0 || o.OwnerIdleDays < 0:
		return bad("days are not negative")
	case o.DerivedMode >= numModes:
		return bad(textMode)
	case o.DerivedClass >= numClasses:
		return bad(textClass)
	case o.TriesKeys < 1 || o.Cache < 1 || o.Tried < 1:
		return bad("a memory holds at least one entry")
	case o.FlushEvery < 0 || o.SweepEvery < 0 || o.OrphanAge < 0:
		return bad("times are not negative")
	}
	for _, d := range o.Domains {
		if _, err := mail.ParseAddress("x@" + d); err != nil {
			return bad("a domain of aliases is none")
		}
	}
	return nil
}
