package mxdeliv

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
)

func addr(t testing.TB, s string) mail.Address {
	t.Helper()
	if s == "" {
		return mail.Address{}
	}
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func outgoing(t testing.TB, text, from string, to ...string) Outgoing {
	t.Helper()
	m := Outgoing{From: addr(t, from), Content: strings.NewReader(text)}
	for _, s := range to {
		m.To = append(m.To, addr(t, s))
	}
	return m
}

// host is a web server under a name, and how to get to it.
type host struct {
	*httptest.Server
	dials atomic.Int32
}

// serve starts h under the name example.com, with HTTP/2 or without.
func serve(t testing.TB, h http.Handler, two bool) *host {
	t.Helper()
	s := &host{Server: httptest.NewUnstartedServer(h)}
	s.EnableHTTP2 = two
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// client gives a Client that finds the host, whatever name is asked for, and believes its
// certificate for the names in it.
func (s *host) client(t testing.TB, o ClientOptions) *Client {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	protocols := []string{"http/1.1"}
	if s.EnableHTTP2 {
		protocols = []string{"h2", "http/1.1"}
	}
	o.DialTLS = func(ctx context.Context, name, port string) (*tls.Conn, error) {
		s.dials.Add(1)
		if port != "443" && port != "8443" {
			return nil, fmt.Errorf("port %s", port)
		}
		d := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: name, NextProtos: protocols}}
		conn, err := d.DialContext(ctx, "tcp", s.Listener.Addr().String())
		if err != nil {
			return nil, err
		}
		return conn.(*tls.Conn), nil
	}
	c := NewClient(o)
	t.Cleanup(c.Close)
	return c
}

// TestClientDelivers: what our own handler says, the client understands, over HTTP/2 and
// HTTP/1.1, on one connection.
func TestClientDelivers(t *testing.T) {
	large := strings.Repeat("12345678\r\n", 60_000)
	for _, two := range []bool{true, false} {
		b := &taker{reply: "250 2.0.0 taken"}
		s := serve(t, New(Options{Backend: b, MaxSize: int64(len(large))}), two)
		c := s.client(t, ClientOptions{})
		for _, x := range []struct {
			name    string
			m       Outgoing
			outcome Outcome
			reply   string
			want    Answer
			mail    string
		}{
			{"a mail", outgoing(t, "a\r\n", "a@b.example", "c@d.example", "\"e f\"@d.example"), Accepted, "250 2.0.0 taken",
				Answer{Outcome: Accepted, Reply: "250 2.0.0 taken"}, `a@b.example > [c@d.example "e f"@d.example]: "a\r\n"`},
			{"null sender", outgoing(t, "a\r\n", "", "c@d.example"), Accepted, "250 OK", Answer{Outcome: Accepted, Reply: "250 OK"}, ` > [c@d.example]: "a\r\n"`},
			{"domain beyond ASCII", outgoing(t, "a\r\n", "", "c@münchen.example"), Accepted, "250 OK", Answer{Outcome: Accepted, Reply: "250 OK"},
				` > [c@xn--mnchen-3ya.example]: "a\r\n"`},
			{"a large mail", outgoing(t, large, "", "c@d.example"), Accepted, "250 OK", Answer{Outcome: Accepted, Reply: "250 OK"}, fmt.Sprintf(" > [c@d.example]: %q", large)},
			{"refused", outgoing(t, "a\r\n", "", "c@d.example"), Refused, "523 Encryption Needed: x", Answer{Outcome: Refused, Reply: "523 Encryption Needed: x"}, ` > [c@d.example]: "a\r\n"`},
			{"refused for now", outgoing(t, "a\r\n", "", "c@d.example"), Refused, "451 4.3.0 later", Answer{Outcome: Refused, Reply: "451 4.3.0 later"}, ` > [c@d.example]: "a\r\n"`},
			{"split", outgoing(t, "a\r\n", "", "c@d.example"), Split, "451 4.5.3 not all", Answer{Outcome: Fallback, Reply: "451 4.5.3 not all", Why: ErrNotNow}, ` > [c@d.example]: "a\r\n"`},
			{"too large", outgoing(t, large+"a\r\n", "", "c@d.example"), Accepted, "", Answer{Outcome: Refused, Reply: "552 5.3.4 Message exceeds maximum size"}, ""},
			{"bad data", outgoing(t, "a\nb", "", "c@d.example"), Accepted, "", Answer{Outcome: Refused, Reply: "500 Invalid DATA"}, ""},
			{"sender beyond ASCII", outgoing(t, "a\r\n", "ü@b.example", "c@d.example"), Accepted, "", Answer{Outcome: Fallback, Why: ErrNotASCII}, ""},
			{"recipient beyond ASCII", outgoing(t, "a\r\n", "a@b.example", "c@d.example", "ö@d.example"), Accepted, "", Answer{Outcome: Fallback, Why: ErrNotASCII}, ""},
		} {
			b.mails, b.outcome, b.reply = nil, x.outcome, x.reply
			got, err := c.Deliver(t.Context(), "example.com", x.m)
			if err != nil || got != x.want {
				t.Errorf("HTTP/2 %v, %s: %+v, %v", two, x.name, got, err)
			}
			if mails := strings.Join(b.mails, "|"); mails != x.mail {
				t.Errorf("HTTP/2 %v, %s: %d bytes came", two, x.name, len(mails))
			}
		}
		if n := s.dials.Load(); n > 2 { // a mail that is refused by its size ends a connection of HTTP/1.1
			t.Errorf("HTTP/2 %v: %d connections", two, n)
		}
	}
}

// TestClientBadRequests: what is no mail or no host is refused without a word to anybody.
func TestClientBadRequests(t *testing.T) {
	s := serve(t, http.NotFoundHandler(), true)
	c := s.client(t, ClientOptions{})
	for _, host := range []string{"", "a b", "user@example.com", "example.com/x", "example.com?x", "exam\r\nple.com", "example.com#"} {
		if _, err := c.Deliver(t.Context(), host, outgoing(t, "a\r\n", "", "a@b.example")); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%q: %v", host, err)
		}
	}
	for _, m := range []Outgoing{outgoing(t, "a\r\n", ""), outgoing(t, "", "", "a@b.example")} {
		if _, err := c.Deliver(t.Context(), "example.com", m); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%+v: %v", m, err)
		}
	}
	for _, a := range []mail.Address{{Local: "a", Domain: "b\r\nX-Mail-To: c@d"}, {Local: "a"}, {Local: "a\r\n", Domain: "b"}} {
		m := outgoing(t, "a\r\n", "")
		m.To = []mail.Address{a}
		if got, err := c.Deliver(t.Context(), "example.com", m); err != nil || got.Outcome != Fallback {
			t.Errorf("%+v: %+v, %v", a, got, err)
		}
	}
	if s.dials.Load() != 0 {
		t.Error("a host was asked")
	}
}

// TestClientHosts: web servers of every other kind are no mail hosts, and no answer of theirs
// loses a mail.
func TestClientHosts(t *testing.T) {
	says := func(status int, kind, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.Header()["Content-Type"] = nil
			if kind != "" {
				w.Header().Set("Content-Type", kind)
			}
			w.WriteHeader(status)
			io.WriteString(w, text)
		}
	}
	ok := Answer{Outcome: Accepted, Reply: "OK"}
	no := Answer{Outcome: Fallback, Why: ErrNotOffered}
	for _, x := range []struct {
		name string
		h    http.Handler
		want Answer
	}{
		{"taken, in other words", says(200, "text/plain; charset=utf-8", "OK"), ok},
		{"taken, no type", says(200, "", "250 OK"), Answer{Outcome: Accepted, Reply: "250 OK"}},
		{"a page", says(200, "text/html; charset=utf-8", "OK"), no},
		{"a page without type", says(200, "", "<html>250 OK</html>"), no},
		{"an API", says(200, "application/json", `{"ok":true}`), no},
		{"an API without type", says(200, "", `{"ok":true}`), no},
		{"nothing", says(200, "text/plain", ""), no},
		{"long words", says(200, "text/plain", strings.Repeat("x", 100)), no},
		{"endless", says(200, "text/plain", "250 OK"+strings.Repeat("x", maxAnswer)), no},
		{"yes and no", says(200, "text/plain", "550 5.1.1 no such user"), Answer{Outcome: Fallback, Reply: "550 5.1.1 no such user", Why: ErrNotNow}},
		{"created", says(201, "text/plain", "250 OK"), no},
		{"no content", says(204, "", ""), no},
		{"404", says(404, "text/html", "<h1>404"), no},
		{"405", says(405, "text/plain", "Method Not Allowed"), no},
		{"403", says(403, "text/plain", "530 5.7.0 TLS is needed"), Answer{Outcome: Fallback, Reply: "530 5.7.0 TLS is needed", Why: ErrNotNow}},
		{"413 of a proxy", says(413, "text/html", "<h1>413"), no},
		{"413", says(413, "text/plain", "552 Message exceeds maximum size"), Answer{Outcome: Refused, Reply: "552 Message exceeds maximum size"}},
		{"400 of a proxy", says(400, "text/html", "<h1>400 Bad Request"), no},
		{"400 in two lines", says(400, "text/plain", "550-5.1.1 no\r\n550 5.1.1 no"), no},
		{"400 with a yes", says(400, "text/plain", "250 OK"), no},
		{"400", says(400, "", "554 5.7.1 No\r\nvalid \x00 DKIM\u202e \xff signature\n"), Answer{Outcome: Refused, Reply: "554 5.7.1 No  valid   DKIM  ? signature"}},
		{"429", says(429, "text/plain", "451 4.7.1 later"), Answer{Outcome: Fallback, Reply: "451 4.7.1 later", Why: ErrNotNow}},
		{"502 of a proxy", says(502, "text/html", "<h1>502"), no},
		{"elsewhere", http.RedirectHandler("https://other.example/mxdeliv", http.StatusTemporaryRedirect), no},
		{"a large header", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.Header().Set("X-Large", strings.Repeat("x", 4*maxAnswerHeader))
			w.WriteHeader(200)
		}), Answer{Unknown: true}},
	} {
		for _, two := range []bool{true, false} {
			s := serve(t, x.h, two)
			got, err := s.client(t, ClientOptions{}).Deliver(t.Context(), "example.com", outgoing(t, "a\r\n", "", "a@b.example"))
			if got != x.want || (err != nil) != x.want.Unknown {
				t.Errorf("%s, HTTP/2 %v: %+v, %v", x.name, two, got, err)
			}
			if s.dials.Load() != 1 {
				t.Errorf("%s, HTTP/2 %v: %d connections", x.name, two, s.dials.Load())
			}
		}
	}
}

// TestClientReaches: a host that cannot be reached or believed is a Fallback with the reason.
func TestClientReaches(t *testing.T) {
	s := serve(t, New(Options{Backend: &taker{}}), true)
	c := s.client(t, ClientOptions{})
	m := outgoing(t, "a\r\n", "", "a@b.example")
	if got, err := c.Deliver(t.Context(), "example.com:8443", m); err != nil || got.Outcome != Accepted {
		if got.Outcome != Fallback || errors.Is(got.Why, ErrNoAnswer) { // the taker says nothing
			t.Errorf("port: %+v, %v", got, err)
		}
	}
	var bad *tls.CertificateVerificationError
	got, err := c.Deliver(t.Context(), "other.test", m)
	if err != nil || got.Outcome != Fallback || !errors.Is(got.Why, ErrNoAnswer) || !errors.As(got.Why, &bad) {
		t.Errorf("wrong name: %+v, %v", got, err)
	}
	s.Close()
	got, err = c.Deliver(t.Context(), "example.com", m)
	if err != nil || got.Outcome != Fallback || !errors.Is(got.Why, ErrNoAnswer) {
		t.Errorf("closed: %+v, %v", got, err)
	}
}

// TestClientBreaks: a connection that breaks before the mail is out is a Fallback; one that
// breaks afterwards leaves it open whether the mail was taken.
func TestClientBreaks(t *testing.T) {
	large := strings.Repeat("12345678\r\n", 3_000_000)
	abort := func(read int64) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			io.CopyN(io.Discard, r.Body, read)
			panic(http.ErrAbortHandler)
		})
	}
	for _, two := range []bool{true, false} {
		got, err := serve(t, abort(100_000), two).client(t, ClientOptions{}).Deliver(t.Context(), "example.com", outgoing(t, large, "", "a@b.example"))
		if err != nil || got.Outcome != Fallback || !errors.Is(got.Why, ErrNoAnswer) {
			t.Errorf("HTTP/2 %v, in the middle: %+v, %v", two, got, err)
		}
		got, err = serve(t, abort(1<<40), two).client(t, ClientOptions{}).Deliver(t.Context(), "example.com", outgoing(t, "a\r\n", "", "a@b.example"))
		if errs.KindOf(err) != errs.Unavailable || !got.Unknown {
			t.Errorf("HTTP/2 %v, at the end: %+v, %v", two, got, err)
		}
		// A yes to a mail that has not come yet is the yes of somebody who does not know mail.
		early := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Connection", "close")
			io.WriteString(w, "250 OK")
		})
		got, err = serve(t, early, two).client(t, ClientOptions{}).Deliver(t.Context(), "example.com", outgoing(t, large, "", "a@b.example"))
		if err != nil || got.Outcome != Fallback {
			t.Errorf("HTTP/2 %v, early: %+v, %v", two, got, err)
		}
		// The content itself breaks.
		s := serve(t, New(Options{Backend: &taker{reply: "250 OK"}}), two)
		for _, content := range []Content{broke{}, short{}} {
			m := outgoing(t, "", "", "a@b.example")
			m.Content = content
			got, err = s.client(t, ClientOptions{}).Deliver(t.Context(), "example.com", m)
			if errs.KindOf(err) != errs.Corrupt || got.Unknown {
				t.Errorf("HTTP/2 %v, content: %+v, %v", two, got, err)
			}
		}
	}
}

type broke struct{}

func (broke) Size() int64                       { return 10 }
func (broke) ReadAt([]byte, int64) (int, error) { return 0, errs.E("test", errs.Corrupt, "", nil) }

type short struct{}

func (short) Size() int64 { return 10 }
func (short) ReadAt(p []byte, off int64) (n int, e error) {
	return strings.NewReader("a\r\n").ReadAt(p, off)
}

// TestClientCanceled: the end of ctx ends a Deliver, and the content is left alone afterwards.
func TestClientCanceled(t *testing.T) {
	for _, two := range []bool{true, false} {
		reached := make(chan struct{})
		s := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			io.CopyN(io.Discard, r.Body, 10)
			close(reached)
			io.Copy(io.Discard, r.Body)
		}), two)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-reached
			cancel()
		}()
		over := &watched{size: 1 << 30}
		m := outgoing(t, "", "", "a@b.example")
		m.Content = over
		got, err := s.client(t, ClientOptions{}).Deliver(ctx, "example.com", m)
		over.over.Store(true)
		if errs.KindOf(err) != errs.Canceled || got.Unknown {
			t.Errorf("HTTP/2 %v: %+v, %v", two, got, err)
		}
		s.CloseClientConnections()
		if over.late.Load() {
			t.Errorf("HTTP/2 %v: the content was read after the end", two)
		}
	}
}

type watched struct {
	size       int64
	over, late atomic.Bool
}

func (w *watched) Size() int64 { return w.size }
func (w *watched) ReadAt(p []byte, _ int64) (int, error) {
	if w.over.Load() {
		w.late.Store(true)
	}
	return len(p), nil
}

// TestClientHangs: a host that falls silent, or answers a byte a minute, at any place, holds nobody
// longer than the bounds say.
func TestClientHangs(t *testing.T) {
	slow := func(c net.Conn, text string) {
		c.Read(make([]byte, 1)) // a host speaks when it was spoken to
		go io.Copy(io.Discard, c)
		for i := range len(text) {
			time.Sleep(time.Minute) // of the bubble
			if _, err := io.WriteString(c, text[i:i+1]); err != nil {
				return
			}
		}
	}
	o := ClientOptions{}.withDefaults()
	for _, x := range []struct {
		name    string
		size    int
		host    func(c net.Conn, end <-chan struct{})
		within  time.Duration
		unknown bool
	}{
		{"silent", 100, func(c net.Conn, _ <-chan struct{}) { io.Copy(io.Discard, c) }, o.Judge, true},
		{"a slow answer", 100, func(c net.Conn, _ <-chan struct{}) {
			slow(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n250 OK")
		}, o.Judge, true},
		{"a slow body", 100, func(c net.Conn, _ <-chan struct{}) {
			c.Read(make([]byte, 1))
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
			slow(c, "250 OK")
		}, o.Judge, true},
		{"does not read", 1 << 20, func(_ net.Conn, end <-chan struct{}) { <-end }, o.Block, false},
		{"reads slowly", 1 << 20, func(c net.Conn, _ <-chan struct{}) {
			for few := make([]byte, 256); ; time.Sleep(time.Second) {
				if _, err := c.Read(few); err != nil {
					return
				}
			}
		}, o.Total, false},
		{"no handshake", 100, nil, o.Connect, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			server, roots := certificate(t)
			var hosts sync.WaitGroup
			defer hosts.Wait()
			end := make(chan struct{})
			defer close(end)
			c := NewClient(ClientOptions{DialTLS: func(ctx context.Context, host, _ string) (*tls.Conn, error) {
				near, far := net.Pipe()
				if x.host != nil {
					hosts.Go(func() {
						defer far.Close()
						s := tls.Server(far, server)
						if s.Handshake() == nil {
							x.host(s, end)
						}
					})
				}
				conn := tls.Client(near, &tls.Config{ServerName: host, RootCAs: roots})
				if err := conn.HandshakeContext(ctx); err != nil {
					near.Close()
					far.Close()
					return nil, err
				}
				return conn, nil
			}})
			defer c.Close()
			began := time.Now()
			got, err := c.Deliver(t.Context(), "example.com", outgoing(t, strings.Repeat("12345678\r\n", x.size/10), "", "a@b.example"))
			took := time.Since(began)
			if got.Unknown != x.unknown || (err != nil) != x.unknown || err == nil && (got.Outcome != Fallback || !errors.Is(got.Why, ErrNoAnswer)) {
				t.Errorf("%s: %+v, %v", x.name, got, err)
			}
			if took > x.within+time.Minute || took < x.within/2 {
				t.Errorf("%s: after %v, want %v", x.name, took, x.within)
			}
		})
	}
}

// TestClientKeeps: connections are kept for the next mail, as many and as long as the bounds say.
func TestClientKeeps(t *testing.T) {
	for _, x := range []struct {
		name  string
		o     ClientOptions
		hosts []string // asked at the same time
		dials int32    // for these
		kept  int32    // afterwards
	}{
		{"one", ClientOptions{}, []string{"example.com"}, 1, 1},
		{"two at once", ClientOptions{}, []string{"example.com", "example.com"}, 2, 2},
		{"MaxHostIdle", ClientOptions{MaxHostIdle: 1}, []string{"example.com", "example.com"}, 2, 1},
		{"MaxPerHost", ClientOptions{MaxPerHost: 1}, []string{"example.com", "example.com"}, 1, 1},
		{"two hosts", ClientOptions{}, []string{"example.com", "www.example.com"}, 2, 2},
		{"MaxIdle", ClientOptions{MaxIdle: 1}, []string{"example.com", "www.example.com"}, 2, 1},
		{"Idle", ClientOptions{Idle: time.Hour}, []string{"example.com"}, 1, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			server, roots := certificate(t)
			var hosts sync.WaitGroup
			defer hosts.Wait()
			var dials, open atomic.Int32
			o := x.o
			o.DialTLS = func(ctx context.Context, host, _ string) (*tls.Conn, error) {
				dials.Add(1)
				near, far := net.Pipe()
				hosts.Go(func() {
					open.Add(1)
					defer open.Add(-1)
					takeAll(tls.Server(far, server))
				})
				conn := tls.Client(near, &tls.Config{ServerName: host, RootCAs: roots})
				return conn, conn.HandshakeContext(ctx)
			}
			c := NewClient(o)
			defer c.Close()
			round := func(hosts []string) {
				var all sync.WaitGroup
				for _, h := range hosts {
					m := outgoing(t, "a\r\n", "", "a@b.example")
					all.Go(func() {
						if got, err := c.Deliver(t.Context(), h, m); err != nil || got.Outcome != Accepted {
							t.Errorf("%s: %+v, %v", x.name, got, err)
						}
					})
				}
				all.Wait()
				synctest.Wait()
			}
			round(x.hosts)
			if dials.Load() != x.dials || open.Load() != x.kept {
				t.Errorf("%s: %d connections, %d kept", x.name, dials.Load(), open.Load())
			}
			round(x.hosts[:1])
			if x.kept == x.dials && dials.Load() != x.dials {
				t.Errorf("%s: the next mail made a new connection", x.name)
			}
			time.Sleep(c.o.Idle - time.Second) // of the bubble
			synctest.Wait()
			if open.Load() == 0 {
				t.Errorf("%s: nothing is kept until Idle", x.name)
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if open.Load() != 0 {
				t.Errorf("%s: %d connections are kept beyond Idle", x.name, open.Load())
			}
		})
	}
}

// takeAll is a host that takes every mail, a second after it came.
func takeAll(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		time.Sleep(time.Second) // of the bubble
		if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n250 OK"); err != nil {
			return
		}
	}
}

// certificate gives one for example.com and those who believe it, at any time: a bubble's
// begins in the year 2000.
func certificate(t testing.TB) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"example.com", "www.example.com"}, NotBefore: time.Unix(0, 0),
		NotAfter: time.Now().AddDate(100, 0, 0), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, roots
}

// FuzzJudge: whatever a host answers, only a short plain yes is a yes, a refusal has a reply
// that says so, and everything shown is one line of clean text.
func FuzzJudge(f *testing.F) {
	f.Add(200, "", []byte("250 2.0.0 OK\n"))
	f.Add(200, "text/html", []byte("<html>"))
	f.Add(400, "text/plain; charset=utf-8", []byte("523 Encryption Needed"))
	f.Add(413, "text/plain", []byte("552 5.3.4 x\x00\r\n\xff"))
	f.Add(503, "text/plain", []byte("451-4.5.3 x"))
	f.Fuzz(func(t *testing.T, status int, kind string, text []byte) {
		a := judge(status, kind, text)
		class := replyClass(a.Reply)
		switch a.Outcome {
		case Accepted:
			if status != 200 || len(text) > maxAnswer || a.Reply == "" || class > '2' || strings.Contains(kind, "html") || bytes.HasPrefix(bytes.TrimSpace(text), []byte("<")) {
				t.Errorf("%d %q %q: accepted", status, kind, text)
			}
		case Refused:
			if status != 400 && status != 413 || class != '4' && class != '5' {
				t.Errorf("%d %q %q: refused with %q", status, kind, text, a.Reply)
			}
		case Fallback:
			if a.Why == nil {
				t.Errorf("%d %q %q: no reason", status, kind, text)
			}
		default:
			t.Errorf("outcome %d", a.Outcome)
		}
		if len(a.Reply) > maxReply || strings.ContainsAny(a.Reply, "\r\n\x00") {
			t.Errorf("reply %q", a.Reply)
		}
	})
}
