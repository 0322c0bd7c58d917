package alias

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"postern.email/agent/aliases"
	"postern.email/kit/daemon"
	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/kit/postmap"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mail/aliasname"
	"postern.email/post/alias"
	"postern.email/post/names"
	"postern.email/post/seal"
	"postern.email/store/pebble"
	"postern.email/wire/certs"
)

// Deps is what a server takes from its surroundings. The zero value is the machine itself.
type Deps struct {
	FS      vfs.FS // of what is kept; IncognitoMail's database, lock, socket and map are on the machine's own disk
	Listen  func(network, addr string) (net.Listener, error)
	Now     func() time.Time
	Rand    io.Reader
	Logger  *slog.Logger
	Postfix *postmap.Postfix // nil: the one of the machine, as the configuration says
	Version string           // of the program
	Grace   time.Duration    // how long requests may go on when the server stops; 0: 5 s
}

// StopTime bounds an orderly stop (IM-16).
const StopTime = 10 * time.Second

func (d Deps) withDefaults(c *Config) Deps {
	defaults.Zero(&d.FS, vfs.OS())
	if d.Listen == nil {
		d.Listen = net.Listen
	}
	defaults.Clock(&d.Now)
	defaults.Rand(&d.Rand)
	defaults.Logger(&d.Logger)
	if d.Postfix == nil {
		d.Postfix = &postmap.Postfix{ConfigDir: c.Postern.PostfixDir}
	}
	defaults.Zero(&d.Version, "unknown")
	if d.Grace <= 0 {
		d.Grace = StopTime / 2
	}
	return d
}

// Server is a running alias server.
type Server struct {
	c       Config
	d       Deps
	domains []string
	started time.Time

	opened  []func() error // ends of what was opened
	db      *pebble.DB
	names   *names.Names
	aliases *alias.Aliases
	desk    *aliases.Desk
	keeper  *keeper
	certs   *certs.Certs // nil: HTTP without TLS
	http    net.Listener // nil: there is none

	serve, work      func()
	serving, working sync.WaitGroup
	asked            chan struct{}
	broken           chan error
	closed           sync.Once
	closeErr         error
}

// Names of what lies in StateDir, beside importFile.
const (
	storeDir = "store"
	rootFile = "root.key"
)

// Start opens everything and runs until Close. Errors say what to do: errs.Exists, at once, when
// another server runs or the port is taken (IM-64: nothing is opened before the lock is held), errs.Denied and
// errs.NotFound when the map cannot be kept (IM-54), errs.Corrupt, errs.Auth of the key.
func Start(ctx context.Context, d Deps, c Config) (*Server, error) {
	const op = "role/alias.Start"
	if err := c.Check(); err != nil {
		return nil, errs.Wrap(op, err)
	}
	d = d.withDefaults(&c)
	s := &Server{c: c, d: d, started: d.Now(), asked: make(chan struct{}, 1), broken: make(chan error, 1), serve: func() {}, work: func() {}}
	if err := s.open(ctx); err != nil {
		s.Close()
		return nil, errs.Wrap(op, err)
	}
	return s, nil
}

// open does the work of Start; Close undoes whatever part of it was done.
func (s *Server) open(ctx context.Context) (err error) {
	if s.domains, err = s.c.Domains(); err != nil {
		return err
	}
	if err := s.hold(); err != nil {
		return err
	}
	table, err := s.openMap(ctx)
	if err != nil {
		return err
	}
	if err := s.openState(ctx, table); err != nil {
		return err
	}
	if err := s.importOld(ctx); err != nil {
		return err
	}
	return s.listen(ctx)
}

// path names something in StateDir.
func (s *Server) path(name string) string { return s.d.FS.PathJoin(s.c.Postern.StateDir, name) }

// hold takes the locks: that of the configuration first, then that of the state, which another
// configuration may name, too.
func (s *Server) hold() error {
	lock, err := daemon.HoldLockFile(s.c.General.LockFilePath)
	if err != nil {
		return err
	}
	s.opened = append(s.opened, lock.Close)
	if err := vfs.MkdirAll(s.d.FS, s.c.Postern.StateDir, 0o700); err != nil {
		return errs.E("role/alias.hold", errs.KindOf(err), "cannot make the directory "+s.c.Postern.StateDir, err)
	}
	if lock, err = daemon.Hold(s.d.FS, s.c.Postern.StateDir, s.d.Now()); err != nil {
		return err
	}
	s.opened = append(s.opened, lock.Close)
	return nil
}

// openMap makes sure that the map can be kept before anything is promised (IM-54).
func (s *Server) openMap(ctx context.Context) (*postmap.Table, error) {
	typ, err := mapType(ctx, &s.c, *s.d.Postfix)
	if err != nil {
		return nil, err
	}
	if _, err := s.d.Postfix.Program("postmap"); err != nil {
		return nil, err
	}
	table, err := postmap.New(postmap.Options{Path: s.c.PostfixConfig.MapFilePath, Type: typ, Compile: s.d.Postfix.Compile})
	if err != nil {
		return nil, err
	}
	if known, err := s.d.Postfix.Knows(ctx, typ); err == nil && !known {
		return nil, errs.E("role/alias.openMap", errs.Unsupported, fmt.Sprintf(textNoType, typ), nil)
	}
	if err := table.Writable(); err != nil {
		return nil, err
	}
	return table, nil
}

// openState opens key, store and aliases.
func (s *Server) openState(ctx context.Context, table *postmap.Table) error {
	c, d := &s.c, &s.d
	root, err := seal.OpenRoot(ctx, d.FS, s.path(rootFile), seal.FileSource{FS: d.FS, Path: c.Postern.KeyFile}, d.Rand)
	if err != nil {
		return err
	}
	if s.db, err = pebble.Open(ctx, pebble.Options{FS: d.FS, Dir: s.path(storeDir), Logger: d.Logger, Now: d.Now}); err != nil {
		return err
	}
	s.opened = append(s.opened, s.db.Close)
	s.keeper = newKeeper(table, s.lines, d.Now, d.Logger)
	s.names = names.New(s.db, root)
	s.aliases, err = alias.Open(ctx, alias.Options{Store: s.db, Root: root, Names: s.names, Domains: s.domains, MaxPerOwner: c.Postern.MaxHandles, TargetsHere: true,
		Deleted: s.keeper.Touch, Now: d.Now, Rand: d.Rand, Logger: d.Logger})
	if err != nil {
		return err
	}
	s.desk, err = aliases.New(aliases.Options{Aliases: s.aliases, Domains: s.domains, Style: aliasname.Style(c.Postern.HandleStyle), Cleartext: true, Elsewhere: true,
		Beside: &aliases.Beside{Custom: c.Postern.CustomHandles, Taken: s.taken}, MaxPerOwner: c.Postern.MaxHandles, Map: s.follow, CheckTarget: s.checkTarget, Base: s.link,
		Now: d.Now, Rand: d.Rand, Logger: d.Logger})
	return err
}

// taken tells whether a line of others in the map has an address.
func (s *Server) taken(_ context.Context, addr mail.Address) (bool, error) {
	line, err := s.keeper.table.Foreign(addr.Canonical().String())
	return line > 0, err
}

// checkTarget refuses an address that cannot stand in the map, and, where owners choose handles, one in a domain of
// aliases: somebody could choose it as a handle.
func (s *Server) checkTarget(_ context.Context, target mail.Address) error {
	const op = "role/alias.checkTarget"
	switch {
	case !postmap.Word(target.String()):
		return errs.E(op, errs.Invalid, "this address cannot stand in a map of Postfix", nil)
	case s.c.Postern.CustomHandles && s.aliases.Ours(target):
		return errs.E(op, errs.Denied, "with CustomHandles the domains of aliases hold no mailboxes: mail cannot go there", nil)
	}
	return nil
}

// follow has the map follow a change, for who made it.
func (s *Server) follow(ctx context.Context) error {
	_, err := s.keeper.Sync(ctx)
	return err
}

// lines are what the map should hold: the aliases whose mail goes somewhere.
func (s *Server) lines(ctx context.Context) (lines []postmap.Line, next time.Time, err error) {
	now := s.d.Now()
	err = s.aliases.Redirects(ctx, func(r alias.Redirect) error {
		if v := r.Alias.Judge(mail.Address{}, now); v.Action == alias.Paused || v.Action == alias.Expired {
			return nil
		}
		if e := r.Alias.Expires; !e.IsZero() && (next.IsZero() || e.Before(next)) {
			next = e
		}
		lines = append(lines, postmap.Line{Key: r.Alias.Address.String(), Value: r.Target.String()})
		return nil
	})
	return lines, next, err
}

// Touch has the map looked at soon.
func (s *Server) Touch() { s.keeper.Touch() }

// Broken gives the error of a part that ended although nobody stopped it; the server should then
// be closed.
func (s *Server) Broken() <-chan error { return s.broken }

// Asked gives a value when somebody asked, over the socket, for the end of the server.
func (s *Server) Asked() <-chan struct{} { return s.asked }

func (s *Server) stop() {
	select {
	case s.asked <- struct{}{}:
	default:
	}
}

// Close stops the server: first the listeners, whose requests get a grace, then the map's keeper, then the state.
// What was acknowledged is on the disk already, and in the map, or in it after the next start.
func (s *Server) Close() error {
	s.closed.Do(func() {
		s.serve()
		s.serving.Wait()
		if s.http != nil {
			s.http.Close()
		}
		s.work()
		s.working.Wait()
		var all []error
		for _, c := range slices.Backward(s.opened) {
			all = append(all, c())
		}
		if err := errors.Join(all...); err != nil {
			s.closeErr = errs.E("role/alias.Close", errs.KindOf(err), "", err)
		}
	})
	return s.closeErr
}
