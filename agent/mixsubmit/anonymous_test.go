package mixsubmit

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.email/agent/agenttest"
	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mail/anon"
	"postern.email/mixnet/client"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/wire/smtp"
)

// nyms are reply addresses that nobody feeds: tests say how many blocks there are.
type nyms struct {
	mu      sync.Mutex
	names   []string
	blocks  int
	asked   []int // of Ready
	err     error // of Ready
	refused error
	full    error
	came    map[string][]string // names by Message-ID
}

func (y *nyms) Thread(id string) ([]string, error) { return y.came[id], nil }

func (y *nyms) at(i int) mail.Address {
	return anon.ReplyAddress(strings.Repeat(string(rune('a'+i)), anon.ReplyNameLen), domain)
}

func (y *nyms) Get(name string) (mail.Address, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	for i, n := range y.names {
		if n == name {
			return y.at(i), nil
		}
	}
	if y.full != nil {
		return mail.Address{}, y.full
	}
	y.names = append(y.names, name)
	return y.at(len(y.names) - 1), nil
}

func (y *nyms) Find(a mail.Address) (string, bool) {
	y.mu.Lock()
	defer y.mu.Unlock()
	for i, n := range y.names {
		if y.at(i).Equal(a) {
			return n, true
		}
	}
	return "", false
}

func (y *nyms) Ready(_ string, blocks int) error {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.asked = append(y.asked, blocks)
	switch {
	case y.err != nil:
		return y.err
	case y.blocks < blocks:
		return errs.E("test", errs.Unavailable, "its reply address is being fed", nil)
	}
	return nil
}

func (y *nyms) Refused() error { return y.refused }

// anonymousWorld is a world whose account has reply addresses with many blocks.
func anonymousWorld(t *testing.T, fs vfs.FS, set func(*Options)) (*world, *nyms) {
	w := newWorld(t, fs, set)
	y := &nyms{blocks: 64}
	w.anna.Nyms = y
	return w, y
}

// as is a mail that asks to be anonymous.
func as(name string, fields ...string) string {
	return plain(append([]string{"X-Postern-Anonymous: " + name}, fields...)...)
}

// TestAnonymous: a mail that asks for it goes under its name and a reply address, without certificate, proof,
// date of its letter, or anything else that tells of the account; to a proxy and to a relay alike.
func TestAnonymous(t *testing.T) {
	for name, c := range map[string]struct {
		to, raw string
		kind    uint8
	}{
		"proxy": {"bert@two.example", as("Fox"), content.Letter},
		"relay": {"x@two.example", "X-Postern-Anonymous: Fox\r\n" + encrypted(), content.Mail},
	} {
		w, _ := anonymousWorld(t, nil, nil)
		bert := w.user("bert@two.example")
		w.know(bert)
		w.noCert = true // none is needed
		canaries := "Date: Fri, 20 Nov 2026 13:59:59 +0200\r\nMessage-ID: <canary@laptop>\r\nReply-To: anna@one.example\r\nSender: anna@one.example\r\nAutocrypt: addr=anna@one.example; keydata=AAAA\r\n" +
			"User-Agent: canary\r\nOrganization: canary\r\nX-Canary: canary\r\nReceived: from canary\r\nDisposition-Notification-To: anna@one.example\r\n"
		got := w.send(canaries+c.raw, c.to)
		if !strings.HasPrefix(got, "250 queued anonymously, arrives in about 3 min; answers reach you as long as this proxy is on line at least once every 48 hours") {
			t.Errorf("%s: %s", name, got)
		}
		w.run()
		all := w.carry(bert)
		if len(all) != 1 || uint8(all[0].Message.Kind) != c.kind {
			t.Fatalf("%s: %d letters", name, len(all))
		}
		l := all[0].Letter
		if l.From != nil || l.Sender != "" || !l.Date.IsZero() {
			t.Errorf("%s: the letter names %+v", name, l)
		}
		v := w.check(all[0])
		reply := "reply." + strings.Repeat("a", 26) + "@one.example"
		if v.Kind != vouch.Anonymous || v.Name != "Fox" || v.Return.String() != reply || len(v.Mail.Certificate) != 0 || v.Mail.Sender.String() != reply {
			t.Errorf("%s: %+v", name, v)
		}
		text := string(v.Mail.Raw)
		if strings.Contains(strings.ToLower(text), "anna") || strings.Contains(strings.ReplaceAll(text, "canary plans", ""), "canary") || strings.Contains(strings.ToLower(text), "x-postern") || strings.Contains(text, "Received") {
			t.Errorf("%s: %s", name, text)
		}
		if !strings.Contains(text, "From: \"[Anon] Fox\" <"+reply+">\r\n") || !strings.Contains(text, "\r\nDate: Fri, 20 Nov 2026 12:00:00 +0000\r\n") || !strings.Contains(text, "@one.example>\r\n") {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// TestAnonymousDate: seconds are not told.
func TestAnonymousDate(t *testing.T) {
	w, _ := anonymousWorld(t, nil, nil)
	bert := w.user("bert@two.example")
	w.know(bert)
	w.Clock.Add(47 * time.Second)
	w.want("250 ", as("Fox"), "bert@two.example")
	w.run()
	if text := string(w.check(w.carry(bert)[0]).Mail.Raw); !strings.Contains(text, "Date: Fri, 20 Nov 2026 12:00:00 +0000\r\n") {
		t.Error(text)
	}
}

// TestAnonymousNames: one name has one address; without a name, and without a reply address, as the mail
// asks; a reply address in From is the same as its name in the field.
func TestAnonymousNames(t *testing.T) {
	w, y := anonymousWorld(t, nil, nil)
	bert := w.user("bert@two.example")
	w.know(bert)
	from := func(raw string) string {
		t.Helper()
		w.want("250 queued anonymously", raw, "bert@two.example")
		w.run()
		v := w.check(w.carry(bert)[0])
		return v.Name + " " + v.Return.String() + " " + v.Mail.Sender.String()
	}
	fox, none := y.at(0).String(), "anonymous@anonymous.invalid"
	if got := from(as("Fox")); got != "Fox "+fox+" "+fox {
		t.Error(got)
	}
	if got := from(as(" [Fox]: ")); got != "Fox "+fox+" "+fox {
		t.Error(got)
	}
	if got := from(as("")); got != " "+y.at(1).String()+" "+y.at(1).String() {
		t.Error(got)
	}
	if got := from(as("Owl", "X-Postern-Reply: no")); got != "Owl "+none+" " {
		t.Error(got)
	}
	// An identity of the mail program with the reply address; what it calls itself does not go along.
	id := strings.Replace(plain(), "Anna <anna@one.example>", "Anna of the Hill <"+strings.ToUpper(fox)+">", 1)
	if got := from(id); got != "Fox "+fox+" "+fox {
		t.Error(got)
	}
	ctx, c := context.Background(), w.dial("anna")
	must(t, c.Mail(ctx, y.at(0), smtp.MailOptions{}))
	must(t, c.Rcpt(ctx, bert.Address, smtp.RcptOptions{}))
	d, err := c.Data(ctx)
	must(t, err)
	must(t, d.Commit(ctx, []byte(id)))
	for raw, want := range map[string]string{
		strings.Replace(id, "Subject:", "X-Postern-Anonymous: Owl\r\nSubject:", 1): "550 5.6.0 the field X-Postern-Anonymous has another name",
		as("Fox", "X-Postern-Anonymous: Owl"):                                      "550 5.6.0 there are several fields",
		as("Fox", "X-Postern-Reply: yes"):                                          "550 5.6.0 the field X-Postern-Reply says",
		plain("X-Postern-Reply: no"):                                               "550 5.6.0 the field X-Postern-Reply is for mail with",
		strings.Replace(as("Fox"), "anna@", "ben@", 1):                             "550 5.7.1 Invalid FROM",
	} {
		w.want(want, raw, "bert@two.example")
	}
	// What is not the login's own is nobody's to use.
	w.Create("ben", nil)
	if got := said(w.dial("ben").Mail(ctx, y.at(0), smtp.MailOptions{})); !strings.HasPrefix(got, "553 5.7.1") {
		t.Error(got)
	}
	if got := said(w.dial("anna").Mail(ctx, y.at(9), smtp.MailOptions{})); !strings.HasPrefix(got, "553 5.7.1") {
		t.Error(got)
	}
	open, y := anonymousWorld(t, nil, func(o *Options) { o.NoAuth = true })
	_, err = y.Get("Fox")
	must(t, err)
	must(t, open.dial("").Mail(ctx, y.at(0), smtp.MailOptions{}))
}

// TestAnonymousWaits: a mail whose address has no reply blocks waits for them, and says why; it leaves when
// they are there. One whose address will have none is given back.
func TestAnonymousWaits(t *testing.T) {
	w, y := anonymousWorld(t, nil, nil)
	bert := w.user("bert@two.example")
	w.know(bert)
	y.blocks = 0
	if got := w.send(as("Fox"), "bert@two.example"); !strings.HasPrefix(got, "250 queued anonymously, arrives in about 3 min once its reply address has reply blocks; answers reach") {
		t.Error(got)
	}
	w.run()
	if all := w.carry(bert); len(all) != 0 {
		t.Fatal("it has left")
	}
	left, err := w.s.Waiting()
	must(t, err)
	if len(left) != 1 || left[0].Why != "its reply address is being fed" {
		t.Errorf("%+v", left)
	}
	y.blocks = 1
	w.s.Fed(w.anna.Address)
	w.run()
	if all := w.carry(bert); len(all) != 1 {
		t.Fatal("it has not left")
	}
	// A large mail waits for as many as an answer may need, up to half of what an address is given.
	y.asked = nil
	if got := w.send(as("Fox")+incompressible(900<<10), "bert@two.example"); !strings.Contains(got, "and have up to 400 kB") {
		t.Error(got)
	}
	if len(y.asked) == 0 || y.asked[0] != client.DailyBlocks/2 {
		t.Errorf("%v", y.asked)
	}
	if n := answerBlocks(answerSize); n > client.DailyBlocks {
		t.Errorf("an answer of that size needs %d blocks", n)
	}

	for _, gone := range []error{errs.E("test", errs.Unsupported, "the relay of this account has no reply addresses", nil), errs.E("test", errs.NotFound, "its reply address was given up", nil)} {
		w, y := anonymousWorld(t, nil, nil)
		w.know(w.user("bert@two.example"))
		y.err = gone
		w.want("250 ", as("Fox"), "bert@two.example")
		w.run()
		in := w.Inbox("anna")
		if len(in) != 1 || !strings.Contains(in[0], "Action: failed\r\nStatus: 5.7.1") || !strings.Contains(strings.Join(strings.Fields(in[0]), " "), errs.Public(gone)+"; with X-Postern-Reply: no a mail goes without one") {
			t.Errorf("%q", in)
		}
	}
}

// TestNoReplyAddresses: where it is known that there are none it is said at once, with the way out.
func TestNoReplyAddresses(t *testing.T) {
	w, y := anonymousWorld(t, nil, nil)
	w.know(w.user("bert@two.example"))
	y.refused = errs.E("test", errs.Unsupported, "the relay of this account has no reply addresses", nil)
	w.want("550 5.7.1 the relay of this account has no reply addresses; with X-Postern-Reply: no a mail goes without one", as("Fox"), "bert@two.example")
	w.want("250 ", as("Fox", "X-Postern-Reply: no"), "bert@two.example")
	y.refused, y.full = nil, errs.E("test", errs.Full, "the account has 32 reply addresses, which is the most", nil)
	w.want("452 4.3.1 the account has 32 reply addresses, which is the most: give one up with postern proxy nyms forget", as("Fox"), "bert@two.example")
	w.anna.Nyms = nil
	w.want("550 5.7.1 this account has no reply addresses", as("Fox"), "bert@two.example")
	if got := w.send(as("Fox", "X-Postern-Reply: no"), "bert@two.example"); !strings.HasSuffix(got, "; it has no reply address, so that nobody can answer") {
		t.Error(got)
	}
	if len(y.names) != 0 {
		t.Errorf("addresses of mails that were refused: %q", y.names)
	}
}

// TestOtherName: an answer to a mail that came for a reply address goes under its name or not at all; an anonymous
// mail says what it answers only where that came for its own address.
func TestOtherName(t *testing.T) {
	w, y := anonymousWorld(t, nil, nil)
	bert := w.user("bert@two.example")
	w.know(bert)
	y.came = map[string][]string{"<fox@x>": {"Fox"}, "<both@x>": {"Fox", "Owl"}}
	w.want("550 5.7.1 this mail answers one that came for a reply address of yours, and would go under your own name", plain("In-Reply-To: <fox@x>"), "bert@two.example")
	w.want("550 5.7.1 this mail answers one that came for a reply address of yours", plain("References: <a@x>\r\n <both@x> <b@x>"), "bert@two.example")
	w.want("550 5.7.1 this mail answers one that came for another reply address", as("Owl", "In-Reply-To: <fox@x>"), "bert@two.example")
	text := func(raw string) string {
		t.Helper()
		w.want("250 ", raw, "bert@two.example")
		w.run()
		return string(w.check(w.carry(bert)[0]).Mail.Raw)
	}
	const thread = "In-Reply-To: <fox@x>\r\nReferences: <a@x> <fox@x>"
	if got := text(as("Fox", thread)); !strings.Contains(got, "\r\n"+thread+"\r\n") {
		t.Error(got)
	}
	if got := text(as("Owl", "In-Reply-To: <both@x>")); !strings.Contains(got, "In-Reply-To: <both@x>") {
		t.Error(got)
	}
	if got := text(as("Fox", "In-Reply-To: <elsewhere@x>", "References: <elsewhere@x>")); strings.Contains(got, "elsewhere") {
		t.Error(got)
	}
	if got := text(plain("In-Reply-To: <elsewhere@x>")); !strings.Contains(got, "elsewhere") {
		t.Error(got)
	}
}

// TestOwnName: a header that names the account is refused, unless it is to the account; what only looks like it
// is not.
func TestOwnName(t *testing.T) {
	w, _ := anonymousWorld(t, nil, nil)
	w.know(w.user("bert@two.example"))
	const no = "550 5.7.1 the header of this anonymous mail names your own address"
	w.want(no, as("Fox", "Cc: Me <ANNA@One.example>"), "bert@two.example")
	w.want(no, as("Fox", "Subject: write to anna@one.example."), "bert@two.example")
	w.want("250 ", as("Fox", "Cc: Me <anna@one.example>"), "bert@two.example", "anna@one.example")
	w.want("250 ", as("Fox", "Cc: joanna@one.example, anna@one.example.org, x.anna@one.example"), "bert@two.example")
}

// TestAnonymousReports: the envelope names the reply address where a report is wanted, and nobody elsewhere; what
// the proxy itself finds out is told in the account's own mailbox.
func TestAnonymousReports(t *testing.T) {
	for notify, want := range map[smtp.Notify]bool{0: true, smtp.NotifyFailure: true, smtp.NotifyNever: false, smtp.NotifySuccess: false} {
		w, y := anonymousWorld(t, nil, nil)
		bert := w.user("bert@two.example")
		w.know(bert)
		if got := w.sendWith(as("Fox"), notify, "bert@two.example"); !strings.HasPrefix(got, "250 ") {
			t.Fatal(got)
		}
		w.run()
		if s := w.check(w.carry(bert)[0]).Mail.Sender; s.Equal(y.at(0)) != want || s.IsZero() == want {
			t.Errorf("notify %d: %v", notify, s)
		}
	}
	w, _ := anonymousWorld(t, nil, nil)
	bert := w.user("bert@two.example")
	w.know(bert)
	w.want("250 ", as("Fox"), "bert@two.example", "x@two.example")
	w.run()
	if in := w.Inbox("anna"); len(in) != 1 || !strings.Contains(in[0], "Final-Recipient: rfc822; x@two.example") {
		t.Errorf("%q", in)
	}
}

// TestAnonymousWorld: mail into the world takes an exit of another relay where there is one, which needs not
// be one for the account's domain.
func TestAnonymousWorld(t *testing.T) {
	w, _ := anonymousWorld(t, nil, nil)
	w.anna.Fetch = func(context.Context, []byte) ([]byte, error) {
		return nil, errs.E("test", errs.Unavailable, "", nil)
	}
	exits := func(flags map[string]uint64) {
		for i := range w.net.Consensus.Nodes {
			n := &w.net.Consensus.Nodes[i]
			n.Parameters = nil
			if f := flags[n.Domains[0]]; f != 0 {
				n.Parameters = directory.Parameters{{Name: directory.ExitParameter, Value: f}}
			}
		}
	}
	for _, c := range []struct {
		flags           map[string]uint64
		user, anonymous string
	}{
		{map[string]uint64{domain: directory.ExitMail}, domain, domain},
		{map[string]uint64{other: directory.ExitMail}, "", other},
		{map[string]uint64{domain: directory.ExitMail, other: directory.ExitMail}, domain, other},
		{map[string]uint64{domain: directory.ExitMail | directory.ExitCleartext, other: directory.ExitMail | directory.ExitForeign}, domain, other},
	} {
		exits(c.flags)
		at := func(anonymous bool) string {
			if e := exitOf(w.net.Consensus, w.anna, true, anonymous); e != nil {
				return e.Domains[0]
			}
			return ""
		}
		if at(false) != c.user || at(true) != c.anonymous {
			t.Errorf("%+v: %q and %q", c, at(false), at(true))
		}
	}
	// Only what goes anonymously can leave: that is known when the header is.
	exits(map[string]uint64{other: directory.ExitMail})
	w.want("550 5.1.2", encrypted(), "x@world.example")
	w.want("250 ", "X-Postern-Anonymous: Fox\r\n"+encrypted(), "x@world.example")
	w.want("523 5.7.10 Encryption Needed: mail for addresses outside of the network leaves only if it is encrypted from end to end; Proxy.AllowCleartext = true lets it leave", as("Fox"), "x@world.example")
	w.s.o.AllowCleartext = true
	w.want("523 5.7.10 Encryption Needed: no exit of the network takes mail that is not encrypted", as("Fox"), "x@world.example")
	exits(map[string]uint64{other: directory.ExitMail | directory.ExitCleartext})
	w.want("250 ", as("Fox"), "x@world.example")
}

// TestToReplyAddress: an answer to somebody anonymous goes to their relay, which seals it on arrival: in
// cleartext only if the user lets cleartext leave. Nobody looks for a key of a reply address.
func TestToReplyAddress(t *testing.T) {
	w, y := anonymousWorld(t, nil, nil)
	w.anna.Discover = true
	to := anon.ReplyAddress(strings.Repeat("z", anon.ReplyNameLen), other).String()
	w.want("523 5.7.10 Encryption Needed: the relay of a reply address could read this mail before it is sealed; Proxy.AllowCleartext = true", plain(), to)
	w.want("250 ", encrypted(), to)
	w.s.o.AllowCleartext = true
	w.want("250 ", plain(), to)
	w.want("250 ", as("Fox"), to) // two who do not know each other
	w.run()
	all := w.carry()
	if len(all) != 3 || w.lookups() != 0 {
		t.Fatalf("%d letters, %d look-ups", len(all), w.lookups())
	}
	nobodys := 0
	for _, c := range all {
		if c.Message.Kind != content.Mail || c.Message.Relay != agenttest.Relay(t, other) {
			t.Errorf("kind %d", c.Message.Kind)
		}
		if v := w.check(c); v.Kind == vouch.Anonymous && v.Return.Equal(y.at(0)) {
			nobodys++
		}
	}
	if nobodys != 1 {
		t.Errorf("%d anonymous letters", nobodys)
	}
	// It is not for ordinary mailboxes.
	w.anna.Discover = false
	w.want("523 5.7.10 Encryption Needed: the recipient's mail proxy is not known", plain(), "x@two.example")
}

// TestAnonymousLetter: an anonymous letter is as long as one that is not, in its packets.
func TestAnonymousLetter(t *testing.T) {
	w, _ := anonymousWorld(t, nil, nil)
	bert := w.user("bert@two.example")
	w.know(bert)
	w.want("250 ", as("Fox"), "bert@two.example")
	w.want("250 ", plain(), "bert@two.example")
	w.run()
	all := w.carry(bert)
	if len(all) != 2 {
		t.Fatalf("%d letters", len(all))
	}
	for _, c := range all {
		if len(c.Message.Bodies) != 1 || len(c.Message.Bodies[0]) != letter.RoomACK || !c.Message.Ack {
			t.Errorf("%d packets", len(c.Message.Bodies))
		}
	}
}

// TestAnonymousParts: the marks by which a mail program's parts are known do not leave with an anonymous mail,
// encrypted or not; a mail that names its sender keeps its parts as they are.
func TestAnonymousParts(t *testing.T) {
	w, _ := anonymousWorld(t, nil, nil)
	bert := w.user("bert@two.example")
	w.know(bert)
	parts := "Content-Type: multipart/mixed; boundary=\"canary/laptop\"\r\n\r\nA canary in MIME format.\r\n--canary/laptop\r\nContent-ID: <1@canary>\r\n\r\nHello.\r\n--canary/laptop--\r\n"
	head := "From: Anna <anna@one.example>\r\nTo: bert@two.example\r\nSubject: plans\r\nMIME-Version: 1.0\r\n"
	secret := strings.ReplaceAll(encrypted(), `boundary="b"`, `boundary="canary"`)
	secret = strings.ReplaceAll(secret, "--b", "--canary")
	w.want("250 ", "X-Postern-Anonymous: Fox\r\n"+head+parts, "bert@two.example")
	w.want("250 ", "X-Postern-Anonymous: Fox\r\n"+secret, "x@two.example")
	w.want("250 ", head+parts, "bert@two.example")
	w.run()
	all := w.carry(bert)
	if len(all) != 3 || !strings.Contains(secret, "--canary--") {
		t.Fatalf("%d letters", len(all))
	}
	n := 0
	for _, c := range all {
		v := w.check(c)
		text := string(v.Mail.Raw)
		if v.Kind != vouch.Anonymous {
			if !strings.HasSuffix(text, parts[strings.Index(parts, "\r\n\r\n"):]) {
				t.Errorf("a mail with its sender: %s", text)
			}
			continue
		}
		n++
		if strings.Contains(text, "canary") || !strings.Contains(text, "boundary=\"=_") {
			t.Errorf("%s", text)
		}
	}
	if n != 2 {
		t.Errorf("%d anonymous letters", n)
	}
}
