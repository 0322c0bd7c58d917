package interop

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern.email/interop/mailclient"
)

// freeze stops a server's process where it is and waits until no thread of it runs.
func (s *server) freeze(t testing.TB) {
	pid := s.cmd.Process.Pid
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Errorf("SIGSTOP: %v", err)
		return
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		running := len(threads) == 0
		for _, f := range threads {
			stat, err := os.ReadFile(f)
			if err != nil {
				continue // the thread has ended
			}
			_, rest, _ := bytes.Cut(stat, []byte(") "))
			running = running || !bytes.HasPrefix(rest, []byte("T"))
		}
		if !running {
			return
		}
		<-tick.C
	}
}

// smtpPeer is another host of which every step is the test's. It serves one connection after
// another.
type smtpPeer struct {
	began func()                // MAIL has come
	rcpt  func(to string) bool  // RCPT has come; false: not now. nil: all are taken
	mail  func(raw []byte) bool // a mail has come; false: no answer
	after func()                // the 250 has gone out
}

// peer runs one for a domain until the test ends.
func (w *world) peer(t testing.TB, domain string, p smtpPeer) {
	t.Helper()
	conf := w.certified(t, domain)
	listen(t, w.Host(t, domain)+":"+worldSMTP, func(c net.Conn) { p.serve(c, conf) })
}

func (p smtpPeer) serve(c net.Conn, conf *tls.Config) {
	defer func() { c.Close() }()
	say := func(text string) { _, _ = io.WriteString(c, text+"\r\n") }
	say("220 peer")
	rcpts := 0
	for r := bufio.NewReader(c); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch verb, _, _ := strings.Cut(strings.TrimSpace(line), " "); verb {
		case "EHLO":
			say("250-peer\r\n250-PIPELINING\r\n250 STARTTLS")
		case "STARTTLS":
			say("220 go on")
			t := tls.Server(c, conf)
			if t.Handshake() != nil {
				return
			}
			c = t
			r.Reset(c)
		case "MAIL":
			p.began()
			rcpts = 0
			say("250 2.1.0 OK")
		case "RCPT":
			if p.rcpt != nil && !p.rcpt(line) {
				say("450 4.2.0 not now")
				continue
			}
			rcpts++
			say("250 2.1.5 OK")
		case "DATA":
			if rcpts == 0 {
				say("554 5.5.1 no recipients")
				continue
			}
			say("354 go on")
			var raw []byte
			for !bytes.HasSuffix(raw, []byte("\r\n.\r\n")) {
				line, err := r.ReadBytes('\n')
				if err != nil {
					return
				}
				raw = append(raw, line...)
			}
			if !p.mail(raw) {
				return
			}
			say("250 2.0.0 taken")
			p.after()
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 2.0.0 OK")
		}
	}
}

// TestKilledBeforeItsCommit: a relay is killed between the other side's 250, which has reached its
// host, and its own commit: the only moment in which SMTP allows a mail to be sent twice. The mail
// is sent again, the same bytes with the same Message-ID and signatures.
func TestKilledBeforeItsCommit(t *testing.T) {
	w := newWorld(t)
	got := make(chan []byte, 4)
	a := w.relay(t, "a.example")
	first := true
	w.peer(t, "peer.example", smtpPeer{
		began: func() {},
		mail: func(raw []byte) bool {
			if first {
				a.freeze(t) // it does not see the 250 …
			}
			got <- raw
			return true
		},
		after: func() {
			if first {
				first = false
				_ = a.cmd.Process.Kill() // … before it dies
			}
		},
	})
	me := a.created(t, 1)[0]
	a.send(t, me, mailclient.NewMaker(6), 20_000, "x@peer.example")
	one := <-got
	<-a.ended
	a.run(t)
	two := <-got
	if !bytes.Equal(one, two) {
		t.Errorf("the second copy differs:\n%.800s\n-----\n%.800s", one, two)
	}
	if !bytes.Contains(two, []byte("Message-ID: ")) || bytes.Count(two, []byte("DKIM-Signature: ")) != 2 {
		t.Errorf("%.800s", two)
	}
	a.emptyQueue(t)
}

// TestHalfIsSentOnce: of the two recipients of a mail one is taken and one is not yet. The first is
// never given the mail again, also when the relay is killed in between; the second gets it once.
func TestHalfIsSentOnce(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	var taken []string // of the mail that is coming
	copies := map[string]int{}
	refused := 0
	w.peer(t, "peer.example", smtpPeer{
		began: func() { taken = nil },
		rcpt: func(line string) bool {
			mu.Lock()
			defer mu.Unlock()
			if strings.Contains(line, "later@") && refused < 6 {
				refused++
				return false
			}
			taken = append(taken, line[len("RCPT TO:<"):strings.IndexByte(line, '@')])
			return true
		},
		mail: func([]byte) bool {
			mu.Lock()
			defer mu.Unlock()
			for _, who := range taken {
				copies[who]++
			}
			return true
		},
		after: func() {},
	})
	a := w.relay(t, "a.example")
	me := a.created(t, 1)[0]
	a.send(t, me, mailclient.NewMaker(10), 10_000, "now@peer.example", "later@peer.example")
	eventually(t, patience, func() error {
		mu.Lock()
		defer mu.Unlock()
		if refused < 3 {
			return fmt.Errorf("refused %d times", refused)
		}
		return nil
	})
	a.kill()
	a.run(t)
	a.emptyQueue(t)
	mu.Lock()
	defer mu.Unlock()
	if copies["now"] != 1 || copies["later"] != 1 || refused != 6 {
		t.Errorf("%v after %d refusals, want one each", copies, refused)
	}
}

// tap forwards connections to a host and can hold back what the host answers.
type tap struct {
	mu      sync.Mutex
	free    *sync.Cond
	holding bool
	held    bool // something is being held
	passed  int  // connections over which a whole mail went while nothing was held
}

// large is more than a TLS handshake and commands, and less than the mail of the test.
const large = 8 << 10

func (p *tap) listen(t testing.TB, at, to string) {
	listen(t, at, func(c net.Conn) {
		go func() {
			defer c.Close()
			d, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer d.Close()
			p.forward(c, d)
		}()
	})
}

// forward copies both ways. While the tap holds, answers pass until the mail has begun.
func (p *tap) forward(c, d net.Conn) {
	begun := false
	go func() {
		defer d.(*net.TCPConn).CloseWrite()
		var sum int64
		b := make([]byte, 32<<10)
		for {
			n, err := c.Read(b)
			if sum += int64(n); sum > large && !begun {
				p.mu.Lock()
				begun = true
				if !p.holding {
					p.passed++
				}
				p.mu.Unlock()
			}
			if _, werr := d.Write(b[:n]); err != nil || werr != nil {
				return
			}
		}
	}()
	b := make([]byte, 32<<10)
	for {
		n, err := d.Read(b)
		p.mu.Lock()
		for p.holding && begun {
			p.held = true
			p.free.Wait()
		}
		p.mu.Unlock()
		if _, werr := c.Write(b[:n]); err != nil || werr != nil {
			return
		}
	}
}

// hold begins or ends holding back.
func (p *tap) hold(on bool) {
	p.mu.Lock()
	p.holding = on
	p.mu.Unlock()
	p.free.Broadcast()
}

// TestSentTwiceStoredOnce: the same moment between two relays of ours, by SMTP and over HTTPS. The
// other relay has stored the mail and said so; the first is killed before it can put that down, and
// sends it again; it is there once.
func TestSentTwiceStoredOnce(t *testing.T) {
	for name, set := range map[string]string{"HTTPS": "delivery.https=true", "SMTP": "delivery.https=false"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			b := w.relay(t, "b.example")
			you := b.created(t, 1)[0]
			p := &tap{}
			p.free = sync.NewCond(&p.mu)
			w.DNS.Remove("b.example")
			at := w.Host(t, "b.example")
			p.listen(t, at+":"+worldSMTP, b.SMTP)
			p.listen(t, at+":"+worldHTTPS, b.HTTPS)
			a := w.relay(t, "a.example", set)
			me := a.created(t, 1)[0]
			p.hold(true)
			raw := a.send(t, me, mailclient.NewMaker(6), 30_000, you.addr)
			want := map[mailclient.Hash]int{mailclient.BodyHash(raw): 1}
			once := func() error {
				got, err := b.tryInbox(you)
				if err == nil && fmt.Sprint(got) != fmt.Sprint(want) {
					err = fmt.Errorf("%d mails: %v", len(got), got)
				}
				return err
			}
			eventually(t, patience, once)
			eventually(t, patience, func() error {
				p.mu.Lock()
				defer p.mu.Unlock()
				if !p.held {
					return fmt.Errorf("the other side has not answered yet")
				}
				return nil
			})
			a.freeze(t)
			p.hold(false)
			a.kill()
			a.run(t)
			a.emptyQueue(t)
			p.mu.Lock()
			again := p.passed
			p.mu.Unlock()
			if again == 0 {
				t.Error("the mail was not sent again: the test proves nothing")
			}
			if err := once(); err != nil {
				t.Errorf("after it was sent again: %v", err)
			}
		})
	}
}

// TestWindow measures that moment on the wire: from the other side's 250 to the next MAIL on
// the same connection, which the relay sends when its commit is on disk. The window is shorter.
func TestWindow(t *testing.T) {
	const n = 200
	w := newWorld(t)
	backlog := make(chan struct{})
	var times []time.Duration
	var said time.Time
	all := make(chan struct{})
	got := 0
	w.peer(t, "peer.example", smtpPeer{
		began: func() {
			if !said.IsZero() {
				times = append(times, time.Since(said))
			}
		},
		mail: func([]byte) bool { <-backlog; return true },
		after: func() {
			said = time.Now()
			if got++; got == n {
				close(all)
			}
		},
	})
	a := w.relay(t, "a.example", append(noSendLimit, "delivery.connections_per_domain=1")...)
	me := a.created(t, 1)[0]
	c := a.mustSubmit(t, me)
	maker := mailclient.NewMaker(9)
	for range n {
		if err := c.Send(me.addr, []string{"x@peer.example"}, maker.Mail(me.addr, 10_000)); err != nil {
			t.Fatal(err)
		}
	}
	close(backlog)
	select {
	case <-all:
	case <-time.After(2 * time.Minute):
		t.Fatal("not all mails came")
	}
	a.emptyQueue(t)
	if len(times) < n/2 {
		t.Fatalf("only %d mails came over a kept connection", len(times))
	}
	slices.Sort(times)
	t.Logf("from the 250 to the next MAIL, %d times: p50 %v, p99 %v", len(times), times[len(times)/2], times[len(times)*99/100])
}
