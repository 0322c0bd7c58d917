// Package smallworld is a small Internet on one machine, for tests and benchmarks: names, an
// authority for certificates, an address of its own for each host, and the mail servers of
// others as they are packaged for Debian, set up to live in it. Nothing of it leaves the
// loopback.
package smallworld

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	"postern.email/wire/dns/dnstest"
)

// Ports of mail hosts in a world: high, so that no root is needed.
const (
	SMTP  = "2525"
	HTTPS = "8443"
)

// World is one such Internet. It is built by one goroutine.
type World struct {
	DNS *dnstest.Server
	CA  *Authority

	net, last int
	resolver  string // where DNS answers on port 53 too
}

// claimPort marks the addresses of a world as taken while it lives: several test programs may run at
// one time.
const claimPort = "20525"

// New needs a machine on which all of 127.0.0.0/8 is there, as on Linux.
func New(t testing.TB) *World {
	t.Helper()
	w := &World{DNS: dnstest.New(t), CA: NewAuthority(t)}
	first := os.Getpid()
	for i := range 250 {
		w.net = 1 + (first+i)%250
		l, err := net.Listen("tcp", fmt.Sprintf("127.88.%d.254:%s", w.net, claimPort))
		if err == nil && !left(w.net) {
			t.Cleanup(func() { l.Close() })
			return w
		}
		if err == nil {
			l.Close()
			continue
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	t.Skip("this machine has only one loopback address")
	return nil
}

// left tells whether a program that was killed before it could clean up has left a server of
// its world behind.
func left(net3 int) bool {
	for host := 1; host <= 9; host++ {
		for _, port := range []string{SMTP, HTTPS} {
			l, err := net.Listen("tcp", fmt.Sprintf("127.88.%d.%d:%s", net3, host, port))
			if err != nil {
				return true
			}
			l.Close()
		}
	}
	return false
}

// Address gives the next address.
func (w *World) Address() string {
	const each = 250
	at := fmt.Sprintf("127.%d.%d.%d", 88+w.last/each, w.net, 1+w.last%each)
	w.last++
	return at
}

// Host gives a domain the next address, which is also its mail host of the same name.
func (w *World) Host(t testing.TB, domain string) (at string) {
	t.Helper()
	at = w.Address()
	w.DNS.Add(t, domain+". 60 IN A "+at, domain+". 60 IN MX 10 "+domain+".")
	return at
}

// Resolver gives the address of the world's names on port 53, for programs that know no
// other port. It needs root.
func (w *World) Resolver(t testing.TB) string {
	t.Helper()
	if w.resolver == "" {
		w.resolver = w.Address()
		w.DNS.Listen(t, w.resolver+":53")
	}
	return w.resolver
}
