package dircache

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"postern.email/kit/clocktest"
	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
)

func request(t *testing.T, r directory.Request) []byte {
	t.Helper()
	b, err := directory.AppendRequest(nil, r)
	must(t, err)
	return b
}

// A cache fetches over HTTPS what another one serves: whole, of an epoch, and the difference.
func TestHTTP(t *testing.T) {
	w := newWorld(t)
	clock := clocktest.New(bubble.Add(50 * time.Minute))
	served := w.cache(at(clock))
	must(t, served.Put(w.of(hour0).Bytes()))
	must(t, served.Put(w.of(hour0+1).Bytes()))
	var raw []string
	s := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		raw = append(raw, r.URL.RequestURI()+" "+r.Header.Get("Accept-Encoding"))
		Handler(served.Answer).ServeHTTP(rw, r)
	}))
	defer s.Close()
	src, err := HTTP(s.Client(), s.URL+"/postern/consensus")
	must(t, err)
	cur, next := w.of(hour0), w.of(hour0+1)
	for _, k := range []struct {
		r    directory.Request
		base *directory.Consensus
		want *directory.Consensus
		uri  string
	}{
		{directory.Request{}, nil, next, "/postern/consensus gzip"},
		{directory.Request{Epoch: hour0, Packed: true}, nil, cur, fmt.Sprintf("/postern/consensus?epoch=%d gzip", hour0)},
		{directory.Request{Epoch: hour0 + 1, From: cur.Hash(), Packed: true}, cur, next, fmt.Sprintf("/postern/consensus?epoch=%d&from=%s gzip", hour0+1, cur.Hash())},
	} {
		k.r.Kind = directory.RequestConsensus
		raw = nil
		b, err := src.Fetch(t.Context(), request(t, k.r))
		must(t, err)
		if got, err := directory.OpenConsensus(b, k.base); err != nil || !bytes.Equal(got, k.want.Bytes()) {
			t.Errorf("%+v: %v", k.r, err)
		}
		if len(raw) != 1 || raw[0] != k.uri {
			t.Errorf("asked for %v", raw)
		}
	}
	_, err = src.Fetch(t.Context(), request(t, directory.Request{Kind: directory.RequestConsensus, Epoch: hour0 + 7}))
	refused(t, err, errs.NotFound, "the web server does not have the consensus")
	_, err = src.Fetch(t.Context(), request(t, directory.Request{Kind: directory.RequestGossip}))
	refused(t, err, errs.Unsupported, "only the consensus can be had over HTTP")
	_, err = src.Fetch(t.Context(), []byte("weather\n"))
	refused(t, err, errs.Unsupported, "the request is unknown")
	// A whole cache lives on it.
	mine := w.cache(at(clock), from(src))
	must(t, mine.fetch(t.Context(), src, hour0))
	must(t, mine.fetch(t.Context(), src, hour0+1))
	if c, err := mine.Current(); err != nil || c.Epoch != hour0 || mine.Next() == nil {
		t.Error(err)
	}
}

// A file on a web server that knows nothing of questions is enough.
func TestHTTPMirror(t *testing.T) {
	w := newWorld(t)
	clock := clocktest.New(bubble.Add(50 * time.Minute))
	doc := w.of(hour0)
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(doc.Bytes()) }))
	defer s.Close()
	src, err := HTTP(s.Client(), s.URL)
	must(t, err)
	c := w.cache(at(clock))
	must(t, c.fetch(t.Context(), src, hour0))
	err = c.fetch(t.Context(), src, hour0+1)
	refused(t, err, errs.NotFound, "the source has nothing newer")
	doc = w.of(hour0 + 1)
	must(t, c.fetch(t.Context(), src, hour0+1))
}

func TestHTTPFaults(t *testing.T) {
	status, body := 200, io.Reader(nil)
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if status == 0 {
			rw.Header().Set("Content-Length", "100")
			_, _ = rw.Write([]byte("half"))
			_ = http.NewResponseController(rw).Flush()
			panic(http.ErrAbortHandler)
		}
		rw.WriteHeader(status)
		if body != nil {
			_, _ = io.Copy(rw, body)
		}
	}))
	defer s.Close()
	src, err := HTTP(s.Client(), s.URL)
	must(t, err)
	for _, k := range []struct {
		status int
		kind   errs.Kind
		public string
	}{
		{404, errs.NotFound, "the web server does not have the consensus"},
		{410, errs.NotFound, "the web server does not have the consensus"},
		{429, errs.Unavailable, "the web server cannot answer now: 429"},
		{503, errs.Unavailable, "the web server cannot answer now: 503"},
		{403, errs.Denied, "the web server refuses: 403"},
		{304, errs.Denied, "the web server refuses: 304"},
		{0, errs.Unavailable, "the answer of the web server broke off"},
	} {
		status = k.status
		_, err := src.Fetch(t.Context(), request(t, directory.Request{Kind: directory.RequestConsensus}))
		refused(t, err, k.kind, k.public)
	}
	// An endless answer, also one that is small before it is unpacked, is cut.
	status, body = 200, io.LimitReader(zeros{}, directory.MaxConsensus+1)
	_, err = src.Fetch(t.Context(), request(t, directory.Request{Kind: directory.RequestConsensus}))
	refused(t, err, errs.TooLarge, "the web server's consensus is too large")
	bomb := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Encoding", "gzip")
		z, _ := gzip.NewWriterLevel(rw, gzip.BestSpeed)
		_, _ = io.Copy(z, io.LimitReader(zeros{}, directory.MaxConsensus+1))
		_ = z.Close()
	}))
	defer bomb.Close()
	src, err = HTTP(bomb.Client(), bomb.URL)
	must(t, err)
	_, err = src.Fetch(t.Context(), request(t, directory.Request{Kind: directory.RequestConsensus}))
	refused(t, err, errs.TooLarge, "the web server's consensus is too large")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = src.Fetch(ctx, request(t, directory.Request{Kind: directory.RequestConsensus}))
	if errs.KindOf(err) != errs.Canceled {
		t.Error(err)
	}
	s.Close()
	src, err = HTTP(http.DefaultClient, s.URL)
	must(t, err)
	_, err = src.Fetch(t.Context(), request(t, directory.Request{Kind: directory.RequestConsensus}))
	refused(t, err, errs.Unavailable, "the web server cannot be reached")
	for _, u := range []string{"", "ftp://a.example/x", "https:///x", "a.example/consensus", "https://a.example/x#y", "https://a b/"} {
		_, err := HTTP(http.DefaultClient, u)
		refused(t, err, errs.Invalid, "the address of the consensus is not like https://host/postern/consensus")
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// The handler speaks plain HTTP: anybody can look at the consensus with a browser.
func TestHandler(t *testing.T) {
	w := newWorld(t)
	clock := clocktest.New(bubble)
	c := w.cache(at(clock))
	h := Handler(c.Answer)
	get := func(method, target, encoding string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, target, nil)
		if encoding != "" {
			r.Header.Set("Accept-Encoding", encoding)
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		return rec
	}
	if r := get("GET", "/", ""); r.Code != 404 || r.Body.String() != "this consensus is not here\n" {
		t.Errorf("%d %s", r.Code, r.Body)
	}
	must(t, c.Put(w.of(hour0).Bytes()))
	text := w.of(hour0).Bytes()
	for encoding, zipped := range map[string]bool{"": false, "gzip": true, "br, GZIP;q=0.5": true, "gzip;q=0": false, "gzip; q=0.0": false, "br": false} {
		r := get("GET", "/", encoding)
		got := r.Body.Bytes()
		if (r.Header().Get("Content-Encoding") == "gzip") != zipped {
			t.Errorf("%q: encoded as %q", encoding, r.Header().Get("Content-Encoding"))
		}
		if r.Header().Get("Content-Length") != fmt.Sprint(len(got)) {
			t.Errorf("%q: length %s of %d", encoding, r.Header().Get("Content-Length"), len(got))
		}
		if zipped {
			z, err := gzip.NewReader(bytes.NewReader(got))
			must(t, err)
			got, err = io.ReadAll(z) // verifies sum and length
			must(t, err)
		}
		if r.Code != 200 || !bytes.Equal(got, text) || !strings.HasPrefix(r.Header().Get("Content-Type"), "text/plain") {
			t.Errorf("%q: %d, %d bytes", encoding, r.Code, len(got))
		}
	}
	if r := get("HEAD", "/", ""); r.Code != 200 || r.Body.Len() != 0 || r.Header().Get("Content-Length") != fmt.Sprint(len(text)) {
		t.Errorf("HEAD: %d, %d bytes", r.Code, r.Body.Len())
	}
	if r := get("POST", "/", ""); r.Code != 405 || r.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d", r.Code)
	}
	for target, public := range map[string]string{"/?epoch=x": "epoch is not a number", "/?epoch=0": "epoch is not a number", "/?epoch=-1": "epoch is not a number",
		"/?from=zz": "from is not a hash", "/?from=ab": "from is not a hash", "/?epoch=99999999999999": "line 1: consensus: not a number from 1 to 1099511627776"} {
		if r := get("GET", target, ""); r.Code != 400 || r.Body.String() != public+"\n" {
			t.Errorf("%s: %d %s", target, r.Code, r.Body)
		}
	}
	for kind, code := range map[errs.Kind]int{errs.Unavailable: 503, errs.Denied: 403, errs.Unsupported: 400} {
		rec := httptest.NewRecorder()
		Handler(func([]byte) ([]byte, error) { return nil, errs.E("op", kind, "", nil) }).ServeHTTP(rec, httptest.NewRequest("GET", "/", nil))
		if rec.Code != code {
			t.Errorf("%s: %d", kind, rec.Code)
		}
	}
}
