package mixreceive

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"postern.email/agent/agenttest"
	"postern.email/agent/deliver"
	"postern.email/agent/notice"
	"postern.email/agent/vouch"
	"postern.email/kit/disktest"
	"postern.email/kit/errs"
	"postern.email/kit/racetest"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mixnet/client"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/post/account"
	"postern.email/post/keybook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	domain = "one.example"
	other  = "two.example"
)

// world is a proxy whose account is bert@two.example, and anna@one.example who writes to him.
type world struct {
	*agenttest.Office
	net     *agenttest.MixNet
	fs      vfs.FS
	anna    *agenttest.MixUser
	bert    *agenttest.MixUser
	book    *keybook.Book
	r       *Receive
	account *Account
	offline bool
}

func newWorld(t testing.TB, fs vfs.FS, set func(*Options)) *world {
	t.Helper()
	if fs == nil {
		fs = vfs.NewCrashDisk()
	}
	w := &world{Office: agenttest.Open(t, other, fs, "/data"), net: agenttest.NewMixNet(t, domain, other), fs: fs}
	w.anna = w.net.User(fs, "/elsewhere/anna", "anna@one.example", w.Clock.Now)
	w.bert = w.net.User(fs, "/data/bert", "bert@two.example", w.Clock.Now)
	var err error
	w.book, err = keybook.Open(keybook.Options{FS: fs, Dir: "/data/recipients", Parse: vouch.ParseKey, Now: w.Clock.Now})
	must(t, err)
	d := deliver.New(deliver.Options{Store: w.Store, Boxes: w.Boxes, Seen: w.Seen, Now: w.Clock.Now})
	o := Options{Resolve: w.Accounts.Resolve, Deliver: d, Book: w.book, Now: w.Clock.Now,
		Desk: notice.New(notice.Options{Deliver: d, Resolve: w.Accounts.Resolve, Now: w.Clock.Now, PerDay: 5})}
	if set != nil {
		set(&o)
	}
	w.r = New(o)
	w.account = &Account{Address: w.bert.Address, Store: w.bert.Store, Relay: w.bert.Relay, Consensus: func() (*directory.Consensus, error) {
		if w.offline {
			return nil, errs.E("test", errs.Unavailable, "", nil)
		}
		return w.net.Consensus, nil
	}}
	return w
}

func (w *world) pass() error { return w.r.pass(context.Background(), w.account) }

// seal makes a letter to bert. change may spoil it.
func (w *world) seal(raw string, change func(*vouch.Mail, *letter.Message)) *letter.Sealed {
	w.TB.Helper()
	m := vouch.Mail{Certificate: w.certificate().Bytes(), Recipients: []mail.Address{w.bert.Address}, Sender: w.anna.Address, Raw: []byte(raw)}
	l := letter.Message{Date: w.Clock.Now(), Signer: w.anna.Identity.Sign, Sender: w.anna.Address.String()}
	if change != nil {
		change(&m, &l)
	}
	if l.Content == nil {
		l.Content = m.Append(nil)
	}
	s, err := letter.Seal(w.bert.Home.Key, l, letter.Options{Room: letter.RoomACK})
	must(w.TB, err)
	return s
}

func (w *world) certificate() *vouch.Certificate {
	w.TB.Helper()
	u := w.anna
	c, err := vouch.Issue(vouch.Certificate{Address: u.Address, Serial: 1, From: w.Clock.Now().Add(-time.Hour).Truncate(time.Second), Until: w.Clock.Now().Add(6 * 24 * time.Hour).Truncate(time.Second),
		Identity: vouch.Identity{Relay: u.Home.Relay, Mailbox: u.Home.Mailbox, Letter: u.Home.Key, Key: u.Identity.Sign.Public()}}, agenttest.NameKey(w.TB, domain))
	must(w.TB, err)
	return c
}

const plain = "From: Anna <anna@one.example>\r\nTo: bert@two.example\r\nSubject: canary\r\n\r\nHello.\r\n"

// TestDelivered: a letter is in the mailbox once, however often its packets come, with the word of
// who vouches; and its inbox is empty.
func TestDelivered(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.Create("bert", nil)
	l := w.seal(plain, nil)
	w.net.Give(w.bert, l.Bodies...)
	must(t, w.pass())
	w.net.Give(w.bert, l.Bodies...)
	must(t, w.pass())
	in := w.Inbox("bert")
	const word = "anna@one.example; certificate (the sender's relay vouches; the key is not in your key book)\r\n"
	if len(in) != 1 || !strings.HasPrefix(in[0], "Return-Path: <anna@one.example>\r\nX-Postern-Sender: "+word+"X-Katzenpost-Sender: "+word+"From: Anna") || !strings.HasSuffix(in[0], "\r\n\r\nHello.\r\n") {
		t.Errorf("%q", in)
	}
	got, err := w.bert.Store.Collect()
	if err != nil || len(got.Letters)+got.Partial != 0 {
		t.Errorf("%+v %v", got, err)
	}
	// The null sender is kept.
	w.net.Give(w.bert, w.seal(plain, func(m *vouch.Mail, _ *letter.Message) { m.Sender = mail.Address{} }).Bodies...)
	must(t, w.pass())
	if in = w.Inbox("bert"); len(in) != 2 || !strings.HasPrefix(in[1], "Return-Path: <>\r\n") {
		t.Errorf("%q", in)
	}
}

// TestWord: the word about the sender goes by the key book.
func TestWord(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.Create("bert", nil)
	n := 0
	want := func(word string, change func(*vouch.Mail, *letter.Message)) {
		t.Helper()
		raw := plain
		w.net.Give(w.bert, w.seal(raw, change).Bodies...)
		must(t, w.pass())
		in := w.Inbox("bert")
		if n++; len(in) != n || !strings.Contains(in[n-1], "\r\nX-Postern-Sender: "+word) {
			t.Errorf("%d %q, want %q", len(in), in[len(in)-1], word)
		}
	}
	want("anna@one.example; certificate ", nil)
	w.account.Discover = true
	want("anna@one.example; certificate ", nil) // and is noted
	want("anna@one.example; unverified ", nil)
	id := w.certificate().Identity
	_, err := w.book.Verify(w.anna.Address, id.Fingerprint())
	must(t, err)
	want("anna@one.example; verified ", nil)
	old := w.anna
	w.anna = w.net.User(w.fs, "/elsewhere/anna2", "anna@one.example", w.Clock.Now)
	want("anna@one.example; changed ", nil)
	if e, err := w.book.Get(old.Address); err != nil || e.State != keybook.Changed {
		t.Errorf("%+v %v", e, err)
	}
	relay := func(flags uint8) func(*vouch.Mail, *letter.Message) {
		return func(m *vouch.Mail, l *letter.Message) {
			m.Flags, m.Certificate, m.Sender = flags, nil, mail.Address{Local: "eve", Domain: "world.example"}
			l.Signer, l.Sender = agenttest.NameKey(t, other), other
		}
	}
	want("two.example; relay ", relay(vouch.FromOrdinary))
	want("two.example; world ", relay(vouch.FromOrdinary|vouch.FromWorld))
}

// TestRefused: what nobody vouches for, and what is no mail, is not delivered; the user hears of it
// once, without its content.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*world, *vouch.Mail, *letter.Message)
		subject string
	}{
		"forged From": {func(_ *world, m *vouch.Mail, _ *letter.Message) {
			m.Raw = []byte(strings.Replace(plain, "anna@", "eve@", 1))
		}, "Mail was refused"},
		"expired": {func(w *world, m *vouch.Mail, l *letter.Message) {
			w.Clock.Add(8 * 24 * time.Hour)
			l.Date = w.Clock.Now()
		}, "Mail was refused"},
		"of another relay": {func(w *world, m *vouch.Mail, l *letter.Message) {
			c, err := vouch.Issue(*w.certificate(), agenttest.NameKey(t, other))
			must(t, err)
			m.Certificate = c.Bytes()
		}, "Mail was refused"},
		"not signed": {func(_ *world, _ *vouch.Mail, l *letter.Message) { l.Signer, l.Sender = nil, "" }, "Mail was refused"},
		"relay of another account": {func(_ *world, m *vouch.Mail, l *letter.Message) {
			m.Flags, m.Certificate = vouch.FromOrdinary, nil
			l.Signer, l.Sender = agenttest.NameKey(t, domain), domain
		}, "Mail was refused"},
		"no mail":    {func(_ *world, _ *vouch.Mail, l *letter.Message) { l.Content = []byte("hello") }, "Malformed mail"},
		"bad header": {func(_ *world, m *vouch.Mail, _ *letter.Message) { m.Raw = []byte("canary\r\n\r\n") }, "Malformed mail"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			w.Create("bert", nil)
			sealed := w.seal(plain, func(m *vouch.Mail, l *letter.Message) { c.change(w, m, l) })
			w.net.Give(w.bert, sealed.Bodies...)
			must(t, w.pass())
			w.net.Give(w.bert, sealed.Bodies...)
			must(t, w.pass())
			in := w.Inbox("bert")
			if len(in) != 1 || !strings.Contains(in[0], "\r\nSubject: "+c.subject) || strings.Contains(in[0], "canary") || strings.Contains(in[0], "anna@") || strings.Contains(in[0], "eve@") {
				t.Errorf("%q", in)
			}
		})
	}
}

// TestDamagedLetter: a letter whose parts are whole and whose proof is wrong is told of.
func TestDamagedLetter(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.Create("bert", nil)
	sealed := w.seal(plain, func(_ *vouch.Mail, l *letter.Message) { l.Signer = liar{w.anna.Identity.Sign} })
	w.net.Give(w.bert, sealed.Bodies...)
	must(t, w.pass())
	if in := w.Inbox("bert"); len(in) != 1 || !strings.Contains(in[0], "Subject: Mail that could not be opened") {
		t.Errorf("%q", in)
	}
}

// liar signs something else.
type liar struct{ *directory.PrivateKey }

func (l liar) Sign(b []byte) (directory.Signature, error) { return l.PrivateKey.Sign(b[1:]) }

// TestForbiddenHeader: fields that only a proxy writes are taken out of mail and reported.
func TestForbiddenHeader(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.Create("bert", nil)
	w.net.Give(w.bert, w.seal("X-Postern-Sender: boss@two.example; verified\r\nx-katzenpost-sender: boss\r\nX-Katzenpost-Else: boss\r\n"+plain, nil).Bodies...)
	must(t, w.pass())
	in := w.Inbox("bert")
	if len(in) != 2 || !strings.Contains(in[0], "Subject: A mail came with a forbidden header") || !strings.HasSuffix(in[1], "Hello.\r\n") || strings.Contains(in[1], "boss") {
		t.Errorf("%q", in)
	}
}

// TestGarbage: whatever comes, reports about it are bounded, and mail goes on.
func TestGarbage(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.Create("bert", nil)
	for i := range 20 {
		w.net.Give(w.bert, w.seal("", func(_ *vouch.Mail, l *letter.Message) { l.Content = fmt.Append(nil, "garbage ", i) }).Bodies...)
	}
	w.net.Give(w.bert, w.seal(plain, nil).Bodies...)
	must(t, w.pass())
	in := w.Inbox("bert")
	if len(in) != 6 || !strings.Contains(in[4], "This is the last of 5 reports") || !strings.HasSuffix(in[5], "Hello.\r\n") {
		t.Errorf("%d %q", len(in), in)
	}
	got, err := w.bert.Store.Collect()
	if err != nil || len(got.Letters) != 0 {
		t.Errorf("%+v %v", got, err)
	}
	w.Clock.Add(24 * time.Hour)
	w.net.Give(w.bert, w.seal("", func(_ *vouch.Mail, l *letter.Message) { l.Content = []byte("garbage") }).Bodies...)
	must(t, w.pass())
	if n := len(w.Inbox("bert")); n != 7 {
		t.Errorf("%d", n)
	}
}

// TestLater: without a mailbox, a directory or room a letter stays where it is, and does not hold up
// those behind it.
func TestLater(t *testing.T) {
	w := newWorld(t, nil, nil)
	big := plain + strings.Repeat("x\r\n", 4000)
	w.net.Give(w.bert, w.seal(big, nil).Bodies...)
	if err := w.pass(); errs.KindOf(err) != errs.NotFound {
		t.Errorf("no mailbox: %v", err)
	}
	w.Create("bert", func(r *account.CreateRequest) { r.Quota = 6000 })
	w.offline = true
	if err := w.pass(); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("no directory: %v", err)
	}
	w.offline = false
	w.Clock.Add(DefaultPause)
	w.net.Give(w.bert, w.seal(plain, nil).Bodies...)
	if err := w.pass(); errs.KindOf(err) != errs.Full {
		t.Errorf("no room: %v", err)
	}
	if in := w.Inbox("bert"); len(in) != 1 || !strings.HasSuffix(in[0], "Hello.\r\n") {
		t.Errorf("%q", in)
	}
	must(t, w.pass()) // it is not tried at once
	got, err := w.bert.Store.Collect()
	if err != nil || len(got.Letters) != 1 {
		t.Errorf("%+v %v", got, err)
	}
}

// TestLost: parts of a letter that never became whole are told of when they are given up.
func TestLost(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.Create("bert", nil)
	long := w.seal("", func(_ *vouch.Mail, l *letter.Message) { l.Content = noise(60 << 10) })
	w.net.Give(w.bert, long.Bodies[:2]...)
	must(t, w.pass())
	w.Clock.Add(client.DefaultKeep + time.Hour)
	must(t, w.pass())
	must(t, w.pass())
	if in := w.Inbox("bert"); len(in) != 1 || !strings.Contains(in[0], "Subject: Mail did not come whole") || !strings.Contains(in[0], "(2 packets)") {
		t.Errorf("%q", in)
	}
}

// TestLostLater: what is lost is told of once there is room for that, and then once.
func TestLostLater(t *testing.T) {
	full := true
	w := newWorld(t, nil, func(o *Options) {
		o.Desk = notice.New(notice.Options{Deliver: o.Deliver, Now: o.Now, Resolve: func(ctx context.Context, a mail.Address) (account.Account, error) {
			if full {
				return account.Account{}, errs.E("test", errs.Full, "", nil)
			}
			return o.Resolve(ctx, a)
		}})
	})
	w.Create("bert", nil)
	must(t, vfs.WriteFileAtomic(w.fs, "/data/bert/in/"+strings.Repeat("f", 16), []byte("damaged"), 0o600))
	long := w.seal("", func(_ *vouch.Mail, l *letter.Message) { l.Content = noise(60 << 10) })
	w.net.Give(w.bert, long.Bodies[:2]...)
	must(t, w.pass())
	w.Clock.Add(client.DefaultKeep + time.Hour)
	must(t, w.pass()) // what was too old is gone now
	if in := w.Inbox("bert"); len(in) != 0 {
		t.Fatalf("%q", in)
	}
	full = false
	must(t, w.pass())
	must(t, w.pass())
	in := w.Inbox("bert")
	if len(in) != 2 || !strings.Contains(in[0], "Subject: Mail did not come whole") || !strings.Contains(in[0], "(2 packets)") ||
		!strings.Contains(in[1], "Subject: Stored mail cannot be read") || !strings.Contains(strings.Join(strings.Fields(in[1]), " "), " 1 files with packets") {
		t.Errorf("%q", in)
	}
}

// noise is what does not compress.
func noise(n int) []byte {
	b, x := make([]byte, n), uint64(88172645463325252)
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return b
}

// TestServe: what comes is delivered while Serve runs, and it ends with its context.
func TestServe(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.Create("bert", nil)
	come := make(chan struct{}, 1)
	w.account.Wait = func(ctx context.Context) {
		select {
		case <-come:
		case <-ctx.Done():
		}
	}
	arrived := make(chan [2]mail.Address, 1)
	w.r.o.Arrived = func(to, from mail.Address, h mail.Header) { arrived <- [2]mail.Address{to, from} }
	w.r.o.Every = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.r.Serve(ctx, w.account) }()
	w.net.Give(w.bert, w.seal(plain, nil).Bodies...)
	come <- struct{}{}
	if a := <-arrived; a != [2]mail.Address{w.bert.Address, w.anna.Address} {
		t.Error(a)
	}
	cancel()
	must(t, <-done)
	if n := len(w.Inbox("bert")); n != 1 {
		t.Errorf("%d mails", n)
	}
}

// TestByTheClock: without anybody who tells, the inbox is looked at every so often.
func TestByTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		r := New(Options{Resolve: func(context.Context, mail.Address) (account.Account, error) {
			looks++
			return account.Account{}, io.EOF
		}})
		ctx, cancel := context.WithTimeout(t.Context(), 10*DefaultEvery-time.Second)
		defer cancel()
		must(t, r.Serve(ctx, &Account{}))
		if looks != 10 {
			t.Errorf("%d looks", looks)
		}
	})
}

// TestFullMailbox: while the mailbox is full, what comes does not make anybody look at once.
func TestFullMailbox(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.Create("bert", func(r *account.CreateRequest) { r.Quota = 1000 })
	w.net.Give(w.bert, w.seal(plain+strings.Repeat("x\r\n", 4000), nil).Bodies...)
	w.r.o.Pause = time.Hour
	looked := make(chan struct{}, 100)
	resolve := w.r.o.Resolve
	w.r.o.Resolve = func(ctx context.Context, a mail.Address) (account.Account, error) {
		looked <- struct{}{}
		return resolve(ctx, a)
	}
	w.account.Wait = func(context.Context) { t.Error("it waits for more") }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.r.Serve(ctx, w.account) }()
	<-looked
	for { // until the letter was tried
		w.r.mu.Lock()
		n := len(w.r.wait)
		w.r.mu.Unlock()
		if n > 0 {
			break
		}
		select {
		case <-looked:
			t.Error("another look")
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	must(t, <-done)
	if n := len(w.Inbox("bert")); n != 0 {
		t.Errorf("%d mails", n)
	}
}

// TestCrash cuts the disk at every sync between a letter's coming and its end: the mail, and the report
// about another letter, are there once.
func TestCrash(t *testing.T) {
	base := vfs.NewCrashDisk()
	w := newWorld(t, base, nil)
	w.Create("bert", nil)
	w.net.Give(w.bert, w.seal(plain, nil).Bodies...)
	w.net.Give(w.bert, w.seal("", func(_ *vouch.Mail, l *letter.Message) { l.Content = []byte("garbage") }).Bodies...)
	start := base.Clone(vfs.Kept, 0)
	every := int64(1)
	if racetest.Enabled {
		every = 5
	}
	cuts := disktest.Cuts(every, func(n int64, after bool, u vfs.Unsynced) bool {
		cut := vfs.CutAt(start.Clone(vfs.Kept, 0), n, after, u, uint64(n), nil)
		life := newWorld(t, cut.FS, nil)
		must(t, life.pass())
		disk := cut.Disk()
		if disk == nil {
			return false
		}
		next := newWorld(t, disk, nil)
		must(t, next.pass())
		if in := next.Inbox("bert"); len(in) != 2 || !strings.HasSuffix(in[0], "Hello.\r\n") || !strings.Contains(in[1], "Subject: Malformed mail") {
			t.Fatalf("cut %d (after %v, %v): %q", n, after, u, in)
		}
		return true
	})
	if cuts < 12 {
		t.Errorf("only %d cuts", cuts)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestForAlias: mail that the relay took for an alias is kept as it came behind what relay and proxy say of it; what a
// sender imitates of that is reported, and a letter without the relay's fields is malformed.
func TestForAlias(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.Create("bert", nil)
	relay := func(m *vouch.Mail, l *letter.Message) {
		m.Flags, m.Certificate, m.Sender = vouch.FromOrdinary|vouch.FromWorld|vouch.ForAlias, nil, mail.Address{}
		l.Signer, l.Sender = agenttest.NameKey(t, other), other
	}
	const fields = "Return-Path: <>\r\nX-Postern-Alias: fox@two.example; sender=first; vouched=dkim:shop.example\r\n"
	const word = "two.example; world (unencrypted mail from the Internet)\r\n"
	const front = "X-Postern-Sender: " + word + "X-Katzenpost-Sender: " + word + fields
	const raw = "DKIM-Signature: x\r\nReceived: from y\r\n" + plain
	for range 2 {
		w.net.Give(w.bert, w.seal(fields+raw, relay).Bodies...)
		must(t, w.pass())
	}
	l := w.seal(fields+"X-Postern-Sender: boss\r\nX-Postern-Alias: boss\r\n"+raw, relay)
	w.net.Give(w.bert, l.Bodies...)
	must(t, w.pass())
	w.net.Give(w.bert, l.Bodies...) // once more
	must(t, w.pass())
	w.net.Give(w.bert, w.seal(raw, relay).Bodies...)
	must(t, w.pass())
	in := w.Inbox("bert")
	if len(in) != 5 || in[0] != front+raw || in[1] != front+raw || !strings.Contains(in[2], "Subject: A mail came with a forbidden header") || in[3] != front+raw || !strings.Contains(in[4], "Subject: Malformed mail") {
		t.Errorf("%d mails: %q", len(in), in)
	}
}
