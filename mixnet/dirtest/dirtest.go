// Package dirtest makes consensuses for tests: it lets real authorities agree, in no
// time.
package dirtest

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"testing"
	"time"

	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

// Authorities are those of one network, all of them honest, unless they are asked to agree
// twice on one epoch: then all of them lie.
type Authorities struct {
	Network *directory.Network
	Keys    []*directory.PrivateKey

	Parameters directory.Parameters // what they vote for; nil: the profile "low"
}

// Key makes an identity from a name, the same each time. It may be called by many goroutines.
func Key(t testing.TB, name string) *directory.PrivateKey {
	t.Helper()
	if k, ok := keys.Load(name); ok {
		return k.(*directory.PrivateKey)
	}
	one, two := sha256.Sum256([]byte("one "+name)), sha256.Sum256([]byte("two "+name))
	k, err := directory.NewPrivateKey(append(one[:], two[:]...))
	must(t, err)
	keys.Store(name, k)
	return k
}

// keys are costly, so each is made once.
var keys sync.Map

// PacketKey makes a key of packets from a name, the same each time.
func PacketKey(t testing.TB, name string) *packet.PrivateKey {
	t.Helper()
	seed := sha256.Sum256([]byte("packet " + name))
	k, err := packet.NewPrivateKey(seed[:])
	must(t, err)
	return k
}

// New makes a network with a number of authorities, whose addresses are on loopback and lead
// nowhere.
func New(t testing.TB, name string, period time.Duration, authorities int) *Authorities {
	t.Helper()
	a := &Authorities{}
	var contacts []directory.Contact
	for i := range authorities {
		k := Key(t, fmt.Sprintf("authority %d", i))
		a.Keys = append(a.Keys, k)
		contacts = append(contacts, directory.Contact{Key: k.Public(), LinkKey: sha256.Sum256(fmt.Append(nil, "link of authority ", i)),
			Addresses: []string{fmt.Sprintf("127.0.0.1:%d", 1+i)}})
	}
	b, err := directory.FormatNetwork(name, period, contacts)
	must(t, err)
	a.Network, err = directory.ParseNetwork(b)
	must(t, err)
	return a
}

// Mix describes a mix as it was an hour before a time, signed with Key("node " + name). Its
// one key is PacketKey(name).
func (a *Authorities) Mix(t testing.TB, name string, at time.Time, change ...func(*directory.Descriptor)) *directory.Descriptor {
	t.Helper()
	d := directory.Descriptor{Network: a.Network.Name(), Published: at.Add(-time.Hour), Node: directory.Node{
		Nickname: name, Mode: directory.Mix, LinkKey: sha256.Sum256([]byte("link of " + name)), Addresses: []string{"127.0.0.1:4000"},
		Version: "postern-0.1", Mixing: directory.Poisson,
		Keys: []directory.PacketKey{{From: at.Add(-2 * time.Hour), Until: at.Add(72 * time.Hour), Key: PacketKey(t, name).Public()}},
	}}
	for _, f := range change {
		f(&d)
	}
	out, err := directory.SignDescriptor(d, Key(t, "node "+name))
	must(t, err)
	return out
}

// Agree gives the consensus of an epoch with these nodes, whose score is 1000, after another
// one (nil: none).
func (a *Authorities) Agree(t testing.TB, epoch uint64, previous *directory.Consensus, nodes ...*directory.Descriptor) *directory.Consensus {
	t.Helper()
	v := directory.View{Parameters: a.Parameters, Previous: previous}
	if v.Parameters == nil {
		v.Parameters = directory.ProfileLow()
	}
	for _, d := range nodes {
		v.Nodes = append(v.Nodes, directory.Rated{Descriptor: d, Score: directory.MaxScore})
	}
	var machines []*directory.Machine
	for i, k := range a.Keys {
		secret := sha256.Sum256(fmt.Append(nil, "secret ", i))
		m, err := directory.NewMachine(a.Network, epoch, k, &secret)
		must(t, err)
		must(t, m.SetView(v))
		machines = append(machines, m)
	}
	begin := a.Network.Begin(epoch - 1)
	for _, eighth := range []time.Duration{1, 2, 3, 5} {
		now := begin.Add(a.Network.Period() * eighth / 8)
		for _, m := range machines {
			made, err := m.Advance(now)
			must(t, err)
			for _, d := range made {
				for _, o := range machines {
					must(t, o.Add(d))
				}
			}
		}
	}
	c := machines[0].Consensus()
	if c == nil {
		t.Fatal("the authorities did not agree")
	}
	return c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
