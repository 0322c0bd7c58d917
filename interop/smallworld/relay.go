package smallworld

import (
	"encoding/json"
	"os/exec"
	"testing"
)

// Relay gives the options of a Postern that is to be the mail host of a domain: its address,
// a certificate, names and authority of the world, the world's ports, short pauses.
func (w *World) Relay(t testing.TB, domain string) []string {
	t.Helper()
	at := w.Host(t, domain)
	cert, key := w.CA.Issue(t, domain, "mta-sts."+domain)
	return []string{"domain=" + domain, "tls.mode=files", "tls.cert=" + cert, "tls.key=" + key, "tls.trusted_cas=" + w.CA.File,
		"network.resolver=" + w.DNS.Addr, "network.resolver_dnssec=yes", "delivery.remote=true",
		"delivery.routes=* smtp=" + SMTP + " https=" + HTTPS,
		"listen.smtp=" + at + ":" + SMTP, "listen.https=" + at + ":" + HTTPS,
		"delivery.first_retry=200ms", "delivery.last_retry=1s"}
}

// Publish puts the keys of a running relay into the DNS. program is the built one, dir where
// it keeps its data.
func (w *World) Publish(t testing.TB, program, dir string) {
	t.Helper()
	var keys struct {
		Pairs []struct {
			Records []struct{ Name, Text string }
		}
	}
	out, err := exec.Command(program, "dkim", "show", "--json", "--dir", dir).Output()
	if err == nil {
		err = json.Unmarshal(out, &keys)
	}
	if err != nil || len(keys.Pairs) == 0 {
		t.Fatalf("dkim show: %v: %s", err, out)
	}
	for _, p := range keys.Pairs {
		for _, x := range p.Records {
			w.DNS.AddTXT(t, x.Name, x.Text)
		}
	}
}
