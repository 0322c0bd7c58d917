package mixsubmit

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/agent/agenttest"
	"postern.email/agent/deliver"
	"postern.email/agent/notice"
	"postern.email/agent/submit"
	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
	"postern.email/post/keybook"
	"postern.email/wire/sasl"
	"postern.email/wire/smtp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	domain = "one.example" // of the proxy's accounts
	other  = "two.example"
)

// world is a mail proxy with an account, and a network with two relays.
type world struct {
	*agenttest.Office
	net     *agenttest.MixNet
	fs      vfs.FS
	book    *keybook.Book
	s       *Submit
	anna    *Account
	offline bool // no consensus
	noCert  bool
	pokes   int

	mu      sync.Mutex
	asked   []mail.Address                                 // look-ups
	answers map[mail.Address]func() (uint8, []byte, error) // to look-ups
}

// newWorld opens a world on a disk in memory; set changes the options before that.
func newWorld(t testing.TB, fs vfs.FS, set func(*Options)) *world {
	t.Helper()
	if fs == nil {
		fs = vfs.NewCrashDisk()
	}
	w := &world{Office: agenttest.Open(t, domain, fs, "/data"), net: agenttest.NewMixNet(t, domain, other), fs: fs,
		answers: make(map[mail.Address]func() (uint8, []byte, error))}
	if _, err := w.Accounts.Resolve(t.Context(), w.Address("anna")); err != nil {
		w.Create("anna", nil)
	}
	var err error
	w.book, err = keybook.Open(keybook.Options{FS: fs, Dir: "/data/recipients", Parse: vouch.ParseKey, Now: w.Clock.Now})
	must(t, err)
	w.anna = w.account("anna")
	desk := notice.New(notice.Options{Deliver: deliver.New(deliver.Options{Store: w.Store, Boxes: w.Boxes, Seen: w.Seen, Now: w.Clock.Now}),
		Resolve: w.Accounts.Resolve, Now: w.Clock.Now})
	o := Options{Accounts: func() []*Account { return []*Account{w.anna} }, Local: submit.Register(w.Accounts), Book: w.book, Desk: desk, Now: w.Clock.Now}
	if set != nil {
		set(&o)
	}
	w.s = New(o)
	return w
}

// account opens an account of the proxy.
func (w *world) account(name string) *Account {
	u := w.net.User(w.fs, "/data/"+name, name+"@"+domain, w.Clock.Now)
	return &Account{Address: u.Address, Identity: u.Identity, Store: u.Store, Home: u.Home, FS: w.fs, Dir: "/data/" + name + "/waiting",
		Poke: func() { w.pokes++ }, Ask: w.ask,
		Consensus: func() (*directory.Consensus, error) {
			if w.offline {
				return nil, errs.E("test", errs.Unavailable, "no consensus", nil)
			}
			return w.net.Consensus, nil
		},
		Certificate: func() (*vouch.Certificate, error) {
			if w.noCert {
				return nil, errs.E("test", errs.NotFound, "no certificate", nil)
			}
			return w.certificate(u), nil
		}}
}

// certificate is what the relay of a user says.
func (w *world) certificate(u *agenttest.MixUser) *vouch.Certificate {
	w.TB.Helper()
	c, err := vouch.Issue(vouch.Certificate{Address: u.Address, Serial: 1, From: w.Clock.Now().Add(-time.Hour).Truncate(time.Second), Until: w.Clock.Now().Add(6 * 24 * time.Hour).Truncate(time.Second),
		Identity: vouch.Identity{Relay: u.Home.Relay, Mailbox: u.Home.Mailbox, Letter: u.Home.Key, Key: u.Identity.Sign.Public()}}, agenttest.NameKey(w.TB, u.Address.Domain))
	must(w.TB, err)
	return c
}

// user is an account elsewhere that has a proxy.
func (w *world) user(address string) *agenttest.MixUser {
	w.TB.Helper()
	return w.net.User(w.fs, "/elsewhere/"+address, address, w.Clock.Now)
}

// know puts the key of a user into the key book.
func (w *world) know(u *agenttest.MixUser) {
	w.TB.Helper()
	id := w.certificate(u).Identity
	_, err := w.book.Set(u.Address, []byte(id.String()))
	must(w.TB, err)
}

// ask answers look-ups as w.answers says.
func (w *world) ask(_ context.Context, relay packet.ID, service uint8, request []byte) (uint8, []byte, error) {
	text, err := content.ParseLookup(request)
	if err != nil || service != content.ServiceCertificate {
		return content.AnswerRefused, nil, nil
	}
	a := w.Address(text)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, a)
	if relay != agenttest.Relay(w.TB, a.Domain) || w.answers[a] == nil {
		return content.AnswerUnknown, nil, nil
	}
	return w.answers[a]()
}

// answer has look-ups of a user answered with a certificate.
func (w *world) answer(u *agenttest.MixUser) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers[u.Address] = func() (uint8, []byte, error) { return content.AnswerOK, w.certificate(u).Bytes(), nil }
}

func (w *world) lookups() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.asked)
}

// run looks at everything that waits, and waits for look-ups.
func (w *world) run() {
	var wg sync.WaitGroup
	w.s.pass(context.Background(), &wg)
	wg.Wait()
	w.s.pass(context.Background(), &wg)
	wg.Wait()
}

// carry takes what waits to users and relays, and lets the proxy hear of it.
func (w *world) carry(to ...*agenttest.MixUser) []agenttest.Carried {
	w.TB.Helper()
	out := w.net.Carry(w.sender(), to...)
	w.run()
	return out
}

// dial is a session of a mail program that has logged in as name.
func (w *world) dial(name string) smtp.Session {
	w.TB.Helper()
	c, err := w.s.NewSession(context.Background(), smtp.Info{})
	must(w.TB, err)
	if name != "" {
		must(w.TB, c.Auth(context.Background(), sasl.Credentials{Username: w.Address(name).String(), Password: agenttest.Password}))
	}
	w.TB.Cleanup(c.Close)
	return c
}

// send hands a mail in as anna; the answer is the first reply that is no 250, or the text of the 250.
func (w *world) send(raw string, to ...string) string { return w.sendWith(raw, 0, to...) }

func (w *world) sendWith(raw string, notify smtp.Notify, to ...string) string {
	w.TB.Helper()
	ctx, c := context.Background(), w.dial("anna")
	if err := c.Mail(ctx, w.Address("anna"), smtp.MailOptions{EnvID: "e1"}); err != nil {
		return said(err)
	}
	for _, r := range to {
		if err := c.Rcpt(ctx, w.Address(r), smtp.RcptOptions{Notify: notify}); err != nil {
			return said(err)
		}
	}
	t, err := c.Data(ctx)
	must(w.TB, err)
	if err := t.Commit(ctx, []byte(raw)); err != nil {
		return said(err)
	}
	return "250 " + t.(smtp.Teller).Text()
}

func said(err error) string { return smtp.ReplyFor(err).String() }

// want sends, and wants an answer that begins so.
func (w *world) want(answer, raw string, to ...string) {
	w.TB.Helper()
	if got := w.send(raw, to...); !strings.HasPrefix(got, answer) {
		w.TB.Fatalf("%q, want %q", got, answer)
	}
}

// plain is a mail in cleartext from anna.
func plain(fields ...string) string {
	return strings.Join(append([]string{"From: Anna <anna@one.example>", "To: you", "Subject: canary plans"}, fields...), "\r\n") + "\r\n\r\nHello.\r\n"
}

// must ends the test.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sender is the proxy's account as the network sees it.
func (w *world) sender() *agenttest.MixUser { return &agenttest.MixUser{Store: w.anna.Store} }
