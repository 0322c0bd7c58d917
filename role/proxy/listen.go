package proxy

import (
	"context"
	"net"

	"postern.email/kit/daemon"
	"postern.email/kit/limits"
	"postern.email/wire/control"
	"postern.email/wire/imap"
	"postern.email/wire/management"
	"postern.email/wire/pop3"
	"postern.email/wire/smtp"
)

// Bounds of what mail programs may use.
const (
	maxConns   = 100       // connections at one time, of each protocol
	mailMemory = 128 << 20 // bytes of all mails being received at one time
)

// port is one listener.
type port struct {
	name string // as in the configuration
	addr string
	l    net.Listener
	run  func(context.Context, net.Listener) error
}

// listen takes all sockets first, so that a port in use stops the start before anything is
// served, then serves them and lets the accounts run.
func (s *Server) listen() error {
	p := &s.c.Proxy
	if !p.NoLaunchListeners {
		s.ports = []*port{{name: "SMTPAddress", addr: p.SMTPAddress, run: s.smtp}, {name: "POP3Address", addr: p.POP3Address, run: s.pop3},
			{name: "IMAPAddress", addr: p.IMAPAddress, run: s.imap}, {name: "PageAddress", addr: p.PageAddress, run: s.page}}
	}
	for _, p := range s.ports {
		if p.addr == off {
			continue
		}
		var err error
		if p.l, err = daemon.Bind(s.d.Listen, p.addr, "Proxy."+p.name); err != nil {
			return err
		}
	}
	var cl, ml net.Listener
	if !s.d.NoSockets {
		var err error
		if cl, err = control.Listen(s.c.Proxy.DataDir); err != nil {
			return err
		}
		if s.c.Management.Enable {
			if ml, err = management.Listen(s.c.Management.Path); err != nil {
				cl.Close()
				return err
			}
		}
	}
	serving, stopServing := context.WithCancel(context.Background())
	working, stopWorking := context.WithCancel(context.Background())
	s.serve, s.work = stopServing, stopWorking
	part := func(ctx context.Context, name string, fn func(context.Context) error) func() {
		return daemon.Part(ctx, s.d.Logger, "proxy", name, s.broken, fn)
	}
	s.working.Go(part(working, "accounts", s.accounts.Run))
	s.working.Go(part(working, "mailboxes", s.boxes.Run))
	s.working.Go(part(working, "memory of mails", s.seen.Run))
	s.working.Go(part(working, "mail that waits", s.mail.out.Run))
	s.working.Go(part(working, "look-ups", s.runQueries))
	s.working.Go(func() { s.watchStore(working) })
	for _, u := range s.users {
		s.working.Go(part(working, "line to a relay", u.run))
	}
	for _, p := range s.ports {
		if p.l != nil {
			s.serving.Go(part(serving, p.name, func(ctx context.Context) error { return p.run(ctx, p.l) }))
		}
	}
	if cl != nil {
		s.serving.Go(part(serving, "control", func(ctx context.Context) error { return control.Serve(ctx, cl, s.commands()) }))
	}
	if ml != nil {
		s.serving.Go(part(serving, "management", func(ctx context.Context) error { return management.Serve(ctx, ml, recipients{s}) }))
	}
	return nil
}

// at gives the address of a listener, "" where there is none.
func (s *Server) at(name string) string {
	for _, p := range s.ports {
		if p.name == name && p.l != nil {
			return p.l.Addr().String()
		}
	}
	return ""
}

// smtp serves mail programs that send.
func (s *Server) smtp(ctx context.Context, l net.Listener) error {
	return smtp.Serve(ctx, l, smtp.Options{Hostname: hostname, Backend: s.mail.out, Private: true, OfferAuth: s.c.Proxy.SMTPAuth, RequireAuth: s.c.Proxy.SMTPAuth,
		MaxSize: maxMail, Offer: s.mail.out.Offer, Conns: limits.NewConns(maxConns, 0), Memory: s.memory, Logger: s.d.Logger, Grace: s.d.StopGrace})
}

func (s *Server) pop3(ctx context.Context, l net.Listener) error {
	srv, err := pop3.New(pop3.Options{Backend: pop3Logins{s.access.POP3(), s}, Private: true, Conns: limits.NewConns(maxConns, 0),
		Logger: s.d.Logger, ShutdownGrace: s.d.StopGrace})
	if err != nil {
		return err
	}
	return srv.Serve(ctx, l)
}

func (s *Server) imap(ctx context.Context, l net.Listener) error {
	return imap.Serve(ctx, l, imap.Options{Backend: imapLogins{s.access.IMAP(), s}, Private: true, Conns: limits.NewConns(maxConns, 0),
		Logger: s.d.Logger, Now: s.d.Now, Name: "Postern", Version: s.d.Version, MaxAppend: maxMail, Memory: s.memory, ShutdownGrace: s.d.StopGrace})
}

// pop3Logins and imapLogins say what to do where an account has no password.
type pop3Logins struct {
	pop3.Backend
	s *Server
}

// Login is that of pop3.Backend.
func (l pop3Logins) Login(ctx context.Context, peer limits.Peer, name, password string) (pop3.Maildrop, error) {
	name, err := l.s.login(ctx, name)
	if err != nil {
		return nil, err
	}
	return l.Backend.Login(ctx, peer, name, password)
}

type imapLogins struct {
	imap.Backend
	s *Server
}

// Login is that of imap.Backend.
func (l imapLogins) Login(ctx context.Context, r imap.LoginRequest) (_ imap.Session, err error) {
	if r.Username, err = l.s.login(ctx, r.Username); err != nil {
		return nil, err
	}
	return l.Backend.Login(ctx, r)
}

// watchStore says it in the log when the disk fails.
func (s *Server) watchStore(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-s.db.Failed():
		s.d.Logger.Error("the disk failed: nothing more is acknowledged and no mail is accepted; what was acknowledged is safe; look at the disk, then start again", "err", s.db.Health())
	}
}
