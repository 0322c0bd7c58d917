// Package socks reaches other hosts through a SOCKS5 proxy (RFC 1928, RFC 1929), such as Tor. Names
// of hosts are resolved by the proxy: nothing here asks the DNS.
package socks

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"strings"

	"golang.org/x/net/proxy"

	"postern.email/kit/errs"
)

// MaxCredential bounds a name and a password, in bytes (RFC 1929 §2).
const MaxCredential = 255

// Options of a Dialer. Address is needed.
type Options struct {
	Network string // of the proxy's address: "tcp" or "unix"; "": "tcp"
	Address string // host:port, or the path of a socket

	User, Password string // for the proxy; both or none

	// Isolate is a name for everything that goes through this Dialer and nothing else does: Tor
	// takes circuits of their own for it (IsolateSOCKSAuth, which is its default). The name is
	// hashed with random numbers of this Dialer, so that the proxy learns nothing of it. It takes the
	// place of User and Password.
	Isolate string

	Dial   func(ctx context.Context, network, addr string) (net.Conn, error) // to the proxy; nil: net.Dialer
	Random io.Reader                                                         // nil: crypto/rand
}

// Dialer connects through a proxy. It may be used by many goroutines.
type Dialer struct {
	named bool // the proxy is given a name and a password
	d     proxy.ContextDialer
}

// New makes a Dialer; it connects to nothing yet. errs.Invalid, with a public text, for options
// that cannot be.
func New(o Options) (*Dialer, error) {
	const op = "kit/socks.New"
	bad := func(text string) (*Dialer, error) { return nil, errs.E(op, errs.Invalid, text, nil) }
	if o.Network == "" {
		o.Network = "tcp"
	}
	switch {
	case o.Network != "tcp" && o.Network != "unix":
		return bad("the network of a SOCKS proxy is tcp or unix")
	case o.Address == "":
		return bad("the address of the SOCKS proxy is missing")
	case len(o.User) > MaxCredential || len(o.Password) > MaxCredential:
		return bad("name and password for a SOCKS proxy have at most 255 bytes each")
	case (o.User == "") != (o.Password == ""):
		return bad("name and password for a SOCKS proxy belong together: give both or none")
	case o.User != "" && o.Isolate != "":
		return bad("where names choose circuits, the SOCKS proxy can be given no other name")
	}
	if o.Isolate != "" {
		if o.Random == nil {
			o.Random = rand.Reader
		}
		var key [32]byte
		if _, err := io.ReadFull(o.Random, key[:]); err != nil {
			return nil, errs.E(op, errs.Internal, "", err)
		}
		sum := sha256.Sum256(append(key[:], o.Isolate...))
		o.User, o.Password = "postern-"+hex.EncodeToString(sum[:8]), hex.EncodeToString(sum[8:])
	}
	var auth *proxy.Auth
	if o.User != "" {
		auth = &proxy.Auth{User: o.User, Password: o.Password}
	}
	d, err := proxy.SOCKS5(o.Network, o.Address, auth, forward{o.Dial})
	if err != nil {
		return nil, errs.E(op, errs.Invalid, "", err)
	}
	c, ok := d.(proxy.ContextDialer)
	if !ok {
		return nil, errs.E(op, errs.Internal, "", errors.New("the library's dialer takes no context"))
	}
	return &Dialer{named: auth != nil, d: c}, nil
}

// errReach marks that the proxy itself could not be reached.
var errReach = errors.New("proxy not reached")

// errNoHost marks that the proxy says that there is no way to the host, or no such name: the protocol
// has one answer for both.
var errNoHost = errors.New("no such host")

// NoHost reports whether an error of DialContext says that the proxy found no such host, or no way to it
// (RFC 1928 §6, reply 4).
func NoHost(err error) bool { return errors.Is(err, errNoHost) }

// forward reaches the proxy.
type forward struct {
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

func (f forward) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	dial := f.dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	c, err := dial(ctx, network, addr)
	if err != nil {
		return nil, errors.Join(errReach, err)
	}
	return c, nil
}

// Dial is there because the library asks for it; it uses DialContext.
func (f forward) Dial(network, addr string) (net.Conn, error) {
	return f.DialContext(context.Background(), network, addr)
}

// DialContext connects to a host and port, "name:port" or an IP address, through the proxy. network
// is "tcp". errs.Unavailable, errs.Auth for a name or password that the proxy does not take,
// errs.Denied where it does not allow the connection, errs.Invalid for an address that is none,
// errs.Canceled when ctx ends, all with a public text.
func (d *Dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := d.d.DialContext(ctx, network, addr)
	if err == nil {
		return c, nil
	}
	if ctx.Err() != nil {
		return nil, errs.E(opDial, errs.Canceled, "", ctx.Err())
	}
	return nil, d.why(err)
}

const opDial = "kit/socks.Dial"

// why puts the library's words, which are all that it gives, into our kinds. A test goes through
// all answers of a proxy.
func (d *Dialer) why(err error) error {
	if errors.Is(err, errReach) {
		return errs.E(opDial, errs.Unavailable, "the SOCKS proxy cannot be reached", err)
	}
	text := err.Error()
	for _, w := range []struct {
		words, public string
		kind          errs.Kind
	}{
		{"no acceptable authentication methods", "", errs.Auth},
		{"username/password authentication failed", "the SOCKS proxy does not take this name and password", errs.Auth},
		{"connection not allowed by ruleset", "the SOCKS proxy does not allow this connection", errs.Denied},
		{"network unreachable", "the SOCKS proxy cannot reach the network of the other host", errs.Unavailable},
		{"host unreachable", "the SOCKS proxy cannot reach the other host", errs.Unavailable},
		{"connection refused", "the other host refused the connection of the SOCKS proxy", errs.Unavailable},
		{"TTL expired", "the SOCKS proxy had no answer from the other host in time", errs.Unavailable},
		{"general SOCKS server failure", "the SOCKS proxy could not connect", errs.Unavailable},
		{"unexpected protocol version", "this is no SOCKS5 proxy", errs.Unavailable},
		{"missing port", "this is no address of a host and port", errs.Invalid},
		{"port number out of range", "this is no address of a host and port", errs.Invalid},
		{"invalid syntax", "this is no address of a host and port", errs.Invalid},
		{"FQDN too long", "the name of the host is too long for a SOCKS proxy", errs.Invalid},
		{"network not implemented", "a SOCKS proxy is asked for TCP only", errs.Invalid},
	} {
		if strings.Contains(text, w.words) {
			if w.public == "" {
				w.public = "the SOCKS proxy wants a name and a password"
				if d.named {
					w.public = "the SOCKS proxy takes no name and password, and nothing else that is offered"
				}
			}
			if w.words == "host unreachable" {
				err = errors.Join(errNoHost, err)
			}
			return errs.E(opDial, w.kind, w.public, err)
		}
	}
	return errs.E(opDial, errs.Unavailable, "the SOCKS proxy does not answer as one", err)
}
