package alias

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"postern.email/kit/limits"
	"postern.email/wire/web"
)

// TestOverHTTPS: everything by the HTTPS server of the program, as it is used: the WebSocket takes a
// place of the port's while it is open, and ends with the server; calls and pages go by HTTP/2.
func TestOverHTTPS(t *testing.T) {
	keys := httptest.NewUnstartedServer(nil)
	keys.StartTLS()
	certs := keys.TLS.Certificates
	keys.Close()
	f := newFake()
	s, err := New(Options{Backend: f, PeerOf: web.PeerOf})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conns := limits.NewConns(8, 8)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- web.Serve(ctx, l, web.ServeOptions{TLS: &tls.Config{Certificates: certs, NextProtos: []string{"h2", "http/1.1"}}, Handler: s.Handler(), Conns: conns, Grace: 50 * time.Millisecond})
	}()
	trust := &tls.Config{InsecureSkipVerify: true}
	one := &http.Transport{TLSClientConfig: trust}
	c, _, err := websocket.Dial(ctx, "wss://"+l.Addr().String()+DefaultWebSocketPath, &websocket.DialOptions{HTTPClient: &http.Client{Transport: one}})
	if err != nil {
		t.Fatal(err)
	}
	if conns.Open() != 1 || s.o.Sockets.Open() != 1 {
		t.Errorf("%d places of the port and %d of WebSockets are taken", conns.Open(), s.o.Sockets.Open())
	}
	if err := c.Write(ctx, websocket.MessageText, []byte("new handle "+goodToken)); err != nil {
		t.Fatal(err)
	}
	if _, b, err := c.Read(ctx); string(b) != "amber-falcon-4821@example.org" {
		t.Errorf("%q %v", b, err)
	}
	if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("%v", err)
	}
	c.CloseNow()
	two := &http.Transport{TLSClientConfig: trust.Clone(), ForceAttemptHTTP2: true}
	r, err := http.NewRequestWithContext(ctx, "POST", "https://"+l.Addr().String()+"/api/v1/aliases", strings.NewReader(`{"format":"custom","local_part":"other"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+goodToken)
	res, err := (&http.Client{Transport: two}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 201 || res.ProtoMajor != 2 {
		t.Errorf("%d by %s", res.StatusCode, res.Proto)
	}
	two.CloseIdleConnections()
	if f.who.Peer.Network() != "127.0.0.1" {
		t.Errorf("the peer is %q", f.who.Peer.Network())
	}
	// One that is open when the server ends.
	c, _, err = websocket.Dial(ctx, "wss://"+l.Addr().String()+DefaultWebSocketPath, &websocket.DialOptions{HTTPClient: &http.Client{Transport: one}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if conns.Open() != 0 || s.o.Sockets.Open() != 0 {
		t.Error("a place is not free at the end")
	}
}
