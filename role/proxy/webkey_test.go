package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pgp "github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// keyServer shows a key for u@example.com. asked counts.
func keyServer(t *testing.T, asked *atomic.Int32) *httptest.Server {
	e, err := pgp.NewEntity("", "", "u@example.com", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Curve: packet.Curve25519, Time: func() time.Time { return time.Now().Add(-time.Hour) }})
	must(t, err)
	var key bytes.Buffer
	must(t, e.Serialize(&key))
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Write(key.Bytes())
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS() // its certificate, for example.com and *.example.com, is that of the relays of these tests
	t.Cleanup(s.Close)
	return s
}

func webKeyEffects() map[string]func(*testing.T) {
	return map[string]func(*testing.T){
		// A mail that must be encrypted waits for the key that the recipient's domain shows over HTTPS.
		"Proxy.WebKeyDirectory": func(t *testing.T) {
			for top, code := range map[string]string{"WebKeyDirectory = false": "523", "WebKeyDirectory = true": "250"} {
				var asked atomic.Int32
				keys := keyServer(t, &asked)
				c := with(t, top, "anna@"+one).register(t)
				s := c.start(t, func(d *Deps) {
					d.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
						if addr == "openpgpkey.example.com:443" {
							addr = keys.Listener.Addr().String()
						}
						return new(net.Dialer).DialContext(ctx, network, addr)
					}
				})
				passwords(t, s)
				if l := submitter(t, s, "anna@"+one).send(t, "anna@"+one, "u@example.com", letterFrom("anna@"+one, "u@example.com", "x", "clear")); !strings.HasPrefix(l, code) {
					t.Errorf("%s: %s", top, l)
				}
				if w := strings.Join(c.load(t).Warnings(), " "); strings.Contains(w, "see that you look up keys") != (code == "250") {
					t.Error(w)
				}
				if code != "250" {
					if asked.Load() != 0 || s.users[0].submit.WebKey != nil {
						t.Error("asked without leave")
					}
					continue
				}
				told := time.NewTicker(10 * time.Millisecond)
				defer told.Stop()
				for asked.Load() == 0 {
					select {
					case <-told.C:
					case <-t.Context().Done():
						t.Fatal("nobody asked")
					}
				}
				key, err := s.users[0].submit.WebKey(t.Context(), mail.Address{Local: "u", Domain: "example.com"})
				if err != nil || !bytes.Contains(key, []byte("u@example.com")) {
					t.Errorf("%d bytes, %v", len(key), err)
				}
			}
		},
	}
}

// TestWebKeyUpstream: with UpstreamProxy keys are looked up through that, to which names go as they are,
// with circuits of its own for each; and when it is down nobody is asked, and it is said why.
func TestWebKeyUpstream(t *testing.T) {
	c := newSetup(t, newRelays(t), "anna@"+one)
	c.top = "WebKeyDirectory = true"
	c.rest = "[UpstreamProxy]\nType = \"tor+socks5\"\nAddress = \"127.0.0.1:9050\"\n"
	var seen []*seenSocks
	down := false
	served := make(chan struct{}, 10)
	s, err := prepare(Deps{Dial: func(_ context.Context, network, addr string) (net.Conn, error) {
		got := &seenSocks{network: network, addr: addr}
		seen = append(seen, got)
		if down {
			return nil, errors.New("refused")
		}
		client, server := net.Pipe()
		go func() {
			answerSocks(server, got)
			server.Close()
			served <- struct{}{}
		}()
		return client, nil
	}}, c.load(t))
	must(t, err)
	find := s.webKeys()
	for range 2 {
		_, err := find(t.Context(), mail.Address{Local: "u", Domain: "example.com"})
		refused(t, err, errs.Unavailable, "the SOCKS proxy does not allow this connection")
		<-served
	}
	if len(seen) != 2 || seen[0].addr != "127.0.0.1:9050" || seen[0].target != "openpgpkey.example.com" || seen[0].user == "" || seen[0].user == seen[1].user {
		t.Errorf("%+v", seen)
	}
	down = true
	_, err = find(t.Context(), mail.Address{Local: "u", Domain: "example.com"})
	refused(t, err, errs.Unavailable, "the SOCKS proxy cannot be reached")
	for _, x := range seen {
		if x.addr != "127.0.0.1:9050" {
			t.Errorf("%s was asked beside the proxy", x.addr)
		}
	}
}
