package mixsubmit

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"sync"
	"time"

	"postern.email/agent/notice"
	"postern.email/agent/submit"
	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mixnet/client"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
	"postern.email/post/keybook"
	"postern.email/wire/smtp"
)

// Defaults of Options and Accounts.
const (
	DefaultLookupTime = time.Hour // mailproxy's UrgentQueueLifetime
	DefaultMaxMails   = 1000      // that wait, of one account
	DefaultMaxBytes   = 512 << 20 // of their texts
	DefaultEvery      = 10 * time.Second
	DefaultLookups    = 6 // key look-ups of one account in a minute

	// MaxRecipients bounds the recipients of one mail.
	MaxRecipients = vouch.MaxRecipients // they may all be in one letter
	// SizeTime is for how long a line may be busy with one mail: what it carries in that time is the
	// largest that is taken.
	SizeTime = 24 * time.Hour
	// Patience is how many times the expected time a mail is given before it is bounced, at least.
	Patience = 4
)

// maxMail bounds a mail so that its letter holds the rest as well.
const maxMail = letter.MaxContent - 1<<20

// Account is an account of the proxy as the mix network knows it. Its fields may be read by many
// goroutines; functions must be quick but for Ask, Fetch and WebKey. All but
// Expect, Poke, Ask, Fetch, Nyms and WebKey are needed.
type Account struct {
	Address  mail.Address // canonical
	Identity *client.Identity
	Store    *client.Store
	Home     letter.Address // of the own packet box; agent/mixclient.Client.Address

	// FS and Dir are where mails lie until they are settled: a directory of its own, made if missing.
	FS  vfs.FS
	Dir string

	Consensus   func() (*directory.Consensus, error)
	Certificate func() (*vouch.Certificate, error)
	Expect      func(packets int) client.Forecast // nil: from the consensus, as if nothing else waited
	Poke        func()                            // tells the client that something was queued
	Ask         func(ctx context.Context, relay packet.ID, service uint8, request []byte) (status uint8, answer []byte, err error)
	// Fetch asks the own relay over the line, for the tokens that exits want. nil: no mail goes into the
	// world outside.
	Fetch func(ctx context.Context, request []byte) ([]byte, error)
	// Nyms are the reply addresses of the account, for mail that does not name it. nil: there are none.
	Nyms Nyms

	// WebKey asks the domain of an address for its OpenPGP key, in a bounded time: errs.NotFound where it shows
	// none; wire/wkd.Client.Find. nil: no domain is asked.
	WebKey func(ctx context.Context, to mail.Address) ([]byte, error)

	Discover   bool          // keys are looked up that are not known (InsecureKeyDiscovery)
	LookupTime time.Duration // for how long; 0: DefaultLookupTime
	Lifetime   time.Duration // of a mail, before it is bounced; 0: client.Lifetime
}

// Options of a Submit. Accounts, Local, Book and Desk are needed.
type Options struct {
	Accounts func() []*Account
	Local    submit.Accounts // logins; submit.Register makes it
	Book     *keybook.Book
	Desk     *notice.Desk // reports into the own mailbox

	// NoAuth takes mail from whoever can connect, as any account: for mail programs that know only a
	// host and a port. The listener must be one that nobody else reaches.
	NoAuth bool
	// AllowCleartext lets mail go to exits of the network unencrypted, where an exit's policy takes it.
	AllowCleartext bool

	// Guard is asked before a mail is taken: see submit.Options.
	Guard func() error

	MaxMails int           // that wait, of one account; 0: DefaultMaxMails
	MaxBytes int64         // of them; 0: DefaultMaxBytes
	Lookups  int           // of one account in a minute; 0: DefaultLookups
	Every    time.Duration // between two looks at what became of mails; 0: DefaultEvery

	Now    func() time.Time
	Rand   io.Reader    // must serve many goroutines; nil: crypto/rand
	Logger *slog.Logger // nil: nothing is logged
}

// Submit is the policy, and what works on the mails that it took. It may be used by many goroutines.
type Submit struct {
	o       Options
	lookups *limits.GCRA
	wake    chan struct{}

	mu     sync.Mutex
	spools map[mail.Address]*spool // by the address of the account; nil: it cannot be opened, which was logged
	asked  map[question]*lookup
	// Of those in the key book:
	pins       map[mail.Address]pin
	checked    map[mail.Address]time.Time // when they were looked up again
	webChecked map[question]time.Time     // when a domain was asked again
}

// New makes a Submit; mails go on their way while Run runs.
func New(o Options) *Submit {
	if o.MaxMails <= 0 {
		o.MaxMails = DefaultMaxMails
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Lookups <= 0 {
		o.Lookups = DefaultLookups
	}
	if o.Every <= 0 {
		o.Every = DefaultEvery
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
	return &Submit{o: o, lookups: limits.NewGCRA(o.Lookups, o.Lookups, 1000, o.Now), wake: make(chan struct{}, 1),
		spools: make(map[mail.Address]*spool), asked: make(map[question]*lookup), pins: make(map[mail.Address]pin), checked: make(map[mail.Address]time.Time), webChecked: make(map[question]time.Time)}
}

// NewSession begins a session for wire/smtp.
func (s *Submit) NewSession(_ context.Context, c smtp.Info) (smtp.Session, error) {
	return &session{s: s, peer: c.Peer}, nil
}

// account gives the account of an address; nil: it is none of the proxy's.
func (s *Submit) account(a mail.Address) *Account {
	for _, x := range s.o.Accounts() {
		if x.Address.Equal(a) {
			return x
		}
	}
	return nil
}

// Offer is the size in bytes that a mail may have now, for wire/smtp: what the line of the account with
// the fastest carries in SizeTime. 0: no consensus is known.
func (s *Submit) Offer() int64 {
	var most int64
	for _, a := range s.o.Accounts() {
		if n, ok := s.size(a); ok {
			most = max(most, n)
		}
	}
	return most
}

// size is what an account may send at once; ok is false where only the network could tell.
func (s *Submit) size(a *Account) (n int64, ok bool) {
	cons, err := a.Consensus()
	if err != nil {
		return maxMail, false
	}
	return min(client.MaxBytes(cons.Parameters, SizeTime), maxMail), true
}

// expect is when a mail of so many packets arrives; zero where nobody can tell.
func (s *Submit) expect(a *Account, packets int) client.Forecast {
	if a.Expect != nil {
		return a.Expect(packets)
	}
	cons, err := a.Consensus()
	if err != nil {
		return client.Forecast{}
	}
	return client.Expect(cons.Parameters, packets, client.DelayedHops)
}

// Look tells Run that something has changed that mails may wait for: a certificate has come, or a
// message of the client's store has ended. Without it Run finds out a little later.
func (s *Submit) Look() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// spool opens that of an account, once. What cannot be read is logged once.
func (s *Submit) spool(a *Account) (*spool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, told := s.spools[a.Address]
	if p != nil {
		return p, nil
	}
	p, err := openSpool(a, s.o.Rand)
	if err != nil {
		s.spools[a.Address] = nil
		if !told {
			s.o.Logger.Warn("mails that wait cannot be read", "err", err)
		}
		return nil, errs.Wrap("agent/mixsubmit", err)
	}
	if p.damaged > 0 {
		s.o.Logger.Warn("some mails that wait cannot be read, and stay where they are", "files", p.damaged)
	}
	s.spools[a.Address] = p
	return p, nil
}
