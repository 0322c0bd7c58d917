package interop

import (
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
