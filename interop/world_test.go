package interop

import (
	"crypto/tls"
	"net"
	"testing"

	"postern.email/interop/smallworld"
)

// Ports of mail hosts in a world.
const (
	worldSMTP  = smallworld.SMTP
	worldHTTPS = smallworld.HTTPS
)

// world is a small Internet on this machine, with relays in it.
type world struct{ *smallworld.World }

func newWorld(t testing.TB) *world {
	t.Helper()
	return &world{smallworld.New(t)}
}

// relay runs a Postern for a domain: it has a certificate, an MX record and its keys in
// the DNS. sets come last.
func (w *world) relay(t testing.TB, domain string, sets ...string) *server {
	t.Helper()
	s := start(t, append(w.Relay(t, domain), sets...)...)
	w.Publish(t, binary(t), s.dir)
	return s
}

// listen serves connections until the test ends, each when it comes: serve is to start a goroutine
// where several may be open. ended is closed when none comes any more.
func listen(t testing.TB, addr string, serve func(net.Conn)) (ended <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c)
		}
	}()
	return done
}

// certified is a server's side of TLS with a certificate of the world's authority.
func (w *world) certified(t testing.TB, names ...string) *tls.Config {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(w.CA.Issue(t, names...))
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}}
}
