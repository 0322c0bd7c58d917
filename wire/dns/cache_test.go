package dns

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	mdns "github.com/miekg/dns"

	"postern.email/kit/errs"
)

// TestCache: how long an answer is kept, by what it says.
func TestCache(t *testing.T) {
	const soa = "example. %d SOA ns.example. admin.example. 1 2 3 4 %d"
	for name, c := range map[string]struct {
		records []string
		keep    time.Duration
	}{
		"as it says":           {[]string{"x.example. 100 TXT x"}, 100 * time.Second},
		"the least":            {[]string{"x.example. 100 TXT x", "x.example. 70 TXT y"}, 70 * time.Second},
		"at least":             {[]string{"x.example. 0 TXT x"}, MinTTL},
		"at most":              {[]string{"x.example. 86400 TXT x"}, MaxTTL},
		"an alias":             {[]string{"x.example. 30 CNAME y.example.", "y.example. 100 TXT x"}, 30 * time.Second},
		"what was not asked":   {[]string{"z.example. 30 TXT x", "x.example. 100 TXT x"}, 100 * time.Second},
		"none":                 {[]string{"--", fmt.Sprintf(soa, 200, 50)}, 50 * time.Second},
		"none, by the record":  {[]string{"--", fmt.Sprintf(soa, 40, 50)}, 40 * time.Second},
		"no name":              {[]string{"!NXDOMAIN", "--", fmt.Sprintf(soa, 200, 50)}, 50 * time.Second},
		"no name, at most":     {[]string{"!NXDOMAIN", "--", fmt.Sprintf(soa, 9000, 9000)}, MaxNegativeTTL},
		"no name, at least":    {[]string{"!NXDOMAIN", "--", fmt.Sprintf(soa, 0, 0)}, MinTTL},
		"none behind an alias": {[]string{"x.example. 20 CNAME y.example.", "--", fmt.Sprintf(soa, 200, 50)}, 20 * time.Second},
		"no word how long":     {[]string{"!NXDOMAIN"}, 0},
		"another zone's word":  {[]string{"!NXDOMAIN", "--", "other. 200 SOA ns.other. a.other. 1 2 3 4 50"}, 0},
		"failure":              {[]string{"!SERVFAIL", "--", fmt.Sprintf(soa, 200, 50)}, 0},
		"too large to be kept": {[]string{"x.example. 100 TXT " + strings.Repeat(`"`+strings.Repeat("x", 250)+`" `, MaxAnswer/250+1)}, 0},
		"just not too large":   {[]string{"x.example. 100 TXT " + strings.Repeat(`"`+strings.Repeat("x", 250)+`" `, MaxAnswer/250-1)}, 100 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &network{answer: func(_ string, q *mdns.Msg) *mdns.Msg { return says(q, c.records...) }}
				r := n.resolver(t, Options{Server: "192.0.2.1:53"})
				ask := func() (string, int) {
					txt, _, err := r.TXT(t.Context(), "x.example")
					return fmt.Sprint(len(txt), errs.KindOf(err), NoDomain(err)), len(n.take())
				}
				first, asked := ask()
				if asked != 1 {
					t.Fatalf("asked %d times", asked)
				}
				if c.keep > 0 {
					time.Sleep(c.keep - 1)
					if again, asked := ask(); asked != 0 || again != first {
						t.Errorf("asked again %d times within %v; %s, then %s", asked, c.keep, first, again)
					}
					time.Sleep(time.Nanosecond)
				}
				if again, asked := ask(); asked != 1 || again != first {
					t.Errorf("asked %d times after %v; %s, then %s", asked, c.keep, first, again)
				}
			})
		})
	}
}

// TestForget: what was forgotten is asked again, in all types, also when the answer to a
// question from before comes only now.
func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open, block := make(chan struct{}), false
		n := &network{answer: func(_ string, q *mdns.Msg) *mdns.Msg {
			if block {
				<-open
			}
			switch name := q.Question[0].Name; q.Question[0].Qtype {
			case mdns.TypeTXT:
				return says(q, name+" 300 TXT x")
			case mdns.TypeMX:
				return says(q, name+" 300 MX 1 mx.example.")
			case mdns.TypeA:
				return says(q, name+" 300 A 192.0.2.1")
			}
			return says(q, "--", "example. 300 SOA ns.example. a.example. 1 2 3 4 300")
		}}
		r := n.resolver(t, Options{Server: "192.0.2.1:53"})
		ask := func(name string, want int) {
			t.Helper()
			_, _, e1 := r.TXT(t.Context(), name)
			_, _, e2 := r.MX(t.Context(), name)
			_, e3 := r.Addresses(t.Context(), name)
			if e1 != nil || e2 != nil || e3 != nil || len(n.take()) != want {
				t.Errorf("%s: want %d questions; %v, %v, %v", name, want, e1, e2, e3)
			}
		}
		ask("x.example", 4)
		ask("y.example", 4)
		r.Forget("X.Example.")
		r.Forget("[not a name]")
		ask("y.example", 0)
		ask("x.example", 4)
		ask("x.example", 0)

		block = true
		r.Forget("x.example")
		done := make(chan error)
		go func() { _, _, err := r.TXT(t.Context(), "x.example"); done <- err }()
		synctest.Wait()
		r.Forget("x.example")
		close(open)
		if err := <-done; err != nil {
			t.Error(err)
		}
		block = false
		n.take()
		ask("x.example", 4)
	})
}

// TestCacheIsBounded: in entries and in bytes, names counted in.
func TestCacheIsBounded(t *testing.T) {
	r, err := New(Options{Server: "192.0.2.1:53"})
	if err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Hour)
	fill := func(n, size int) {
		for i := range n {
			r.keep(question{fmt.Sprintf("x%d.example", i), mdns.TypeTXT}, &answer{size: size, until: later}, 0)
		}
	}
	fill(MaxEntries+10, 0)
	if r.kept.Len() != MaxEntries || r.kept.Bytes() < MaxEntries*answerCost || r.kept.Bytes() > MaxBytes {
		t.Errorf("%d entries of %d bytes", r.kept.Len(), r.kept.Bytes())
	}
	fill(2*MaxBytes/MaxAnswer, MaxAnswer)
	if r.kept.Bytes() > MaxBytes || r.kept.Bytes() < MaxBytes-2*MaxAnswer || r.kept.Len() > MaxBytes/MaxAnswer {
		t.Errorf("%d entries of %d bytes", r.kept.Len(), r.kept.Bytes())
	}
	fill(1, MaxAnswer+1)
	if r.kept.Len() > MaxBytes/MaxAnswer {
		t.Error("an answer that is too large was kept")
	}
}

// TestShared: what one caller does to the length of a list is not seen by others.
func TestShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{answer: func(_ string, q *mdns.Msg) *mdns.Msg {
			if q.Question[0].Qtype == mdns.TypeA {
				return says(q, "x.example. 300 A 192.0.2.1", "x.example. 300 A 192.0.2.2")
			}
			return says(q, "x.example. 300 AAAA 2001:db8::1")
		}}
		r := n.resolver(t, Options{Server: "192.0.2.1:53"})
		a, _ := r.Addresses(t.Context(), "x.example")
		_ = append(a.Addrs[:1], a.Addrs[2])
		if b, _ := r.Addresses(t.Context(), "x.example"); len(b.Addrs) != 3 || &a.Addrs[0] != &b.Addrs[0] {
			t.Errorf("%v", b.Addrs)
		}
	})
}

// BenchmarkCached is a look-up that is answered from memory.
func BenchmarkCached(b *testing.B) {
	n := &network{answer: func(_ string, q *mdns.Msg) *mdns.Msg {
		switch q.Question[0].Qtype {
		case mdns.TypeA:
			return says(q, "mx.example.org. 3600 A 192.0.2.1")
		case mdns.TypeAAAA:
			return says(q, "mx.example.org. 3600 AAAA 2001:db8::1")
		case mdns.TypeMX:
			return says(q, "example.org. 3600 MX 10 mx.example.org.")
		}
		return says(q, q.Question[0].Name+" 3600 TXT x")
	}}
	o := Options{Server: "192.0.2.1:53", Dial: n.dial}
	r, err := New(o)
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	for name, ask := range map[string]func() error{
		"TXT":       func() error { _, _, err := r.TXT(ctx, "selector._domainkey.example.org"); return err },
		"MX":        func() error { _, _, err := r.MX(ctx, "example.org"); return err },
		"Addresses": func() error { _, err := r.Addresses(ctx, "mx.example.org"); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := ask(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// FuzzAnswer: whatever bytes come as an answer, they are an error or values in our form,
// and no more than the bytes can hold.
func FuzzAnswer(f *testing.F) {
	q := new(mdns.Msg).SetQuestion("x.example.", mdns.TypeMX)
	q.Id = 1
	types := []uint16{mdns.TypeMX, mdns.TypeA, mdns.TypeAAAA, mdns.TypeTXT, mdns.TypeTLSA, mdns.TypeSRV, mdns.TypeCAA, mdns.TypePTR, mdns.TypeCNAME, mdns.TypeNS}
	for i, records := range [][]string{
		{"x.example. 3 MX 1 mx.example.", "x.example. 3 MX 0 ."}, {"x.example. 3 A 192.0.2.1"}, {"x.example. 3 AAAA 2001:db8::1"}, {`x.example. 3 TXT "a\000\"" "b"`},
		{"x.example. 3 TLSA 3 1 1 00"}, {"x.example. 3 SRV 1 2 3 a.example."}, {`x.example. 3 CAA 0 issue "a"`}, {"x.example. 3 PTR a.example."},
		{"x.example. 3 CNAME y.example.", "y.example. 3 A 192.0.2.1"}, {"!NXDOMAIN", "--", "example. 3 SOA a. b. 1 2 3 4 5"},
	} {
		q.Question[0].Qtype = types[i]
		raw, err := says(q, records...).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), raw)
	}
	f.Fuzz(func(t *testing.T, which uint8, raw []byte) {
		typ := types[int(which)%len(types)]
		q := new(mdns.Msg).SetQuestion("x.example.", typ)
		q.Id = 1
		m, err := parse(raw, q)
		if err != nil || failed(m) != nil {
			return
		}
		c := chain{at: "x.example", ttl: MaxTTL}
		whole, err := c.follow(m, typ)
		if c.hops > MaxChain+1 || c.ttl < 0 || c.ttl > MaxTTL {
			t.Errorf("%d hops, %v", c.hops, c.ttl)
		}
		if err != nil || !whole || c.missing != nil {
			return
		}
		v, n, size := values(typ, c.found)
		if n == 0 {
			return
		}
		if size > len(raw)*(recordCost+256) {
			t.Errorf("%d bytes of %d", size, len(raw))
		}
		var hosts []string
		switch v := v.(type) {
		case []MX:
			for _, m := range v {
				if m.Host != "" || len(v) > 1 {
					hosts = append(hosts, m.Host)
				}
			}
			if !slices.IsSortedFunc(v, func(a, b MX) int { return int(a.Pref) - int(b.Pref) }) {
				t.Errorf("not sorted: %v", v)
			}
		case []string:
			if typ != mdns.TypeTXT {
				hosts = v
			}
		case string:
			hosts = []string{v}
		}
		for _, h := range hosts {
			if got, ok := canonical(h); !ok || got != h {
				t.Errorf("%q is no host name", h)
			}
		}
	})
}

// FuzzResolvConf: at least one server comes of any file, at most MaxServers, each with an
// address that can be dialled.
func FuzzResolvConf(f *testing.F) {
	f.Add("nameserver 127.0.0.1\noptions trust-ad")
	f.Add("nameserver ::1%lo\n#\n;x\nnameserver")
	f.Fuzz(func(t *testing.T, text string) {
		list := parseResolvConf(text, TrustAuto)
		if len(list) == 0 || len(list) > MaxServers {
			t.Fatalf("%d servers", len(list))
		}
		for _, s := range list {
			if !strings.HasSuffix(s.addr, ":53") || strings.ContainsAny(s.addr, " \t\n") {
				t.Errorf("%q", s.addr)
			}
		}
	})
}
