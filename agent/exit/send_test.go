package exit

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.email/agent/agenttest"
	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/blacklist"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/token"
)

// fieldsOf gives the names of a mail's fields in turn.
func fieldsOf(t *testing.T, text string) (h mail.Header, names []string) {
	t.Helper()
	h, _, err := mail.ParseHeader([]byte(text))
	must(t, err)
	for _, f := range h.Fields() {
		names = append(names, f.Name)
	}
	return h, names
}

// TestAnonymousMail: what leaves has the fixed set of fields and nothing of the sender's but its
// name, subject and text.
func TestAnonymousMail(t *testing.T) {
	w := begin(t)
	v := w.anonymous("The text.", "bob@world.example")
	must(t, w.Send(ctx, v))
	got := w.last()
	if got.From != to(t, "bounces@exit.example") || got.To != to(t, "bob@world.example") {
		t.Errorf("%v to %v", got.From, got.To)
	}
	h, names := fieldsOf(t, got.text)
	want := []string{"Date", "Message-ID", "From", "To", "Subject", "X-Anonymous", "X-Abuse", "Comments", "List-Unsubscribe", "List-Unsubscribe-Post", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"}
	if !slices.Equal(names, want) {
		t.Errorf("fields %v", names)
	}
	for name, want := range map[string]string{"From": `"[Anon] Fox" <anonymous@exit.example>`, "To": "<bob@world.example>", "Subject": "Hello", "X-Anonymous": "yes", "X-Abuse": "abuse@exit.example",
		"Comments": "An exit.", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"} {
		if h.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, h.Get(name), want)
		}
	}
	if !regexp.MustCompile(`^<[0-9a-f]{32}@exit\.example>$`).MatchString(h.Get("Message-ID")) || !regexp.MustCompile(`^<https://exit\.example/block/[\w-]+>$`).MatchString(h.Get("List-Unsubscribe")) {
		t.Error(h.Get("Message-ID"), h.Get("List-Unsubscribe"))
	}
	for _, secret := range []string{"fox.example", "from here", "1970", "anonymous.invalid"} {
		if strings.Contains(got.text, secret) {
			t.Errorf("%q leaves", secret)
		}
	}
	if !strings.Contains(got.text, "The text.") || !strings.Contains(got.text, "To get no more of them") || !strings.Contains(got.text, strings.Trim(h.Get("List-Unsubscribe"), "<>")) {
		t.Errorf("no text, or no word of how to get no more: %s", got.text)
	}

	// A reply address is told as such; From stays the exit's own.
	v = w.anonymous("x", "carol@world.example")
	v.Return = to(t, reply)
	must(t, w.Send(ctx, v))
	h, _ = fieldsOf(t, w.last().text)
	if h.Get("Reply-To") != "<"+reply+">" || h.Get("From") != `"[Anon] Fox" <anonymous@exit.example>` {
		t.Error(h.Get("Reply-To"), h.Get("From"))
	}

	// Without a name, and where the operator wants none.
	v = w.anonymous("x", "dave@world.example")
	v.Name = ""
	must(t, w.Send(ctx, v))
	if h, _ = fieldsOf(t, w.last().text); h.Get("From") != "<anonymous@exit.example>" {
		t.Error(h.Get("From"))
	}
	c := w.o.Config
	c.Form.AllowFrom, c.Form.Message = false, "Written by the operator."
	must(t, w.Reload(c))
	must(t, w.Send(ctx, w.anonymous("x", "erin@world.example")))
	if h, _ = fieldsOf(t, w.last().text); h.Get("From") != "<anonymous@exit.example>" || !strings.Contains(w.last().text, "Written by the operator.") {
		t.Error(w.last().text)
	}

	// What is end-to-end encrypted stays so, as the outermost part.
	must(t, w.Send(ctx, secret(w.anonymous("x", "frank@world.example"))))
	if h, _ = fieldsOf(t, w.last().text); !strings.HasPrefix(h.Get("Content-Type"), "multipart/encrypted") || !strings.Contains(w.last().text, "BEGIN PGP MESSAGE") {
		t.Error(w.last().text)
	}
}

// TestUserMail: mail that is vouched for leaves under its sender's address and by the rules for what
// users hand in, with the link.
func TestUserMail(t *testing.T) {
	w := begin(t)
	must(t, w.Send(ctx, w.user("alice@exit.example", "The text.", "bob@world.example")))
	got := w.last()
	h, names := fieldsOf(t, got.text)
	if h.Get("From") != "alice@exit.example" || h.Get("Subject") != "Hello" || h.Get("Message-ID") != "<1@home.example>" || h.Get("X-Abuse") != "abuse@exit.example" ||
		h.Count("List-Unsubscribe") != 1 || !strings.HasPrefix(h.Get("List-Unsubscribe"), "<https://exit.example/block/") || h.Get("List-Unsubscribe-Post") != "List-Unsubscribe=One-Click" ||
		h.Count("Received")+h.Count("X-Mailer")+h.Count("X-Anonymous") != 0 || !strings.HasSuffix(got.text, "\r\n\r\nThe text.\r\n") || got.From != to(t, "bounces@exit.example") {
		t.Errorf("%v\n%s", names, got.text)
	}
	// The subject of an encrypted mail is inside.
	must(t, w.Send(ctx, secret(w.user("alice@exit.example", "x", "carol@world.example"))))
	if h, _ = fieldsOf(t, w.last().text); h.Get("Subject") != "[...]" || !strings.Contains(w.last().text, "BEGIN PGP MESSAGE") {
		t.Error(w.last().text)
	}
	v := w.user("alice@exit.example", "x", "dave@world.example")
	v.Mail.Raw = []byte("From: alice@exit.example\r\n\r\nx\r\n")
	must(t, w.Send(ctx, v))
	if h, _ = fieldsOf(t, w.last().text); h.Count("Subject") != 0 {
		t.Error("a subject that the sender did not write")
	}
	refused(t, w.Send(ctx, w.user("alice@home.example", "x", "erin@world.example")), errs.Denied, "own domains only")
	c := w.o.Config
	c.OtherDomains = true
	must(t, w.Reload(c))
	must(t, w.Send(ctx, w.user("alice@home.example", "x", "erin@world.example")))
}

// TestPolicy: each reason of the exit for not sending a mail.
func TestPolicy(t *testing.T) {
	list, err := blacklist.Parse(strings.NewReader("Deny user postmaster\nDeny allhosts quiet.example\n"))
	must(t, err)
	with := func(f func(w *world, own []byte) []byte) func(*world, *Config) *vouch.Vouched {
		return func(w *world, _ *Config) *vouch.Vouched {
			v := w.anonymous("x", "bob@world.example")
			v.Mail.Token = f(w, v.Mail.Token)
			return v
		}
	}
	for _, tt := range []struct {
		name  string
		make  func(w *world, c *Config) *vouch.Vouched
		kind  errs.Kind
		words string
	}{
		{"a relay's own mail", func(w *world, _ *Config) *vouch.Vouched {
			v := w.anonymous("x", "bob@world.example")
			v.Kind = vouch.Relay
			return v
		}, errs.Denied, "of users only"},
		{"anonymous mail where it is not wanted", func(w *world, c *Config) *vouch.Vouched {
			c.NoAnonymous = true
			return w.anonymous("x", "bob@world.example")
		}, errs.Denied, "no anonymous mail"},
		{"cleartext where it is not wanted", func(w *world, c *Config) *vouch.Vouched {
			c.Cleartext = false
			return w.anonymous("x", "bob@world.example")
		}, errs.Denied, "end-to-end encrypted"},
		{"a user's cleartext", func(w *world, c *Config) *vouch.Vouched {
			c.Cleartext = false
			return w.user("alice@exit.example", "x", "bob@world.example")
		}, errs.Denied, "end-to-end encrypted"},
		{"encrypted mail", func(w *world, c *Config) *vouch.Vouched {
			c.Cleartext = false
			return secret(w.anonymous("x", "bob@world.example"))
		}, 0, ""},
		{"too large", func(w *world, c *Config) *vouch.Vouched {
			c.MaxSize = 1
			return w.anonymous(strings.Repeat("x", MinMaxSize), "bob@world.example")
		}, errs.TooLarge, "up to 32768 bytes"},
		{"too many recipients", func(w *world, c *Config) *vouch.Vouched {
			c.MaxRecipients = 1
			return w.anonymous("x", "bob@world.example", "eve@world.example")
		}, errs.TooLarge, "up to 1 recipients"},
		{"a recipient at this relay", func(w *world, _ *Config) *vouch.Vouched { return w.anonymous("x", "bob@EXIT.example") }, errs.Denied, "another way"},
		{"a recipient at no domain", func(w *world, _ *Config) *vouch.Vouched { return w.anonymous("x", "bob@localhost") }, errs.Invalid, "domain of the world"},
		{"a recipient at a network address", func(w *world, _ *Config) *vouch.Vouched { return w.anonymous("x", "bob@[192.0.2.1]") }, errs.Invalid, "domain of the world"},
		{"a recipient on the operator's list", func(w *world, c *Config) *vouch.Vouched {
			c.Blacklist = list
			return w.anonymous("x", "Postmaster@world.example")
		}, errs.Denied, "take no mail"},
		{"the same with something behind a plus sign", func(w *world, c *Config) *vouch.Vouched {
			c.Blacklist = list
			return w.anonymous("x", "postmaster+x@world.example")
		}, errs.Denied, "take no mail"},
		{"a domain on the list", func(w *world, c *Config) *vouch.Vouched {
			c.Blacklist = list
			return w.anonymous("x", "a@b.quiet.example")
		}, errs.Denied, "take no mail"},
		{"no token", with(func(w *world, own []byte) []byte { return nil }), errs.Invalid, "has no token"},
		{"a user without token", func(w *world, _ *Config) *vouch.Vouched {
			v := w.user("alice@exit.example", "x", "bob@world.example")
			v.Mail.Token = nil
			return v
		}, errs.Invalid, "has no token"},
		{"half a token", with(func(w *world, own []byte) []byte { return own[:50] }), errs.Invalid, "malformed"},
		{"a token that the relay did not sign", with(func(w *world, _ []byte) []byte {
			_, other := tokenKeys()
			return issueWith(w.t, other, "home.example", someDay)
		}), errs.Auth, "not signed by its relay"},
		{"a token of another relay than it says", with(func(w *world, own []byte) []byte {
			id := agenttest.Relay(w.t, "exit.example")
			copy(own[5:], id[:])
			return own
		}), errs.Auth, "not signed by its relay"},
		{"a relay that is not in the network", with(func(w *world, own []byte) []byte { return issue(w.t, "other.example", someDay) }), errs.Denied, "not in the network"},
		{"a day whose key is gone", with(func(w *world, own []byte) []byte { return issue(w.t, "home.example", someDay-2) }), errs.Denied, "no key for the day"},
		{"tomorrow", with(func(w *world, own []byte) []byte { return issue(w.t, "home.example", someDay+1) }), errs.Denied, "another day"},
		{"yesterday", with(func(w *world, own []byte) []byte { return issue(w.t, "home.example", someDay-1) }), 0, ""},
		{"a week later, with the key still there", func(w *world, _ *Config) *vouch.Vouched {
			w.clock.Add(7 * 24 * time.Hour)
			return w.anonymous("x", "bob@world.example")
		}, errs.Denied, "has expired"},
		{"no directory", func(w *world, _ *Config) *vouch.Vouched {
			w.Exit.o.Consensus = func() (*directory.Consensus, error) { return nil, errs.NotFound }
			return w.anonymous("x", "bob@world.example")
		}, errs.Unavailable, "no directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := begin(t)
			w.t = t
			c := w.o.Config
			v := tt.make(w, &c)
			must(t, w.Reload(c))
			err := w.Send(ctx, v)
			if tt.words == "" {
				must(t, err)
				return
			}
			refused(t, err, tt.kind, tt.words)
			if w.tos() != "" {
				t.Error("sent nevertheless, to", w.tos())
			}
		})
	}
}

// TestDoubleSpend: a token is for one mail, also after a new start; that mail may come again and is
// sent once.
func TestDoubleSpend(t *testing.T) {
	w := begin(t)
	v := w.anonymous("one", "bob@world.example", "eve@world.example")
	other := w.anonymous("two", "bob@world.example")
	other.Mail.Token = v.Mail.Token
	for range 3 {
		must(t, w.Send(ctx, v))
		refused(t, w.Send(ctx, other), errs.Denied, "used for another mail")
		must(t, w.Close())
		w.open()
	}
	if w.tos() != "bob@world.example eve@world.example" {
		t.Error(w.tos())
	}
	w.clock.Add(14 * time.Hour) // the next day
	refused(t, w.Send(ctx, other), errs.Denied, "used for another mail")
}

// TestTokenName: a token is named by its nonce, of which a user could have several signatures.
func TestTokenName(t *testing.T) {
	raw := issue(t, "home.example", someDay)
	a, err := token.Parse(raw)
	must(t, err)
	for at, same := range map[int]bool{token.Len - 1: true, token.Len - token.KeyLen: true, token.Len - token.KeyLen - 1: false, 1: false, 5: false} {
		b := slices.Clone(raw)
		b[at] ^= 1
		other, err := token.Parse(b)
		must(t, err)
		if (string(tokenName(a)) == string(tokenName(other))) != same {
			t.Errorf("byte %d", at)
		}
	}
}

// TestTryAgain: what could not be handed over is sent at the next try with the same token, which is
// for nothing else meanwhile.
func TestTryAgain(t *testing.T) {
	w := begin(t)
	v := w.anonymous("one", "bob@world.example")
	w.fail = errs.E("test", errs.Busy, "", nil)
	refused(t, w.Send(ctx, v), errs.Busy, "busy")
	other := w.anonymous("two", "bob@world.example")
	other.Mail.Token = v.Mail.Token
	refused(t, w.Send(ctx, other), errs.Denied, "used for another mail")
	must(t, w.Close())
	w.open()
	must(t, w.Send(ctx, v))
	must(t, w.Send(ctx, v))
	if w.tos() != "bob@world.example" {
		t.Error(w.tos())
	}
}

// TestManyAtOnce: of many who spend one token at one time for different mails one mail is sent.
func TestManyAtOnce(t *testing.T) {
	w := begin(t)
	tok := issue(t, "home.example", someDay)
	var wg sync.WaitGroup
	for i := range 8 {
		v := w.anonymous(fmt.Sprint(i), fmt.Sprintf("bob%d@world.example", i))
		v.Mail.Token = tok
		wg.Go(func() {
			if err := w.Send(ctx, v); err != nil && errs.KindOf(err) != errs.Denied && errs.KindOf(err) != errs.Busy {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(strings.Fields(w.tos())) != 1 {
		t.Error(w.tos())
	}
}

// TestCaps: one recipient, one domain and all together get so much a day, and the next day again.
func TestCaps(t *testing.T) {
	w := begin(t, func(o *Options) { o.PerRecipient, o.PerDomain, o.PerDay = 2, 3, 5 })
	send := func(rcpts ...string) error { return w.Send(ctx, w.anonymous("x", rcpts...)) }
	must(t, send("bob@a.example"))
	must(t, send("BOB+x@a.example"))
	full := func(err error) {
		t.Helper()
		refused(t, err, errs.Full, "no more mail from this exit today")
	}
	full(send("bob@a.example"))
	full(send("bob+y@a.example"))
	must(t, send("bob@a.example", "eve@a.example", "carol@a.example")) // of whom one may
	full(send("dave@a.example"))
	must(t, w.Close())
	w.open()
	full(send("dave@a.example"))
	must(t, send("bob@b.example", "eve@b.example"))
	full(send("bob@c.example"))
	if w.tos() != "bob@a.example BOB+x@a.example eve@a.example bob@b.example eve@b.example" {
		t.Error(w.tos())
	}
	w.clock.Add(14 * time.Hour)
	must(t, send("bob@a.example"))
	if w.tos() != "bob@a.example BOB+x@a.example eve@a.example bob@b.example eve@b.example bob@a.example" {
		t.Error(w.tos())
	}
}

// TestOnce: a recipient who is named twice gets one mail.
func TestOnce(t *testing.T) {
	w := begin(t)
	must(t, w.Send(ctx, w.anonymous("x", "bob@world.example", "Bob@WORLD.example", "bob+y@world.example")))
	if w.tos() != "bob@world.example" {
		t.Error(w.tos())
	}
}

// TestOptions: what an operator writes is checked, with words.
func TestOptions(t *testing.T) {
	w := begin(t)
	for _, tt := range []struct {
		change func(*Config)
		words  string
	}{
		{func(c *Config) { c.Form.ReturnAddress = mail.Address{} }, "ReturnAddress"},
		{func(c *Config) { c.BlockURL = "" }, "BlockURL"},
		{func(c *Config) { c.BlockURL = "http://exit.example/block/" }, "BlockURL"},
		{func(c *Config) { c.BlockURL = "https://exit.example/block" }, "BlockURL"},
		{func(c *Config) { c.BlockURL = "https://exit.example/block/?a=/" }, "BlockURL"},
		{func(c *Config) { c.BlockURL = "https://exit.example/>,<mailto:x/" }, "BlockURL"},
		{func(c *Config) { c.PerDay = -1 }, "PerDay"},
		{func(c *Config) { c.PerDomain = -1 }, "PerDomain"},
		{func(c *Config) { c.PerRecipient = -1 }, "PerRecipient"},
		{func(c *Config) { c.MaxRecipients = vouch.MaxRecipients + 1 }, "MaxRecipients"},
	} {
		c := w.o.Config
		tt.change(&c)
		refused(t, w.Reload(c), errs.Invalid, tt.words)
	}
	for _, change := range []func(*Options){func(o *Options) { o.FS = nil }, func(o *Options) { o.Dir = "" }, func(o *Options) { o.Secret = nil }, func(o *Options) { o.Out = nil }, func(o *Options) { o.Consensus = nil }} {
		o := w.o
		change(&o)
		if _, err := New(o); errs.KindOf(err) != errs.Invalid {
			t.Error(err)
		}
	}
	if w.c.Load().MaxSize != DefaultMaxSize || w.c.Load().MaxRecipients != DefaultMaxRecipients || w.c.Load().PerRecipient != DefaultPerRecipient || w.c.Load().PerDomain != DefaultPerDomain || w.c.Load().PerDay != DefaultPerDay {
		t.Errorf("%+v", w.c.Load())
	}
}

// TestBounces: what comes back is known as such and counted.
func TestBounces(t *testing.T) {
	w := begin(t)
	if !w.IsBounce(to(t, "Bounces@EXIT.example")) || w.IsBounce(to(t, "bob@exit.example")) {
		t.Error("IsBounce")
	}
	w.Bounced()
	w.Bounced()
	if w.Bounces() != 2 {
		t.Error(w.Bounces())
	}
	c := w.o.Config
	c.Bounce = mail.Address{}
	must(t, w.Reload(c))
	if !w.IsBounce(to(t, "anonymous@exit.example")) {
		t.Error("without an address of its own the return address takes bounces")
	}
}
