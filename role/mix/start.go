package mix

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"postern.email/kit/daemon"
	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/kit/sysinfo"
	"postern.email/kit/vfs"
	"postern.email/mixnet/dircache"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/keys"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/link"
	"postern.email/mixnet/node"
	"postern.email/mixnet/pool"
	"postern.email/mixnet/stats"
)

// Deps is what a node takes from its surroundings. The zero value is the machine itself; tests
// put in a crashable disk, a clock, a network.
type Deps struct {
	FS     vfs.FS
	Listen func(network, addr string) (net.Listener, error)
	Dial   func(ctx context.Context, addr string) (net.Conn, error) // to other nodes
	HTTP   *http.Client                                             // for directory.urls; nil: one that heeds http_proxy and HTTPS_PROXY
	Now    func() time.Time
	Rand   io.Reader
	Chance func() float64
	Logger *slog.Logger
	Level  *slog.LevelVar // what Reload sets log.level on; may be nil
	Log    *Logbook       // what Reload opens anew; may be nil
	Echo   io.Writer      // standard error, where log.echo says so; may be nil
	// Passphrase gives the passphrase of keys.encrypt; fresh: a new one is chosen, ask twice.
	Passphrase func(fresh bool) ([]byte, error)
	System     *sysinfo.Reader // nil: this machine's
	Version    string          // of the program, for the descriptor
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
	defaults.Logger(&d.Logger)
	if d.HTTP == nil {
		d.HTTP = &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment}, Timeout: httpTime}
	}
	if d.System == nil {
		d.System = &sysinfo.Reader{FS: d.FS}
	}
	defaults.Zero(&d.Version, "unknown")
	return d
}

// httpTime bounds the fetching of one directory over HTTP.
const httpTime = 5 * time.Minute

// Server is a running node.
type Server struct {
	d       Deps
	started time.Time

	lock    io.Closer
	network *directory.Network
	keys    *keys.Keys
	stats   *stats.Stats // nil: nothing is counted
	cache   *dircache.Cache
	ends    ends
	losses  *losses      // nil: none is lost on purpose
	options node.Options // that node was made with
	node    *node.Node

	listeners []net.Listener
	control   net.Listener

	mu      sync.Mutex
	applied node.Settings // what the node was told last
	c       Config
	reread  func() (Config, error) // for a reload over the control socket; nil: none

	cancel  context.CancelFunc
	running sync.WaitGroup
	broken  chan error
	closed  sync.Once
	failed  error
}

// Start opens everything and runs the node until Close. reread reads the configuration again
// for a reload that is asked for over the control socket; nil: that is refused. Errors say what
// to do: errs.Exists when another process holds the directory or a port.
func Start(ctx context.Context, c Config, d Deps, reread func() (Config, error)) (*Server, error) {
	const op = "role/mix.Start"
	d = d.withDefaults()
	s := &Server{c: c, d: d, started: d.Now(), reread: reread, broken: make(chan error, 1), cancel: func() {}}
	if err := s.open(ctx); err != nil {
		s.Close()
		return nil, errs.Wrap(op, err)
	}
	return s, nil
}

// open does the work of Start; Close undoes whatever part of it was done.
func (s *Server) open(ctx context.Context) error {
	if err := s.openDirectories(); err != nil {
		return err
	}
	if err := s.openState(ctx); err != nil {
		return err
	}
	if err := s.listen(); err != nil {
		return err
	}
	if err := s.openNode(); err != nil {
		return err
	}
	if err := s.run(); err != nil {
		return err
	}
	select {
	case <-s.node.Described(): // current-desc names it from now on
		return nil
	case err := <-s.broken:
		return err
	case <-ctx.Done():
		return errs.E("role/mix.open", errs.Canceled, "", ctx.Err())
	}
}

// openDirectories makes the places of what is kept, looks at their rights and their version,
// and reads the network file.
func (s *Server) openDirectories() (err error) {
	const op = "role/mix.open"
	fs, c := s.d.FS, &s.c
	if err := vfs.MkdirAll(fs, c.Server.BaseDir, 0o700); err != nil {
		return errs.E(op, errs.KindOf(err), "cannot make the directory "+c.Server.BaseDir, err)
	}
	if c.Host.FileParanoia {
		trusted, err := c.trusted()
		if err == nil {
			err = vfs.CheckPrivateDir(fs, c.Server.BaseDir, "the directory server.base_dir", trusted)
		}
		if err != nil {
			return err
		}
	}
	if s.lock, err = daemon.Hold(fs, c.Server.BaseDir, s.d.Now()); err != nil {
		return err
	}
	if err := checkVersion(fs, *c); err != nil {
		return err
	}
	for _, dir := range []string{c.workDir(), c.queueDir()} {
		if err := vfs.MkdirAll(fs, dir, 0o700); err != nil {
			return errs.E(op, errs.KindOf(err), "cannot make the directory "+dir, err)
		}
	}
	s.network, err = ReadNetwork(fs, *c)
	if err == nil {
		err = c.fits(s.network.Period())
	}
	return err
}

// ReadNetwork reads the network file of the configuration. errs.NotFound where there is none.
func ReadNetwork(fs vfs.FS, c Config) (*directory.Network, error) {
	const op = "role/mix.ReadNetwork"
	text, err := vfs.ReadFile(fs, c.NetworkFile())
	switch {
	case errs.KindOf(err) == errs.NotFound:
		return nil, errs.E(op, errs.NotFound, "there is no network file "+c.NetworkFile(), err)
	case err != nil:
		return nil, errs.E(op, errs.KindOf(err), "cannot read the network file "+c.NetworkFile(), err)
	}
	n, err := directory.ParseNetwork(text)
	if err != nil {
		return nil, errs.E(op, errs.KindOf(err), c.NetworkFile()+": "+errs.Public(err), err)
	}
	return n, nil
}

// keyOptions are the options of the node's keys. period is that of the network, whose hours
// are shorter in tests.
func (c Config) keyOptions(d Deps, period time.Duration) (keys.Options, error) {
	o := keys.Options{FS: d.FS, Dir: c.keyDir(), CurrentDesc: c.currentDesc(), Rand: d.Rand, Now: d.Now, Log: d.Logger,
		Lifetime: c.Keys.Lifetime.Std(), Overlap: c.Keys.Overlap.Std(), Every: c.Keys.Rotation.Std(),
		Ahead: min(keys.DefaultAhead, 24*period), Skew: min(directory.MaxSkew, period),
		SealAll: c.Keys.EncryptAll, Paranoia: c.Host.FileParanoia,
		Letters: c.mode().Has(directory.Mailbox) || c.mode().Has(directory.Exit)}
	var err error
	if c.Keys.Encrypt {
		o.Passphrase = d.Passphrase
		if o.Passphrase == nil {
			err = errs.E("role/mix.keyOptions", errs.Auth, "keys.encrypt is on, and there is nobody to ask for the passphrase", nil)
		}
	}
	if err == nil && o.Paranoia {
		o.Trusted, err = c.trusted()
	}
	return o, err
}

// openState opens keys, counts, directory and what the ends need.
func (s *Server) openState(ctx context.Context) (err error) {
	c, d := &s.c, &s.d
	o, err := c.keyOptions(*d, s.network.Period())
	if err != nil {
		return err
	}
	if s.keys, err = keys.Create(o); err != nil {
		return err
	}
	if c.Server.Stats {
		s.stats, err = stats.Open(stats.Options{FS: d.FS, Cache: c.statsTmp(), File: c.path(c.Server.StatsFile), Interval: c.Server.StatsInterval.Std(),
			Now: d.Now, Log: d.Logger})
		if err != nil {
			return err
		}
	}
	web, err := c.webSources(d.HTTP)
	if err != nil {
		return err
	}
	s.cache, err = dircache.Open(dircache.Options{FS: d.FS, Dir: c.directoryDir(), Network: s.network, Early: true, Now: d.Now, Chance: d.Chance, Log: d.Logger,
		Sources: func() []dircache.Source {
			if s.node == nil {
				return web
			}
			return slices.Concat(web, s.node.Sources()) // who names a web server wants it asked
		},
		Changed: func(*directory.Consensus) {
			if s.node != nil {
				s.node.Renew()
			}
		},
		Warn: func(w directory.Warning) {
			d.Logger.Warn("the directory of the network has a flaw", "flaw", w.String())
		},
		Proof: func(*directory.Proof) {
			d.Logger.Error("an authority broke a rule of the network; the proof is kept in work_dir")
		},
	})
	if err != nil {
		return err
	}
	return s.ends.open(ctx, s)
}

// webSources are the URLs of the configuration as sources of the directory.
func (c Config) webSources(client *http.Client) (all []dircache.Source, err error) {
	for _, u := range c.Directory.URLs {
		src, err := dircache.HTTP(client, u)
		if err != nil {
			return nil, err
		}
		all = append(all, src)
	}
	return all, nil
}

// listen opens the ports.
func (s *Server) listen() error {
	for _, addr := range s.c.Incoming.Listen {
		l, err := daemon.Bind(s.d.Listen, addr, "incoming.listen")
		if err != nil {
			return err
		}
		s.listeners = append(s.listeners, l)
	}
	return nil
}

// openNode puts the node together.
func (s *Server) openNode() (err error) {
	c, d := &s.c, &s.d
	settings, err := s.settings(*c)
	if err != nil {
		return err
	}
	o := node.Options{FS: d.FS, Dir: c.packetDir(), Keys: s.keys, Network: s.network, Cache: s.cache, Settings: settings,
		Pool: pool.Options{Memory: int64(c.Mixing.Memory)},
		Link: link.Options{Idle: c.Server.Timeout.Std()},
		Dial: d.Dial, Rand: d.Rand, Chance: d.Chance, Now: d.Now, Logger: d.Logger}
	if s.stats != nil {
		o.Stats = s.stats
	}
	if c.Experiment.Lose > 0 {
		if s.losses, err = openLosses(d.FS, c.lostFile(), c.Experiment.Lose/100, d.Chance); err != nil {
			return err
		}
		d.Logger.Warn("packets are lost on purpose (experiment.lose)", "percent", c.Experiment.Lose)
		o.Lose = s.losses.lose
	}
	s.ends.options(&o)
	s.options, s.applied = o, settings
	s.node, err = node.New(o)
	return err
}

// settings is what the node may be told while it runs.
func (s *Server) settings(c Config) (node.Settings, error) {
	addresses, err := s.addresses(c)
	if err != nil {
		return node.Settings{}, err
	}
	offers, err := s.ends.advertised(s, c)
	if err != nil {
		return node.Settings{}, err
	}
	out := node.Settings{
		About: directory.Node{Nickname: c.Nickname, Mode: c.mode(), Addresses: addresses, Family: c.Family, Version: s.d.Version,
			Parameters: offers},
		Operator: directory.Operator{Contact: c.ContactEmail, Fingerprint: words(c.ContactFingerprint), Comments: words(c.Comments)},
		Mixing:   c.pool(), Retry: c.retries(), Publish: c.Directory.Publish,
		PeerOk: admits(c.Incoming.Allow, c.Incoming.Deny), DialOk: admits(c.Outgoing.Allow, c.Outgoing.Deny),
		Conns:     c.Server.Connections,
		Bandwidth: node.Bandwidth{Rate: int64(c.Server.MaxBandwidth), Spike: int64(c.Server.MaxBandwidthSpike)},
	}
	s.addExtra(c, &out)
	if c.Directory.Layer > 0 {
		out.About.Parameters = append(out.About.Parameters, directory.Parameter{Name: directory.LayerParameter, Value: uint64(c.Directory.Layer)})
	}
	if !c.mode().Has(directory.Mix) {
		// A bare end gives out no names, so its identity stands in for the key of names.
		out.About.NameKey = s.keys.Identity().Public()
	}
	if seed := s.keys.Letter(); seed != nil {
		key, err := letter.NewPrivateKey(seed)
		clear(seed)
		if err != nil {
			return node.Settings{}, err
		}
		out.About.LetterKey = key.Public().Bytes()
	}
	return out, nil
}

// words gives a text with one space between its words, as the directory writes it.
func words(s string) string { return strings.Join(strings.Fields(s), " ") }

// addresses are those under which others reach the node: those of the configuration, else those
// that it listens on, with the public ones of the machine for one that stands for all.
func (s *Server) addresses(c Config) ([]string, error) {
	if len(c.Incoming.Addresses) > 0 {
		return c.Incoming.Addresses, nil
	}
	var all []string
	for _, l := range s.listeners {
		at, err := netip.ParseAddrPort(l.Addr().String())
		if err != nil {
			continue
		}
		if !at.Addr().IsUnspecified() {
			all = append(all, netip.AddrPortFrom(at.Addr().Unmap(), at.Port()).String())
			continue
		}
		public, err := s.d.System.PublicAddresses()
		if err != nil {
			return nil, err
		}
		for _, a := range public {
			all = append(all, netip.AddrPortFrom(a, at.Port()).String())
		}
	}
	if len(all) == 0 {
		return nil, errs.E("role/mix.addresses", errs.Invalid, "this machine has no public address: say in incoming.addresses where others reach the node", nil)
	}
	return all[:min(len(all), directory.MaxAddresses)], nil
}

// run begins everything that works on its own.
func (s *Server) run() error {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	if s.stats != nil {
		s.supervise(ctx, "statistics", s.stats.Run)
	}
	s.ends.run(ctx, s)
	s.supervise(ctx, "descriptors", s.rereadExtra)
	s.supervise(ctx, "node", func(ctx context.Context) error { return s.node.Run(ctx, s.listeners...) })
	if s.d.NoControl {
		return nil
	}
	return s.openControl(ctx)
}

// supervise runs a worker until the server closes; one that ends by itself is reported on
// Broken.
func (s *Server) supervise(ctx context.Context, name string, fn func(context.Context) error) {
	s.running.Go(daemon.Part(ctx, s.d.Logger, "mix", name, s.broken, fn))
}

// Broken gives the error of a part that ended although nobody stopped it; the server should
// then be closed.
func (s *Server) Broken() <-chan error { return s.broken }

// Stop is Close within server.stop_time.
func (s *Server) Stop() error { return daemon.CloseWithin(s, s.Config().Server.StopTime.Std()) }

// Close stops the node: it takes nothing new, links are told, what is under way is answered or stays on
// the disk. A killed node loses nothing either.
func (s *Server) Close() error {
	s.closed.Do(func() {
		s.cancel()
		s.running.Wait()
		var all []error
		for _, l := range s.listeners {
			if err := l.Close(); !errors.Is(err, net.ErrClosed) {
				all = append(all, err)
			}
		}
		all = append(all, s.ends.close())
		s.d.HTTP.CloseIdleConnections()
		if s.node != nil {
			all = append(all, s.node.Close())
		}
		all = append(all, s.losses.close())
		if s.lock != nil {
			all = append(all, s.lock.Close())
		}
		if err := errors.Join(all...); err != nil {
			s.failed = errs.E("role/mix.Close", errs.KindOf(err), "", err)
		}
	})
	return s.failed
}
