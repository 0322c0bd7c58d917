package alias

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
)

// listen serves s on a loopback port.
func listen(t testing.TB, s *Server) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(srv.Close)
	return srv
}

// exchange sends one frame by coder/websocket and gives the answer and how the server closed.
func exchange(t testing.TB, url string, kind websocket.MessageType, frame []byte, header http.Header) (string, websocket.StatusCode) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, url+DefaultWebSocketPath, &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if err := c.Write(ctx, kind, frame); err != nil {
		t.Fatal(err)
	}
	got, b, err := c.Read(ctx)
	if err != nil || got != websocket.MessageText {
		t.Fatalf("%v, %v", got, err)
	}
	_, _, err = c.Read(ctx)
	return string(b), websocket.CloseStatus(err)
}

// TestSocketTexts: IM-11 to IM-14, and IM-60, by a client of another hand than the server's rules.
func TestSocketTexts(t *testing.T) {
	f := newFake()
	srv := listen(t, serverOf(t, f, Options{}))
	for _, x := range []struct {
		id, frame, want string
		err             error
	}{
		{"IM-12", "new handle " + goodToken, "amber-falcon-4821@example.org", nil},
		{"white space", " \t new\r\n handle  " + goodToken + " \n", "blue-river-1@example.org", nil},
		{"IM-13", "", "error empty command received", nil},
		{"IM-13", " \r\n\t ", "error empty command received", nil},
		{"IM-13", "hello", "error unknown command received", nil},
		{"IM-13", "NEW handle x", "error unknown command received", nil},
		{"IM-13", "new", "error wrong command usage", nil},
		{"IM-13", "new handle", "error wrong command usage", nil},
		{"IM-13", "new handle a b", "error wrong command usage", nil},
		{"IM-13", "new thing a", "error wrong command usage", nil},
		{"IM-13", "new handle " + strings.Repeat("x", 64), "error account not found", nil},
		{"IM-14", "new account ann@example.org", "error invalid permission to do this", nil},
		{"IM-14", "delete handle h " + goodToken, "error invalid permission to do this", nil},
		{"IM-14", "delete account " + goodToken, "error invalid permission to do this", nil},
		{"IM-14", "list " + goodToken, "error unknown command received", nil},
		{"IM-60", "delete", "error wrong command usage", nil},
		{"IM-60", "delete something", "error wrong command usage", nil},
		{"IM-60", "delete something else x", "error wrong command usage", nil},
		{"IM-52", "new handle " + goodToken, "error too many requests, try again later", errs.E("x", errs.Busy, "slow down", nil)},
		{"scope", "new handle " + goodToken, "error invalid permission to do this", errs.E("x", errs.Denied, "no", nil)},
		{"full", "new handle " + goodToken, "error you have 100 aliases already", errs.E("x", errs.Full, "you have 100 aliases already", nil)},
		{"private", "new handle " + goodToken, "error internal error", fmt.Errorf("ann@example.org: /var/lib/x")},
	} {
		name, _, _ := strings.Cut(x.want, "@")
		f.names, f.fail = []string{name}, x.err
		got, status := exchange(t, srv.URL, websocket.MessageText, []byte(x.frame), nil)
		if got != x.want || status != websocket.StatusNormalClosure {
			t.Errorf("%s: %q: %q, closed with %v", x.id, x.frame, got, status)
		}
	}
	for _, q := range f.asked {
		if q != (CreateRequest{}) {
			t.Errorf("asked for %+v", q)
		}
	}
}

// TestSocketFrames: a frame that is no text, or too long, is answered like one that the original
// could not read; the longest one is taken.
func TestSocketFrames(t *testing.T) {
	srv := listen(t, serverOf(t, newFake(), Options{}))
	long := func(n int) []byte { return []byte("x" + strings.Repeat(" ", n-1)) }
	for _, x := range []struct {
		kind  websocket.MessageType
		frame []byte
		want  string
	}{
		{websocket.MessageBinary, []byte("new handle " + goodToken), "error receiving command"},
		{websocket.MessageText, long(MaxFrame + 1), "error receiving command"},
		{websocket.MessageText, long(1 << 20), "error receiving command"},
		{websocket.MessageText, long(MaxFrame), "error unknown command received"},
	} {
		if got, _ := exchange(t, srv.URL, x.kind, x.frame, nil); got != x.want {
			t.Errorf("%v of %d bytes: %q", x.kind, len(x.frame), got)
		}
	}
}

// TestSocketOrigins: IM-15: an add-on's origin, no origin and any other are taken by default; a
// list restricts them, and the page's own stays allowed.
func TestSocketOrigins(t *testing.T) {
	any, some := listen(t, serverOf(t, newFake(), Options{})), listen(t, serverOf(t, newFake(), Options{Origins: []string{"moz-extension://*", "https://Good.example"}}))
	for origin, listed := range map[string]bool{"null": false, "moz-extension://0b1c": true, "https://good.example": true, "https://good.example:8443": false,
		"https://evil.example": false, "": true, "own": true} {
		for srv, want := range map[*httptest.Server]bool{any: true, some: listed} {
			h := http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-WebSocket-Version": {"13"}, "Sec-WebSocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}}
			switch origin {
			case "":
			case "own":
				h.Set("Origin", srv.URL)
			default:
				h.Set("Origin", origin)
			}
			r, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+DefaultWebSocketPath, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header = h
			res, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if got := res.StatusCode == http.StatusSwitchingProtocols; got != want || !got && res.StatusCode != http.StatusForbidden {
				t.Errorf("origin %q, list %v: %d", origin, srv == some, res.StatusCode)
			}
		}
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

// TestSocketPlain: a request that is no WebSocket's is told so.
func TestSocketPlain(t *testing.T) {
	if w := ask(serverOf(t, newFake(), Options{}), "GET", DefaultWebSocketPath, ""); w.Code != http.StatusUpgradeRequired {
		t.Errorf("%d", w.Code)
	}
}

// TestSocketBound: of ten thousand who connect at once and say nothing, as many are served as the
// options say, from one network fewer, and the rest are told to come later; when those are gone,
// others are served.
func TestSocketBound(t *testing.T) {
	f := newFake()
	var n int
	var mu sync.Mutex
	s := serverOf(t, f, Options{Sockets: limits.NewConns(20, 4), PeerOf: func(*http.Request) limits.Peer {
		mu.Lock()
		defer mu.Unlock()
		n++
		return limits.Peer{Addr: netip.AddrFrom4([4]byte{10, 0, byte(n % 2000 >> 8), byte(n % 2000)})}
	}})
	served, refused := 0, 0
	var ends []func()
	for i := range 10_000 {
		c, w := pipeSocket(s)
		if w != http.StatusSwitchingProtocols {
			refused++
			if w != http.StatusServiceUnavailable {
				t.Fatalf("connection %d: %d", i, w)
			}
			c()
			continue
		}
		served++
		ends = append(ends, c)
	}
	if served != 20 || refused != 9980 || s.o.Sockets.Open() != 20 {
		t.Errorf("%d served, %d refused, %d open", served, refused, s.o.Sockets.Open())
	}
	for _, end := range ends {
		end()
	}
	if s.o.Sockets.Open() != 0 {
		t.Errorf("%d left open", s.o.Sockets.Open())
	}
	// One network alone.
	s = serverOf(t, f, Options{Sockets: limits.NewConns(20, 4), PeerOf: func(*http.Request) limits.Peer { return limits.Peer{Addr: netip.MustParseAddr("10.0.0.1")} }})
	ends, served = nil, 0
	for range 50 {
		c, w := pipeSocket(s)
		if w == http.StatusSwitchingProtocols {
			served++
		}
		ends = append(ends, c)
	}
	for _, end := range ends {
		end()
	}
	if served != 4 {
		t.Errorf("%d of one network served", served)
	}
}

// pipe is a ResponseWriter whose connection is one end of a net.Pipe.
type pipe struct {
	*httptest.ResponseRecorder
	c     net.Conn
	taken chan struct{}
}

func (p pipe) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	close(p.taken)
	return p.c, bufio.NewReadWriter(bufio.NewReader(p.c), bufio.NewWriter(p.c)), nil
}

// upgrade is a handshake, whose connection the server has at w.
func upgrade() (r *http.Request, w pipe, client net.Conn) {
	client, server := net.Pipe()
	r = httptest.NewRequest("GET", "http://example.org"+DefaultWebSocketPath, nil)
	for k, v := range map[string]string{"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="} {
		r.Header.Set(k, v)
	}
	return r, pipe{httptest.NewRecorder(), server, make(chan struct{})}, client
}

// pipeSocket begins a WebSocket over a pipe and gives the status of the handshake, and what ends
// it and waits for the server.
func pipeSocket(s *Server) (end func(), status int) {
	r, w, client := upgrade()
	done := make(chan bool)
	go func() {
		defer close(done)
		s.Handler().ServeHTTP(w, r)
	}()
	select {
	case <-done:
		status = w.Code
	case <-w.taken:
		status = http.StatusSwitchingProtocols
	}
	return func() { client.Close(); <-done; w.c.Close() }, status
}

// TestSocketTimes: who sends nothing, half a frame, or never reads the answer, is cut off.
func TestSocketTimes(t *testing.T) {
	for name, hold := range map[string]func(c net.Conn){
		"silent":   func(net.Conn) {},
		"half":     func(c net.Conn) { c.Write([]byte{0x81, 0xfe, 0x00}) },
		"fragment": func(c net.Conn) { c.Write(rawFrame(0x01, []byte("new "))) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serverOf(t, newFake(), Options{})
				r, w, ours := upgrade()
				go hold(ours)
				go io.Copy(io.Discard, ours)
				began := time.Now()
				s.Handler().ServeHTTP(w, r)
				if d := time.Since(began); d < receiveTime || d > receiveTime+10*time.Second {
					t.Errorf("cut after %v", d)
				}
				if s.o.Sockets.Open() != 0 {
					t.Error("the place is not free")
				}
				ours.Close()
				w.c.Close()
			})
		})
	}
}

// TestSocketAnswerTime: a backend that hangs is given up.
func TestSocketAnswerTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.hook = func(ctx context.Context) { <-ctx.Done() }
		f.fail = errs.E("x", errs.Canceled, "", nil)
		s := serverOf(t, f, Options{})
		r, w, ours := upgrade()
		go ours.Write(rawFrame(0x81, []byte("new handle "+goodToken)))
		go io.Copy(io.Discard, ours)
		began := time.Now()
		s.Handler().ServeHTTP(w, r)
		if d := time.Since(began); d < answerTime || d > answerTime+10*time.Second {
			t.Errorf("given up after %v", d)
		}
		ours.Close()
		w.c.Close()
	})
}

// rawFrame is a masked frame of a client (RFC 6455 §5.2); head is FIN and the opcode.
func rawFrame(head byte, text []byte) []byte {
	b := []byte{head}
	if len(text) < 126 {
		b = append(b, 0x80|byte(len(text)))
	} else {
		b = append(b, 0x80|126)
		b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
	}
	mask := [4]byte{1, 2, 3, 4}
	b = append(b, mask[:]...)
	for i, c := range text {
		b = append(b, c^mask[i%4])
	}
	return b
}

func FuzzCommand(f *testing.F) {
	for _, s := range []string{"", "new handle x", "new account x", "delete handle a b", "list x", "new\x00handle x", "new handle\u00a0x", "delete"} {
		f.Add(s)
	}
	said := []string{saidEmpty, saidUnknown, saidUsage, saidPermission}
	f.Fuzz(func(t *testing.T, text string) {
		secret, what := parseCommand(text)
		if (secret == "") == (what == "") {
			t.Fatalf("%q: %q and %q", text, secret, what)
		}
		if secret != "" {
			if w := strings.Fields(text); len(w) != 3 || w[0] != "new" || w[1] != "handle" || w[2] != secret {
				t.Fatalf("%q gives %q", text, secret)
			}
			return
		}
		for _, s := range said {
			if s == what {
				return
			}
		}
		t.Fatalf("%q says %q", text, what)
	})
}
