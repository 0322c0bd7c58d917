package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	pebble "github.com/cockroachdb/pebble/v2/vfs"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// fakeCA is an issuer that fails as told.
type fakeCA struct {
	t     *testing.T
	store *storage

	mu      sync.Mutex
	fail    map[string]error // by name: what obtain says; nil = success
	damaged map[string]bool  // what is stored cannot be read
	orders  map[string][]time.Time
	managed []string
	ended   bool
}

func (f *fakeCA) begin(*authority) func() {
	return func() { f.mu.Lock(); defer f.mu.Unlock(); f.ended = true }
}

func (f *fakeCA) files(name string) (cert, key string) { return name + "/crt", name + "/key" }

func (f *fakeCA) manage(ctx context.Context, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.damaged[name] {
		return errors.New("tls: private key does not match public key")
	}
	if !f.store.Exists(ctx, name+"/crt") {
		return fs.ErrNotExist
	}
	f.managed = append(f.managed, name)
	return nil
}

func (f *fakeCA) obtain(ctx context.Context, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.orders[name] = append(f.orders[name], time.Now())
	if err := f.fail[name]; err != nil {
		return err
	}
	cert, key := made(f.t, name)
	return errors.Join(f.store.Store(ctx, name+"/key", key), f.store.Store(ctx, name+"/crt", cert))
}

func (f *fakeCA) forget(ctx context.Context, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.damaged, name)
	return f.store.Delete(ctx, name+"/crt")
}

// times gives when a name was ordered, since began.
func (f *fakeCA) times(name string, began time.Time) (list []time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.orders[name] {
		list = append(list, t.Sub(began))
	}
	return list
}

func (f *fakeCA) set(name string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail[name] = err
}

// withCA makes certificates that come from a fakeCA.
func withCA(t *testing.T, disk vfs.FS, a ACME, log *bytes.Buffer) (*Certs, *fakeCA) {
	t.Helper()
	if log == nil {
		log = new(bytes.Buffer)
	}
	c, err := New(Options{FS: disk, Dir: "/tls", Domain: "example.org", ACME: &a, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeCA{t: t, store: c.acme.store, fail: map[string]error{}, damaged: map[string]bool{}, orders: map[string][]time.Time{}}
	c.acme.issuer = f
	return c, f
}

// running runs c until the test's end.
func running(t *testing.T, c *Certs) {
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
}

func names(t *testing.T, c *Certs, server string) string {
	t.Helper()
	p, err := c.get(&tls.ClientHelloInfo{ServerName: server})
	if err != nil {
		t.Fatal(err)
	}
	return leaf(t, p).Subject.CommonName
}

var (
	errRefused     = errs.E("test", errs.Denied, "the certificate authority says: no", nil)
	errUnreachable = errs.E("test", errs.Unavailable, "not reached", nil)
)

// TestObtain: one certificate a name, served by the name that a client asks for; what
// fails for one name does not touch another; until the first is there, and for ever
// when it never comes, connections get a self-signed one.
func TestObtain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		disk := vfs.NewCrashDisk()
		c, f := withCA(t, disk, ACME{Names: []string{"imap.example.org"}, Alias: []string{"www.example.org"}}, &log)
		self := c.File()
		if c.SelfSigned() || self != "/tls/"+CertName {
			t.Error(c.SelfSigned(), self)
		}
		f.set("imap.example.org", errRefused)
		f.set("example.org", errRefused)
		began := time.Now()
		running(t, c)
		if got := names(t, c, "www.example.org"); got != "www.example.org" {
			t.Error(got)
		}
		if !strings.Contains(log.String(), "self-signed") || !strings.Contains(log.String(), "port 80 or 443") {
			t.Errorf("nobody was told:\n%s", &log)
		}
		s := c.Status()
		if s.Mode != "acme" || len(s.Certs) != 3 || s.Certs[0].Names[0] != "example.org" || s.Certs[0].Issuer != "" ||
			!strings.Contains(s.Certs[0].Error, "says: no") || s.Certs[0].NextTry != began.Add(time.Minute).UTC().Format(time.RFC3339) ||
			s.Certs[2].Names[0] != "www.example.org" || s.Certs[2].Issuer == "" || s.Certs[2].Error != "" {
			t.Errorf("status %+v", s)
		}
		f.set("example.org", nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		for server, want := range map[string]string{"": "example.org", "EXAMPLE.org.": "example.org", "imap.example.org": "example.org", "other.example": "example.org"} {
			if got := names(t, c, server); got != want {
				t.Errorf("%s: %s", server, got)
			}
		}
		if c.File() == self || c.Status().Certs[0].Error != "" {
			t.Errorf("%s, %+v", c.File(), c.Status())
		}
	})
}

// TestRestart: what is stored is neither ordered again nor served late.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewCrashDisk()
		o := Options{FS: disk, Dir: "/tls", Domain: "example.org", ACME: &ACME{}}
		first, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		cert, key := made(t, "example.org")
		certKey, keyKey := first.acme.issuer.files("example.org")
		if err := errors.Join(first.acme.store.Store(t.Context(), keyKey, key), first.acme.store.Store(t.Context(), certKey, cert)); err != nil {
			t.Fatal(err)
		}
		second, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		if p, _ := second.get(&tls.ClientHelloInfo{}); p == second.now.Load() {
			t.Error("the self-signed certificate is served although there is another")
		}
		if !strings.HasPrefix(second.File(), "/tls/acme/certificates/") {
			t.Error(second.File())
		}
		f := &fakeCA{t: t, store: second.acme.store, orders: map[string][]time.Time{}}
		second.acme.issuer = f
		if err := errors.Join(f.store.Store(t.Context(), "example.org/key", key), f.store.Store(t.Context(), "example.org/crt", cert)); err != nil {
			t.Fatal(err)
		}
		running(t, second)
		if len(f.orders) != 0 || !slices.Equal(f.managed, []string{"example.org"}) {
			t.Errorf("ordered %v, managed %v", f.orders, f.managed)
		}
	})
}

// TestWaits: the plan of tries, by what went wrong.
func TestWaits(t *testing.T) {
	run := func(t *testing.T, fail error, span time.Duration) []time.Duration {
		var got []time.Duration
		synctest.Test(t, func(t *testing.T) {
			c, f := withCA(t, vfs.NewCrashDisk(), ACME{}, nil)
			f.set("example.org", fail)
			began := time.Now()
			running(t, c)
			time.Sleep(span)
			synctest.Wait()
			got = f.times("example.org", began)
		})
		return got
	}
	minutes := func(m ...time.Duration) []time.Duration {
		for i := range m {
			m[i] *= time.Minute
		}
		return m
	}
	if got := run(t, errRefused, 5*time.Hour); !slices.Equal(got, minutes(0, 1, 6, 21, 51, 111, 231)) {
		t.Errorf("refused: tries at %v", got)
	}
	if got := run(t, errs.E("test", errs.Busy, "slow down", nil), 3*time.Hour-1); !slices.Equal(got, minutes(0, 60, 120)) {
		t.Errorf("rate limit of the authority: tries at %v", got)
	}
	if got := run(t, errUnreachable, time.Minute); !slices.Equal(got, []time.Duration{0, 5 * time.Second, 15 * time.Second, 35 * time.Second}) {
		t.Errorf("unreachable: tries at %v", got)
	}
	if got := run(t, errUnreachable, 12*time.Hour); len(got) < 12*6 { // for ever, and never counted as orders
		t.Errorf("unreachable: %d tries in 12 hours", len(got))
	}
}

// TestRefreshTriesAgain: an operator who has mended something need not wait.
func TestRefreshTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f := withCA(t, vfs.NewCrashDisk(), ACME{}, nil)
		f.set("example.org", errRefused)
		running(t, c)
		time.Sleep(10 * time.Minute) // the next one is at 21
		f.set("example.org", nil)
		if err := c.Refresh(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := names(t, c, ""); c.acme.pair("") == nil || got != "example.org" {
			t.Error(got)
		}
	})
}

// TestOrdersAreBounded: five in an hour for a name, also over restarts; other names
// are not touched, and what never reached the authority is not counted.
func TestOrdersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewCrashDisk()
		s, err := newStorage(disk, "/x")
		if err != nil {
			t.Fatal(err)
		}
		first := time.Now()
		for i := range ordersAnHour {
			if err := readOrders(s, time.Now).begin(t.Context(), "a"); err != nil {
				t.Fatal(i, err)
			}
			time.Sleep(time.Minute)
		}
		o := readOrders(s, time.Now)
		err = o.begin(t.Context(), "a")
		var b busyUntil
		if errs.KindOf(err) != errs.Busy || !errors.As(err, &b) || !b.at.Equal(first.Add(time.Hour)) {
			t.Errorf("%v, until %v", err, b.at)
		}
		if err := o.begin(t.Context(), "b"); err != nil {
			t.Errorf("another name: %v", err)
		}
		o.undo(t.Context(), "a")
		if err := readOrders(s, time.Now).begin(t.Context(), "a"); err != nil {
			t.Errorf("after undo: %v", err)
		}
		time.Sleep(time.Hour)
		if err := readOrders(s, time.Now).begin(t.Context(), "a"); err != nil {
			t.Errorf("an hour later: %v", err)
		}
		for _, text := range []string{"", "null", "{", `{"a":[99999999999,99999999999,99999999999,99999999999,99999999999]}`} {
			if err := s.Store(t.Context(), ordersFile, []byte(text)); err != nil {
				t.Fatal(err)
			}
			if err := readOrders(s, time.Now).begin(t.Context(), "a"); err != nil {
				t.Errorf("%q: %v", text, err)
			}
		}
		// A disk that takes nothing would not take the certificate either.
		s.close(0)
		if err := readOrders(s, time.Now).begin(t.Context(), "c"); err == nil {
			t.Error("an order that could not be noted")
		}
	})
	// Through the whole: a server that is restarted every minute.
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewCrashDisk()
		n := 0
		for range 20 {
			c, f := withCA(t, disk, ACME{}, nil)
			f.set("example.org", errRefused)
			ctx, stop := context.WithTimeout(t.Context(), 59*time.Second)
			if err := c.Run(ctx); err != nil {
				t.Fatal(err)
			}
			stop()
			n += len(f.orders["example.org"])
		}
		if n != ordersAnHour {
			t.Errorf("%d orders", n)
		}
	})
}

// TestNames: what has no address, and an alias that leads elsewhere, is not ordered;
// a resolver that does not answer keeps nothing back.
func TestNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		addrs := map[string]string{"example.org": "192.0.2.1", "www.example.org": "192.0.2.9", "imap.example.org": "192.0.2.8", "slow.example.org": ""}
		var log bytes.Buffer
		c, f := withCA(t, vfs.NewCrashDisk(), ACME{Names: []string{"imap.example.org", "slow.example.org", "gone.example.org"},
			Alias: []string{"www.example.org", "mta-sts.example.org"}, Lookup: func(_ context.Context, name string) ([]netip.Addr, error) {
				mu.Lock()
				defer mu.Unlock()
				a, ok := addrs[name]
				switch {
				case !ok:
					return nil, errs.E("test", errs.NotFound, "", nil)
				case a == "":
					return nil, errs.E("test", errs.Unavailable, "", nil)
				}
				return []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr(a)}[1:], nil
			}}, &log)
		running(t, c)
		for name, want := range map[string]int{"example.org": 1, "imap.example.org": 1, "slow.example.org": 1, "gone.example.org": 0, "www.example.org": 0, "mta-sts.example.org": 0} {
			if got := len(f.orders[name]); got != want {
				t.Errorf("%s: %d orders", name, got)
			}
		}
		texts := map[string]string{}
		for _, x := range c.Status().Certs {
			texts[x.Names[0]] = x.Error
		}
		if !strings.Contains(texts["gone.example.org"], "no address") || !strings.Contains(texts["www.example.org"], "another machine") || texts["example.org"] != "" {
			t.Errorf("%v", texts)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := strings.Count(log.String(), "name=www.example.org"); n != 1 {
			t.Errorf("an alias was reported %d times", n)
		}
		mu.Lock()
		addrs["www.example.org"] = "::ffff:192.0.2.1"
		mu.Unlock()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if got := names(t, c, "www.example.org"); got != "www.example.org" {
			t.Errorf("set up, it is still served as %s", got)
		}
	})
}

// sickDisk does not give certificates while it is sick.
type sickDisk struct {
	vfs.FS
	sick atomic.Bool
}

func (d *sickDisk) Open(name string, o ...pebble.OpenOption) (vfs.File, error) {
	if d.sick.Load() && strings.HasSuffix(name, "/crt") {
		return nil, syscall.EIO
	}
	return d.FS.Open(name, o...)
}

// TestDamaged: a stored pair that cannot be used is replaced; one that the disk does not
// give at this moment is kept and asked for again.
func TestDamaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c, f := withCA(t, vfs.NewCrashDisk(), ACME{}, &log)
		cert, _ := made(t, "example.org")
		_, key := made(t, "example.org") // another one
		if err := errors.Join(f.store.Store(t.Context(), "example.org/key", key), f.store.Store(t.Context(), "example.org/crt", cert)); err != nil {
			t.Fatal(err)
		}
		f.damaged["example.org"] = true
		running(t, c)
		if len(f.orders["example.org"]) != 1 || c.acme.pair("") == nil || !strings.Contains(log.String(), "damaged") {
			t.Errorf("%v\n%s", f.orders, &log)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		disk := &sickDisk{FS: vfs.NewCrashDisk()}
		c, f := withCA(t, disk, ACME{}, nil)
		cert, key := made(t, "example.org")
		if err := errors.Join(f.store.Store(t.Context(), "example.org/key", key), f.store.Store(t.Context(), "example.org/crt", cert)); err != nil {
			t.Fatal(err)
		}
		f.damaged["example.org"] = true
		disk.sick.Store(true)
		running(t, c)
		if len(f.orders) != 0 || !strings.Contains(c.Status().Certs[0].Error, "cannot be read") {
			t.Errorf("ordered %v, %+v", f.orders, c.Status())
		}
		disk.sick.Store(false)
		f.mu.Lock()
		delete(f.damaged, "example.org")
		f.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(f.orders) != 0 || c.acme.pair("") == nil {
			t.Errorf("ordered %v", f.orders)
		}
	})
}

// TestPlansAreApart: a long time without a DNS record does not slow down what follows.
func TestPlansAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var there atomic.Bool
		c, f := withCA(t, vfs.NewCrashDisk(), ACME{Lookup: func(context.Context, string) ([]netip.Addr, error) {
			if !there.Load() {
				return nil, errs.E("test", errs.NotFound, "", nil)
			}
			return nil, nil
		}}, nil)
		f.set("example.org", errRefused)
		running(t, c)
		time.Sleep(3 * time.Hour)
		there.Store(true)
		began := time.Now()
		time.Sleep(12 * time.Minute)
		synctest.Wait()
		if got := f.times("example.org", began); len(got) < 2 || got[1]-got[0] != time.Minute {
			t.Errorf("tries at %v", got)
		}
	})
}

// TestRenewed: a renewal is served from then on, also to nobody who is connected; what
// went wrong with one is told.
func TestRenewed(t *testing.T) {
	var log bytes.Buffer
	c, err := New(Options{FS: vfs.NewCrashDisk(), Dir: "/tls", Domain: "example.org", ACME: &ACME{}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	cl := c.acme.issuer.(*client)
	cl.a = c.acme
	event := func(event string, data map[string]any) error {
		return cl.event(t.Context(), nil, "example.org", event, data)
	}
	store := func() {
		cert, key := made(t, "example.org")
		certKey, keyKey := cl.files("example.org")
		if err := errors.Join(c.acme.store.Store(t.Context(), keyKey, key), c.acme.store.Store(t.Context(), certKey, cert)); err != nil {
			t.Fatal(err)
		}
		event("cert_obtained", map[string]any{"renewal": true})
	}
	store()
	old := c.acme.pair("")
	conn := c.Config(tls.VersionTLS13).GetCertificate
	if err := event("cert_failed", map[string]any{"error": acme.Problem{Type: acme.ProblemTypeCAA, Detail: "CAA forbids", Status: 403}}); err != nil {
		t.Error(err)
	}
	if s := c.Status().Certs[0]; !strings.Contains(s.Error, "CAA forbids") || s.Issuer == "" {
		t.Errorf("%+v", s)
	}
	store()
	if now, err := conn(&tls.ClientHelloInfo{}); err != nil || now == old || now != c.acme.pair("") || c.Status().Certs[0].Error != "" {
		t.Errorf("not served: %v, %+v", err, c.Status())
	}
	for range ordersAnHour {
		if err := event("cert_obtaining", nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := event("cert_obtaining", nil); errs.KindOf(errors.Unwrap(err)) != errs.Busy {
		t.Errorf("the sixth renewal in an hour: %v", err)
	}
	if !strings.Contains(log.String(), "TLS certificate renewed") || !strings.Contains(log.String(), "no TLS certificate could be obtained") {
		t.Errorf("%s", &log)
	}
}

// TestFailure: the kind of an error decides how soon it is tried again.
func TestFailure(t *testing.T) {
	long := strings.Repeat("x", 2000)
	for _, x := range []struct {
		err  error
		kind errs.Kind
		text string
	}{
		{acme.Problem{Type: acme.ProblemTypeUnauthorized, Detail: "192.0.2.1: wrong\nanswer", Status: 403}, errs.Denied, "the certificate authority says: [hidden]: wrong answer"},
		{acme.Problem{Type: acme.ProblemTypeRateLimited, Detail: "too many", Status: 429}, errs.Busy, "too many"},
		{acme.Problem{Type: acme.ProblemTypeServerInternal, Status: 500}, errs.Internal, acme.ProblemTypeServerInternal},
		{&net.OpError{Op: "dial", Net: "tcp", Err: errors.New("192.0.2.1:443: refused " + long)}, errs.Unavailable, "dial tcp: [hidden]:443: refused"},
		{&net.OpError{Op: "read", Net: "tcp", Err: errors.New("reset")}, errs.Internal, "reset"},
		{&net.DNSError{Err: "no such host", Name: "ca.example"}, errs.Unavailable, "no such host"},
		{&tls.CertificateVerificationError{Err: errors.New("unknown authority")}, errs.Unavailable, "unknown authority"},
		{errUnsaved, errs.NoSpace, "kept on the disk"},
		{busyUntil{errs.E("x", errs.Busy, "ordered", nil), time.Now()}, errs.Busy, "ordered"},
	} {
		err := failure(errors.Join(x.err))
		if errs.KindOf(err) != x.kind || !strings.Contains(errs.Public(err), x.text) || len(errs.Public(err)) > 700 {
			t.Errorf("%v: %v, %q", x.err, errs.KindOf(err), errs.Public(err))
		}
	}
	if failure(nil) != nil {
		t.Error("nothing went wrong")
	}
}

// TestChallengePath: requests under the path are answered here, others never.
func TestChallengePath(t *testing.T) {
	for _, a := range []*ACME{nil, {}} {
		c, err := New(Options{FS: vfs.NewCrashDisk(), Dir: "/tls", Domain: "example.org", ACME: a})
		if err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]bool{"/": false, "/.well-known/acme-challenge/x": true, "/.well-known/acme-challenge/": true, "/.well-known/acme-challengex": false} {
			w := httptest.NewRecorder()
			if got := c.Challenge(w, httptest.NewRequest("GET", "http://example.org"+path, nil)); got != want || got && w.Code != http.StatusNotFound {
				t.Errorf("%s: %v, %d", path, got, w.Code)
			}
		}
		cfg := c.Config(tls.VersionTLS13, "h2", ChallengeProtocol)
		if got := slices.Contains(cfg.NextProtos, ChallengeProtocol); got != (a != nil) {
			t.Errorf("offered: %v", got)
		}
		if _, err := handshake(t, cfg, &tls.Config{InsecureSkipVerify: true, ServerName: "example.org", NextProtos: []string{ChallengeProtocol}}); err == nil {
			t.Error("a handshake for a challenge that nobody made")
		}
	}
}

// TestLibraryLog: what certmagic logs shows fields at debug only.
func TestLibraryLog(t *testing.T) {
	for _, level := range []slog.Level{slog.LevelInfo, slog.LevelDebug} {
		var out bytes.Buffer
		l := zap.New(zapCore{slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level}))}).With(zap.String("remote", "192.0.2.1")).Named("x")
		l.Info("served", zap.String("remote_addr", "192.0.2.2"))
		l.Error("will retry", zap.Error(errRefused))
		l.Error("saving", zap.String("remote_addr", "192.0.2.3"), zap.Error(errors.New("disk full")))
		text := out.String()
		if strings.Contains(text, "192.0.2.2") != (level == slog.LevelDebug) || strings.Contains(text, "will retry") != (level == slog.LevelDebug) {
			t.Errorf("%s", text)
		}
		if !strings.Contains(text, "level=WARN") || !strings.Contains(text, "disk full") || strings.Contains(text, "192.0.2.3") {
			t.Errorf("%s", text)
		}
	}
}
