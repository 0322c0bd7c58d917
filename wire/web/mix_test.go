package web

import (
	"context"
	"encoding/base64"
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
	said  string
	asked MixRequest
	err   error
}

func (m *mixClients) note(what, name, password string, peer limits.Peer, key [32]byte) error {
	m.said = fmt.Sprintf("%s %s %s %v %x", what, name, password, peer.Addr, key[:2])
	return m.err
}

func (m *mixClients) AddMixClient(_ context.Context, name, password string, peer limits.Peer, r MixRequest) (MixEntry, error) {
	m.asked = r
	e := MixEntry{Network: "name x\n", Node: "aa", LinkKey: "bb", Addresses: []string{"relay.example:48099"}, Mailbox: "cc"}
	if r.Proxy != nil {
		e.Certificate = []byte("certificate")
	}
	return e, m.note("add", name, password, peer, r.Key)
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
		if fmt.Sprint(e) != "{name x\n aa bb [relay.example:48099] cc [] []}" || m.said != "add anna@example.org pass:word 192.0.2.1 0102" {
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

func askJSON(s *Site, method, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "https://example.org/mix", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	r.SetBasicAuth("anna@example.org", "pass:word")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// registration is the JSON of a mail proxy's registration, with other lengths if asked for.
func registration(letter, verify int, rest string) string {
	b64 := func(n int, c string) string {
		return base64.StdEncoding.EncodeToString([]byte(strings.Repeat(c, n)))
	}
	return fmt.Sprintf(`{"link_key":%q,"letter_key":%q,"verify_key":%q%s}`, someKey, b64(letter, "l"), b64(verify, "v"), rest)
}

// TestMixProxy: a mail proxy registers its keys with its link key in JSON, and gets a certificate.
func TestMixProxy(t *testing.T) {
	m := &mixClients{}
	s := site(t, Options{Mix: m})
	w := askJSON(s, "POST", registration(letterKeyLen, ed25519Len+mldsaLen, `,"publish":true,"invite":"abc"`))
	var e MixEntry
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code != 200 || string(e.Certificate) != "certificate" || e.Mailbox != "cc" {
		t.Fatal(w.Code, w.Body, err)
	}
	p := m.asked.Proxy
	if p == nil || m.asked.Invite != "abc" || !p.Publish || string(p.LetterKey) != strings.Repeat("l", letterKeyLen) ||
		string(p.Ed25519) != strings.Repeat("v", ed25519Len) || string(p.MLDSA) != strings.Repeat("v", mldsaLen) || fmt.Sprintf("%x", m.asked.Key) != someKey {
		t.Errorf("%+v", m.asked)
	}
	// A client that is no proxy may use JSON too, and the answer has no certificate.
	if w := askJSON(s, "POST", fmt.Sprintf(`{"link_key":%q}`, someKey)); w.Code != 200 || m.asked.Proxy != nil || strings.Contains(w.Body.String(), "certificate") {
		t.Error(w.Code, w.Body, m.asked)
	}
	if w := askJSON(s, "DELETE", fmt.Sprintf(`{"link_key":%q}`, someKey)); w.Code != 204 || !strings.HasPrefix(m.said, "remove anna") {
		t.Error(w.Code, w.Body, m.said)
	}
}

// TestMixProxyRefusals: every registration that is not in order has its own reason.
func TestMixProxyRefusals(t *testing.T) {
	m := &mixClients{}
	s := site(t, Options{Mix: m})
	const form = "the body is no registration: link_key, letter_key, verify_key, publish, invite"
	const sizes = "letter_key has 1,216 bytes and verify_key 1,984, in base64"
	key := fmt.Sprintf(`{"link_key":%q`, someKey)
	for body, want := range map[string]string{
		"": form, "[]": form, key: form, key + `,"other":1}`: form, key + `,"publish":1}`: form,
		key + `} x`: "something follows the registration", `{"link_key":"00"}`: "link_key is the client's link key: 64 hexadecimal digits",
		key + `,"publish":true}`:      "without letter_key and verify_key there is nothing to publish",
		key + `,"letter_key":"AAAA"}`: sizes, registration(letterKeyLen-1, ed25519Len+mldsaLen, ""): sizes, registration(letterKeyLen, mldsaLen, ""): sizes,
		key + `,"invite":"` + strings.Repeat("a", maxInvite+1) + `"}`: "invite is longer than an invitation",
		key + strings.Repeat(" ", maxMixJSON) + `}`:                   "the body is longer than a registration",
	} {
		w := askJSON(s, "POST", body)
		if w.Code != 400 || w.Body.String() != fmt.Sprintf("{\"reason\":%q}\n", want) || m.said != "" {
			t.Errorf("%.80q: %d %s, asked %q", body, w.Code, w.Body, m.said)
		}
	}
}

// FuzzMixJSON: a body is a registration with keys of the right lengths, or refused.
func FuzzMixJSON(f *testing.F) {
	f.Add(registration(letterKeyLen, ed25519Len+mldsaLen, `,"publish":true,"invite":"abc"`))
	f.Add(fmt.Sprintf(`{"link_key":%q}`, someKey))
	f.Add("{}")
	f.Fuzz(func(t *testing.T, body string) {
		q, err := readMixJSON(strings.NewReader(body))
		if err != nil {
			if errs.KindOf(err) != errs.Invalid {
				t.Error(err)
			}
			return
		}
		if p := q.Proxy; p != nil && (len(p.LetterKey) != letterKeyLen || len(p.Ed25519) != ed25519Len || len(p.MLDSA) != mldsaLen) || len(q.Invite) > maxInvite {
			t.Errorf("%+v", q)
		}
	})
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
