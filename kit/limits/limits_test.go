package limits

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"
)

func TestNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7":            "192.0.2.7",
		"::ffff:192.0.2.7":     "192.0.2.7",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::",
		"2001:db8:1:2::9":      "2001:db8:1:2::",
		"fe80::1%eth0":         "fe80::",
	} {
		if got := (Peer{Addr: netip.MustParseAddr(in)}).Network(); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
	if (Peer{}).Network() != "" || (Peer{Addr: netip.MustParseAddr("192.0.2.7"), Exempt: true}).Network() != "" {
		t.Error("an unknown or exempt peer has a network")
	}
}

func TestTrusted(t *testing.T) {
	list := Trusted{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	for in, want := range map[string]bool{"10.1.2.3": true, "::ffff:10.1.2.3": true, "11.0.0.1": false, "2001:db8::1": true, "2001:db9::1": false} {
		if list.Contains(netip.MustParseAddr(in)) != want {
			t.Errorf("%s: %v", in, !want)
		}
	}
	if list.Contains(netip.Addr{}) || Trusted(nil).Contains(netip.MustParseAddr("10.1.2.3")) {
		t.Error("trusts nobody's word")
	}
}

func peer(n int) Peer { return Peer{Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(n)})} }

func TestConns(t *testing.T) {
	c := NewConns(4, 2)
	var release []func()
	take := func(p Peer, want bool) {
		t.Helper()
		r, ok := c.Acquire(p)
		if ok != want || (r != nil) != want {
			t.Fatalf("%v", ok)
		}
		if ok {
			release = append(release, r)
		}
	}
	take(peer(1), true)
	take(peer(1), true)
	take(peer(1), false)
	take(peer(2), true)
	take(Peer{}, true) // not of any network, but of the total
	take(peer(3), false)
	release[0]()
	release[0]() // a second time changes nothing
	take(peer(3), true)
	take(peer(4), false)
	c.SetTotal(5)
	take(peer(4), true)
	c.SetTotal(2) // those that are open stay
	take(peer(5), false)
	c.SetTotal(4)
	for _, r := range release {
		r()
	}
	if c.Open() != 0 || len(c.networks) != 0 {
		t.Errorf("%d open, %d networks", c.Open(), len(c.networks))
	}
	exempt := peer(1)
	exempt.Exempt = true
	for range 4 {
		take(exempt, true)
	}
	if _, ok := (*Conns)(nil).Acquire(peer(1)); !ok {
		t.Error("no limits is a limit")
	}
	if r, ok := NewConns(0, 0).Acquire(peer(1)); !ok {
		t.Error("zero is a limit")
	} else {
		r()
	}
}

func TestGCRA(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	g := NewGCRA(60, 10, 100, func() time.Time { return now })
	for i := range 10 {
		if ok, _ := g.Allow("a"); !ok {
			t.Fatal("burst ends at", i)
		}
	}
	ok, next := g.Allow("a")
	if ok || !next.Equal(now.Add(time.Second)) {
		t.Fatal(ok, next)
	}
	if ok, _ := g.Allow("b"); !ok {
		t.Fatal("one key limits another")
	}
	now = now.Add(time.Second - 1)
	if ok, _ := g.Allow("a"); ok {
		t.Fatal("too early")
	}
	now = now.Add(1)
	if ok, _ := g.Allow("a"); !ok {
		t.Fatal("refused attempts are counted")
	}
	if ok, _ := g.Allow("a"); ok {
		t.Fatal("one interval gives one event")
	}
	now = now.Add(time.Hour)
	for i := range 10 {
		if ok, _ := g.Allow("a"); !ok {
			t.Fatal("burst did not come back at", i)
		}
	}
	if ok, _ := g.Allow("a"); ok {
		t.Fatal("rest saves up more than a burst")
	}
}

func TestGCRAOff(t *testing.T) {
	for _, g := range []*GCRA{nil, NewGCRA(0, 1, 1, nil), NewGCRA(-1, 1, 1, nil)} {
		for range 100 {
			if ok, _ := g.Allow("a"); !ok {
				t.Fatal("limited")
			}
		}
	}
	g := NewGCRA(1, 0, 1, nil)
	for range 3 {
		if ok, _ := g.Allow(""); !ok {
			t.Fatal("nobody is limited")
		}
	}
	if ok, _ := g.Allow("a"); !ok {
		t.Fatal("a burst of 0 allows nothing")
	}
	if ok, _ := g.Allow("a"); ok {
		t.Fatal("a burst of 0 is endless")
	}
}

// TestGCRABounded: memory stays bounded, and the busiest key is not the one forgotten.
func TestGCRABounded(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	g := NewGCRA(60, 5, evictSample, func() time.Time { return now })
	for range 5 {
		g.Allow("busy")
	}
	for i := range 1000 {
		g.Allow(fmt.Sprint(i))
		if len(g.next) > evictSample {
			t.Fatal("unbounded:", len(g.next))
		}
	}
	if ok, _ := g.Allow("busy"); ok {
		t.Error("a flood of names frees the busiest")
	}
	now = now.Add(time.Hour)
	g.Allow("x")
	if len(g.next) != 1 {
		t.Error("keys at rest are kept:", len(g.next))
	}
}

func TestBytes(t *testing.T) {
	b := NewBytes(10)
	if !b.Acquire(6) || b.Acquire(5) || !b.Acquire(4) || b.Used() != 10 {
		t.Fatal(b.Used())
	}
	b.Release(10)
	if b.Used() != 0 {
		t.Fatal(b.Used())
	}
	if !b.AcquireHalf(5) || b.AcquireHalf(1) || !b.Acquire(5) || b.AcquireHalf(1) {
		t.Fatal(b.Used())
	}
	b.Release(10)
	var none *Bytes
	if !none.Acquire(1<<60) || !none.AcquireHalf(1<<60) || none.Used() != 0 {
		t.Fatal("no budget is a budget")
	}
	none.Release(1)
}

// TestShare: one network takes no more than its share, and another one finds the rest; the
// exempt are bound by the budget only, and nothing is left behind.
func TestShare(t *testing.T) {
	b := NewBytes(100)
	one, two, exempt := b.Share(peer(1), 40), b.Share(peer(2), 40), peer(1)
	one.Release(0) // of nothing
	exempt.Exempt = true
	if !one.Acquire(30) || one.Acquire(11) || b.Share(peer(1), 40).Acquire(11) || !one.Acquire(10) || b.Used() != 40 {
		t.Fatal("one network:", b.Used())
	}
	if !b.Share(peer(1), 50).Acquire(10) {
		t.Fatal("where a network may have more, it gets it")
	}
	if two.AcquireHalf(1) || !two.Acquire(40) || two.Acquire(1) || b.Used() != 90 {
		t.Fatal("another network:", b.Used())
	}
	if e := b.Share(exempt, 1); !e.Acquire(10) || e.Acquire(1) {
		t.Fatal("the exempt:", b.Used())
	}
	one.Release(50)
	two.Release(40)
	b.Share(exempt, 1).Release(10)
	if b.Used() != 0 || len(b.held) != 0 {
		t.Fatal(b.Used(), b.held)
	}
	if three := b.Share(peer(3), 0); !three.Acquire(100) || three.Acquire(1) {
		t.Fatal("without bound the budget is one")
	}
	none := (*Bytes)(nil).Share(peer(1), 1)
	if !none.Acquire(100) || !none.AcquireHalf(100) {
		t.Fatal("no budget is a budget")
	}
	none.Release(200)
}

// TestGCRACharge: what is counted afterwards shuts the key out until the rate has caught up,
// but never for longer than maxDebt beyond the burst.
func TestGCRACharge(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	g := NewGCRA(60, 10, 100, func() time.Time { return now })
	ready := func(want bool, in time.Duration) {
		t.Helper()
		ok, next := g.Ready("a")
		if ok != want || !ok && !next.Equal(now.Add(in)) {
			t.Fatalf("%v, in %v", ok, next.Sub(now))
		}
	}
	for range 20 {
		ready(true, 0)
	}
	g.Charge("a", 9)
	ready(true, 0)
	g.Charge("a", 6)
	ready(false, 6*time.Second)
	if ok, next := g.Allow("a"); ok || !next.Equal(now.Add(6*time.Second)) {
		t.Fatal(ok, next)
	}
	if ok, _ := g.Ready("b"); !ok {
		t.Fatal("one key limits another")
	}
	now = now.Add(6 * time.Second)
	ready(true, 0)
	g.Charge("a", 0)
	g.Charge("a", -5)
	ready(true, 0)
	for range 3 {
		g.Charge("a", 1<<62)
	}
	ready(false, maxDebt)
	now = now.Add(maxDebt)
	ready(true, 0)
	for _, off := range []*GCRA{nil, NewGCRA(0, 1, 1, nil)} {
		off.Charge("a", 1<<62)
		if ok, _ := off.Ready("a"); !ok {
			t.Fatal("limited")
		}
	}
	g.Charge("", 1<<62)
	if ok, _ := g.Ready(""); !ok {
		t.Fatal("nobody is limited")
	}
}

func TestTogether(t *testing.T) {
	c, g, b := NewConns(50, 3), NewGCRA(600, 5, 10, nil), NewBytes(100)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for range 200 {
				if r, ok := c.Acquire(peer(i % 7)); ok {
					r()
				}
				g.Allow(fmt.Sprint(i))
				if s := b.Share(peer(i%7), 30); s.Acquire(10) {
					s.Release(10)
				}
			}
		})
	}
	wg.Wait()
	if c.Open() != 0 || b.Used() != 0 {
		t.Error(c.Open(), b.Used())
	}
}
