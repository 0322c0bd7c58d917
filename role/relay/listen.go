package relay

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"strconv"
	"time"

	"postern.email/agent/receive"
	"postern.email/kit/config"
	"postern.email/kit/daemon"
	"postern.email/kit/limits"
	"postern.email/wire/certs"
	"postern.email/wire/control"
	"postern.email/wire/imap"
	"postern.email/wire/mtasts"
	"postern.email/wire/pop3"
	"postern.email/wire/smtp"
	"postern.email/wire/web"
)

// Version is what clients and operators are told; the release sets it when linking.
var Version = "0.2-dev"

const (
	mailMemory  = 256 << 20 // bytes of all mails being received at one time
	webBurst    = 5
	maxNetworks = 100_000 // networks whose rate is remembered
	// What one network may take of mailMemory: other servers, who are nobody's users, less. Both
	// hold the largest mail while it grows.
	strangerShare = mailMemory / 4
	userShare     = mailMemory / 2
	defaultGrace  = 5 * time.Second
	maxRecipients = 10_000
)

// port is one listener.
type port struct {
	name string // as in the configuration and in Info
	addr string
	l    *daemon.Listener
	run  func(context.Context, net.Listener) error
}

// shared are limits that several listeners count against together.
type shared struct {
	imap, smtp, pop3, web *limits.Conns
	memory                *limits.Bytes
}

func itoa(n int) string { return strconv.Itoa(n) }

// tlsVersion reads tls.min_version.
func (c *Config) tlsVersion() uint16 {
	if c.TLS.MinVersion == "1.2" {
		return tls.VersionTLS12
	}
	return tls.VersionTLS13
}

// trusted reads network.trusted_proxies, which the configuration has checked.
func (c *Config) trusted() (t limits.Trusted) {
	for _, s := range c.Network.TrustedProxies {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, err := netip.ParseAddr(s)
			if err != nil {
				continue
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		t = append(t, p)
	}
	return t
}

// listen takes all sockets first, so that a port in use stops the start before
// anything is served, then serves them.
func (s *Server) listen() error {
	c := &s.c
	s.limits = shared{
		imap: limits.NewConns(c.Connections.IMAP, c.Connections.IMAPPerNetwork),
		smtp: limits.NewConns(c.Connections.SMTP, c.Connections.SMTPPerNetwork),
		pop3: limits.NewConns(c.Connections.POP3, c.Connections.POP3PerNetwork),
		web:  limits.NewConns(c.Connections.Web, c.Connections.WebPerNetwork), memory: limits.NewBytes(mailMemory),
	}
	in := s.receiver()
	s.table(in)
	for _, p := range s.ports {
		if err := s.bind(p); err != nil {
			return err
		}
	}
	if err := s.startMix(in); err != nil {
		return err
	}
	if err := s.webs(in); err != nil {
		return err
	}
	serve, stopServing := context.WithCancel(context.Background())
	work, stopWorking := context.WithCancel(context.Background())
	s.serve, s.work = stopServing, stopWorking

	workers := map[string]func(context.Context) error{"accounts": s.accounts.Run, "mailboxes": s.boxes.Run, "memory of mails": s.seen.Run,
		"certificates": s.certs.Run, "queue": s.queue.Run, "policies of others": s.book.Run, "delivery": s.out.Run,
		"packets": s.packets.Run, "reply addresses": s.nyms.Run, "aliases": s.alias.register.Run, "mail that is sent on": s.alias.book.Run}
	if s.alias.desk != nil {
		workers["notices of aliases"] = s.runAliasNotices
	}
	if s.mix != nil {
		workers["counts of the mix network"] = s.mix.stats.Run
		workers["mail from the mix network"] = s.mix.door.Run
		workers["mail for reply addresses"] = s.desk().Run
		if s.mix.exit != nil {
			workers["marks of the exit"] = s.mix.exit.Run
		}
		if s.mix.issuer != nil {
			workers["keys of tokens"] = s.mix.runIssuer
		}
	}
	if s.policies != nil {
		workers["MTA-STS policies"] = s.policies.Run
	}
	for name, fn := range workers {
		s.working.Go(s.supervise(work, name, fn))
	}
	if s.dkim != nil {
		s.working.Go(s.supervise(work, "signing keys", s.runDKIM))
	}
	s.working.Go(func() { s.watchStore(work) })
	s.working.Go(func() { s.watchMemory(work) })
	s.working.Go(s.takeBallast)
	if s.d.CheckNames {
		s.working.Go(func() { s.warnRecords(work) })
	}
	for _, p := range s.ports {
		if p.l != nil {
			s.serving.Go(s.supervise(serve, p.name, func(ctx context.Context) error { return p.run(ctx, p.l) }))
		}
	}
	if s.d.NoControl {
		return nil
	}
	l, err := control.Listen(s.c.Dir)
	if err != nil {
		return err
	}
	s.serving.Go(s.supervise(serve, "control", func(ctx context.Context) error { return control.Serve(ctx, l, s.commands()) }))
	return nil
}

// bind takes the socket of one port, or its inherited one.
func (s *Server) bind(p *port) error {
	if p.addr == "off" {
		return nil
	}
	l := s.d.Sockets[p.name]
	if l == nil {
		var err error
		if l, err = daemon.Bind(s.d.Listen, p.addr, p.option()); err != nil {
			return err
		}
	}
	p.l = daemon.NewListener(l, s.c.trusted())
	return nil
}

// option is what the address of a port is set by.
func (p *port) option() string {
	if p.name == "mix" {
		return "mixnet.listen"
	}
	return "listen." + p.name
}

// table lists the ports with what is served on each.
func (s *Server) table(in *receive.Receive) {
	c := &s.c
	least := c.tlsVersion()
	bare := s.certs.Config(least) // for STARTTLS: no ALPN there
	at := func(name, addr string, run func(context.Context, net.Listener) error) {
		s.ports = append(s.ports, &port{name: name, addr: addr, run: run})
	}
	l := &c.Listen
	at("https", l.HTTPS, nil) // these three are set by webs, which needs to know the other ports
	at("https_alt", l.HTTPSAlt, nil)
	at("http", l.HTTP, nil)
	at("imaps", l.IMAPS, func(ctx context.Context, l net.Listener) error {
		return imap.Serve(ctx, l, s.imapOptions(s.certs.Config(least, "imap"), true, false))
	})
	at("imap", l.IMAP, func(ctx context.Context, l net.Listener) error {
		return imap.Serve(ctx, l, s.imapOptions(bare, false, false))
	})
	at("smtp", l.SMTP, func(ctx context.Context, l net.Listener) error { return smtp.Serve(ctx, l, s.exchangeOptions(in)) })
	at("submissions", l.Submissions, func(ctx context.Context, l net.Listener) error {
		return smtp.Serve(ctx, l, s.submitOptions(s.certs.Config(least, "smtp"), true, false))
	})
	at("submission", l.Submission, func(ctx context.Context, l net.Listener) error {
		return smtp.Serve(ctx, l, s.submitOptions(bare, false, false))
	})
	at("pop3s", l.POP3S, s.pop3(s.certs.Config(least, "pop3"), true, false))
	at("pop3", l.POP3, s.pop3(bare, false, false))
	at("private_imap", l.PrivateIMAP, func(ctx context.Context, l net.Listener) error {
		return imap.Serve(ctx, l, s.imapOptions(nil, false, true))
	})
	at("private_submission", l.PrivateSubmission, func(ctx context.Context, l net.Listener) error {
		return smtp.Serve(ctx, l, s.submitOptions(nil, false, true))
	})
	at("private_pop3", l.PrivatePOP3, s.pop3(nil, false, true))
	if s.mix != nil {
		at("mix", c.Mixnet.Listen, s.mix.run)
	}
}

func (s *Server) grace() time.Duration {
	if s.d.StopGrace > 0 {
		return s.d.StopGrace
	}
	return defaultGrace
}

func (s *Server) imapOptions(t *tls.Config, implicit, private bool) imap.Options {
	return imap.Options{Backend: s.access.IMAP(), TLS: t, Implicit: implicit, Private: private, Conns: s.limits.imap, PeerOf: daemon.PeerOf,
		Logger: s.d.Logger, Now: s.d.Now, Name: "Postern", Version: Version, Compress: s.c.IMAP.Compress,
		ExtraCapabilities: []string{"XCHATMAIL", "XDELTAPUSH"}, MaxAppend: int64(s.c.Mail.MaxMessageSize), Memory: s.limits.memory, Share: userShare, ShutdownGrace: s.grace()}
}

func (s *Server) submitOptions(t *tls.Config, implicit, private bool) smtp.Options {
	return smtp.Options{Hostname: s.c.Domain, Backend: s.submit, TLS: t, Implicit: implicit, Private: private,
		OfferAuth: true, RequireAuth: true, MaxSize: int64(s.c.Mail.MaxMessageSize), MaxRecipients: s.c.Submission.MaxRecipients,
		Conns: s.limits.smtp, PeerOf: daemon.PeerOf, Memory: s.limits.memory, Share: userShare, Logger: s.d.Logger, Grace: s.grace()}
}

// exchangeOptions are those of port 25: TLS 1.2 for strangers (RFC 8314 §4.1),
// no mail without it.
func (s *Server) exchangeOptions(in *receive.Receive) smtp.Options {
	return smtp.Options{Hostname: s.c.Domain, Backend: in, TLS: s.certs.Config(tls.VersionTLS12), RequireTLS: true,
		MaxSize: int64(s.c.Mail.MaxMessageSize), Conns: s.limits.smtp, PeerOf: daemon.PeerOf, Memory: s.limits.memory,
		Share: strangerShare, Received: in.Received, Logger: s.d.Logger, Grace: s.grace()}
}

func (s *Server) pop3(t *tls.Config, implicit, private bool) func(context.Context, net.Listener) error {
	return func(ctx context.Context, l net.Listener) error {
		srv, err := pop3.New(pop3.Options{Backend: s.access.POP3(), TLS: t, Implicit: implicit, Private: private, Conns: s.limits.pop3,
			PeerOf: daemon.PeerOf, Logger: s.d.Logger, ExpireDays: expireDays(s.c.Mail.DeleteAfter.Std()), ShutdownGrace: s.grace()})
		if err != nil {
			l.Close()
			return err
		}
		return srv.Serve(ctx, l)
	}
}

// webs builds the pages with the real port numbers, the switch by ALPN, and the way
// from plain HTTP to there.
func (s *Server) webs(in *receive.Receive) error {
	c := &s.c
	inactive := ""
	if d := c.Accounts.DeleteInactiveAfter; d != 0 {
		inactive = words(d)
	}
	after := ""
	if d := c.Mail.DeleteAfter; d != 0 {
		after = words(d)
	}
	port := s.portOf("https")
	if port == 0 {
		port = s.portOf("https_alt")
	}
	policy := "" // it asks for a certificate that is vouched for
	if !s.certs.SelfSigned() {
		policy = mtasts.Ours(c.host()).Text()
	}
	site, err := web.New(web.Options{Domain: c.Domain, Host: s.d.ClientHost, Policy: policy, SelfSigned: s.certs.SelfSigned(),
		Ports: web.Ports{HTTPS: port, IMAPS: s.portOf("imaps"), IMAP: s.portOf("imap"), Submissions: s.portOf("submissions"),
			Submission: s.portOf("submission"), POP3S: s.portOf("pop3s"), POP3: s.portOf("pop3")},
		NameLength: min(max(c.Web.NameLength, c.Accounts.UsernameMinLength), c.Accounts.UsernameMaxLength), PasswordMinLength: c.Accounts.PasswordMinLength,
		Limit: limits.NewGCRA(60*c.Web.CreatePerSecond, webBurst, maxNetworks, s.d.Now), Closed: s.mayCreate, Mix: s.mixClients(), AliasPath: s.aliasPath(), Admin: c.Metadata.Admin,
		DeleteAfter: after, InactiveAfter: inactive, Rand: s.d.Rand, Logger: s.d.Logger})
	if err != nil {
		return err
	}
	imaps, err := imap.New(s.imapOptions(s.certs.Config(c.tlsVersion()), false, false))
	if err != nil {
		return err
	}
	if err := s.openAliasWeb(); err != nil {
		return err
	}
	submission := s.submitOptions(s.certs.Config(c.tlsVersion()), false, false)
	secure := web.ServeOptions{TLS: s.certs.Config(c.tlsVersion(), "h2", "http/1.1", "imap", "smtp", certs.ChallengeProtocol), Handler: s.pages(site, in),
		Conns: s.limits.web, PeerOf: daemon.PeerOf, Grace: s.grace(), Protocols: map[string]func(context.Context, net.Conn){
			"imap":                  func(ctx context.Context, c net.Conn) { _ = imaps.ServeConn(ctx, c) },
			"smtp":                  func(ctx context.Context, c net.Conn) { smtp.ServeConn(ctx, c, submission) },
			certs.ChallengeProtocol: func(context.Context, net.Conn) {}, // the handshake was the answer
		}}
	if port == 0 {
		port = -1
	}
	plain := web.ServeOptions{Handler: web.Redirect(c.Domain, port, s.certs.Challenge), Conns: s.limits.web, PeerOf: daemon.PeerOf, Grace: s.grace()}
	for _, p := range s.ports {
		switch p.name {
		case "https", "https_alt":
			p.run = func(ctx context.Context, l net.Listener) error { return web.Serve(ctx, l, secure) }
		case "http":
			p.run = func(ctx context.Context, l net.Listener) error { return web.ServePlain(ctx, l, plain) }
		}
	}
	return nil
}

// words says a length of time to people.
func words(d config.Duration) string {
	if n := d.Std() / day; n > 0 && d.Std()%day == 0 {
		if n == 1 {
			return "1 day"
		}
		return itoa(int(n)) + " days"
	}
	return d.String()
}

// portOf gives the number of a port that is served, else 0.
func (s *Server) portOf(name string) int {
	for _, p := range s.ports {
		if p.name == name && p.l != nil {
			if a, ok := p.l.Addr().(*net.TCPAddr); ok {
				return a.Port
			}
		}
	}
	return 0
}

// watchStore says it in the log when the disk fails.
func (s *Server) watchStore(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-s.db.Failed():
		s.failing.Store(true)
		s.d.Logger.Error("the disk failed: nothing more is acknowledged and no mail is accepted; what was acknowledged is safe; "+
			"look at the disk, then restart", "err", s.db.Health())
	}
}
