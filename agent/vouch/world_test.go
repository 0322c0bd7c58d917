package vouch

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/dirtest"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
)

// world is a network with two relays, and an account at the first.
type world struct {
	cons *directory.Consensus
	now  time.Time
}

var theWorld = struct {
	sync.Once
	world
}{}

const epoch = 490_000 // of an hour: in November 2025

// begin makes the network, once for all tests: nothing changes in it.
func begin(t testing.TB) *world {
	theWorld.Do(func() {
		a := dirtest.New(t, "test", time.Hour, 1)
		at := a.Network.Begin(epoch).Add(-30 * time.Minute)
		relay := func(name string, domains ...string) *directory.Descriptor {
			return a.Mix(t, name, at, func(d *directory.Descriptor) {
				d.Mode, d.Mixing = directory.Relay|directory.Mailbox, ""
				d.NameKey, d.Domains = dirtest.Key(t, "names of "+name).Public(), domains
			})
		}
		theWorld.cons = a.Agree(t, epoch, nil, a.Mix(t, "mix", at),
			relay("one", "one.example", "xn--bcher-kva.example"), relay("two", "two.example"))
		theWorld.now = a.Network.Begin(epoch).Add(10 * time.Minute)
	})
	w := theWorld.world
	return &w
}

func relayID(t testing.TB, name string) packet.ID { return dirtest.Key(t, "node "+name).Public().ID() }

func letterKey(t testing.TB, name string) *letter.PrivateKey {
	t.Helper()
	seed := sha256.Sum256([]byte("letters of " + name))
	k, err := letter.NewPrivateKey(seed[:])
	must(t, err)
	return k
}

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	must(t, err)
	return a
}

// identity is that of an account at a relay.
func identity(t testing.TB, relay, name string) Identity {
	return Identity{Relay: relayID(t, relay), Mailbox: sha256.Sum256([]byte("mailbox of " + name)),
		Letter: letterKey(t, name).Public(), Key: dirtest.Key(t, name).Public()}
}

// draft is what a relay signs for an account.
func (w *world) draft(t testing.TB, relay, addr string) Certificate {
	return Certificate{Identity: identity(t, relay, addr), Address: address(t, addr), Serial: 7,
		From: w.now.Add(-24 * time.Hour).Truncate(time.Second), Until: w.now.Add(6 * 24 * time.Hour).Truncate(time.Second)}
}

// issue signs it with the name key of a relay. Signatures are costly, so each is made once.
func issue(t testing.TB, c Certificate, relay string) *Certificate {
	t.Helper()
	k := issuedKey{relay, c.Relay, c.Mailbox, c.Letter.Fingerprint(), c.Key.ID(), c.Address, c.Serial, c.From.Unix(), c.Until.Unix()}
	if had, ok := issued.Load(k); ok {
		return had.(*Certificate)
	}
	out, err := Issue(c, dirtest.Key(t, "names of "+relay))
	must(t, err)
	issued.Store(k, out)
	return out
}

type issuedKey struct {
	by             string
	relay, mailbox packet.ID
	letter         string
	key            packet.ID
	address        mail.Address
	serial         uint64
	from, until    int64
}

var issued sync.Map

const alice = "alice@one.example"

// certificate is alice's.
func (w *world) certificate(t testing.TB) *Certificate {
	return issue(t, w.draft(t, "one", alice), "one")
}

// mailOf is a mail with header fields and a body.
func mailOf(fields ...string) []byte {
	return []byte(strings.Join(fields, "\r\n") + "\r\n\r\nHello.\r\n")
}

// letterOf is a letter as it comes out of its seal. signer "": nobody signed it.
func (w *world) letterOf(t testing.TB, m Mail, signer, sender string) *letter.Letter {
	if len(m.Recipients) == 0 {
		m.Recipients = []mail.Address{address(t, "bob@two.example")}
	}
	l := &letter.Letter{Content: m.Append(nil), Date: w.now.Add(-time.Minute)}
	if signer != "" {
		l.From, l.Sender = dirtest.Key(t, signer).Public(), sender
	}
	return l
}

// fromAlice is alice's mail as it should be.
func (w *world) fromAlice(t testing.TB) Mail {
	return Mail{Certificate: w.certificate(t).Bytes(), Sender: address(t, alice), Raw: mailOf("From: Alice <"+alice+">", "To: bob@two.example", "Subject: x")}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused asks for an error of a kind with a public text that holds some words.
func refused(t testing.TB, err error, kind errs.Kind, words string) {
	t.Helper()
	if err == nil || errs.KindOf(err) != kind || !strings.Contains(errs.Public(err), words) {
		t.Errorf("%v (%v, %q), want %v with %q", err, errs.KindOf(err), errs.Public(err), kind, words)
	}
	if err != nil && strings.Contains(errs.Public(err), "@") {
		t.Errorf("the public text names an address: %s", errs.Public(err))
	}
}

// TestSealedRoad: a mail that goes through a sealed letter is vouched for at the other end, byte for
// byte.
func TestSealedRoad(t *testing.T) {
	w := begin(t)
	m := w.fromAlice(t)
	m.Recipients = []mail.Address{address(t, "bob@two.example"), address(t, `"b o b"@two.example`)}
	bob := letterKey(t, "bob")
	s, err := letter.Seal(bob.Public(), letter.Message{Content: m.Append(nil), Date: w.now, Signer: dirtest.Key(t, alice), Sender: alice}, letter.Options{Room: packet.MaxBodySURB})
	must(t, err)
	as := letter.NewAssembler(letter.Limits{})
	var l *letter.Letter
	for _, body := range s.Bodies {
		f, err := letter.Open(bob, body)
		must(t, err)
		l, err = as.Add(f, w.now)
		must(t, err)
	}
	v, err := Check(w.cons, w.now, l, Door{})
	must(t, err)
	if v.Kind != User || v.Address != address(t, alice) || v.Relay != relayID(t, "one") || !bytes.Equal(v.Mail.Raw, m.Raw) ||
		len(v.Mail.Recipients) != 2 || v.Mail.Recipients[1].Local != "b o b" || v.Mail.Sender != address(t, alice) || v.Cleartext() {
		t.Errorf("%+v", v)
	}
	if v.Certificate.To().Mailbox != w.certificate(t).Mailbox || v.Certificate.Fingerprint() != w.certificate(t).Fingerprint() {
		t.Error("the certificate is another")
	}
}
