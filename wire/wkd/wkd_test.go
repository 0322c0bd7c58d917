package wkd

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pgp "github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/openpgp"
)

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestURLs: the example of the draft (§3.1), and what has no place.
func TestURLs(t *testing.T) {
	for a, want := range map[string][2]string{
		"Joe.Doe@Example.ORG": {"https://openpgpkey.example.org/.well-known/openpgpkey/example.org/hu/iy9q119eutrkn8s1mk4r39qejnbu3n5q?l=Joe.Doe",
			"https://example.org/.well-known/openpgpkey/hu/iy9q119eutrkn8s1mk4r39qejnbu3n5q?l=Joe.Doe"},
		"test-wkd@metacode.biz": {"https://openpgpkey.metacode.biz/.well-known/openpgpkey/metacode.biz/hu/4hg7tescnttreaouu4z1izeuuyibwww1?l=test-wkd",
			"https://metacode.biz/.well-known/openpgpkey/hu/4hg7tescnttreaouu4z1izeuuyibwww1?l=test-wkd"},
	} {
		advanced, direct, err := URLs(address(t, a))
		if err != nil || advanced != want[0] || direct != want[1] {
			t.Errorf("%s: %s, %s, %v", a, advanced, direct, err)
		}
	}
	if _, direct, err := URLs(mail.Address{Local: "a+b &/?", Domain: "example.org"}); err != nil || !strings.HasSuffix(direct, "?l=a%2Bb%20%26%2F%3F") {
		t.Errorf("%s, %v", direct, err)
	}
	for _, a := range []mail.Address{{Local: "a", Domain: "localhost"}, {Local: "a", Domain: "[192.0.2.1]"}, {Local: "a", Domain: "192.0.2.1"}, {Domain: "example.org"},
		{Local: "a", Domain: "example.org/x"}, {Local: "a", Domain: "example.org:8080"}, {Local: "a", Domain: "u@example.org"}} {
		if _, _, err := URLs(a); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%+v: %v", a, err)
		}
	}
}

// keyOf makes a key with user IDs.
func keyOf(t testing.TB, ids ...string) []byte {
	t.Helper()
	e, err := pgp.NewEntity("", "", ids[0], &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Curve: packet.Curve25519, Time: func() time.Time { return time.Now().Add(-time.Hour) }})
	for _, id := range ids[1:] {
		err = errors.Join(err, e.AddUserId("", "", id, nil))
	}
	var b bytes.Buffer
	if err = errors.Join(err, e.Serialize(&b)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestFind: which hosts are asked, in which order, and what is taken for a key.
func TestFind(t *testing.T) {
	key, of := keyOf(t, "u@example.com", "secret@example.com"), address(t, "u@example.com")
	var how func(w http.ResponseWriter, r *http.Request)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { how(w, r) }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS() // with a certificate for example.com and *.example.com
	defer s.Close()
	gone := &net.DNSError{Err: "no such host", IsNotFound: true}
	down := &net.OpError{Op: "dial", Err: errors.New("refused")}
	said := errs.E("test", errs.Unavailable, "the SOCKS proxy cannot be reached", nil)
	give := func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "GET" || r.UserAgent() != "" || r.Header.Get("Referer")+r.Header.Get("Accept-Encoding")+r.Header.Get("Cookie") != "" || r.URL.Query().Get("l") != "u" {
			t.Errorf("%s %v %v", r.Method, r.URL, r.Header)
		}
		w.Write(key)
	}
	status := func(n int) func(w http.ResponseWriter, r *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(n) }
	}
	body := func(b []byte) func(w http.ResponseWriter, r *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) { w.Write(b) }
	}
	to := func(where string) func(w http.ResponseWriter, r *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/key" {
				give(w, r)
				return
			}
			http.Redirect(w, r, where, http.StatusFound)
		}
	}
	const adv, dir = "openpgpkey.example.com:443", "example.com:443"
	const cannot = "the web key directory of the domain cannot be asked"
	for what, c := range map[string]struct {
		advanced, direct error // of the connections
		how              func(http.ResponseWriter, *http.Request)
		kind             errs.Kind
		says             string // empty: found
		asked            string
	}{
		"advanced":                 {nil, nil, give, 0, "", adv},
		"direct":                   {gone, nil, give, 0, "", adv + " " + dir},
		"the first is down":        {down, nil, give, 0, "", adv + " " + dir},
		"no directory":             {gone, gone, nil, errs.NotFound, "the domain has no web key directory", adv + " " + dir},
		"both down":                {down, down, nil, errs.Unavailable, cannot, adv + " " + dir},
		"no SOCKS proxy":           {said, said, nil, errs.Unavailable, cannot + ": the SOCKS proxy cannot be reached", adv + " " + dir},
		"unknown":                  {nil, nil, status(404), errs.NotFound, "the domain shows no key for this address", adv},
		"unknown, direct":          {gone, nil, status(410), errs.NotFound, "the domain shows no key for this address", adv + " " + dir},
		"unknown, the first down":  {down, nil, status(404), errs.Unavailable, cannot, adv + " " + dir},
		"busy":                     {nil, nil, status(503), errs.Unavailable, "the web key directory of the domain has no answer now", adv},
		"certificate of another":   {nil, nil, nil, errs.Unavailable, cannot, "openpgpkey.other.example:443"},
		"moved within the host":    {nil, nil, to("/key?l=u"), 0, "", adv + " " + adv},
		"moved to another host":    {nil, nil, to("https://www.example.com/key?l=u"), errs.Unavailable, "the web key directory of the domain has no answer now", adv},
		"moved to cleartext":       {nil, nil, to("http://openpgpkey.example.com/key?l=u"), errs.Unavailable, "the web key directory of the domain has no answer now", adv},
		"moved again and again":    {nil, nil, to("/other"), errs.Unavailable, "the web key directory of the domain has no answer now", strings.TrimSpace(strings.Repeat(adv+" ", 1+maxRedirects))},
		"somebody else's key":      {nil, nil, body(keyOf(t, "x@example.com")), errs.Invalid, "the OpenPGP key does not name this address", adv},
		"no key":                   {nil, nil, body([]byte("<html>")), errs.Invalid, "the OpenPGP key is malformed", adv},
		"large":                    {nil, nil, body(make([]byte, openpgp.MaxKeys+1)), errs.TooLarge, "the OpenPGP key is too large", adv},
		"a larger header":          {nil, nil, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X", strings.Repeat("x", 2*MaxHeader)) }, errs.Unavailable, cannot, adv},
		"broken off":               {nil, nil, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Length", "9999"); w.Write(key) }, errs.Unavailable, "the web key directory of the domain broke off", adv},
		"another beside the right": {nil, nil, body(append(keyOf(t, "x@example.com"), key...)), 0, "", adv},
	} {
		var asked []string
		how = c.how
		trust := s.Client().Transport.(*http.Transport).TLSClientConfig
		client := Client{Transport: NewTransport(func(ctx context.Context, _, addr string) (net.Conn, error) {
			asked = append(asked, addr)
			if err := map[string]error{adv: c.advanced, dir: c.direct}[addr]; err != nil {
				return nil, err
			}
			return new(net.Dialer).DialContext(ctx, "tcp", s.Listener.Addr().String())
		}, &tls.Config{RootCAs: trust.RootCAs})}
		a := of
		if strings.Contains(c.asked, "other.example") {
			a = address(t, "u@other.example")
		}
		got, err := client.Find(t.Context(), a)
		switch {
		case c.says == "" && (err != nil || !bytes.Contains(got, []byte("u@example.com")) || bytes.Contains(got, []byte("secret"))):
			t.Errorf("%s: %q, %v", what, got, err)
		case c.says != "" && (errs.KindOf(err) != c.kind || errs.Public(err) != c.says):
			t.Errorf("%s: %v %q", what, err, errs.Public(err))
		}
		if got := strings.Join(asked, " "); got != c.asked {
			t.Errorf("%s: asked %s, want %s", what, got, c.asked)
		}
	}
}

// silent never answers.
type silent struct{}

func (silent) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// TestTimeout: who does not answer is not waited for longer than the bound, and not at all by who gave up.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, a, begin := Client{Transport: silent{}}, address(t, "u@example.com"), time.Now()
		if _, err := c.Find(t.Context(), a); errs.KindOf(err) != errs.Unavailable || time.Since(begin) != Timeout {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Find(ctx, a); errs.KindOf(err) != errs.Canceled {
			t.Error(err)
		}
	})
}

// FuzzURLs: whatever an address is, hosts that are asked are those of its domain.
func FuzzURLs(f *testing.F) {
	f.Add("Joe.Doe", "Example.ORG")
	f.Add("a\xff?#&", "b\u00fccher.example")
	f.Add("x", "example.org:1/..")
	f.Fuzz(func(t *testing.T, local, domain string) {
		advanced, direct, err := URLs(mail.Address{Local: local, Domain: domain})
		if err != nil {
			return
		}
		for where, host := range map[string]string{advanced: "openpgpkey." + mail.CanonicalDomain(domain), direct: mail.CanonicalDomain(domain)} {
			u, err := url.Parse(where)
			if err != nil || u.Scheme != "https" || u.Host != host || u.User != nil || u.Fragment != "" || u.Query().Get("l") != local || !strings.HasPrefix(u.Path, "/.well-known/openpgpkey/") {
				t.Errorf("%q %q: %s", local, domain, where)
			}
		}
	})
}
