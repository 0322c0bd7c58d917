package proxy

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"

	"postern.email/agent/mixclient"
	"postern.email/kit/dial"
	"postern.email/kit/errs"
	"postern.email/mixnet/link"
	"postern.email/post/seal"
)

// Registration is what registering an account gave.
type Registration struct {
	Address string `json:"address"`
	Relay   string `json:"relay"`    // node ID
	Network string `json:"network"`  // its name
	LinkKey string `json:"link_key"` // by which the relay knows the account's client
	File    string `json:"-"`        // the network file
}

// Generate makes the keys of all accounts, and the key that seals what is kept, where there are none
// yet; it gives the names of the link keys, by address.
func Generate(ctx context.Context, d Deps, c Config) (map[string]link.Key, error) {
	const op = "role/proxy.Generate"
	s, err := prepare(d, c)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if err := s.makeDirs(); err != nil {
		return nil, errs.Wrap(op, err)
	}
	if _, err := seal.OpenRoot(ctx, s.d.FS, s.path(rootFile), seal.FileSource{FS: s.d.FS, Path: s.c.Proxy.KeyFile}, s.d.Rand); err != nil {
		return nil, errs.Wrap(op, err)
	}
	out := make(map[string]link.Key)
	for _, u := range s.users {
		k, err := mixclient.LinkKey(u.options())
		if err != nil {
			return nil, errs.Wrap(op, err)
		}
		out[u.Address.String()] = k
	}
	return out, nil
}

// Registered tells whether an account of the configuration is registered, with a relay and network that
// the configuration trusts, and the relay vouches for its keys now.
func Registered(d Deps, c Config, a Account) bool {
	s, err := prepare(d, c)
	if err != nil {
		return false
	}
	u, err := s.newUser(a)
	if err != nil || u.open() != nil {
		return false
	}
	cert, err := u.certificate()
	return err == nil && s.d.Now().Before(cert.Until)
}

// Register makes the keys of an account, if there are none, and registers it with its relay. invite is for
// relays that take proxies by invitation only. What the relay says must be what the
// configuration trusts: else errs.Denied, and the proxy never connects to it. A proxy that runs takes
// the account up within a second. The other errors are those of mixclient.Register.
func Register(ctx context.Context, d Deps, c Config, a Account, password, invite string) (Registration, error) {
	const op = "role/proxy.Register"
	s, err := prepare(d, c)
	if err != nil {
		return Registration{}, errs.Wrap(op, err)
	}
	u, err := s.newUser(a)
	if err != nil {
		return Registration{}, errs.Wrap(op, err)
	}
	hc, err := s.httpClient(u)
	if err != nil {
		return Registration{}, errs.Wrap(op, err)
	}
	p, err := mixclient.Register(ctx, u.options(), mixclient.Account{URL: a.URL, Name: a.Address.String(), Password: password, Publish: !a.Unpublished, Invite: invite}, hc)
	if err != nil {
		return Registration{}, errs.Wrap(op, err)
	}
	if err := a.Vouches(p.Relay(), p.Members()); err != nil {
		return Registration{}, errs.Wrap(op, err)
	}
	key, err := mixclient.LinkKey(u.options())
	if err != nil {
		return Registration{}, errs.Wrap(op, err)
	}
	return Registration{Address: a.Address.String(), Relay: p.Node, Network: p.Members().Name(), LinkKey: key.String(), File: p.Network}, nil
}

// httpClient is how a relay's page is reached: like its link, through UpstreamProxy.
func (s *Server) httpClient(u *user) (*http.Client, error) {
	d, err := dial.New(dial.Options{CAFiles: s.c.Proxy.TrustedCAs, FS: s.d.FS})
	if err != nil {
		return nil, err
	}
	t := &http.Transport{TLSClientConfig: d.Config(), DisableKeepAlives: true}
	t.TLSClientConfig.MinVersion = tls.VersionTLS13
	t.DialContext = func(ctx context.Context, _, addr string) (net.Conn, error) { return u.dial(ctx, addr) }
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil // no password goes elsewhere
}

// SetPassword gives an account its first password while no proxy runs in the directory: errs.Exists
// when one does, or when the account has a password.
func SetPassword(ctx context.Context, d Deps, c Config, a PasswordArgs) (PasswordState, error) {
	const op = "role/proxy.SetPassword"
	s, err := stopped(ctx, d, c)
	if err != nil {
		return PasswordState{}, errs.Wrap(op, err)
	}
	st, err := s.passwd(ctx, a)
	if cerr := s.Close(); err == nil {
		err = cerr
	}
	return st, errs.Wrap(op, err)
}

// HasPassword tells whether an account has a password, while no proxy runs in the directory.
func HasPassword(ctx context.Context, d Deps, c Config, name string) (PasswordState, error) {
	const op = "role/proxy.HasPassword"
	s, err := stopped(ctx, d, c)
	if err != nil {
		return PasswordState{}, errs.Wrap(op, err)
	}
	st, err := s.passwordState(ctx, PasswordArgs{Account: name})
	if cerr := s.Close(); err == nil {
		err = cerr
	}
	return st, errs.Wrap(op, err)
}

// stopped opens the state of a proxy that does not run.
func stopped(ctx context.Context, d Deps, c Config) (*Server, error) {
	s, err := prepare(d, c)
	if err != nil {
		return nil, err
	}
	if err = s.hold(); err == nil {
		err = s.openState(ctx)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}
