package interop

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern.email/interop/smallworld"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
)

// bareClient is a stranger's client of a relay: it sends whatever units it likes.
type bareClient struct {
	relay *smallworld.Member
	line  *link.Line
}

type takesNothing struct{}

func (takesNothing) Take(_ context.Context, _ link.Peer, _ []byte, r link.Receipt) { r.Later() }

// descriptor reads the file that current-desc names, as who tries a node without the
// directory does.
func descriptor(t *testing.T, m *smallworld.Member) *directory.Descriptor {
	t.Helper()
	var name []byte
	eventually(t, patience, func() (err error) { // it is written soon after the start
		name, err = os.ReadFile(filepath.Join(m.Dir, "current-desc"))
		return err
	})
	b, err := os.ReadFile(strings.TrimSpace(string(name)))
	if err != nil {
		t.Fatal(err)
	}
	d, err := directory.ParseDescriptor(b)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// knowsDirectory waits until a node has a consensus.
func knowsDirectory(t *testing.T, m *smallworld.Member) {
	t.Helper()
	eventually(t, patience, func() error {
		var s struct{ Epoch uint64 }
		if m.Ask(t, &s, "status"); s.Epoch == 0 {
			return errors.New("the node has no consensus")
		}
		return nil
	})
}

func newBareClient(t *testing.T, relay *smallworld.Member) *bareClient {
	t.Helper()
	knowsDirectory(t, relay) // the pace of a link that is opened before is that of no network
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	own, err := link.KeyOf(pub)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(relay.Dir, "clients"), []byte(own.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	relay.Ask(t, nil, "reload")
	l, err := link.New(link.Options{Key: key, Handler: takesNothing{}, Who: func(link.Key) (link.Peer, bool) { return link.Peer{}, false },
		MinPause: 50 * time.Millisecond, MaxPause: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	d := descriptor(t, relay)
	line, err := l.Line(link.LineOptions{Peer: link.Peer{Key: link.Key(d.LinkKey), Role: link.Relay}, Addresses: func() []string { return d.Addresses }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); line.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return &bareClient{relay, line}
}

// unit makes a packet that ends at the relay itself, at layer 0.
func (c *bareClient) unit(t *testing.T, id packet.ID, key *packet.PublicKey) []byte {
	t.Helper()
	p, err := packet.Build(nil, packet.Route{First: 0, Hops: []packet.Hop{{Node: id, Key: key}}}, packet.Dest{Command: packet.Ping}, packet.Content{}, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	u, err := packet.AppendUnit(nil, p, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// send has the relay take a unit, which it does for whatever it is, as soon as it knows the
// directory of the network.
func (c *bareClient) send(t *testing.T, unit []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		err := c.line.Send(ctx, append([]byte(nil), unit...))
		if errors.Is(err, link.ErrLater) {
			<-time.After(100 * time.Millisecond)
			continue
		}
		if err != nil {
			t.Fatalf("the relay does not take the unit: %v", err)
		}
		return
	}
}

// counts tells how many packets the relay has known again since it started, and whether
// it dropped some because their key is not accepted.
func (c *bareClient) counts(t *testing.T) (replays int, refused bool) {
	t.Helper()
	var s struct{ Packets struct{ Replays int } }
	c.relay.Ask(t, &s, "status")
	out, err := c.relay.Command("stats").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		refused = refused || strings.HasPrefix(strings.TrimSpace(line), "key:")
	}
	return s.Packets.Replays, refused
}

// TestMixReplay: a relay that is killed with SIGKILL after it took a packet knows the packet
// again when it comes back; packets for a key that has been followed by another are taken
// while the two overlap, and refused after.
func TestMixReplay(t *testing.T) {
	t.Parallel()
	n := smallworld.NewMixNet(t, smallworld.New(t), binary(t), 1, time.Second, mixFast...)
	relay := n.Node(t, "relay", "relay", "keys.lifetime=30s", "keys.overlap=20s", "keys.rotation=15s")
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := relay.Command("status").Output()
			t.Logf("%s%s", relay.Log(), out)
		}
	})
	c := newBareClient(t, relay)
	d := descriptor(t, relay)
	id, key := d.ID(), d.Key(time.Now())
	var until time.Time
	for _, k := range d.Keys {
		if k.Key.ID() == key.ID() {
			until = k.Until
		}
	}
	want := func(when string, replays int, refused bool) {
		t.Helper()
		if r, no := c.counts(t); r != replays || no != refused {
			t.Errorf("%s: %d packets known again, refused %v", when, r, no)
		}
	}

	first := c.unit(t, id, key)
	c.send(t, first)
	want("first", 0, false)
	c.send(t, first)
	want("the same again", 1, false)
	relay.Kill()
	relay.Start(t)
	want("restart", 0, false)
	c.send(t, first)
	want("after kill -9", 1, false)

	<-time.After(time.Until(until) + time.Second)
	if k := descriptor(t, relay).Key(time.Now()); k == nil || k.ID() == key.ID() {
		t.Fatal("there is no new key")
	}
	late := c.unit(t, id, key)
	c.send(t, late)
	c.send(t, late)
	want("overlap", 2, false)
	<-time.After(time.Until(until) + 21*time.Second)
	old := c.unit(t, id, key)
	c.send(t, old)
	c.send(t, old)
	want("after the overlap", 2, true)
}
