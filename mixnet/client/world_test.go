package client

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t testing.TB, err error, kind errs.Kind, public string) {
	t.Helper()
	if err == nil || errs.KindOf(err) != kind || public != "" && errs.Public(err) != public {
		t.Fatalf("got %v (%v, %q), want %v, %q", err, errs.KindOf(err), errs.Public(err), kind, public)
	}
}

var begin = time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC)

// Keys are costly, so they are made once. The same name gives the same key in every run.
var testKeys sync.Map

func nodeKey(t testing.TB, name string) *packet.PrivateKey {
	t.Helper()
	if k, ok := testKeys.Load(name); ok {
		return k.(*packet.PrivateKey)
	}
	seed := sha256.Sum256([]byte("packet " + name))
	k, err := packet.NewPrivateKey(seed[:])
	must(t, err)
	testKeys.Store(name, k)
	return k
}

// entry is a node with a key that began an hour ago, unless the change says otherwise.
func entry(t testing.TB, name string, mode directory.Mode, layer int, score uint64, change ...func(*directory.Entry)) directory.Entry {
	t.Helper()
	e := directory.Entry{ID: sha256.Sum256([]byte("node " + name)), Layer: layer, Score: score, Node: directory.Node{
		Nickname: name, Mode: mode, LinkKey: sha256.Sum256([]byte(name)), Addresses: []string{"127.0.0.1:4000"}, Version: "postern-0.1",
		Keys: []directory.PacketKey{{From: begin.Add(-time.Hour), Until: begin.Add(71 * time.Hour), Key: nodeKey(t, name).Public()}},
	}}
	if mode == directory.Mix {
		e.Mixing = directory.Poisson
	}
	for _, f := range change {
		f(&e)
	}
	return e
}

func family(name string) func(*directory.Entry) { return func(e *directory.Entry) { e.Family = name } }

// network is a consensus of some nodes, not signed.
func network(nodes ...directory.Entry) *directory.Consensus {
	slices.SortFunc(nodes, func(a, b directory.Entry) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return &directory.Consensus{Network: "test.net", Epoch: uint64(begin.Unix() / 3600), Period: time.Hour, Parameters: directory.ProfileFull(), Nodes: nodes}
}

// usual has per mixes in each layer, all with one score, and two relays.
func usual(t testing.TB, per int) *directory.Consensus {
	t.Helper()
	var nodes []directory.Entry
	for l := 1; l <= 3; l++ {
		for i := range per {
			nodes = append(nodes, entry(t, fmt.Sprintf("mix%d%c", l, 'a'+i), directory.Mix, l, 500))
		}
	}
	return network(append(nodes, entry(t, "relay0", directory.Relay|directory.Mailbox, 0, 500),
		entry(t, "relay1", directory.Relay|directory.Mailbox|directory.Exit, 0, 500))...)
}

// ways is a Want from relay0 to relay1.
func ways(t testing.TB, c *directory.Consensus) Want {
	t.Helper()
	w := Want{To: packet.Last, Mode: directory.Mailbox}
	w.Hops[0], w.Hops[packet.Last] = FindNode(c, "relay0"), FindNode(c, "relay1")
	if w.Hops[0] == nil || w.Hops[packet.Last] == nil {
		t.Fatal("no relays")
	}
	return w
}

// rngReader gives bytes that are the same in every run.
type rngReader struct{ r *rand.Rand }

func (r rngReader) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(r.r.Uint32())
	}
	return len(b), nil
}

// walk takes all layers off a packet, as the hops would do one after the other.
func walk(t testing.TB, c *directory.Consensus, layer int, raw []byte) packet.Result {
	t.Helper()
	for {
		p, err := packet.ParsePrefix(raw)
		must(t, err)
		if p.Layer != layer {
			t.Fatalf("layer %d, want %d", p.Layer, layer)
		}
		var key *packet.PrivateKey
		for i := range c.Nodes {
			if k := nodeKey(t, c.Nodes[i].Nickname); k.ID() == p.KeyID {
				key = k
			}
		}
		if key == nil {
			t.Fatal("a key that no node has")
		}
		res, err := packet.Unwrap(key, slices.Clone(raw))
		must(t, err)
		if res.Command != packet.Forward {
			return res
		}
		raw, layer = res.Packet, layer+1
	}
}
