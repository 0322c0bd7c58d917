// Package relay puts a relay together: one disk, one store, accounts and
// mailboxes, the agents over them and the listeners in front. It holds no rule of
// mail of its own.
package relay

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"postern.email/agent/access"
	"postern.email/agent/deliver"
	"postern.email/agent/road"
	"postern.email/agent/submit"
	"postern.email/kit/daemon"
	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/kit/logs"
	"postern.email/kit/sysinfo"
	"postern.email/kit/vfs"
	"postern.email/mixnet/token"
	"postern.email/post/account"
	"postern.email/post/dkimkey"
	"postern.email/post/mailbox"
	"postern.email/post/nym"
	"postern.email/post/packetbox"
	"postern.email/post/policybook"
	"postern.email/post/queue"
	"postern.email/post/seal"
	"postern.email/post/seen"
	"postern.email/store"
	"postern.email/store/pebble"
	"postern.email/wire/certs"
	"postern.email/wire/dns"
	"postern.email/wire/mtasts"
)

// Deps is what a relay takes from its surroundings. The zero value is the machine
// itself; tests put in a crashable disk, a clock, a network.
type Deps struct {
	FS       vfs.FS
	Listen   func(network, addr string) (net.Listener, error)
	Dial     func(ctx context.Context, network, addr string) (net.Conn, error) // to other mail hosts and nodes of the mix network
	Now      func() time.Time
	Rand     io.Reader
	NewRSA   func() (*rsa.PrivateKey, error)   // keys that sign mail; nil: fresh ones of 2048 bits
	NewToken func() (*token.PrivateKey, error) // keys that sign tokens for exits of the mix network; nil: fresh ones
	Logger   *slog.Logger
	Level    *slog.LevelVar // what Reload sets log.level on; may be nil

	// Sockets are inherited listeners by name (imaps, https, …); those that the
	// configuration does not turn off are used in place of new ones.
	Sockets map[string]net.Listener
	// Keys are the opened keys of a predecessor (see Handover), or nil.
	Keys []byte
	// KeySource gives the node key; nil: as the configuration says.
	KeySource seal.Source
	// System tells load, memory and disk; nil: this machine's.
	System *sysinfo.Reader
	// ClientHost is the name that clients are told to connect to; empty: the domain.
	ClientHost string
	// CheckNames looks at the DNS records once after the start and says in the log what is
	// not in order.
	CheckNames bool
	// NoControl leaves the control socket out, for disks that have no sockets.
	NoControl bool
	// StopGrace is how long sessions may go on when the server stops; 0: 5 s.
	StopGrace time.Duration
}

func (d Deps) withDefaults(c Config) Deps {
	defaults.Zero(&d.FS, vfs.OS())
	if d.Listen == nil {
		d.Listen = net.Listen
	}
	defaults.Clock(&d.Now)
	defaults.Rand(&d.Rand)
	defaults.Logger(&d.Logger)
	if d.System == nil {
		d.System = &sysinfo.Reader{FS: d.FS, Dir: c.Dir}
	}
	return d
}

// Server is a running relay.
type Server struct {
	c       Config
	d       Deps
	started time.Time

	lock     io.Closer
	db       *pebble.DB
	root     *seal.Root
	certs    *certs.Certs
	names    *dns.Resolver
	chains   *seal.Chains
	accounts *account.Accounts
	boxes    *mailbox.Boxes
	seen     *seen.Seen
	packets  *packetbox.Boxes // there also where mixnet.enabled is off: what lies in them is not lost
	nyms     *nym.Stock       // as packets
	mix      *mixPart         // nil: in no mix network
	alias    aliasPart
	access   *access.Access
	submit   *submit.Submit
	deliver  *deliver.Deliver
	queue    *queue.Queue
	dkim     *dkimkey.Keys // nil: mail of this domain is not signed
	book     *policybook.Book
	policies *mtasts.Cache // nil: MTA-STS is off
	roads    *road.Roads
	out      *deliver.Out
	limits   shared

	ports   []*port
	handed  int // keys taken over from a predecessor
	failing atomic.Bool

	serve, work func()         // stop the listeners; stop the background work
	serving     sync.WaitGroup // listeners and control
	working     sync.WaitGroup // background work
	asked       chan Request   // what the control socket asks the process to do
	broken      chan error     // the first listener or worker that ended by itself
	closed      sync.Once
	closeErr    error
}

// Request is what an operator asked of the whole process.
type Request int

// Requests over the control socket.
const (
	RequestStop Request = iota + 1
	RequestRestart
)

// Names of what lies in the data directory.
const (
	storeDir = "store"
	blobDir  = "blobs"
	tlsDir   = "tls"
	rootFile = "root.key"
)

// Start opens everything and serves until Close. Errors say what to do:
// errs.Exists when another process holds the directory or a port.
func Start(ctx context.Context, d Deps, c Config) (*Server, error) {
	const op = "role/relay.Start"
	d, c = d.withDefaults(c), c.withLiteral()
	s := &Server{c: c, d: d, started: d.Now(), asked: make(chan Request, 1), broken: make(chan error, 1),
		serve: func() {}, work: func() {}}
	if err := s.open(ctx); err != nil {
		s.Close()
		return nil, errs.Wrap(op, err)
	}
	return s, nil
}

// open does the work of Start; Close undoes whatever part of it was done.
func (s *Server) open(ctx context.Context) error {
	const op = "role/relay.open"
	if err := vfs.MkdirAll(s.d.FS, s.c.Dir, 0o700); err != nil {
		return errs.E(op, errs.Unavailable, "cannot make the data directory "+s.c.Dir, err)
	}
	var err error
	if s.lock, err = daemon.Hold(s.d.FS, s.c.Dir, s.d.Now()); err != nil {
		return err
	}
	if err := s.openState(ctx); err != nil {
		return err
	}
	if err := s.openMix(); err != nil {
		return err
	}
	if err := s.openAgents(); err != nil {
		return err
	}
	if len(s.d.Keys) > 0 {
		// A restart loses nothing when this fails: sessions log in with their passwords.
		n, err := s.accounts.ImportKeys(ctx, bytes.NewReader(s.d.Keys))
		if err != nil {
			s.d.Logger.Warn("the opened keys of the predecessor cannot be used; users log in with their passwords", "err", err)
		}
		s.handed = n
		clear(s.d.Keys)
	}
	return s.listen()
}

// path names something in the data directory.
func (s *Server) path(name string) string { return s.d.FS.PathJoin(s.c.Dir, name) }

// KeySource gives where the configuration says that the node key comes from. ask
// gets a passphrase; it may be nil where there is nobody to ask.
func KeySource(fs vfs.FS, c Config, ask func(ctx context.Context, confirm bool) ([]byte, error)) seal.Source {
	switch c.NodeKey.Source {
	case "credential":
		return seal.CredentialSource{FS: fs, Dir: os.Getenv("CREDENTIALS_DIRECTORY")}
	case "passphrase":
		return seal.PassphraseSource{Ask: ask}
	}
	file := c.NodeKey.File
	if file == "" {
		file = fs.PathJoin(c.Dir, seal.DefaultKeyFile)
	}
	return seal.FileSource{FS: fs, Path: file}
}

// openState opens keys, store, accounts and mailboxes.
func (s *Server) openState(ctx context.Context) (err error) {
	if err = s.openNames(); err != nil {
		return err
	}
	c, d := &s.c, &s.d
	src := d.KeySource
	if src == nil {
		src = KeySource(d.FS, *c, nil)
	}
	if s.root, err = seal.OpenRoot(ctx, d.FS, s.path(rootFile), src, d.Rand); err != nil {
		return err
	}
	if err = s.openCerts(); err != nil {
		return err
	}
	po := pebble.Options{FS: d.FS, Dir: s.path(storeDir), Logger: d.Logger, Now: d.Now}
	s.db, err = pebble.Open(ctx, po)
	if errs.KindOf(err) == errs.NoSpace && s.dropBallast() {
		s.db, err = pebble.Open(ctx, po)
	}
	if err != nil {
		s.db = nil
		return err
	}
	s.chains = seal.NewChains(seal.ChainOptions{Rand: d.Rand, Now: d.Now})
	mo := mailboxOptions(*c)
	mo.Store, mo.FS, mo.Dir, mo.Chains = s.db, d.FS, s.path(blobDir), s.chains
	mo.Now, mo.Rand, mo.Logger = d.Now, d.Rand, d.Logger
	if s.boxes, err = mailbox.New(mo); err != nil {
		return err
	}
	s.seen = seen.New(seen.Options{Store: s.db, Root: s.root, Days: int(c.Exchange.Remember.Std() / day), Now: d.Now, Logger: d.Logger})
	ao := accountOptions(*c)
	ao.Store, ao.Root, ao.MayCreate = s.db, s.root, s.mayCreate
	ao.OnCreate = func(tx store.Tx, key *seal.Opened) error { return s.boxes.Init(tx, key) }
	ao.OnDelete = func(ctx context.Context, id seal.AccountID) error { return s.dropAll(ctx, id, false) }
	ao.OnReset = func(ctx context.Context, id seal.AccountID) error { return s.dropAll(ctx, id, true) }
	ao.Now, ao.Rand, ao.Logger = d.Now, d.Rand, d.Logger
	if s.accounts, err = account.New(ctx, ao); err != nil {
		return err
	}
	if err = s.openAliases(ctx); err != nil {
		return err
	}
	if err = s.openPackets(ctx); err != nil {
		return err
	}
	if err = s.openReplies(ctx); err != nil {
		return err
	}
	if err = s.openDKIM(ctx); err != nil {
		return err
	}
	s.openBook()
	return s.openQueue(ctx)
}

// dropAll removes all that is kept for an account beside its own records; reset: the account gets
// a new key and keeps its name.
func (s *Server) dropAll(ctx context.Context, id seal.AccountID, reset bool) error {
	if err := s.seen.Remove(ctx, id); err != nil {
		return err
	}
	if err := s.dropPackets(ctx, id); err != nil {
		return err
	}
	if err := s.dropAliases(ctx, id, reset); err != nil {
		return err
	}
	return s.boxes.Remove(ctx, id)
}

// openAgents builds the agents over the state.
func (s *Server) openAgents() (err error) {
	c, d := &s.c, &s.d
	var memory *seen.Seen
	if c.Exchange.Remember > 0 {
		memory = s.seen
	}
	s.deliver = deliver.New(deliver.Options{Store: s.db, Boxes: s.boxes, Seen: memory, Queue: s.queue, Accounts: s.accounts, Letters: s.seen, Proxies: s.proxies(), Replies: s.replies(), Aliases: s.aliasOwners(), Numbers: s.accounts, Returned: s.returned, Domain: c.Domain,
		Lifetime: c.Delivery.Lifetime.Std(), Sign: s.signer(), Now: d.Now, Rand: d.Rand, Logger: d.Logger})
	if err = s.openAliasAgents(); err != nil {
		return err
	}
	s.submit = submit.New(submit.Options{Accounts: submit.Register(s.accounts), Rooms: s.rooms(), Deliver: s.deliver, Replies: s.replies(),
		Aliases: s.alias.door, AliasNames: c.Aliases.SenderNames, AliasKeys: c.Aliases.SenderKeys, Remote: c.Delivery.Remote, Guard: s.mayWrite,
		PerMinute: c.Submission.MaxUserSendPerMinute, Burst: c.Submission.MaxUserSendBurst,
		NoSecureJoin: !c.Submission.SecureJoin, NoSetupMessage: !c.Submission.SetupMessage, Now: d.Now, Logger: d.Logger})
	s.access, err = access.New(access.Options{Accounts: s.accounts, Boxes: s.boxes, Server: s.metadata, Guard: s.mayWrite, Logger: d.Logger})
	if err != nil {
		return err
	}
	return s.openOut()
}

// Broken gives the error of a listener or worker that ended although nobody
// stopped it; the server should then be closed.
func (s *Server) Broken() <-chan error { return s.broken }

// Requests gives what the operator asks of the process over the control socket.
func (s *Server) Requests() <-chan Request { return s.asked }

// Reload takes over what may change while running: the log level and certificate
// files.
func (s *Server) Reload(c Config) error {
	if s.d.Level != nil {
		s.d.Level.Set(logs.Level(c.Log.Level))
	}
	return errs.Wrap("role/relay.Reload", s.certs.Refresh())
}

// Close stops the server: first the listeners, whose sessions get a grace, then
// the background work, then the state, innermost last. What was acknowledged is
// on the disk already; a killed server loses nothing either.
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

// shut closes what lies under the listeners.
func (s *Server) shut() error {
	s.work()
	s.working.Wait()
	var all []error
	all = append(all, s.mix.close())
	if s.accounts != nil {
		s.accounts.Close()
	}
	if s.roads != nil {
		s.roads.Close()
	}
	if s.queue != nil {
		all = append(all, s.queue.Close())
	}
	if s.boxes != nil {
		all = append(all, s.boxes.Close())
	}
	if s.db != nil {
		all = append(all, s.db.Close())
	}
	if s.lock != nil {
		all = append(all, s.lock.Close())
	}
	if err := errors.Join(all...); err != nil {
		return errs.E("role/relay.Close", errs.KindOf(err), "", err)
	}
	return nil
}

// Handover stops the server like Close, but gives copies of its sockets and its
// opened keys for the next process (daemon.Exec).
func (s *Server) Handover() (sockets map[string]*os.File, keys []byte, err error) {
	const op = "role/relay.Handover"
	sockets = make(map[string]*os.File)
	for _, p := range s.ports {
		if p.l == nil {
			continue
		}
		f, ferr := daemon.Socket(p.l)
		if ferr != nil {
			err = errors.Join(err, ferr)
			continue
		}
		sockets[p.name] = f
	}
	s.closed.Do(func() {
		s.serve()
		s.serving.Wait()
		var b bytes.Buffer
		if _, kerr := s.accounts.ExportKeys(&b); kerr == nil {
			keys = b.Bytes()
		} else {
			err = errors.Join(err, kerr)
		}
		s.closeErr = s.shut()
	})
	if err := errors.Join(err, s.closeErr); err != nil {
		return sockets, keys, errs.E(op, errs.KindOf(err), "", err)
	}
	return sockets, keys, nil
}

// State is a data directory that is opened without serving anything: for
// commands on a stopped relay.
type State struct{ s *Server }

// Open opens the state that a stopped relay left. errs.NotFound when there is
// none: it makes nothing.
func Open(ctx context.Context, d Deps, c Config) (*State, error) {
	const op = "role/relay.Open"
	d, c = d.withDefaults(c), c.withLiteral()
	if ok, err := vfs.Exists(d.FS, d.FS.PathJoin(c.Dir, rootFile)); err != nil || !ok {
		return nil, errs.E(op, errs.NotFound, "there is no relay's data in "+c.Dir, err)
	}
	s := &Server{c: c, d: d, started: d.Now(), serve: func() {}, work: func() {}}
	var err error
	if s.lock, err = daemon.Hold(d.FS, c.Dir, d.Now()); err == nil {
		err = s.openState(ctx)
	}
	if err != nil {
		s.Close()
		return nil, errs.Wrap(op, err)
	}
	return &State{s}, nil
}

// Check is Server.Check.
func (t *State) Check(ctx context.Context, report func(Finding)) error { return t.s.Check(ctx, report) }

// Reveal is Server.Reveal.
func (t *State) Reveal(ctx context.Context, emit func(Revealed)) error { return t.s.Reveal(ctx, emit) }

// Close gives the directory back.
func (t *State) Close() error { return t.s.Close() }

// MoveKey wraps the root key of a stopped relay with another node key.
func MoveKey(ctx context.Context, fs vfs.FS, c Config, from, to seal.Source) error {
	const op = "role/relay.MoveKey"
	path := fs.PathJoin(c.Dir, rootFile)
	if ok, err := vfs.Exists(fs, path); err != nil || !ok {
		return errs.E(op, errs.NotFound, "there is no relay's data in "+c.Dir, err)
	}
	lock, err := daemon.Hold(fs, c.Dir, time.Now())
	if err != nil {
		return errs.Wrap(op, err)
	}
	defer lock.Close()
	return errs.Wrap(op, seal.Rewrap(ctx, fs, path, from, to, rand.Reader))
}
