package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
)

// mixClients notes what was asked, and answers with err.
type mixClients struct {
	said string
	err  error
}

func (m *mixClients) note(what, name, password string, peer limits.Peer, key [32]byte) error {
	m.said = fmt.Sprintf("%s %s %s %v %x", what, name, password, peer.Addr, key[:2])
	return m.err
}

func (m *mixClients) AddMixClient(_ context.Context, name, password string, peer limits.Peer, key [32]byte) (MixEntry, error) {
	return MixEntry{Network: "name x\n", Node: "aa", LinkKey: "bb", Addresses: []string{"relay.example:48099"}, Mailbox: "cc"},
		m.note("add", name, password, peer, key)
}

func (m *mixClients) RemoveMixClient(_ context.Context, name, password string, peer limits.Peer, key [32]byte) error {
	return m.note("remove", name, password, peer, key)
}

var someKey = "0102" + strings.Repeat("ab", 30)

func askMix(s *Site, method, body string, login bool, peer limits.Peer) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "https://example.org/mix", strings.NewReader(body))
	if login {
		r.SetBasicAuth("anna@example.org", "pass:word")
	}
	r = r.WithContext(context.WithValue(r.Context(), peerKey{}, peer))
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// TestMix: a client is registered and removed with address, password and key, and told all
// that it needs.
func TestMix(t *testing.T) {
	m := &mixClients{}
	s := site(t, Options{Mix: m})
	peer := limits.Peer{Addr: netip.MustParseAddr("192.0.2.1")}
	for _, body := range []string{someKey, someKey + "\n", strings.ToUpper(someKey) + "\r\n"} {
		w := askMix(s, "POST", body, true, peer)
		var e MixEntry
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code != 200 || w.Header().Get("Content-Type") != "application/json" {
			t.Fatal(w.Code, w.Body, err)
		}
		if fmt.Sprint(e) != "{name x\n aa bb [relay.example:48099] cc}" || m.said != "add anna@example.org pass:word 192.0.2.1 0102" {
			t.Error(e, m.said)
		}
	}
	if w := askMix(s, "DELETE", someKey, true, peer); w.Code != 204 || w.Body.Len() != 0 || m.said != "remove anna@example.org pass:word 192.0.2.1 0102" {
		t.Error(w.Code, w.Body, m.said)
	}
	// Nothing to be found where there is no mix network.
	if w := askMix(site(t, Options{}), "POST", someKey, true, peer); w.Code != 404 || w.Body.String() != "{\"reason\":\"this relay is in no mix network\"}\n" {
		t.Error(w.Code, w.Body)
	}
	if w := askMix(s, "GET", "", true, peer); w.Code != 404 {
		t.Error(w.Code)
	}
}

// TestMixRefusals: every refusal has its status and says why in JSON; nothing is asked of the
// accounts before the request is in order.
func TestMixRefusals(t *testing.T) {
	m := &mixClients{}
	s := site(t, Options{Mix: m})
	peer := limits.Peer{Addr: netip.MustParseAddr("192.0.2.1")}
	const keyText = "the body is the client's link key: 64 hexadecimal digits"
	for _, c := range []struct {
		body  string
		login bool
		code  int
		text  string
	}{
		{someKey, false, 401, "an address and its password are needed"},
		{"", true, 400, keyText}, {someKey[1:], true, 400, keyText}, {someKey + "00", true, 400, keyText}, {"zz" + someKey[2:], true, 400, keyText},
		{someKey + "\n\n\n", true, 400, keyText}, {strings.Repeat("a", 1<<20), true, 400, keyText},
	} {
		w := askMix(s, "POST", c.body, c.login, peer)
		if w.Code != c.code || w.Body.String() != fmt.Sprintf("{\"reason\":%q}\n", c.text) || m.said != "" {
			t.Errorf("%.80q: %d %s, asked %q", c.body, w.Code, w.Body, m.said)
		}
		if (w.Header().Get("WWW-Authenticate") != "") != (c.code == 401) {
			t.Error("WWW-Authenticate:", w.Header().Get("WWW-Authenticate"))
		}
	}
	for kind, code := range map[errs.Kind]int{errs.Auth: 401, errs.Denied: 403, errs.NotFound: 404, errs.Invalid: 400, errs.Exists: 409, errs.Full: 409,
		errs.Busy: 429, errs.NoSpace: 503, errs.Unavailable: 503, errs.Canceled: 503, errs.Conflict: 503, errs.Internal: 500, errs.Corrupt: 500} {
		m.err = errs.E("x", kind, "why", errors.New("private"))
		for _, method := range []string{"POST", "DELETE"} {
			w := askMix(s, method, someKey, true, peer)
			if w.Code != code || w.Body.String() != "{\"reason\":\"why\"}\n" {
				t.Errorf("%v: %d %s", kind, w.Code, w.Body)
			}
		}
	}
}

// TestMixRate: one network's requests count together with those for new addresses.
func TestMixRate(t *testing.T) {
	s := site(t, Options{Mix: &mixClients{}, Limit: limits.NewGCRA(120, 5, 100, time.Now)})
	peer := limits.Peer{Addr: netip.MustParseAddr("192.0.2.1")}
	for range 4 {
		askMix(s, "POST", someKey, true, peer)
	}
	if w := ask(s, "POST", "/new", peer); w.Code != 200 {
		t.Error(w.Code)
	}
	w := askMix(s, "POST", someKey, true, peer)
	if w.Code != 429 || w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), "reason") {
		t.Error(w.Code, w.Header(), w.Body)
	}
}

// FuzzMixKey: a body is a key or refused, and nothing beyond it is read.
func FuzzMixKey(f *testing.F) {
	f.Add(someKey)
	f.Add(someKey + "\r\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, body string) {
		key, err := readKey(strings.NewReader(body))
		if err == nil && !strings.EqualFold(fmt.Sprintf("%x", key), strings.TrimRight(body, "\r\n")) {
			t.Errorf("%q became %x", body, key)
		}
		if err != nil && errs.KindOf(err) != errs.Invalid {
			t.Error(err)
		}
	})
}
