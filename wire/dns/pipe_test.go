package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	mdns "github.com/miekg/dns"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// network is a network in memory, for virtual time: what each server answers, and who was
// asked.
type network struct {
	answer func(addr string, q *mdns.Msg) *mdns.Msg // nil: silence

	mu       sync.Mutex
	asked    []string // addresses in turn, by UDP
	now, max int      // connections
}

func (n *network) dial(_ context.Context, by, addr string) (net.Conn, error) {
	a, b := net.Pipe()
	n.mu.Lock()
	if by == "udp" {
		n.asked = append(n.asked, addr)
	}
	n.now++
	n.max = max(n.max, n.now)
	n.mu.Unlock()
	go func() {
		defer b.Close()
		buf := make([]byte, 512)
		raw, err := read(b, by, buf)
		q := new(mdns.Msg)
		if err == nil && q.Unpack(raw) == nil {
			if m := n.answer(addr, q); m != nil {
				if by == "udp" {
					m.Truncate(udpSize)
				}
				write(b, by, m)
			}
		}
		b.Read(buf) // until the other end closes
	}()
	return &counted{Conn: a, n: n}, nil
}

// counted is a connection that n counts until it is closed.
type counted struct {
	net.Conn
	n    *network
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() {
		c.n.mu.Lock()
		c.n.now--
		c.n.mu.Unlock()
	})
	return c.Conn.Close()
}

func (n *network) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	was := n.asked
	n.asked = nil
	return was
}

func (n *network) resolver(t testing.TB, o Options) *Resolver {
	t.Helper()
	o.Dial = n.dial
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// says makes an answer of records in the form of a zone file; those after "--" are the
// authority section, "!NAME" sets the code.
func says(q *mdns.Msg, records ...string) *mdns.Msg {
	m := new(mdns.Msg).SetReply(q)
	m.RecursionAvailable = true
	section := &m.Answer
	for _, text := range records {
		if text == "--" {
			section = &m.Ns
			continue
		}
		if code, ok := strings.CutPrefix(text, "!"); ok {
			m.Rcode = mdns.StringToRcode[code]
			continue
		}
		rr, err := mdns.NewRR(text)
		if err != nil {
			panic(err)
		}
		*section = append(*section, rr)
	}
	return m
}

// TestServersInTurn: who does not answer or fails is passed over, who does not answer is
// asked last for a while, and a forgery that one server found is not asked for elsewhere.
func TestServersInTurn(t *testing.T) {
	const a, b, c = "192.0.2.1:53", "192.0.2.2:53", "[2001:db8::1]:53"
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		hows := map[string]string{}
		how := func(servers string, does string) {
			mu.Lock()
			defer mu.Unlock()
			for s := range strings.FieldsSeq(servers) {
				hows[s] = does
			}
		}
		n := &network{answer: func(addr string, q *mdns.Msg) *mdns.Msg {
			mu.Lock()
			defer mu.Unlock()
			switch hows[addr] {
			case "":
				return says(q, q.Question[0].Name+" 300 TXT x")
			case "silent":
				return nil
			case "forged":
				m := says(q, "!SERVFAIL").SetEdns0(1232, true)
				m.IsEdns0().Option = append(m.IsEdns0().Option, &mdns.EDNS0_EDE{InfoCode: mdns.ExtendedErrorCodeSignatureExpired})
				return m
			}
			return says(q, hows[addr])
		}}
		fs := vfs.NewCrashDisk()
		conf(t, fs, "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 2001:db8::1\n")
		i := 0
		ask := func(step string, kind errs.Kind, servers ...string) {
			t.Helper()
			i++
			r := n.resolver(t, Options{FS: fs})
			_, _, err := r.TXT(t.Context(), fmt.Sprintf("x%d.example", i))
			if got := n.take(); !slices.Equal(got, servers) || (err == nil) != (kind == 0) || err != nil && errs.KindOf(err) != kind {
				t.Errorf("%s: asked %v, want %v; %v", step, got, servers, err)
			}
		}
		ask("all well", 0, a)
		how(a, "!SERVFAIL")
		ask("one fails", 0, a, b)
		how(b, "!REFUSED")
		ask("two fail", 0, a, b, c)
		how(c, "!SERVFAIL")
		ask("all fail", errs.Unavailable, a, b, c)
		how(a, "forged")
		how(b+" "+c, "")
		ask("forged", errs.Unavailable, a)
		how(a, "silent")
		begin := time.Now()
		ask("one is silent", 0, a, b)
		if d := time.Since(begin); d != DefaultTimeout/6 {
			t.Errorf("a silent server was waited for %v", d)
		}
		how(b+" "+c, "silent")
		begin = time.Now()
		ask("all are silent", errs.Unavailable, a, b, c, a, b, c)
		if d := time.Since(begin); d != DefaultTimeout {
			t.Errorf("all silent servers were waited for %v", d)
		}
		how(b, "")
		r := n.resolver(t, Options{FS: fs})
		for step, want := range [][]string{{a, b}, {b}, {b}} {
			_, _, err := r.TXT(t.Context(), fmt.Sprintf("y%d.example", step))
			if got := n.take(); err != nil || !slices.Equal(got, want) {
				t.Errorf("step %d: asked %v, want %v; %v", step, got, want, err)
			}
		}
		r = n.resolver(t, Options{FS: fs})
		hasty, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, _, err := r.TXT(hasty, "v.example")
		_, _, err2 := r.TXT(t.Context(), "w.example")
		if got := n.take(); err != nil || err2 != nil || !slices.Equal(got, []string{a, b, a, b}) {
			t.Errorf("a hasty caller put the first server to rest: asked %v; %v, %v", got, err, err2)
		}
		time.Sleep(restTime)
		how(a, "")
		if _, _, err := r.TXT(t.Context(), "z.example"); err != nil || !slices.Equal(n.take(), []string{a}) {
			t.Errorf("after its rest the first is not the first: %v", err)
		}
	})
}

// TestTrustByServer: the AD bit counts by who said it.
func TestTrustByServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{answer: func(addr string, q *mdns.Msg) *mdns.Msg {
			if addr == "127.0.0.1:53" && strings.HasPrefix(q.Question[0].Name, "far") {
				return says(q, "!SERVFAIL")
			}
			m := says(q, q.Question[0].Name+" 300 TXT x")
			m.AuthenticatedData = true
			return m
		}}
		for text, want := range map[string][2]bool{"nameserver 127.0.0.1\nnameserver 192.0.2.1\n": {true, false}, "nameserver 127.0.0.1\nnameserver 192.0.2.1\noptions edns0 trust-ad\n": {true, true}} {
			fs := vfs.NewCrashDisk()
			conf(t, fs, text)
			r := n.resolver(t, Options{FS: fs})
			for i, name := range []string{"near.example", "far.example"} {
				if _, authentic, err := r.TXT(t.Context(), name); err != nil || authentic != want[i] {
					t.Errorf("%q, %s: authentic is %v, %v", text, name, authentic, err)
				}
			}
			if r.Trusts() != want[1] {
				t.Errorf("%q: Trusts is %v", text, r.Trusts())
			}
		}
	})
}

func conf(t testing.TB, fs vfs.FS, text string) {
	t.Helper()
	if err := errors.Join(vfs.MkdirAll(fs, "/etc", 0o755), vfs.WriteFileAtomic(fs, resolvConf, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// TestResolvConf: the file is read again when it has changed, one that is gone changes
// nothing, and without any the servers are on this machine.
func TestResolvConf(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	fs := vfs.NewCrashDisk()
	r, err := New(Options{FS: fs, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	want := func(step string, servers ...server) {
		t.Helper()
		if got := r.servers.list(); !slices.Equal(got, servers) {
			t.Errorf("%s: %v, want %v", step, got, servers)
		}
	}
	libc := []server{{"127.0.0.1:53", true}, {"[::1]:53", true}}
	want("no file", libc...)
	conf(t, fs, "# nameserver 192.0.2.9\n; nameserver 192.0.2.8\nsearch example\nnameserver\nnameserver nonsense\nnameserver 192.0.2.1 # not here\n"+
		"\tnameserver  fe80::1%eth0\nnameserver 192.0.2.2\nnameserver 192.0.2.3\noptions ndots:2")
	want("looked a moment ago", libc...)
	now = now.Add(lookAgain)
	some := []server{{"192.0.2.1:53", false}, {"[fe80::1%eth0]:53", false}, {"192.0.2.2:53", false}}
	want("a file", some...)
	if err := fs.Remove(resolvConf); err != nil {
		t.Fatal(err)
	}
	now = now.Add(lookAgain)
	want("gone", some...)
	conf(t, fs, "options trust-ad timeout:1\r\nnameserver 192.0.2.7\r\n")
	now = now.Add(lookAgain)
	want("another", server{"192.0.2.7:53", true})
	conf(t, fs, "nameserver 192.0.2.6")
	now = now.Add(-time.Hour) // a clock that was set back is no reason to wait an hour
	want("clock set back", server{"192.0.2.6:53", false})
}

// TestOneQuestion: equal questions at one time go out once, and the answer is everybody's.
func TestOneQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		n := &network{answer: func(_ string, q *mdns.Msg) *mdns.Msg {
			<-open
			return says(q, q.Question[0].Name+" 300 MX 1 mx.example")
		}}
		r := n.resolver(t, Options{Server: "192.0.2.1:53"})
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if mx, _, err := r.MX(t.Context(), "x.example"); err != nil || mx[0].Host != "mx.example" {
					t.Errorf("%v, %v", mx, err)
				}
			})
		}
		synctest.Wait()
		close(open)
		all.Wait()
		if n := len(n.take()); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

// TestQuestionsAtOnce: no more than MaxQueries are on their way, and those who wait for
// their turn do not wait beyond their time.
func TestQuestionsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{answer: func(string, *mdns.Msg) *mdns.Msg { return nil }}
		r := n.resolver(t, Options{Server: "192.0.2.1:53"})
		begin := time.Now()
		var all sync.WaitGroup
		for i := range MaxQueries + 50 {
			all.Go(func() {
				if _, _, err := r.MX(t.Context(), fmt.Sprintf("x%d.example", i)); errs.KindOf(err) != errs.Unavailable {
					t.Error(err)
				}
			})
		}
		all.Wait()
		synctest.Wait()
		if n.max != MaxQueries || n.now != 0 {
			t.Errorf("%d connections at once, %d left", n.max, n.now)
		}
		if d := time.Since(begin); d != DefaultTimeout {
			t.Errorf("it took %v", d)
		}
	})
}

// TestUnasked: records of other names and classes, which nobody asked for, are not taken,
// whatever stands beside them.
func TestUnasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{answer: func(_ string, q *mdns.Msg) *mdns.Msg {
			switch q.Question[0].Name {
			case "x.example.":
				return says(q, "y.example 300 TXT evil", "X.example. 300 TXT good", "x.example. 300 CH TXT evil", "sub.x.example. 300 TXT evil", "--", "x.example 300 TXT evil")
			case "y.example.":
				return says(q, "x.example 300 TXT evil", "z.example. 300 CNAME x.example.")
			}
			return says(q, "!NXDOMAIN", "n.example. 300 TXT evil")
		}}
		r := n.resolver(t, Options{Server: "192.0.2.1:53"})
		if txt, _, err := r.TXT(t.Context(), "x.example"); err != nil || !slices.Equal(txt, []string{"good"}) {
			t.Errorf("%q, %v", txt, err)
		}
		for name, gone := range map[string]bool{"y.example": false, "n.example": true} {
			if txt, _, err := r.TXT(t.Context(), name); errs.KindOf(err) != errs.NotFound || NoDomain(err) != gone {
				t.Errorf("%s: %q, %v", name, txt, err)
			}
		}
	})
}
