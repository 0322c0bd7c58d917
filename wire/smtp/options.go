package smtp

import (
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/limits"
	"postern.email/kit/serve"
	"postern.email/wire/lineio"
)

// Defaults of Options. The times are those of RFC 5321 §4.5.3.2, as far as it names
// them for the server.
const (
	DefaultMaxSize       = 31457280 // octets of one mail
	DefaultMaxRecipients = 1000     // of one mail
	DefaultMaxMails      = 100_000  // of one session
	DefaultMaxErrors     = 20       // faulty commands of one session
	DefaultMaxRefused    = 100      // refused recipients of a session without login, between two mails
	DefaultMemory        = 256 << 20
	DefaultIdle          = 5 * time.Minute  // §4.5.3.2.7
	DefaultLine          = time.Minute      // first to last byte of a command
	DefaultDataBlock     = 3 * time.Minute  // §4.5.3.2.5
	DefaultWrite         = 3 * time.Minute  // one flush of replies
	DefaultHandshake     = 30 * time.Second // TLS
	DefaultGrace         = 10 * time.Second // for transfers under way at a shutdown
	DefaultDataTotal     = time.Hour        // one mail, from its first byte to its last
	DefaultMinRate       = 256              // octets a second of a mail, in any DataBlock of time
)

// Fixed limits.
const (
	MaxCommand  = 2048  // octets of a command line; RFC 5321 §4.5.3.1.4 asks for 512 and the parameters' own
	MaxTextLine = 16384 // octets of a line of a mail; §4.5.3.1.6 asks for 998 at least
	MaxAuth     = 3     // failed logins of one connection
)

// Options of one listener.
type Options struct {
	Hostname string // what the server calls itself; default "localhost"
	Backend  Backend

	TLS      *tls.Config // nil: no TLS at all
	Implicit bool        // TLS from the first byte; else STARTTLS is offered
	// Private: the operator declared that nobody can listen (loopback proxy, onion,
	// I2P): see sasl.MayAuth.
	Private bool

	OfferAuth   bool // AUTH where sasl.MayAuth allows
	RequireAuth bool // MAIL only after AUTH: 530 5.7.0 (submission)
	RequireTLS  bool // MAIL only under TLS: 530 5.7.0 (mail exchange)

	MaxSize int64 // octets of one mail
	// Offer is what EHLO says of the size of a mail where less than MaxSize is taken now; the Backend
	// refuses what is larger. Nothing, or 0 from it: MaxSize.
	Offer         func() int64
	MaxRecipients int   // of one mail; more get 452 4.5.3
	MaxMails      int   // of one session; more get 421 4.7.0
	MaxErrors     int   // faulty commands of one session; more get 421 4.7.0
	MaxRefused    int   // recipients refused for good since the last mail of a session without login; more get 421 4.7.0
	MinRate       int64 // octets a second that a mail must come with, in any DataBlock of time

	Conns  *limits.Conns              // connections; nil: no limit
	PeerOf func(net.Conn) limits.Peer // nil: the connection's own remote address
	Memory *limits.Bytes              // mails being received, shared by all listeners; nil: a budget of DefaultMemory of its own
	Share  int64                      // octets of Memory that one network may take; 0: no such limit
	Logger *slog.Logger               // nil: nothing is logged

	// Received is told how many octets came as a mail, or as a chunk of one, whether it was
	// taken, refused or broken off. nil: nobody counts.
	Received func(limits.Peer, int64)

	Idle, Line, DataBlock, DataTotal, Write, Handshake, Grace time.Duration
}

func (o Options) withDefaults() Options {
	defaults.Positive(&o.Idle, DefaultIdle)
	defaults.Positive(&o.Line, DefaultLine)
	defaults.Positive(&o.DataBlock, DefaultDataBlock)
	defaults.Positive(&o.DataTotal, DefaultDataTotal)
	defaults.Positive(&o.Write, DefaultWrite)
	defaults.Positive(&o.Handshake, DefaultHandshake)
	defaults.Positive(&o.Grace, DefaultGrace)
	if o.Hostname == "" {
		o.Hostname = "localhost"
	}
	defaults.Positive(&o.MaxSize, DefaultMaxSize)
	defaults.Positive(&o.MaxRecipients, DefaultMaxRecipients)
	defaults.Positive(&o.MaxMails, DefaultMaxMails)
	defaults.Positive(&o.MaxErrors, DefaultMaxErrors)
	defaults.Positive(&o.MaxRefused, DefaultMaxRefused)
	defaults.Positive(&o.MinRate, DefaultMinRate)
	if o.Memory == nil {
		o.Memory = limits.NewBytes(DefaultMemory)
	}
	defaults.Logger(&o.Logger)
	if o.PeerOf == nil {
		o.PeerOf = serve.PeerOf
	}
	return o
}

// offer is the size of a mail that EHLO names.
func (o *Options) offer() int64 {
	if o.Offer != nil {
		if n := o.Offer(); n > 0 {
			return min(n, o.MaxSize)
		}
	}
	return o.MaxSize
}

// A line of a mail must fit into the reader's buffer (see transfer).
var _ [lineio.BufferSize - MaxTextLine - 2]struct{}
