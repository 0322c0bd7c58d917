package alias

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"postern.email/agent/aliases"
	"postern.email/kit/daemon"
	"postern.email/kit/errs"
	"postern.email/kit/limits"
	wire "postern.email/wire/alias"
	"postern.email/wire/certs"
	"postern.email/wire/control"
	"postern.email/wire/web"
)

// Bounds of what strangers may use.
const (
	maxConns        = 1024
	maxConnsNetwork = 64
)

// listen takes all sockets first, so that a port in use stops the start before anything is served,
// writes the map once, then serves.
func (s *Server) listen(ctx context.Context) (err error) {
	c := &s.c.General
	if c.TLSCertFile != "" {
		if s.certs, err = certs.New(certs.Options{FS: s.d.FS, CertFile: c.TLSCertFile, KeyFile: c.TLSKeyFile, Now: s.d.Now, Logger: s.d.Logger}); err != nil {
			return err
		}
	}
	if c.ListenAddress != "off" {
		if s.http, err = daemon.Bind(s.d.Listen, c.ListenAddress, "General.ListenAddress"); err != nil {
			return err
		}
	}
	handler, err := s.handler()
	if err != nil {
		return err
	}
	sock, err := control.ListenAt(c.UnixSockPath)
	if err != nil {
		return err
	}
	serving, stopServing := context.WithCancel(context.Background())
	working, stopWorking := context.WithCancel(context.Background())
	s.serve, s.work = stopServing, stopWorking
	part := func(ctx context.Context, name string, fn func(context.Context) error) func() {
		return daemon.Part(ctx, s.d.Logger, "alias server", name, s.broken, fn)
	}
	s.working.Go(part(working, "map", s.keeper.run))
	s.working.Go(part(working, "aliases", s.aliases.Run))
	if s.certs != nil {
		s.working.Go(part(working, "certificates", s.certs.Run))
	}
	s.serving.Go(part(serving, "control", func(ctx context.Context) error { return control.Serve(ctx, sock, s.commands()) }))
	// What a crash left between store and map is healed before anybody is served. Where that fails the
	// keeper goes on trying: owners can still look at their aliases.
	_, _ = s.keeper.Sync(ctx)
	if s.http == nil {
		return nil
	}
	o := web.ServeOptions{Handler: handler, Conns: limits.NewConns(maxConns, maxConnsNetwork), PeerOf: daemon.PeerOf, Grace: s.d.Grace}
	s.serving.Go(part(serving, "http", func(ctx context.Context) error {
		if s.certs == nil {
			return web.ServePlain(ctx, s.http, o)
		}
		o.TLS = s.certs.Config(tls.VersionTLS12, "h2", "http/1.1")
		return web.Serve(ctx, s.http, o)
	}))
	return nil
}

// handler answers HTTP: the WebSocket, pages and calls.
func (s *Server) handler() (http.Handler, error) {
	c := &s.c
	o := wire.Options{Backend: s.desk, Domain: s.domains[0], Base: s.link(), WebSocketPath: c.General.ListenPath, Origins: c.Postern.Origins, PeerOf: web.PeerOf,
		Private: c.Postern.PlainHTTP, Local: fromHere, Now: s.d.Now, Rand: s.d.Rand, Logger: s.d.Logger}
	if o.WebSocketPath == rootPath { // there IncognitoMail's own tests have it; here pages are there, too
		o.WebSocketPath, o.Root = "", true
	}
	srv, err := wire.New(o)
	if err != nil {
		return nil, errs.Wrap("role/alias.handler", err)
	}
	return srv.Handler(), nil
}

// rootPath is where General.ListenPath puts the WebSocket beside the usual path.
const rootPath = "/"

// fromHere tells whether a request was sent on this machine, by a program that speaks for itself: a proxy
// says for whom it asks.
func fromHere(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsLoopback() && r.Header.Get("Forwarded") == "" && r.Header.Get("X-Forwarded-For") == ""
}

// link is where the pages are found, as far as the server can tell; "" where there are none.
func (s *Server) link() string {
	switch {
	case s.c.Postern.PublicURL != "":
		return s.c.Postern.PublicURL
	case s.c.General.ListenAddress == "off":
		return ""
	}
	u := url.URL{Scheme: "https", Host: s.domains[0]}
	if s.http != nil {
		if a, ok := s.http.Addr().(*net.TCPAddr); ok && a.Port != 443 {
			u.Host = net.JoinHostPort(u.Host, strconv.Itoa(a.Port))
		}
	}
	return u.String()
}

// commands are those of the control socket.
func (s *Server) commands() map[string]control.Handler {
	all := aliases.Commands(s.desk, s.stop)
	all["status"] = control.With(func(context.Context, struct{}) (Status, error) { return s.Status(), nil })
	all["stop"] = all["alias.stop"]
	all["alias.conflicts"] = control.With(func(context.Context, struct{}) ([]Diagnosis, error) { return s.conflicts(), nil })
	all["alias.sync"] = control.With(func(ctx context.Context, _ struct{}) (Map, error) {
		_, err := s.keeper.Sync(ctx)
		return s.keeper.State(), err
	})
	return all
}
