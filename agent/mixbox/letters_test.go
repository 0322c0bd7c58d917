package mixbox

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/agent/agenttest"
	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
	"postern.email/post/account"
	"postern.email/post/packetbox"
	"postern.email/post/seal"
	"postern.email/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const domain = "mail.example"

// world is an office in which anna reads her mail with a proxy.
type world struct {
	*agenttest.Office
	t    *testing.T
	l    Letters
	anna account.Account
	key  *letter.PrivateKey
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Office: agenttest.Open(t, domain, nil, "/data"), t: t}
	w.Create("anna", nil)
	root, err := seal.NewRoot(bytes.Repeat([]byte{7}, seal.KeyLen), nil)
	must(t, err)
	boxes, err := packetbox.Open(t.Context(), packetbox.Options{Store: w.Store, Root: root, Now: w.Clock.Now})
	must(t, err)
	w.anna, err = w.Accounts.Resolve(t.Context(), w.Address("anna"))
	must(t, err)
	w.key, err = letter.GenerateKey(rand.Reader)
	must(t, err)
	_, err = boxes.RegisterProxy(t.Context(), w.anna.ID, [32]byte{1}, packetbox.Identity{Letter: [packetbox.LetterLen]byte(w.key.Public().Bytes())})
	must(t, err)
	w.l = Letters{Boxes: boxes, Signer: agenttest.NameKey(t, domain), Domain: domain, Now: w.Clock.Now}
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put puts a mail into anna's box, and gives how many packets it is and what her proxy reads.
func (w *world) put(from mail.Address, raw []byte) (packets int, v *vouch.Vouched) {
	w.t.Helper()
	return w.putBehind(from, raw, 0)
}

// putBehind is put for a mail that begins with fields of an alias.
func (w *world) putBehind(from mail.Address, raw []byte, fields int) (packets int, v *vouch.Vouched) {
	w.t.Helper()
	ctx := w.t.Context()
	p, err := w.l.Letter(ctx, w.anna, from, raw, fields)
	must(w.t, err)
	must(w.t, w.Store.Update(ctx, w.anna.ID.Shard(), func(tx store.Tx) error { return p.Put(tx) }))
	p.Committed()
	a := letter.NewAssembler(letter.Limits{})
	for {
		items, err := w.l.Boxes.Next(ctx, w.anna.ID, 0, 64)
		must(w.t, err)
		if len(items) == 0 {
			return packets, v
		}
		var taken []uint64
		for _, it := range items {
			taken = append(taken, it.Number)
			packets++
			c, err := packet.OpenContent(it.Payload)
			must(w.t, err)
			f, err := letter.Open(w.key, c.Body)
			must(w.t, err)
			l, err := a.Add(f, w.Clock.Now())
			must(w.t, err)
			if l != nil {
				v, err = vouch.Check(agenttest.NewMixNet(w.t, domain).Consensus, w.Clock.Now(), l, vouch.Door{Home: agenttest.Relay(w.t, domain), Transit: vouch.InboxTransit})
				must(w.t, err)
			}
		}
		must(w.t, w.l.Boxes.Remove(ctx, w.anna.ID, taken))
	}
}

// TestLetter: the proxy reads the mail as it came, with its envelope, and whether it was in cleartext; a
// report, which is a listed exception, is not marked.
func TestLetter(t *testing.T) {
	w := newWorld(t)
	from := mail.Address{Local: "bob", Domain: "remote.example"}
	report := "From: <MAILER-DAEMON@remote.example>\r\nAuto-Submitted: auto-replied\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n"
	for _, c := range []struct {
		from  mail.Address
		raw   string
		clear bool
	}{{from, "From: <bob@remote.example>\r\nSubject: x\r\n\r\nhello\r\n", true}, {mail.Address{}, report, false}} {
		_, v := w.put(c.from, []byte(c.raw))
		if v == nil || v.Kind != vouch.Relay || v.Domain != domain || string(v.Mail.Raw) != c.raw || v.Mail.Sender != c.from || v.Cleartext() != c.clear ||
			len(v.Mail.Recipients) != 1 || !v.Mail.Recipients[0].Equal(w.Address("anna")) {
			t.Errorf("%.40q: %+v", c.raw, v)
		}
	}
}

// noise is a mail of a size that compression does not make smaller.
func noise(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.Read(b)
	for i, c := range b {
		if c == 0 || c == '\r' || c == '\n' {
			b[i] = 0x80
		}
	}
	copy(b, "Subject: x\r\n\r\n")
	copy(b[size-2:], "\r\n")
	return b
}

// TestPackets: a mail is never more packets than was reckoned when its size was told, and hardly fewer.
func TestPackets(t *testing.T) {
	w := newWorld(t)
	from := w.Address("ben")
	for _, size := range []int{300, 17_000, 19_500, 24_000, 44_000, 200_000, 1_000_000} {
		raw := noise(size)
		got, v := w.put(from, raw)
		if most := Packets(int64(len(raw))); got > most || most > got+1 || !bytes.Equal(v.Mail.Raw, raw) {
			t.Errorf("%d bytes are %d packets, and %d were reckoned", len(raw), got, most)
		}
	}
	if n := Packets(MaxMail); n == 0 || n > 1500 {
		t.Errorf("the largest mail is %d packets", n)
	}
}

// TestLetterForAlias: a mail for an alias says so, and whether it was in cleartext goes by the mail alone.
func TestLetterForAlias(t *testing.T) {
	w := newWorld(t)
	fields := "Return-Path: <>\r\nX-Postern-Alias: fox@two.example; sender=first; vouched=login\r\n"
	report := "From: <MAILER-DAEMON@remote.example>\r\nAuto-Submitted: auto-replied\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n"
	for raw, want := range map[string]uint8{
		"From: <bob@remote.example>\r\n\r\nhello\r\n": vouch.FromOrdinary | vouch.FromWorld | vouch.ForAlias,
		report: vouch.FromOrdinary | vouch.ForAlias,
	} {
		_, v := w.putBehind(mail.Address{}, []byte(fields+raw), len(fields))
		if v == nil || v.Mail.Flags != want || string(v.Mail.Raw) != fields+raw {
			t.Errorf("%.40q: %+v", raw, v)
		}
	}
}

// TestNotForAProxy: what the mix network does not carry is refused for good, and an account without a
// proxy is none.
func TestNotForAProxy(t *testing.T) {
	w := newWorld(t)
	for _, body := range []string{"a\nb\r\n", "a\rb\r\n", "a\x00b\r\n", "a\r", "a\n"} {
		if _, err := w.l.Letter(t.Context(), w.anna, mail.Address{}, []byte("Subject: x\r\n\r\n"+body), 0); errs.KindOf(err) != errs.Invalid || !strings.Contains(errs.Public(err), "CRLF") {
			t.Errorf("%q: %v", body, err)
		}
	}
	large := append([]byte("Subject: x\r\n\r\n"), bytes.Repeat([]byte("x"), letter.MaxContent)...)
	if _, err := w.l.Letter(t.Context(), w.anna, mail.Address{}, large, 0); errs.KindOf(err) != errs.TooLarge {
		t.Error(err)
	}
	w.Create("ben", nil)
	ben, err := w.Accounts.Resolve(t.Context(), w.Address("ben"))
	must(t, err)
	for id, want := range map[seal.AccountID]bool{w.anna.ID: true, ben.ID: false} {
		if yes, err := w.l.Proxy(t.Context(), id); yes != want || err != nil {
			t.Error(yes, err)
		}
	}
	if _, err := w.l.Letter(t.Context(), ben, mail.Address{}, []byte("Subject: x\r\n\r\nhello\r\n"), 0); errs.KindOf(err) != errs.NotFound {
		t.Error(err)
	}
}

// BenchmarkLetter seals a mail of 10 KB and one of 1 MB to a proxy.
func BenchmarkLetter(b *testing.B) {
	key, err := letter.GenerateKey(rand.Reader)
	must(b, err)
	root, err := seal.NewRoot(bytes.Repeat([]byte{7}, seal.KeyLen), nil)
	must(b, err)
	o := agenttest.Open(b, domain, nil, "/data")
	boxes, err := packetbox.Open(b.Context(), packetbox.Options{Store: o.Store, Root: root, Now: time.Now})
	must(b, err)
	a := account.Account{ID: seal.AccountID{1}, Address: o.Address("anna")}
	_, err = boxes.RegisterProxy(b.Context(), a.ID, [32]byte{1}, packetbox.Identity{Letter: [packetbox.LetterLen]byte(key.Public().Bytes())})
	must(b, err)
	l := Letters{Boxes: boxes, Signer: agenttest.NameKey(b, domain), Domain: domain, Now: time.Now}
	for name, size := range map[string]int{"10KB": 10_000, "1MB": 1_000_000} {
		raw := noise(size)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				if _, err := l.Letter(b.Context(), a, mail.Address{}, raw, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
