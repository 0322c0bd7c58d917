package mix

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.email/kit/config"
	"postern.email/kit/errs"
	"postern.email/kit/sysinfo"
	"postern.email/kit/vfs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/dirtest"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
)

// world is a disk, a network and a clock for one node.
type world struct {
	t    testing.TB
	fs   vfs.FS
	base string
	net  *dirtest.Authorities

	mu    sync.Mutex
	shift time.Duration
	log   strings.Builder
	deps  func(*Deps)
}

// newWorld makes a disk in memory with the network file of a network of one authority.
func newWorld(t testing.TB) *world {
	w := &world{t: t, fs: vfs.NewCrashDisk(), base: "/node", net: dirtest.New(t, "test-net", time.Hour, 1)}
	w.file("network", string(w.net.Network.Bytes()))
	return w
}

// file writes a file in the base directory.
func (w *world) file(name, text string) {
	w.t.Helper()
	path := w.fs.PathJoin(w.base, name)
	if err := vfs.MkdirAll(w.fs, w.fs.PathDir(path), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := vfs.WriteFileAtomic(w.fs, path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) there(name string) bool {
	w.t.Helper()
	path := name
	if !filepath.IsAbs(name) {
		path = w.fs.PathJoin(w.base, name)
	}
	ok, err := vfs.Exists(w.fs, path)
	if err != nil {
		w.t.Fatal(err)
	}
	return ok
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.shift)
}

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shift += d
}

// Write takes the log.
func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *world) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

// config is that of a mix on loopback, with further options.
func (w *world) config(set ...string) Config {
	w.t.Helper()
	var c Config
	all := append([]string{"nickname=aurora", "server.base_dir=" + w.base, "incoming.listen=127.0.0.1:0"}, set...)
	if err := config.Load(&c, "", all); err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) dep() Deps {
	d := Deps{FS: w.fs, Now: w.now, Version: "test", NoControl: true, Level: new(slog.LevelVar)}
	d.Logger = Logger(w, w.config(), d.Level)
	if w.deps != nil {
		w.deps(&d)
	}
	return d
}

// try starts a node.
func (w *world) try(set ...string) (*Server, error) {
	w.t.Helper()
	c := w.config(set...)
	if err := c.Check(); err != nil {
		return nil, err
	}
	s, err := Start(soon(w.t), c, w.dep(), nil)
	if err == nil {
		w.t.Cleanup(func() { s.Close() })
	}
	return s, err
}

func (w *world) start(set ...string) *Server {
	w.t.Helper()
	s, err := w.try(set...)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// refused starts no node, for a reason that begins so.
func (w *world) refused(why string, set ...string) {
	w.t.Helper()
	if _, err := w.try(set...); !strings.Contains(errs.Public(err), why) {
		w.t.Errorf("%q: %v, want %q", set, err, why)
	}
}

// soon is a context within which anything should be done.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// node starts a fresh node with some options.
func one(t testing.TB, set ...string) *Server { return newWorld(t).start(set...) }

// clientKey is the link key of a client.
func clientKey(t testing.TB, name string) (ed25519.PrivateKey, link.Key) {
	t.Helper()
	seed := sha256.Sum256([]byte(name))
	private := ed25519.NewKeyFromSeed(seed[:])
	k, err := link.KeyOf(private.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	return private, k
}

// knowing is a world in which a node knows a client.
func knowing(t testing.TB, names ...string) *world {
	w := newWorld(t)
	var lines strings.Builder
	for _, n := range names {
		_, k := clientKey(t, n)
		lines.WriteString(hex.EncodeToString(k[:]) + " " + n + "\n")
	}
	w.file("clients", lines.String())
	return w
}

// inbox takes units from a link.
type inbox struct{ units chan []byte }

func (b inbox) Take(_ context.Context, _ link.Peer, unit []byte, r link.Receipt) {
	b.units <- append([]byte(nil), unit...)
	r.Commit()
}

// dial keeps a client's line to a node. connected waits until it is there, or cannot be.
func dial(t testing.TB, name string, s *Server) (*link.Line, inbox) {
	t.Helper()
	key, _ := clientKey(t, name)
	in := inbox{make(chan []byte, 16)}
	to, err := link.KeyOf(s.keys.Link().Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	l, err := link.New(link.Options{Key: key, Who: func(link.Key) (link.Peer, bool) { return link.Peer{}, false }, Handler: in, MinPause: 10 * time.Millisecond, MaxPause: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	line, err := l.Line(link.LineOptions{Peer: link.Peer{Key: to, Role: link.Relay}, Addresses: func() []string { return []string{s.listeners[0].Addr().String()} }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); line.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return line, in
}

// until waits for something that has to become true.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick, end := time.NewTicker(10*time.Millisecond), time.NewTimer(20*time.Second)
	defer tick.Stop()
	defer end.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end.C:
			t.Fatal(what)
		}
	}
}

// served reports whether a node takes the connection of a client.
func served(t testing.TB, line *link.Line) (yes bool) {
	t.Helper()
	failed := 0
	until(t, "the client is neither served nor refused", func() bool {
		st := line.Status()
		if st.Err != nil {
			failed++
		}
		yes = st.Connected
		return yes || failed == 10
	})
	return yes
}

// exitWorld is a world for an exit whose mails go to a file.
type exitWorld struct {
	*world
	mail string
}

func newExit(t testing.TB) exitWorld {
	w := exitWorld{newWorld(t), filepath.Join(t.TempDir(), "mail")}
	w.file("addresses", "anna: anna@example.org\n")
	return w
}

// options are those of an exit, with further ones.
func (w exitWorld) set(set ...string) []string {
	return append([]string{"mode=exit", "mbox.enabled=true", "mbox.address_file=addresses", "mbox.return_address=nobody@example.net", "mbox.remove_contact=abuse@example.net",
		"mbox.sendmail_command=tee " + w.mail}, set...)
}

// bodies are the contents of packets that bring a mail for a name.
func bodies(t testing.TB, name, text string, room int) (all [][]byte) {
	t.Helper()
	seed := sha256.Sum256([]byte(name + text))
	_, list, err := letter.Split([]byte(text), letter.Options{Room: room}, &noise{seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		b, err := content.AppendMbox(nil, name, f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

// noise gives bytes that follow from a seed.
type noise struct {
	seed [32]byte
	rest []byte
}

func (n *noise) Read(p []byte) (int, error) {
	for len(n.rest) < len(p) {
		n.seed = sha256.Sum256(n.seed[:])
		n.rest = append(n.rest, n.seed[:]...)
	}
	k := copy(p, n.rest)
	n.rest = n.rest[k:]
	return k, nil
}

// exit gives a mail to the exit of a node, as its packets come out of the network.
func exit(t testing.TB, s *Server, name, text string, room int) error {
	t.Helper()
	for i, b := range bodies(t, name, text, room) {
		sum := sha256.Sum256(append(b, byte(i)))
		if err := s.ends.exit.Exit(soon(t), [16]byte(sum[:16]), packet.Content{Kind: content.Mbox, Body: b}); err != nil {
			return err
		}
	}
	return nil
}

// sent gives the mail that an exit has handed on.
func (w exitWorld) sent() (text string) {
	w.t.Helper()
	until(w.t, "no mail was sent", func() bool {
		b, err := os.ReadFile(w.mail)
		text = string(b)
		return err == nil && strings.HasSuffix(text, "\n")
	})
	return text
}

// mailFrom is what an exit with some options makes of a mail.
func mailFrom(t testing.TB, text string, set ...string) string {
	t.Helper()
	w := newExit(t)
	if err := exit(t, w.start(w.set(set...)...), "anna", text, packet.MaxBody-300); err != nil {
		t.Fatal(err)
	}
	return w.sent()
}

// authority is one that takes documents from nodes and holds them.
type authority struct {
	network string // the network file
	got     chan []byte
}

// newAuthority runs one on loopback.
func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{got: make(chan []byte, 64)}
	key, k := clientKey(t, "the authority")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b, err := directory.FormatNetwork("test-net", time.Hour, []directory.Contact{{Key: dirtest.Key(t, "authority 0").Public(), LinkKey: directory.Hash(k), Addresses: []string{ln.Addr().String()}}})
	if err != nil {
		t.Fatal(err)
	}
	a.network = string(b)
	l, err := link.New(link.Options{Key: key, Who: func(k link.Key) (link.Peer, bool) { return link.Peer{Key: k, Role: link.Client}, true }, Handler: inbox{make(chan []byte)},
		Documents: func(_ context.Context, _ link.Peer, request []byte) ([]byte, error) {
			r, err := directory.ParseRequest(request)
			if err != nil {
				return nil, err
			}
			if r.Kind != directory.RequestPublish {
				return nil, errs.E("test", errs.NotFound, "there is none", nil)
			}
			a.got <- r.Document
			return directory.FormatVerdict(true, nil), nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Serve(ctx, ln) }()
	t.Cleanup(func() { cancel(); <-done })
	return a
}

// published is the descriptor that a node gave to the authority.
func (a *authority) published(t testing.TB) []byte {
	t.Helper()
	select {
	case b := <-a.got:
		return b
	case <-soon(t).Done():
		t.Fatal("nothing was published")
		return nil
	}
}

// noAddress is a machine without public addresses.
func noAddress() *sysinfo.Reader {
	return &sysinfo.Reader{Interfaces: func() ([]net.Addr, error) { return nil, nil }, ReadFile: func(string) ([]byte, error) { return nil, os.ErrNotExist }}
}
