package proxy

import (
	"context"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"postern.email/agent/mixclient"
	"postern.email/agent/mixnym"
	"postern.email/agent/mixsubmit"
	"postern.email/agent/vouch"
	"postern.email/kit/daemon"
	"postern.email/kit/errs"
	"postern.email/mixnet/client"
	"postern.email/mixnet/packet"
)

// Pauses of an account that cannot run: it looks again for a registration, or tries again.
const (
	againSoon  = time.Second
	againLater = 15 * time.Second
)

// user is an account of the proxy with its line to its relay.
type user struct {
	Account
	s    *Server
	dir  string
	dial func(ctx context.Context, addr string) (net.Conn, error)

	opening sync.Mutex // held by open

	begun bool          // of run: what needs the client's store works
	came  chan struct{} // something may have come; has room for one

	mu      sync.Mutex
	client  *mixclient.Client  // nil: not registered, or what lies in dir cannot be used
	submit  *mixsubmit.Account // the same while the proxy runs
	nyms    *mixnym.Desk       // the same
	live    *client.Client     // nil: it does not run now
	problem error              // why client or live is nil
	notes   []string           // what the client warned of last
}

// maxNotes bounds the warnings of a client that are kept for the status.
const maxNotes = 5

func (s *Server) newUser(a Account) (*user, error) {
	dial, err := s.dialer(a.Address.String())
	if err != nil {
		return nil, err
	}
	return &user{Account: a, s: s, came: make(chan struct{}, 1), dir: s.d.FS.PathJoin(s.path(accountsDir), dirName(a.Address.String())), dial: dial}, nil
}

// dirName makes an address the name of one directory.
func dirName(address string) string {
	return strings.ReplaceAll(url.PathEscape(address), "%40", "@")
}

// options are those of the account's client.
func (u *user) options() mixclient.Options {
	d := &u.s.d
	g := &u.s.c.Debug
	return mixclient.Options{FS: d.FS, Dir: u.dir, Careless: d.Careless, Dial: u.dial, Order: u.s.ordered, Limits: client.StoreLimits{Keep: seconds(g.ReceiveTimeout)},
		AckSlack: seconds(g.RetransmitSlack), Random: d.Rand, Now: d.Now, Logger: d.Logger, Warn: u.warn}
}

// warn keeps what the client says for the status, and logs it.
func (u *user) warn(text string) {
	u.s.d.Logger.Warn("an account's line to its relay", "warning", text)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.notes = append(u.notes, text)
	u.notes = u.notes[max(0, len(u.notes)-maxNotes):]
}

// open opens the client of a registered account, once: two of them would keep two books of what waits in one
// directory.
func (u *user) open() error {
	u.opening.Lock()
	defer u.opening.Unlock()
	if u.opened() != nil {
		return nil
	}
	c, err := mixclient.Open(u.options())
	if err == nil {
		err = u.Vouches(c.Relay(), c.Network())
	}
	var nyms *mixnym.Desk
	if err == nil {
		nyms, err = u.newNyms(c)
	}
	switch {
	case err != nil && errs.KindOf(err) == errs.NotFound:
		err = errs.E("role/proxy.open", errs.NotFound, "the account is not registered with its relay; to register it: postern proxy -f FILE -r", err)
	case err == nil:
		u.mu.Lock()
		defer u.mu.Unlock()
		u.client, u.nyms = c, nyms
		u.submit = &mixsubmit.Account{Address: u.Address.Canonical(), Identity: c.Identity(), Store: c.Store(), Home: c.Address(),
			FS: u.s.d.FS, Dir: u.s.d.FS.PathJoin(u.dir, waitingDir), Consensus: c.Consensus, Certificate: u.certificate,
			Expect: u.expect, Poke: u.poke, Ask: u.ask, Fetch: u.fetch, Nyms: nyms, WebKey: u.s.webKeys(), Discover: u.Discover,
			LookupTime: seconds(u.s.c.Debug.UrgentQueueLifetime), Lifetime: seconds(u.s.c.Debug.BounceQueueLifetime)}
	}
	return err
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// run keeps the account's line up until ctx ends. What cannot be now is tried again.
func (u *user) run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := u.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		u.fail(err)
		pause := againLater
		if errs.KindOf(err) == errs.NotFound { // it may be registered now
			pause = againSoon
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}

// once opens the client if it is not open, and runs it; what comes is taken in, and reply addresses are
// fed, from then on until whole ends.
func (u *user) once(ctx context.Context) error {
	whole := ctx
	c := u.opened()
	if c == nil {
		if err := u.open(); err != nil {
			return err
		}
		c = u.opened()
	}
	if !u.begun {
		u.begun = true
		u.s.working.Go(daemon.Part(whole, u.s.d.Logger, "proxy", "inbox of an account", u.s.broken, func(ctx context.Context) error {
			return u.s.mail.receive(ctx, u, c)
		}))
		u.s.working.Go(daemon.Part(whole, u.s.d.Logger, "proxy", "reply addresses of an account", u.s.broken, u.desk().Run))
		u.s.mail.out.Look()
	}
	return c.Run(ctx, mixclient.Mode{}, func(ctx context.Context, live *client.Client) error {
		u.set(live)
		defer u.set(nil)
		return u.watch(ctx, live)
	})
}

// watch tells the agents when something has come, and when something that waits has ended.
func (u *user) watch(ctx context.Context, live *client.Client) error {
	received, waiting := -1, -1
	for {
		var now client.Status
		err := live.Wait(ctx, func(s client.Status) bool {
			now = s
			return s.Received != received || s.Waiting != waiting
		})
		if err != nil {
			return nil // ctx ended
		}
		if now.Received != received {
			u.ring()
		}
		if now.Waiting != waiting {
			u.s.mail.out.Look()
		}
		received, waiting = now.Received, now.Waiting
	}
}

// await returns when something may have come, or ctx ends.
func (u *user) await(ctx context.Context) {
	select {
	case <-u.came:
	case <-ctx.Done():
	}
}

// ring ends await, now or the next time.
func (u *user) ring() {
	select {
	case u.came <- struct{}{}:
	default:
	}
}

// fail notes why the account does not run, and logs it once.
func (u *user) fail(err error) {
	if err == nil {
		err = errs.E("role/proxy", errs.Unavailable, "the line to the relay ended", nil)
	}
	u.mu.Lock()
	known := u.problem != nil && errs.Public(u.problem) == errs.Public(err)
	u.problem = err
	u.mu.Unlock()
	if !known {
		u.s.d.Logger.Warn("an account does not run", "err", err)
	}
}

// set notes the client that runs now, or that none does.
func (u *user) set(live *client.Client) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.live, u.problem = live, nil
}

func (u *user) opened() *mixclient.Client {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.client
}

// running gives the live client. errs.Unavailable.
func (u *user) running() (*client.Client, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.live == nil {
		return nil, errs.E("role/proxy", errs.Unavailable, "the account does not run now", u.problem)
	}
	return u.live, nil
}

// certificate is the relay's word about the account.
func (u *user) certificate() (*vouch.Certificate, error) {
	c := u.opened()
	if c == nil {
		return nil, errs.E("role/proxy", errs.NotFound, "the account is not registered", nil)
	}
	return c.Certificate()
}

// expect is when a mail arrives that is queued now; zero where nobody can tell.
func (u *user) expect(packets int) client.Forecast {
	if live, err := u.running(); err == nil {
		return live.ExpectFor(packets)
	}
	c := u.opened()
	if c == nil {
		return client.Forecast{}
	}
	cons, err := c.Consensus()
	if err != nil {
		return client.Forecast{}
	}
	return client.Expect(cons.Parameters, packets, client.DelayedHops)
}

func (u *user) poke() {
	if live, err := u.running(); err == nil {
		live.Poke()
	}
}

func (u *user) fetch(ctx context.Context, request []byte) ([]byte, error) {
	live, err := u.running()
	if err != nil {
		return nil, err
	}
	return live.Fetch(ctx, request)
}

func (u *user) ask(ctx context.Context, relay packet.ID, service uint8, request []byte) (uint8, []byte, error) {
	live, err := u.running()
	if err != nil {
		return 0, nil, err
	}
	return live.Ask(ctx, relay, service, request)
}
