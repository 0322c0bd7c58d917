package agenttest

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mixnet/client"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/dirtest"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
)

// MixNet is a mix network as agents of mail see it: a consensus, that nobody signed, with one relay
// for each domain. Packets are carried by hand.
type MixNet struct {
	TB        testing.TB
	Consensus *directory.Consensus
	item      uint64
}

// NewMixNet makes a network with a relay for each domain, in the profile "low".
func NewMixNet(tb testing.TB, domains ...string) *MixNet {
	tb.Helper()
	n := &MixNet{TB: tb, Consensus: &directory.Consensus{Parameters: directory.ProfileLow()}}
	for _, d := range domains {
		n.Consensus.Nodes = append(n.Consensus.Nodes, directory.Entry{ID: Relay(tb, d), Score: directory.MaxScore, Layer: 0, Node: directory.Node{
			Nickname: d, Mode: directory.Relay | directory.Mailbox, Domains: []string{d}, Addresses: []string{"127.0.0.1:4000"}, Version: "postern-0.1",
			NameKey: NameKey(tb, d).Public(), LetterKey: RelayLetterKey(tb, d).Public().Bytes()}})
	}
	slices.SortFunc(n.Consensus.Nodes, func(a, b directory.Entry) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return n
}

// Relay is the ID of the relay of a domain.
func Relay(tb testing.TB, domain string) packet.ID {
	return dirtest.Key(tb, "node of "+domain).Public().ID()
}

// NameKey is what the relay of a domain vouches with.
func NameKey(tb testing.TB, domain string) *directory.PrivateKey {
	return dirtest.Key(tb, "names of "+domain)
}

// RelayLetterKey is what letters to the relay of a domain are sealed to.
func RelayLetterKey(tb testing.TB, domain string) *letter.PrivateKey {
	tb.Helper()
	seed := sha256.Sum256([]byte("letters of " + domain))
	k, err := letter.NewPrivateKey(seed[:])
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// MixUser is an account as the mix network knows it.
type MixUser struct {
	Address  mail.Address
	Relay    packet.ID
	Identity *client.Identity
	Store    *client.Store
	Home     letter.Address
}

// User opens the client of an account in a directory, with new keys if there are none. now is the
// clock of its store.
func (n *MixNet) User(fs vfs.FS, dir, address string, now func() time.Time) *MixUser {
	n.TB.Helper()
	must := func(err error) {
		n.TB.Helper()
		if err != nil {
			n.TB.Fatal(err)
		}
	}
	a, err := mail.ParseAddress(address)
	must(err)
	must(vfs.MkdirAll(fs, dir, 0o700))
	id, err := client.OpenIdentity(fs, dir, false)
	if errs.KindOf(err) == errs.NotFound {
		id, err = client.NewIdentity(fs, dir, rand.Reader)
	}
	must(err)
	s, err := client.OpenStore(fs, dir, id, client.StoreLimits{}, nil, now)
	must(err)
	relay := Relay(n.TB, a.Domain)
	return &MixUser{Address: a.Canonical(), Relay: relay, Identity: id, Store: s,
		Home: letter.Address{Relay: relay, Mailbox: sha256.Sum256([]byte("mailbox of " + address)), Key: id.Letter.Public()}}
}

// Give puts a letter into the user's inbox, sealed as it comes.
func (n *MixNet) Give(to *MixUser, bodies ...[]byte) { n.TB.Helper(); n.GiveWith(to, "", bodies...) }

// GiveWith does so as if it had come with reply blocks that have a note.
func (n *MixNet) GiveWith(to *MixUser, note string, bodies ...[]byte) {
	n.TB.Helper()
	for _, b := range bodies {
		f, err := letter.Open(to.Identity.Letter, b)
		if err != nil {
			n.TB.Fatal(err)
		}
		n.item++
		if err := to.Store.Put(n.item, f, note); err != nil {
			n.TB.Fatal(err)
		}
	}
}

// Carried is a letter that was carried.
type Carried struct {
	Message *client.Outgoing
	Letter  *letter.Letter // opened by who it was sealed to
	To      *MixUser       // nil: a relay
}

// Carry takes every message that waits in a user's store to where it goes, and notes it as delivered. Users
// who are not named get nothing, and what is for them stays.
func (n *MixNet) Carry(from *MixUser, to ...*MixUser) (out []Carried) {
	n.TB.Helper()
	list, err := from.Store.List()
	if err != nil {
		n.TB.Fatal(err)
	}
	for _, p := range list {
		if p.Result != "" {
			continue
		}
		m, err := from.Store.Message(p.Name)
		if err != nil {
			n.TB.Fatal(err)
		}
		c, key := Carried{Message: m}, (*letter.PrivateKey)(nil)
		for _, u := range to {
			if m.Kind == content.Letter && m.Relay == u.Home.Relay && m.Mailbox == u.Home.Mailbox {
				c.To, key = u, u.Identity.Letter
			}
		}
		if e := n.Consensus.Find(m.Relay); m.Kind == content.Mail && e != nil {
			key = RelayLetterKey(n.TB, e.Domains[0])
		}
		if key == nil {
			continue
		}
		c.Letter = n.open(key, m.Bodies)
		if c.To != nil {
			n.Give(c.To, m.Bodies...)
		}
		r := client.Delivered
		if !m.Ack {
			r = client.Sent
		}
		if err := from.Store.Finish(p.Name, r, ""); err != nil {
			n.TB.Fatal(err)
		}
		out = append(out, c)
	}
	slices.SortStableFunc(out, func(a, b Carried) int { return cmp.Compare(a.Message.Name, b.Message.Name) })
	return out
}

func (n *MixNet) open(key *letter.PrivateKey, bodies [][]byte) *letter.Letter {
	n.TB.Helper()
	a := letter.NewAssembler(letter.Limits{})
	for _, b := range bodies {
		f, err := letter.Open(key, b)
		if err != nil {
			n.TB.Fatal(err)
		}
		l, err := a.Add(f, Begin)
		if err != nil {
			n.TB.Fatal(err)
		}
		if l != nil {
			return l
		}
	}
	n.TB.Fatal("the letter is not whole")
	return nil
}
