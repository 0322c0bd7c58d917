package mixclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	mixnet "postern.email/mixnet/client"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/dirtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t testing.TB, err error, kind errs.Kind, public string) {
	t.Helper()
	if err == nil || errs.KindOf(err) != kind || errs.Public(err) != public {
		t.Fatalf("got %v (%v, %q), want %v, %q", err, errs.KindOf(err), errs.Public(err), kind, public)
	}
}

// relay is the page of a relay at which clients are registered.
type relay struct {
	*httptest.Server
	status int
	body   string

	user, password, key, contentType string
}

func newRelay(t *testing.T) *relay {
	r := &relay{status: http.StatusOK}
	net := dirtest.New(t, "test.net", time.Hour, 1).Network
	r.body = fmt.Sprintf(`{"network":%q,"node":%q,"link_key":%q,"addresses":["127.0.0.1:1"],"mailbox":%q}`,
		net.Bytes(), strings.Repeat("1f", 32), strings.Repeat("2e", 32), strings.Repeat("3d", 32))
	r.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.user, r.password, _ = q.BasicAuth()
		b, _ := io.ReadAll(q.Body)
		r.key = strings.TrimSpace(string(b))
		r.contentType = q.Header.Get("Content-Type")
		if q.Method != http.MethodPost || q.URL.Path != "/mix" {
			t.Errorf("%s %s", q.Method, q.URL)
		}
		w.WriteHeader(r.status)
		io.WriteString(w, r.body)
	}))
	t.Cleanup(r.Close)
	return r
}

// TestRegister: keys are made once, the relay learns the link key, and what it answers is kept.
func TestRegister(t *testing.T) {
	r := newRelay(t)
	o := Options{Dir: filepath.Join(t.TempDir(), "client")}
	_, err := Open(o)
	wantKind(t, err, errs.NotFound, "there is no client in this directory")
	a := Account{URL: r.URL + "/", Name: "anna@relay.example", Password: "secret", LinkOnly: true}
	p, err := Register(t.Context(), o, a, r.Client())
	must(t, err)
	key, err := LinkKey(o)
	must(t, err)
	if r.user != a.Name || r.password != a.Password || r.key != key.String() || p.Node != strings.Repeat("1f", 32) {
		t.Errorf("%q %q %q", r.user, r.password, r.key)
	}
	if _, err := Register(t.Context(), o, a, r.Client()); err != nil || r.key != key.String() {
		t.Errorf("again: %v, %s", err, r.key)
	}
	c, err := Open(o)
	must(t, err)
	address := c.Address()
	if hex.EncodeToString(address.Relay[:]) != p.Node || hex.EncodeToString(address.Mailbox[:]) != p.Mailbox {
		t.Error(address)
	}
	info, err := os.Stat(filepath.Join(o.Dir, ProfileFile))
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Error(info.Mode())
	}
	for name, b := range map[string]string{"cut": "{", "no network": "{}", "keys": strings.Replace(r.body, "1f1f", "1f", 1), "no address": strings.Replace(r.body, `"127.0.0.1:1"`, "", 1)} {
		must(t, os.WriteFile(filepath.Join(o.Dir, ProfileFile), []byte(b), 0o600))
		if _, err := Open(o); errs.KindOf(err) != errs.Corrupt {
			t.Errorf("%s: %v", name, err)
		}
		r.body = b
		if _, err := Register(t.Context(), o, a, r.Client()); err == nil {
			t.Errorf("%s: such an answer is taken", name)
		}
	}
	must(t, os.Remove(filepath.Join(o.Dir, ProfileFile)))
	_, err = Open(o)
	wantKind(t, err, errs.NotFound, "this client is not registered with a relay")
}

// TestRefused: what the relay says comes to the user, in one line, and nothing is kept.
func TestRefused(t *testing.T) {
	r := newRelay(t)
	o := Options{Dir: t.TempDir()}
	a := Account{URL: r.URL, Name: "anna", Password: "secret", LinkOnly: true}
	for status, v := range map[int]struct {
		body, public string
		kind         errs.Kind
	}{
		401: {`{"reason":"address or password is wrong"}`, "the relay refused: address or password is wrong", errs.Auth},
		403: {`{"reason":"blocked\n\u001b[31m"}`, "the relay refused: blocked[31m", errs.Denied},
		404: {`not found`, "this relay is in no mix network", errs.NotFound},
		409: {`{"reason":"the account has four clients"}`, "the relay refused: the account has four clients", errs.Full},
		429: {`{"reason":"later"}`, "the relay refused: later", errs.Busy},
		503: {``, "the relay refused: it answered 503", errs.Unavailable},
		500: {`{"reason":"` + strings.Repeat("x", 500) + `"}`, "the relay refused: " + strings.Repeat("x", 200), errs.Unavailable},
		400: {`{"reason":"no key"}`, "the relay refused: no key", errs.Invalid},
	} {
		r.status, r.body = status, v.body
		_, err := Register(t.Context(), o, a, r.Client())
		wantKind(t, err, v.kind, v.public)
	}
	a.URL = "http://relay.example"
	_, err := Register(t.Context(), o, a, r.Client())
	wantKind(t, err, errs.Invalid, "the address of the relay's page begins with https://: the password would be readable on the way")
	a.URL = r.URL
	_, err = Register(t.Context(), o, a, &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{}}})
	wantKind(t, err, errs.Unavailable, "the relay's certificate is not trusted here, or is for another name")
	for text, cause := range map[string]error{
		"the relay cannot be reached":                                   &net.DNSError{IsTimeout: true},
		"the name of the relay's page is not known to the name servers": &net.DNSError{IsNotFound: true},
	} {
		_, err = Register(t.Context(), o, a, &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, cause }}})
		wantKind(t, err, errs.Unavailable, text)
	}
	if ok, _ := vfs.Exists(vfs.OS(), filepath.Join(o.Dir, ProfileFile)); ok {
		t.Error("something is registered")
	}
}

// TestOneClient: one process at a time runs the client of a directory; a client whose relay is
// not there says so, and ends when it is asked to.
func TestOneClient(t *testing.T) {
	r := newRelay(t)
	o := Options{Dir: t.TempDir()}
	_, err := Register(t.Context(), o, Account{URL: r.URL, Name: "anna", Password: "x", LinkOnly: true}, r.Client())
	must(t, err)
	c, err := Open(o)
	must(t, err)
	d, err := Open(o)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err = c.Run(ctx, Mode{Free: true}, func(ctx context.Context, live *mixnet.Client) error {
		err := d.Run(ctx, Mode{}, func(context.Context, *mixnet.Client) error { t.Error("two run"); return nil })
		if errs.KindOf(err) != errs.Exists {
			t.Errorf("%v", err)
		}
		for live.Status().Link.Err == nil && ctx.Err() == nil { // nobody listens there
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		if s := live.Status(); s.Link.Connected || errs.KindOf(s.Link.Err) != errs.Unavailable {
			t.Errorf("%+v", s.Link)
		}
		return nil
	})
	must(t, err)
	if _, err := c.Consensus(); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("%v", err)
	}
}

// TestRegisterConsensus: the consensus that the answer to a registration holds is there before the
// client has run; one that no authority of the network signed is not, and the rest is kept all the same.
func TestRegisterConsensus(t *testing.T) {
	r := newRelay(t)
	auth := dirtest.New(t, "test.net", time.Hour, 1) // its keys are those of newRelay's network
	now := auth.Network.Epoch(time.Now())
	var mixes []*directory.Descriptor
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		mixes = append(mixes, auth.Mix(t, name, time.Now()))
	}
	good := auth.Agree(t, now, nil, mixes...).Bytes()
	plain := r.body
	for _, c := range []struct {
		name string
		doc  []byte
		have bool
	}{{"good", good, true}, {"cut", good[:len(good)/2], false}, {"changed", bytes.Replace(good, []byte("nickname"), []byte("Nickname"), 1), false}, {"none", nil, false}} {
		var warned []string
		o := Options{Dir: filepath.Join(t.TempDir(), "client"), Warn: func(text string) { warned = append(warned, text) }}
		r.body = strings.TrimSuffix(plain, "}") + `,"consensus":"` + base64.StdEncoding.EncodeToString(c.doc) + `"}`
		_, err := Register(t.Context(), o, Account{URL: r.URL, Name: "anna@relay.example", Password: "secret", LinkOnly: true}, r.Client())
		must(t, err)
		opened, err := Open(o)
		must(t, err)
		if _, err := opened.Consensus(); (err == nil) != c.have {
			t.Errorf("%s: %v", c.name, err)
		}
		if bad := c.doc != nil && !c.have; bad != (len(warned) > 0) {
			t.Errorf("%s: warnings: %q", c.name, warned)
		}
	}
}
