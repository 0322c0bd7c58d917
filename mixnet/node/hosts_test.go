package node

import (
	"context"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
)

// seeded gives numbers that are the same in each run, to many goroutines.
type seeded struct {
	mu sync.Mutex
	r  *rand.ChaCha8
}

func newSeeded(name string) *seeded { return &seeded{r: rand.NewChaCha8(sha256.Sum256([]byte(name)))} }

func (s *seeded) Read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.r.Read(b)
}

func (s *seeded) float() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return rand.New(s.r).Float64()
}

// wires are a network in memory: every address is a member's or a client's name.
type wires struct {
	mu        sync.Mutex
	listeners map[string]*ear
	conns     map[string][]net.Conn // both ends, under the names of both
	dead      map[string]bool       // nobody gets through to or from it
}

func newWires() *wires {
	return &wires{listeners: map[string]*ear{}, conns: map[string][]net.Conn{}, dead: map[string]bool{}}
}

// ear is a listener.
type ear struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (e *ear) Accept() (net.Conn, error) {
	select {
	case c := <-e.conns:
		return c, nil
	case <-e.done:
		return nil, net.ErrClosed
	}
}
func (e *ear) Close() error   { e.once.Do(func() { close(e.done) }); return nil }
func (e *ear) Addr() net.Addr { return &net.UnixAddr{} }

func (w *wires) listen(name string) *ear {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := &ear{conns: make(chan net.Conn), done: make(chan struct{})}
	w.listeners[name] = e
	return e
}

var errDown = errors.New("no such host is up")

// dialer gives the Dial of one member.
func (w *wires) dialer(from string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		to, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		w.mu.Lock()
		e := w.listeners[to]
		down := e == nil || w.dead[from] || w.dead[to]
		w.mu.Unlock()
		if down {
			return nil, errDown
		}
		a, b := net.Pipe()
		select {
		case e.conns <- b:
		case <-e.done:
			return nil, errDown
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.dead[from] || w.dead[to] {
			a.Close()
			b.Close()
			return nil, errDown
		}
		for _, name := range []string{from, to} {
			w.conns[name] = append(w.conns[name], a, b)
		}
		return a, nil
	}
}

// sever cuts a member off, as a crash does: nothing leaves it any more.
func (w *wires) sever(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead[name] = true
	for _, c := range w.conns[name] {
		c.Close()
	}
	delete(w.conns, name)
	delete(w.listeners, name)
}

func (w *wires) join(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.dead, name)
}

// boxes are packet boxes that survive the node.
type boxes struct {
	mu    sync.Mutex
	items map[[16]byte]Arrival
	order []Arrival
	at    []time.Time         // of order
	twice int                 // puts of what was there
	fail  func(Arrival) error // nil: nothing fails
	dead  bool                // the host is down
	come  chan struct{}       // capacity 1: something was put
}

func newBoxes() *boxes {
	return &boxes{items: map[[16]byte]Arrival{}, come: make(chan struct{}, 1)}
}

func (b *boxes) Put(_ context.Context, list []Arrival) []error {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]error, len(list))
	for i, a := range list {
		if b.dead {
			out[i] = errs.Unavailable
			continue
		}
		if b.fail != nil {
			if out[i] = b.fail(a); out[i] != nil {
				continue
			}
		}
		if _, ok := b.items[a.Name]; ok {
			b.twice++
			continue
		}
		a.Payload = append([]byte(nil), a.Payload...)
		b.items[a.Name] = a
		b.order, b.at = append(b.order, a), append(b.at, time.Now())
	}
	select {
	case b.come <- struct{}{}:
	default:
	}
	return out
}

func (b *boxes) list() []Arrival {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Arrival(nil), b.order...)
}

// times are when the packets of list were put.
func (b *boxes) times() []time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]time.Time(nil), b.at...)
}

// again is how often something was put that was there.
func (b *boxes) again() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.twice
}

func (b *boxes) setDead(dead bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dead = dead
}

func (b *boxes) setFail(f func(Arrival) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = f
}

// exits note what leaves.
type exits struct {
	mu   sync.Mutex
	got  []packet.Content
	fail error
	then func() // what happens when something was taken; nil: nothing
}

func (e *exits) Exit(_ context.Context, _ [16]byte, c packet.Content) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fail != nil {
		return e.fail
	}
	c.Body = append([]byte(nil), c.Body...)
	e.got = append(e.got, c)
	if e.then != nil {
		e.then()
	}
	return nil
}

func (e *exits) list() []packet.Content {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.got)
}

// counter counts events.
type counter struct {
	mu sync.Mutex
	m  map[string]int
}

func (c *counter) Count(event, arg string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if arg != "" {
		event += " " + arg
	}
	c.m[event]++
}

func (c *counter) get(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.m[name]
}

// client is somebody with an account at a relay.
type client struct {
	*link.Link
	line *link.Line
	got  chan []byte
	end  func()
}

// Take implements link.Handler: what a relay sends is kept.
func (c *client) Take(_ context.Context, _ link.Peer, u []byte, r link.Receipt) {
	c.got <- append([]byte(nil), u...)
	r.Commit()
}

// client connects a client to a relay, which has to know it before it starts.
func (w *world) client(name string, at *member) *client {
	w.t.Helper()
	return w.connect(name, at, link.Relay)
}

func (w *world) connect(name string, at *member, role link.Role) *client {
	w.t.Helper()
	peer := link.Peer{Key: nameOf(w.t, at.keys.Link()), Role: role}
	c := &client{got: make(chan []byte, 1000)}
	var err error
	c.Link, err = link.New(link.Options{Key: linkKey(name), Who: func(k link.Key) (link.Peer, bool) { return peer, k == peer.Key }, Handler: c,
		Dial: w.wires.dialer(name), Chance: newSeeded("client " + name).float, MinLife: 1000 * time.Hour, MaxLife: 1000 * time.Hour, AnswerTime: 1000 * time.Hour})
	must(w.t, err)
	c.line, err = c.Link.Line(link.LineOptions{Peer: peer, Addresses: func() []string { return []string{at.name + ":1"} }})
	must(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.line.Run(ctx) }()
	c.end = sync.OnceFunc(func() { cancel(); <-done })
	return c
}

// know makes a client known to the relays.
func (w *world) know(name string) {
	w.clients[nameOf(w.t, linkKey(name))] = [8]byte(append([]byte(name), make([]byte, 8)...))
}

// send gives a unit to the relay, and fails the test if it is not taken.
func (c *client) send(t testing.TB, u []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	if err := c.line.Send(ctx, u); err != nil {
		t.Fatalf("a unit was not taken: %v", err)
	}
}
