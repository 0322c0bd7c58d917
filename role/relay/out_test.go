package relay

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.email/kit/serve"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/post/queue"
	"postern.email/wire/certs"
	"postern.email/wire/dns/dnstest"
	"postern.email/wire/sasl"
	"postern.email/wire/smtp"
)

// peer is another mail host.
type peer struct {
	host, port string
	arrived    chan string // the mails

	mu        sync.Mutex
	now, most int             // sessions with a mail under way
	hold      <-chan struct{} // mails are answered when it is closed; nil: at once
}

// newPeer runs a mail host with a self-signed certificate for name.
func newPeer(t *testing.T, name string, hold <-chan struct{}) *peer {
	t.Helper()
	c, err := certs.New(certs.Options{FS: vfs.NewCrashDisk(), Dir: "/tls", Domain: name})
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{arrived: make(chan string, 1000), hold: hold}
	l := listener(t)
	p.host, p.port, _ = net.SplitHostPort(l.Addr().String())
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = smtp.Serve(ctx, l, smtp.Options{Hostname: name, Backend: p, TLS: c.Config(tls.VersionTLS12), RequireTLS: true, Grace: time.Millisecond, PeerOf: serve.PeerOf})
	}()
	t.Cleanup(func() { stop(); <-done })
	return p
}

func (p *peer) NewSession(context.Context, smtp.Info) (smtp.Session, error) {
	return peerSession{p}, nil
}

type peerSession struct{ p *peer }

func (peerSession) Auth(context.Context, sasl.Credentials) error               { return nil }
func (peerSession) Mail(context.Context, mail.Address, smtp.MailOptions) error { return nil }
func (peerSession) Rcpt(context.Context, mail.Address, smtp.RcptOptions) error { return nil }
func (s peerSession) Data(context.Context) (smtp.Transfer, error)              { return s, nil }
func (peerSession) Abort()                                                     {}
func (peerSession) Reset()                                                     {}
func (peerSession) Close()                                                     {}
func (s peerSession) Commit(ctx context.Context, raw []byte) error {
	p := s.p
	p.mu.Lock()
	p.now++
	p.most = max(p.most, p.now)
	p.mu.Unlock()
	if p.hold != nil {
		select {
		case <-p.hold:
		case <-ctx.Done():
		}
	}
	p.mu.Lock()
	p.now--
	p.mu.Unlock()
	p.arrived <- string(raw)
	return nil
}

func (p *peer) sessions() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.most
}

func listener(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// counter is a host that closes (or keeps, saying nothing) every connection.
type counter struct {
	port string
	mu   sync.Mutex
	n    int
}

func newCounter(t *testing.T, keep bool) *counter {
	t.Helper()
	l := listener(t)
	c := &counter{}
	_, c.port, _ = net.SplitHostPort(l.Addr().String())
	done := make(chan struct{})
	go func() {
		defer close(done)
		var kept []net.Conn
		for {
			conn, err := l.Accept()
			if err != nil {
				for _, k := range kept {
					k.Close()
				}
				return
			}
			c.mu.Lock()
			c.n++
			c.mu.Unlock()
			if keep {
				kept = append(kept, conn)
			} else {
				conn.Close()
			}
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return c
}

func (c *counter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// write hands in a mail of anna's.
func write(t *testing.T, s *Server, size int, to ...string) error {
	t.Helper()
	c, err := submitter(s, anna, annas)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, _ := sealedMail(anna, size)
	return c.send(anna, to, raw)
}

// why gives what the queue says of the first recipient that waits.
func (s *Server) why(t *testing.T) string {
	t.Helper()
	list, _, err := s.queue.List(t.Context(), queue.Filter{}, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		return "(empty)"
	}
	r := list[0].Rcpts[0]
	return r.Paused + r.LastWhy
}

// outEffects shows the effect of each option of delivery and queue.
func outEffects() map[string]func(*testing.T) {
	to := func(p *peer, more string) string {
		return fmt.Sprintf("delivery.routes=other.example host=%s smtp=%s %s", p.host, p.port, more)
	}
	closed := func(c *counter, sets ...string) []string {
		return append([]string{"delivery.routes=other.example host=127.0.0.1 https=off tls=any smtp=" + c.port}, sets...)
	}
	// tries counts the tries until one of two relays has made 30.
	tries := func(t *testing.T, a, b []string, first, second *counter) {
		for _, sets := range [][]string{a, b} {
			allowed(t, write(t, inMemory(t, sets...), 100, "x@other.example"))
		}
		until(t, "30 tries", func() bool { return first.count() >= 30 })
		if n := second.count(); n == 0 || n > 20 {
			t.Errorf("%d tries with the longer pause", n)
		}
	}
	return map[string]func(*testing.T){
		"delivery.remote": func(t *testing.T) {
			p := newPeer(t, "mx.other.example", nil)
			s := inMemory(t, "delivery.remote=false", to(p, "https=off tls=any"))
			refusedWith(t, write(t, s, 100, "x@other.example"), "550 5.1.2 this relay does not deliver to other hosts")
		},
		"delivery.routes": func(t *testing.T) {
			p := newPeer(t, "mx.other.example", nil)
			s := inMemory(t, to(p, "https=off tls=any"))
			allowed(t, write(t, s, 100, "x@other.example"))
			if got := <-p.arrived; !strings.Contains(got, "DKIM-Signature: ") {
				t.Errorf("%.200s", got)
			}
			strict := inMemory(t, to(p, "https=off"))
			allowed(t, write(t, strict, 100, "x@other.example"))
			until(t, "the certificate", func() bool { return strings.Contains(strict.why(t), "451 4.7.5 The TLS certificate of") })
		},
		"delivery.https": func(t *testing.T) {
			for _, on := range []bool{true, false} {
				p, c := newPeer(t, "mx.other.example", nil), newCounter(t, false)
				s := inMemory(t, to(p, "tls=any https="+c.port), fmt.Sprintf("delivery.https=%v", on))
				allowed(t, write(t, s, 100, "x@other.example"))
				<-p.arrived
				if asked := c.count() > 0; asked != on {
					t.Errorf("delivery.https=%v: asked over HTTPS: %v", on, asked)
				}
			}
		},
		"delivery.accept_self_signed": func(t *testing.T) {
			p := newPeer(t, "_other.example", nil)
			names := dnstest.New(t, "_other.example. 60 MX 10 _other.example.", "_other.example. 60 A 127.0.0.1")
			sets := []string{"network.resolver=" + names.Addr, "delivery.routes=* https=off smtp=" + p.port}
			allowed(t, write(t, inMemory(t, sets...), 100, "x@_other.example"))
			<-p.arrived
			s := inMemory(t, append(sets, "delivery.accept_self_signed=false")...)
			allowed(t, write(t, s, 100, "x@_other.example"))
			until(t, "the certificate", func() bool { return strings.Contains(s.why(t), "451 4.7.5 The TLS certificate of") })
		},
		"delivery.mta_sts": func(t *testing.T) {
			c := newCounter(t, false)
			for _, on := range []bool{true, false} {
				names := dnstest.New(t, "other.example. 60 MX 10 mx.other.example.", "mx.other.example. 60 A 127.0.0.1")
				s := inMemory(t, "network.resolver="+names.Addr, "delivery.routes=* https=off smtp="+c.port, fmt.Sprintf("delivery.mta_sts=%v", on))
				allowed(t, write(t, s, 100, "x@other.example"))
				until(t, "a try", func() bool { return s.why(t) != "" })
				if asked := names.Asked("_mta-sts.other.example", "TXT") > 0; asked != on {
					t.Errorf("delivery.mta_sts=%v: asked %v", on, asked)
				}
			}
		},
		"delivery.lifetime": func(t *testing.T) {
			s := inMemory(t, closed(newCounter(t, false), "delivery.lifetime=7m")...)
			allowed(t, write(t, s, 100, "x@other.example"))
			list, _, err := s.queue.List(t.Context(), queue.Filter{}, "", 1)
			if err != nil || len(list) != 1 || list[0].Mail.Expires.Sub(list[0].Mail.Created) != 7*time.Minute {
				t.Errorf("%+v, %v", list, err)
			}
		},
		"delivery.delay_report": func(t *testing.T) {
			for _, told := range []bool{false, true} {
				wait := map[bool]string{false: "0", true: "1ms"}[told]
				c := newCounter(t, false)
				s := inMemory(t, closed(c, "delivery.delay_report="+wait, "delivery.first_retry=1ms", "delivery.last_retry=10ms")...)
				who, err := submitter(s, anna, annas)
				if err != nil {
					t.Fatal(err)
				}
				defer who.Close()
				raw, _ := sealedMail(anna, 100)
				for _, x := range [][2]string{{"MAIL FROM:<" + anna + ">", "250"}, {"RCPT TO:<x@other.example> NOTIFY=DELAY", "250"}, {"DATA", "354"}, {string(raw) + ".", "250"}} {
					if reply, err := who.smtp("%s", x[0]); err != nil || !strings.HasPrefix(reply, x[1]) {
						t.Fatalf("%.30q: %s, %v", x[0], reply, err)
					}
				}
				if told {
					until(t, "a report", func() bool { return inboxOf(t, s, anna, annas) == "1" })
				} else {
					until(t, "30 tries", func() bool { return c.count() >= 30 })
				}
				if n := inboxOf(t, s, anna, annas); (n == "1") != told || s.queue.Stats().Recipients != 1 {
					t.Errorf("delivery.delay_report=%s: %s reports, %+v", wait, n, s.queue.Stats())
				}
			}
		},
		"delivery.first_retry": func(t *testing.T) {
			a, b := newCounter(t, false), newCounter(t, false)
			tries(t, closed(a, "delivery.first_retry=1ms", "delivery.last_retry=10ms"), closed(b, "delivery.first_retry=1m"), a, b)
		},
		"delivery.last_retry": func(t *testing.T) {
			a, b := newCounter(t, false), newCounter(t, false)
			tries(t, closed(a, "delivery.first_retry=1ms", "delivery.last_retry=10ms"), closed(b, "delivery.first_retry=1ms", "delivery.last_retry=1h"), a, b)
		},
		"delivery.connections": func(t *testing.T) {
			p, c := newPeer(t, "mx.other.example", nil), newCounter(t, true)
			routes := []string{"delivery.routes=dead.example host=127.0.0.1 https=off tls=any smtp=" + c.port +
				",other.example host=" + p.host + " https=off tls=any smtp=" + p.port}
			for _, x := range []struct {
				n    string
				goes bool
			}{{"1", false}, {"2", true}} {
				s := inMemory(t, append(routes, "delivery.connections="+x.n)...)
				n := c.count()
				allowed(t, write(t, s, 100, "x@dead.example"))
				until(t, "the one that hangs", func() bool { return c.count() > n })
				allowed(t, write(t, s, 100, "x@other.example"))
				if x.goes {
					<-p.arrived
				} else if s.queue.Stats().Recipients != 2 || len(p.arrived) != 0 {
					t.Error("a second connection was made")
				}
			}
		},
		"delivery.connections_per_domain": func(t *testing.T) {
			for n := 1; n <= 2; n++ {
				hold := make(chan struct{})
				p := newPeer(t, "mx.other.example", hold)
				s := inMemory(t, to(p, "https=off tls=any"), fmt.Sprintf("delivery.connections_per_domain=%d", n))
				allowed(t, write(t, s, 100, "x@other.example"))
				until(t, "the first", func() bool { return p.sessions() == 1 })
				close(hold) // more than one only after the domain was reached
				<-p.arrived
				again := make(chan struct{})
				p.mu.Lock()
				p.hold = again
				p.mu.Unlock()
				for range 10 {
					allowed(t, write(t, s, 100, "x@other.example"))
				}
				until(t, "sessions", func() bool { return p.sessions() == n })
				close(again)
				for range 10 {
					<-p.arrived
				}
				if p.sessions() != n {
					t.Errorf("%d sessions, want %d", p.sessions(), n)
				}
			}
		},
		"delivery.connect_timeout": func(t *testing.T) {
			limit := make(chan time.Duration, 100)
			d := Deps{FS: vfs.NewCrashDisk(), NoControl: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				end, _ := ctx.Deadline()
				limit <- time.Until(end)
				return nil, context.DeadlineExceeded
			}}
			s := begin(t, d, testConfig(t, "/data", "delivery.routes=other.example host=127.0.0.1 https=off", "delivery.connect_timeout=2s"))
			allowed(t, write(t, s, 100, "x@other.example"))
			if got := <-limit; got > 2*time.Second || got < time.Second {
				t.Errorf("%v", got)
			}
		},
		"delivery.reach_timeout": func(t *testing.T) {
			c := newCounter(t, true)
			s := inMemory(t, closed(c, "delivery.reach_timeout=30ms")...)
			allowed(t, write(t, s, 100, "x@other.example"))
			until(t, "the end of the try", func() bool { return strings.Contains(s.why(t), "does not answer in time") })
		},
		"queue.max_mails": func(t *testing.T) {
			s := inMemory(t, closed(newCounter(t, false), "queue.max_mails=1")...)
			allowed(t, write(t, s, 100, "x@other.example"))
			refusedWith(t, write(t, s, 100, "x@other.example"), "451 4.7.0 the queue is full, try again later")
		},
		"queue.max_size": func(t *testing.T) {
			s := inMemory(t, closed(newCounter(t, false), "queue.max_size=1M")...)
			allowed(t, write(t, s, 500<<10, "x@other.example"))
			refusedWith(t, write(t, s, 600<<10, "x@other.example"), "451 4.7.0 the queue is full, try again later")
		},
	}
}
