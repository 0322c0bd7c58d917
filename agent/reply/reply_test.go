package reply

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/agent/agenttest"
	"postern.email/agent/mixbox"
	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/anon"
	"postern.email/mixnet/content"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const domain = "mail.example"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a relay with reply addresses, and one owner, whose blocks go by four hops.
type world struct {
	*agenttest.Office
	t      *testing.T
	d      *Desk
	sent   [][]byte // what was sent, for the first hop
	fails  error
	hops   []packet.Hop
	keys   []*packet.PrivateKey
	seed   packet.Seed
	owner  ed25519.PrivateKey
	serial uint64
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Office: agenttest.Open(t, domain, nil, "/data"), t: t, seed: packet.Seed{3}}
	w.owner = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{5}, ed25519.SeedSize))
	for i := range 4 {
		k, err := packet.GeneratePrivateKey(rand.Reader)
		must(t, err)
		w.keys = append(w.keys, k)
		w.hops = append(w.hops, packet.Hop{Node: packet.ID{byte(i + 1)}, Key: k.Public()})
	}
	w.d = New(Options{Stock: w.Replies().Stock, Relay: func() packet.ID { return agenttest.Relay(t, domain) },
		Letters: mixbox.Letters{Signer: agenttest.NameKey(t, domain), Domain: domain, Now: w.Clock.Now},
		Send: func(_ context.Context, s *packet.SURB, c packet.Content) error {
			if w.fails != nil {
				return w.fails
			}
			p, err := s.Use(nil, c, w.Clock.Now())
			if err == nil {
				w.sent = append(w.sent, p)
			}
			return err
		}})
	return w
}

func (w *world) address() mail.Address {
	return anon.ReplyAddress(content.ReplyName(w.owner.Public().(ed25519.PublicKey)), domain)
}

// request is a feed with n blocks of the set hint.
func (w *world) request(hint byte, n int) []byte {
	w.t.Helper()
	w.serial++
	f := content.Feed{Owner: w.owner.Public().(ed25519.PublicKey), Serial: w.serial, Hint: letter.Hint{hint}}
	key, err := letter.ReplyKey(&w.seed, f.Hint)
	must(w.t, err)
	f.Key = [content.FeedKeyLen]byte(key.Public().Bytes())
	for range n {
		s, _, err := packet.NewSURB(w.hops, packet.ID{9}, &w.seed, w.Clock.Now().Add(48*time.Hour), rand.Reader)
		must(w.t, err)
		f.Blocks = append(f.Blocks, s)
	}
	b, err := f.Sign(agenttest.Relay(w.t, domain), w.owner)
	must(w.t, err)
	return b
}

func (w *world) feed(hint byte, n, want int) {
	w.t.Helper()
	status, answer := w.d.Serve(w.t.Context(), content.ServiceReply, w.request(hint, n))
	held, until, err := content.ParseStock(answer)
	if status != content.AnswerOK || err != nil || int(held) != want || want > 0 && until != uint64(w.Clock.Now().Add(48*time.Hour).Unix()) {
		w.t.Fatalf("%d: %d blocks until %d, %v", status, held, until, err)
	}
}

// take takes a mail as deliver does.
func (w *world) take(raw string) error {
	p, err := w.d.Letter(w.t.Context(), w.address(), mail.Address{Local: "bob", Domain: "remote.example"}, []byte(raw))
	if err != nil {
		return err
	}
	if err := w.Store.Update(w.t.Context(), p.Shard(), p.Put); err != nil {
		return err
	}
	p.Committed()
	return nil
}

// read carries what was sent to the owner, who opens it with the seed alone.
func (w *world) read() *letter.Letter {
	w.t.Helper()
	a := letter.NewAssembler(letter.Limits{})
	for _, p := range w.sent {
		var r packet.Result
		for _, k := range w.keys {
			var err error
			r, err = packet.Unwrap(k, p)
			must(w.t, err)
			p = r.Packet
		}
		c, err := packet.OpenReply(&w.seed, r.Mark, r.Payload)
		must(w.t, err)
		if c.Kind != content.Letter || r.Mailbox != (packet.ID{9}) {
			w.t.Fatalf("kind %d", c.Kind)
		}
		f, err := letter.OpenAnswer(&w.seed, c.Body)
		must(w.t, err)
		if l, err := a.Add(f, w.Clock.Now()); err != nil {
			w.t.Fatal(err)
		} else if l != nil {
			return l
		}
	}
	return nil
}

const short = "From: <bob@remote.example>\r\nSubject: x\r\n\r\nhello\r\n"

// noise is a mail that compression makes little shorter.
func noise(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	for i := range b {
		b[i] = 'A' + b[i]&63
	}
	return short + string(b) + "\r\n"
}

// TestAnswer: mail for a reply address reaches its owner as a letter of the relay, by as many blocks
// as it has fragments, all of one set; a lost fragment of several does no harm.
func TestAnswer(t *testing.T) {
	for name, raw := range map[string]string{"short": short, "long": noise(50_000)} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.feed(1, 1, 1)
			w.feed(2, 4, 5)
			w.feed(2, 2, 7)
			must(t, w.take(raw))
			must(t, w.d.send(t.Context()))
			if name == "long" {
				if len(w.sent) < 4 {
					t.Fatalf("%d packets", len(w.sent))
				}
				w.sent = w.sent[1:]
			}
			l := w.read()
			if l == nil {
				t.Fatal("the letter is not whole")
			}
			v, err := vouch.Check(agenttest.NewMixNet(t, domain).Consensus, w.Clock.Now(), l, vouch.Door{Home: agenttest.Relay(t, domain), Transit: vouch.InboxTransit})
			must(t, err)
			if v.Kind != vouch.Relay || v.Domain != domain || string(v.Mail.Raw) != raw || !v.Cleartext() || len(v.Mail.Recipients) != 1 || v.Mail.Recipients[0] != w.address() ||
				v.Mail.Sender.String() != "bob@remote.example" {
				t.Errorf("%+v", v)
			}
		})
	}
}

// TestNotEnough: a mail that needs more blocks than a set has waits, and takes none of them; one that no
// stock is enough for is refused for good.
func TestNotEnough(t *testing.T) {
	w := newWorld(t)
	if err := w.d.Room(t.Context(), w.address()); errs.KindOf(err) != errs.NotFound {
		t.Errorf("nobody's: %v", err)
	}
	if err := w.take(short); errs.KindOf(err) != errs.NotFound {
		t.Errorf("nobody's: %v", err)
	}
	w.feed(1, 2, 2)
	must(t, w.d.Room(t.Context(), w.address()))
	if err := w.take(noise(50_000)); errs.KindOf(err) != errs.Full {
		t.Errorf("too few: %v", err)
	}
	if err := w.take(noise(2 << 20)); errs.KindOf(err) != errs.TooLarge {
		t.Errorf("too large: %v", err)
	}
	if err := w.take("From: <bob@remote.example>\n\nx\n"); errs.KindOf(err) != errs.Invalid {
		t.Errorf("bare line feeds: %v", err)
	}
	must(t, w.take(short))
	must(t, w.take(short))
	if err := w.d.Room(t.Context(), w.address()); errs.KindOf(err) != errs.Full {
		t.Errorf("used up: %v", err)
	}
	if err := w.d.Room(t.Context(), mail.Address{Local: "anna", Domain: domain}); errs.KindOf(err) != errs.NotFound {
		t.Errorf("no reply address: %v", err)
	}
}

// TestRefused: only the owner's requests, to this relay, in this form.
func TestRefused(t *testing.T) {
	w := newWorld(t)
	good := w.request(1, 1)
	bad := bytes.Clone(good)
	bad[len(bad)-1] ^= 1
	for _, c := range []struct {
		service uint8
		request []byte
	}{{content.ServiceCertificate, good}, {content.ServiceReply, bad}, {content.ServiceReply, nil}} {
		if status, answer := w.d.Serve(t.Context(), c.service, c.request); status != content.AnswerRefused || answer != nil {
			t.Errorf("service %d: %d", c.service, status)
		}
	}
	w.Store.Close()
	if status, _ := w.d.Serve(t.Context(), content.ServiceReply, good); status != content.AnswerLater {
		t.Errorf("with a disk that does not answer: %d", status)
	}
}

// TestSend: what cannot be sent now is kept and tried again; what can never be is given up; what was
// sent is forgotten.
func TestSend(t *testing.T) {
	w := newWorld(t)
	w.feed(1, 2, 2)
	must(t, w.take(short))
	w.fails = errs.E("test", errs.Unavailable, "", nil)
	if err := w.d.send(t.Context()); errs.KindOf(err) != errs.Unavailable {
		t.Error(err)
	}
	w.fails = nil
	ctx, cancel := context.WithCancel(t.Context())
	w.d.o.RetryEvery = time.Hour
	done := make(chan error, 1)
	sent := w.d.o.Send
	once := make(chan struct{}, 1)
	w.d.o.Send = func(ctx context.Context, s *packet.SURB, c packet.Content) error {
		defer func() { once <- struct{}{} }()
		return sent(ctx, s, c)
	}
	go func() { done <- w.d.Run(ctx) }()
	<-once
	cancel()
	must(t, <-done)
	w.d.o.Send = sent
	must(t, w.d.send(t.Context()))
	if l := w.read(); l == nil || len(w.sent) > 2 {
		t.Errorf("%d packets", len(w.sent))
	}
	must(t, w.take(short))
	w.Clock.Add(72 * time.Hour)
	must(t, w.d.send(t.Context()))
	if st := w.d.o.Stock.Stats(); st.Lost != 1 {
		t.Errorf("%+v", st)
	}
	if list, err := w.d.o.Stock.Next(t.Context(), nil, 1); err != nil || len(list) != 0 {
		t.Error(len(list), err)
	}
}
