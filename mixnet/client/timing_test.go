package client

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	crvfs "github.com/cockroachdb/pebble/v2/vfs"

	"postern.email/kit/stattest"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
)

// frameOnWire is what a frame is on the wire (docs/link.md §3).
const frameOnWire = 32_898

// tap stands on the line and notes when how many bytes of the client have come by.
type tap struct {
	net.Listener
	to string

	mu    sync.Mutex
	at    []time.Time
	total []int64 // up to then
}

func newTap(t *testing.T, to string) *tap {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &tap{Listener: l, to: to}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.carry(c) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return p
}

func (p *tap) carry(c net.Conn) {
	defer c.Close()
	r, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer r.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(c, r)
		c.Close()
	}()
	defer func() { <-done }()
	defer r.Close()
	b := make([]byte, 1<<17)
	sum := int64(0)
	for {
		n, err := c.Read(b)
		now := time.Now()
		sum += int64(n)
		p.mu.Lock()
		p.at, p.total = append(p.at, now), append(p.total, sum)
		p.mu.Unlock()
		if _, werr := r.Write(b[:n]); err != nil || werr != nil {
			return
		}
	}
}

// frames is how many have come by, and the times between them. What is before them, the handshake, is
// what is left of all bytes.
func (p *tap) frames() (n int, between []float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.total) == 0 {
		return 0, nil
	}
	last := p.total[len(p.total)-1]
	next := last%frameOnWire + frameOnWire
	var before time.Time
	for i, total := range p.total {
		for ; total >= next; next += frameOnWire {
			if n++; !before.IsZero() {
				between = append(between, p.at[i].Sub(before).Seconds())
			}
			before = p.at[i]
		}
	}
	return n, between
}

// leaky is a connection that holds frames with mail back, as a fault of the program might.
type leaky struct {
	net.Conn
	mail *atomic.Int64 // frames with mail that are to come; nil: all are
	by   time.Duration
}

func (l *leaky) Write(b []byte) (int, error) {
	if len(b) >= packet.Size && (l.mail == nil || l.mail.Load() > 0) {
		if l.mail != nil {
			l.mail.Add(-1)
		}
		t := time.NewTimer(l.by)
		<-t.C
	}
	return l.Conn.Write(b)
}

// swallow is a relay that takes everything.
type swallow struct{}

func (swallow) Take(_ context.Context, _ link.Peer, _ []byte, r link.Receipt) { r.Commit() }

// timing is how a client is to be watched.
type timing struct {
	frames int
	seed   uint64
	mail   bool          // there always is some to be sent
	leak   time.Duration // frames with mail are late by that much
	all    bool          // the leak is in all frames, as if there were mail in each
}

// timed runs a client until so many frames have come by, and gives the times between them.
func timed(t *testing.T, p directory.Parameters, o timing) []float64 {
	id, err := NewIdentity(testDir(t), "dir", rngReader{rng(o.seed)})
	must(t, err)
	key, err := link.KeyOf(id.Link.Public().(ed25519.PublicKey))
	must(t, err)
	name := sha256.Sum256([]byte("relay's link"))
	relay, err := link.New(link.Options{Key: ed25519.NewKeyFromSeed(name[:]), Handler: swallow{}, ClientFrames: 1 << 20, ClientFrameBurst: 1 << 20,
		Who:  func(k link.Key) (link.Peer, bool) { return link.Peer{Key: k, Role: link.Client}, k == key },
		Pace: func(link.Peer) link.Pace { return fixedPace(50 * time.Millisecond) }})
	must(t, err)
	at, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { relay.Serve(ctx, at) })
	tap := newTap(t, at.Addr().String())
	store, err := OpenStore(testDir(t), "dir", id, StoreLimits{}, nil, clock())
	must(t, err)
	var made atomic.Int64
	cons := usual(t, 2)
	cons.Parameters = p
	c, err := New(Options{Store: store, Relay: FindNode(cons, "relay0").ID, Mailbox: packet.ID{1}, Peer: relay.Key(),
		Consensus: func() (*directory.Consensus, error) { return cons, nil }, Parameters: func() directory.Parameters { return p },
		Addresses: func() []string { return []string{tap.Addr().String()} }, Now: clock(), Clock: rng(o.seed),
		Chosen: func(string, int, Way) { made.Add(1) },
		Link: link.Options{Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
			if err == nil && o.leak > 0 {
				late := &leaky{raw, &made, o.leak}
				if o.all {
					late.mail = nil
				}
				raw = late
			}
			return raw, err
		}}})
	must(t, err)
	wg.Go(func() {
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer wg.Wait()
	defer cancel()
	sealed, err := letter.Seal(id.Letter.Public(), letter.Message{Content: []byte(text("mail", 400_000))}, letter.Options{Room: letter.RoomPlain, Coded: true})
	must(t, err)
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		s := c.Status()
		if o.mail && s.Waiting < 2 {
			_, err := store.Queue(Outgoing{Kind: content.Letter, Relay: FindNode(cons, "relay1").ID, Mailbox: packet.ID{2}, Bodies: sealed.Bodies})
			must(t, err)
			c.Poke()
		}
		// A machine with too much to do makes no packets in time, and empty frames leave.
		if got, between := tap.frames(); got > o.frames && (!o.mail || s.Sent >= o.frames/10 || got > 3*o.frames) {
			return between[len(between)-o.frames:]
		}
		<-look.C
	}
}

// testDir is a disk in memory with a directory.
func testDir(t *testing.T) *crvfs.MemFS {
	fs := crvfs.NewMem()
	must(t, fs.MkdirAll("dir", 0o700))
	return fs
}

// makingTime is how long a packet takes to make here and now.
func makingTime(t *testing.T) time.Duration {
	cons := usual(t, 1)
	const packets = 10
	begun := time.Now()
	for range packets {
		way, err := Pick(cons, begin, rng(1), ways(t, cons))
		must(t, err)
		_, err = packet.Build(nil, way.Route(), packet.Dest{Command: packet.Drop}, packet.Content{}, rngReader{rng(1)})
		must(t, err)
	}
	return time.Since(begun) / packets
}

// TestTiming: on real sockets and with a real clock the times between frames do not tell whether
// there is mail: those with and without it are of one distribution, as far as that many frames can
// tell; and the same test finds a client that sends late what holds mail. With POSTERN_LONG=1, on a
// machine that has nothing else to do: 10,000 frames, and 5 ms late. Else few frames, at a pace at
// which this machine makes packets now, and a leak that is as large as the times themselves.
//
// Two samples of one distribution look different once in 1,000 times: three times in a row is
// no chance.
func TestTiming(t *testing.T) {
	long := os.Getenv("POSTERN_LONG") == "1"
	n, late, mean := 10_000, 10_000, 4*time.Millisecond
	if !long {
		n, late, mean = 100, 50, min(max(16*makingTime(t), mean), 50*time.Millisecond)
	}
	var p directory.Parameters
	for _, v := range []struct {
		name  string
		times float64
	}{{directory.DropInterval, 10}, {directory.LoopInterval, 10}, {directory.PayloadInterval, 1.25}} {
		p = append(p, directory.Parameter{Name: v.name, Value: uint64(v.times * float64(mean) / float64(time.Millisecond))})
	}
	const chance, certain = 1e-3, 1e-6
	honest, found := false, false
	for try := range uint64(3) {
		var idle, busy []float64
		var wg sync.WaitGroup
		wg.Go(func() { idle = timed(t, p, timing{frames: n, seed: 10 * try}) })
		wg.Go(func() { busy = timed(t, p, timing{frames: n, seed: 10*try + 1, mail: true}) })
		wg.Wait()
		leak := timing{frames: late, seed: 10*try + 2, mail: true, leak: 5 * time.Millisecond}
		if !long {
			leak.mail, leak.all, leak.leak = false, true, time.Duration(2e9*average(idle))
		}
		d, pHonest := stattest.TwoSamples(idle, busy)
		dLeak, pLeak := stattest.TwoSamples(idle, timed(t, p, leak))
		t.Logf("%d frames, one in %v: with and without mail D %.4f, p %.3g; with a leak of %v D %.4f, p %.3g", n, mean, d, pHonest, leak.leak, dLeak, pLeak)
		honest, found = honest || pHonest > chance, found || pLeak < certain
		if honest && found {
			return
		}
	}
	if !honest {
		t.Error("the times between frames tell whether there is mail")
	}
	if !found {
		t.Error("a leak is not found")
	}
}

func average(sample []float64) (mean float64) {
	for _, x := range sample {
		mean += x / float64(len(sample))
	}
	return mean
}
