package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"

	"postern.email/kit/errs"
)

// LetsEncrypt is the directory of the authority that is asked by default.
const LetsEncrypt = certmagic.LetsEncryptProductionCA

// ACME says how certificates are obtained (RFC 8555, RFC 8737, RFC 8738).
type ACME struct {
	Directory string // URL of the authority's directory; empty: LetsEncrypt
	Email     string // where the authority may write; empty: nowhere
	// Names get a certificate each, beside the domain. What fails for one of them
	// does not touch the others.
	Names []string
	// Alias are names that get one too, but only while they lead to the same address
	// as the domain: names that somebody may have set up, or not.
	Alias []string
	// Roots vouch for the authority's own server; nil: the system's.
	Roots *x509.CertPool
	// Resolver is the DNS server that is asked for the authority's address,
	// host:port; empty: the system's.
	Resolver string
	// Lookup gives the addresses of a name, errs.NotFound when there are none; a name
	// without address is not ordered. nil: names are not looked at.
	Lookup func(ctx context.Context, name string) ([]netip.Addr, error)
	// Doors tells where challenges arrive: plain HTTP (answered by Challenge) and TLS
	// (answered by Config with ChallengeProtocol). It is asked when Run begins; an
	// invalid address: that kind of challenge is not used.
	Doors func() (http, https netip.AddrPort)
}

// Waits after a failed try, by what failed. An authority counts refusals (Let's
// Encrypt: five in an hour for a name); the network does not.
var (
	waitRefused     = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 6 * time.Hour}
	waitUnreachable = []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 5 * time.Minute, 10 * time.Minute}
	waitAddress     = []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute}
)

// leaveTime bounds how long a stop waits for work in hand with the authority.
const leaveTime = 5 * time.Second

// issuer is what an authority needs of the ACME client; tests put in their own.
type issuer interface {
	// begin gets ready, tells failures and successes of renewals to the authority,
	// and gives the function that ends it.
	begin(a *authority) (end func())
	// manage takes a name's stored certificate into care: it is renewed from then on.
	// The error is fs.ErrNotExist when there is none.
	manage(ctx context.Context, name string) error
	// obtain makes one try to get a certificate for name and stores it. The error is
	// errs.Unavailable only when the authority cannot have heard of it.
	obtain(ctx context.Context, name string) error
	// files gives the keys of a name's stored certificate and key.
	files(name string) (cert, key string)
	// forget removes what is stored for a name, but for its key.
	forget(ctx context.Context, name string) error
}

// authority gets certificates and keeps them fresh, one for each name.
type authority struct {
	o      *Options
	store  *storage
	issuer issuer
	orders *orders
	main   string   // the domain
	names  []string // all names, the domain first

	pairs atomic.Pointer[map[string]*tls.Certificate] // by name; never changed, replaced

	mu    sync.Mutex
	state map[string]trouble
	retry chan struct{} // closed and replaced when failed tries shall be repeated now
}

// trouble is what went wrong for a name last, and when it is tried again.
type trouble struct {
	err  error
	next time.Time // zero: not known
}

// newAuthority reads what is stored; nobody is asked.
func newAuthority(o *Options) (*authority, error) {
	store, err := newStorage(o.FS, o.FS.PathJoin(o.Dir, "acme"))
	if err != nil {
		return nil, err
	}
	a := &authority{o: o, store: store, main: o.Domain, state: make(map[string]trouble), retry: make(chan struct{})}
	a.orders = readOrders(store, o.Now)
	for _, n := range slices.Concat([]string{o.Domain}, o.ACME.Names, o.ACME.Alias) {
		if n = strings.ToLower(n); n != "" && !slices.Contains(a.names, n) {
			a.names = append(a.names, n)
		}
	}
	a.issuer = newClient(o, store)
	a.pairs.Store(&map[string]*tls.Certificate{})
	for _, n := range a.names {
		// What cannot be used is replaced by run.
		if err := a.take(n); err != nil && !errors.Is(err, fs.ErrNotExist) {
			o.Logger.Warn("a stored TLS certificate cannot be used", "name", n, "err", err)
		}
	}
	return a, nil
}

// take begins to serve what is stored for name. Connections that are open are not
// touched: a certificate matters in the handshake only.
func (a *authority) take(name string) error {
	ctx := context.Background() // reads two small files
	certKey, keyKey := a.issuer.files(name)
	cert, err := a.store.Load(ctx, certKey)
	if err != nil {
		return err
	}
	key, err := a.store.Load(ctx, keyKey)
	if err != nil {
		return err
	}
	p, err := parsePair(cert, key)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	pairs := maps.Clone(*a.pairs.Load())
	pairs[name] = p
	a.pairs.Store(&pairs)
	delete(a.state, name)
	return nil
}

// pair gives the certificate for a server name, else that of the domain, or nil.
func (a *authority) pair(server string) *tls.Certificate {
	pairs := *a.pairs.Load()
	if p := pairs[strings.ToLower(strings.TrimSuffix(server, "."))]; p != nil {
		return p
	}
	return pairs[a.main]
}

// file gives the name of the domain's certificate file, empty while there is none.
func (a *authority) file() string {
	if (*a.pairs.Load())[a.main] == nil {
		return ""
	}
	cert, _ := a.issuer.files(a.main)
	name, _ := a.store.path(cert)
	return name
}

// again ends the wait of all tries that failed.
func (a *authority) again() {
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.retry)
	a.retry = make(chan struct{})
}

func (a *authority) retried() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.retry
}

// run obtains what is missing and renews the rest until ctx ends.
func (a *authority) run(ctx context.Context) {
	end := a.issuer.begin(a)
	defer a.store.close(leaveTime)
	defer end()
	if a.pair("") == nil {
		a.o.Logger.Warn("there is no TLS certificate yet: connections get a self-signed one until the authority has given one; "+
			"for that, port 80 or 443 of the name must lead to this server", "name", a.main)
	}
	var all sync.WaitGroup
	for _, n := range a.names {
		all.Go(func() { a.keep(ctx, n) })
	}
	all.Wait()
	<-ctx.Done()
}

// keep tries until there is a certificate for name that the issuer cares for.
func (a *authority) keep(ctx context.Context, name string) {
	tries, last := 0, errs.Kind(0)
	for {
		retry := a.retried() // before the try: what was mended during it counts
		err := a.try(ctx, name)
		if err == nil || ctx.Err() != nil {
			return
		}
		if kind := errs.KindOf(err); kind != last {
			tries, last = 0, kind // each trouble has a plan of its own
		}
		wait := a.wait(err, tries)
		tries++
		a.failed(name, err, a.o.Now().Add(wait))
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-retry:
			t.Stop()
			tries = 0
		case <-t.C:
		}
	}
}

// try is one try to have a certificate for name.
func (a *authority) try(ctx context.Context, name string) error {
	err := a.issuer.manage(ctx, name)
	if err == nil {
		return a.take(name)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		// What the disk does not give now may be there in a minute; what it gives and makes
		// no sense never will.
		if own := a.take(name); ctx.Err() != nil || own != nil && errs.KindOf(own) != errs.Invalid {
			return errs.E("wire/certs.try", errs.Unavailable, "the stored TLS certificate cannot be read", err)
		}
		a.o.Logger.Warn("a stored TLS certificate is damaged; another one is obtained", "name", name, "err", err)
		if err := a.issuer.forget(ctx, name); err != nil {
			return err
		}
	}
	if err := a.leadsHere(ctx, name); err != nil {
		return err
	}
	if err := a.orders.begin(ctx, name); err != nil {
		return err
	}
	if err := a.issuer.obtain(ctx, name); err != nil {
		if errs.KindOf(err) == errs.Unavailable {
			a.orders.undo(ctx, name) // the authority did not hear of it
		}
		return err
	}
	if err := a.issuer.manage(ctx, name); err != nil {
		return err
	}
	return a.take(name)
}

// leadsHere looks a name up before it is ordered, because an authority counts orders
// that cannot succeed. An alias must lead where the domain does.
func (a *authority) leadsHere(ctx context.Context, name string) error {
	const op = "wire/certs.leadsHere"
	if _, err := netip.ParseAddr(name); err == nil || a.o.ACME.Lookup == nil {
		return nil
	}
	addrs, err := a.o.ACME.Lookup(ctx, name)
	if errs.KindOf(err) == errs.NotFound && err != nil {
		return errs.E(op, errs.NotFound, "the name has no address in DNS", err)
	}
	if err != nil || !slices.Contains(a.o.ACME.Alias, name) {
		return nil // a resolver that does not answer here says nothing about the authority's
	}
	ours, err := a.o.ACME.Lookup(ctx, a.main)
	if err != nil {
		return nil
	}
	for _, x := range addrs {
		if slices.ContainsFunc(ours, func(y netip.Addr) bool { return x.Unmap() == y.Unmap() }) {
			return nil
		}
	}
	return errs.E(op, errs.NotFound, "the name leads to another machine than the domain", nil)
}

// wait is how long to wait after the try with this number failed.
func (a *authority) wait(err error, tries int) time.Duration {
	var b busyUntil
	if errors.As(err, &b) {
		return max(b.at.Sub(a.o.Now()), time.Second)
	}
	list := waitRefused
	switch errs.KindOf(err) {
	case errs.Unavailable:
		list = waitUnreachable
	case errs.NotFound:
		list = waitAddress
	case errs.Busy: // the authority has had enough of us for now
		return max(time.Hour, waitRefused[min(tries, len(waitRefused)-1)])
	}
	return list[min(tries, len(list)-1)]
}

// failed notes what went wrong and tells it: loudly for the domain, where it keeps
// clients away, and for names that the operator asked for.
func (a *authority) failed(name string, err error, next time.Time) {
	a.mu.Lock()
	before := a.state[name]
	a.state[name] = trouble{err, next}
	a.mu.Unlock()
	args := []any{"name", name, "err", err}
	if !next.IsZero() {
		args = append(args, "next_try", next.UTC().Format(time.RFC3339))
	}
	if errs.KindOf(err) == errs.NotFound && slices.Contains(a.o.ACME.Alias, name) {
		if before.err == nil {
			a.o.Logger.Info("no TLS certificate for a name that does not lead here", args...)
		}
		return
	}
	a.o.Logger.Warn("no TLS certificate could be obtained; it is tried again", args...)
}

// obtained is called when a certificate was obtained or renewed and is on the disk.
func (a *authority) obtained(name string, renewal bool) {
	if err := a.take(name); err != nil {
		a.failed(name, err, time.Time{})
		return
	}
	text := "TLS certificate obtained"
	if renewal {
		text = "TLS certificate renewed; connections that are open go on"
	}
	a.o.Logger.Info(text, "name", name, "not_after", a.pair(name).Leaf.NotAfter.UTC().Format(time.RFC3339))
}
