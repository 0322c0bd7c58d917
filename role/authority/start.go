package authority

import (
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"io"
	"log/slog"
	mrand "math/rand/v2"
	"net"
	"sync"
	"time"

	"postern.email/kit/daemon"
	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/kit/logs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/dircache"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/keys"
	"postern.email/mixnet/link"
	"postern.email/wire/control"
	"postern.email/wire/web"
)

// Deps is what an authority takes from its surroundings. The zero value is the machine
// itself; tests put in a crashable disk, a clock, a network.
type Deps struct {
	FS     vfs.FS
	Listen func(network, addr string) (net.Listener, error)
	Dial   func(ctx context.Context, addr string) (net.Conn, error) // to other authorities
	Now    func() time.Time
	Rand   io.Reader
	Chance func() float64 // 0 to less than 1, for times that should not fall together
	Logger *slog.Logger
	Level  *slog.LevelVar // what Reload sets log.level on; may be nil

	// Version of the program: 1 to 32 of a-z, 0-9, dot and hyphen. Empty: postern.
	Version string

	// Sockets are inherited listeners by name (link, http), used in place of new ones.
	Sockets map[string]net.Listener
	// Passphrase gives the passphrase of the identity key; nil: the key is not sealed.
	Passphrase func(fresh bool) ([]byte, error) // fresh: a new one, so ask twice
	// Paranoia: private files that others may read are refused.
	Paranoia bool
	// NoControl leaves the control socket out, for disks that have no sockets.
	NoControl bool
}

func (d Deps) withDefaults() Deps {
	defaults.Zero(&d.FS, vfs.OS())
	if d.Listen == nil {
		d.Listen = net.Listen
	}
	defaults.Clock(&d.Now)
	defaults.Rand(&d.Rand)
	if d.Chance == nil {
		d.Chance = mrand.Float64
	}
	defaults.Zero(&d.Version, "postern")
	defaults.Logger(&d.Logger)
	return d
}

// Server is a running authority.
type Server struct {
	c       Config
	d       Deps
	started time.Time

	lock       io.Closer
	net        *directory.Network
	core       *core
	cache      *dircache.Cache
	link       *link.Link
	pullers    []*puller
	publishing *limits.GCRA

	ports   []*port
	stop    func()         // ends what runs
	running sync.WaitGroup // listeners, pullers, the clock
	asked   chan struct{}  // the control socket asks for the end
	broken  chan error
	closed  sync.Once
	err     error
}

// port is one listener.
type port struct {
	name string // as in the configuration
	addr string
	l    net.Listener
	run  func(context.Context, net.Listener) error
}

// Start opens everything and serves until Close. Its errors say what to do: errs.Exists when
// another process holds the directory or a port, errs.NotFound when there are no keys or no
// network file yet (Init makes them), errs.Denied when the network file does not name this
// authority.
func Start(ctx context.Context, c Config, d Deps) (*Server, error) {
	const op = "role/authority.Start"
	d = d.withDefaults()
	s := &Server{c: c, d: d, started: d.Now(), stop: func() {}, asked: make(chan struct{}, 1), broken: make(chan error, 1)}
	if err := s.open(ctx); err != nil {
		s.Close()
		return nil, errs.Wrap(op, err)
	}
	return s, nil
}

// open does the work of Start; Close undoes whatever part of it was done.
func (s *Server) open(ctx context.Context) error {
	const op = "role/authority.open"
	c, d := &s.c, &s.d
	var err error
	if s.net, err = LoadNetwork(d.FS, c.Network); err != nil {
		return err
	}
	if ok, err := vfs.Exists(d.FS, d.FS.PathJoin(c.Dir, keyDir)); err != nil || !ok {
		return errs.E(op, errs.NotFound, "there are no keys of an authority in "+c.Dir, err)
	}
	if s.lock, err = daemon.Hold(d.FS, c.Dir, d.Now()); err != nil {
		return err
	}
	k, err := openKeys(*c, *d, false)
	if err != nil {
		return err
	}
	if err := s.belongs(k); err != nil {
		return err
	}
	secret, err := randomSecret(k)
	if err != nil {
		return err
	}
	params, err := c.parameters()
	if err != nil {
		return err
	}
	s.cache, err = dircache.Open(dircache.Options{FS: d.FS, Dir: d.FS.PathJoin(c.Dir, cacheDir), Network: s.net, Now: d.Now, Chance: d.Chance, Log: d.Logger})
	if err != nil {
		return err
	}
	s.core, err = openCore(coreOptions{disk: disk{d.FS, c.Dir}, net: s.net, signer: k.Identity(), secret: secret, params: params,
		keep: c.Keep.Consensuses, give: s.give, now: d.Now, log: d.Logger})
	if err != nil {
		return err
	}
	s.publishing = publishLimit(*c, *d)
	if err := s.openLinks(k); err != nil {
		return err
	}
	return s.listen(ctx)
}

// give puts a consensus where it is given out from.
func (s *Server) give(p *directory.Consensus) {
	if err := s.cache.Put(p.Bytes()); err != nil && errs.KindOf(err) != errs.Unavailable { // too old to be used
		s.d.Logger.Warn("a consensus is not given out", "epoch", p.Epoch, "err", err)
	}
}

// LoadNetwork reads a network file. errs.NotFound, with the path in the public text, when
// there is none; else the errors of directory.ParseNetwork.
func LoadNetwork(fs vfs.FS, path string) (*directory.Network, error) {
	const op = "role/authority.LoadNetwork"
	b, err := vfs.ReadFile(fs, path)
	if err != nil {
		return nil, errs.E(op, errs.KindOf(err), "cannot read the network file "+path, err)
	}
	n, err := directory.ParseNetwork(b)
	if err != nil {
		return nil, errs.E(op, errs.KindOf(err), "the network file "+path+" cannot be used: "+errs.Public(err), err)
	}
	return n, nil
}

// openKeys opens the keys of an authority, or makes them.
func openKeys(c Config, d Deps, create bool) (*keys.Keys, error) {
	o := keys.Options{FS: d.FS, Dir: d.FS.PathJoin(c.Dir, keyDir), Passphrase: d.Passphrase, Paranoia: d.Paranoia, Rand: d.Rand, Now: d.Now, Log: d.Logger}
	if create {
		return keys.Create(o)
	}
	return keys.Open(o)
}

// randomSecret is what the authority's part of the shared random values follows from
// (directory.NewValue).
func randomSecret(k *keys.Keys) (secret [32]byte, err error) {
	b, err := hkdf.Key(sha256.New, k.LogSecret(), nil, "postern/authority random values", len(secret))
	if err != nil {
		return secret, errs.E("role/authority.randomSecret", errs.Internal, "", err)
	}
	copy(secret[:], b)
	clear(b)
	return secret, nil
}

// contact is what the network file must say of this authority.
func contact(k *keys.Keys, addresses []string) (directory.Contact, error) {
	key, err := link.KeyOf(k.Link().Public().(ed25519.PublicKey))
	if err != nil {
		return directory.Contact{}, err
	}
	pub := k.Identity().Public()
	return directory.Contact{ID: pub.ID(), Key: pub, LinkKey: directory.Hash(key), Addresses: addresses}, nil
}

// belongs looks whether the network file names this authority.
func (s *Server) belongs(k *keys.Keys) error {
	const op = "role/authority.belongs"
	own, err := contact(k, nil)
	if err != nil {
		return err
	}
	for _, c := range s.net.Contacts() {
		switch {
		case c.ID != own.ID:
		case c.LinkKey != own.LinkKey:
			return errs.E(op, errs.Denied, "the network file names another link key for this authority than the one in "+s.c.Dir, nil)
		default:
			return nil
		}
	}
	return errs.E(op, errs.Denied, "the network file "+s.c.Network+" does not name this authority", nil)
}

// openLinks makes the link, and a line to each other authority.
func (s *Server) openLinks(k *keys.Keys) (err error) {
	c, d := &s.c, &s.d
	s.link, err = link.New(link.Options{Key: k.Link(), Who: s.who, Handler: refuseUnits{}, Documents: s.answer,
		Conns: c.Connections.Link, ConnsPerNetwork: c.Connections.LinkPerNetwork, Handshakes: c.Connections.Handshakes, HandshakeBurst: (c.Connections.Handshakes + 1) / 2,
		MinPause: min(link.DefaultMinPause, s.core.beat()), MaxPause: min(link.DefaultMaxPause, 2*s.core.beat()),
		MaxDocument: directory.MaxProof, Dial: d.Dial, Chance: d.Chance, Now: d.Now, Logger: d.Logger})
	if err != nil {
		return err
	}
	for _, o := range s.net.Contacts() {
		if o.ID == s.core.self {
			continue
		}
		line, err := s.link.Line(link.LineOptions{Peer: link.Peer{Key: link.Key(o.LinkKey), Role: link.Authority}, Addresses: func() []string { return o.Addresses }})
		if err != nil {
			return err
		}
		s.pullers = append(s.pullers, &puller{s: s, id: o.ID, line: line})
	}
	return nil
}

// listen takes all sockets first, so that a port in use stops the start before anything is
// served, then serves them.
func (s *Server) listen(context.Context) error {
	c := &s.c
	s.ports = []*port{
		{name: "link", addr: c.Listen.Link, run: s.link.Serve},
		{name: "http", addr: c.Listen.HTTP, run: func(ctx context.Context, l net.Listener) error {
			return web.ServePlain(ctx, l, web.ServeOptions{Handler: s.pages(), Conns: limits.NewConns(c.Connections.HTTP, c.Connections.HTTPPerNetwork)})
		}},
	}
	for _, p := range s.ports {
		if p.addr == "off" {
			continue
		}
		if p.l = s.d.Sockets[p.name]; p.l == nil {
			var err error
			if p.l, err = daemon.Bind(s.d.Listen, p.addr, "listen."+p.name); err != nil {
				return err
			}
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.core.tick()
	s.running.Go(s.supervise(ctx, "clock", s.runClock))
	for _, p := range s.pullers {
		s.running.Go(s.supervise(ctx, "puller", p.run))
	}
	for _, p := range s.ports {
		if p.l != nil {
			s.running.Go(s.supervise(ctx, p.name, func(ctx context.Context) error { return p.run(ctx, p.l) }))
		}
	}
	if s.d.NoControl {
		return nil
	}
	l, err := control.Listen(c.Dir)
	if err != nil {
		return err
	}
	s.running.Go(s.supervise(ctx, "control", func(ctx context.Context) error { return control.Serve(ctx, l, s.commands()) }))
	return nil
}

// maxWait bounds a sleep of the clock, so that a clock that was set is noticed.
const maxWait = 30 * time.Second

// runClock does what is due when it is due.
func (s *Server) runClock(ctx context.Context) error {
	for {
		wait := min(s.core.tick().Sub(s.d.Now()), maxWait)
		t := time.NewTimer(max(wait, time.Millisecond))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil
		}
	}
}

// supervise runs a part until the server closes; one that ends by itself is reported on
// Broken.
func (s *Server) supervise(ctx context.Context, name string, fn func(context.Context) error) func() {
	return daemon.Part(ctx, s.d.Logger, "authority", name, s.broken, fn)
}

// Broken gives the error of a part that ended although nobody stopped it; the server should
// then be closed.
func (s *Server) Broken() <-chan error { return s.broken }

// Requests gives a value when the operator asks for the end over the control socket.
func (s *Server) Requests() <-chan struct{} { return s.asked }

// Reload takes over what may change while running: the log level, and what is voted for.
func (s *Server) Reload(c Config) error {
	p, err := c.parameters()
	if err != nil {
		return errs.Wrap("role/authority.Reload", err)
	}
	s.core.setParameters(p)
	if s.d.Level != nil {
		s.d.Level.Set(logs.Level(c.Log.Level))
	}
	return nil
}

// Close stops the server. What was given out is on the disk already; a killed one loses
// nothing either.
func (s *Server) Close() error {
	s.closed.Do(func() {
		s.stop()
		s.running.Wait()
		for _, p := range s.ports {
			if p.l != nil {
				p.l.Close()
			}
		}
		if s.lock != nil {
			s.err = s.lock.Close()
		}
	})
	return s.err
}

// Info tells where a running authority is reached, and who it is.
type Info struct {
	Ready       bool   `json:"ready"`
	Network     string `json:"network"`
	Authority   string `json:"authority"` // its ID
	Authorities int    `json:"authorities"`
	Threshold   int    `json:"threshold"`
	Period      string `json:"period"`
	Dir         string `json:"dir"`
	Link        string `json:"link,omitempty"`
	LinkKey     string `json:"link_key"`
	HTTP        string `json:"http,omitempty"`
}

// Info tells where the authority is reached.
func (s *Server) Info() Info {
	i := Info{Ready: true, Network: s.net.Name(), Authority: idText(s.core.self), Authorities: len(s.net.Authorities()), Threshold: s.net.Threshold(),
		Period: s.net.Period().String(), Dir: s.c.Dir, LinkKey: s.link.Key().String()}
	for _, p := range s.ports {
		if p.l == nil {
			continue
		}
		switch p.name {
		case "link":
			i.Link = p.l.Addr().String()
		case "http":
			i.HTTP = p.l.Addr().String()
		}
	}
	return i
}
