package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"

	"postern.email/kit/errs"
	"postern.email/kit/logs"
)

// client is the issuer over certmagic. Each name has a configuration of its own,
// and with it an ACME issuer of its own; they share accounts, storage and the cache,
// whose maintenance renews (by ARI, RFC 9773, where the authority offers it).
type client struct {
	o     *Options
	store *storage
	log   *zap.Logger
	key   string // the issuer's name in storage

	mu      sync.Mutex
	cache   *certmagic.Cache // nil while nothing runs
	configs map[string]*certmagic.Config
	a       *authority
}

func newClient(o *Options, store *storage) *client {
	return &client{o: o, store: store, log: zap.New(zapCore{o.Logger}),
		key: (&certmagic.ACMEIssuer{CA: directory(o.ACME)}).IssuerKey(), configs: make(map[string]*certmagic.Config)}
}

func directory(a *ACME) string {
	if a.Directory == "" {
		return LetsEncrypt
	}
	return a.Directory
}

// maxRenewCheck bounds how rarely ends of validity are looked at: certificates of
// six days must be renewed in time.
const maxRenewCheck = 10 * time.Minute

func (c *client) begin(a *authority) (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.a = a
	c.cache = certmagic.NewCache(certmagic.CacheOptions{Logger: c.log, RenewCheckInterval: min(c.o.Poll, maxRenewCheck),
		GetConfigForCert: func(cert certmagic.Certificate) (*certmagic.Config, error) { return c.config(cert.Names[0]), nil }})
	return func() {
		// Stop waits for what the maintenance is doing at this moment, which may be a
		// request to an authority that does not answer. It is not worth waiting for: the
		// storage, which is closed next, keeps it from writing.
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			c.cache.Stop()
		}()
		t := time.NewTimer(leaveTime)
		defer t.Stop()
		select {
		case <-stopped:
		case <-t.C:
		}
	}
}

// config gives the configuration of a name.
func (c *client) config(name string) *certmagic.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cfg := c.configs[name]; cfg != nil {
		return cfg
	}
	var iss *certmagic.ACMEIssuer
	cfg := certmagic.New(c.cache, certmagic.Config{
		Storage: c.store,
		Logger:  c.log,
		// One key for ever: a renewal that was cut between its files leaves a pair that
		// fits, and what is published or remembered about the key (DANE, RFC 7671 §5.1;
		// clients that pin) stays true.
		ReusePrivateKeys: true,
		KeySource:        certmagic.StandardKeyGenerator{KeyType: certmagic.P256},
		// No stapling: it would ask servers at start, and mail programs look at none.
		OCSP: certmagic.OCSPConfig{DisableStapling: true},
		OnEvent: func(ctx context.Context, event string, data map[string]any) error {
			return c.event(ctx, iss, name, event, data)
		},
	})
	plain, secure := c.o.ACME.Doors()
	template := certmagic.ACMEIssuer{
		CA: directory(c.o.ACME), TestCA: directory(c.o.ACME), Email: c.o.ACME.Email, Agreed: true,
		TrustedRoots: c.o.ACME.Roots, Resolver: c.o.ACME.Resolver, Logger: c.log,
		DisableHTTPChallenge: !plain.IsValid(), DisableTLSALPNChallenge: !secure.IsValid(), DisableDistributedSolvers: true,
		NewAccountFunc: c.newAccount,
	}
	// certmagic tries to listen where a challenge will arrive, and leaves it to us when
	// it finds that we do.
	for _, at := range []struct {
		addr string
		port uint16
		set  *int
	}{{plain.Addr().String(), plain.Port(), &template.AltHTTPPort}, {secure.Addr().String(), secure.Port(), &template.AltTLSALPNPort}} {
		if at.port != 0 {
			*at.set = int(at.port)
			if template.ListenHost == "" {
				template.ListenHost = at.addr
			}
		}
	}
	iss = certmagic.NewACMEIssuer(cfg, template)
	cfg.Issuers = []certmagic.Issuer{iss}
	c.configs[name] = cfg
	return cfg
}

func (c *client) files(name string) (cert, key string) {
	k := certmagic.StorageKeys
	return k.SiteCert(c.key, name), k.SitePrivateKey(c.key, name)
}

func (c *client) manage(ctx context.Context, name string) error {
	_, err := c.config(name).CacheManagedCertificate(ctx, name)
	return err
}

func (c *client) forget(ctx context.Context, name string) error {
	cert, _ := c.files(name)
	return c.store.Delete(ctx, cert)
}

// attempt is one call of obtain. certmagic would repeat a failed try by a plan of
// its own; the end of attempt's context keeps it from that, so that one plan counts.
type attempt struct {
	cancel context.CancelFunc
	err    error
}

type attemptKey struct{}

func (c *client) obtain(ctx context.Context, name string) error {
	// Asked before all else, it tells an authority that is not there from one that
	// refuses; of what happens later certmagic does not always keep the kind of an error.
	if _, err := c.meta(ctx); err != nil {
		return failure(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := &attempt{cancel: cancel}
	err := c.config(name).ObtainCertAsync(context.WithValue(ctx, attemptKey{}, t), name)
	if t.err != nil {
		err = t.err
	}
	return failure(err)
}

// errUnsaved ends the second try of one attempt: the first ended without word from
// the authority, so its result could not be kept.
var errUnsaved = errors.New("the certificate could not be kept on the disk")

// event hears what certmagic does. An error stops it.
func (c *client) event(ctx context.Context, iss *certmagic.ACMEIssuer, name, event string, data map[string]any) error {
	t, _ := ctx.Value(attemptKey{}).(*attempt)
	switch event {
	case "cert_obtaining":
		if n, _ := ctx.Value(certmagic.AttemptsCtxKey).(*int); t != nil && n != nil && *n > 0 {
			return certmagic.ErrNoRetry{Err: errUnsaved}
		}
		if t == nil { // a renewal; obtain was asked for by the authority, which has counted
			if err := c.a.orders.begin(ctx, name); err != nil {
				return certmagic.ErrNoRetry{Err: err}
			}
		}
		if net.ParseIP(name) != nil {
			return c.shortLived(ctx, iss)
		}
	case "cert_failed":
		err, _ := data["error"].(error)
		if t != nil {
			t.err = err
			t.cancel()
			return nil
		}
		if ctx.Err() == nil {
			err = failure(err)
			if errs.KindOf(err) == errs.Unavailable {
				c.a.orders.undo(ctx, name)
			}
			c.a.failed(name, err, time.Time{})
		}
	case "cert_obtained":
		renewal, _ := data["renewal"].(bool)
		c.a.obtained(name, renewal)
	}
	return nil
}

// shortLived asks for the profile in which authorities give certificates for IP
// addresses (Let's Encrypt: six days), where the authority knows it.
func (c *client) shortLived(ctx context.Context, iss *certmagic.ACMEIssuer) error {
	const profile = "shortlived"
	dir, err := c.meta(ctx)
	if err != nil {
		return err
	}
	iss.Profile = ""
	if _, ok := dir.Profiles[profile]; ok {
		iss.Profile = profile // under the lock of this name's orders, like its reader
	}
	return nil
}

// newAccount says whose terms the operator agrees to by asking for certificates.
func (c *client) newAccount(ctx context.Context, _ *certmagic.ACMEIssuer, account acme.Account) (acme.Account, error) {
	meta, err := c.meta(ctx)
	if err != nil {
		return account, err
	}
	if c.o.ACME.Email == "" {
		account.Contact = nil // certmagic would take the one of another server in this process
	}
	c.o.Logger.Info("an account with the certificate authority is made; its terms of service are agreed to by that",
		"authority", directory(c.o.ACME), "terms", meta.TermsOfService)
	return account, nil
}

// meta reads what the authority says about itself.
func (c *client) meta(ctx context.Context) (acme.DirectoryMeta, error) {
	var d net.Dialer
	if r := c.o.ACME.Resolver; r != "" {
		d.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var nd net.Dialer
			return nd.DialContext(ctx, network, r)
		}}
	}
	tr := &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: d.DialContext, TLSClientConfig: tlsRoots(c.o.ACME.Roots), ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	ac := acme.Client{Directory: directory(c.o.ACME), HTTPClient: &http.Client{Transport: tr, Timeout: certmagic.HTTPTimeout}}
	dir, err := ac.GetDirectory(ctx)
	if err != nil || dir.Meta == nil {
		return acme.DirectoryMeta{}, err
	}
	return *dir.Meta, nil
}

// failure gives an error of the client the kind that the plan of tries needs:
// errs.Denied, the authority refused; errs.Busy, it wants to be left alone for a
// while; errs.Unavailable, no connection to it came about; errs.Internal, it is in
// trouble itself, or nobody knows.
func failure(err error) error {
	const op = "wire/certs.obtain"
	var p acme.Problem
	var own *errs.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &p):
		kind := errs.Denied
		if p.Type == acme.ProblemTypeRateLimited {
			kind = errs.Busy
		} else if p.Status >= http.StatusInternalServerError {
			kind = errs.Internal
		}
		return errs.E(op, kind, "the certificate authority says: "+detail(p), err)
	case errors.Is(err, errUnsaved):
		return errs.E(op, errs.NoSpace, errUnsaved.Error(), err)
	case errors.As(err, &own):
		return errs.E(op, own.Kind, errs.Public(own), err)
	}
	kind := errs.Internal
	if unconnected(err) {
		kind = errs.Unavailable
	}
	return errs.E(op, kind, "there is no usable answer from the certificate authority: "+short(logs.Scrub(err.Error())), err)
}

// unconnected reports whether an error is one of finding a host, of connecting to it,
// or of its certificate.
func unconnected(err error) bool {
	var dial *net.OpError
	var name *net.DNSError
	var cert *tls.CertificateVerificationError
	return errors.As(err, &dial) && dial.Op == "dial" || errors.As(err, &name) || errors.As(err, &cert)
}

// detail is a problem in words.
func detail(p acme.Problem) string {
	words := []string{p.Detail}
	for _, s := range p.Subproblems {
		words = append(words, s.Detail)
	}
	words = slices.DeleteFunc(words, func(s string) bool { return s == "" })
	if len(words) == 0 {
		words = []string{p.Type}
	}
	return logs.Scrub(short(strings.Join(words, "; ")))
}

// short gives a text on one line, of at most 500 bytes.
func short(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 500 {
		text = strings.ToValidUTF8(text[:500], "") + "…"
	}
	return text
}
