package web

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.email/kit/limits"
)

// TestRedirect: every request is led to the domain over HTTPS, to the same path and
// with the same method, whatever host it names; what must not be led anywhere is not.
func TestRedirect(t *testing.T) {
	challenge := func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/.well-known/acme-challenge/x" {
			return false
		}
		io.WriteString(w, "answer")
		return true
	}
	for _, x := range []struct {
		domain       string
		port         int
		method, path string
		status       int
		to           string
	}{
		{"example.org", 443, "GET", "/", 301, "https://example.org/"},
		{"example.org", 0, "HEAD", "/a%2Fb/%0d%0aX?q=%20", 301, "https://example.org/a%2Fb/%0d%0aX?q=%20"},
		{"example.org", 8443, "POST", "/new", 308, "https://example.org:8443/new"},
		{"example.org", 443, "GET", "//evil.example/x", 301, "https://example.org//evil.example/x"},
		{"example.org", 443, "GET", "http://evil.example/x", 301, "https://example.org/x"},
		{"[192.0.2.1]", 443, "GET", "/", 301, "https://192.0.2.1/"},
		{"[IPv6:2001:db8::1]", 8443, "GET", "/", 301, "https://[2001:db8::1]:8443/"},
		{"example.org", 443, "GET", "/.well-known/acme-challenge/x", 200, ""},
		{"example.org", 443, "GET", PolicyPath, 404, ""},
		{"example.org", -1, "GET", "/", 404, ""},
		{"example.org", 443, "OPTIONS", "*", 400, ""},
	} {
		r := httptest.NewRequest(x.method, "/", nil)
		r.Host = "evil.example"
		r.RequestURI = x.path
		u, err := r.URL.Parse(x.path)
		if x.path == "*" {
			u.Path = "*"
		}
		if strings.HasPrefix(x.path, "//") { // as net/http reads it
			u.Host, u.Path = "", x.path
		}
		if err != nil {
			t.Fatal(err)
		}
		r.URL = u
		w := httptest.NewRecorder()
		Redirect(x.domain, x.port, challenge).ServeHTTP(w, r)
		if w.Code != x.status || w.Header().Get("Location") != x.to {
			t.Errorf("%s %s: %d %q", x.method, x.path, w.Code, w.Header().Get("Location"))
		}
	}
	Redirect("example.org", 443, nil).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)) // no challenges: no panic
}

// TestServePlain: over a real socket, within the limit of connections, until the end of
// the context.
func TestServePlain(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- ServePlain(ctx, l, ServeOptions{Handler: Redirect("example.org", 443, nil), Conns: limits.NewConns(1, 0)})
	}()
	open := func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(time.Minute))
		return c
	}
	first := open()
	io.WriteString(first, "GET /x HTTP/1.1\r\n") // the header goes on
	if n, err := open().Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("a second connection where one is allowed")
	}
	io.WriteString(first, "Host: evil.example\r\n\r\n")
	text, _ := io.ReadAll(first)
	if !strings.HasPrefix(string(text), "HTTP/1.1 301 ") || !strings.Contains(string(text), "Location: https://example.org/x\r\n") {
		t.Errorf("%s", text)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	l, _ = net.Listen("tcp", "127.0.0.1:0")
	if ServePlain(t.Context(), l, ServeOptions{}) == nil {
		t.Error("without a handler")
	}
}

// TestHosts: the policy where senders look for it, the other names lead to the domain.
func TestHosts(t *testing.T) {
	const policy = "version: STSv1\n"
	ask := func(o Options, host, method, path string) *httptest.ResponseRecorder {
		s, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(method, path, nil)
		r.Host = host
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	o := Options{Domain: "example.org", Policy: policy, Ports: Ports{HTTPS: 8443}}
	for _, x := range []struct {
		host, method, path string
		status             int
		to                 string
	}{
		{"mta-sts.example.org", "GET", PolicyPath, 200, ""},
		{"MTA-STS.example.org.:8443", "GET", PolicyPath, 200, ""},
		{"example.org", "GET", PolicyPath, 200, ""},
		{"mta-sts.example.org", "GET", "/", 301, "https://example.org:8443/"},
		{"www.example.org", "GET", "/info?x", 301, "https://example.org:8443/info?x"},
		{"autoconfig.example.org", "GET", "/mail/config-v1.1.xml", 200, ""},
		{"WWW.example.org:443", "POST", "/new", 308, "https://example.org:8443/new"},
		{"www.example.org", "GET", PolicyPath, 301, "https://example.org:8443" + PolicyPath},
		{"127.0.0.1:8443", "GET", "/info", 200, ""},
		{"www.example.org.evil.example", "GET", "/info", 200, ""},
	} {
		w := ask(o, x.host, x.method, x.path)
		if w.Code != x.status || w.Header().Get("Location") != x.to {
			t.Errorf("%s %s: %d %q", x.host, x.path, w.Code, w.Header().Get("Location"))
		}
		if x.path == PolicyPath && x.status == 200 && (w.Body.String() != policy || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain")) {
			t.Errorf("%s: %q", x.host, w.Body)
		}
	}
	if w := ask(Options{Domain: "example.org"}, "mta-sts.example.org", "GET", PolicyPath); w.Code != 404 {
		t.Errorf("without a policy: %d", w.Code)
	}
}

// TestLiteral: a site without a name links to its address.
func TestLiteral(t *testing.T) {
	for domain, x := range map[string]struct {
		host, base, ih string
		aliases        int
	}{
		"example.org":        {"example.org", "https://example.org", "example.org", 3},
		"[192.0.2.1]":        {"192.0.2.1", "https://192.0.2.1", "192.0.2.1", 0},
		"[IPv6:2001:db8::1]": {"2001:db8::1", "https://[2001:db8::1]", "2001%3Adb8%3A%3A1", 0},
	} {
		s, err := New(Options{Domain: domain, SelfSigned: true, Ports: Ports{IMAPS: 993, Submissions: 465}})
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.fresh()
		if HostOf(domain) != x.host || s.base() != x.base || len(Aliases(domain)) != x.aliases || err != nil {
			t.Errorf("%s: %s, %s, %v, %v", domain, HostOf(domain), s.base(), Aliases(domain), err)
		}
		if !strings.HasSuffix(c.Email, "@"+domain) || !strings.Contains(c.LoginURL, "&ih="+x.ih+"&") || !strings.HasSuffix(c.LoginURL, "&ic=3") {
			t.Errorf("%+v", c)
		}
	}
	if got := Aliases("example.org"); !slices.Equal(got, []string{"mta-sts.example.org", "www.example.org", "autoconfig.example.org"}) {
		t.Error(got)
	}
}

// FuzzRedirect: whatever a request looks like, it is led to the domain or nowhere, and
// nothing of it gets into the header but a path and a query on one line.
func FuzzRedirect(f *testing.F) {
	for _, s := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET //evil.example/%2e%2e HTTP/1.1\r\nHost: x\r\n\r\n", "POST http://evil.example/?a=\r HTTP/1.0\r\n\r\n",
		"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "GET /\\evil.example?@ HTTP/1.1\r\nHost: x\r\n\r\n"} {
		f.Add(s)
	}
	h := Redirect("example.org", 443, nil)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		to := w.Header().Get("Location")
		if to == "" && w.Code >= 400 {
			return
		}
		u, err := url.Parse(to)
		if err != nil || u.Scheme != "https" || u.Host != "example.org" || u.User != nil || strings.ContainsAny(to, "\r\n") || !strings.HasPrefix(u.EscapedPath(), "/") {
			t.Errorf("%q: %d, %q, %v", text, w.Code, to, err)
		}
	})
}
