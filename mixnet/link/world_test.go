package link

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// private gives a link key by name.
func private(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func keyOf(t testing.TB, name string) Key {
	t.Helper()
	k, err := KeyOf(private(name).Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// set is a set of known keys that may change.
type set struct {
	mu sync.Mutex
	m  map[Key]Peer
}

func known(t testing.TB, role Role, names ...string) *set {
	s := &set{m: make(map[Key]Peer)}
	for _, n := range names {
		s.m[keyOf(t, n)] = Peer{Key: keyOf(t, n), Role: role}
	}
	return s
}

func (s *set) who(k Key) (Peer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.m[k]
	return p, ok
}

func (s *set) remove(k Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, k)
}

// take is a Handler made of a function.
type take func(ctx context.Context, from Peer, unit []byte, r Receipt)

func (f take) Take(ctx context.Context, from Peer, unit []byte, r Receipt) { f(ctx, from, unit, r) }

var commitAll = take(func(_ context.Context, _ Peer, _ []byte, r Receipt) { r.Commit() })

// unit makes a unit with a number in it.
func unit(n uint64) []byte {
	b := make([]byte, packet.Size)
	binary.BigEndian.PutUint64(b, n)
	binary.BigEndian.PutUint64(b[packet.Size-8:], n)
	return b
}

func number(u []byte) uint64 { return binary.BigEndian.Uint64(u) }

// node is a Link that serves on loopback.
type node struct {
	*Link
	addr string
	stop func()
}

func options(name string, who func(Key) (Peer, bool), h Handler) Options {
	return Options{Key: private(name), Who: who, Handler: h, MinPause: time.Millisecond, MaxPause: 10 * time.Millisecond,
		Handshakes: 1 << 20, HandshakeBurst: 1 << 20, ConnsPerNetwork: 1 << 10}
}

// serveLink serves l until the test ends or stop is called.
func serveLink(t testing.TB, l *Link) *node {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Serve(ctx, ln) }()
	var once sync.Once
	n := &node{Link: l, addr: ln.Addr().String(), stop: func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}}
	t.Cleanup(n.stop)
	return n
}

func start(t testing.TB, o Options) *node {
	t.Helper()
	return serveLink(t, makeLink(t, o))
}

func makeLink(t testing.TB, o Options) *Link {
	t.Helper()
	l, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// running is a Line that runs until the test ends or stop is called.
type running struct {
	*Line
	stop func()
}

func (l *node) line(t testing.TB, to string, addr string) *running {
	return runLine(t, l.Link, LineOptions{Peer: Peer{Key: keyOf(t, to), Role: Mix}, Addresses: func() []string { return []string{addr} }})
}

func runLine(t testing.TB, l *Link, o LineOptions) *running {
	t.Helper()
	n, err := l.Line(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); n.Run(ctx) }()
	r := &running{Line: n, stop: func() { cancel(); <-ended }}
	t.Cleanup(r.stop)
	return r
}

// soon is a context for what must not hang.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// until waits until the line's status fits.
func (n *running) until(t testing.TB, fits func(Status) bool) Status {
	t.Helper()
	ctx := soon(t)
	for {
		n.mu.Lock()
		changed := n.changed
		n.mu.Unlock()
		s := n.Status()
		if fits(s) {
			return s
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("status stays %+v", s)
		}
	}
}

func wantKind(t testing.TB, err error, kind errs.Kind, public string) {
	t.Helper()
	if err == nil || errs.KindOf(err) != kind || public != "" && errs.Public(err) != public {
		t.Fatalf("got %v (%v, %q), want %v, %q", err, errs.KindOf(err), errs.Public(err), kind, public)
	}
}

// recorder is a Handler that commits at once and remembers the numbers.
type recorder struct {
	mu   sync.Mutex
	got  []uint64
	bad  error
	come chan uint64
}

func newRecorder() *recorder { return &recorder{come: make(chan uint64, 1<<14)} }

func (r *recorder) Take(_ context.Context, _ Peer, u []byte, receipt Receipt) {
	r.mu.Lock()
	if len(u) != packet.Size || binary.BigEndian.Uint64(u[packet.Size-8:]) != number(u) {
		r.bad = errors.New("a unit has changed on its way")
	}
	r.got = append(r.got, number(u))
	r.mu.Unlock()
	r.come <- number(u)
	receipt.Commit()
}

func (r *recorder) numbers(t testing.TB) []uint64 {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bad != nil {
		t.Fatal(r.bad)
	}
	return append([]uint64(nil), r.got...)
}
