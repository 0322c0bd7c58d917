package exit

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.email/agent/agenttest"
	"postern.email/agent/mbox"
	"postern.email/agent/vouch"
	"postern.email/kit/clocktest"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/token"
)

var ctx = context.Background()

// someDay is the day of these tests.
const someDay token.Day = 20_480

// tokenKeys are costly, so there are two for all tests: that of relays, and one that no relay has.
var tokenKeys = sync.OnceValues(func() (a, b *token.PrivateKey) {
	a, err := token.GenerateKey(rand.Reader)
	if err == nil {
		b, err = token.GenerateKey(rand.Reader)
	}
	if err != nil {
		panic(err)
	}
	return a, b
})

// sentMail is what was handed over.
type sentMail struct {
	Mail
	text string
}

// world is an exit at the relay of exit.example, in a network with home.example.
type world struct {
	*Exit
	t     testing.TB
	o     Options
	clock *clocktest.Clock
	net   *agenttest.MixNet

	mu   sync.Mutex
	sent []sentMail
	fail error // of the next hand-over
}

func (w *world) Hand(_ context.Context, m Mail) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.fail; err != nil {
		w.fail = nil
		return err
	}
	w.sent = append(w.sent, sentMail{m, string(m.Head) + string(m.Tail)})
	return nil
}

func begin(t testing.TB, change ...func(*Options)) *world {
	t.Helper()
	w := &world{t: t, clock: clocktest.New(someDay.Begin().Add(10 * time.Hour)), net: agenttest.NewMixNet(t, "exit.example", "home.example")}
	k, _ := tokenKeys()
	for i := range w.net.Consensus.Nodes {
		for d := someDay - 1; d <= someDay+1; d++ {
			w.net.Consensus.Nodes[i].TokenKeys = append(w.net.Consensus.Nodes[i].TokenKeys, directory.TokenKey{Day: uint32(d), Key: k.Public().Bytes()})
		}
	}
	w.o = Options{FS: vfs.NewCrashDisk(), Dir: "exit", Secret: []byte(strings.Repeat("s", 32)), Out: w,
		Consensus: func() (*directory.Consensus, error) { return w.net.Consensus, nil },
		Ours:      func(d string) bool { return d == "exit.example" }, Now: w.clock.Now,
		Config: Config{Form: mbox.Form{ReturnAddress: to(t, "anonymous@exit.example"), AllowFrom: true, Abuse: "abuse@exit.example", Comments: "An exit."},
			Bounce: to(t, "bounces@exit.example"), BlockURL: "https://exit.example/block/", Cleartext: true}}
	for _, f := range change {
		f(&w.o)
	}
	w.open()
	return w
}

func (w *world) open() {
	w.t.Helper()
	e, err := New(w.o)
	must(w.t, err)
	w.Exit = e
}

// issue gives a token of a relay for a day.
func issue(t testing.TB, relay string, day token.Day) []byte {
	t.Helper()
	k, _ := tokenKeys()
	return issueWith(t, k, relay, day)
}

func issueWith(t testing.TB, k *token.PrivateKey, relay string, day token.Day) []byte {
	t.Helper()
	b, err := token.Blind(k.Public(), agenttest.Relay(t, relay), day, rand.Reader)
	must(t, err)
	sig, err := k.Sign(b.Request)
	must(t, err)
	tok, err := b.Finish(sig)
	must(t, err)
	return tok.Bytes()
}

func to(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	must(t, err)
	return a
}

const reply = "reply.aaaaaaaaaaaaaaaaaaaaaaaaaa@home.example"

// anonymous is an anonymous mail with a fresh token.
func (w *world) anonymous(text string, rcpts ...string) *vouch.Vouched {
	m := &vouch.Mail{Token: issue(w.t, "home.example", someDay), Raw: []byte("From: \"[Anon] Fox\" <anonymous@anonymous.invalid>\r\nSubject: Hello\r\nReceived: from here\r\nMessage-ID: <secret@fox.example>\r\n" +
		"X-Mailer: fox\r\nDate: Thu, 1 Jan 1970 00:00:00 +0000\r\n\r\n" + text + "\r\n")}
	for _, r := range rcpts {
		m.Recipients = append(m.Recipients, to(w.t, r))
	}
	return &vouch.Vouched{Kind: vouch.Anonymous, Mail: m, Name: "Fox", Return: to(w.t, "anonymous@anonymous.invalid")}
}

// user is a mail of a user of a relay.
func (w *world) user(from, text string, rcpts ...string) *vouch.Vouched {
	v := w.anonymous(text, rcpts...)
	v.Kind, v.Name, v.Return, v.Address = vouch.User, "", mail.Address{}, to(w.t, from)
	v.Mail.Raw = []byte("From: " + from + "\r\nSubject: Hello\r\nReceived: from here\r\nMessage-ID: <1@home.example>\r\nX-Mailer: fox\r\nX-Anonymous: yes\r\nList-Unsubscribe: <https://fox.example>\r\n\r\n" + text + "\r\n")
	return v
}

// secret makes a mail end-to-end encrypted, in its outer form.
func secret(v *vouch.Vouched) *vouch.Vouched {
	h, _, _ := strings.Cut(string(v.Mail.Raw), "\r\n\r\n")
	v.Mail.Raw = []byte(h + "\r\n" + pgp)
	return v
}

// pgp is an OpenPGP/MIME body (RFC 3156 §4) with a packet that is encrypted to a key and one with
// the data.
const pgp = "MIME-Version: 1.0\r\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=b\r\n\r\n" +
	"--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n" +
	"--b\r\nContent-Type: application/octet-stream\r\n\r\n" + pgpArmor + "\r\n--b--\r\n"

const pgpArmor = "-----BEGIN PGP MESSAGE-----\r\n\r\nwQoDAAAAAAAAAAAA0v8AAAA8AVpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpa\r\nWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpa\r\n-----END PGP MESSAGE-----\r\n"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused asks for a kind of error with words that name nobody.
func refused(t testing.TB, err error, kind errs.Kind, words string) {
	t.Helper()
	if err == nil || errs.KindOf(err) != kind || !strings.Contains(errs.Public(err), words) || strings.Contains(errs.Public(err), "@") {
		t.Errorf("%v (%v, %q), want %v with %q", err, errs.KindOf(err), errs.Public(err), kind, words)
	}
}

// tos gives whom mails went to, in turn.
func (w *world) tos() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, s := range w.sent {
		out = append(out, s.To.String())
	}
	return strings.Join(out, " ")
}

func (w *world) last() sentMail {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.sent) == 0 {
		w.t.Fatal("nothing was sent")
	}
	return w.sent[len(w.sent)-1]
}
