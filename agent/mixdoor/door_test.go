package mixdoor

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/agent/agenttest"
	"postern.email/agent/deliver"
	"postern.email/agent/mixbox"
	"postern.email/agent/parts"
	"postern.email/agent/receive"
	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/dirtest"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
	"postern.email/post/account"
	"postern.email/post/packetbox"
	"postern.email/post/queue"
	"postern.email/post/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	domain = "mail.example"
	other  = "other.example"
	alice  = "alice@" + other
)

// world is a relay's post office with a door, in a network with another relay.
type world struct {
	*agenttest.Office
	t      *testing.T
	fs     vfs.FS
	cons   *directory.Consensus
	noCons error
	queue  *queue.Queue
	box    *packetbox.Boxes
	rules  *receive.Receive
	exit   Exit
	denied error // what Current says
	counts agenttest.Counter
	o      Options
	d      *Door
}

// given counts the letters that were given up for a reason.
func (w *world) given(why string) int { return w.counts.Of("UnretriableDelivery", "mail: "+why) }

func newWorld(t *testing.T, fs vfs.FS) *world {
	t.Helper()
	if fs == nil {
		fs = vfs.NewCrashDisk()
	}
	w := &world{t: t, fs: fs, Office: agenttest.Open(t, domain, fs, "/data"), cons: agenttest.NewMixNet(t, domain, other).Consensus}
	root, err := seal.NewRoot(bytes.Repeat([]byte{7}, seal.KeyLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	w.queue, err = queue.Open(t.Context(), queue.Options{Store: w.Store, Root: root, FS: fs, Dir: "/data/queue", Now: w.Clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.queue.Close() })
	if w.box, err = packetbox.Open(t.Context(), packetbox.Options{Store: w.Store, Root: root, Now: w.Clock.Now}); err != nil {
		t.Fatal(err)
	}
	del := deliver.New(deliver.Options{Store: w.Store, Boxes: w.Boxes, Queue: w.queue, Accounts: w.Accounts, Seen: w.Seen, Letters: w.Seen, Domain: domain, Now: w.Clock.Now,
		Proxies: mixbox.Letters{Boxes: w.box, Signer: agenttest.NameKey(t, domain), Domain: domain, Now: w.Clock.Now}})
	w.rules = receive.New(receive.Options{Domain: domain, Accounts: w.Accounts, Rooms: w.Boxes, Deliver: del, Now: w.Clock.Now})
	w.o = Options{FS: fs, Dir: "/data/door", Secret: bytes.Repeat([]byte{3}, 32), Rand: rand.Reader, Now: w.Clock.Now, Stats: &w.counts,
		Key: agenttest.RelayLetterKey(t, domain), Consensus: func() (*directory.Consensus, error) { return w.cons, w.noCons },
		Relay: func() packet.ID { return agenttest.Relay(t, domain) }, Ours: w.Accounts.Ours,
		Current: func(context.Context, *vouch.Certificate) error { return w.denied }, Rules: w.rules, Deliver: del, Letters: w.Seen}
	w.open()
	return w
}

func (w *world) open() {
	w.t.Helper()
	o := w.o
	o.Exit = w.exit
	var err error
	if w.d, err = Open(o); err != nil {
		w.t.Fatal(err)
	}
}

// proxy has an account read with a mail proxy that opens letters sealed to key.
func (w *world) proxy(name string, key *letter.PublicKey) {
	w.t.Helper()
	a, err := w.Accounts.Resolve(w.t.Context(), w.Address(name))
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.box.RegisterProxy(w.t.Context(), a.ID, [32]byte{1}, packetbox.Identity{Letter: [packetbox.LetterLen]byte(key.Bytes())}); err != nil {
		w.t.Fatal(err)
	}
}

// work lets the door work on what is due, once.
func (w *world) work() {
	<-w.d.turn
	w.d.parts.Tidy(w.d.o.Within, w.one)
	w.d.turn <- struct{}{}
}

func (w *world) one(k parts.Key) { w.d.work(w.t.Context(), k) }

// packets give the bodies of a letter to the door, each in a packet with a fresh name.
func (w *world) packets(bodies ...[]byte) {
	w.t.Helper()
	for _, b := range bodies {
		var name [16]byte
		rand.Read(name[:])
		if err := w.d.Exit(w.t.Context(), name, packet.Content{Kind: content.Mail, Body: b}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// draft is a mail in a letter, as its sender makes it; fields that are empty are those of a mail that
// is in order.
type draft struct {
	sender   string // of the envelope, and vouched for
	to       []string
	raw      []byte
	issuer   string                   // domain of the relay whose name key signs the certificate
	change   func(*vouch.Certificate) // of what is signed
	signer   directory.Signer         // of the letter
	unsigned bool
	edit     func(*vouch.Mail)
	date     time.Time
}

func (w *world) seal(x draft) [][]byte {
	w.t.Helper()
	if x.sender == "" {
		x.sender = alice
	}
	from := w.Address(x.sender)
	if x.issuer == "" {
		x.issuer = from.Domain
	}
	key := dirtest.Key(w.t, x.sender)
	box, err := letter.NewPrivateKey(bytes.Repeat([]byte{9}, letter.PrivateKeyLen))
	if err != nil {
		w.t.Fatal(err)
	}
	now := w.Clock.Now()
	c := vouch.Certificate{Identity: vouch.Identity{Relay: agenttest.Relay(w.t, x.issuer), Letter: box.Public(), Key: key.Public()}, Address: from, Serial: 1,
		From: now.Add(-24 * time.Hour), Until: now.Add(24 * time.Hour)}
	if x.change != nil {
		x.change(&c)
	}
	cert, err := vouch.Issue(c, agenttest.NameKey(w.t, x.issuer))
	if err != nil {
		w.t.Fatal(err)
	}
	m := vouch.Mail{Certificate: cert.Bytes(), Sender: from, Raw: x.raw}
	if m.Raw == nil {
		m.Raw = pgp(x.sender, 100)
	}
	for _, to := range x.to {
		m.Recipients = append(m.Recipients, w.Address(to))
	}
	msg := letter.Message{Date: now, Signer: key, Sender: from.String()}
	if !x.date.IsZero() {
		msg.Date = x.date
	}
	if x.signer != nil {
		msg.Signer = x.signer
	}
	if x.unsigned {
		m.Certificate, m.Sender, msg.Signer, msg.Sender = nil, mail.Address{}, nil, ""
	}
	if x.edit != nil {
		x.edit(&m)
	}
	msg.Content = m.Append(nil)
	s, err := letter.Seal(w.o.Key.Public(), msg, letter.Options{Room: letter.RoomACK})
	if err != nil {
		w.t.Fatal(err)
	}
	return s.Bodies
}

// pgp is the outside of an encrypted mail (RFC 3156), with noise within.
func pgp(from string, size int) []byte {
	block := func(tag byte, body []byte) []byte {
		n := len(body)
		return append([]byte{0xC0 | tag, 255, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, body...)
	}
	noise := make([]byte, size)
	rand.Read(noise)
	text := base64.StdEncoding.EncodeToString(append(block(1, append([]byte{3}, make([]byte, 90)...)), block(18, append([]byte{1}, noise...))...))
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: %s\r\nSubject: [...]\r\nMIME-Version: 1.0\r\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=\"b\"\r\n\r\n"+
		"--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--b\r\nContent-Type: application/octet-stream\r\n\r\n-----BEGIN PGP MESSAGE-----\r\n\r\n", from)
	for len(text) > 0 {
		n := min(64, len(text))
		b.WriteString(text[:n] + "\r\n")
		text = text[n:]
	}
	b.WriteString("-----END PGP MESSAGE-----\r\n\r\n--b--\r\n")
	return b.Bytes()
}

// TestDoor: a mail that is vouched for reaches the mailboxes of its recipients, once, whether it is one
// packet or several, however often its packets come, and also after a restart in between.
func TestDoor(t *testing.T) {
	w := newWorld(t, nil)
	w.Create("anna", nil)
	w.Create("ben", nil)
	small := w.seal(draft{to: []string{"anna", "ben", "anna"}})
	large := w.seal(draft{to: []string{"anna"}, raw: pgp(alice, 100_000)})
	if len(small) != 1 || len(large) < 4 {
		t.Fatal(len(small), len(large))
	}
	w.packets(small...)
	w.packets(large[0], large[2])
	w.work()
	w.open()
	w.packets(large[1:]...)
	w.packets(small...)
	for range 2 {
		w.work()
		w.open()
		w.packets(small...)
		w.packets(large...)
	}
	w.work()
	if a, b := w.Inbox("anna"), w.Inbox("ben"); len(a) != 2 || len(b) != 1 || !strings.HasPrefix(a[0], "Return-Path: <"+alice+">\r\n") {
		t.Errorf("%d and %d mails", len(a), len(b))
	}
	if s := w.d.Status(); s.Letters != 0 || s.Bytes != 0 {
		t.Errorf("left: %+v", s)
	}
	if n := w.queue.Stats().Mails; n != 0 {
		t.Errorf("%d mails in the queue", n)
	}
	// An anonymous one has no envelope sender.
	w.packets(w.seal(draft{to: []string{"ben"}, unsigned: true, raw: pgp(`"[Anon] nobody" <anonymous@anonymous.invalid>`, 100)})...)
	w.work()
	if b := w.Inbox("ben"); len(b) != 2 || !strings.HasPrefix(b[1], "Return-Path: <>\r\n") {
		t.Errorf("%.80q", b)
	}
}

// TestNobodyVouches: what nobody vouches for reaches nobody, and nobody is told: a forged From, a
// certificate that has expired, one of another relay, and all else that agent/vouch refuses.
func TestNobodyVouches(t *testing.T) {
	w := newWorld(t, nil)
	w.Create("anna", nil)
	at := w.Clock.Now()
	forged := func(from string) []byte { return pgp(from, 100) }
	for name, x := range map[string]draft{
		"a forged From":               {raw: forged("ben@" + other)},
		"the From of an account here": {raw: forged("anna@" + domain)},
		"two senders in From":         {raw: forged(alice + ", ben@" + other)},
		"an expired certificate": {change: func(c *vouch.Certificate) {
			c.From, c.Until = w.Clock.Now().Add(-3*24*time.Hour), w.Clock.Now().Add(-time.Hour)
		}},
		"one that is not valid yet": {change: func(c *vouch.Certificate) {
			c.From, c.Until = w.Clock.Now().Add(time.Hour), w.Clock.Now().Add(24*time.Hour)
		}},
		"a certificate of another relay":     {issuer: domain},
		"one that says it is of this relay":  {issuer: other, change: func(c *vouch.Certificate) { c.Relay = agenttest.Relay(t, domain) }},
		"a relay that is not in the network": {change: func(c *vouch.Certificate) { c.Relay = packet.ID{1} }},
		"another key":                        {signer: dirtest.Key(t, "eve")},
		"another envelope sender":            {edit: func(m *vouch.Mail) { m.Sender = w.Address("ben@" + other) }},
		"no signature":                       {unsigned: true},
		"a relay's own letter":               {signer: agenttest.NameKey(t, other), edit: func(m *vouch.Mail) { m.Certificate, m.Flags = nil, vouch.FromOrdinary }},
		"an old letter":                      {date: at.Add(-7 * 24 * time.Hour)},
	} {
		x.to = []string{"anna"}
		before := w.given("nobody vouches")
		w.packets(w.seal(x)...)
		w.work()
		if strings.Contains(name, "not in the network") && w.d.Status().Letters == 1 {
			w.Clock.Add(patience)
			w.work()
		}
		if n := len(w.Inbox("anna")); n != 0 {
			t.Fatalf("%s: it reached the mailbox", name)
		}
		if w.given("nobody vouches") != before+1 || w.d.Status().Letters != 0 || w.queue.Stats().Mails != 0 {
			t.Errorf("%s: %d, %+v, %d in the queue", name, w.given("nobody vouches")-before, w.d.Status(), w.queue.Stats().Mails)
		}
	}
	// The account of this relay, of which the relay knows better than any certificate.
	w.denied = errs.E("test", errs.Denied, "", nil)
	w.packets(w.seal(draft{sender: "ben@" + domain, to: []string{"anna"}})...)
	w.work()
	if n := len(w.Inbox("anna")); n != 0 || w.d.Status().Letters != 0 {
		t.Error("an account that may not send any more sent a mail")
	}
	w.denied = nil
	w.packets(w.seal(draft{sender: "ben@" + domain, to: []string{"anna"}})...)
	w.work()
	if n := len(w.Inbox("anna")); n != 1 {
		t.Error("an account of this relay cannot send")
	}
}

// TestRefusals: recipients who get nothing are named in one report to a sender that is vouched for, at
// another host or here; an anonymous sender gets none. The others have the mail.
func TestRefusals(t *testing.T) {
	w := newWorld(t, nil)
	for _, name := range []string{"anna", "ben", "blocked"} {
		w.Create(name, nil)
	}
	w.Create("open", func(r *account.CreateRequest) { r.AcceptCleartext = true })
	if err := w.Accounts.Block(t.Context(), w.Address("blocked")); err != nil {
		t.Fatal(err)
	}
	clear := func(from string) []byte { return []byte("From: " + from + "\r\nSubject: CANARY\r\n\r\nhello\r\n") }
	w.packets(w.seal(draft{sender: "ben@" + domain, to: []string{"nobody", "blocked", "anna", "open", "far@away.example"}, raw: clear("ben@" + domain)})...)
	w.work()
	if n := len(w.Inbox("open")); n != 1 {
		t.Error("who takes cleartext did not get it")
	}
	if n := len(w.Inbox("anna")); n != 0 {
		t.Error("cleartext reached an account that takes none")
	}
	got := w.Inbox("ben")
	if len(got) != 1 {
		t.Fatalf("%d reports", len(got))
	}
	for _, want := range []string{"nobody@" + domain, "5.1.1", "blocked@" + domain, "5.2.1", "anna@" + domain, "523 Encryption Needed", "far@away.example",
		"does not send mail from the mix network to other hosts", "CANARY"} {
		if !strings.Contains(got[0], want) {
			t.Errorf("the report does not say %q:\n%s", want, got[0])
		}
	}
	if strings.Contains(got[0], "open@") {
		t.Error("the report names who has the mail")
	}
	w.packets(w.seal(draft{to: []string{"nobody"}})...)
	w.work()
	if q := w.queue.Stats(); q.Mails != 1 || q.Recipients != 1 {
		t.Errorf("a report to a sender elsewhere: %+v", q)
	}
	for _, x := range []draft{{unsigned: true, raw: pgp(`"[Anon] x" <anonymous@anonymous.invalid>`, 100)}, {edit: func(m *vouch.Mail) { m.Sender = mail.Address{} }}} {
		x.to = []string{"nobody"}
		w.packets(w.seal(x)...)
	}
	w.work()
	if q := w.queue.Stats(); q.Mails != 1 || w.d.Status().Letters != 0 {
		t.Errorf("somebody who is nobody was told: %+v", q)
	}
}

// TestFullMailbox: a mail for a full mailbox waits in the queue, which tries again and reports in the end.
func TestFullMailbox(t *testing.T) {
	w := newWorld(t, nil)
	w.Create("small", func(r *account.CreateRequest) { r.Quota = 1000 })
	w.Create("anna", nil)
	w.packets(w.seal(draft{to: []string{"small", "anna"}, raw: pgp(alice, 2000)})...)
	w.work()
	if q := w.queue.Stats(); q.Mails != 1 || q.Recipients != 1 || len(w.Inbox("anna")) != 1 {
		t.Errorf("%+v", q)
	}
}

// TestLater: without a directory, or while accounts cannot be read, a letter waits; it is given up after
// some days.
func TestLater(t *testing.T) {
	w := newWorld(t, nil)
	w.Create("anna", nil)
	w.noCons = errs.E("test", errs.Unavailable, "", nil)
	w.packets(w.seal(draft{to: []string{"anna"}})...)
	w.work()
	if w.d.Status().Letters != 1 || len(w.Inbox("anna")) != 0 {
		t.Fatal("it did not wait")
	}
	w.noCons = nil
	w.work()
	if len(w.Inbox("anna")) != 0 {
		t.Error("it was tried again at once")
	}
	w.Clock.Add(2 * time.Minute)
	w.work()
	if len(w.Inbox("anna")) != 1 || w.d.Status().Letters != 0 {
		t.Error("it was not tried again")
	}
	w.noCons = errs.E("test", errs.Unavailable, "", nil)
	w.packets(w.seal(draft{to: []string{"anna"}})...)
	w.Clock.Add(DefaultGiveUp)
	w.work()
	if w.d.Status().Letters != 0 || w.given("given up") != 1 {
		t.Errorf("it was not given up: %+v", w.d.Status())
	}
	// A letter that does not become whole is given up too.
	w.packets(w.seal(draft{to: []string{"anna"}, raw: pgp(alice, 100_000)})[0])
	w.Clock.Add(DefaultWithin)
	w.work()
	if w.d.Status().Letters != 0 || w.given("not whole") != 1 {
		t.Errorf("it was not given up: %+v", w.d.Status())
	}
}

// TestRelayMissing: a letter waits for a while when the relay that vouches for its sender is not in the
// consensus, and is delivered when it is again.
func TestRelayMissing(t *testing.T) {
	w := newWorld(t, nil)
	w.Create("anna", nil)
	all := w.cons
	w.cons = agenttest.NewMixNet(t, domain).Consensus
	w.packets(w.seal(draft{to: []string{"anna"}})...)
	w.work()
	if w.d.Status().Letters != 1 {
		t.Fatal("it did not wait")
	}
	w.cons = all
	w.Clock.Add(2 * time.Minute)
	w.work()
	if len(w.Inbox("anna")) != 1 || w.d.Status().Letters != 0 {
		t.Error("it was not delivered")
	}
}

// TestStrangePackets: what is not sealed to this relay, is no mail, or is too large, is refused for good
// before anything is kept, and what is sealed to it and is no mail is given up.
func TestStrangePackets(t *testing.T) {
	w := newWorld(t, nil)
	exit := func(kind uint8, body []byte) errs.Kind {
		err := w.d.Exit(t.Context(), [16]byte{1}, packet.Content{Kind: kind, Body: body})
		if err == nil {
			return 0
		}
		return errs.KindOf(err)
	}
	good := w.seal(draft{to: []string{"anna"}})[0]
	if k := exit(content.Mbox, good); k != errs.Unsupported {
		t.Error(k)
	}
	stranger, err := letter.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := letter.Seal(stranger.Public(), letter.Message{Content: []byte("x")}, letter.Options{Room: letter.RoomACK})
	if err != nil {
		t.Fatal(err)
	}
	if k := exit(content.Mail, s.Bodies[0]); k != errs.Auth {
		t.Error(k)
	}
	if k := exit(content.Mail, []byte("x")); k != errs.Invalid {
		t.Error(k)
	}
	w.d.o.MaxSize = 100
	if k := exit(content.Mail, good); k != errs.TooLarge {
		t.Error(k)
	}
	w.d.o.MaxSize = letter.MaxWhole
	if w.d.Status().Letters != 0 {
		t.Error("something was kept")
	}
	s, err = letter.Seal(w.o.Key.Public(), letter.Message{Content: []byte("no mail")}, letter.Options{Room: letter.RoomACK})
	if err != nil {
		t.Fatal(err)
	}
	w.packets(s.Bodies...)
	w.work()
	if w.d.Status().Letters != 0 || w.given("malformed") != 1 {
		t.Errorf("%+v", w.d.Status())
	}
}

// exits notes what it was given.
type exits struct {
	got []string
	err error
}

// Send is that of Exit.
func (e *exits) Send(_ context.Context, v *vouch.Vouched) error {
	if e.err == nil {
		e.got = append(e.got, v.Mail.Recipients[0].String())
	}
	return e.err
}

// TestExit: mail for other hosts goes to the exit, if all of it does; what the exit refuses is reported, and what it
// cannot take in time.
func TestExit(t *testing.T) {
	w := newWorld(t, nil)
	w.Create("anna", nil)
	w.Create("ben", nil)
	e := &exits{}
	w.exit = e
	w.open()
	far := draft{sender: "ben@" + domain, to: []string{"far@away.example"}}
	w.packets(w.seal(far)...)
	w.work()
	if len(e.got) != 1 || len(w.Inbox("ben")) != 0 {
		t.Error(e.got)
	}
	e.err = errs.E("test", errs.Unavailable, "", nil)
	w.packets(w.seal(far)...)
	w.work()
	e.err = nil
	w.Clock.Add(2 * time.Minute)
	w.work()
	if len(e.got) != 2 || w.d.Status().Letters != 0 {
		t.Error("it was not tried again:", e.got)
	}
	e.err = errs.E("test", errs.Full, "enough for today", nil)
	w.packets(w.seal(far)...)
	w.packets(w.seal(draft{sender: "ben@" + domain, to: []string{"far@away.example", "anna"}})...)
	w.work()
	// What the exit cannot take in all the time for it is told, once.
	e.err = errs.E("test", errs.Busy, "the queue is full", nil)
	w.packets(w.seal(far)...)
	w.work()
	if got := strings.Join(w.Inbox("ben"), ""); strings.Contains(got, "the queue is full") || w.d.Status().Letters != 1 {
		t.Error("it is not tried again", got)
	}
	w.Clock.Add(DefaultGiveUp)
	w.work()
	w.Clock.Add(DefaultGiveUp)
	w.work()
	if got := strings.Join(w.Inbox("ben"), ""); strings.Count(got, "Diagnostic-Code: x-postern; 550 5.4.7 Delivery time expired; the last answer was: the queue is full") != 1 || !strings.Contains(got, "Final-Recipient: rfc822; far@away.example") || w.given("given up") != 1 || w.d.Status().Letters != 0 {
		t.Errorf("%d given up, %d wait\n%s", w.given("given up"), w.d.Status().Letters, got)
	}
	got := strings.Join(w.Inbox("ben"), "")
	if !strings.Contains(got, "enough for today") || !strings.Contains(got, "has no recipients at this relay") || len(w.Inbox("anna")) != 1 {
		t.Error(got)
	}
}

// TestRun: Run works on what comes, and ends with its context.
func TestRun(t *testing.T) {
	w := newWorld(t, nil)
	w.Create("anna", nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.d.Run(ctx) }()
	w.packets(w.seal(draft{to: []string{"anna"}})...)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for len(w.Inbox("anna")) == 0 {
		<-tick.C
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
