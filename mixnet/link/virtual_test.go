package link

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

	"postern.email/kit/errs"
)

// wire is a network in memory, for virtual time: it notes when how many bytes cross it.
type wire struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once

	mu    sync.Mutex
	began time.Time
	log   []string // "time direction connection size"
	count int
}

func newWire() *wire {
	return &wire{conns: make(chan net.Conn), done: make(chan struct{}), began: time.Now()}
}

func (w *wire) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.done:
		return nil, net.ErrClosed
	}
}
func (w *wire) Close() error   { w.once.Do(func() { close(w.done) }); return nil }
func (w *wire) Addr() net.Addr { return &net.UnixAddr{} }

func (w *wire) dial(ctx context.Context, _ string) (net.Conn, error) {
	a, b := net.Pipe()
	w.mu.Lock()
	n := w.count
	w.count++
	w.mu.Unlock()
	select {
	case w.conns <- &noted{b, w, fmt.Sprintf("down %d", n)}:
		return &noted{a, w, fmt.Sprintf("up %d", n)}, nil
	case <-w.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// noted notes what is written.
type noted struct {
	net.Conn
	w    *wire
	name string
}

func (n *noted) Write(b []byte) (int, error) {
	n.w.mu.Lock()
	n.w.log = append(n.w.log, fmt.Sprintf("%s %v %d", n.name, time.Since(n.w.began), len(b)))
	n.w.mu.Unlock()
	return n.Conn.Write(b)
}

// lines gives the log with an order that does not depend on which of two sides was quicker
// at the same moment.
func (w *wire) lines() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := slices.Clone(w.log)
	slices.Sort(l)
	return l
}

// ticks gives a pace from a list of pauses, the same each time.
func ticks(constant bool, pauses ...time.Duration) Pace {
	c := make(chan time.Time)
	stop := make(chan struct{})
	go func() {
		for i := 0; ; i++ {
			select {
			case <-time.After(pauses[i%len(pauses)]):
			case <-stop:
				return
			}
			select {
			case c <- time.Now():
			case <-stop:
				return
			}
		}
	}()
	return Pace{Ticks: c, Stop: sync.OnceFunc(func() { close(stop) }), Constant: constant}
}

// virtual is a relay and a proxy over a wire, in a bubble of synctest.
type virtual struct {
	*wire
	relay, proxy *Link
	line         *Line
	opened       chan *Conn
	stop         func()
}

func newVirtual(t *testing.T, relay, proxy Options, up func() Pace) *virtual {
	v := &virtual{wire: newWire(), opened: make(chan *Conn, 100)}
	relay.Opened = func(c *Conn) { v.opened <- c }
	proxy.Dial = v.dial
	v.relay, v.proxy = makeLink(t, relay), makeLink(t, proxy)
	var err error
	v.line, err = v.proxy.Line(LineOptions{Peer: Peer{Key: v.relay.Key(), Role: Relay}, Addresses: func() []string { return []string{"relay"} }, Pace: up})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { v.line.Run(ctx) })
	wg.Go(func() {
		if err := v.relay.Serve(ctx, v.wire); err != nil {
			t.Error(err)
		}
	})
	v.stop = func() { cancel(); wg.Wait() }
	return v
}

// observe runs a proxy with constant rate for two hours of virtual time and gives what an
// observer of the wire sees. With traffic, units, answers, refusals and documents cross it.
func observe(t *testing.T, traffic bool) (seen []string, units uint64) {
	synctest.Test(t, func(t *testing.T) {
		h := take(func(_ context.Context, _ Peer, u []byte, r Receipt) {
			if number(u)%2 == 1 {
				r.Later()
			} else {
				r.Commit()
			}
		})
		relay := options("relay", known(t, Client, "proxy").who, h)
		relay.Pace = func(Peer) Pace { return ticks(true, 11*time.Second, 3*time.Second, 40*time.Second) }
		relay.Documents = func(context.Context, Peer, []byte) ([]byte, error) { return make([]byte, 5*bodyLen+1), nil }
		proxy := options("proxy", known(t, Relay, "relay").who, h)
		proxy.Chance = func() float64 { return 0.5 }
		v := newVirtual(t, relay, proxy, func() Pace { return ticks(true, 7*time.Second, 13*time.Second, 60*time.Second) })
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		if traffic {
			wg.Go(func() { // bursts to the relay
				for i := uint64(0); ctx.Err() == nil; i++ {
					v.line.Post(unit(i), func(error) {})
					if i%20 == 0 {
						v.line.Fetch(ctx, []byte("a request"))
					}
				}
			})
			wg.Go(func() { // and back
				var c *Conn
				for i := uint64(0); ctx.Err() == nil; i++ {
					select {
					case c = <-v.opened:
					case <-time.After(time.Second):
					}
					if c != nil {
						c.Post(unit(i), func(error) {})
					}
				}
			})
		}
		time.Sleep(2 * time.Hour)
		seen = v.lines() // before the end, which is not on a tick
		cancel()
		units = v.relay.Counts().UnitsIn + v.proxy.Counts().UnitsIn
		v.stop()
		wg.Wait()
	})
	return seen, units
}

// TestConstant: what an observer sees is the same with and without packets, over handshakes,
// rotations, answers and documents.
func TestConstant(t *testing.T) {
	idle, none := observe(t, false)
	busy, some := observe(t, true)
	if none != 0 || some < 100 {
		t.Fatalf("%d and %d units", none, some)
	}
	frames := 0
	for _, l := range idle {
		var dir string
		var conn, size int
		var at string
		if _, err := fmt.Sscan(l, &dir, &conn, &at, &size); err != nil {
			t.Fatal(err)
		}
		if size == recordRoom {
			frames++
		} else if size > recordRoom/4 {
			t.Errorf("%q is neither a frame nor of a handshake", l)
		}
	}
	if frames < 500 || !strings.Contains(idle[len(idle)-1], "up 3 ") {
		t.Fatalf("%d frames, the last line is %q", frames, idle[len(idle)-1])
	}
	if !slices.Equal(idle, busy) {
		for i := range min(len(idle), len(busy)) {
			if idle[i] != busy[i] {
				t.Fatalf("line %d of %d and %d: %q without packets, %q with", i, len(idle), len(busy), idle[i], busy[i])
			}
		}
		t.Fatalf("%d and %d lines", len(idle), len(busy))
	}
}

// TestCover: in free mode an idle tick sends JUNK, one after a frame does not; answers do
// not wait longer than answerDelay; without ticks a connection is kept alive.
func TestCover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relay := options("relay", known(t, Mix, "proxy").who, commitAll)
		proxy := options("proxy", known(t, Relay, "relay").who, commitAll)
		v := newVirtual(t, relay, proxy, func() Pace { return ticks(false, 10*time.Second) })
		<-v.opened
		synctest.Wait()
		time.Sleep(15 * time.Second) // the first tick sees HELLO as sent
		if n := v.proxy.Counts().FramesOut; n != 0 {
			t.Errorf("%d frames after the first tick", n)
		}
		time.Sleep(10 * time.Second)
		if n := v.proxy.Counts().FramesOut; n != 1 {
			t.Errorf("%d frames after an idle tick", n)
		}
		before := time.Now()
		if err := v.line.Send(context.Background(), unit(1)); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(before); d != answerDelay {
			t.Errorf("answered after %v", d)
		}
		time.Sleep(10 * time.Second)
		if n := v.proxy.Counts().FramesOut; n != 2 {
			t.Errorf("%d frames after a tick behind a unit", n)
		}
		time.Sleep(6 * time.Minute)
		if in := v.proxy.Counts().FramesIn; in != 2 { // the answer, and a JUNK of who has no ticks
			t.Errorf("%d frames from a side without ticks", in)
		}
		v.stop()
	})
}

// TestFlood: a peer that sends more than its rate is read no faster, and loses nothing.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := newRecorder()
		relay := options("relay", known(t, Client, "proxy").who, got)
		relay.ClientFrames, relay.ClientFrameBurst = 60, 10
		v := newVirtual(t, relay, options("proxy", known(t, Relay, "relay").who, commitAll), nil)
		<-v.opened
		results := make(chan error, 100)
		before := time.Now()
		for i := range uint64(100) {
			if err := v.line.Post(unit(i), func(err error) { results <- err }); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(30*time.Second + 500*time.Millisecond)
		if n := len(got.numbers(t)); n != 10+30 {
			t.Errorf("%d units in half a minute", n)
		}
		for range 100 {
			if err := <-results; err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(before); d < 89*time.Second || d > 91*time.Second {
			t.Errorf("all after %v", d)
		}
		v.stop()
	})
}

// TestBackOff: pauses double from the first to the last, each between a half and one and a
// half, and begin anew after a connection that lived.
func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries []time.Duration
		began := time.Now()
		chance := 0.0
		o := options("a", known(t, Mix, "b").who, commitAll)
		o.MinPause, o.MaxPause = time.Second, 10*time.Second
		o.Chance = func() float64 { chance = 0.75 - chance; return chance } // 0.75, 0, 0.75 …
		o.Dial = func(context.Context, string) (net.Conn, error) {
			tries = append(tries, time.Since(began))
			return nil, errors.New("refused")
		}
		l := makeLink(t, o)
		line, err := l.Line(LineOptions{Peer: Peer{Key: keyOf(t, "b")}, Addresses: func() []string { return []string{"one", "two"} }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { defer close(ended); line.Run(ctx) }()
		time.Sleep(35 * time.Second)
		cancel()
		<-ended
		ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
		// Pauses of 1.25, 2 · 0.5, 4 · 1.25, 8 · 0.5, 10 · 1.25, 10 · 0.5; two addresses a try.
		want := []time.Duration{0, 0, ms(1250), ms(1250), ms(2250), ms(2250), ms(7250), ms(7250), ms(11250), ms(11250), ms(23750), ms(23750), ms(28750), ms(28750)}
		if !slices.Equal(tries, want) {
			t.Errorf("tries at %v", tries)
		}
		if s := line.Status(); s.Connected || !errors.Is(s.Err, ErrEnded) {
			t.Errorf("%+v", s)
		}
	})
}

// TestTimes: a peer that says nothing in a handshake, stops within a frame, stops reading, does
// not answer or falls silent loses the connection after the time for it.
func TestTimes(t *testing.T) {
	for _, v := range []struct {
		name   string
		after  time.Duration
		public string
		do     func(p *rawPeer, v *virtual)
	}{
		{"silent", DefaultIdle, "the connection to the peer broke", func(p *rawPeer, _ *virtual) {
			for {
				if _, _, err := p.c.readFrame(time.Hour); err != nil {
					return
				}
			}
		}},
		{"within a head", DefaultFrameTime, "the connection to the peer broke", func(p *rawPeer, _ *virtual) {
			p.c.tls.Write([]byte{typeJunk})
			p.ends()
		}},
		{"within a body", DefaultFrameTime, "the connection to the peer broke", func(p *rawPeer, _ *virtual) {
			var b [headLen]byte
			(&head{typ: typeJunk}).put(&b)
			p.c.tls.Write(b[:])
			p.c.tls.Write(zeros[:20000])
			p.ends()
		}},
		{"does not read", DefaultFrameTime, "the connection to the peer broke", func(p *rawPeer, v *virtual) {
			(<-v.opened).Post(unit(1), func(error) {})
			<-v.done
		}},
		{"does not answer", DefaultAnswerTime, "the peer does not answer", func(p *rawPeer, v *virtual) {
			(<-v.opened).Post(unit(1), func(error) {})
			p.expect(typeSend)
			p.ends()
		}},
		{"does not leave", DefaultDrainTime, "", func(p *rawPeer, v *virtual) {
			c := <-v.opened
			c.Post(unit(1), func(error) {})
			p.expect(typeSend)
			c.goAway(awayEnding)
			if code := p.ends(); code != awayEnding {
				p.t.Errorf("told %d", code)
			}
		}},
		{"stays for too long", 2 * DefaultMaxLife, "", func(p *rawPeer, v *virtual) {
			for {
				p.send(head{typ: typeJunk}, nil)
				h, _, err := p.c.readFrame(time.Hour)
				if err != nil {
					return
				}
				if h.typ == typeGoAway {
					if h.code != awayOld {
						p.t.Errorf("told %d", h.code)
					}
					p.c.tls.Close()
					return
				}
			}
		}},
	} {
		t.Run(v.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				closed := make(chan error, 1)
				w := &virtual{wire: newWire(), opened: make(chan *Conn, 1)}
				o := options("b", known(t, Mix, "a").who, commitAll)
				o.Opened = func(c *Conn) { w.opened <- c }
				o.Closed = func(_ *Conn, err error) { closed <- err }
				b := makeLink(t, o)
				ctx, cancel := context.WithCancel(context.Background())
				var wg sync.WaitGroup
				wg.Go(func() { b.Serve(ctx, w.wire) })
				nc, err := w.dial(ctx, "")
				if err != nil {
					t.Fatal(err)
				}
				p := rawOver(t, nc, "a", "b")
				before := time.Now()
				wg.Go(func() { v.do(p, w) })
				err = <-closed
				if (err == nil) != (v.public == "") || err != nil && errs.Public(err) != v.public {
					t.Errorf("%v", err)
				}
				if d := time.Since(before); d < v.after || d > v.after+2*farewellTime {
					t.Errorf("after %v, want %v", d, v.after)
				}
				nc.Close()
				cancel()
				w.Close()
				wg.Wait()
			})
		})
	}
	t.Run("handshake", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWire()
			b := makeLink(t, options("b", known(t, Mix, "a").who, commitAll))
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- b.Serve(ctx, w) }()
			nc, err := w.dial(ctx, "")
			if err != nil {
				t.Fatal(err)
			}
			before := time.Now()
			nc.Read(make([]byte, 1))
			if d := time.Since(before); d != DefaultHandshakeTime {
				t.Errorf("after %v", d)
			}
			cancel()
			<-ended
		})
	})
}

// TestLife: a connection is replaced after a time between MinLife and MaxLife.
func TestLife(t *testing.T) {
	for chance, want := range map[float64]time.Duration{0: DefaultMinLife, 0.5: (DefaultMinLife + DefaultMaxLife) / 2} {
		synctest.Test(t, func(t *testing.T) {
			proxy := options("proxy", known(t, Relay, "relay").who, commitAll)
			proxy.Chance = func() float64 { return chance }
			v := newVirtual(t, options("relay", known(t, Client, "proxy").who, commitAll), proxy, nil)
			<-v.opened
			before := time.Now()
			<-v.opened
			if d := time.Since(before); d != want {
				t.Errorf("replaced after %v, want %v", d, want)
			}
			v.stop()
		})
	}
}
