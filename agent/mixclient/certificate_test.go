package mixclient

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	mixnet "postern.email/mixnet/client"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

// names is the name key of a relay.
func names(t testing.TB) *directory.PrivateKey {
	t.Helper()
	a, b := sha256.Sum256([]byte("names")), sha256.Sum256([]byte("other names"))
	k, err := directory.NewPrivateKey(append(a[:], b[:]...))
	must(t, err)
	return k
}

// certify makes the certificate that a relay gives for the keys of a client.
func certify(t testing.TB, id *mixnet.Identity, from time.Time) *vouch.Certificate {
	t.Helper()
	c := vouch.Certificate{Address: mail.Address{Local: "anna", Domain: "relay.example"}, Serial: 1, From: from, Until: from.Add(vouch.Life)}
	c.Relay, c.Mailbox = packet.ID(bytes.Repeat([]byte{0x1f}, 32)), packet.ID(bytes.Repeat([]byte{0x3d}, 32))
	c.Letter, c.Key = id.Letter.Public(), id.Sign.Public()
	out, err := vouch.Issue(c, names(t))
	must(t, err)
	return out
}

// proxied registers a client with its keys.
func proxied(t *testing.T, from time.Time) (*relay, Options, *vouch.Certificate) {
	t.Helper()
	r := newRelay(t)
	o := Options{Dir: filepath.Join(t.TempDir(), "client")}.complete()
	id, err := o.identity()
	must(t, err)
	cert := certify(t, id, from)
	r.body = strings.TrimSuffix(r.body, "}") + `,"certificate":"` + base64.StdEncoding.EncodeToString(cert.Bytes()) + `"}`
	_, err = Register(t.Context(), o, Account{URL: r.URL, Name: "anna@relay.example", Password: "secret", Publish: true, Invite: "come in"}, r.Client())
	must(t, err)
	return r, o, cert
}

// TestRegisterKeys: the relay learns all keys of the client and what the user wants, and its
// certificate is kept; one of other keys is refused, and so is an answer without one.
func TestRegisterKeys(t *testing.T) {
	r, o, cert := proxied(t, time.Now())
	id, err := o.identity()
	must(t, err)
	key, err := keyOf(id)
	must(t, err)
	var sent map[string]any
	must(t, json.Unmarshal([]byte(r.key), &sent))
	text := func(name string) []byte {
		s, _ := sent[name].(string)
		b, err := base64.StdEncoding.DecodeString(s)
		must(t, err)
		return b
	}
	verify := append(id.Sign.Public().Ed25519(), id.Sign.Public().MLDSA()...)
	if sent["link_key"] != hex.EncodeToString(key[:]) || !bytes.Equal(text("letter_key"), id.Letter.Public().Bytes()) || !bytes.Equal(text("verify_key"), verify) ||
		sent["publish"] != true || sent["invite"] != "come in" || len(sent) != 5 || r.contentType != "application/json" {
		t.Errorf("%v, %s", sent, r.contentType)
	}
	c, err := Open(o)
	must(t, err)
	got, err := c.Certificate()
	if err != nil || !bytes.Equal(got.Bytes(), cert.Bytes()) || c.Identity().Sign.Public().ID() != id.Sign.Public().ID() {
		t.Errorf("%v", err)
	}
	path := filepath.Join(o.Dir, CertificateFile)
	must(t, os.Truncate(path, 100))
	_, err = Open(o)
	wantKind(t, err, errs.Corrupt, "the file certificate of the client is damaged: register again")
	must(t, os.Remove(path))

	good := r.body
	a := Account{URL: r.URL, Name: "anna@relay.example", Password: "secret"}
	r.body = strings.Replace(good, "certificate", "other", 1)
	_, err = Register(t.Context(), o, a, r.Client())
	wantKind(t, err, errs.Unsupported, "the relay certifies no keys of proxies")
	other := Options{Dir: filepath.Join(t.TempDir(), "other")}.complete()
	r.body = good
	_, err = Register(t.Context(), other, a, r.Client())
	wantKind(t, err, errs.Invalid, "the relay gave a certificate of other keys than those of this client")
	for _, o := range []Options{o, other} {
		if ok, _ := vfs.Exists(vfs.OS(), filepath.Join(o.Dir, CertificateFile)); ok {
			t.Error("a certificate is kept that was refused")
		}
	}
	c, err = Open(o)
	must(t, err)
	_, err = c.Certificate()
	wantKind(t, err, errs.NotFound, "the keys of this client are not registered with its relay")
}

// TestRenew: with less than three days left the relay is asked, each hour until it gives a newer
// certificate, which is then on the disk; the user hears of it only when it becomes urgent, and
// then not at each try.
func TestRenew(t *testing.T) {
	begin := time.Now()
	_, o, first := proxied(t, begin)
	var warned []string
	o.Warn = func(text string) { warned = append(warned, text) }
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		o.Now = func() time.Time { return begin.Add(time.Since(start)) }
		c, err := Open(o)
		must(t, err)
		var answers []func() ([]byte, error)
		var asked []time.Duration
		var mu sync.Mutex // of both
		fetch := func(_ context.Context, request []byte) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			if string(request) != "postern-certificate 1\n" {
				t.Errorf("%q", request)
			}
			asked = append(asked, time.Since(start))
			if len(answers) == 0 {
				return nil, errs.E("test", errs.Unavailable, "not now", nil)
			}
			a := answers[0]
			answers = answers[1:]
			return a()
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- c.renew(ctx, fetch) }()
		time.Sleep(4*24*time.Hour - 30*time.Minute) // of seven days
		synctest.Wait()
		if len(asked) != 0 {
			t.Errorf("asked after %v", asked)
		}
		id := c.Identity()
		newer := certify(t, id, o.Now().Truncate(time.Second))
		mu.Lock()
		answers = []func() ([]byte, error){
			func() ([]byte, error) { return []byte("nonsense"), nil },
			func() ([]byte, error) { return first.Bytes(), nil }, // no newer one
			func() ([]byte, error) { return newer.Bytes(), nil },
		}
		mu.Unlock()
		time.Sleep(10 * time.Hour)
		synctest.Wait()
		got, err := c.Certificate()
		if err != nil || len(asked) != 3 || len(warned) != 0 || !bytes.Equal(got.Bytes(), newer.Bytes()) {
			t.Errorf("asked after %v, warned %q, %v", asked, warned, err)
		}
		if again, err := Open(o); err != nil {
			t.Error(err)
		} else if got, err := again.Certificate(); err != nil || !bytes.Equal(got.Bytes(), newer.Bytes()) {
			t.Error("the new certificate is not on the disk", err)
		}
		time.Sleep(7 * 24 * time.Hour) // nobody answers any more
		synctest.Wait()
		if len(asked) < 60 || len(warned) < 3 || len(warned) > 7 || !strings.Contains(warned[0], "could not be renewed: not now") {
			t.Errorf("asked %d times, warned %d times", len(asked), len(warned))
		}
		cancel()
		must(t, <-ended)
	})
}
