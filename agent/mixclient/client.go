package mixclient

import (
	"context"
	"crypto/ed25519"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"postern.email/agent/vouch"
	"postern.email/kit/daemon"
	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/client"
	"postern.email/mixnet/dircache"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/link"
)

// Options of a Client. Dir is needed.
type Options struct {
	FS       vfs.FS // nil: the machine's disk
	Dir      string
	Careless bool // files that others may read are not refused (POSTERN_NO_FILE_PARANOIA)

	Dial  func(ctx context.Context, addr string) (net.Conn, error) // nil: TCP
	Order func(addrs []string) []string                            // of the relay, the best first; nil: as the directory has them

	Limits   client.StoreLimits
	AckSlack time.Duration // see mixnet/client.Options

	Random io.Reader         // nil: crypto/rand
	Now    func() time.Time  // nil: time.Now
	Logger *slog.Logger      // nil: nothing is logged
	Warn   func(text string) // what a user should hear of; nil: nobody
}

func (o Options) complete() Options {
	defaults.Zero(&o.FS, vfs.OS())
	if o.Dial == nil {
		o.Dial = dialTCP
	}
	defaults.Rand(&o.Random)
	defaults.Clock(&o.Now)
	defaults.Logger(&o.Logger)
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	return o
}

// Client is a registered client.
type Client struct {
	o       Options
	profile *Profile
	id      *client.Identity
	store   *client.Store
	cache   *dircache.Cache
	live    *client.Client // while Run runs; what the cache asks

	certMu sync.Mutex
	cert   *vouch.Certificate // nil: there is none
}

// Open opens the client in a directory. errs.NotFound, with a public text, if there is none, or
// it is not registered.
func Open(o Options) (*Client, error) {
	const op = "agent/mixclient.Open"
	o = o.complete()
	c := &Client{o: o}
	var err error
	if c.id, err = client.OpenIdentity(o.FS, o.Dir, o.Careless); err != nil {
		return nil, errs.Wrap(op, err)
	}
	if c.profile, err = loadProfile(o.FS, o.Dir); err != nil {
		return nil, errs.Wrap(op, err)
	}
	if c.store, err = client.OpenStore(o.FS, o.Dir, c.id, o.Limits, o.Random, o.Now); err != nil {
		return nil, errs.Wrap(op, err)
	}
	if c.cert, err = o.loadCertificate(c.profile, c.id); err != nil {
		return nil, errs.Wrap(op, err)
	}
	c.cache, err = o.cache(c.profile.network, c.sources)
	return c, errs.Wrap(op, err)
}

// cache is the consensus, which lies beside the store.
func (o *Options) cache(n *directory.Network, sources func() []dircache.Source) (*dircache.Cache, error) {
	return dircache.Open(dircache.Options{FS: o.FS, Dir: o.FS.PathJoin(o.Dir, "dir"), Network: n, Sources: sources, Now: o.Now, Log: o.Logger,
		Warn:  func(w directory.Warning) { o.Warn("the directory: " + w.String()) },
		Proof: func(*directory.Proof) { o.Warn("an authority of the network was caught lying") }})
}

// sources are whom the cache asks: the own relay, over the line that is there anyway.
func (c *Client) sources() []dircache.Source {
	if c.live == nil {
		return nil
	}
	return []dircache.Source{c.live}
}

// Store gives what is on the disk.
func (c *Client) Store() *client.Store { return c.store }

// Address is what others need to write to this client.
func (c *Client) Address() letter.Address {
	return letter.Address{Relay: c.profile.node, Mailbox: c.profile.mailbox, Key: c.id.Letter.Public()}
}

// Identity gives the secrets of the client.
func (c *Client) Identity() *client.Identity { return c.id }

// LinkKey is the name by which the relay knows this client.
func (c *Client) LinkKey() (link.Key, error) { return keyOf(c.id) }

// Home is the own relay and mailbox in a consensus. errs.Unavailable if the relay is not in it.
func (c *Client) Home(cons *directory.Consensus) (client.Home, error) {
	e := cons.Find(c.profile.node)
	if e == nil {
		return client.Home{}, errs.E("agent/mixclient.Home", errs.Unavailable, "your own relay is not in the directory of the network now", nil)
	}
	return client.Home{Relay: e, Mailbox: c.profile.mailbox}, nil
}

// Consensus is the one to be used now, as far as it is on the disk. errs.Unavailable.
func (c *Client) Consensus() (*directory.Consensus, error) { return c.cache.Current() }

// AwaitConsensus waits, while the client runs, until there is one to be used. When ctx ends before, the
// error is that of Consensus.
func (c *Client) AwaitConsensus(ctx context.Context) (*directory.Consensus, error) {
	return wait(ctx, c.cache)
}

// Mode says how a client runs.
type Mode struct {
	Free   bool                                        // without cover: see mixnet/client.Options
	Chosen func(name string, packet int, w client.Way) // see mixnet/client.Options
}

// Run connects to the relay, and runs during until it returns; then the line is closed. One process
// at a time may do so in a directory: errs.Exists. The error is that of during.
func (c *Client) Run(ctx context.Context, m Mode, during func(context.Context, *client.Client) error) error {
	const op = "agent/mixclient.Run"
	lock, err := daemon.Hold(c.o.FS, c.o.Dir, c.o.Now())
	if err != nil {
		return errs.Wrap(op, err)
	}
	defer lock.Close()
	live, err := client.New(client.Options{Store: c.store, Consensus: c.cache.Current, Parameters: c.parameters, Relay: c.profile.node, Mailbox: c.profile.mailbox,
		Peer: c.profile.key, Addresses: c.addresses, Free: m.Free, Chosen: m.Chosen, AckSlack: c.o.AckSlack, Link: link.Options{Dial: c.o.Dial}, Random: c.o.Random, Now: c.o.Now, Logger: c.o.Logger})
	if err != nil {
		return errs.Wrap(op, err)
	}
	c.live = live
	within, cancel := context.WithCancel(ctx)
	parts := []func(context.Context) error{live.Run, c.cache.Run, func(ctx context.Context) error { return c.renew(ctx, live.Fetch) }}
	ended := make(chan error, len(parts))
	for _, part := range parts {
		go func() { ended <- part(within) }()
	}
	err = during(within, live)
	cancel()
	for range parts {
		if e := <-ended; err == nil && e != nil && errs.KindOf(e) != errs.Canceled {
			err = errs.Wrap(op, e)
		}
	}
	c.live = nil
	return err
}

// parameters are the network's, as the newest consensus has them.
func (c *Client) parameters() directory.Parameters {
	if n := c.cache.Newest(); n != nil {
		return n.Parameters
	}
	return nil
}

// addresses are those of the relay's link, in the order that is wanted.
func (c *Client) addresses() []string {
	if c.o.Order != nil {
		return c.o.Order(c.known())
	}
	return c.known()
}

// known are the addresses that the directory says, where it still knows the relay under the key
// that was registered.
func (c *Client) known() []string {
	if n := c.cache.Newest(); n != nil {
		if e := n.Find(c.profile.node); e != nil && link.Key(e.LinkKey) == c.profile.key {
			return e.Addresses
		}
	}
	return c.profile.Addresses
}

func keyOf(id *client.Identity) (link.Key, error) {
	return link.KeyOf(id.Link.Public().(ed25519.PublicKey))
}

func newLinkKey(random io.Reader) (ed25519.PrivateKey, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(random, seed); err != nil {
		return nil, errs.E("agent/mixclient", errs.Internal, "", err)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}
