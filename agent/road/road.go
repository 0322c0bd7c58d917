// Package road knows the ways from this relay to other hosts: which hosts take mail of a
// domain, what each must prove before it is given one, and by which protocol. It keeps no
// mail and decides nothing about retries; agent/deliver does.
//
// A host is asked first over HTTPS (POST /mxdeliv, which passes where port 25 is blocked),
// then by SMTP with STARTTLS. What worked is remembered for a while. TLS is never optional, and the
// certificate must be vouched for, unless the operator's route to a domain says
// otherwise or the domain can have no such certificate (Options.NoBare).
package road

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"postern.email/kit/defaults"
	"postern.email/wire/dane"
	"postern.email/wire/dns"
	"postern.email/wire/mtasts"
	"postern.email/wire/smtp"
)

// Defaults of Options.
const (
	DefaultConnect  = 15 * time.Second // one TCP connection
	DefaultReach    = 3 * time.Minute  // all tries to reach a domain, until a host says it is ready
	DefaultTotal    = 90 * time.Minute // one mail, with all tries
	DefaultRemember = 30 * time.Minute // what worked
	maxHostsKnown   = 10_000           // hosts that something is remembered of
	tlsSessions     = 2_000            // TLS sessions kept for resumption
)

// Names is the part of wire/dns that a way needs.
type Names interface {
	MX(ctx context.Context, domain string) (list []dns.MX, authentic bool, err error)
	Addresses(ctx context.Context, host string) (dns.Host, error)
	dane.Resolver
}

// Policies gives MTA-STS policies: *mtasts.Cache.
type Policies interface {
	Policy(ctx context.Context, domain string) (mtasts.Policy, error)
}

// Options of Roads. Hostname and Names are needed.
type Options struct {
	Hostname string // what this host calls itself; mail is never sent to it
	Names    Names
	Policies Policies       // nil: MTA-STS is not looked at
	Roots    *x509.CertPool // whose certificates are believed; nil: the system's
	Routes   Routes

	SMTPPort, HTTPSPort uint16 // 0: 25 and 443

	NoWeb bool // never by HTTPS
	// NoBare asks for a verified certificate also where none can be had: of IP literals
	// and of domains that begin with "_", whose relays sign their own.
	NoBare bool

	// Us tells whether an address and port is this very server; nil: nothing is.
	Us func(netip.AddrPort) bool

	Dial func(ctx context.Context, network, addr string) (net.Conn, error) // nil: net.Dialer

	Connect, Reach, Total, Remember time.Duration
	Timeouts                        smtp.Timeouts // of SMTP

	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: nothing is logged
}

// Roads finds and keeps ways. It may be used by many goroutines.
type Roads struct {
	o                     Options
	hosts                 *memory
	sessions, webSessions tls.ClientSessionCache
	web                   *webRoad
}

// New makes Roads. Close ends kept connections.
func New(o Options) *Roads {
	defaults.Positive(&o.Connect, DefaultConnect)
	defaults.Positive(&o.Reach, DefaultReach)
	defaults.Positive(&o.Total, DefaultTotal)
	defaults.Positive(&o.Remember, DefaultRemember)
	if o.SMTPPort == 0 {
		o.SMTPPort = 25
	}
	if o.HTTPSPort == 0 {
		o.HTTPSPort = 443
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	defaults.Clock(&o.Now)
	defaults.Logger(&o.Logger)
	r := &Roads{o: o, sessions: tls.NewLRUClientSessionCache(tlsSessions), webSessions: tls.NewLRUClientSessionCache(tlsSessions)}
	r.hosts = newMemory(o.Remember, o.Now)
	r.web = newWebRoad(r)
	return r
}

// Close ends the connections that are kept for reuse.
func (r *Roads) Close() { r.web.close() }
