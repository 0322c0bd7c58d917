package interop

import (
	"encoding/json"
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
	at := w.Host(t, domain)
	cert, key := w.CA.Issue(t, domain, "mta-sts."+domain)
	all := []string{"domain=" + domain, "tls.mode=files", "tls.cert=" + cert, "tls.key=" + key, "tls.trusted_cas=" + w.CA.File,
		"network.resolver=" + w.DNS.Addr, "network.resolver_dnssec=yes", "delivery.remote=true",
		"delivery.routes=* smtp=" + worldSMTP + " https=" + worldHTTPS,
		"listen.smtp=" + at + ":" + worldSMTP, "listen.https=" + at + ":" + worldHTTPS,
		"delivery.first_retry=200ms", "delivery.last_retry=1s"}
	s := start(t, append(all, sets...)...)
	w.publish(t, s)
	return s
}

// publish puts a relay's keys into the DNS.
func (w *world) publish(t testing.TB, s *server) {
	t.Helper()
	var keys struct {
		Pairs []struct {
			Records []struct{ Name, Text string }
		}
	}
	r := command(t, nil, binary(t), "dkim", "show", "--json", "--dir", s.dir)
	r.want(t, 0)
	if err := json.Unmarshal([]byte(r.out), &keys); err != nil || len(keys.Pairs) == 0 {
		t.Fatalf("dkim show: %v: %s", err, r.out)
	}
	for _, p := range keys.Pairs {
		for _, x := range p.Records {
			w.DNS.AddTXT(t, x.Name, x.Text)
		}
	}
}
