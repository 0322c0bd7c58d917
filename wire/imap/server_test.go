package imap

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/wire/imap/imaptest"
)

func testTLS(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

var clientTLS = &tls.Config{InsecureSkipVerify: true}

func dial(t testing.TB, addr string) *imaptest.Conn {
	t.Helper()
	c := imaptest.Dial(t, addr)
	c.Until("* OK [CAPABILITY ")
	return c
}

// want demands that the last line of an answer begins so.
func want(t *testing.T, lines []string, prefix string) {
	t.Helper()
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, prefix) {
		t.Fatalf("want %q, got %q", prefix, last)
	}
}

const loginLine = "a LOGIN bobbobbob@example.org secret-word"

func TestImplicitTLS(t *testing.T) {
	addr := startServer(t, Options{Backend: newFake(), TLS: testTLS(t), Implicit: true})
	nc, err := tls.Dial("tcp", addr, clientTLS)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c := imaptest.New(t, nc)
	greeting := c.Until("* OK ")
	if strings.Contains(greeting[0], "STARTTLS") || !strings.Contains(greeting[0], "AUTH=PLAIN") {
		t.Fatal(greeting)
	}
	want(t, c.Cmd(loginLine), "a OK ")
	want(t, c.Cmd("b SELECT INBOX"), "b OK ")
}

func TestStartTLS(t *testing.T) {
	addr := startServer(t, Options{Backend: newFake(), TLS: testTLS(t)})
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c := imaptest.New(t, nc)
	if g := c.Until("* OK "); !strings.Contains(g[0], "STARTTLS") || !strings.Contains(g[0], "LOGINDISABLED") {
		t.Fatal(g)
	}
	want(t, c.Cmd(loginLine), "a NO [PRIVACYREQUIRED]")
	want(t, c.Cmd("b STARTTLS"), "b OK ")
	s := imaptest.New(t, tls.Client(nc, clientTLS))
	lines := s.Cmd("c CAPABILITY")
	if strings.Contains(lines[0], "STARTTLS") || !strings.Contains(lines[0], "AUTH=PLAIN") {
		t.Fatal(lines)
	}
	want(t, s.Cmd(loginLine), "a OK ")
	want(t, s.Cmd("d STARTTLS"), "d BAD ")
}

// TestStartTLSInjection: a command that a man in the middle puts behind STARTTLS is
// not run in the protected session; the connection ends.
func TestStartTLSInjection(t *testing.T) {
	addr := startServer(t, Options{Backend: newFake(), TLS: testTLS(t)})
	c := dial(t, addr)
	c.Send("b STARTTLS\r\nc NOOP\r\n")
	want(t, c.Until("b "), "b BAD ")
	if s, err := c.Line(); err == nil {
		t.Fatalf("the injected command was answered: %q", s)
	}
}

func TestShutdownSaysBye(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b := newFake()
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, Options{Backend: b, Private: true}) }()
	waiting, idle := dial(t, l.Addr().String()), dial(t, l.Addr().String())
	want(t, idle.Cmd(loginLine), "a OK ")
	idle.Cmd("b SELECT INBOX")
	idle.Send("c IDLE\r\n")
	idle.Until("+ ")
	cancel()
	want(t, waiting.Until("* BYE"), "* BYE [UNAVAILABLE]")
	want(t, idle.Until("* BYE"), "* BYE [UNAVAILABLE]")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if b.sessions != 0 {
		t.Errorf("%d sessions were not closed", b.sessions)
	}
}

func TestLoginErrors(t *testing.T) {
	for _, tt := range []struct {
		kind   errs.Kind
		public string
		want   string
	}{
		{errs.Auth, "", "a NO [AUTHENTICATIONFAILED] Authentication failed"},
		{errs.Busy, "try later", "a NO [UNAVAILABLE] Try later"},
		{errs.Unavailable, "", "a NO [UNAVAILABLE] Unavailable"},
		{errs.NoSpace, "", "a NO [UNAVAILABLE] No space left"},
		{errs.Denied, "this account is blocked", "a NO [AUTHORIZATIONFAILED] This account is blocked"},
		{errs.Internal, "", "a NO [SERVERBUG] Internal error"},
	} {
		b := newFake()
		b.loginErr = errs.E("test", tt.kind, tt.public, io.ErrUnexpectedEOF)
		c := dial(t, startServer(t, Options{Backend: b, Private: true}))
		if got := c.Cmd(loginLine); got[0] != tt.want {
			t.Errorf("%v: got %q, want %q", tt.kind, got[0], tt.want)
		}
	}
}

func TestAppendErrors(t *testing.T) {
	b := newFake()
	c := dial(t, startServer(t, Options{Backend: b, Private: true}))
	c.Cmd(loginLine)
	for kind, code := range map[errs.Kind]string{errs.Full: "OVERQUOTA", errs.NoSpace: "UNAVAILABLE", errs.TooLarge: "TOOBIG",
		errs.Unavailable: "UNAVAILABLE", errs.Denied: "NOPERM", errs.Corrupt: "CORRUPTION", errs.Conflict: "INUSE"} {
		b.mu.Lock()
		b.opErr = errs.E("test", kind, "", nil)
		b.mu.Unlock()
		c.Send("b APPEND INBOX {3+}\r\nabc\r\n")
		want(t, c.Until("b "), "b NO ["+code+"] ")
	}
}

func TestLimits(t *testing.T) {
	start := func(o Options) *imaptest.Conn {
		o.Backend, o.Private = newFake(), true
		return dial(t, startServer(t, o))
	}
	t.Run("MaxLine", func(t *testing.T) {
		c := start(Options{MaxLine: 1000})
		c.Send("a NOOP " + strings.Repeat("x", 2000) + "\r\n")
		want(t, c.Until("* BYE"), "* BYE [TOOBIG] Line too long")
	})
	t.Run("MaxLine before login", func(t *testing.T) {
		c := start(Options{})
		c.Send("a NOOP " + strings.Repeat("x", maxBeforeLogin+10) + "\r\n")
		want(t, c.Until("* BYE"), "* BYE [TOOBIG] Line too long")
	})
	t.Run("MaxCommand", func(t *testing.T) {
		c := start(Options{MaxCommand: 5000})
		c.Cmd(loginLine)
		want(t, c.Cmd("b SELECT {6000}"), "b BAD [TOOBIG]")
		// What the client sends without waiting is read and dropped.
		c.Send("c SELECT {6000+}\r\n" + strings.Repeat("x", 6000) + "\r\n")
		want(t, c.Until("c "), "c BAD [TOOBIG]")
		want(t, c.Cmd("d NOOP"), "d OK ")
	})
	t.Run("MaxAppend", func(t *testing.T) {
		c := start(Options{MaxAppend: 100})
		if lines := c.Cmd(loginLine); !strings.Contains(lines[0], "APPENDLIMIT=100]") {
			t.Fatal(lines)
		}
		want(t, c.Cmd("b APPEND INBOX {101}"), "b NO [TOOBIG]")
		c.Send("c APPEND INBOX {101+}\r\n" + strings.Repeat("x", 101) + "\r\n")
		want(t, c.Until("c "), "c NO [TOOBIG]")
		c.Send("d APPEND INBOX {100+}\r\n" + strings.Repeat("x", 100) + "\r\n")
		want(t, c.Until("d "), "d OK ")
	})
	t.Run("Memory", func(t *testing.T) {
		c := start(Options{Memory: limits.NewBytes(appendStep)})
		c.Cmd(loginLine)
		n := appendStep + 10
		c.Send("b APPEND INBOX {" + itoa(int64(n)) + "+}\r\n" + strings.Repeat("x", n) + "\r\n")
		want(t, c.Until("b "), "b NO [UNAVAILABLE]")
		c.Send("c APPEND INBOX {100+}\r\n" + strings.Repeat("x", 100) + "\r\n")
		want(t, c.Until("c "), "c OK ") // the memory was given back
	})
	t.Run("Share", func(t *testing.T) {
		memory := limits.NewBytes(10 * appendStep)
		c := start(Options{Memory: memory, Share: appendStep})
		c.Cmd(loginLine)
		n := appendStep + 10
		c.Send("b APPEND INBOX {" + itoa(int64(n)) + "+}\r\n" + strings.Repeat("x", n) + "\r\n")
		want(t, c.Until("b "), "b NO [UNAVAILABLE]")
		c.Send("c APPEND INBOX {100+}\r\n" + strings.Repeat("x", 100) + "\r\n")
		want(t, c.Until("c "), "c OK ")
		if n := memory.Used(); n != 0 {
			t.Errorf("%d bytes are kept", n)
		}
	})
	t.Run("skip", func(t *testing.T) {
		c := start(Options{})
		c.Cmd(loginLine)
		c.Send("b SELECT {999999999+}\r\n")
		want(t, c.Until("* BYE"), "* BYE [TOOBIG]")
	})
	t.Run("MaxBad", func(t *testing.T) {
		c := start(Options{MaxBad: 3})
		c.Cmd("a WRONG")
		c.Cmd("b WRONG")
		c.Cmd("c NOOP")
		c.Cmd("d WRONG")
		c.Cmd("e LOGIN bobbobbob@example.org wrong-word")
		c.Send("f WRONG\r\n")
		want(t, c.Until("* BYE"), "* BYE Too many wrong commands")
	})
	t.Run("LoginTimeout", func(t *testing.T) {
		c := start(Options{LoginTimeout: 50 * time.Millisecond})
		want(t, c.Until("* BYE"), "* BYE Too slow")
	})
	t.Run("IdleTimeout", func(t *testing.T) {
		c := start(Options{IdleTimeout: 50 * time.Millisecond})
		c.Cmd(loginLine)
		want(t, c.Until("* BYE"), "* BYE Idle")
	})
	t.Run("Conns", func(t *testing.T) {
		addr := startServer(t, Options{Backend: newFake(), Private: true, Conns: limits.NewConns(1, 0)})
		dial(t, addr)
		want(t, imaptest.Dial(t, addr).Until("* "), "* BYE [UNAVAILABLE] Too many connections")
	})
	t.Run("MaxMetadata", func(t *testing.T) {
		c := start(Options{MaxMetadata: 10})
		c.Cmd(loginLine)
		want(t, c.Cmd(`b SETMETADATA INBOX (/private/a "12345678901")`), "b NO [METADATA MAXSIZE 10]")
		want(t, c.Cmd(`c SETMETADATA INBOX (/private/a "1234567890")`), "c OK ")
	})
	t.Run("KeepAlive", func(t *testing.T) {
		c := start(Options{KeepAlive: 20 * time.Millisecond})
		c.Cmd(loginLine)
		c.Cmd("b SELECT INBOX")
		c.Send("c IDLE\r\n")
		c.Until("+ ")
		c.Until("* OK Still here")
		c.Until("* OK Still here")
		c.Send("DONE\r\n")
		want(t, c.Until("c "), "c OK ")
	})
	t.Run("Progress", func(t *testing.T) {
		b := newFake()
		b.deliver("INBOX", "Subject: x\r\n\r\nbody\r\n")
		b.deliver("INBOX", "Subject: x\r\n\r\nbody\r\n")
		c := dial(t, startServer(t, Options{Backend: b, Private: true, Progress: time.Nanosecond}))
		c.Cmd(loginLine)
		c.Cmd("b SELECT INBOX")
		if lines := c.Cmd("c SEARCH TEXT body"); lines[1] != `* OK [INPROGRESS ("c" 1 2)] Still searching` {
			t.Fatal(lines)
		}
	})
	t.Run("texts", func(t *testing.T) {
		c := start(Options{})
		c.Cmd(loginLine)
		c.Cmd("b SELECT INBOX")
		want(t, c.Cmd("c SEARCH"+strings.Repeat(" TEXT x", maxTexts)), "c OK ")
		want(t, c.Cmd("d SEARCH"+strings.Repeat(" BODY x", maxTexts+1)), "d NO [LIMIT]")
		want(t, c.Cmd("e SEARCH"+strings.Repeat(" ALL", maxKeys+1)), "e BAD ")
	})
	t.Run("patterns", func(t *testing.T) {
		c := start(Options{})
		c.Cmd(loginLine)
		want(t, c.Cmd(`b LIST "" `+strings.Repeat("*", maxPattern)), "b OK ")
		want(t, c.Cmd(`c LIST "" `+strings.Repeat("*", maxPattern+1)), "c NO [LIMIT]")
		want(t, c.Cmd(`d LIST "" (`+strings.Repeat("* ", maxPatterns)+"*)"), "d NO [LIMIT]")
		want(t, c.Cmd(`e LSUB "" `+strings.Repeat("*", maxPattern+1)), "e NO [LIMIT]")
	})
	t.Run("WriteTimeout", func(t *testing.T) {
		b := newFake()
		for range 20 {
			b.deliver("INBOX", "Subject: x\r\n\r\n"+strings.Repeat("x", 1<<20))
		}
		addr := startServer(t, Options{Backend: b, Private: true, WriteTimeout: 100 * time.Millisecond})
		c := dial(t, addr)
		c.Cmd(loginLine)
		c.Cmd("b SELECT INBOX")
		c.Send("c FETCH 1:* BODY.PEEK[]\r\n") // and never read the answer
		deadline := time.NewTimer(imaptest.Patience)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			b.mu.Lock()
			n := b.sessions
			b.mu.Unlock()
			if n == 0 {
				return
			}
			select {
			case <-tick.C:
			case <-deadline.C:
				t.Fatal("the session of a client that does not read goes on")
			}
		}
	})
}

// TestBareLF: a line that does not end with CRLF is refused; before login the
// connection ends, because it is no IMAP client.
func TestBareLF(t *testing.T) {
	addr := startServer(t, Options{Backend: newFake(), Private: true})
	c := dial(t, addr)
	c.Send("a NOOP\nb NOOP\r\n")
	if s, _ := c.Line(); !strings.HasPrefix(s, "a BAD Lines end with CRLF") {
		t.Fatal(s)
	}
	if s, err := c.Line(); err == nil {
		t.Fatalf("went on with %q", s)
	}
	c = dial(t, addr)
	c.Cmd(loginLine)
	c.Send("b NOOP\r \r\n")
	want(t, c.Until("b "), "b BAD ")
	c.Send("c NO\x00OP\r\n")
	want(t, c.Until("c "), "c BAD ")
	want(t, c.Cmd("d NOOP"), "d OK ")
}

// stuckBackend never answers.
type stuckBackend struct{ *fakeBackend }

func (stuckBackend) Login(ctx context.Context, _ LoginRequest) (Session, error) {
	<-ctx.Done()
	return nil, errs.E("test", errs.Canceled, "", ctx.Err())
}

// TestShutdownGrace: a command that does not end is cut when the grace is over.
func TestShutdownGrace(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, l, Options{Backend: stuckBackend{newFake()}, Private: true, ShutdownGrace: 50 * time.Millisecond})
	}()
	c := dial(t, l.Addr().String())
	c.Send(loginLine + "\r\n")
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(imaptest.Patience):
		t.Fatal("the server does not stop")
	}
}

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// panicBackend has a bug.
type panicBackend struct{ *fakeBackend }

func (panicBackend) Login(context.Context, LoginRequest) (Session, error) { panic("bug") }

// TestFaultEndsOneSession: a bug in one command ends that session and no other.
func TestFaultEndsOneSession(t *testing.T) {
	var log lockedBuffer
	addr := startServer(t, Options{Backend: panicBackend{newFake()}, Private: true,
		Logger: slog.New(slog.NewTextHandler(&log, nil))})
	other := dial(t, addr)
	c := dial(t, addr)
	c.Send(loginLine + "\r\n")
	if s, err := c.Line(); err == nil {
		t.Fatalf("went on with %q", s)
	}
	want(t, other.Cmd("a NOOP"), "a OK ")
	if s := log.String(); !strings.Contains(s, "failed badly") || strings.Contains(s, "secret-word") || strings.Contains(s, "bobbobbob") {
		t.Error("the log holds private things")
	}
}

// TestCompress: COMPRESS=DEFLATE with sync flushes, partial flushes and stored blocks.
func TestCompress(t *testing.T) {
	b := newFake()
	text := "Subject: x\r\n\r\n" + strings.Repeat("some text that repeats itself\r\n", 20000)
	b.deliver("INBOX", text)
	addr := startServer(t, Options{Backend: b, Private: true, Compress: true})
	for _, level := range []int{flate.NoCompression, flate.BestSpeed, flate.BestCompression, flate.HuffmanOnly} {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		counter := &countReader{r: nc}
		c := imaptest.New(t, nc)
		c.Until("* OK ")
		if lines := c.Cmd(loginLine); !strings.Contains(lines[0], "COMPRESS=DEFLATE") {
			t.Fatal(lines)
		}
		want(t, c.Cmd("b COMPRESS DEFLATE"), "b OK ")
		fw, _ := flate.NewWriter(nc, level)
		z := imaptest.New(t, &flushConn{nc, fw, flate.NewReader(counter)})
		if lines := z.Cmd("c CAPABILITY"); strings.Contains(lines[0], "COMPRESS") {
			t.Error("offered twice")
		}
		want(t, z.Cmd("d COMPRESS DEFLATE"), "d NO [COMPRESSIONACTIVE]")
		want(t, z.Cmd("e SELECT INBOX"), "e OK ")
		lines := z.Cmd("f FETCH 1 BODY.PEEK[]")
		if !strings.Contains(lines[0], strings.NewReplacer("\r", "␍", "\n", "␊").Replace(text)) {
			t.Error("the message is not what it was")
		}
		if counter.n > int64(len(text)/5) {
			t.Errorf("%d bytes came for a message of %d", counter.n, len(text))
		}
		z.Send("g IDLE\r\n")
		z.Until("+ ")
		z.Send("DONE\r\n")
		want(t, z.Until("g "), "g OK ")
		big := strings.Repeat("0123456789abcdef", 10000)
		z.Send("h APPEND Sent {160000}\r\n")
		z.Until("+ ")
		z.Send(big + "\r\n")
		want(t, z.Until("h "), "h OK ")
		b.mu.Lock()
		sent := b.byName("Sent")
		if got := sent.msgs[len(sent.msgs)-1].raw; string(got) != big {
			t.Error("the appended message is not what it was")
		}
		b.mu.Unlock()
		nc.Close()
	}
}

type countReader struct {
	r io.Reader
	n int64
}

func (c *countReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// flushConn flushes behind each write, as clients do.
type flushConn struct {
	net.Conn
	w *flate.Writer
	r io.Reader
}

func (f *flushConn) Read(p []byte) (int, error) { return f.r.Read(p) }
func (f *flushConn) Write(p []byte) (int, error) {
	if _, err := f.w.Write(p); err != nil {
		return 0, err
	}
	return len(p), f.w.Flush()
}

// TestCompressPipelined: what follows COMPRESS without waiting ends the session.
func TestCompressPipelined(t *testing.T) {
	c := dial(t, startServer(t, Options{Backend: newFake(), Private: true, Compress: true}))
	c.Cmd(loginLine)
	c.Send("b COMPRESS DEFLATE\r\nc NOOP\r\n")
	want(t, c.Until("b "), "b BAD ")
	if s, err := c.Line(); err == nil {
		t.Fatalf("went on with %q", s)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, o := range []Options{{}, {Backend: newFake(), Implicit: true}} {
		if _, err := New(o); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%v", err)
		}
	}
}

// TestDocs: docs/imap.md names every capability that is ever announced, and every
// conversation.
func TestDocs(t *testing.T) {
	raw, err := os.ReadFile("../../docs/imap.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(raw)
	announced := map[string]bool{}
	for _, o := range []Options{
		{Backend: newFake(), Private: true, Compress: true, ExtraCapabilities: []string{"XCHATMAIL", "XDELTAPUSH"}},
		{Backend: newFake(), TLS: testTLS(t)},
	} {
		c := imaptest.Dial(t, startServer(t, o))
		lines := c.Until("* OK ")
		lines = append(lines, c.Cmd(loginLine)...)
		for _, l := range lines {
			_, rest, _ := strings.Cut(l, "[CAPABILITY ")
			list, _, _ := strings.Cut(rest, "]")
			for _, name := range strings.Fields(list) {
				announced[name] = true
			}
		}
	}
	if len(announced) < 37 {
		t.Fatalf("only %d capabilities were found", len(announced))
	}
	for name := range announced {
		name, _, _ := strings.Cut(name, "LIMIT=")
		if !strings.Contains(doc, name) {
			t.Errorf("docs/imap.md does not name %s", name)
		}
	}
	tests := allTests(t)
	for _, m := range regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Za-z0-9]+)[`/]").FindAllStringSubmatch(doc, -1) {
		if !tests[m[1]] {
			t.Errorf("docs/imap.md names %s, which is not there", m[1])
		}
	}
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if name := strings.TrimSuffix(filepath.Base(f), ".txt"); !strings.Contains(doc, "`"+name+"`") {
			t.Errorf("docs/imap.md does not name the conversation %s", name)
		}
	}
}

// allTests gives the tests of this package and of those that drive the server or hold its mailboxes.
func allTests(t *testing.T) map[string]bool {
	t.Helper()
	tests := map[string]bool{}
	for _, dir := range []string{".", "../../agent/access", "../../post/mailbox", "../../interop"} {
		files, err := filepath.Glob(dir + "/*_test.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			src, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`).FindAllStringSubmatch(string(src), -1) {
				tests[m[1]] = true
			}
		}
	}
	return tests
}
