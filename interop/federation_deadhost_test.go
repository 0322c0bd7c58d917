package interop

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern.email/wire/dns/dnstest"
)

// drip is how long a slow host takes for one byte.
const drip = time.Minute

// deadKinds are the ways in which a host takes no mail, by the place where it stops. Those that
// hang do so until the test ends.
var deadKinds = []struct {
	name  string
	hangs bool
	set   func(d *deadHost)
}{
	{"refuses connections", false, func(*deadHost) {}},
	{"does not answer to SYN", true, func(d *deadHost) { d.full(d.addr + ":" + worldSMTP) }},
	{"greets with 421", false, smtpDead("421")},
	{"names: no answer", false, func(d *deadHost) { d.w.DNS.Fail(d.domain, "", dnstest.Silent) }},
	{"names: SERVFAIL", false, func(d *deadHost) { d.w.DNS.Fail(d.domain, "", dnstest.ServFail) }},
	{"no greeting", true, smtpDead("greeting")},
	{"greeting, a byte a minute", true, smtpDead("slow greeting")},
	{"no answer to EHLO", true, smtpDead("EHLO")},
	{"no answer to STARTTLS", true, smtpDead("STARTTLS")},
	{"no handshake", true, smtpDead("handshake")},
	{"no answer to EHLO under TLS", true, smtpDead("EHLO2")},
	{"no answer to MAIL", true, smtpDead("MAIL")},
	{"no answer to RCPT", true, smtpDead("RCPT")},
	{"no answer to DATA", true, smtpDead("DATA")},
	{"does not read the mail", true, smtpDead("body")},
	{"no answer to the mail", true, smtpDead("dot")},
	{"answers under TLS, a byte a minute", true, smtpDead("slow")},
	{"HTTPS: no handshake", true, webDead(func(d *deadHost, c net.Conn) { d.hang(c) })},
	{"HTTPS: reads nothing", true, webDead(func(d *deadHost, c net.Conn) { d.shake(c); d.block() })},
	{"HTTPS: reads and does not answer", true, webDead(func(d *deadHost, c net.Conn) {
		if c = d.shake(c); d.request(c) {
			d.hang(c)
		}
	})},
	{"HTTPS: answers, a byte a minute", true, webDead(func(d *deadHost, c net.Conn) {
		if c = d.shake(c); d.request(c) {
			d.drip(c, "HTTP/1.1 200 OK\r\n\r\n")
		}
	})},
}

func smtpDead(stop string) func(d *deadHost) {
	return func(d *deadHost) { d.listen(worldSMTP, func(c net.Conn) { d.smtp(c, stop) }) }
}

// webDead is dead over HTTPS; by SMTP the host is not there.
func webDead(do func(d *deadHost, c net.Conn)) func(d *deadHost) {
	return func(d *deadHost) { d.listen(worldHTTPS, func(c net.Conn) { do(d, c) }) }
}

// dead is a number of hosts that take no mail, each in its way.
type dead struct {
	t       testing.TB
	w       *world
	domains []string
	hanging int // those of a kind that hangs
	over    chan struct{}
	tls     *tls.Config
	wg      sync.WaitGroup

	mu   sync.Mutex
	hung map[string]map[string]bool // by kind, the hosts at which a connection came to where it is to hang
}

// deadHost is one of them.
type deadHost struct {
	*dead
	kind, domain, addr string
}

// missed gives the kinds of which not every host has hung yet, but the one that no connection
// reaches.
func (d *dead) missed() (list []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, k := range deadKinds {
		want := (len(d.domains) - i + len(deadKinds) - 1) / len(deadKinds)
		if k.hangs && len(d.hung[k.name]) < want && k.name != "does not answer to SYN" {
			list = append(list, fmt.Sprintf("%s: %d of %d", k.name, len(d.hung[k.name]), want))
		}
	}
	return list
}

// here notes that a connection came to where it is to hang.
func (d *deadHost) here() {
	d.mu.Lock()
	if d.hung[d.kind] == nil {
		d.hung[d.kind] = map[string]bool{}
	}
	d.hung[d.kind][d.domain] = true
	d.mu.Unlock()
}

// block neither reads nor writes.
func (d *deadHost) block() {
	d.here()
	<-d.over
}

// dead makes n of them, all kinds in turn.
func (w *world) dead(t testing.TB, n int) *dead {
	t.Helper()
	d := &dead{t: t, w: w, over: make(chan struct{}), hung: map[string]map[string]bool{}}
	for i := range n {
		d.domains = append(d.domains, fmt.Sprintf("dead%d.example", i))
	}
	d.tls = w.certified(t, d.domains...)
	// In the other order, behind the listeners: who is served last has begun before it is waited for.
	t.Cleanup(func() { d.wg.Wait() })
	t.Cleanup(func() { close(d.over) })
	for i, domain := range d.domains {
		k := deadKinds[i%len(deadKinds)]
		k.set(&deadHost{d, k.name, domain, w.Host(t, domain)})
		if k.hangs {
			d.hanging++
		}
	}
	return d
}

func (d *deadHost) listen(port string, serve func(net.Conn)) {
	d.t.Helper()
	var ended <-chan struct{}
	d.t.Cleanup(func() { // after the listener is closed
		if ended != nil {
			<-ended
		}
	})
	ended = listen(d.t, d.addr+":"+port, func(c net.Conn) {
		d.wg.Go(func() {
			defer c.Close()
			serve(c)
		})
	})
}

// full makes a port whose queue of new connections is full, so that the kernel drops more.
func (d *dead) full(addr string) {
	d.t.Helper()
	a, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		d.t.Fatal(err)
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Port: a.Port, Addr: [4]byte(a.IP.To4())})
	}
	if err == nil {
		err = syscall.Listen(fd, 0)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { syscall.Close(fd) })
	for range 8 {
		c, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if err != nil {
			return
		}
		d.t.Cleanup(func() { c.Close() })
	}
	d.t.Logf("%s still takes connections", addr)
}

// hang reads and says nothing until the other side or the test ends.
func (d *deadHost) hang(c net.Conn) {
	d.here()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = io.Copy(io.Discard, c)
	}()
	select {
	case <-gone:
	case <-d.over:
		c.Close()
		<-gone
	}
}

func (d *deadHost) drip(c net.Conn, text string) {
	d.here()
	tick := time.NewTicker(drip)
	defer tick.Stop()
	for i := range len(text) {
		if _, err := c.Write([]byte{text[i]}); err != nil {
			return
		}
		select {
		case <-tick.C:
		case <-d.over:
			return
		}
	}
}

func (d *dead) shake(c net.Conn) net.Conn {
	s := tls.Server(c, d.tls)
	_ = s.Handshake()
	return s
}

// request reads a whole request.
func (d *dead) request(c net.Conn) bool {
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err == nil {
		_, err = io.Copy(io.Discard, r.Body)
	}
	return err == nil
}

// smtp is a session that goes well up to a place.
func (d *deadHost) smtp(c net.Conn, stop string) {
	say := func(text string) { _, _ = io.WriteString(c, text+"\r\n") }
	switch stop {
	case "421":
		say("421 4.3.2 Not now")
		return
	case "greeting":
		d.hang(c)
		return
	case "slow greeting":
		d.drip(c, "220 slow\r\n")
		return
	}
	say("220 dead")
	under := ""
	for r := bufio.NewReader(c); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if verb+under == stop {
			d.hang(c)
			return
		}
		switch {
		case verb == "EHLO" && under == "":
			say("250-dead\r\n250 STARTTLS")
		case verb == "STARTTLS":
			say("220 go on")
			if stop == "handshake" {
				d.hang(c)
				return
			}
			c = d.shake(c)
			r.Reset(c)
			under = "2"
			if stop == "MAIL" || stop == "RCPT" || stop == "DATA" {
				stop += under
			}
		case stop == "slow":
			d.drip(c, "250 slow\r\n")
			return
		case verb == "DATA":
			say("354 go on")
			if stop == "body" {
				d.block()
				return
			}
			all, seen := bufio.NewReader(r), new(bytes.Buffer)
			for !bytes.HasSuffix(seen.Bytes(), []byte("\r\n.\r\n")) {
				b, err := all.ReadByte()
				if err != nil {
					return
				}
				seen.WriteByte(b)
			}
			d.hang(c)
			return
		default:
			say("250 2.0.0 well")
		}
	}
}
