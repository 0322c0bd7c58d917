package relay

import (
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"testing"
)

// TestProxiesOnEveryPort: the word of a trusted proxy is believed on every port, also on
// the one that three protocols share, and one that says nothing is exempt everywhere.
func TestProxiesOnEveryPort(t *testing.T) {
	i := inMemory(t, "network.trusted_proxies=127.0.0.0/8", "connections.imap_per_network=1",
		"connections.smtp_per_network=1", "connections.pop3_per_network=1", "connections.web_per_network=3").Info()
	n := 0
	for name, port := range map[string]struct {
		addr, greeting string
		tls            *tls.Config // nil: none
	}{
		"imaps":       {i.IMAPS, "* OK", &tls.Config{}},
		"imap":        {i.IMAP, "* OK", nil},
		"submissions": {i.Submissions, "220 ", &tls.Config{}},
		"smtp":        {i.SMTP, "220 ", nil},
		"pop3s":       {i.POP3S, "+OK", &tls.Config{}},
		"https imap":  {i.HTTPS, "* OK", &tls.Config{NextProtos: []string{"imap"}}},
		"https smtp":  {i.HTTPS, "220 ", &tls.Config{NextProtos: []string{"smtp"}}},
	} {
		served := func(header string) bool {
			c := mustDial(t, port.addr)
			io.WriteString(c, header)
			if port.tls != nil && c.secure(port.tls.Clone()) != nil {
				return false
			}
			l, err := c.line()
			return err == nil && strings.HasPrefix(l, port.greeting)
		}
		client := func(n string) string { return "PROXY TCP6 2001:db8:" + n + "::1 2001:db8::9 1 2\r\n" }
		n++
		base := fmt.Sprint(n) // a network of its own for each port
		if !served(client(base)) {
			t.Errorf("%s: the first client is refused", name)
		}
		if served(client(base)) {
			t.Errorf("%s: a second connection from one network is served: the header is not believed", name)
		}
		for range 2 {
			if !served("") {
				t.Errorf("%s: a proxy that says nothing is not exempt", name)
			}
		}
	}
}
