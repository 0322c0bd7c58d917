package pop3

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backend is a post office with one account, u@x / secret word, for tests.
type backend struct {
	mu      sync.Mutex
	mails   []string // "" is a mail that is gone
	locked  bool
	fail    error // what Login gives
	delFail error
}

func (b *backend) Login(_ context.Context, _ limits.Peer, name, password string) (Maildrop, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.fail != nil:
		return nil, b.fail
	case name != "u@x" || password != "secret word":
		return nil, errs.E("test", errs.Auth, "", nil)
	case b.locked:
		return nil, errs.E("test", errs.Exists, "another session has the mailbox", nil)
	}
	b.locked = true
	return &drop{b: b, mails: slices.Clone(b.mails)}, nil
}

type drop struct {
	b     *backend
	mails []string
}

func (d *drop) Len() int { return len(d.mails) }
func (d *drop) Size(_ context.Context, i int) (int64, error) {
	return int64(len(d.mails[i])), nil
}
func (d *drop) UID(i int) string { return "7." + string(rune('a'+i)) }
func (d *drop) Open(_ context.Context, i int) (io.ReadCloser, error) {
	if d.mails[i] == "" {
		return nil, errs.E("test", errs.NotFound, "the message is gone", nil)
	}
	return io.NopCloser(strings.NewReader(d.mails[i])), nil
}
func (d *drop) Delete(_ context.Context, indexes []int) error {
	d.b.mu.Lock()
	defer d.b.mu.Unlock()
	if d.b.delFail != nil {
		return d.b.delFail
	}
	for _, i := range slices.Backward(indexes) {
		d.b.mails = slices.Delete(d.b.mails, i, i+1)
	}
	return nil
}
func (d *drop) Close() {
	d.b.mu.Lock()
	defer d.b.mu.Unlock()
	d.b.locked = false
}

func testTLS(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"x"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// serveTest runs a server for the length of the test.
func serveTest(t *testing.T, o Options) (addr string, stop func()) {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

type client struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func dialTest(t *testing.T, addr string) *client {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t, nc, bufio.NewReader(nc)}
}

// talk plays a conversation: "C: …" is sent, "S: …" must come, "S* …" must
// begin so, "EOF" is the end of the connection.
func (c *client) talk(script string) {
	c.t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(script), "\n") {
		line = strings.TrimLeft(line, " \t")
		switch {
		case strings.HasPrefix(line, "C: "):
			if _, err := io.WriteString(c, strings.ReplaceAll(line[3:], "|", "\r\n")+"\r\n"); err != nil {
				c.t.Fatal(err)
			}
		case line == "EOF":
			if got, err := c.r.ReadString('\n'); err == nil {
				c.t.Fatalf("want the end, got %q", got)
			}
		default:
			got, err := c.r.ReadString('\n')
			want := line[3:]
			if err != nil {
				c.t.Fatalf("want %q: %v", want, err)
			}
			got, ok := strings.CutSuffix(got, "\r\n")
			if !ok || (line[1] == ':' && got != want) || (line[1] == '*' && !strings.HasPrefix(got, want)) {
				c.t.Fatalf("want %q, got %q", want, got)
			}
		}
	}
}

const twoMails = "Subject: a\r\n\r\none\r\n.two\r\nthree\r\n"

func testBackend() *backend {
	return &backend{mails: []string{twoMails, "Subject: b\r\n\r\nno end", "Subject: c\r\n\r\n"}}
}

func TestSession(t *testing.T) {
	b := testBackend()
	addr, _ := serveTest(t, Options{Backend: b, Private: true, ExpireDays: 20})
	c := dialTest(t, addr)
	c.talk(`
S: +OK POP3 ready
C: CAPA
S: +OK capabilities follow
S: TOP
S: UIDL
S: PIPELINING
S: RESP-CODES
S: AUTH-RESP-CODE
S: UTF8
S: EXPIRE 20
S: IMPLEMENTATION Postern
S: USER
S: SASL PLAIN LOGIN
S: .
C: STAT
S: -ERR log in first
C: PASS x
S: -ERR unknown command
C: USER u@x
S: +OK now PASS
C: PASS wrong
S: -ERR [AUTH] authentication failed
C: UTF8
S: +OK UTF8 enabled
C: user u@x
S: +OK now PASS
C: pass secret word
S: +OK maildrop locked and ready
C: STLS
S: -ERR not after login
C: STAT
S: +OK 3 66
C: LIST
S: +OK
S: 1 32
S: 2 20
S: 3 14
S: .
C: LIST 2
S: +OK 2 20
C: LIST 4
S: -ERR no such message
C: UIDL 1
S: +OK 1 7.a
C: RETR 1
S: +OK message follows
S: Subject: a
S: 
S: one
S: ..two
S: three
S: .
C: RETR 2
S: +OK message follows
S: Subject: b
S: 
S: no end
S: .
C: TOP 1 1
S: +OK message follows
S: Subject: a
S: 
S: one
S: .
C: TOP 1 0
S: +OK message follows
S: Subject: a
S: 
S: .
C: TOP 1
S: -ERR TOP needs a message and a number of lines
C: DELE 1
S: +OK marked; QUIT deletes
C: RETR 1
S: -ERR no such message
C: UIDL
S: +OK
S: 2 7.b
S: 3 7.c
S: .
C: RSET
S: +OK nothing is marked
C: NOOP
S: +OK
C: DELE 2
S: +OK marked; QUIT deletes
C: QUIT
S: +OK bye
EOF`)
	if want := []string{twoMails, "Subject: c\r\n\r\n"}; !slices.Equal(b.mails, want) {
		t.Errorf("left: %q", b.mails)
	}
}

// TestPipelining: commands in one packet are answered in order (RFC 2449 §6.6).
func TestPipelining(t *testing.T) {
	addr, _ := serveTest(t, Options{Backend: testBackend(), Private: true})
	dialTest(t, addr).talk(`
S: +OK POP3 ready
C: USER u@x|PASS secret word|STAT|DELE 1|QUIT
S: +OK now PASS
S: +OK maildrop locked and ready
S: +OK 3 66
S: +OK marked; QUIT deletes
S: +OK bye
EOF`)
}

// TestNothingDeletedWithoutQuit: RFC 1939 §6.
func TestNothingDeletedWithoutQuit(t *testing.T) {
	b := testBackend()
	addr, stop := serveTest(t, Options{Backend: b, Private: true})
	c := dialTest(t, addr)
	c.talk(`
S: +OK POP3 ready
C: USER u@x|PASS secret word|DELE 1
S: +OK now PASS
S: +OK maildrop locked and ready
S: +OK marked; QUIT deletes`)
	c.Close()
	stop()
	if len(b.mails) != 3 || b.locked {
		t.Errorf("%d mails, locked %v", len(b.mails), b.locked)
	}
}

// TestLock: one session a maildrop, told by [IN-USE], free again afterwards.
func TestLock(t *testing.T) {
	addr, _ := serveTest(t, Options{Backend: testBackend(), Private: true})
	one := dialTest(t, addr)
	login := "S: +OK POP3 ready\nC: USER u@x|PASS secret word\nS: +OK now PASS\n"
	one.talk(login + "S: +OK maildrop locked and ready")
	dialTest(t, addr).talk(login + "S: -ERR [IN-USE] another session has the mailbox")
	one.talk("C: QUIT\nS: +OK bye\nEOF")
	dialTest(t, addr).talk(login + "S: +OK maildrop locked and ready")
}

func TestAuth(t *testing.T) {
	addr, _ := serveTest(t, Options{Backend: testBackend(), Private: true})
	plain := base64.StdEncoding.EncodeToString([]byte("\x00u@x\x00secret word"))
	name := base64.StdEncoding.EncodeToString([]byte("u@x"))
	pass := base64.StdEncoding.EncodeToString([]byte("secret word"))
	c := dialTest(t, addr)
	c.talk("S: +OK POP3 ready\nC: AUTH\nS: +OK\nS: PLAIN\nS: LOGIN\nS: .\nC: AUTH CRAM-MD5\nS: -ERR unknown authentication mechanism\n" +
		"C: AUTH PLAIN\nS: + \nC: *\nS: -ERR authentication cancelled\nC: AUTH PLAIN !\nS: -ERR malformed base64\n" +
		"C: AUTH PLAIN\nS: + \nC: " + plain + "\nS: +OK maildrop locked and ready\nC: QUIT\nS: +OK bye")
	dialTest(t, addr).talk("S: +OK POP3 ready\nC: AUTH LOGIN\nS* + VXNlcm5hbWU6\nC: " + name + "\nS* + UGFzc3dvcmQ6\nC: " + pass + "\nS: +OK maildrop locked and ready")
}

// TestErrors: each kind of failure has its response code.
func TestErrors(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{errs.E("", errs.Busy, "try again in a moment", nil), "-ERR [SYS/TEMP] try again in a moment"},
		{errs.E("", errs.Unavailable, "", nil), "-ERR [SYS/TEMP] unavailable"},
		{errs.E("", errs.Denied, "this account is blocked", nil), "-ERR [AUTH] this account is blocked"},
		{errs.E("", errs.Corrupt, "", nil), "-ERR [SYS/PERM] corrupt"},
	} {
		addr, stop := serveTest(t, Options{Backend: &backend{fail: tc.err}, Private: true})
		dialTest(t, addr).talk("S: +OK POP3 ready\nC: USER a|PASS b\nS: +OK now PASS\nS: " + tc.want)
		stop()
	}
	b := testBackend()
	b.delFail = errs.E("", errs.Unavailable, "the store stopped", nil)
	b.mails[1] = ""
	addr, _ := serveTest(t, Options{Backend: b, Private: true})
	dialTest(t, addr).talk(`
S: +OK POP3 ready
C: USER u@x|PASS secret word|RETR 2|DELE 1|QUIT
S: +OK now PASS
S: +OK maildrop locked and ready
S: -ERR the message is gone
S: +OK marked; QUIT deletes
S: -ERR [SYS/TEMP] some deleted messages were not removed: the store stopped
EOF`)
}

// TestClearText: without TLS and without a private listener no password may cross.
func TestClearText(t *testing.T) {
	addr, _ := serveTest(t, Options{Backend: testBackend(), TLS: testTLS(t)})
	c := dialTest(t, addr)
	c.talk(`
S: +OK POP3 ready
C: CAPA
S: +OK capabilities follow
S: TOP
S: UIDL
S: PIPELINING
S: RESP-CODES
S: AUTH-RESP-CODE
S: UTF8
S: EXPIRE NEVER
S: IMPLEMENTATION Postern
S: STLS
S: .
C: USER u@x
S: -ERR [AUTH] a password may not cross this connection; use STLS or the TLS port
C: AUTH PLAIN
S: -ERR [AUTH] a password may not cross this connection; use STLS or the TLS port
C: STLS now
S: -ERR STLS takes no argument
C: STLS
S: +OK begin TLS`)
	tc := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
	c = &client{t, tc, bufio.NewReader(tc)}
	c.talk("C: USER u@x|PASS secret word\nS: +OK now PASS\nS: +OK maildrop locked and ready\nC: QUIT\nS: +OK bye\nEOF")
}

// TestInjectionBehindSTLS: what is sent in clear text behind STLS is refused and
// never run.
func TestInjectionBehindSTLS(t *testing.T) {
	addr, _ := serveTest(t, Options{Backend: testBackend(), TLS: testTLS(t)})
	dialTest(t, addr).talk("S: +OK POP3 ready\nC: STLS|NOOP\nS: -ERR commands behind STLS\nEOF")
}

func TestImplicitTLS(t *testing.T) {
	addr, _ := serveTest(t, Options{Backend: testBackend(), TLS: testTLS(t), Implicit: true})
	nc, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	(&client{t, nc, bufio.NewReader(nc)}).talk("S: +OK POP3 ready\nC: STLS\nS: -ERR STLS is not possible here\nC: QUIT\nS: +OK bye\nEOF")
}

// TestBadLines: broken lines end the session with a reason; nothing is interpreted.
func TestBadLines(t *testing.T) {
	addr, _ := serveTest(t, Options{Backend: testBackend(), Private: true})
	for line, want := range map[string]string{
		"NOOP\nQUIT\r\n":                        "LF without CR",
		"NOOP\rQUIT\r\n":                        "CR without LF",
		"NO\x00OP\r\n":                          "NUL in a line",
		strings.Repeat("x", MaxLine+1) + "\r\n": "line too long",
	} {
		c := dialTest(t, addr)
		io.WriteString(c, line)
		c.talk("S: +OK POP3 ready\nS: -ERR " + want + "\nEOF")
	}
}

// TestMistakes: an endless stream of wrong commands is cut.
func TestMistakes(t *testing.T) {
	addr, _ := serveTest(t, Options{Backend: testBackend(), Private: true})
	script := "S: +OK POP3 ready\n"
	for range MaxMistakes {
		script += "C: WHAT\nS: -ERR unknown command\n"
	}
	dialTest(t, addr).talk(script + "C: WHAT\nS: -ERR too many errors\nEOF")
}

// TestStop: a waiting session is told when the server stops.
func TestStop(t *testing.T) {
	addr, stop := serveTest(t, Options{Backend: testBackend(), Private: true})
	c := dialTest(t, addr)
	c.talk("S: +OK POP3 ready")
	go stop()
	c.talk("S: -ERR [SYS/TEMP] the server stops\nEOF")
	stop()
}

// TestIdle: a session that says nothing ends.
func TestIdle(t *testing.T) {
	addr, _ := serveTest(t, Options{Backend: testBackend(), Private: true, LoginTimeout: 20 * time.Millisecond})
	dialTest(t, addr).talk("S: +OK POP3 ready\nEOF")
}

func TestTooManyConnections(t *testing.T) {
	addr, _ := serveTest(t, Options{Backend: testBackend(), Private: true, Conns: limits.NewConns(1, 0)})
	dialTest(t, addr).talk("S: +OK POP3 ready")
	dialTest(t, addr).talk("S: -ERR [SYS/TEMP] too many connections\nEOF")
}

// oracleTop is TOP written a second time, slowly: from RFC 1939 §7.
func oracleTop(mail string, top int64) string {
	if top < 0 {
		return mail
	}
	lines := strings.SplitAfter(mail, "\n")
	out, inBody := "", false
	for _, l := range lines {
		if inBody {
			if top == 0 {
				break
			}
			top--
		}
		if strings.TrimRight(l, "\r\n") == "" && strings.HasSuffix(l, "\n") {
			inBody = true
		}
		out += l
	}
	return out
}

// chunked gives a text in pieces of n bytes.
type chunked struct {
	s string
	n int
}

func (c *chunked) Read(p []byte) (int, error) {
	if c.s == "" {
		return 0, io.EOF
	}
	n := min(c.n, len(c.s), len(p))
	copy(p, c.s[:n])
	c.s = c.s[n:]
	return n, nil
}

// topOf runs the cutter over a text in pieces.
func topOf(s string, chunk int, top int64) string {
	var out bytes.Buffer
	r, cut := &chunked{s, chunk}, topCutter{left: top}
	buf := make([]byte, 64)
	for {
		n, err := r.Read(buf)
		part, end := buf[:n], false
		if top >= 0 {
			part, end = cut.take(part)
		}
		out.Write(part)
		if end || err != nil {
			return out.String()
		}
	}
}

func FuzzTop(f *testing.F) {
	f.Add("A: b\r\n\r\none\r\n\r\ntwo\r\n", 3, int64(1))
	f.Add("A: b\r\n\r\n", 1, int64(0))
	f.Add("no end", 1, int64(5))
	f.Add("\r\n.\r\n..\r\n", 2, int64(2))
	f.Fuzz(func(t *testing.T, mail string, chunk int, top int64) {
		if chunk < 1 || len(mail) > 1000 {
			return
		}
		// A mail in the store has CRLF line ends only (wire/smtp, agent/access).
		mail = strings.ReplaceAll(strings.ReplaceAll(mail, "\r", ""), "\n", "\r\n")
		if got, want := topOf(mail, chunk, top), oracleTop(mail, top); got != want {
			t.Errorf("TOP %d of %q: %q, want %q", top, mail, got, want)
		}
	})
}

// FuzzSession feeds anything into a session, before and after login: it must end
// by itself, and delete only what a DELE and a QUIT say.
func FuzzSession(f *testing.F) {
	for _, s := range []string{"", "CAPA\r\n", "STAT\r\nLIST\r\nUIDL\r\nRETR 1\r\nTOP 1 2\r\nDELE 1\r\nRSET\r\nQUIT\r\n",
		"AUTH PLAIN =\r\n", "AUTH LOGIN\r\n*\r\n", "USER a\r\nUSER b\r\nPASS c\r\n", "STLS\r\n", "TOP 1 99999999999999999999\r\n",
		"LIST +1\r\nLIST -1\r\nLIST 00001\r\n", "\n", "\r", "NOOP\x00\r\n"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	o := Options{Backend: nil, Private: true}
	o.setDefaults()
	f.Fuzz(func(t *testing.T, in string, loggedIn bool) {
		b := testBackend()
		if loggedIn {
			in = "USER u@x\r\nPASS secret word\r\n" + in
		}
		here, there := net.Pipe()
		defer here.Close()
		done := make(chan struct{})
		go func() {
			defer close(done)
			s := &Server{o: o}
			s.o.Backend = b
			s.handle(t.Context(), there, limits.Peer{})
		}()
		go io.Copy(io.Discard, here)
		here.SetWriteDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(here, in)
		here.Close()
		<-done
		up := strings.ToUpper(in)
		if len(b.mails) != 3 && !(strings.Contains(up, "DELE") && strings.Contains(up, "QUIT")) {
			t.Errorf("deleted by %q", in)
		}
		if b.locked {
			t.Errorf("still locked after %q", in)
		}
	})
}
