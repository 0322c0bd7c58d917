package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"postern.email/agent/access"
	"postern.email/agent/deliver"
	"postern.email/kit/daemon"
	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/kit/passhash"
	"postern.email/kit/sysinfo"
	"postern.email/kit/vfs"
	"postern.email/post/account"
	"postern.email/post/keybook"
	"postern.email/post/mailbox"
	"postern.email/post/seal"
	"postern.email/post/seen"
	"postern.email/store/pebble"
)

// Deps is what a proxy takes from its surroundings. The zero value is the machine itself.
type Deps struct {
	FS     vfs.FS
	Listen func(network, addr string) (net.Listener, error)
	Dial   func(ctx context.Context, network, addr string) (net.Conn, error) // to relays, or to UpstreamProxy
	Now    func() time.Time
	Rand   io.Reader
	Logger *slog.Logger
	System *sysinfo.Reader // tells the free disk
	Cost   passhash.Cost   // of new passwords; zero: passhash.Password

	Version string // of the program; clients are told

	Careless  bool          // keys that others may read are not refused
	NoSockets bool          // no control and management socket, for disks that have none
	StopGrace time.Duration // how long sessions may go on when the proxy stops; 0: 5 s
}

func (d Deps) withDefaults(c *Config) Deps {
	defaults.Zero(&d.FS, vfs.OS())
	if d.Listen == nil {
		d.Listen = net.Listen
	}
	if d.Dial == nil {
		d.Dial = new(net.Dialer).DialContext
	}
	defaults.Clock(&d.Now)
	defaults.Rand(&d.Rand)
	defaults.Logger(&d.Logger)
	if d.System == nil {
		d.System = &sysinfo.Reader{FS: d.FS, Dir: c.Proxy.DataDir}
	}
	defaults.Zero(&d.Version, "unknown")
	defaults.Positive(&d.StopGrace, defaultGrace)
	return d
}

const defaultGrace = 5 * time.Second

// Server is a running proxy.
type Server struct {
	c       Config
	d       Deps
	started time.Time
	token   string // in the address of the page

	opened   []func() error // ends of what was opened
	root     *seal.Root
	db       *pebble.DB
	boxes    *mailbox.Boxes
	seen     *seen.Seen
	accounts *account.Accounts
	deliver  *deliver.Deliver
	access   *access.Access
	book     *keybook.Book
	users    []*user
	mail     agents
	memory   *limits.Bytes // for mails being received, by all protocols

	ports []*port

	serve, work func()
	serving     sync.WaitGroup // listeners and sockets
	working     sync.WaitGroup
	queries     chan query
	asked       chan struct{} // somebody asked for the end
	broken      chan error
	closed      sync.Once
	closeErr    error
}

// Names of what lies in DataDir.
const (
	storeDir    = "store"
	blobDir     = "blobs"
	rootFile    = "root.key"
	accountsDir = "accounts"
	waitingDir  = "waiting"
)

// Start opens everything and runs until Close. Errors say what to do: errs.Exists when another
// process holds the directory or a port. Accounts that are not registered, or whose relay cannot
// be reached, do not keep it from starting; Status tells of them.
func Start(ctx context.Context, d Deps, c Config) (*Server, error) {
	const op = "role/proxy.Start"
	s, err := prepare(d, c)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if err := s.open(ctx); err != nil {
		s.Close()
		return nil, errs.Wrap(op, err)
	}
	return s, nil
}

// prepare makes a Server that holds nothing yet.
func prepare(d Deps, c Config) (*Server, error) {
	c.complete()
	if err := c.Check(); err != nil {
		return nil, err
	}
	d = d.withDefaults(&c)
	s := &Server{c: c, d: d, started: d.Now(), memory: limits.NewBytes(mailMemory), queries: make(chan query, maxQueries), asked: make(chan struct{}, 1), broken: make(chan error, 1), serve: func() {}, work: func() {}}
	all, err := c.Accounts()
	if err != nil {
		return nil, err
	}
	for _, a := range all {
		u, err := s.newUser(a)
		if err != nil {
			return nil, err
		}
		s.users = append(s.users, u)
	}
	return s, nil
}

// open does the work of Start; Close undoes whatever part of it was done.
func (s *Server) open(ctx context.Context) error {
	if err := s.hold(); err != nil {
		return err
	}
	if err := s.openState(ctx); err != nil {
		return err
	}
	if err := s.openToken(); err != nil {
		return err
	}
	if err := s.openBook(); err != nil {
		return err
	}
	if err := s.openMail(); err != nil {
		return err
	}
	return s.listen()
}

// path names something in DataDir.
func (s *Server) path(name string) string { return s.d.FS.PathJoin(s.c.Proxy.DataDir, name) }

// makeDirs makes DataDir, and in it that of accounts.
func (s *Server) makeDirs() error {
	for _, dir := range []string{s.c.Proxy.DataDir, s.path(accountsDir)} {
		if err := vfs.MkdirAll(s.d.FS, dir, 0o700); err != nil {
			return errs.E("role/proxy.makeDirs", errs.KindOf(err), "cannot make the directory "+dir, err)
		}
	}
	return nil
}

// hold makes the directories and takes the lock.
func (s *Server) hold() error {
	if err := s.makeDirs(); err != nil {
		return err
	}
	lock, err := daemon.Hold(s.d.FS, s.c.Proxy.DataDir, s.d.Now())
	if err != nil {
		return err
	}
	s.opened = append(s.opened, lock.Close)
	return nil
}

// openState opens keys, store, accounts and mailboxes.
func (s *Server) openState(ctx context.Context) (err error) {
	c, d := &s.c, &s.d
	if s.root, err = seal.OpenRoot(ctx, d.FS, s.path(rootFile), seal.FileSource{FS: d.FS, Path: c.Proxy.KeyFile}, d.Rand); err != nil {
		return err
	}
	db, err := pebble.Open(ctx, pebble.Options{FS: d.FS, Dir: s.path(storeDir), Logger: d.Logger, Now: d.Now})
	if err != nil {
		return err
	}
	s.db = db
	s.opened = append(s.opened, db.Close)
	s.boxes, err = mailbox.New(mailbox.Options{Store: s.db, FS: d.FS, Dir: s.path(blobDir), Chains: seal.NewChains(seal.ChainOptions{Rand: d.Rand, Now: d.Now}),
		Quota: int64(c.Proxy.MaxMailboxSize), MaxMessage: maxMail, MailAge: -1, LargeAge: -1, Now: d.Now, Rand: d.Rand, Logger: d.Logger})
	if err != nil {
		return err
	}
	s.opened = append(s.opened, s.boxes.Close)
	s.seen = seen.New(seen.Options{Store: s.db, Root: s.root, Days: seenDays, Now: d.Now, Logger: d.Logger})
	s.accounts, err = account.New(ctx, account.Options{Store: s.db, Root: s.root, Domains: s.domains(), MayCreate: s.noNewAccounts, OnCreate: s.boxes.Init,
		OnDelete: func(ctx context.Context, id seal.AccountID) error {
			return errors.Join(s.seen.Remove(ctx, id), s.boxes.Remove(ctx, id))
		},
		MinName: 1, MinPassword: 1, Params: d.Cost, InactiveDays: -1, Now: d.Now, Rand: d.Rand, Logger: d.Logger})
	if err != nil {
		return err
	}
	s.opened = append(s.opened, func() error { s.accounts.Close(); return nil })
	s.deliver = deliver.New(deliver.Options{Store: s.db, Boxes: s.boxes, Seen: s.seen, Accounts: s.accounts, Domain: hostname, Now: d.Now, Rand: d.Rand, Logger: d.Logger})
	s.access, err = access.New(access.Options{Accounts: s.accounts, Boxes: s.boxes, Guard: s.mayWrite, Logger: d.Logger})
	return err
}

const (
	// maxMail bounds a mail in a mailbox: what a letter may hold, and the fields that are put in front.
	maxMail = 33 << 20
	// seenDays is how long a letter that comes again is not delivered again.
	seenDays = 30
)

// noNewAccounts keeps logins from making accounts: they come from the configuration.
func (s *Server) noNewAccounts() error {
	return errs.E("role/proxy", errs.Denied, "", nil)
}

// domains are those of the accounts.
func (s *Server) domains() []string {
	out := []string{}
	for _, u := range s.users {
		out = append(out, u.Address.Domain)
	}
	if len(out) == 0 {
		out = append(out, "localhost")
	}
	return out
}

// hostname is what the proxy calls itself.
const hostname = "localhost"

// mayWrite is asked before a mail is taken.
func (s *Server) mayWrite() error {
	const op = "role/proxy.mayWrite"
	if err := s.db.Health(); err != nil {
		return errs.E(op, errs.Unavailable, "the disk failed; nothing is accepted until the proxy was restarted", err)
	}
	if least := int64(s.c.Proxy.MinFreeSpace); least > 0 {
		if v, err := s.d.System.DiskFree(); err == nil && v < least {
			return errs.E(op, errs.NoSpace, "insufficient system storage", nil)
		}
	}
	return nil
}

// Broken gives the error of a part that ended although nobody stopped it; the proxy should then be
// closed.
func (s *Server) Broken() <-chan error { return s.broken }

// Asked gives a value when somebody asked, over a socket, for the end of the proxy.
func (s *Server) Asked() <-chan struct{} { return s.asked }

// stop asks for the end.
func (s *Server) stop() {
	select {
	case s.asked <- struct{}{}:
	default:
	}
}

// Close stops the proxy: first the listeners, whose sessions get a grace, then the lines to
// relays, then the state. What was acknowledged is on the disk already.
func (s *Server) Close() error {
	s.closed.Do(func() {
		s.serve()
		s.serving.Wait()
		for _, p := range s.ports {
			if p.l != nil {
				p.l.Close()
			}
		}
		s.closeErr = s.shut()
	})
	return s.closeErr
}

// shut closes what lies under the listeners, what was opened last first.
func (s *Server) shut() error {
	s.work()
	s.working.Wait()
	var all []error
	for _, c := range slices.Backward(s.opened) {
		all = append(all, c())
	}
	s.opened = nil
	if err := errors.Join(all...); err != nil {
		return errs.E("role/proxy.Close", errs.KindOf(err), "", err)
	}
	return nil
}
