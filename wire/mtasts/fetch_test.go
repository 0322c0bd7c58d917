package mtasts

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
)

// TestFetch: the page of a policy, over TLS, and what is not taken for one.
func TestFetch(t *testing.T) {
	var how func(w http.ResponseWriter, r *http.Request)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", MediaType)
		how(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	client := s.Client() // believes a certificate for *.example.com
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, addr string) (net.Conn, error) {
		if !strings.HasPrefix(addr, "mta-sts.") || !strings.HasSuffix(addr, ":443") {
			return nil, errors.New("another address: " + addr)
		}
		return new(net.Dialer).DialContext(ctx, "tcp", s.Listener.Addr().String())
	}
	defer client.CloseIdleConnections()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return nil } // even so none is followed
	client.Jar, _ = cookiejar.New(nil)
	f := &Fetcher{Client: client}
	const noFetch = "the MTA-STS policy cannot be fetched"
	say := func(text string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }
	}
	typed := func(typ string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", typ)
			io.WriteString(w, example)
		}
	}
	for what, c := range map[string]struct {
		domain string
		how    func(http.ResponseWriter, *http.Request)
		kind   errs.Kind
		says   string // empty: taken
	}{
		"taken": {"example.com", func(w http.ResponseWriter, r *http.Request) {
			if r.Method != "GET" || r.Host != "mta-sts.example.com" || r.URL.Path != "/.well-known/mta-sts.txt" || r.Header.Get("Cookie") != "" {
				t.Errorf("%s %s%s, cookie %q", r.Method, r.Host, r.URL.Path, r.Header.Get("Cookie"))
			}
			http.SetCookie(w, &http.Cookie{Name: "a", Value: "b"})
			io.WriteString(w, example)
		}, 0, ""},
		"plain type":        {"example.com", typed("Text/Plain"), 0, ""},
		"a year":            {"example.com", say(strings.Replace(example, "604800", "4000000000", 1)), 0, ""},
		"not a policy":      {"example.com", say("hello"), errs.Invalid, "a line of the policy is no field"},
		"as long as it may": {"example.com", say(example + strings.Repeat("x: y\n", (MaxPolicy-len(example))/5)), 0, ""},
		"too large":         {"example.com", say(example + strings.Repeat("x: y\n", MaxPolicy/5)), errs.TooLarge, "the policy is too large"},
		"a page":            {"example.com", typed("text/html"), errs.Invalid, "the MTA-STS policy is not of type text/plain"},
		"no type":           {"example.com", typed(""), errs.Invalid, "the MTA-STS policy is not of type text/plain"},
		"not found":         {"example.com", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, example, 404) }, errs.Unavailable, noFetch},
		"accepted":          {"example.com", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(202); io.WriteString(w, example) }, errs.Unavailable, noFetch},
		"moved": {"example.com", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != Path {
				t.Error("a redirect was followed")
			}
			http.Redirect(w, r, "https://mta-sts.example.com/elsewhere", http.StatusFound)
		}, errs.Unavailable, noFetch},
		"cut off": {"example.com", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10000")
			io.WriteString(w, example)
		}, errs.Unavailable, noFetch},
		"certificate of another": {"other.example", say(example), errs.Unavailable, noFetch},
		"no domain":              {"a b", say(example), errs.Invalid, "not a domain"},
	} {
		how = c.how
		p, err := f.Policy(t.Context(), c.domain)
		switch {
		case c.says == "" && (err != nil || len(p.MX) != 3 || p.MaxAge > MaxAge):
			t.Errorf("%s: %+v, %v", what, p, err)
		case c.says != "" && (errs.KindOf(err) != c.kind || errs.Public(err) != c.says):
			t.Errorf("%s: %v, want %q", what, err, c.says)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Policy(ctx, "example.com"); errs.KindOf(err) != errs.Canceled {
		t.Errorf("given up: %v", err)
	}
}

// web answers requests from memory.
type web func(*http.Request) (*http.Response, error)

func (w web) RoundTrip(r *http.Request) (*http.Response, error) { return w(r) }

// page is a policy's page.
func page(text string) *http.Response {
	return &http.Response{StatusCode: 200, Status: "200 OK", Header: http.Header{"Content-Type": {"text/plain"}}, Body: io.NopCloser(strings.NewReader(text))}
}

// TestFetchTimeout: a page that does not come is waited for no longer than a minute.
func TestFetchTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &Fetcher{Client: &http.Client{Transport: web(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}}
		begin := time.Now()
		_, err := f.Policy(t.Context(), "example.com")
		if d := time.Since(begin); errs.KindOf(err) != errs.Unavailable || d != FetchTimeout {
			t.Errorf("after %v: %v", d, err)
		}
	})
}

// TestID: the announcement, and that it cannot be looked up.
func TestID(t *testing.T) {
	for _, c := range []struct {
		txts []string
		err  error
		id   string
		kind errs.Kind
	}{
		{[]string{"v=STSv1; id=1"}, nil, "1", 0},
		{[]string{"x"}, nil, "", errs.NotFound},
		{[]string{"v=STSv1;"}, nil, "", errs.Invalid},
		{nil, errs.E("x", errs.NotFound, "", nil), "", errs.NotFound},
		{nil, errs.E("x", errs.Unavailable, "", nil), "", errs.Unavailable},
	} {
		f := &Fetcher{TXT: func(_ context.Context, name string) ([]string, bool, error) {
			if name != "_mta-sts.example.com" {
				t.Errorf("asked for %s", name)
			}
			return c.txts, false, c.err
		}}
		if id, err := f.ID(t.Context(), "example.com"); id != c.id || (err == nil) != (c.kind == 0) || err != nil && errs.KindOf(err) != c.kind {
			t.Errorf("%q, %v: %q, %v", c.txts, c.err, id, err)
		}
	}
}
