package relay

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"postern.email/kit/vfs"
)

// refuser is a certificate authority that makes accounts and refuses every order.
type refuser struct {
	*httptest.Server
	mu       sync.Mutex
	contacts []string
	ordered  []string
}

func newRefuser(t *testing.T) *refuser {
	a := &refuser{}
	a.Server = httptest.NewTLSServer(http.HandlerFunc(a.serve))
	t.Cleanup(a.Close)
	return a
}

func (a *refuser) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Replay-Nonce", "bm9uY2U")
	w.Header().Set("Content-Type", "application/json")
	var jws struct{ Payload string }
	body, _ := io.ReadAll(r.Body)
	json.Unmarshal(body, &jws)
	payload, _ := base64.RawURLEncoding.DecodeString(jws.Payload)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch r.URL.Path {
	case "/dir":
		json.NewEncoder(w).Encode(map[string]any{"newNonce": a.URL + "/nonce", "newAccount": a.URL + "/account", "newOrder": a.URL + "/order",
			"meta": map[string]any{"termsOfService": a.URL + "/terms", "caaIdentities": []string{"CA.example"}}})
	case "/account":
		var p struct{ Contact []string }
		json.Unmarshal(payload, &p)
		a.contacts = append(a.contacts, p.Contact...)
		w.Header().Set("Location", a.URL+"/account/1")
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, `{"status":"valid"}`)
	case "/order":
		var p struct{ Identifiers []struct{ Value string } }
		json.Unmarshal(payload, &p)
		for _, i := range p.Identifiers {
			a.ordered = append(a.ordered, i.Value)
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, `{"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"not this one","status":403}`)
	}
}

// asked gives what was ordered so far, sorted.
func (a *refuser) asked() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Sorted(slices.Values(a.ordered))
}

// relay starts a relay that believes this authority. Nobody answers its questions for
// names.
func (a *refuser) relay(t *testing.T, set ...string) *Server {
	t.Helper()
	fs := vfs.NewCrashDisk()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw})
	if err := vfs.WriteFileAtomic(fs, "/ca", ca, 0o600); err != nil {
		t.Fatal(err)
	}
	words := []string{"tls.mode=acme", "tls.acme_directory=" + a.URL + "/dir", "tls.trusted_cas=/ca", "network.resolver=127.0.0.1:1"}
	return begin(t, Deps{FS: fs, NoControl: true}, testConfig(t, "/data", append(words, set...)...))
}

// testACME: which authority is asked, for which names, and what it is told.
func testACME(t *testing.T) {
	a := newRefuser(t)
	s := a.relay(t, "tls.acme_email=ops@example.org", "tls.acme_names=imap.example.org")
	want := []string{"autoconfig.example.org", "example.org", "imap.example.org", "mta-sts.example.org", "www.example.org"}
	until(t, "orders", func() bool { return slices.Equal(a.asked(), want) })
	if !slices.Contains(a.contacts, "mailto:ops@example.org") {
		t.Errorf("the authority was told to write to %q", a.contacts)
	}
	until(t, "the authority's word", func() bool {
		st := s.Status().TLS
		return st.Mode == "acme" && len(st.Certs) == 5 && strings.Contains(st.Certs[0].Error, "not this one") && st.Certs[0].NextTry != ""
	})
	// Meanwhile there is TLS all the same, and nobody is told to accept anything for ever.
	if err := mustDial(t, s.Info().IMAPS).secure(nil); err != nil || s.certs.SelfSigned() {
		t.Errorf("%v, self-signed %v", err, s.certs.SelfSigned())
	}
	// An authority's handshake outside a challenge is refused, on the port that it uses.
	challenge := &tls.Config{NextProtos: []string{"acme-tls/1"}, ServerName: "example.org"}
	if mustDial(t, s.Info().HTTPS).secure(challenge.Clone()) == nil || mustDial(t, inMemory(t).Info().HTTPS).secure(challenge) == nil {
		t.Error("a challenge was answered that nobody made")
	}

	b := newRefuser(t)
	b.relay(t)
	until(t, "orders", func() bool {
		return slices.Equal(b.asked(), []string{"autoconfig.example.org", "example.org", "mta-sts.example.org", "www.example.org"})
	})
	if len(b.contacts) != 0 {
		t.Errorf("unset, the authority was told to write to %q", b.contacts)
	}
}

// testTLSMode: auto asks the authority for a name that it could vouch for.
func testTLSMode(t *testing.T) {
	a := newRefuser(t)
	a.relay(t, "tls.mode=auto")
	until(t, "order", func() bool { return slices.Contains(a.asked(), "example.org") })
	for _, x := range []struct{ set, want string }{
		{"domain=example.org", tlsACME}, {"domain=_x.example.org", tlsSelfSigned}, {"domain=192.0.2.1", tlsSelfSigned},
		{"domain=2001:db8::1", tlsSelfSigned}, {"domain=postern.localhost", tlsSelfSigned}, {"domain=x.local", tlsSelfSigned},
		{"domain=x.test", tlsSelfSigned}, {"domain=x.onion", tlsSelfSigned}, {"domain=x.i2p", tlsSelfSigned},
		{"domain=localhost", tlsSelfSigned}, {"domain=local.example.org", tlsACME}, {"tls.cert=/c,tls.key=/k", tlsFiles},
		{"domain=_x.example.org,tls.cert=/c,tls.key=/k", tlsFiles},
	} {
		c := testConfig(t, "/data", append([]string{"tls.mode=auto"}, strings.Split(x.set, ",")...)...)
		c = c.withLiteral()
		if got := c.tlsMode(); got != x.want || c.Check() != nil {
			t.Errorf("%s: %s, %v", x.set, got, c.Check())
		}
	}
	for _, mode := range []string{"self-signed", "acme", "files"} {
		c := testConfig(t, "/data", "domain=_x.example.org", "tls.mode="+mode)
		if got := c.tlsMode(); got != mode {
			t.Errorf("%s: %s", mode, got)
		}
	}
	if s := inMemory(t, "tls.mode=self-signed"); s.Status().TLS.Mode != "self-signed" || !s.certs.SelfSigned() {
		t.Errorf("%+v", s.Status().TLS)
	}
}

// TestPlainHTTP: nothing but the way to the site under TLS, whatever the request
// names.
func TestPlainHTTP(t *testing.T) {
	i := inMemory(t).Info()
	get := func(request string) string {
		c := mustDial(t, i.HTTP)
		io.WriteString(c, request)
		all, _ := io.ReadAll(c)
		return string(all)
	}
	_, port, _ := strings.Cut(i.HTTPS, ":")
	got := get("GET /info?x=1 HTTP/1.1\r\nHost: evil.example\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 301 ") || !strings.Contains(got, "\r\nLocation: https://example.org:"+port+"/info?x=1\r\n") {
		t.Errorf("%s", got)
	}
	for _, path := range []string{"/.well-known/mta-sts.txt", "/.well-known/acme-challenge/x"} {
		if got := get("GET " + path + " HTTP/1.1\r\nHost: example.org\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 404 ") {
			t.Errorf("%s: %s", path, got)
		}
	}
	if got := get("POST /new HTTP/1.1\r\nHost: example.org\r\nContent-Length: 0\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 308 ") {
		t.Errorf("%s", got)
	}
}

// TestHTTPSAlt: the second door has what the first one has, and stands in for it.
func TestHTTPSAlt(t *testing.T) {
	s := inMemory(t)
	for _, addr := range []string{s.Info().HTTPS, s.Info().HTTPSAlt} {
		for proto, begins := range map[string]string{"imap": "* OK", "smtp": "220 "} {
			c := mustDial(t, addr)
			if err := c.secure(&tls.Config{NextProtos: []string{proto}}); err != nil {
				t.Fatal(err)
			}
			if l, err := c.line(); !strings.HasPrefix(l, begins) {
				t.Errorf("%s: %q, %v", proto, l, err)
			}
		}
	}
	alone := inMemory(t, "listen.https=off").Info()
	c := mustDial(t, alone.HTTP)
	io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
	_, port, _ := strings.Cut(alone.HTTPSAlt, ":")
	if all, _ := io.ReadAll(c); !strings.Contains(string(all), "Location: https://example.org:"+port+"/\r\n") {
		t.Errorf("%s", all)
	}
	none := mustDial(t, inMemory(t, "listen.https=off", "listen.https_alt=off").Info().HTTP)
	io.WriteString(none, "GET / HTTP/1.0\r\n\r\n")
	if l, _ := none.line(); !strings.Contains(l, " 404 ") {
		t.Errorf("without HTTPS: %s", l)
	}
}

// TestPolicyPages: the MTA-STS policy of the domain where an authority vouches for it,
// on the host where senders look and nowhere without TLS; www leads to the domain.
func TestPolicyPages(t *testing.T) {
	get := func(s *Server, host, path string) string {
		c := mustDial(t, s.Info().HTTPS)
		if err := c.secure(&tls.Config{ServerName: host}); err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
		all, _ := io.ReadAll(c.r)
		return string(all)
	}
	const path = "/.well-known/mta-sts.txt"
	s := newRefuser(t).relay(t)
	for _, host := range []string{"mta-sts.example.org", "example.org"} {
		if got := get(s, host, path); !strings.HasPrefix(got, "HTTP/1.1 200 ") || !strings.Contains(got, "version: STSv1") || !strings.Contains(got, "mx: example.org") {
			t.Errorf("%s: %s", host, got)
		}
	}
	if got := get(s, "www.example.org", "/info"); !strings.HasPrefix(got, "HTTP/1.1 301 ") || !strings.Contains(got, "Location: https://example.org:") {
		t.Errorf("%s", got)
	}
	if got := get(inMemory(t), "example.org", path); !strings.HasPrefix(got, "HTTP/1.1 404 ") {
		t.Errorf("self-signed: %s", got)
	}
}

// TestAddressAsDomain: doctor asks no DNS about an address, and connects to it.
func TestAddressAsDomain(t *testing.T) {
	s := inMemory(t, "domain=127.0.0.1")
	if s.Info().Domain != "[127.0.0.1]" {
		t.Errorf("the domain is %s", s.Info().Domain)
	}
	allowed(t, login(s, "anna@[127.0.0.1]", annas))
	refusedWith(t, login(s, "anna@127.0.0.1", annas), "AUTHORIZATIONFAILED")
	if d := diagnosis(t, s, "DNS"); !d.OK || !strings.Contains(d.Text, "nothing has to be in the DNS") {
		t.Errorf("%+v", d)
	}
	if d := diagnosis(t, s, "https"); !d.OK || !strings.Contains(d.Text, "127.0.0.1:"+itoa(s.portOf("https"))+" answers with its own certificate") {
		t.Errorf("%+v", d)
	}
}
