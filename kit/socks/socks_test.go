package socks

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/kit/errs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// asked is what a client asked a proxy for.
type asked struct {
	methods        []byte
	user, password string
	host           string // as it was sent: a name, or an IP address
	kind           byte   // of the address: 1 IPv4, 3 a name, 4 IPv6
	port           uint16
}

// answers say what a proxy does.
type answers struct {
	wants  bool // a name and a password
	refuse bool // them
	reply  byte // to the request
	raw    []byte
	silent bool
}

// server is a small SOCKS5 proxy, one that answers as it is told.
type server struct {
	net.Listener
	now atomic.Pointer[answers]
	got chan asked
}

func newServer(t *testing.T, network, addr string) *server {
	l, err := net.Listen(network, addr)
	must(t, err)
	s := &server{Listener: l, got: make(chan asked, 10)}
	s.now.Store(&answers{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(10 * time.Second))
			s.serve(c)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return s
}

// serve speaks RFC 1928 and RFC 1929, then sends back what it is sent, once.
func (s *server) serve(c net.Conn) {
	read := func(n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(c, b); err != nil {
			return make([]byte, n)
		}
		return b
	}
	now := s.now.Load()
	if now.silent {
		io.Copy(io.Discard, c)
		return
	}
	if now.raw != nil {
		c.Write(now.raw)
		io.Copy(io.Discard, c)
		return
	}
	var a asked
	head := read(2)
	a.methods = read(int(head[1]))
	method := byte(0)
	if now.wants {
		if method = 2; !bytes.Contains(a.methods, []byte{2}) {
			method = 0xff
		}
	}
	if c.Write([]byte{5, method}); method == 0xff {
		return
	}
	if method == 2 {
		a.user = string(read(int(read(2)[1])))
		a.password = string(read(int(read(1)[0])))
		if now.refuse {
			c.Write([]byte{1, 1})
			return
		}
		c.Write([]byte{1, 0})
	}
	switch a.kind = read(4)[3]; a.kind {
	case 1:
		a.host = net.IP(read(4)).String()
	case 3:
		a.host = string(read(int(read(1)[0])))
	case 4:
		a.host = net.IP(read(16)).String()
	}
	a.port = binary.BigEndian.Uint16(read(2))
	s.got <- a
	if c.Write([]byte{5, now.reply, 0, 1, 127, 0, 0, 1, 0, 80}); now.reply == 0 {
		c.Write(read(5))
	}
}

// dial connects and sees that what is sent comes back.
func dial(t *testing.T, d *Dialer, addr string) {
	t.Helper()
	c, err := d.DialContext(t.Context(), "tcp", addr)
	must(t, err)
	defer c.Close()
	_, err = c.Write([]byte("hello"))
	must(t, err)
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
		t.Fatalf("%q %v", b, err)
	}
}

// TestThrough: a connection goes through the proxy, over TCP and over a socket in a file; names go to
// the proxy as they are, and nobody here looks them up.
func TestThrough(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		addr := "127.0.0.1:0"
		if network == "unix" {
			addr = filepath.Join(t.TempDir(), "s")
		}
		s := newServer(t, network, addr)
		d, err := New(Options{Network: network, Address: s.Addr().String()})
		must(t, err)
		for addr, want := range map[string]asked{
			"relay.example:33001":               {host: "relay.example", kind: 3, port: 33001},
			"abcdefgh.onion:1":                  {host: "abcdefgh.onion", kind: 3, port: 1},
			"192.0.2.7:443":                     {host: "192.0.2.7", kind: 1, port: 443},
			"[2001:db8::7]:443":                 {host: "2001:db8::7", kind: 4, port: 443},
			strings.Repeat("a", 255) + ":33001": {host: strings.Repeat("a", 255), kind: 3, port: 33001},
		} {
			dial(t, d, addr)
			got := <-s.got
			if got.host != want.host || got.kind != want.kind || got.port != want.port || !bytes.Equal(got.methods, []byte{0}) {
				t.Errorf("%s: %+v", addr, got)
			}
		}
	}
}

// TestPassword: the proxy gets name and password, or is told that there are none.
func TestPassword(t *testing.T) {
	s := newServer(t, "tcp", "127.0.0.1:0")
	s.now.Store(&answers{wants: true})
	d, err := New(Options{Address: s.Addr().String(), User: "anna", Password: "secret"})
	must(t, err)
	dial(t, d, "relay.example:1")
	if got := <-s.got; got.user != "anna" || got.password != "secret" {
		t.Errorf("%+v", got)
	}
	s.now.Store(&answers{wants: true, refuse: true})
	wantDial(t, d, errs.Auth, "the SOCKS proxy does not take this name and password")
	d, err = New(Options{Address: s.Addr().String()})
	must(t, err)
	wantDial(t, d, errs.Auth, "the SOCKS proxy wants a name and a password")
}

func wantDial(t *testing.T, d *Dialer, kind errs.Kind, public string) {
	t.Helper()
	c, err := d.DialContext(t.Context(), "tcp", "relay.example:1")
	if err == nil {
		c.Close()
	}
	if err == nil || errs.KindOf(err) != kind || errs.Public(err) != public {
		t.Fatalf("got %v (%v, %q), want %v, %q", err, errs.KindOf(err), errs.Public(err), kind, public)
	}
}

// TestIsolate: what goes through one Dialer has one name at the proxy, another Dialer another, also
// for the same name; and the proxy does not learn what the name was.
func TestIsolate(t *testing.T) {
	s := newServer(t, "tcp", "127.0.0.1:0")
	s.now.Store(&answers{wants: true})
	seen := map[string]bool{}
	for _, name := range []string{"anna@relay.example", "bob@relay.example", "anna@relay.example"} {
		d, err := New(Options{Address: s.Addr().String(), Isolate: name})
		must(t, err)
		var first asked
		for i := range 2 {
			dial(t, d, "relay.example:1")
			got := <-s.got
			if i == 0 {
				first = got
			}
			if got.user == "" || got.password == "" || got.user != first.user || got.password != first.password || strings.Contains(got.user+got.password, "anna") {
				t.Errorf("%+v", got)
			}
		}
		if seen[first.user+first.password] {
			t.Error("two have one name")
		}
		seen[first.user+first.password] = true
	}
	if _, err := New(Options{Address: "a:1", Isolate: "x", Random: bytes.NewReader(nil)}); errs.KindOf(err) != errs.Internal {
		t.Errorf("%v", err)
	}
}

// TestReplies: each answer of RFC 1928 §6 has a text that tells what to look at.
func TestReplies(t *testing.T) {
	s := newServer(t, "tcp", "127.0.0.1:0")
	d, err := New(Options{Address: s.Addr().String()})
	must(t, err)
	for reply, want := range map[byte]string{
		1: "the SOCKS proxy could not connect",
		2: "the SOCKS proxy does not allow this connection",
		3: "the SOCKS proxy cannot reach the network of the other host",
		4: "the SOCKS proxy cannot reach the other host",
		5: "the other host refused the connection of the SOCKS proxy",
		6: "the SOCKS proxy had no answer from the other host in time",
		7: "the SOCKS proxy does not answer as one",
		9: "the SOCKS proxy does not answer as one",
	} {
		s.now.Store(&answers{reply: reply})
		kind := errs.Unavailable
		if reply == 2 {
			kind = errs.Denied
		}
		wantDial(t, d, kind, want)
		if _, err := d.DialContext(t.Context(), "tcp", "relay.example:1"); NoHost(err) != (reply == 4) {
			t.Errorf("reply %d: %v", reply, err)
		}
		<-s.got
		<-s.got
	}
	s.now.Store(&answers{raw: []byte("HTTP/1.1 400 Bad Request\r\n")})
	wantDial(t, d, errs.Unavailable, "this is no SOCKS5 proxy")
	s.Close()
	wantDial(t, d, errs.Unavailable, "the SOCKS proxy cannot be reached")
	for addr, public := range map[string]string{"relay.example": "this is no address of a host and port", "relay.example:99999": "this is no address of a host and port",
		"relay.example:x": "this is no address of a host and port"} {
		if _, err := mute(t).DialContext(t.Context(), "tcp", addr); errs.KindOf(err) != errs.Invalid || errs.Public(err) != public {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

// mute gives a Dialer that reaches a proxy which never answers, for what is refused before.
func mute(t *testing.T) *Dialer {
	d, err := New(Options{Address: "proxy:1", Dial: func(context.Context, string, string) (net.Conn, error) {
		a, b := net.Pipe()
		go io.Copy(io.Discard, b)
		return a, nil
	}})
	must(t, err)
	return d
}

// TestContext: a proxy that says nothing does not hold anybody beyond the context.
func TestContext(t *testing.T) {
	s := newServer(t, "tcp", "127.0.0.1:0")
	s.now.Store(&answers{silent: true})
	d, err := New(Options{Address: s.Addr().String()})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := d.DialContext(ctx, "tcp", "relay.example:1")
		ended <- err
	}()
	cancel()
	if err := <-ended; errs.KindOf(err) != errs.Canceled {
		t.Errorf("%v", err)
	}
}

// TestOptions: what cannot be is refused before anything is dialled.
func TestOptions(t *testing.T) {
	for public, o := range map[string]Options{
		"the network of a SOCKS proxy is tcp or unix":                             {Network: "udp", Address: "a:1"},
		"the address of the SOCKS proxy is missing":                               {},
		"name and password for a SOCKS proxy have at most 255 bytes each":         {Address: "a:1", User: strings.Repeat("x", 256), Password: "y"},
		"name and password for a SOCKS proxy belong together: give both or none":  {Address: "a:1", User: "x"},
		"where names choose circuits, the SOCKS proxy can be given no other name": {Address: "a:1", User: "x", Password: "y", Isolate: "z"},
	} {
		if _, err := New(o); errs.KindOf(err) != errs.Invalid || errs.Public(err) != public {
			t.Errorf("%v, want %q", err, public)
		}
	}
	d, err := New(Options{Address: "proxy:1", Dial: func(_ context.Context, network, addr string) (net.Conn, error) {
		return nil, fmt.Errorf("asked for %s %s: %w", network, addr, errors.ErrUnsupported)
	}})
	must(t, err)
	_, err = d.DialContext(t.Context(), "tcp", "relay.example:1")
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "asked for tcp proxy:1") {
		t.Errorf("the given Dial is not used: %v", err)
	}
	if _, err = d.DialContext(t.Context(), "udp", "relay.example:1"); errs.KindOf(err) != errs.Invalid || errs.Public(err) != "a SOCKS proxy is asked for TCP only" {
		t.Errorf("%v", err)
	}
}
