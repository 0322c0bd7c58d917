package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/kit/racetest"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
	"postern.email/mixnet/pool"
	"postern.email/mixnet/replay"
)

// TestOptions: what does not fit together is refused with a text that says so.
func TestOptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, time.Hour)
		relay := w.add("relay0", directory.Relay|directory.Mailbox)
		relay.open()
		must(t, relay.Close())
		for what, tc := range map[string]struct {
			change func(*Options)
			text   string
		}{
			"no keys":                  {func(o *Options) { o.Keys = nil }, publicMissing},
			"no mode":                  {func(o *Options) { o.About.Mode = 0 }, publicMissing},
			"a mailbox without boxes":  {func(o *Options) { o.Boxes = nil }, publicBoxes},
			"boxes and no mailbox":     {func(o *Options) { o.About.Mode = directory.Relay }, publicBoxes},
			"exits and no end":         {func(o *Options) { o.About.Mode, o.Boxes, o.Exits = directory.Relay, nil, relay.exits }, publicBoxes},
			"services and no end":      {func(o *Options) { o.About.Mode, o.Boxes, o.Services = directory.Relay, nil, &services{} }, publicBoxes},
			"an exit without exits":    {func(o *Options) { o.About.Mode |= directory.Exit }, publicBoxes},
			"a rate below zero":        {func(o *Options) { o.ServiceRate = -1 }, "invalid"},
			"clients and no relay":     {func(o *Options) { o.About.Mode = directory.Mailbox }, publicClients},
			"a relay with rounds":      {func(o *Options) { o.Mixing = pool.Default(pool.Timed) }, publicMixing},
			"a pool without intervals": {func(o *Options) { o.Mixing = pool.Config{Algorithm: pool.Timed} }, "the mix interval must be longer than zero"},
			"a log of its own":         {func(o *Options) { o.Log.Secret = []byte{1} }, "invalid"},
		} {
			o := relay.Node.o
			o.Log, o.Pool, o.Link = replay.Options{}, pool.Options{}, link.Options{}
			tc.change(&o)
			_, err := New(o)
			wantKind(t, what, err, errs.Invalid)
			if got := errs.Public(err); got != tc.text {
				t.Errorf("%s: %q", what, got)
			}
		}
		// The log is of one node at a time, and Run is called once.
		relay.open()
		if _, err := New(relay.Node.o); err == nil {
			t.Error("two nodes over one log")
		}
		relay.run()
		synctest.Wait()
		wantKind(t, "Run again", relay.Run(t.Context(), w.wires.listen("again")), errs.Conflict)
		relay.stop()
		must(t, relay.Close())
	})
}

// failing is a listener that fails.
type failing struct{ err error }

func (f failing) Accept() (net.Conn, error) { return nil, f.err }
func (f failing) Close() error              { return nil }
func (f failing) Addr() net.Addr            { return &net.UnixAddr{} }

// TestListenerFails: a node whose listener is gone ends and says so.
func TestListenerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, time.Hour)
		m := w.add("mix0", directory.Mix)
		m.open()
		err := m.Run(t.Context(), failing{net.ErrClosed})
		wantKind(t, "Run", err, errs.Unavailable)
	})
}

// TestStatus: what an operator sees of the queue, and what makes the node weak.
func TestStatus(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, alice *client) {
		relay0, relay1 := w.members["relay0"], w.members["relay1"]
		r := w.route(relay0, relay1, time.Hour)
		alice.send(t, w.build(r, packet.Dest{Command: packet.Deliver}, packet.Content{}))
		views := slices.Collect(relay0.Queue())
		if len(views) != 1 || views[0].State != replay.Message || packet.ID(views[0].Next) != w.layer(1).ID() {
			t.Errorf("%+v", views)
		}
		has := func(m *member, part string) bool {
			return slices.ContainsFunc(m.Insecurities(), func(s string) bool { return strings.Contains(s, part) })
		}
		if !has(relay0, "what the role knows") || !has(relay0, "layer 2 of the network has one mix") || has(relay0, "relay: all senders") {
			t.Errorf("%q", relay0.Insecurities())
		}
		if mix := w.layer(1); !has(mix, "Timed sends everything") || has(mix, "directory") {
			t.Errorf("%q", mix.Insecurities())
		}
		wait(4 * time.Hour) // nobody makes another consensus
		if s := relay0.Status(); !has(relay0, "no valid directory") || s.Directory == nil || s.Epoch == 0 {
			t.Errorf("%q, %+v", relay0.Insecurities(), s)
		}
	}, func(w *world) {
		w.members["relay0"].tune = func(o *Options) { o.Insecure = []string{"what the role knows"} }
		for _, name := range []string{"mix0", "mix1", "mix2"} {
			w.members[name].tune = poolOf(pool.Default(pool.Timed))
		}
		w.set(directory.Pools, 1)
	})
}

// TestGuard: addresses that are not allowed get no connection, in neither direction.
func TestGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, time.Hour)
		m := w.add("mix0", directory.Mix)
		m.open()
		defer m.Close()
		s := *m.settings()
		s.PeerOk = func(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.1") }
		s.DialOk = func(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.2") }
		m.set.Store(&s)
		from := func(ip string) *addressed {
			a, b := net.Pipe()
			t.Cleanup(func() { a.Close(); b.Close() })
			return &addressed{Conn: a, addr: &net.TCPAddr{IP: net.ParseIP(ip), Port: 1}}
		}
		e := &ear{conns: make(chan net.Conn, 2), done: make(chan struct{})}
		bad, good := from("192.0.2.9"), from("::ffff:192.0.2.1")
		e.conns <- bad
		e.conns <- good
		c, err := m.guard(e).Accept()
		if err != nil || c.(*bounded).Conn != net.Conn(good) || !bad.closed || m.stats.get("Dropped address") != 1 {
			t.Errorf("%v, %v", err, bad.closed)
		}
		// Behind a proxy the address is the one that the role knows.
		m.Node.o.Link.PeerOf = func(c net.Conn) limits.Peer { return limits.Peer{Addr: netip.MustParseAddr("192.0.2.1")} }
		e.conns <- from("192.0.2.9")
		if c, err = m.guard(e).Accept(); err != nil || c.(interface{ NetConn() net.Conn }).NetConn() == nil {
			t.Errorf("%v", err)
		}
		for ip, ok := range map[string]bool{"192.0.2.1": false, "192.0.2.2": true} {
			conn := from(ip)
			m.Node.o.Dial = func(context.Context, string) (net.Conn, error) { return conn, nil }
			_, err := m.Node.dial(t.Context(), "x:1")
			if (err == nil) != ok || conn.closed == ok {
				t.Errorf("%s: %v", ip, err)
			}
			if !ok {
				wantKind(t, ip, err, errs.Denied)
			}
		}
	})
}

// addressed is a connection with an address.
type addressed struct {
	net.Conn
	addr   net.Addr
	closed bool
}

func (a *addressed) RemoteAddr() net.Addr { return a.addr }
func (a *addressed) Close() error         { a.closed = true; return a.Conn.Close() }

// TestGuardDialsOut: the address that a name resolves to is judged, on real sockets too.
func TestGuardDialsOut(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	for _, ok := range []bool{true, false} {
		n := &Node{rate: newBandwidth(Bandwidth{})}
		n.set.Store(&Settings{DialOk: func(a netip.Addr) bool { return ok && a.IsLoopback() }})
		c, err := n.dial(t.Context(), ln.Addr().String())
		if (err == nil) != ok {
			t.Errorf("allowed %v: %v", ok, err)
		}
		if err == nil {
			c.Close()
		} else if !strings.Contains(err.Error(), publicDial) {
			t.Errorf("%v", err)
		}
	}
}

// TestBandwidth: what goes over all connections together is not more than allowed, after the
// first spike; a connection that is closed waits no longer.
func TestBandwidth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newBandwidth(Bandwidth{Rate: 100_000, Spike: 200_000})
		var all []net.Conn
		began := time.Now()
		done := make(chan int64, 2)
		for range 2 {
			a, b := net.Pipe()
			c := w.wrap(a)
			all = append(all, c, b)
			go func() {
				n, _ := io.Copy(io.Discard, b)
				done <- n
			}()
		}
		send := make(chan error, 2)
		for i := range 2 {
			go func() {
				for range 25 {
					if _, err := all[2*i].Write(make([]byte, 20_000)); err != nil {
						send <- err
						return
					}
				}
				send <- nil
			}()
		}
		must(t, <-send)
		must(t, <-send)
		if d := time.Since(began).Round(time.Millisecond); d != 8*time.Second { // (1,000,000 − 200,000) / 100,000
			t.Errorf("it took %v", d)
		}
		w.set(Bandwidth{})
		began = time.Now()
		_, err := all[0].Write(make([]byte, 1_000_000))
		must(t, err)
		if d := time.Since(began); d != 0 {
			t.Errorf("without a bound it took %v", d)
		}
		w.set(Bandwidth{Rate: 1})
		go func() {
			_, err := all[0].Write(make([]byte, 1_000_000))
			send <- err
		}()
		synctest.Wait()
		must(t, all[0].Close())
		if err := <-send; err == nil || time.Since(began) != 0 {
			t.Errorf("closing gave %v after %v", err, time.Since(began))
		}
		for _, c := range all {
			c.Close()
		}
		<-done
		<-done
	})
}

// neighbourOf lets a test be the node that a member is, towards another.
func (w *world) neighbourOf(as, to *member) *client {
	w.t.Helper()
	peer := link.Peer{Key: nameOf(w.t, to.keys.Link()), Role: link.Mix}
	c := &client{got: make(chan []byte, 1)}
	var err error
	c.Link, err = link.New(link.Options{Key: as.keys.Link(), Who: func(k link.Key) (link.Peer, bool) { return peer, k == peer.Key }, Handler: c, Dial: w.wires.dialer("test")})
	must(w.t, err)
	c.line, err = c.Link.Line(link.LineOptions{Peer: peer, Addresses: func() []string { return []string{to.name + ":1"} }})
	must(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.line.Run(ctx) }()
	c.end = func() { cancel(); <-done }
	return c
}

// TestAnswerTimes: a packet that is dropped and one that is known are answered when a fresh one
// would be.
func TestAnswerTimes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, _ *client) {
		mix := w.layer(1)
		c := w.neighbourOf(w.members["relay0"], mix)
		defer c.end()
		drop := func() []byte {
			return w.build(packet.Route{First: 1, Hops: []packet.Hop{mix.hop(0)}}, packet.Dest{Command: packet.Drop}, packet.Content{})
		}
		took := func(u []byte) time.Duration {
			began := time.Now()
			c.send(t, u)
			return time.Since(began)
		}
		took(drop()) // connects
		wait(time.Minute)
		u := drop()
		fresh := took(bytes.Clone(u))
		known := took(u)
		u = drop()
		u[1000] ^= 1
		broken := took(u)
		if fresh < 20*time.Millisecond || known != fresh || broken != fresh {
			t.Errorf("fresh %v, known %v, broken %v", fresh, known, broken)
		}
	}, func(w *world) {
		for _, name := range []string{"mix0", "mix1", "mix2"} {
			m := w.members[name]
			m.fs = slow(m.disk)
		}
	})
}

// TestNoBufferPerHop: no memory of the size of a packet is allocated for a packet that passes
// through, neither from nor to the links, nor for the log.
func TestNoBufferPerHop(t *testing.T) {
	if racetest.Enabled {
		t.Skip("the race detector allocates")
	}
	bubble(t, func(t *testing.T, w *world, _ *client) {
		relay0, mix := w.members["relay0"], w.layer(1)
		c := w.neighbourOf(relay0, mix)
		defer c.end()
		w.layer(2).stop() // what has passed the mix waits there
		next := w.layer(2)
		l, err := link.New(link.Options{Key: next.keys.Link(), Handler: dropAll{}, Who: mix.whoIs(relay0)})
		must(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error, 1)
		ln := w.wires.listen(next.name)
		go func() { served <- l.Serve(ctx, ln) }()
		const packets = 400
		units := make([][]byte, 2*packets)
		for i := range units {
			units[i] = w.build(packet.Route{First: 1, Hops: []packet.Hop{mix.hop(time.Second), next.hop(0)}}, packet.Dest{Command: packet.Drop}, packet.Content{})
		}
		pass := func(units [][]byte) uint64 {
			// A collection in between would empty the pools of buffers, and what is made anew then is
			// not what a packet costs.
			defer debug.SetGCPercent(debug.SetGCPercent(-1))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for i := 0; i < len(units); i += 50 {
				for _, u := range units[i : i+50] {
					must(t, c.line.Post(u, func(error) {}))
				}
				wait(20 * time.Second)
			}
			runtime.ReadMemStats(&after)
			return (after.TotalAlloc - before.TotalAlloc) / uint64(len(units))
		}
		wait(10 * time.Minute)
		pass(units[:packets])
		// What the log writes at once is gathered in a buffer that grows with the largest group so far: when a
		// busy machine makes a larger one, that is seen in one pass. So the least of several counts.
		got := uint64(1 << 40)
		for part := range slices.Chunk(units[packets:], packets/4) {
			got = min(got, pass(part))
		}
		t.Logf("%d bytes are allocated for a packet that passes, at sender, mix and receiver together", got)
		if got > packet.Size/2 {
			t.Errorf("%d bytes are allocated for a packet", got)
		}
		if s := mix.Status(); s.Log.Waiting != 0 || s.Pool.Sent != 2*packets {
			t.Errorf("%+v", s.Pool)
		}
		cancel()
		must(t, <-served)
	}, func(w *world) {
		for _, name := range []string{"mix0", "mix1", "mix2"} {
			w.members[name].onDisk(t.TempDir()) // a disk in memory allocates what is written
		}
	})
}

// dropAll takes everything.
type dropAll struct{}

func (dropAll) Take(_ context.Context, _ link.Peer, _ []byte, r link.Receipt) { r.Commit() }

// whoIs knows all nodes that other knows.
func (m *member) whoIs(other *member) func(link.Key) (link.Peer, bool) {
	return func(k link.Key) (link.Peer, bool) { return other.who(k) }
}

// TestNoDirectory: a node that has started without a valid directory puts off what comes, as it
// cannot tell what is right, and takes it when it has one.
func TestNoDirectory(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, alice *client) {
		relay0, relay1 := w.members["relay0"], w.members["relay1"]
		relay0.stop()
		wait(4 * time.Hour)
		relay0.open()
		relay0.run()
		u := w.letter(relay0, relay1, packet.ID{}, "x")
		answer := make(chan error, 1)
		must(t, alice.line.Post(bytes.Clone(u), func(err error) { answer <- err }))
		if err := <-answer; !errors.Is(err, link.ErrLater) {
			t.Errorf("without a directory: %v", err)
		}
		if relay0.Status().Directory == nil {
			t.Error("Status says nothing")
		}
		w.agree(w.net.Epoch(time.Now()))
		w.give()
		wait(10 * time.Minute)
		alice.send(t, w.letter(relay0, relay1, packet.ID{}, "x"))
		wait(10 * time.Minute)
		if got := texts(t, relay1.boxes.list()); got["x"] != 1 {
			t.Errorf("%v", got)
		}
	})
}

// TestSources: a node without a directory asks the authorities first.
func TestSources(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, _ *client) {
		relay0 := w.members["relay0"]
		if got := relay0.Sources(); len(got) != 2 || got[len(got)-1] != relay0.authorities[0].line {
			t.Errorf("%d sources", len(got))
		}
		b, err := directory.AppendRequest(nil, directory.Request{Kind: directory.RequestConsensus})
		must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		got, err := relay0.Sources()[0].Fetch(ctx, b)
		if err != nil || !bytes.Equal(got, w.last.Bytes()) {
			t.Errorf("a neighbour gives %d bytes, %v", len(got), err)
		}
		wait(4 * time.Hour)
		if got := relay0.Sources(); got[0] != relay0.authorities[0].line {
			t.Error("without a valid directory the authorities come first")
		}
	})
}

// TestDocuments: what the directory does not know is asked of the role.
func TestDocuments(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, alice *client) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		got, err := alice.line.Fetch(ctx, []byte("something else\n"))
		if err != nil || string(got) != "answer to something else\n" {
			t.Errorf("%q, %v", got, err)
		}
	}, func(w *world) {
		w.members["relay0"].tune = func(o *Options) {
			o.Documents = func(_ context.Context, from link.Peer, r []byte) ([]byte, error) {
				if from.Role != link.Client {
					return nil, errors.New("who is that")
				}
				return append([]byte("answer to "), r...), nil
			}
		}
	})
}

// TestClientRate: clients may send as the clocks of the consensus let them, and a tenth more.
func TestClientRate(t *testing.T) {
	for _, tc := range []struct {
		p    directory.Parameters
		want int
	}{{directory.ProfileFull(), 11}, {directory.ProfileLow(), 2}, {nil, 2}} {
		if got := clientFrames(tc.p); got != tc.want {
			t.Errorf("%d frames a minute, want %d", got, tc.want)
		}
	}
}

// FuzzJudge gives the node arbitrary units: whatever comes, it says one of the known reasons or
// keeps a body of the right size, and never more than it was given.
func FuzzJudge(f *testing.F) {
	w := newWorld(f, time.Hour)
	for _, name := range []string{"mix0", "mix1", "mix2"} {
		w.add(name, directory.Mix)
	}
	relay := w.add("relay0", directory.Relay|directory.Mailbox)
	w.agree(w.net.Epoch(time.Now()))
	relay.open()
	defer relay.Close()
	must(f, relay.cache.Put(w.last.Bytes()))
	relay.look()
	units := [][]byte{
		w.letter(relay, relay, packet.ID{1}, "x"),
		w.build(packet.Route{First: packet.Last, Hops: []packet.Hop{relay.hop(0)}}, packet.Dest{Command: packet.Deliver, Mailbox: packet.ID{2}}, packet.Content{}),
		w.build(packet.Route{First: packet.Last, Hops: []packet.Hop{relay.hop(0)}}, packet.Dest{Command: packet.Exit}, packet.Content{}),
		w.build(packet.Route{First: packet.Last, Hops: []packet.Hop{relay.hop(0)}}, packet.Dest{Command: packet.Ping, Mark: packet.Mark{1}}, packet.Content{}),
	}
	whys := []string{"", whyForm, whyLayer, whyKey, whyHeader, whyRouting, whyDelay, whyNext, whyEnd}
	sizes := map[uint8]int{0: 0, useForward: packet.SizeAt(1), useDeliver: endLen, useReply: endLen, useExit: endLen}
	for i := range units {
		f.Add(i, 0, []byte{})
		f.Add(i, 2, []byte{1})
		f.Add(i, 16, []byte("enc"))
		f.Add(i, packet.Size-4, []byte("last"))
	}
	f.Add(0, 0, bytes.Repeat([]byte{1}, packet.Size+1))
	f.Fuzz(func(t *testing.T, which, at int, over []byte) {
		u := bytes.Clone(units[uint(which)%uint(len(units))])
		if at >= 0 && at < len(u) {
			u = append(u[:at], append(over, u[min(len(u), at+len(over)):]...)...)
		}
		var o outcome
		why := relay.judge(u, link.Peer{Role: link.Relay}, &o)
		if !slices.Contains(whys, why) {
			t.Fatalf("%q", why)
		}
		if why == "" {
			if want, ok := sizes[o.record.Use]; !ok || len(o.record.Body) != want {
				t.Errorf("use %d with %d bytes", o.record.Use, len(o.record.Body))
			}
			if len(o.record.Body) > 0 && len(u) > 0 && &o.record.Body[:cap(o.record.Body)][cap(o.record.Body)-1] != &u[:cap(u)][cap(u)-1] {
				t.Error("the body does not lie in the unit")
			}
		}
	})
}
