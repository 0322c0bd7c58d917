package mailclient

import (
	"context"
	"crypto/tls"
	"net"
	"time"
)

// Security is how a connection is protected.
type Security int

const (
	TLS      Security = iota // TLS from the first byte
	STARTTLS                 // TLS after a command in the clear
	Plain                    // never; for tests of refusals
)

// DefaultTimeout bounds one step (dial, one reply) unless a client's Timeout
// field says otherwise.
const DefaultTimeout = 30 * time.Second

// Dialer says how connections are made. The zero value dials TCP without
// checking certificates.
type Dialer struct {
	TLS     *tls.Config   // nil: no check of the certificate
	Timeout time.Duration // 0: DefaultTimeout
	From    string        // local address ("127.1.2.3"): who the server takes it for; "": any
}

func (d Dialer) timeout() time.Duration {
	if d.Timeout > 0 {
		return d.Timeout
	}
	return DefaultTimeout
}

func (d Dialer) config() *tls.Config {
	if d.TLS != nil {
		return d.TLS
	}
	return &tls.Config{InsecureSkipVerify: true} //nolint:gosec // tests against a fresh self-signed server
}

func (d Dialer) dial(addr string, implicit bool) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), d.timeout())
	defer cancel()
	var nd net.Dialer
	if d.From != "" {
		nd.LocalAddr = &net.TCPAddr{IP: net.ParseIP(d.From)}
	}
	raw, err := nd.DialContext(ctx, "tcp", addr)
	if err != nil || !implicit {
		return raw, err
	}
	return handshake(ctx, raw, d.config())
}

func handshake(ctx context.Context, raw net.Conn, cfg *tls.Config) (net.Conn, error) {
	conn := tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return conn, nil
}
