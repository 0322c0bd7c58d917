package smtp

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
)

// TestImplicitTLSAndDeltaChat plays the dialogue of the Delta Chat core: EHLO with an
// address literal, AUTH PLAIN with initial response, everything up to DATA in one
// write, one connection for several mails.
func TestImplicitTLSAndDeltaChat(t *testing.T) {
	server, conf := testTLS(t)
	f := &fake{}
	addr := start(t, Options{Hostname: "mail.example", Backend: f, TLS: server, Implicit: true, OfferAuth: true, RequireAuth: true})
	c := dial(t, addr, conf)
	c.expect("220 mail.example ESMTP")
	c.send("EHLO [127.0.0.1]\r\n")
	c.expect("250 HELP")
	c.send("AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00anna@mail.example\x00secret")) + "\r\n")
	c.expect("235 2.7.0")
	for i := range 3 {
		c.send("MAIL FROM:<anna@mail.example> BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<bert@mail.example>\r\nDATA\r\n")
		c.expect("250 2.1.0")
		c.expect("250 2.1.5")
		c.expect("354 ")
		c.send(fmt.Sprintf("Subject: [...]\r\n\r\n%d\r\n.\r\n", i))
		c.expect("250 2.0.0")
	}
	c.send("QUIT\r\n")
	c.expect("221 ")
	c.closed()
	mails := f.taken()
	if len(mails) != 3 || mails[2].Raw != "Subject: [...]\r\n\r\n2\r\n" || mails[2].Login != "anna@mail.example" ||
		!mails[2].Mail.UTF8 || mails[2].Mail.Body != Body8Bit {
		t.Fatalf("%+v", mails)
	}
	if !f.infos[0].TLS {
		t.Error("the backend was not told about TLS")
	}
}

// TestStartTLS: everything said before the handshake is forgotten.
func TestStartTLS(t *testing.T) {
	server, conf := testTLS(t)
	f := &fake{}
	addr := start(t, Options{Backend: f, TLS: server, OfferAuth: true, RequireAuth: true})
	c := dial(t, addr, nil)
	c.expect("220 ")
	c.send("EHLO me\r\n")
	c.expect("250 HELP")
	c.send("STARTTLS now\r\n")
	c.expect("501 5.5.4")
	c.send("STARTTLS\r\n")
	c.expect("220 2.0.0")
	tc := tls.Client(c.conn, conf)
	c.conn, c.r = tc, bufio.NewReader(tc)
	c.send("MAIL FROM:<a@example.org>\r\n")
	c.expect("503 5.5.1")
	c.send("STARTTLS\r\n")
	c.expect("503 5.5.1")
	c.send("EHLO me\r\n")
	for {
		l := c.line()
		if strings.Contains(l, "STARTTLS") {
			t.Error("STARTTLS is offered under TLS")
		}
		if strings.HasPrefix(l, "250 ") {
			break
		}
	}
	c.send("AUTH PLAIN AGEAc2VjcmV0\r\n")
	c.expect("235 ")
	c.send("QUIT\r\n")
	c.expect("221 ")
	if len(f.infos) != 2 || f.infos[0].TLS || !f.infos[1].TLS {
		t.Errorf("sessions of the backend: %+v", f.infos)
	}
}

// TestStartTLSInjection: clear text that reaches the server together with STARTTLS but
// in a packet of its own goes into the handshake, never into the session.
func TestStartTLSInjection(t *testing.T) {
	server, _ := testTLS(t)
	f := &fake{}
	addr := start(t, Options{Backend: f, TLS: server})
	c := dial(t, addr, nil)
	c.expect("220 ")
	c.send("EHLO me\r\n")
	c.expect("250 HELP")
	c.send("STARTTLS\r\n")
	c.send("MAIL FROM:<evil@example.org>\r\n")
	got, _ := io.ReadAll(c.r)
	if strings.Contains(string(got), "250 2.1.0") {
		t.Fatalf("obeyed: %q", got)
	}
}

// TestShutdown: a session that waits hears 421; one in the middle of a mail may
// finish it; then Serve returns.
func TestShutdown(t *testing.T) {
	f := &fake{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, Options{Backend: f, Grace: 20 * time.Second}) }()
	idle, busy := dial(t, l.Addr().String(), nil), dial(t, l.Addr().String(), nil)
	idle.expect("220 ")
	busy.expect("220 ")
	busy.send("HELO me\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n")
	busy.expect("250 ")
	busy.expect("250 ")
	busy.expect("250 ")
	busy.expect("354 ")
	cancel()
	idle.expect("421 4.3.2 shutting down")
	idle.closed()
	idle.conn.Close()
	busy.send("late\r\n.\r\n")
	busy.expect("250 2.0.0")
	busy.expect("421 4.3.2 shutting down")
	busy.conn.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(f.taken()) != 1 {
		t.Fatal("the mail under way was lost")
	}
}

// TestShutdownCuts: who does not come to an end within the grace is cut.
func TestShutdownCuts(t *testing.T) {
	f := &fake{hold: make(chan struct{})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, Options{Backend: f, Grace: 10 * time.Millisecond}) }()
	c := dial(t, l.Addr().String(), nil)
	c.send("HELO me\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n")
	c.expect("220 ")
	for range 3 {
		c.expect("250 ")
	}
	c.expect("354 ")
	c.send("x\r\n.\r\n") // Commit hangs until its context ends
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(f.taken()) != 0 {
		t.Fatal("taken without commit")
	}
}

func TestServeWantsCertificate(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := Serve(context.Background(), l, Options{Implicit: true}); errs.KindOf(err) != errs.Invalid {
		t.Fatal(err)
	}
}

func TestConnectionLimits(t *testing.T) {
	addr := start(t, Options{Backend: &fake{}, Conns: limits.NewConns(0, 2)})
	a, b := dial(t, addr, nil), dial(t, addr, nil)
	a.expect("220 ")
	b.expect("220 ")
	c := dial(t, addr, nil)
	c.expect("421 4.7.0 too many connections")
	c.closed()
	a.send("QUIT\r\n")
	a.expect("221 ")
	a.closed()
	eventually(t, "a place is free again", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return false
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		l, _ := bufio.NewReader(conn).ReadString('\n')
		return strings.HasPrefix(l, "220 ")
	})
}

// TestServeConnCounts: a connection from a port that several protocols share counts
// like the others, and a refused one hears why, as its TLS stands already.
func TestServeConnCounts(t *testing.T) {
	o := Options{Backend: &fake{}, Conns: limits.NewConns(1, 0), PeerOf: func(net.Conn) limits.Peer { return limits.Peer{} }}
	serveOne := func() (*bufio.Reader, net.Conn, chan struct{}) {
		near, far := net.Pipe()
		done := make(chan struct{})
		go func() { defer close(done); ServeConn(t.Context(), far, o) }()
		return bufio.NewReader(near), near, done
	}
	r, first, firstDone := serveOne()
	if l, err := r.ReadString('\n'); !strings.HasPrefix(l, "220 ") {
		t.Fatalf("%q %v", l, err)
	}
	r, second, done := serveOne()
	if l, err := r.ReadString('\n'); l != "421 4.7.0 too many connections, try again later\r\n" {
		t.Errorf("%q %v", l, err)
	}
	second.Close()
	<-done
	first.Close()
	<-firstDone
	if n := o.Conns.Open(); n != 0 {
		t.Errorf("%d connections are counted after the end", n)
	}
}

// TestServeConn serves what another listener accepted, here with TLS already done.
func TestServeConn(t *testing.T) {
	server, conf := testTLS(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer := limits.Peer{Addr: netip.MustParseAddr("192.0.2.7")}
	f := &fake{}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		t := tls.Server(conn, server)
		if t.HandshakeContext(ctx) == nil {
			ServeConn(ctx, t, Options{Backend: f, TLS: server, Implicit: true, OfferAuth: true,
				PeerOf: func(net.Conn) limits.Peer { return peer }})
		}
	}()
	c := dial(t, l.Addr().String(), conf)
	c.expect("220 ")
	c.send("EHLO me\r\nAUTH PLAIN AGEAc2VjcmV0\r\n")
	c.expect("250 HELP")
	c.expect("235 ")
	if f.infos[0].Peer != peer || !f.infos[0].TLS {
		t.Errorf("info %+v", f.infos[0])
	}
	cancel()
	c.expect("421 ")
	c.conn.Close()
	<-done
}

// refusing is a backend that wants no sessions.
type refusing struct{ err error }

func (r refusing) NewSession(context.Context, Info) (Session, error) { return nil, r.err }

func TestNoSession(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{errs.E("x", errs.Busy, "come back", nil), "451 4.7.0 come back"},
		{errors.New("secret"), "451 4.3.0 local error, try again later"},
		{reply(250, "2.0.0", "no error at all"), "421 4.3.2"},
	} {
		c := dial(t, start(t, Options{Backend: refusing{tc.err}}), nil)
		c.expect(tc.want)
		c.closed()
	}
}

// TestMemory: mails in flight share a budget; beyond, 452 before the mail or, when it
// runs out in the middle, behind it, and nothing stays taken.
func TestMemory(t *testing.T) {
	budget := limits.NewBytes(20 << 10)
	f := &fake{}
	addr := start(t, Options{Backend: f, Memory: budget})
	open := func() *client {
		c := dial(t, addr, nil)
		c.send("HELO me\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n")
		c.expect("220 ")
		for range 3 {
			c.expect("250 ")
		}
		return c
	}
	a := open()
	a.expect("354 ")
	b := open()
	b.expect("452 4.3.1 too many mails at once")
	b.send("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nBDAT 4 LAST\r\nxx\r\n")
	b.expect("250 ")
	b.expect("250 ")
	b.expect("452 4.3.1")
	a.send(strings.Repeat(strings.Repeat("x", 98)+"\r\n", 170) + ".\r\n") // 17,000 bytes: needs the next buffer
	a.expect("452 4.3.1")
	a.send("NOOP\r\n")
	a.expect("250 ")
	if n := budget.Used(); n != 0 {
		t.Errorf("%d bytes are still taken", n)
	}
	b.send("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nBDAT 4 LAST\r\nxx\r\n")
	b.expect("250 ")
	b.expect("250 ")
	b.expect("250 2.0.0")
	if len(f.taken()) != 1 {
		t.Error("mails taken:", len(f.taken()))
	}
}

// TestLargeMail goes through all buffer sizes.
func TestLargeMail(t *testing.T) {
	budget := limits.NewBytes(128 << 20)
	f := &fake{}
	addr := start(t, Options{Backend: f, Memory: budget})
	c := dial(t, addr, nil)
	c.send("EHLO me\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n")
	c.expect("220 ")
	c.expect("250 HELP")
	c.expect("250 ")
	c.expect("250 ")
	c.expect("354 ")
	text := strings.Repeat(strings.Repeat("y", 76)+"\r\n..\r\n", 250_000) // 20 MB
	c.send(text + ".\r\n")
	c.expect("250 ")
	if got := f.taken()[0].Raw; got != strings.ReplaceAll(text, "\r\n..\r\n", "\r\n.\r\n") {
		t.Fatalf("%d bytes of %d came, or other ones", len(got), len(text))
	}
	if n := budget.Used(); n != 0 {
		t.Errorf("%d bytes are still taken", n)
	}
}

// TestLargeMailsLeaveRoom: mails that are large, or say so, take half of the budget at
// most; the small ones of everybody else still pass. A size alone takes nothing.
func TestLargeMailsLeaveRoom(t *testing.T) {
	budget := limits.NewBytes(32 << 20)
	f := &fake{}
	addr := start(t, Options{Backend: f, Memory: budget})
	open := func(command string) *client {
		c := dial(t, addr, nil)
		c.send("EHLO me\r\nMAIL FROM:<a@example.org> SIZE=30000000\r\nRCPT TO:<b@example.org>\r\n" + command + "\r\n")
		c.expect("220 ")
		for range 3 {
			c.expect("250 ")
		}
		return c
	}
	says := open("BDAT 30000000 LAST")
	block := strings.Repeat(strings.Repeat("x", 98)+"\r\n", 10_000) // 1 MB
	large := open("DATA")
	large.expect("354 ")
	eventually(t, "both have begun", func() bool { return budget.Used() == (64+16)<<10 })
	for range 6 {
		large.send(block) // needs 16 MB at last
	}
	large.send(".\r\n")
	large.expect("452 4.3.1")
	small := open("DATA")
	small.expect("354 ")
	small.send("x\r\n.\r\n")
	small.expect("250 ")
	says.conn.Close()
	eventually(t, "nothing is taken", func() bool { return budget.Used() == 0 })
}

// TestPace: most of a large mail at once and then a byte now and then, by DATA and by BDAT;
// and a mail in chunks that is never ended.
func TestPace(t *testing.T) {
	block := strings.Repeat(strings.Repeat("x", 98)+"\r\n", 20_000) // 2 MB
	for _, tc := range []struct {
		name, begin string
		every       time.Duration
		more        string
		min, max    time.Duration
	}{
		{"DATA", "DATA\r\n", 20 * time.Second, "x\r\n", DefaultDataBlock, 2 * DefaultDataBlock},
		{"BDAT", "BDAT 20000000\r\n", 20 * time.Second, "x\r\n", DefaultDataBlock, 2 * DefaultDataBlock},
		{"fast enough for the pace but not for the whole", "DATA\r\n", 20 * time.Second, block[:10_000], DefaultDataTotal, DefaultDataTotal},
		{"chunks without end", "BDAT 2000000\r\n", time.Minute, "NOOP\r\n", DefaultDataTotal, DefaultDataTotal},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := pipeSession(t, Options{Backend: &fake{}})
				c.expect("220 ")
				for _, s := range []string{"HELO me\r\n", "MAIL FROM:<a@example.org>\r\n", "RCPT TO:<b@example.org>\r\n"} {
					c.send(s)
					c.line()
				}
				c.send(tc.begin)
				if tc.begin[0] == 'D' {
					c.expect("354 ")
				}
				began := time.Now()
				go func() {
					for s := block; ; s = tc.more {
						if _, err := io.WriteString(c.conn, s); err != nil {
							return
						}
						time.Sleep(tc.every)
					}
				}()
				for {
					l := c.line()
					if strings.HasPrefix(l, "421 4.4.2") {
						break
					}
					if !strings.HasPrefix(l, "250 ") {
						t.Fatalf("%q", l)
					}
				}
				if took := time.Since(began); took < tc.min || took > tc.max {
					t.Errorf("after %v", took)
				}
				c.conn.Close()
				time.Sleep(tc.every)
			})
		})
	}
}

// pipeSession serves one end of a pipe in the bubble of a synctest.
func pipeSession(t *testing.T, o Options) *client {
	t.Helper()
	near, far := net.Pipe()
	o.PeerOf = func(net.Conn) limits.Peer { return limits.Peer{} }
	done := make(chan struct{})
	go func() {
		defer close(done)
		ServeConn(context.Background(), far, o)
	}()
	t.Cleanup(func() {
		near.Close()
		<-done
	})
	return &client{t: t, conn: near, r: bufio.NewReader(near)}
}

func TestTimeouts(t *testing.T) {
	envelope := []string{"HELO me\r\n", "MAIL FROM:<a@example.org>\r\n", "RCPT TO:<b@example.org>\r\n"}
	for _, tc := range []struct {
		name  string
		steps []string
		slow  time.Duration // between the bytes that follow
		min   time.Duration
		max   time.Duration
	}{
		{"idle", nil, 0, DefaultIdle, DefaultIdle},
		{"slow command", nil, 10 * time.Second, DefaultLine, DefaultLine + 10*time.Second},
		{"silent in DATA", append(envelope, "DATA\r\n"), 0, DefaultDataBlock, DefaultDataBlock},
		{"a byte now and then in DATA", append(envelope, "DATA\r\n"), 10 * time.Second, DefaultDataBlock, DefaultDataBlock + time.Second},
		{"silent in BDAT", append(envelope, "BDAT 1000\r\n"), 0, DefaultDataBlock, DefaultDataBlock + 4*time.Second},
		{"a byte now and then in BDAT", append(envelope, "BDAT 1000\r\n"), 10 * time.Second, DefaultDataBlock, DefaultDataBlock + 4*time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{}
				c := pipeSession(t, Options{Backend: f})
				c.expect("220 ")
				for _, s := range tc.steps {
					c.send(s)
					if !strings.HasPrefix(s, "BDAT") {
						c.line()
					}
				}
				began := time.Now()
				if tc.slow > 0 {
					stop := make(chan struct{})
					defer close(stop)
					go func() {
						for {
							select {
							case <-stop:
								return
							case <-time.After(tc.slow):
								if _, err := io.WriteString(c.conn, "x"); err != nil {
									return
								}
							}
						}
					}()
				}
				c.expect("421 4.4.2")
				if took := time.Since(began); took < tc.min || took > tc.max {
					t.Errorf("after %v", took)
				}
				c.conn.Close()
				synctest.Wait()
				if f.open != 0 || len(f.mails) != 0 {
					t.Errorf("%d transfers open, %d mails", f.open, len(f.mails))
				}
			})
		})
	}
}

// TestHandshakeTimeout: TLS that never comes.
func TestHandshakeTimeout(t *testing.T) {
	server, _ := testTLS(t)
	synctest.Test(t, func(t *testing.T) {
		c := pipeSession(t, Options{Backend: &fake{}, TLS: server, Implicit: true})
		began := time.Now()
		c.closed()
		if took := time.Since(began); took != DefaultHandshake {
			t.Errorf("after %v", took)
		}
	})
}

// TestDeafClient: a client that does not read cannot hold the session for ever.
func TestDeafClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		began := time.Now()
		ServeConn(context.Background(), far, Options{Backend: &fake{}, PeerOf: func(net.Conn) limits.Peer { return limits.Peer{} }})
		if took := time.Since(began); took != DefaultWrite {
			t.Errorf("after %v", took)
		}
	})
}

// countingConn counts writes.
type countingConn struct {
	net.Conn
	writes *int
}

func (c countingConn) Write(p []byte) (int, error) {
	*c.writes++
	return c.Conn.Write(p)
}

// TestOneFlush: the replies to a pipelined group leave in one write.
func TestOneFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		writes := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			ServeConn(context.Background(), countingConn{far, &writes}, Options{Backend: &fake{}})
		}()
		c := &client{t: t, conn: near, r: bufio.NewReader(near)}
		c.expect("220 ")
		c.send("EHLO me\r\n")
		c.expect("250 HELP")
		synctest.Wait()
		before := writes
		c.send("NOOP\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<unknown@example.org>\r\nRSET\r\nNOOP\r\n")
		for _, want := range []string{"250", "250", "250", "550", "250", "250"} {
			c.expect(want)
		}
		synctest.Wait()
		if n := writes - before; n != 1 {
			t.Errorf("%d writes", n)
		}
		near.Close()
		<-done
	})
}

// TestNothingOfTheClient: neither the EHLO name nor the address reaches the mail or the
// backend's view of a mail.
func TestNothingOfTheClient(t *testing.T) {
	f := &fake{}
	c := dial(t, start(t, Options{Backend: f}), nil)
	c.send("EHLO canary-name.example\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n")
	c.expect("220 ")
	c.expect("250 HELP")
	c.expect("250 ")
	c.expect("250 ")
	c.expect("354 ")
	c.send("Subject: x\r\n\r\ny\r\n.\r\n")
	c.expect("250 ")
	if s := fmt.Sprintf("%+v", f.taken()[0]); strings.Contains(s, "canary") || strings.Contains(s, "127.0.0.1") ||
		f.taken()[0].Raw != "Subject: x\r\n\r\ny\r\n" {
		t.Error(s)
	}
}

// TestLongReply: a reply line has 512 octets at most and ends in a whole letter.
func TestLongReply(t *testing.T) {
	c := dial(t, start(t, Options{Backend: &fake{}}), nil)
	c.expect("220 ")
	c.send("EHLO me\r\nMAIL FROM:<wordy@example.org>\r\n")
	c.expect("250 HELP")
	if l := c.line(); len(l) != maxReply && len(l) != maxReply-1 || l != "550 5.7.1 "+strings.Repeat("ü", (len(l)-10)/2) {
		t.Errorf("%d octets: %q", len(l), l)
	}
}

func TestReplyFor(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{errs.E("x", errs.Invalid, "bad", nil), "550 5.6.0 bad"},
		{errs.E("x", errs.NotFound, "", nil), "550 5.1.1 not found"},
		{errs.E("x", errs.Denied, "no", nil), "550 5.7.1 no"},
		{errs.E("x", errs.Exists, "", nil), "550 5.7.1 exists already"},
		{errs.E("x", errs.Auth, "", nil), "535 5.7.8 authentication failed"},
		{errs.E("x", errs.TooLarge, "", nil), "552 5.3.4 Message exceeds maximum size"},
		{errs.E("x", errs.Full, "", nil), "452 4.2.2 quota exceeded"},
		{errs.E("x", errs.NoSpace, "", nil), "452 4.3.1 no space left"},
		{errs.E("x", errs.Busy, "", nil), "451 4.7.0 busy"},
		{context.Canceled, "421 4.3.2 canceled"},
		{errs.E("x", errs.Unsupported, "", nil), "550 5.3.3 unsupported"},
		{errs.E("x", errs.Unavailable, "", nil), "451 4.3.0 unavailable"},
		{errs.E("x", errs.Conflict, "", nil), "451 4.3.0 conflict"},
		{errs.E("x", errs.Corrupt, "secret", nil), "451 4.3.0 local error, try again later"},
		{os.ErrNotExist, "451 4.3.0 local error, try again later"},
		{fmt.Errorf("around: %w", reply(523, "", "own words")), "523 own words"},
		{errs.E("x", errs.Denied, "two\r\n250 lines", nil), "550 5.7.1 two  250 lines"},
	} {
		if got := ReplyFor(tc.err).String(); got != tc.want {
			t.Errorf("%v: %q, want %q", tc.err, got, tc.want)
		}
	}
}
