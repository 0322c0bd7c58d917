package web

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"image/png"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	pages "postern.email/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var usual = Ports{HTTPS: 443, IMAPS: 993, IMAP: 143, Submissions: 465, Submission: 587, POP3S: 995, POP3: 110}
var odd = Ports{HTTPS: 8443, IMAPS: 8993, IMAP: 8143, Submissions: 8465, Submission: 8587}

func site(t *testing.T, o Options) *Site {
	t.Helper()
	if o.Domain == "" {
		o.Domain = "example.org"
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ask(s *Site, method, path string, peer ...limits.Peer) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "https://example.org"+path, nil)
	if len(peer) > 0 {
		r = r.WithContext(context.WithValue(r.Context(), peerKey{}, peer[0]))
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestPages(t *testing.T) {
	s := site(t, Options{Ports: usual, Admin: "mailto:post@example.org", DeleteAfter: "20 days", InactiveAfter: "90 days"})
	for path, want := range map[string]string{
		"/":             `<form method="post" action="/"`,
		"/info":         "20 days",
		"/info.html":    "90 days",
		"/privacy":      "mailto:post@example.org",
		"/privacy.html": "no cookies",
		"/robots.txt":   "Disallow: /",
		"/style.css":    "prefers-color-scheme: dark",
		"/favicon.svg":  "<svg",
		"/favicon.ico":  "<svg",
	} {
		w := ask(s, "GET", path)
		if w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d, without %q", path, w.Code, want)
		}
		for _, h := range []string{"Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy", "Strict-Transport-Security"} {
			if w.Header().Get(h) == "" {
				t.Errorf("%s: no %s", path, h)
			}
		}
		if strings.Contains(w.Body.String(), "<script") || w.Header().Get("Set-Cookie") != "" {
			t.Errorf("%s: a script or a cookie", path)
		}
	}
	for _, x := range []struct {
		method, path string
		want         int
	}{{"GET", "/nothing", 404}, {"DELETE", "/new", 405}, {"PUT", "/", 405}, {"POST", "/info", 405}, {"GET", "/../etc/passwd", 307}} {
		if w := ask(s, x.method, x.path); w.Code != x.want {
			t.Errorf("%s %s: %d", x.method, x.path, w.Code)
		}
	}
}

// TestAliasLink: where there are aliases, each page leads to them and the privacy page names their cookie.
func TestAliasLink(t *testing.T) {
	for path, want := range map[string]bool{"/aliases": true, "": false} {
		s := site(t, Options{AliasPath: path})
		for _, page := range []string{"/", "/info", "/privacy"} {
			if text := ask(s, "GET", page).Body.String(); strings.Contains(text, `<a href="/aliases">Aliases</a>`) != want || page == "/privacy" && strings.Contains(text, "one cookie") != want {
				t.Errorf("%s with %q", page, path)
			}
		}
	}
}

// TestNothingFromElsewhere: no page or style loads anything from another host.
func TestNothingFromElsewhere(t *testing.T) {
	load := regexp.MustCompile(`(?i)(src|href|action|url\()\s*=?\s*["'(]?(https?:)?//`)
	list, err := pages.Files.ReadDir(".")
	if err != nil || len(list) < 8 {
		t.Fatal(err, len(list))
	}
	for _, f := range list {
		b, err := pages.Files.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if m := load.Find(b); m != nil {
			t.Errorf("%s loads %s", f.Name(), m)
		}
	}
}

func TestMakePage(t *testing.T) {
	w := ask(site(t, Options{Ports: odd, SelfSigned: true, Host: "127.0.0.1"}), "POST", "/")
	text := w.Body.String()
	if w.Code != 200 || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%d, %s", w.Code, w.Header().Get("Cache-Control"))
	}
	for _, want := range []string{`[a-z0-9]{9}@example\.org`, `href="dclogin:[a-z0-9]{9}@example\.org\?p=[^"]+ip=8993`, "port 8993, TLS", "port 8465, TLS", "vouches for its certificate itself"} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("%s is not on the page", want)
		}
	}
	m := regexp.MustCompile(`data:image/png;base64,([^"]+)`).FindStringSubmatch(text)
	if m == nil {
		t.Fatal("no QR code")
	}
	raw, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(m[1], "&#43;", "+"))
	if err != nil {
		t.Fatal(err)
	}
	if img, err := png.Decode(bytes.NewReader(raw)); err != nil || img.Bounds().Dx() < 200 {
		t.Errorf("the QR code is no image: %v", err)
	}
}

func TestNew(t *testing.T) {
	trusted := site(t, Options{Ports: usual})
	selfMade := site(t, Options{Ports: odd, SelfSigned: true, Host: "127.0.0.1"})
	for _, path := range []string{"/new", "/cgi-bin/newemail.py"} {
		for _, s := range []*Site{trusted, selfMade} {
			w := ask(s, "POST", path)
			var c map[string]string
			if err := json.Unmarshal(w.Body.Bytes(), &c); err != nil || w.Code != 200 || w.Header().Get("Content-Type") != "application/json" {
				t.Fatalf("%s: %d %s %v", path, w.Code, w.Body, err)
			}
			if !regexp.MustCompile(`^[a-z0-9]{9}@example\.org$`).MatchString(c["email"]) || len(c["password"]) < 12 {
				t.Errorf("%v", c)
			}
			if (c["dclogin_url"] != "") != (s == selfMade) {
				t.Errorf("dclogin_url: %v", c)
			}
			u, err := url.Parse(c["dclogin_url"])
			if s == selfMade && (err != nil || u.Query().Get("p") != c["password"]) {
				t.Errorf("the link's password is not the password: %v", c)
			}
		}
	}
	w := ask(trusted, "GET", "/new")
	if w.Code != 301 || w.Header().Get("Location") != "dcaccount:https://example.org/new" {
		t.Errorf("GET /new: %d %s", w.Code, w.Header().Get("Location"))
	}
	if w := ask(selfMade, "GET", "/new"); w.Code != 200 || !strings.Contains(w.Body.String(), `"email"`) {
		t.Errorf("GET /new, self-signed: %d", w.Code)
	}
	if w := ask(trusted, "GET", "/cgi-bin/newemail.py"); w.Code != 200 {
		t.Errorf("the old URL must not redirect: %d", w.Code)
	}
	if w := ask(trusted, "GET", "/"); !strings.Contains(w.Body.String(), `href="DCACCOUNT:https://example.org/new"`) {
		t.Error("no link for chat-mail apps")
	}
	if w := ask(selfMade, "GET", "/"); strings.Contains(w.Body.String(), "DCACCOUNT") {
		t.Error("an app could not follow this link: its HTTPS is strict")
	}
}

func TestClosed(t *testing.T) {
	s := site(t, Options{Closed: func() error { return errs.E("x", errs.Denied, "closed for repairs", nil) }})
	if w := ask(s, "POST", "/new"); w.Code != 503 || w.Body.String() != "{\"reason\":\"closed for repairs\"}\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := ask(s, "GET", "/"); !strings.Contains(w.Body.String(), "closed for repairs") || strings.Contains(w.Body.String(), "<form") {
		t.Error("the page does not say so")
	}
	if w := ask(s, "POST", "/"); w.Code != 503 {
		t.Errorf("POST /: %d", w.Code)
	}
}

func TestRate(t *testing.T) {
	s := site(t, Options{SelfSigned: true, Limit: limits.NewGCRA(120, 5, 100, time.Now)})
	one := limits.Peer{Addr: netip.MustParseAddr("192.0.2.1")}
	roads := [][2]string{{"POST", "/new"}, {"GET", "/new"}, {"POST", "/"}, {"GET", "/cgi-bin/newemail.py"}, {"POST", "/new"}}
	for _, r := range roads {
		if w := ask(s, r[0], r[1], one); w.Code != 200 {
			t.Errorf("%v: %d", r, w.Code)
		}
	}
	for _, r := range roads[:3] {
		w := ask(s, r[0], r[1], one)
		if w.Code != 429 || w.Header().Get("Retry-After") != "1" {
			t.Errorf("%v: %d, retry after %q", r, w.Code, w.Header().Get("Retry-After"))
		}
	}
	for range 10 {
		if w := ask(s, "POST", "/new", limits.Peer{Addr: one.Addr, Exempt: true}); w.Code != 200 {
			t.Errorf("exempt: %d", w.Code)
		}
	}
	if w := ask(s, "POST", "/new", limits.Peer{Addr: netip.MustParseAddr("192.0.2.2")}); w.Code != 200 {
		t.Errorf("another network: %d", w.Code)
	}
	if w := ask(s, "GET", "/", one); w.Code != 200 {
		t.Errorf("the page itself has no limit: %d", w.Code)
	}
}

func TestAutoconfig(t *testing.T) {
	s := site(t, Options{Ports: usual})
	for _, path := range []string{"/.well-known/autoconfig/mail/config-v1.1.xml", "/mail/config-v1.1.xml?emailaddress=a@example.org"} {
		w := ask(s, "GET", path)
		var c clientConfig
		if err := xml.Unmarshal(w.Body.Bytes(), &c); err != nil || w.Code != 200 {
			t.Fatalf("%d %v", w.Code, err)
		}
		var got []string
		for _, l := range append(c.Provider.Incoming, c.Provider.Outgoing...) {
			got = append(got, fmt.Sprintf("%s %s %d %s %s", l.Type, l.Host, l.Port, l.Socket, l.Username))
		}
		want := "imap example.org 993 SSL %EMAILADDRESS%|imap example.org 143 STARTTLS %EMAILADDRESS%|imap example.org 443 SSL %EMAILADDRESS%|" +
			"pop3 example.org 995 SSL %EMAILADDRESS%|pop3 example.org 110 STARTTLS %EMAILADDRESS%|" +
			"smtp example.org 465 SSL %EMAILADDRESS%|smtp example.org 587 STARTTLS %EMAILADDRESS%|smtp example.org 443 SSL %EMAILADDRESS%"
		if strings.Join(got, "|") != want {
			t.Errorf("%s", strings.Join(got, "|"))
		}
	}
	// What is off is not told.
	if text := ask(site(t, Options{Ports: Ports{HTTPS: 8443, IMAPS: 8993}}), "GET", "/mail/config-v1.1.xml").Body.String(); strings.Contains(text, "pop3") || strings.Contains(text, "STARTTLS") {
		t.Error(text)
	}
}

func TestLoginURL(t *testing.T) {
	for _, x := range []struct {
		o    Options
		want string
	}{
		{Options{Ports: usual}, "dclogin:a@example.org?p=x%22%5C%2B%26&v=1"},
		{Options{Ports: odd}, "dclogin:a@example.org?p=x%22%5C%2B%26&v=1&ih=example.org&ip=8993&is=ssl&sh=example.org&sp=8465&ss=ssl"},
		{Options{Ports: usual, SelfSigned: true}, "dclogin:a@example.org?p=x%22%5C%2B%26&v=1&ih=example.org&ip=993&is=ssl&sh=example.org&sp=465&ss=ssl&ic=3"},
		{Options{Ports: Ports{IMAP: 8143, Submission: 8587}, SelfSigned: true, Host: "127.0.0.1"},
			"dclogin:a@example.org?p=x%22%5C%2B%26&v=1&ih=127.0.0.1&ip=8143&is=starttls&sh=127.0.0.1&sp=8587&ss=starttls&ic=3"},
	} {
		if got := site(t, x.o).LoginURL("a@example.org", `x"\+&`); got != x.want {
			t.Errorf("%s\nwant %s", got, x.want)
		}
	}
}

// TestPickIsUnbiased: a byte that would favour the first letters is drawn again.
func TestPickIsUnbiased(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, letters := range []string{nameLetters, passwordLetters} {
		limit := 256 - 256%len(letters)
		got, err := pick(bytes.NewReader(append(all, make([]byte, 256)...)), letters, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range letters {
			if n := strings.Count(got, string(l)); n != limit/len(letters) {
				t.Fatalf("of all bytes, %q comes from %d", l, n)
			}
		}
	}
	if _, err := pick(strings.NewReader("short"), nameLetters, 9); err == nil {
		t.Error("without randomness it made a name")
	}
	if strings.ContainsAny(passwordLetters, `"\<>& '`) {
		t.Error("a character that gets lost in pasting")
	}
}

func TestTerminalQR(t *testing.T) {
	code, err := TerminalQR("dclogin:a@example.org?p=x")
	if err != nil || strings.Count(code, "\n") < 12 || !strings.Contains(code, "▀") {
		t.Errorf("%s %v", code, err)
	}
	if _, err := TerminalQR(strings.Repeat("x", 10000)); errs.KindOf(err) != errs.TooLarge {
		t.Errorf("too long: %v", err)
	}
}

// start serves on a free port and gives its address.
func start(t *testing.T, o ServeOptions) (addr string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if o.TLS == nil {
		srv := httptest.NewUnstartedServer(nil)
		srv.StartTLS()
		o.TLS = &tls.Config{Certificates: srv.TLS.Certificates, NextProtos: []string{"h2", "http/1.1", "imap", "smtp"}}
		srv.Close()
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, o) }()
	return l.Addr().String(), func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestSwitch(t *testing.T) {
	say := func(word string) func(context.Context, net.Conn) {
		return func(_ context.Context, c net.Conn) { io.WriteString(c, word); c.Close() }
	}
	addr, stop := start(t, ServeOptions{Handler: site(t, Options{}), Protocols: map[string]func(context.Context, net.Conn){"imap": say("IMAP"), "smtp": say("SMTP")}})
	defer stop()
	for alpn, want := range map[string]string{"imap": "IMAP", "smtp": "SMTP"} {
		c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn}})
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(c); string(b) != want {
			t.Errorf("%s: %q", alpn, b)
		}
		c.Close()
	}
	for _, h2 := range []bool{false, true} {
		tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: h2}
		for range 2 {
			r, err := (&http.Client{Transport: tr}).Get("https://" + addr + "/")
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(r.Body)
			r.Body.Close()
			if r.StatusCode != 200 || (r.ProtoMajor == 2) != h2 || !bytes.Contains(b, []byte("Make my address")) {
				t.Errorf("%s %d", r.Proto, r.StatusCode)
			}
		}
		tr.CloseIdleConnections()
	}
	// Unknown protocols are refused in the handshake (RFC 7301 §3.2).
	if c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"xmpp"}}); err == nil {
		c.Close()
		t.Error("xmpp was served")
	}
}

// TestStop: idle connections end at once, a request under way is answered.
func TestStop(t *testing.T) {
	began, finish := make(chan bool), make(chan bool)
	addr, stop := start(t, ServeOptions{Grace: time.Hour, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		began <- true
		<-finish
		io.WriteString(w, "done")
	})})
	idle, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	busy, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	io.WriteString(busy, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-began
	stopped := make(chan bool)
	go func() { stop(); close(stopped) }()
	if _, err := idle.Read(make([]byte, 1)); err == nil {
		t.Error("the idle connection got something")
	}
	finish <- true
	if b, _ := io.ReadAll(busy); !bytes.HasSuffix(b, []byte("done")) {
		t.Errorf("the request under way: %q", b)
	}
	<-stopped
}

// TestTakenOver: a connection that a handler takes over (a WebSocket) lives until the handler
// returns, takes a place for as long, and no longer.
func TestTakenOver(t *testing.T) {
	conns := limits.NewConns(1, 1)
	went := make(chan bool)
	addr, stop := start(t, ServeOptions{Conns: conns, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		defer close(went)
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(c, "mine\n")
		line, _ := rw.ReadString('\n')
		io.WriteString(c, "got "+line)
	})})
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in := bufio.NewReader(c)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if line, err := in.ReadString('\n'); line != "mine\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if n := conns.Open(); n != 1 {
		t.Errorf("%d places taken", n)
	}
	io.WriteString(c, "word\n")
	if rest, _ := io.ReadAll(in); string(rest) != "got word\n" {
		t.Errorf("%q", rest)
	}
	<-went
	stop() // returns when no connection is left
	if n := conns.Open(); n != 0 {
		t.Errorf("%d places taken at the end", n)
	}
}

// TestSlowHandshake: a client that says nothing does not hold a place for ever.
func TestSlowHandshake(t *testing.T) {
	addr, stop := start(t, ServeOptions{Handler: site(t, Options{}), Handshake: 20 * time.Millisecond})
	defer stop()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	var ne net.Error
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.As(err, &ne) && ne.Timeout() {
		t.Errorf("still open: %v", err)
	}
}

func TestBadOptions(t *testing.T) {
	if _, err := New(Options{}); errs.KindOf(err) != errs.Invalid {
		t.Error(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := Serve(t.Context(), l, ServeOptions{}); errs.KindOf(err) != errs.Invalid {
		t.Error(err)
	}
}
