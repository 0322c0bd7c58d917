package link

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
)

const refusedText = "the peer refused the connection: it does not know this node's key, or is no node of this network"

// TestKeys: who dials takes the pinned key only, who is dialled known keys only; neither
// sends or takes anything otherwise.
func TestKeys(t *testing.T) {
	none := take(func(context.Context, Peer, []byte, Receipt) { t.Error("a unit was taken") })
	b := start(t, options("b", known(t, Mix, "a").who, none))
	a := start(t, options("a", known(t, Mix, "b", "c").who, none))
	stranger := start(t, options("stranger", known(t, Mix, "b").who, none))
	failed := func(s Status) bool { return s.Err != nil }

	wrong := a.line(t, "c", b.addr) // b is where c should be
	wantKind(t, wrong.until(t, failed).Err, errs.Denied, "the peer shows another key than the one that is known of it")
	if err := wrong.Post(unit(1), func(error) {}); err != nil {
		t.Fatal(err)
	}

	unknown := stranger.line(t, "b", b.addr)
	wantKind(t, unknown.until(t, failed).Err, errs.Denied, refusedText)
	if b.Counts().Refused == 0 {
		t.Error("not counted")
	}
}

// TestChangingSet: a key that leaves the set loses its connection and is not let in again;
// one that is somebody else now comes again as that.
func TestChangingSet(t *testing.T) {
	peers := known(t, Mix, "a")
	opened := make(chan *Conn, 8)
	o := options("b", peers.who, commitAll)
	o.Opened = func(c *Conn) { opened <- c }
	b := start(t, o)
	a := start(t, options("a", known(t, Mix, "b").who, commitAll))
	line := a.line(t, "b", b.addr)
	if c := <-opened; c.Peer() != (Peer{Key: a.Key(), Role: Mix}) {
		t.Fatalf("%+v", c.Peer())
	}
	b.Recheck() // changes nothing
	if err := line.Send(soon(t), unit(1)); err != nil {
		t.Fatal(err)
	}
	peers.mu.Lock()
	peers.m[a.Key()] = Peer{Key: a.Key(), Role: Client, Account: [8]byte{7}}
	peers.mu.Unlock()
	b.Recheck()
	if c := <-opened; c.Peer().Account != [8]byte{7} {
		t.Fatalf("%+v", c.Peer())
	}
	peers.remove(a.Key())
	b.Recheck()
	line.until(t, func(s Status) bool { return errs.Public(s.Err) == "the peer does not know this node's key any more" })
	line.until(t, func(s Status) bool { return errs.Public(s.Err) == refusedText })
}

// TestMITM: somebody in the middle, with a key of its own that even is known to both
// sides, gets nothing; one that only forwards sees no plain bytes.
func TestMITM(t *testing.T) {
	got := newRecorder()
	b := start(t, options("b", known(t, Mix, "a", "m").who, got))
	a := start(t, options("a", known(t, Mix, "b", "m").who, commitAll))
	m := start(t, options("m", known(t, Mix, "a", "b").who, take(func(context.Context, Peer, []byte, Receipt) { t.Error("taken by the one in the middle") })))
	line := a.line(t, "b", m.addr)
	line.until(t, func(s Status) bool { return errs.KindOf(s.Err) == errs.Denied })

	addr, seen := tap(t, b.addr)
	tapped := a.line(t, "b", addr)
	secret := bytes.Repeat([]byte("plain words "), 3000)[:bodyLen]
	copy(secret[bodyLen-8:], secret[:8])
	if err := tapped.Send(soon(t), secret); err != nil {
		t.Fatal(err)
	}
	tapped.stop()
	raw := <-seen
	if len(raw) < FrameSize || bytes.Contains(raw, []byte("plain words")) {
		t.Errorf("%d bytes seen", len(raw))
	}
	if bytes.Contains(raw, private("a").Public().(ed25519.PublicKey)) {
		t.Error("the key of who dials can be seen")
	}
}

// TestTLS: nothing weaker than TLS 1.3 with the hybrid exchange, a link key and our
// protocol is let in, and what is let in gets no ticket.
func TestTLS(t *testing.T) {
	b := start(t, options("b", known(t, Mix, "a").who, commitAll))
	cert, err := certificate(private("a"))
	if err != nil {
		t.Fatal(err)
	}
	base := func() *tls.Config {
		return &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert},
			CurvePreferences: []tls.CurveID{tls.X25519MLKEM768}, NextProtos: []string{"postern-link/1"},
			ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, other.Public(), other)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []struct {
		name   string
		change func(*tls.Config)
		ok     bool
	}{
		{"as it should be", func(*tls.Config) {}, true},
		{"TLS 1.2", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, false},
		{"X25519", func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519} }, false},
		{"P-256", func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP256} }, false},
		{"P-256 with ML-KEM", func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.SecP256r1MLKEM768} }, false},
		{"no ALPN", func(c *tls.Config) { c.NextProtos = nil }, false},
		{"HTTP", func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} }, false},
		{"no certificate", func(c *tls.Config) { c.Certificates = nil }, false},
		{"another kind of key", func(c *tls.Config) {
			c.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: other}}
		}, false},
		{"two certificates", func(c *tls.Config) {
			c.Certificates = []tls.Certificate{{Certificate: [][]byte{cert.Certificate[0], cert.Certificate[0]}, PrivateKey: private("a")}}
		}, false},
	} {
		t.Run(v.name, func(t *testing.T) {
			nc, err := net.Dial("tcp", b.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			nc.SetDeadline(time.Now().Add(20 * time.Second))
			c := base()
			v.change(c)
			tc := tls.Client(nc, c)
			n, err := io.ReadFull(tc, make([]byte, FrameSize)) // its HELLO
			if !v.ok {
				// In TLS 1.3 a server speaks before it has seen the certificate; HELLO comes behind it.
				if err == nil || n > 0 {
					t.Fatalf("%d bytes, %v", n, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			s := tc.ConnectionState()
			if s.Version != tls.VersionTLS13 || s.CurveID != tls.X25519MLKEM768 || s.ServerName != "" {
				t.Errorf("%+v", s)
			}
			if _, ok := c.ClientSessionCache.Get(nc.RemoteAddr().String()); ok {
				t.Error("a ticket was given out")
			}
		})
	}
}

// TestClientHello: who dials offers nothing but the hybrid exchange and TLS 1.3, names no
// host, and takes no other server.
func TestClientHello(t *testing.T) {
	a := start(t, options("a", known(t, Mix, "b").who, commitAll))
	ln := listen(t)
	line := a.line(t, "b", ln.Addr().String())
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	cert, err := certificate(private("b"))
	if err != nil {
		t.Fatal(err)
	}
	var hello *tls.ClientHelloInfo
	s := tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"postern-link/1"},
		CurvePreferences: []tls.CurveID{tls.X25519}, ClientAuth: tls.RequireAnyClientCert,
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) { hello = h; return nil, nil }})
	if err := s.HandshakeContext(soon(t)); err == nil {
		t.Error("a handshake with X25519 alone")
	}
	if len(hello.SupportedCurves) != 1 || hello.SupportedCurves[0] != tls.X25519MLKEM768 || len(hello.SupportedVersions) != 1 ||
		hello.ServerName != "" || strings.Join(hello.SupportedProtos, " ") != "postern-link/1 postern-link" {
		t.Errorf("%+v", hello)
	}
	nc.Close()
	line.stop()
}

// TestVersions: the highest common version is spoken; without one both sides are told so.
func TestVersions(t *testing.T) {
	speak := func(name, peer string, log io.Writer, lowest, highest uint8) *node {
		o := options(name, known(t, Mix, peer).who, commitAll)
		o.Logger = slog.New(slog.NewTextHandler(log, nil))
		l, err := newLink(o, lowest, highest)
		if err != nil {
			t.Fatal(err)
		}
		return serveLink(t, l)
	}
	for _, v := range []struct {
		aLow, aHigh, bLow, bHigh uint8
		a, b                     string // what each reports; "": they speak
	}{
		{1, 1, 1, 2, "", ""},
		{1, 2, 1, 1, "", ""},
		{1, 3, 2, 3, "", ""},
		{1, 1, 2, 2, "peer speaks link version 2, this node 1: update one of them", "peer speaks link version 1, this node 2: update one of them"},
		{4, 5, 1, 3, "peer speaks link version 1 to 3, this node 4 to 5: update one of them", "peer speaks link version 4 to 5, this node 1 to 3: update one of them"},
	} {
		var log bytes.Buffer
		b := speak("b", "a", &log, v.bLow, v.bHigh)
		a := speak("a", "b", io.Discard, v.aLow, v.aHigh)
		line := a.line(t, "b", b.addr)
		if v.a == "" {
			if err := line.Send(soon(t), unit(1)); err != nil {
				t.Errorf("%+v: %v", v, err)
			}
		} else {
			s := line.until(t, func(s Status) bool { return s.Err != nil })
			wantKind(t, s.Err, errs.Unsupported, v.a)
		}
		line.stop()
		b.stop()
		if v.b != "" && (!strings.Contains(log.String(), v.b) || b.Counts().Versions == 0 || a.Counts().Versions == 0) {
			t.Errorf("the other side: %s %+v", log.String(), b.Counts())
		}
		a.stop()
	}
}

// TestDowngrade: a HELLO that does not fit the version that TLS has agreed on is refused.
func TestDowngrade(t *testing.T) {
	l, err := newLink(options("b", known(t, Mix, "a").who, commitAll), 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	b := serveLink(t, l)
	cert, err := certificate(private("a"))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []struct {
		name            string
		lowest, highest uint8
		change          func(frame []byte)
		ok              bool
	}{
		{"1", 1, 1, nil, true},
		{"2 was possible", 1, 2, nil, false},
		{"only 2", 2, 2, nil, false},
		{"0", 0, 0, nil, false},
		{"upside down", 2, 1, nil, false},
		{"no HELLO", 1, 1, func(f []byte) { f[0] = typeJunk; f[45], f[46] = 0, 0 }, false},
		{"a field", 1, 1, func(f []byte) { f[8] = 1 }, false},
		{"padding", 1, 1, func(f []byte) { f[FrameSize-1] = 1 }, false},
	} {
		nc, err := net.Dial("tcp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		nc.SetDeadline(time.Now().Add(20 * time.Second))
		tc := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert},
			CurvePreferences: []tls.CurveID{tls.X25519MLKEM768}, NextProtos: []string{"postern-link/1"}})
		frame := make([]byte, FrameSize)
		frame[0], frame[45], frame[46] = typeHello, v.lowest, v.highest
		if v.change != nil {
			v.change(frame)
		}
		if _, err := tc.Write(frame); err != nil {
			t.Fatal(err)
		}
		send := make([]byte, FrameSize)
		send[0], send[15] = typeSend, 1
		tc.Write(send)
		answers := 0
		for {
			if _, err := io.ReadFull(tc, frame); err != nil {
				break
			}
			if frame[0] == typeJunk {
				answers++
				break
			}
		}
		if (answers > 0) != v.ok {
			t.Errorf("%s: %d answers", v.name, answers)
		}
		nc.Close()
	}
}
