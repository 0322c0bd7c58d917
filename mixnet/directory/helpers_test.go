package directory

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"testing"
	"time"

	"postern.email/mixnet/packet"
)

// Keys are costly, so they are made once. The same name gives the same key in every run.
var keys sync.Map

func testKey(t testing.TB, name string) *PrivateKey {
	t.Helper()
	if k, ok := keys.Load(name); ok {
		return k.(*PrivateKey)
	}
	a, b := sha256.Sum256([]byte("one "+name)), sha256.Sum256([]byte("two "+name))
	k, err := NewPrivateKey(append(a[:], b[:]...))
	must(t, err)
	keys.Store(name, k)
	return k
}

func packetKey(t testing.TB, name string) *packet.PublicKey {
	t.Helper()
	seed := sha256.Sum256([]byte("packet " + name))
	k, err := packet.NewPrivateKey(seed[:])
	must(t, err)
	return k.Public()
}

// letterKey makes a letter key from a name, the same in each run.
func letterKey(t testing.TB, name string) []byte {
	t.Helper()
	seed := sha256.Sum256([]byte("letters to " + name))
	k, err := letterKEM.NewPrivateKey(seed[:])
	must(t, err)
	return k.PublicKey().Bytes()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// someEpoch of one hour.
const someEpoch = 500_000

var someTime = time.Unix(someEpoch*3600, 0).UTC()

func testNetwork(t testing.TB, authorities int) (*Network, []*PrivateKey) {
	t.Helper()
	var private []*PrivateKey
	var public []*PublicKey
	for i := range authorities {
		k := testKey(t, fmt.Sprintf("authority %d", i))
		private, public = append(private, k), append(public, k.Public())
	}
	n, err := NewNetwork("test.net", time.Hour, public)
	must(t, err)
	return n, private
}

// testNode describes a node as it was an hour before a time.
func testNode(t testing.TB, name string, mode Mode, at time.Time, change ...func(*Descriptor)) *Descriptor {
	t.Helper()
	d := Descriptor{Network: "test.net", Published: at.Add(-time.Hour), Node: Node{
		Nickname: name, Mode: mode, LinkKey: sha256.Sum256([]byte(name)), Addresses: []string{"127.0.0.1:4000"},
		Version: "postern-0.1", Keys: []PacketKey{{at.Add(-2 * time.Hour), at.Add(72 * time.Hour), packetKey(t, name)}},
	}}
	if mode == Mix {
		d.Mixing = Poisson
	} else {
		d.NameKey = testKey(t, "names of "+name).Public()
		d.Domains = []string{name + ".example"}
	}
	for _, f := range change {
		f(&d)
	}
	out, err := SignDescriptor(d, testKey(t, "node "+name))
	must(t, err)
	return out
}

// testNodes are some mixes and two relays.
func testNodes(t testing.TB, mixes int, at time.Time) (out []*Descriptor) {
	t.Helper()
	for i := range mixes {
		out = append(out, testNode(t, fmt.Sprintf("mix%d", i), Mix, at))
	}
	return append(out, testNode(t, "relay0", Relay|Mailbox, at), testNode(t, "relay1", Relay|Mailbox|Exit, at))
}

func rated(nodes []*Descriptor, score uint64) (out []Rated) {
	for _, d := range nodes {
		out = append(out, Rated{d, score})
	}
	return out
}

func testSecret(i int) *[32]byte {
	s := sha256.Sum256(fmt.Appendf(nil, "secret %d", i))
	return &s
}
