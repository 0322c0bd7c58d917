// Package dns is a stub resolver: it asks recursive servers, tells whether DNSSEC
// vouches for an answer, and keeps answers as long as they hold. It validates no
// signature itself. A server that does says so with the AD bit (RFC 4035 §3.2.3), and
// the bit is believed where nobody can forge it on the way: from a server on this
// machine, or where the operator says so (RFC 4035 §4.9.3).
//
// Domain names go in and come out without the dot at their end. U-labels are turned
// to A-labels, letters to lower case. What a look-up returns is shared with others and
// must not be changed.
//
// Errors of every look-up: errs.Invalid for a name that no DNS name can be,
// errs.NotFound when the name does not exist (see NoDomain) or has no such record,
// errs.Canceled when the caller gave up, errs.Unavailable otherwise: no answer in
// time, a server that fails or refuses, an answer that DNSSEC finds forged, one that
// makes no sense.
package dns

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/kit/flight"
	"postern.email/kit/lru"
	"postern.email/kit/vfs"
)

// Bounds of time, and of what is kept and done at once.
const (
	DefaultTimeout = 10 * time.Second // one look-up, all servers, attempts and CNAMEs
	MaxQueries     = 256              // questions on the way to servers at one time; more wait
	MaxChain       = 8                // CNAMEs followed from one name
	MaxServers     = 3                // servers of resolv.conf that are used, as in libc
	rounds         = 2                // times that every server is asked

	MaxEntries     = 10_000           // answers that are kept
	MaxBytes       = 8 << 20          // of them
	MaxAnswer      = 16 << 10         // bytes of one answer; a larger one is not kept
	MinTTL         = 5 * time.Second  // also for answers that say less: one mail asks the same more than once
	MaxTTL         = time.Hour        // also for answers that say more: a key that was withdrawn must not live on
	MaxNegativeTTL = 15 * time.Minute // that there is no such name or record (RFC 2308 §5)
)

// Values of Options.TrustAD.
const (
	TrustAuto = "auto" // the AD bit is believed of a server on a loopback address, and with "options trust-ad" in resolv.conf
	TrustYes  = "yes"
	TrustNo   = "no"
)

// Options for New. The zero value asks the servers of this machine.
type Options struct {
	Server  string        // "address:port" of the one server to ask; empty: those of /etc/resolv.conf, which is read again when it changes
	TrustAD string        // empty: TrustAuto
	Timeout time.Duration // 0: DefaultTimeout
	FS      vfs.FS        // where resolv.conf lies; nil: the machine's disk

	Now  func() time.Time // nil: time.Now
	Rand io.Reader        // of the ids of questions, for many goroutines; nil: crypto/rand
	// Dial connects to a server ("udp" or "tcp"): what is read from a udp connection
	// comes from addr alone. nil: the machine's network.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Resolver asks servers and keeps answers. It may be used by many goroutines, starts
// none that outlive a look-up and need not be closed.
type Resolver struct {
	o       Options
	servers *servers
	rest    resting
	slots   chan struct{} // one for each question on its way

	asking flight.Group[question, *answer]

	mu        sync.Mutex
	kept      *lru.Map[question, *answer]
	forgotten uint64 // calls of Forget
}

// New makes a Resolver. errs.Invalid for options that make no sense; a resolv.conf
// that is not there is no error: the servers are then those of libc, on this machine.
func New(o Options) (*Resolver, error) {
	const op = "wire/dns.New"
	switch o.TrustAD {
	case "":
		o.TrustAD = TrustAuto
	case TrustAuto, TrustYes, TrustNo:
	default:
		return nil, errs.E(op, errs.Invalid, "whether to believe a resolver is auto, yes or no", nil)
	}
	defaults.Positive(&o.Timeout, DefaultTimeout)
	defaults.Zero(&o.FS, vfs.OS())
	defaults.Clock(&o.Now)
	defaults.Rand(&o.Rand)
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	r := &Resolver{o: o, servers: &servers{o: &o}, slots: make(chan struct{}, MaxQueries),
		kept: lru.New[question, *answer](MaxEntries, MaxBytes)}
	if o.Server != "" {
		at, err := netip.ParseAddrPort(o.Server)
		if err != nil || at.Port() == 0 {
			return nil, errs.E(op, errs.Invalid, "a resolver is given by its IP address and port", err)
		}
		r.servers.fixed = []server{{o.Server, trusted(o.TrustAD, at.Addr(), false)}}
	}
	return r, nil
}

// errNoDomain is the cause of an errs.NotFound when there is no such name at all.
var errNoDomain = errors.New("NXDOMAIN")

// NoDomain reports whether err says that the name does not exist, rather than that it
// has no such record.
func NoDomain(err error) bool { return errors.Is(err, errNoDomain) }
