package imap

import (
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/limits"
)

// Options of a server. The zero value of a limit means its default.
type Options struct {
	Backend Backend
	// TLS is the configuration for implicit TLS and STARTTLS; nil: neither.
	TLS *tls.Config
	// Implicit says that a connection begins with a TLS handshake (port 993).
	Implicit bool
	// Private says that the way to this listener is private without TLS
	// (loopback proxy, onion service), so that passwords may cross it.
	Private bool
	// Conns bounds the connections; nil: no bound. Several servers may share it.
	Conns *limits.Conns
	// PeerOf gives who is on the other end; nil: taken from RemoteAddr.
	PeerOf func(net.Conn) limits.Peer
	// Memory bounds the bytes of all messages that are being appended at one time;
	// nil: DefaultAppendMemory for this server. Several servers may share it.
	Memory *limits.Bytes
	Share  int64            // bytes of Memory that one network may take; 0: no such limit
	Logger *slog.Logger     // nil: no log
	Now    func() time.Time // nil: time.Now

	// Name and Version are the answer to ID. Empty: NIL.
	Name, Version string
	// Compress offers COMPRESS=DEFLATE (RFC 4978). Off by default: compression
	// under TLS lets an observer learn from lengths how alike two texts are.
	Compress bool
	// ExtraCapabilities are announced before and after login: XCHATMAIL, XDELTAPUSH.
	ExtraCapabilities []string

	MaxLine       int           // bytes of a command line without literals; default 64 KiB
	MaxCommand    int           // bytes of a command with its small literals; default 256 KiB
	MaxAppend     int64         // bytes of one appended message (APPENDLIMIT); default 30 MiB
	MaxMetadata   int           // bytes of one METADATA value; default 4 KiB
	MaxBad        int           // wrong commands in a row before the connection is closed; default 20
	LoginTimeout  time.Duration // from connect to login; default 60 s
	IdleTimeout   time.Duration // between two commands; default 30 min (the least of RFC 9051 §5.4)
	WriteTimeout  time.Duration // for the client to take a buffer of output; default 2 min
	Progress      time.Duration // between two "* OK [INPROGRESS …]" of a long SEARCH; default 10 s
	KeepAlive     time.Duration // between two "* OK Still here" in IDLE; default 2 min
	ShutdownGrace time.Duration // for running commands when the server stops; default 5 s
}

// Limits by default.
const (
	DefaultMaxLine       = 64 << 10
	DefaultMaxCommand    = 256 << 10
	DefaultMaxAppend     = 31457280
	DefaultAppendMemory  = 256 << 20
	DefaultMaxMetadata   = 4 << 10
	DefaultMaxBad        = 20
	DefaultLoginTimeout  = 60 * time.Second
	DefaultIdleTimeout   = 30 * time.Minute
	DefaultWriteTimeout  = 2 * time.Minute
	DefaultProgress      = 10 * time.Second
	DefaultKeepAlive     = 2 * time.Minute
	DefaultShutdownGrace = 5 * time.Second
)

func (o Options) withDefaults() Options {
	defaults.Positive(&o.MaxLine, DefaultMaxLine)
	defaults.Positive(&o.MaxCommand, DefaultMaxCommand)
	defaults.Positive(&o.MaxAppend, DefaultMaxAppend)
	defaults.Positive(&o.MaxMetadata, DefaultMaxMetadata)
	defaults.Positive(&o.MaxBad, DefaultMaxBad)
	defaults.Positive(&o.LoginTimeout, DefaultLoginTimeout)
	defaults.Positive(&o.IdleTimeout, DefaultIdleTimeout)
	defaults.Positive(&o.WriteTimeout, DefaultWriteTimeout)
	defaults.Positive(&o.Progress, DefaultProgress)
	defaults.Positive(&o.KeepAlive, DefaultKeepAlive)
	defaults.Positive(&o.ShutdownGrace, DefaultShutdownGrace)
	if o.Memory == nil {
		o.Memory = limits.NewBytes(DefaultAppendMemory)
	}
	defaults.Clock(&o.Now)
	defaults.Logger(&o.Logger)
	if o.PeerOf == nil {
		o.PeerOf = peerOf
	}
	return o
}

// peerOf takes the peer from the socket itself.
func peerOf(nc net.Conn) limits.Peer {
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		return limits.Peer{Addr: a.AddrPort().Addr().Unmap()}
	}
	return limits.Peer{}
}
