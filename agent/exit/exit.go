package exit

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern.email/agent/mbox"
	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/kit/ledger"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mail/blacklist"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/stats"
	"postern.email/mixnet/token"
)

// Defaults of Options and Config.
const (
	DefaultMaxSize       = 100 << 10 // mixminiond's MaximumSize
	MinMaxSize           = 32 << 10  // a smaller one is raised to this
	DefaultMaxRecipients = 5         // of one mail, which is of one token
	DefaultPerRecipient  = 5         // mails a day to one recipient
	DefaultPerDomain     = 200       // mails a day to one domain
	DefaultPerDay        = 2000      // mails a day
	DefaultMaxSpent      = 50_000    // tokens of one day
	DefaultMaxBlocked    = 1_000_000 // recipients who blocked themselves
	DefaultMaxTold       = 20        // mails a day of whose fate one reply address hears
)

// Out hands a mail over to who sends it on. When it returns nil the mail is durable there, or was before:
// a mail with the same Name may come again.
type Out interface {
	Hand(ctx context.Context, m Mail) error
}

// Mail is a mail that leaves, for one recipient.
type Mail struct {
	Name     [16]byte     // of this copy of this mail
	From, To mail.Address // the envelope
	// Tell is who hears if it cannot be delivered; zero: nobody. TellID is the Message-ID that it had when
	// it came, if it has another now.
	Tell       mail.Address
	TellID     string
	Head, Tail []byte // the mail in two pieces, of which the first holds the whole header
}

// Options of an Exit. FS, Dir, Secret, Out, Consensus, and of Config the Form and BlockURL are
// needed.
type Options struct {
	FS     vfs.FS
	Dir    string // made if it is missing
	Secret []byte // 32 bytes or more that do not lie beside it
	Out    Out

	// Consensus gives the directory of now, in which the keys of tokens stand.
	Consensus func() (*directory.Consensus, error)
	// Ours reports whether a domain is one of this relay's. Mail for those takes another way.
	Ours func(domain string) bool

	MaxSpent   int
	MaxBlocked int
	MaxTold    int

	Stats mbox.Counter // nil: nothing is counted
	Now   func() time.Time
	Rand  io.Reader
	Log   *slog.Logger // nil: nothing is logged; addresses never are

	Config
}

// Config is what may change while the exit works (Reload).
type Config struct {
	// Form says how anonymous mail looks; of mail that is vouched for only Abuse and Comments.
	Form mbox.Form
	// Bounce is the envelope sender of all that leaves; zero: Form.ReturnAddress.
	Bounce mail.Address
	// BlockURL is where recipients block themselves: the page that Handler serves, https, with a
	// slash at its end.
	BlockURL string

	Blacklist *blacklist.List // the operator's; nil: nobody is on it

	// Cleartext lets mail leave that is not end-to-end encrypted.
	Cleartext bool
	// NoAnonymous refuses mail that nobody vouches for.
	NoAnonymous bool
	// OtherDomains lets mail leave whose sender is of another relay's domain. Most hosts refuse
	// it, since it is not signed by that domain (DMARC).
	OtherDomains bool

	MaxSize       int64
	MaxRecipients int
	PerRecipient  int
	PerDomain     int
	PerDay        int
}

// complete fills in the defaults and checks what is there.
func (c Config) complete() (*Config, error) {
	const op = "agent/exit.Config"
	if err := c.Form.Check(); err != nil {
		return nil, errs.Wrap(op, err)
	}
	if c.Bounce.IsZero() {
		c.Bounce = c.Form.ReturnAddress
	}
	u, err := url.Parse(c.BlockURL)
	if err != nil || u.Scheme != "https" || u.Host == "" || !strings.HasSuffix(u.Path, "/") || u.RawQuery != "" || u.Fragment != "" || len(c.BlockURL) > 300 || strings.ContainsAny(c.BlockURL, "<> ,") {
		return nil, errs.E(op, errs.Invalid, "BlockURL is no https URL that ends in a slash", err)
	}
	if c.MaxSize == 0 {
		c.MaxSize = DefaultMaxSize
	}
	c.MaxSize = (max(c.MaxSize, MinMaxSize) + 1023) &^ 1023
	for _, v := range []struct {
		name    string
		v       *int
		d, most int
	}{{"MaxRecipients", &c.MaxRecipients, DefaultMaxRecipients, vouch.MaxRecipients}, {"PerRecipient", &c.PerRecipient, DefaultPerRecipient, 1 << 30},
		{"PerDomain", &c.PerDomain, DefaultPerDomain, 1 << 30}, {"PerDay", &c.PerDay, DefaultPerDay, 1 << 30}} {
		if *v.v == 0 {
			*v.v = v.d
		}
		if *v.v < 0 || *v.v > v.most {
			return nil, errs.E(op, errs.Invalid, v.name+" is out of bounds", nil)
		}
	}
	return &c, nil
}

// Exit sends mail of the mix network into the world. It may be used by many goroutines.
type Exit struct {
	o       Options
	c       atomic.Pointer[Config]
	marks   marks
	links   links
	spent   *days // by the day of the token
	sent    *days // by the day of the mail
	blocked *ledger.Ledger

	mu   sync.Mutex
	busy map[ledger.Key]bool // tokens whose mails are being sent

	bounced atomic.Int64
}

// New opens what an exit remembers. Kinds of errors: errs.Invalid for options that are not
// possible, with a public text; errs.Corrupt; those of the disk.
func New(o Options) (*Exit, error) {
	const op = "agent/exit.New"
	if o.FS == nil || o.Dir == "" || len(o.Secret) < 32 || o.Out == nil || o.Consensus == nil {
		return nil, errs.E(op, errs.Invalid, "", errors.New("no FS, Dir, Secret, Out or Consensus"))
	}
	if o.MaxSpent <= 0 {
		o.MaxSpent = DefaultMaxSpent
	}
	if o.MaxBlocked <= 0 {
		o.MaxBlocked = DefaultMaxBlocked
	}
	if o.MaxTold <= 0 {
		o.MaxTold = DefaultMaxTold
	}
	if o.Ours == nil {
		o.Ours = func(string) bool { return false }
	}
	if o.Stats == nil {
		o.Stats = nobody{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	e := &Exit{o: o, busy: make(map[ledger.Key]bool)}
	if err := e.Reload(o.Config); err != nil {
		return nil, errs.Wrap(op, err)
	}
	var err error
	if e.marks, err = newMarks(o.Secret, "marks of an exit"); err != nil {
		return nil, errs.Wrap(op, err)
	}
	if e.links, err = newLinks(o.Secret); err != nil {
		return nil, errs.Wrap(op, err)
	}
	if err := vfs.MkdirAll(o.FS, o.Dir, 0o700); err != nil {
		return nil, errs.Wrap(op, err)
	}
	e.spent, e.sent = newDays(o.FS, o.Dir, "spent", o.MaxSpent), newDays(o.FS, o.Dir, "sent", 4*o.MaxSpent)
	if e.blocked, err = ledger.Open(o.FS, o.FS.PathJoin(o.Dir, "blocked"), o.MaxBlocked); err != nil {
		return nil, errs.Wrap(op, err)
	}
	return e, nil
}

// Reload takes another configuration. errs.Invalid with a public text, and then nothing has changed.
func (e *Exit) Reload(c Config) error {
	full, err := c.complete()
	if err != nil {
		return errs.Wrap("agent/exit.Reload", err)
	}
	e.c.Store(full)
	return nil
}

// Tidy removes what was remembered of days that are over; call it once a day.
func (e *Exit) Tidy() error {
	const op = "agent/exit.Tidy"
	now := e.o.Now().Add(-directory.MaxSkew)
	if err := e.spent.drop(token.DayOf(now) - token.GoodDays + 1); err != nil {
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, e.sent.drop(token.DayOf(now)))
}

// Run tidies up every hour until ctx ends. It returns nil.
func (e *Exit) Run(ctx context.Context) error {
	t := time.NewTicker(tidyEvery)
	defer t.Stop()
	for {
		if err := e.Tidy(); err != nil && ctx.Err() == nil {
			e.o.Log.Warn("old marks of an exit were not all removed; it is tried again", "kind", errs.KindOf(err))
			e.o.Log.Debug("old marks of an exit were not all removed", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

const tidyEvery = time.Hour

// Close ends the use of the files.
func (e *Exit) Close() error {
	return errs.Wrap("agent/exit.Close", errors.Join(e.spent.close(), e.sent.close(), e.blocked.Close()))
}

// Bounced counts a mail that another host sent back after it had taken it. Nobody is told: whoever knows
// the exit's address could tell anybody anything.
func (e *Exit) Bounced() {
	e.bounced.Add(1)
	e.o.Stats.Count(stats.UnretriableDelivery, module)
}

// Bounces is how many mails came back since the start.
func (e *Exit) Bounces() int64 { return e.bounced.Load() }

// IsBounce reports whether an address is where mail of this exit comes back to.
func (e *Exit) IsBounce(a mail.Address) bool { return a.Equal(e.c.Load().Bounce) }

// module is the exit in the statistics, by mixminiond's name.
const module = "SMTP"

type nobody struct{}

func (nobody) Count(string, string) {}
