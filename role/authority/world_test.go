package authority

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/kit/config"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ether is a network in memory, for virtual time. Ways can be cut.
type ether struct {
	mu    sync.Mutex
	doors map[string]*door
	cut   func(from, to string) bool
	conns map[*crossing]bool
}

// crossing is an open connection.
type crossing struct {
	from, to string
	ends     [2]net.Conn
}

func newEther() *ether {
	return &ether{doors: map[string]*door{}, conns: map[*crossing]bool{}, cut: func(string, string) bool { return false }}
}

type door struct {
	e    *ether
	addr string
	in   chan net.Conn
	done chan struct{}
	once sync.Once
}

type etherAddr string

func (a etherAddr) Network() string { return "ether" }
func (a etherAddr) String() string  { return string(a) }

func (e *ether) listen(_, addr string) (net.Listener, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := &door{e: e, addr: addr, in: make(chan net.Conn), done: make(chan struct{})}
	e.doors[addr] = d
	return d, nil
}

func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.in:
		return c, nil
	case <-d.done:
		return nil, net.ErrClosed
	}
}

func (d *door) Close() error {
	d.once.Do(func() {
		close(d.done)
		d.e.mu.Lock()
		if d.e.doors[d.addr] == d {
			delete(d.e.doors, d.addr)
		}
		d.e.mu.Unlock()
	})
	return nil
}

func (d *door) Addr() net.Addr { return etherAddr(d.addr) }

// dial connects as somebody.
func (e *ether) dial(from string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		e.mu.Lock()
		d, cut := e.doors[addr], e.cut(from, addr)
		e.mu.Unlock()
		if d == nil || cut {
			return nil, errs.E("ether", errs.Unavailable, "nobody is there", nil)
		}
		a, b := net.Pipe()
		select {
		case d.in <- b:
			e.mu.Lock()
			e.conns[&crossing{from, addr, [2]net.Conn{a, b}}] = true
			e.mu.Unlock()
			return a, nil
		case <-d.done:
		case <-ctx.Done():
		}
		a.Close()
		b.Close()
		return nil, errs.E("ether", errs.Unavailable, "nobody answers", nil)
	}
}

// setCut changes which ways are cut, and ends what goes over them.
func (e *ether) setCut(cut func(from, to string) bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cut = cut
	for c := range e.conns {
		if cut(c.from, c.to) {
			c.ends[0].Close()
			c.ends[1].Close()
			delete(e.conns, c)
		}
	}
}

// world is some authorities of one network, each with its own disk.
type world struct {
	t      testing.TB
	ether  *ether
	period time.Duration
	file   []byte // the network file
	net    *directory.Network
	all    []*authority
	nodes  []*someNode // that were admitted: they publish again now and then
}

type authority struct {
	addr string
	disk *vfs.CrashDisk
	fs   vfs.FS // over the disk
	c    Config
	d    Deps
	*Server
}

const networkPath = "/etc/network"

// newWorld makes authorities; none runs yet.
func newWorld(t testing.TB, n int, period time.Duration) *world {
	t.Helper()
	w := &world{t: t, ether: newEther(), period: period}
	var parts []*directory.Network
	for i := range n {
		a := &authority{addr: fmt.Sprintf("auth%d:1", i), disk: vfs.NewCrashDisk()}
		a.fs = a.disk
		must(t, config.Load(&a.c, "", []string{"dir=/data", "network=" + networkPath, "listen.link=127.0.0.1:0"}))
		a.c.Listen.Link = a.addr
		a.d = Deps{FS: a.disk, Listen: w.ether.listen, Dial: w.ether.dial(a.addr), NoControl: true, Rand: rand.NewChaCha8(sha256.Sum256([]byte(a.addr))),
			Chance: func() float64 { return 0.5 }, Logger: slog.New(slog.NewTextHandler(testWriter{t, a.addr}, &slog.HandlerOptions{Level: slog.LevelError}))}
		part, made, err := Init(t.Context(), a.c, a.d, "test.net", period, []string{a.addr})
		must(t, err)
		if !made {
			t.Fatal("no keys were made")
		}
		parts = append(parts, part)
		w.all = append(w.all, a)
	}
	var err error
	w.net, err = directory.JoinNetworks(parts...)
	must(t, err)
	w.file = w.net.Bytes()
	for _, a := range w.all {
		must(t, vfs.MkdirAll(a.disk, "/etc", 0o755))
		must(t, vfs.WriteFileAtomic(a.disk, networkPath, w.file, 0o644))
	}
	return w
}

// testWriter writes a log into the test's.
type testWriter struct {
	t    testing.TB
	name string
}

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s: %s", w.name, b[:max(len(b)-1, 0)])
	return len(b), nil
}

func (w *world) start(list ...int) {
	w.t.Helper()
	for i, a := range w.all {
		if len(list) > 0 && !slices.Contains(list, i) {
			continue
		}
		a.d.FS = a.fs
		var err error
		a.Server, err = Start(w.t.Context(), a.c, a.d)
		must(w.t, err)
	}
}

func (w *world) stop(list ...int) {
	for i, a := range w.all {
		if a.Server != nil && (len(list) == 0 || slices.Contains(list, i)) {
			a.Close()
			a.Server = nil
		}
	}
}

// until lets time pass up to a part of the epoch before one, in eighths of a period. The nodes
// publish before.
func (w *world) until(epoch uint64, eighths float64) {
	w.t.Helper()
	for _, n := range w.nodes {
		key, d := n.linkKey(w.t), n.descriptor(w.t, time.Now()).Bytes() // signatures are costly
		for _, a := range w.all {
			if a.Server != nil {
				_, err := a.core.publish(key, d)
				must(w.t, err)
			}
		}
	}
	at := w.net.Begin(epoch - 1).Add(time.Duration(eighths * float64(w.period) / 8))
	if d := time.Until(at); d > 0 {
		<-time.After(d)
	}
}

// next is the first epoch that is not voted on yet.
func (w *world) next() uint64 {
	e := w.net.Epoch(time.Now()) + 1
	if w.net.PhaseAt(e, time.Now()) != directory.Collect {
		e++
	}
	return e
}

// consensus gives what an authority gives out as its newest, nil if there is none.
func (a *authority) consensus(t testing.TB) *directory.Consensus {
	t.Helper()
	b := a.core.consensus(0)
	if b == nil {
		return nil
	}
	c, err := directory.ParseConsensus(b)
	must(t, err)
	return c
}

// agreed checks that the authorities have one consensus of the epoch, which verifies, and gives it.
func (w *world) agreed(epoch uint64, list ...int) *directory.Consensus {
	w.t.Helper()
	var out *directory.Consensus
	for i, a := range w.all {
		if len(list) > 0 && !slices.Contains(list, i) {
			continue
		}
		c := a.consensus(w.t)
		if c == nil || c.Epoch != epoch {
			var have uint64
			if c != nil {
				have = c.Epoch
			}
			for j, o := range w.all {
				w.t.Logf("authority %d (%s) has of epoch %d: %s", j, shortID(o.core.self), epoch, o.core.inventory(epoch))
			}
			w.t.Fatalf("authority %d has no consensus of epoch %d, but of %d: %+v", i, epoch, have, a.Status().Agreement)
		}
		if _, err := directory.Verify(w.net, c, nil, c.ValidAfter()); err != nil {
			w.t.Fatal(err)
		}
		if out != nil && out.Hash() != c.Hash() {
			w.t.Fatalf("authority %d has another consensus of epoch %d", i, epoch)
		}
		out = c
	}
	return out
}

// inventory tells in short what is here of an agreement.
func (c *core) inventory(epoch uint64) (out string) {
	for _, d := range c.documents(epoch) {
		if id, ok := authorityOf(d); ok && kindOf(d) != kindConsensus {
			out += fmt.Sprintf(" %s %x-%s", kindOf(d), id[:2], directory.HashOf(d).String()[:4])
			if e, err := directory.ParseEndorsement(c.net, d); err == nil {
				out += fmt.Sprintf("(%s of %d votes, %d reveals)", e.Consensus.String()[:4], len(e.Votes), len(e.Reveals))
			}
		}
	}
	return out
}

// proofList reads the proofs from the disk.
func (c *core) proofList() (out []*directory.Proof) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.disk.proofs(c.net, func(_ string, p *directory.Proof, err error) {
		if err == nil {
			out = append(out, p)
		}
	})
	return out
}

// someNode is a node of the network.
type someNode struct {
	name string
	id   *directory.PrivateKey
	link ed25519.PrivateKey
	key  *packet.PrivateKey
	mode directory.Mode
}

var nodeKeys sync.Map // name to *someNode: keys are costly

func newNode(t testing.TB, name string, mode directory.Mode) *someNode {
	t.Helper()
	if n, ok := nodeKeys.Load(name); ok {
		n := *n.(*someNode)
		n.mode = mode
		return &n
	}
	a, b := sha256.Sum256([]byte("one "+name)), sha256.Sum256([]byte("two "+name))
	id, err := directory.NewPrivateKey(append(a[:], b[:]...))
	must(t, err)
	key, err := packet.NewPrivateKey(a[:])
	must(t, err)
	n := &someNode{name: name, id: id, link: ed25519.NewKeyFromSeed(b[:]), key: key, mode: mode}
	nodeKeys.Store(name, n)
	return n
}

func (n *someNode) linkKey(t testing.TB) link.Key {
	t.Helper()
	k, err := link.KeyOf(n.link.Public().(ed25519.PublicKey))
	must(t, err)
	return k
}

// descriptor is what the node says of itself at a time.
func (n *someNode) descriptor(t testing.TB, at time.Time, change ...func(*directory.Descriptor)) *directory.Descriptor {
	t.Helper()
	at = at.Truncate(time.Second)
	d := directory.Descriptor{Network: "test.net", Published: at, Node: directory.Node{
		Nickname: n.name, Mode: n.mode, LinkKey: directory.Hash(n.linkKey(t)), Addresses: []string{"127.0.0.1:4000"}, Version: "test",
		Keys: []directory.PacketKey{{From: at.Add(-time.Hour), Until: at.Add(72 * time.Hour), Key: n.key.Public()}},
	}}
	if n.mode.Has(directory.Mix) {
		d.Mixing = directory.Poisson
	} else {
		d.NameKey = n.id.Public()
	}
	for _, f := range change {
		f(&d)
	}
	out, err := directory.SignDescriptor(d, n.id)
	must(t, err)
	return out
}

// someNodes are mixes and a relay.
func someNodes(t testing.TB, mixes int) (out []*someNode) {
	t.Helper()
	for i := range mixes {
		out = append(out, newNode(t, fmt.Sprintf("mix%d", i), directory.Mix))
	}
	return append(out, newNode(t, "relay", directory.Relay|directory.Mailbox))
}

// admit publishes nodes to authorities, and lets their operators approve them.
func (w *world) admit(nodes []*someNode, list ...int) {
	w.t.Helper()
	w.nodes = nodes
	for _, n := range nodes {
		d := n.descriptor(w.t, time.Now())
		for i, a := range w.all {
			if a.Server == nil || len(list) > 0 && !slices.Contains(list, i) {
				continue
			}
			held, err := a.core.publish(n.linkKey(w.t), d.Bytes())
			must(w.t, err)
			if held {
				must(w.t, a.core.approve(d.ID(), d.Hash()))
			}
		}
	}
}

// client is somebody who asks authorities over links.
type client struct {
	link  *link.Link
	lines []*link.Line
	stop  func()
}

func (w *world) client(key ed25519.PrivateKey, name string) *client {
	w.t.Helper()
	l, err := link.New(link.Options{Key: key, Who: func(link.Key) (link.Peer, bool) { return link.Peer{}, false }, Handler: refuseUnits{},
		Dial: w.ether.dial(name), MaxDocument: directory.MaxProof})
	must(w.t, err)
	c := &client{link: l}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, k := range w.net.Contacts() {
		line, err := l.Line(link.LineOptions{Peer: link.Peer{Key: link.Key(k.LinkKey), Role: link.Authority}, Addresses: func() []string { return k.Addresses }})
		must(w.t, err)
		running.Go(func() { line.Run(ctx) })
		c.lines = append(c.lines, line)
	}
	c.stop = func() { cancel(); running.Wait() }
	return c
}

// ask sends a request to the authority of a contact.
func (c *client) ask(t testing.TB, line int, r directory.Request) ([]byte, error) {
	t.Helper()
	b, err := directory.AppendRequest(nil, r)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return c.lines[line].Fetch(ctx, b)
}
