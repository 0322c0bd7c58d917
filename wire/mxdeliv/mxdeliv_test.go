package mxdeliv

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/kit/limits"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// taker notes what came.
type taker struct {
	mails   []string
	outcome Outcome
	reply   string
	later   string // what Admit refuses with
}

func (b *taker) Admit(context.Context, limits.Peer) (string, bool) { return b.later, b.later == "" }

func (b *taker) Deliver(_ context.Context, m Mail) (Outcome, string) {
	b.mails = append(b.mails, fmt.Sprintf("%v > %v: %q", m.From, m.To, m.Raw))
	return b.outcome, b.reply
}

func request(method string, body io.Reader, header ...string) *http.Request {
	r := httptest.NewRequest(method, Path, body)
	r.TLS = &tls.ConnectionState{}
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	return r
}

// unsized hides the length of a body.
type unsized struct{ io.Reader }

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("gone") }

func TestRequests(t *testing.T) {
	const to = "X-MAIL-TO: anna@mail.example"
	text := func(s string) io.Reader { return strings.NewReader(s) }
	for _, c := range []struct {
		name   string
		r      *http.Request
		status int
		says   string
		mail   string
	}{
		{"a mail", request("POST", text("a\r\n"), "X-MAIL-FROM: bob@b.example", to, "X-Mail-To: b@mail.example"), 200, "250 taken",
			`bob@b.example > [anna@mail.example b@mail.example]: "a\r\n"`},
		{"null sender", request("POST", text("a\r\n"), to), 200, "250 taken", ` > [anna@mail.example]: "a\r\n"`},
		{"empty sender", request("POST", text("a\r\n"), "X-MAIL-FROM: ", to), 200, "250 taken", ` > [anna@mail.example]: "a\r\n"`},
		{"brackets", request("POST", text("a\r\n"), "X-MAIL-FROM: <>", "X-MAIL-TO: <anna@mail.example>"), 200, "250 taken", ` > [anna@mail.example]: "a\r\n"`},
		{"no length given", request("POST", unsized{text("a\r\n")}, to), 200, "250 taken", ` > [anna@mail.example]: "a\r\n"`},
		{"as large as may be", request("POST", text(strings.Repeat("12345678\r\n", 100)), to), 200, "250 taken", " > [anna@mail.example]: \"" + strings.Repeat(`12345678\r\n`, 100) + `"`},
		{"GET", request("GET", nil, to), 405, "502 5.5.1 ", ""},
		{"PUT", request("PUT", text("a\r\n"), to), 405, "502 5.5.1 ", ""},
		{"no recipient", request("POST", text("a\r\n")), 400, "503 5.5.1 no recipients", ""},
		{"bad recipient", request("POST", text("a\r\n"), to, "X-MAIL-TO: anna"), 400, "501 5.1.3 ", ""},
		{"two in one", request("POST", text("a\r\n"), "X-MAIL-TO: a@b.example, c@d.example"), 400, "501 5.1.3 ", ""},
		{"many", request("POST", text("a\r\n"), to, to, to), 503, "452 4.5.3 too many recipients", ""},
		{"bad sender", request("POST", text("a\r\n"), "X-MAIL-FROM: bob", to), 400, "501 5.1.7 ", ""},
		{"two senders", request("POST", text("a\r\n"), "X-MAIL-FROM: a@b.example", "X-MAIL-FROM: c@d.example", to), 400, "501 5.1.7 ", ""},
		{"too large, said", request("POST", text(strings.Repeat("x", 1001)), to), 413, "552 5.3.4 Message exceeds maximum size", ""},
		{"too large, not said", request("POST", unsized{text(strings.Repeat("x", 1001))}, to), 413, "552 5.3.4 Message exceeds maximum size", ""},
		{"bare LF", request("POST", text("a\nb\r\n"), to), 400, "500 Invalid DATA", ""},
		{"bare CR", request("POST", text("a\rb\r\n"), to), 400, "500 Invalid DATA", ""},
		{"NUL", request("POST", text("a\x00\r\n"), to), 400, "500 Invalid DATA", ""},
		{"the end is missing", request("POST", unsized{io.MultiReader(text("a\r\n"), broken{})}, to), 400, "421 4.4.2 ", ""},
	} {
		b := &taker{reply: "250 taken"}
		memory := limits.NewBytes(1 << 20)
		h := New(Options{Backend: b, MaxSize: 1000, MaxRecipients: 2, Memory: memory})
		w := httptest.NewRecorder()
		h.ServeHTTP(w, c.r)
		if w.Code != c.status || !strings.HasPrefix(w.Body.String(), c.says) {
			t.Errorf("%s: %d %q, want %d %q", c.name, w.Code, w.Body, c.status, c.says)
		}
		if got := strings.Join(b.mails, "|"); got != c.mail {
			t.Errorf("%s: %s, want %s", c.name, got, c.mail)
		}
		if w.Code == 405 && w.Header().Get("Allow") != "POST" {
			t.Errorf("%s: Allow %q", c.name, w.Header().Get("Allow"))
		}
		if memory.Used() != 0 {
			t.Errorf("%s: %d bytes are held", c.name, memory.Used())
		}
	}
}

// TestOutcomes: what the backend says becomes a status; without TLS it is not asked.
func TestOutcomes(t *testing.T) {
	for outcome, want := range map[Outcome]int{Accepted: 200, Refused: 400, Split: 503, Later: 429} {
		b := &taker{outcome: outcome, reply: "554 5.7.1 words"}
		w := httptest.NewRecorder()
		New(Options{Backend: b}).ServeHTTP(w, request("POST", strings.NewReader("a\r\n"), "X-MAIL-TO: a@b.example"))
		if w.Code != want || w.Body.String() != "554 5.7.1 words\n" {
			t.Errorf("%v: %d %q", outcome, w.Code, w.Body)
		}
	}
	b := &taker{}
	r := request("POST", strings.NewReader("a\r\n"), "X-MAIL-TO: a@b.example")
	r.TLS = nil
	w := httptest.NewRecorder()
	New(Options{Backend: b}).ServeHTTP(w, r)
	if w.Code != 403 || len(b.mails) != 0 {
		t.Errorf("without TLS: %d, %v", w.Code, b.mails)
	}
}

// TestSlowUpload: the times of the server, which are meant for pages, do not cut a mail
// short, in HTTP/1.1 and in HTTP/2.
func TestSlowUpload(t *testing.T) {
	for _, two := range []bool{false, true} {
		b := &taker{reply: "250 taken"}
		s := httptest.NewUnstartedServer(New(Options{Backend: b}))
		s.Config.ReadTimeout, s.Config.WriteTimeout, s.EnableHTTP2 = time.Second, time.Second, two
		s.StartTLS()
		r, w := io.Pipe()
		go func() {
			tick := time.NewTicker(150 * time.Millisecond)
			defer tick.Stop()
			for range 8 {
				<-tick.C
				io.WriteString(w, "a line\r\n")
			}
			w.Close()
		}()
		req, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+Path, r)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-MAIL-TO", "a@b.example")
		res, err := s.Client().Do(req)
		if err != nil {
			t.Errorf("HTTP/2 %v: %v", two, err)
		} else {
			if res.StatusCode != 200 || len(b.mails) != 1 || res.ProtoMajor == 2 != two {
				t.Errorf("HTTP/2 %v: %s, %d mails", two, res.Status, len(b.mails))
			}
			res.Body.Close()
		}
		s.Close()
	}
}

// TestMemory: mails being received share a budget, of which large ones leave half.
func TestMemory(t *testing.T) {
	memory := limits.NewBytes(8 << 20)
	b := &taker{}
	h := New(Options{Backend: b, Memory: memory})
	post := func(size int) int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, request("POST", bytes.NewReader(bytes.Repeat([]byte("12345678\r\n"), size/10)), "X-MAIL-TO: a@b.example"))
		return w.Code
	}
	if got := post(2 << 20); got != 200 {
		t.Errorf("2 MiB: %d", got)
	}
	if got := post(6 << 20); got != 503 {
		t.Errorf("more than half of the memory: %d", got)
	}
	if !memory.Acquire(8<<20 - 100) {
		t.Fatal("memory was not given back")
	}
	if got := post(1000); got != 503 {
		t.Errorf("no memory: %d", got)
	}
}

// FuzzRequest: whatever the header and the body are, there is one answer, nothing is
// held, and what the backend gets has clean lines.
func FuzzRequest(f *testing.F) {
	f.Add("bob@b.example", "a@b.example", []byte("a\r\n"))
	f.Add("<>", "<\"a b\"@[192.0.2.1]>", []byte("a\rb\n\x00"))
	f.Fuzz(func(t *testing.T, from, to string, raw []byte) {
		b := &taker{}
		memory := limits.NewBytes(1 << 20)
		r := request("POST", bytes.NewReader(raw))
		r.Header["X-Mail-From"], r.Header["X-Mail-To"] = []string{from}, []string{to}
		w := httptest.NewRecorder()
		New(Options{Backend: b, MaxSize: 1000, Memory: memory}).ServeHTTP(w, r)
		switch taken := len(b.mails) == 1; {
		case taken != (w.Code == 200), memory.Used() != 0:
			t.Errorf("%d, %d mails, %d bytes held", w.Code, len(b.mails), memory.Used())
		case taken && (bytes.Count(raw, []byte("\r\n")) != bytes.Count(raw, []byte("\n")) || len(raw) > 1000):
			t.Errorf("taken: %q", raw)
		}
	})
}

// TestLater: a peer that is over a limit hears so before a byte of the body is read.
func TestLater(t *testing.T) {
	b := &taker{later: "451 4.7.1 not now"}
	body := &counting{r: strings.NewReader("a\r\n")}
	w := httptest.NewRecorder()
	New(Options{Backend: b}).ServeHTTP(w, request("POST", body, "X-MAIL-TO: a@b.example"))
	if w.Code != 429 || w.Body.String() != "451 4.7.1 not now\n" || len(b.mails) != 0 || body.n != 0 {
		t.Errorf("%d %q, %v, %d bytes read", w.Code, w.Body, b.mails, body.n)
	}
}

type counting struct {
	r io.Reader
	n int
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// TestPeers: what comes is counted to the peer who sent it, also when it is refused, and a
// network takes no more than its share of the memory.
func TestPeers(t *testing.T) {
	peer := limits.Peer{Addr: netip.MustParseAddr("192.0.2.1")}
	memory := limits.NewBytes(1 << 20)
	got := map[limits.Peer]int64{}
	b := &taker{reply: "250 taken"}
	h := New(Options{Backend: b, MaxSize: 1 << 18, Memory: memory, Share: 100_000, PeerOf: func(*http.Request) limits.Peer { return peer },
		Received: func(p limits.Peer, n int64) { got[p] += n }})
	post := func(body io.Reader, want int, text string) {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, request("POST", body, "X-MAIL-TO: a@b.example"))
		if w.Code != want || !strings.HasPrefix(w.Body.String(), text) {
			t.Errorf("%d %q, want %d %q", w.Code, w.Body, want, text)
		}
		if memory.Used() != 0 {
			t.Errorf("%d bytes are held", memory.Used())
		}
	}
	post(strings.NewReader("hello\r\n"), 200, "250 taken")
	post(strings.NewReader("hello\n"), 400, "500 Invalid DATA")
	post(unsized{io.MultiReader(strings.NewReader("hello\r\n"), broken{})}, 400, "421 ")
	if n := got[peer]; n != 20 {
		t.Errorf("%d bytes counted, want 20", n)
	}
	large := strings.Repeat("12345678\r\n", 12_000)
	post(unsized{strings.NewReader(large)}, 503, "452 4.3.1 too many mails at once")
	peer.Exempt = true
	post(unsized{strings.NewReader(large)}, 200, "250 taken")
	if n := got[peer]; n != int64(len(large)) {
		t.Errorf("%d bytes counted", n)
	}
}
