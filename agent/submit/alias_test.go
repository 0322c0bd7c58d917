package submit

import (
	"context"
	"io"
	"strings"
	"testing"

	"postern.email/agent/agenttest"
	"postern.email/agent/aliasmail"
	"postern.email/agent/deliver"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mail/sanitize"
	"postern.email/post/account"
	"postern.email/post/alias"
	"postern.email/post/queue"
	"postern.email/post/seal"
)

// owner is an account whose name must not get out.
const owner = "annacanary"

// aliasWorld is a post office with aliases and a queue for other hosts.
type aliasWorld struct {
	*world
	aliases *agenttest.Aliases
	queue   *queue.Queue
}

func newAliasWorld(t *testing.T, set func(*Options, *aliasmail.Options)) *aliasWorld {
	t.Helper()
	fs := vfs.NewCrashDisk()
	w := &aliasWorld{world: &world{Office: agenttest.Open(t, domain, fs, "/data")}}
	w.Create(owner, nil)
	w.aliases = w.Office.Aliases()
	root, err := seal.NewRoot(make([]byte, seal.KeyLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	if w.queue, err = queue.Open(t.Context(), queue.Options{Store: w.Store, Root: root, FS: fs, Dir: "/data/queue", Now: w.Clock.Now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.queue.Close() })
	d := deliver.New(deliver.Options{Store: w.Store, Boxes: w.Boxes, Now: w.Clock.Now, Queue: w.queue, Accounts: w.Accounts, Aliases: w.aliases, Numbers: w.Accounts, Domain: domain})
	a := aliasmail.Options{Register: w.aliases, Accounts: w.Accounts, Rooms: w.Boxes, Deliver: d, Domain: domain, Cleartext: true, Now: w.Clock.Now}
	o := Options{Accounts: Register(w.Accounts), Rooms: w.Boxes, Deliver: d, Remote: true, Now: w.Clock.Now}
	if set != nil {
		set(&o, &a)
	}
	o.Aliases = aliasmail.New(a)
	w.addr = serve(t, New(o))
	return w
}

// open makes an alias of class open-mail.
func (w *aliasWorld) open(local string) mail.Address {
	return w.aliases.Create(owner, local, func(n *alias.New) { n.Class = alias.OpenMail })
}

// send hands a mail in with whole addresses and gives the first refusal, or the last reply.
func (c *client) send(from, raw string, to ...string) string {
	c.t.Helper()
	defer c.cmd("RSET", "250 ")
	say := func(line string) string {
		io.WriteString(c.conn, line+"\r\n")
		return c.reply()
	}
	for _, line := range append(append([]string{"MAIL FROM:<" + from + ">"}, rcpts(to)...), "DATA") {
		if got := say(line); got[0] > '3' {
			return got
		}
	}
	return say(raw + ".")
}

func rcpts(to []string) (lines []string) {
	for _, a := range to {
		lines = append(lines, "RCPT TO:<"+a+">")
	}
	return lines
}

// leaky is a mail as a mail program writes it, full of its user.
const leaky = "Received: from canary-laptop (annacanary [192.0.2.1])\r\n" +
	"From: \"Anna Canary\" <fox-1@mail.example>\r\nReply-To: <annacanary@mail.example>\r\nSender: annacanary@mail.example\r\n" +
	"To: \"My friend Bert, canary\" <bert@mail.example>\r\nBcc: <canary@elsewhere.example>\r\nSubject: an answer of annacanary@mail.example\r\n" +
	"Date: Fri, 20 Nov 2026 14:02:03 +0530\r\nMessage-ID: <annacanary.1@mail.example>\r\nIn-Reply-To: <m1@shop.example>\r\n" +
	"References: <annacanary.0@mail.example> <m0@shop.example>\r\n <m1@shop.example>\r\n" +
	"User-Agent: canary 1.0\r\nX-Mailer: canary\r\nX-Canary: 1\r\nOrganization: canary\r\nDisposition-Notification-To: annacanary@mail.example\r\n" +
	"Autocrypt: addr=annacanary@mail.example; keydata=AAAA\r\nResent-From: annacanary@mail.example\r\nMIME-Version: 1.0 (canary)\r\n"

const leakyText = "Content-Type: multipart/signed; boundary=\"s\"; protocol=\"application/pgp-signature\"\r\n\r\n" +
	"--s\r\nContent-Type: multipart/mixed; boundary=\"m\"\r\n\r\n" +
	"--m\r\nContent-Type: text/plain\r\nContent-ID: <canary@annacanary>\r\nX-Canary: 1\r\n\r\nhello\r\n> annacanary@mail.example wrote\r\n" +
	"--m\r\nContent-Type: application/pgp-keys; name=canary.asc\r\n\r\n-----BEGIN PGP PUBLIC KEY BLOCK-----\r\n\r\ncanary\r\n-----END PGP PUBLIC KEY BLOCK-----\r\n--m--\r\n" +
	"--s\r\nContent-Type: application/pgp-signature\r\n\r\n-----BEGIN PGP SIGNATURE-----\r\n\r\ncanary\r\n-----END PGP SIGNATURE-----\r\n--s--\r\n"

// TestAsAlias: an owner writes as an alias, and nothing of the account is in what the other side gets: no
// name, address, key, id, time zone or program.
func TestAsAlias(t *testing.T) {
	w := newAliasWorld(t, nil)
	w.Create("bert", func(r *account.CreateRequest) { r.AcceptCleartext = true })
	al := w.open("fox-1")
	w.aliases.Alter(owner, al, func(c *alias.Change) { c.Allow = []string{"bert@mail.example"} })
	c := w.dial(owner)
	if got := c.send("fox-1@mail.example", leaky+leakyText, "bert@mail.example"); got != "250 2.0.0 OK" {
		t.Fatal(got)
	}
	_, enc, _ := strings.Cut(encrypted("x", 600), "\r\nMIME-Version: 1.0\r\n")
	if got := c.send("Fox-1@Mail.Example", leaky+enc, "bert@mail.example"); got != "250 2.0.0 OK" {
		t.Fatal(got)
	}
	all := w.Inbox("bert")
	if len(all) != 2 {
		t.Fatalf("%d mails", len(all))
	}
	for i, got := range all {
		if strings.Contains(strings.ToLower(got), "canary") {
			t.Errorf("the account shows:\n%s", got)
		}
		h, _, err := mail.ParseHeader([]byte(got))
		if err != nil {
			t.Fatal(err)
		}
		subject := []string{"an answer of fox-1@mail.example", "[...]"}[i]
		for name, want := range map[string]string{"From": "<fox-1@mail.example>", "To": "<bert@mail.example>", "Subject": subject, "Date": "Fri, 20 Nov 2026 08:32:03 +0000",
			"In-Reply-To": "<m1@shop.example>", "References": "<m0@shop.example> <m1@shop.example>", "Return-Path": "<fox-1@mail.example>"} {
			if h.Get(name) != want || h.Count(name) != 1 {
				t.Errorf("%s: %q, want %q", name, h.Get(name), want)
			}
		}
		if id := h.Get("Message-ID"); !strings.HasSuffix(id, "@mail.example>") || len(id) < 30 {
			t.Errorf("Message-ID %q", id)
		}
	}
	if !strings.Contains(all[0], "hello\r\n> fox-1@mail.example wrote") {
		t.Errorf("the text is gone:\n%s", all[0])
	}
	if now := w.aliases.Now(al); now.Sent != 2 || !strings.Contains(w.aliases.People(owner, al), "bert@mail.example") {
		t.Errorf("sent %d, %s", now.Sent, w.aliases.People(owner, al))
	}
}

// TestAliasRemembersSent: a delivery report can answer the Message-ID with which a mail left as an alias, which is not
// always the one that it was handed in with.
func TestAliasRemembersSent(t *testing.T) {
	w := newAliasWorld(t, nil)
	w.Create("bert", nil)
	al := w.open("fox-1")
	_, enc, _ := strings.Cut(encrypted("x", 600), "\r\nMIME-Version: 1.0\r\n")
	for i, given := range []string{"<own-id@mail.example>", "<annacanary.1@laptop.example>"} {
		raw := "From: <fox-1@mail.example>\r\nMessage-ID: " + given + "\r\n" + enc
		if got := w.dial(owner).send(al.String(), raw, "bert@mail.example"); got != "250 2.0.0 OK" {
			t.Fatal(got)
		}
		h, _, err := mail.ParseHeader([]byte(w.Inbox("bert")[i]))
		if err != nil {
			t.Fatal(err)
		}
		left := h.Get("Message-ID")
		for id, want := range map[string]bool{left: true, given: given == left, "<other@mail.example>": false} {
			if got, err := w.aliases.Answers(t.Context(), w.aliases.Now(al), id); err != nil || got != want {
				t.Errorf("%s, which left as %s: %v %v, want %v", id, left, got, err, want)
			}
		}
	}
}

// TestAliasOptions: a name, and keys and signatures, stay where the operator says so; S/MIME is refused or
// stays.
func TestAliasOptions(t *testing.T) {
	w := newAliasWorld(t, func(o *Options, _ *aliasmail.Options) { o.AliasNames, o.AliasKeys = true, true })
	w.Create("bert", func(r *account.CreateRequest) { r.AcceptCleartext = true })
	al := w.open("fox-1")
	w.aliases.Alter(owner, al, func(c *alias.Change) { c.Allow = []string{"bert@mail.example"} })
	if got := w.dial(owner).send("fox-1@mail.example", leaky+leakyText, "bert@mail.example"); got != "250 2.0.0 OK" {
		t.Fatal(got)
	}
	got := w.Inbox("bert")[0]
	for _, want := range []string{"From: \"Anna Canary\" <fox-1@mail.example>", "BEGIN PGP SIGNATURE", "BEGIN PGP PUBLIC KEY"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is gone:\n%s", want, got)
		}
	}
	smime := "From: <fox-1@mail.example>\r\nContent-Type: application/pkcs7-mime; smime-type=signed-data\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n"
	if got := w.dial(owner).send("fox-1@mail.example", smime, "bert@mail.example"); got != "250 2.0.0 OK" {
		t.Error(got)
	}
	w = newAliasWorld(t, nil)
	w.open("fox-1")
	w.Create("bert", func(r *account.CreateRequest) { r.AcceptCleartext = true })
	w.aliases.Alter(owner, w.Address("fox-1"), func(c *alias.Change) { c.Allow = []string{"bert@mail.example"} })
	if got := w.dial(owner).send("fox-1@mail.example", smime, "bert@mail.example"); !strings.HasPrefix(got, "550 5.7.1 this mail is signed in a way") {
		t.Error(got)
	}
}

// TestAliasAutocrypt: a key goes along where it is the alias's own and does not name the account.
func TestAliasAutocrypt(t *testing.T) {
	w := newAliasWorld(t, nil)
	w.Create("bert", nil)
	w.open("fox-1")
	_, enc, _ := strings.Cut(encrypted("x", 600), "\r\nMIME-Version: 1.0\r\n")
	const own, foreign = "Autocrypt: addr=fox-1@mail.example; prefer-encrypt=mutual; _note=annacanary; keydata=Zm94\r\n LTE=\r\n", "Autocrypt: addr=annacanary@mail.example; keydata=Zm94LTE=\r\n"
	for field, stays := range map[string]bool{
		own:           true,
		foreign:       false,
		foreign + own: true,
		"Autocrypt: addr=fox-1@mail.example; keydata=PEFubmFDYW5hcnlAbWFpbC5leGFtcGxlPg==\r\n": false, // <AnnaCanary@mail.example>
	} {
		before := len(w.Inbox("bert"))
		raw := "From: <fox-1@mail.example>\r\nMessage-ID: <own-id@mail.example>\r\nSecure-Join-Group: g\r\nChat-Version: 1.0\r\n" + field + enc
		if got := w.dial(owner).send("fox-1@mail.example", raw, "bert@mail.example"); got != "250 2.0.0 OK" {
			t.Fatal(got)
		}
		got := w.Inbox("bert")[before]
		if strings.Contains(got, "Autocrypt: addr=fox-1@mail.example; prefer-encrypt=mutual; keydata= Zm94LTE=\r\n") != stays || strings.Count(got, "Autocrypt:") > 1 || strings.Contains(strings.ToLower(got), "canary") {
			t.Errorf("%q:\n%.600s", field, got)
		}
		if !strings.Contains(got, "Message-ID: <own-id@mail.example>\r\n") || !strings.Contains(got, "Chat-Version: 1.0\r\n") || !strings.Contains(got, "Secure-Join-Group: g\r\n") {
			t.Errorf("what the other program needs is gone:\n%s", got)
		}
	}
}

// TestAliasSender: only its owner writes as an alias, in envelope and From alike, and one that was deleted is
// nobody's.
func TestAliasSender(t *testing.T) {
	w := newAliasWorld(t, nil)
	w.Create("bert", nil)
	al := w.open("fox-1")
	other := w.aliases.Create("bert", "owl-2", nil)
	c, enc := w.dial(owner), encrypted("fox-1", 600)
	const notOwned = "553 5.7.1 Sender address rejected: not owned by user"
	for _, s := range []struct{ from, raw, want string }{
		{other.String(), encrypted("owl-2", 600), notOwned},
		{"nobody-1@mail.example", encrypted("nobody-1", 600), notOwned},
		{al.String(), encrypted("owl-2", 600), "500 Invalid FROM <owl-2@mail.example> for <fox-1@mail.example>"},
		{al.String(), encrypted(owner, 600), "500 Invalid FROM <annacanary@mail.example> for <fox-1@mail.example>"},
		{owner + "@mail.example", enc, "500 Invalid FROM <fox-1@mail.example> for <annacanary@mail.example>"},
		{al.String(), enc, "250 2.0.0 OK"},
	} {
		if got := c.send(s.from, s.raw, "bert@mail.example"); got != s.want {
			t.Errorf("%s: %q, want %q", s.from, got, s.want)
		}
	}
	w.aliases.Alter(owner, al, func(c *alias.Change) { c.Paused = true })
	if got := c.send(al.String(), enc, "bert@mail.example"); got != "250 2.0.0 OK" {
		t.Errorf("paused: %s", got)
	}
	if err := w.aliases.Delete(t.Context(), w.aliases.Vault(owner), al); err != nil {
		t.Fatal(err)
	}
	if got := c.send(al.String(), enc, "bert@mail.example"); got != notOwned {
		t.Errorf("deleted: %s", got)
	}
}

// TestAliasRate: mails as aliases count as the account's.
func TestAliasRate(t *testing.T) {
	w := newAliasWorld(t, func(o *Options, _ *aliasmail.Options) { o.PerMinute, o.Burst = 1, 2 })
	w.Create("bert", nil)
	w.open("fox-1")
	w.open("fox-2")
	c := w.dial(owner)
	for _, from := range []string{"fox-1", "fox-2"} {
		if got := c.send(from+"@mail.example", encrypted(from, 600), "bert@mail.example"); got != "250 2.0.0 OK" {
			t.Fatal(got)
		}
	}
	if got := c.send(owner+"@mail.example", encrypted(owner, 600), "bert@mail.example"); !strings.HasPrefix(got, "450 4.7.1: Too much mail") {
		t.Error(got)
	}
}

// TestAliasCleartext: in cleartext an alias of class open-mail answers who wrote to it, was written to, or was
// allowed, over roads that are verified; everybody else, every other class, and all while the operator's
// switch is off, is refused with the reason.
func TestAliasCleartext(t *testing.T) {
	const strict, stranger = "523 Encryption Needed: this alias sends end-to-end encrypted mail only",
		"523 Encryption Needed: unencrypted mail as an alias goes only to who wrote to it, or whom you have allowed"
	w := newAliasWorld(t, nil)
	w.Create("bert", nil)
	al, shut := w.open("fox-1"), w.aliases.Create(owner, "strict-1", nil)
	text := func(from string) string { return "From: <" + from + ">\r\nSubject: hi\r\n\r\nhello\r\n" }
	c := w.dial(owner)
	send := func(from, to string) string { return c.send(from, text(from), to) }
	if got := send(al.String(), "shop@shop.example"); got != stranger {
		t.Error(got)
	}
	if got := send(shut.String(), "shop@shop.example"); got != strict {
		t.Error(got)
	}
	if got := send(owner+"@mail.example", "shop@shop.example"); got != "523 Encryption Needed: Invalid Unencrypted Mail" {
		t.Error(got)
	}
	// Whoever wrote may be answered.
	now := w.aliases.Now(al)
	shop := mail.Address{Local: "shop", Domain: "shop.example"}
	if err := w.aliases.Record(t.Context(), w.aliases.Arrive(now, shop, now.Judge(shop, w.Clock.Now()))); err != nil {
		t.Fatal(err)
	}
	if got := send(al.String(), "Shop@Shop.Example"); got != "250 2.0.0 OK" {
		t.Error(got)
	}
	if got := c.send(al.String(), text(al.String()), "shop@shop.example", "else@shop.example"); got != stranger {
		t.Error(got)
	}
	w.aliases.Alter(owner, al, func(c *alias.Change) { c.Allow = []string{"bert@mail.example"} })
	if got := send(al.String(), "bert@mail.example"); got != "523 Encryption Needed: Invalid Unencrypted Mail" {
		t.Errorf("an account here that takes no cleartext: %s", got)
	}
	// Encrypted mail may go to anybody, and whoever was written to may be answered.
	if got := c.send(al.String(), encrypted("fox-1", 600), "new@shop.example"); got != "250 2.0.0 OK" {
		t.Error(got)
	}
	if got := send(al.String(), "new@shop.example"); got != "250 2.0.0 OK" {
		t.Error(got)
	}
	var verified, usual int
	list, _, err := w.queue.List(t.Context(), queue.Filter{}, "", queue.MaxPage)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		if l.Mail.Verified {
			verified++
		} else {
			usual++
		}
		if l.Mail.From != al {
			t.Errorf("envelope sender %s", l.Mail.From)
		}
	}
	if verified != 2 || usual != 1 {
		t.Errorf("%d mails ask for verified hosts and %d do not", verified, usual)
	}
	off := newAliasWorld(t, func(_ *Options, a *aliasmail.Options) { a.Cleartext = false })
	al = off.open("fox-1")
	off.aliases.Alter(owner, al, func(c *alias.Change) { c.Allow = []string{"@shop.example"} })
	if got := off.dial(owner).send(al.String(), text(al.String()), "a@shop.example"); got != strict {
		t.Errorf("the operator's switch: %s", got)
	}
}

// TestAliasRecipientFull: that the mailbox of an alias's owner is full is told behind the whole mail, which then goes
// to nobody, and of which recipient it is where there are several; RCPT tells nothing, whatever SIZE says.
func TestAliasRecipientFull(t *testing.T) {
	w := newAliasWorld(t, func(_ *Options, a *aliasmail.Options) { a.Rooms = full{} })
	w.Create("bert", nil)
	al := w.open("fox-1")
	c, enc := w.dial("bert"), encrypted("bert", 600)
	c.cmd("MAIL FROM:<bert@mail.example> SIZE=20000000", "250 ")
	c.cmd("RCPT TO:<"+al.String()+">", "250 ")
	c.cmd("RSET", "250 ")
	const text = "452 4.2.2 Recipient address rejected: mailbox full"
	if got := c.send("bert@mail.example", enc, al.String()); got != text {
		t.Error(got)
	}
	if got := c.send("bert@mail.example", enc, "bert@mail.example", al.String()); got != text+": fox-1@mail.example" {
		t.Error(got)
	}
	if n := len(w.Inbox("bert")) + len(w.Inbox(owner)); n != 0 {
		t.Errorf("%d mails were delivered", n)
	}
}

// full are mailboxes without room.
type full struct{}

func (full) Room(context.Context, seal.AccountID, int64, int64) error {
	return errs.E("test", errs.Full, "", nil)
}

// TestAliasAsRecipient: a user of this relay writes to an alias here: it takes what it takes of others, by its
// rules, and the owner sees that the sender was logged in.
func TestAliasAsRecipient(t *testing.T) {
	w := newAliasWorld(t, nil)
	w.Create("bert", nil)
	al := w.open("fox-1")
	second := w.open("fox-2")
	c, enc := w.dial("bert"), encrypted("bert", 600)
	if got := c.send("bert@mail.example", enc, al.String(), "bert@mail.example"); got != "250 2.0.0 OK" {
		t.Fatal(got)
	}
	all := w.Inbox(owner)
	f, raw, ok := sanitize.ReadAlias([]byte(all[0]))
	if len(all) != 1 || !ok || f.Alias != al || f.Sender != sanitize.SenderFirst || f.Vouched != "login" || f.ReturnPath.String() != "bert@mail.example" || strings.Contains(string(raw), "canary.example") {
		t.Errorf("%+v, %d mails\n%s", f, len(all), raw)
	}
	if len(w.Inbox("bert")) != 1 {
		t.Error("the other recipient got nothing")
	}
	if got := c.send("bert@mail.example", enc, al.String(), second.String()); got != "452 4.5.3 send separately" {
		t.Error(got)
	}
	if got := c.send("bert@mail.example", enc, "none-1@mail.example"); got != "550 5.1.1 Recipient address rejected: User unknown" {
		t.Error(got)
	}
	w.aliases.Alter(owner, al, func(c *alias.Change) { c.Block = []string{"bert@mail.example"} })
	if got := c.send("bert@mail.example", enc, al.String()); got != "550 5.7.1 Recipient address rejected: this sender is not accepted here" {
		t.Error(got)
	}
	w.aliases.Alter(owner, second, func(c *alias.Change) { c.Mode = alias.ModeAsk })
	for range 2 {
		if got := c.send("bert@mail.example", enc, second.String()); got != "450 4.7.1 Recipient address rejected: the recipient is asked, try again later" {
			t.Error(got)
		}
	}
	if n := len(w.Inbox(owner)); n != 2 {
		t.Errorf("%d mails, want one and a note", n)
	}
	// One alias writes to another: both sides see an alias only.
	w.aliases.Create("bert", "owl-1", func(n *alias.New) { n.Class = alias.OpenMail })
	w.aliases.Alter("bert", w.Address("owl-1"), func(c *alias.Change) { c.Allow = []string{al.String()} })
	text := "From: <owl-1@mail.example>\r\nSubject: hi\r\n\r\nhello\r\n"
	if got := c.send("owl-1@mail.example", text, al.String()); got != "250 2.0.0 OK" {
		t.Fatal(got)
	}
	got := w.Inbox(owner)[2]
	if strings.Contains(got, "bert") || !strings.Contains(got, "From: <owl-1@mail.example>\r\n") || !strings.Contains(got, "Subject: hi\r\n") {
		t.Errorf("%s", got)
	}
}

// TestAliasReport: a report on a mail as an alias lies in the mailbox of its owner, and names the alias only.
func TestAliasReport(t *testing.T) {
	w := newAliasWorld(t, nil)
	w.Create("bert", nil)
	w.open("fox-1")
	c := w.dial(owner)
	c.cmd("MAIL FROM:<fox-1@mail.example> RET=HDRS", "250 ")
	c.cmd("RCPT TO:<bert@mail.example> NOTIFY=SUCCESS", "250 ")
	c.cmd("DATA", "354 ")
	c.cmd(leaky+strings.SplitN(encrypted("x", 600), "MIME-Version: 1.0\r\n", 2)[1]+".", "250 ")
	all := w.Inbox(owner)
	if len(all) != 1 || !strings.Contains(all[0], "To: <fox-1@mail.example>") || !strings.Contains(all[0], "Action: delivered") || strings.Contains(strings.ToLower(all[0]), "canary") {
		t.Errorf("%d reports\n%s", len(all), strings.Join(all, ""))
	}
}

// TestOwnIDs has what ids tell of an account.
func TestOwnIDs(t *testing.T) {
	from, own := mail.Address{Local: "fox", Domain: "alias.example"}, mail.Address{Local: "anna", Domain: "mail.example"}
	for id, want := range map[string]bool{"<x@alias.example>": true, "<x@ALIAS.example>": true, "<x@mail.example>": false, "<x@laptop>": false, "<x.anna.y@alias.example>": false,
		"<banana@alias.example>": true, "x@alias.example": false, "": false, "<>": false} {
		if ownID(id, from, own) != want {
			t.Errorf("%s: %v", id, !want)
		}
	}
	ids := thread("<a@mail.example> <b@x.mail.example> <c@shop.example> <anna-1@shop.example> junk <d@alias.example>", from, own)
	if got := strings.Join(ids, " "); got != "<c@shop.example> <d@alias.example>" {
		t.Error(got)
	}
	if ids := thread("<a@mail.example><c@shop.example>", from, own); len(ids) != 1 || ids[0] != "<c@shop.example>" {
		t.Errorf("without blanks between them: %q", ids)
	}
	if n := len(thread(strings.Repeat("<c@shop.example> ", 30), from, own)); n != maxReferences {
		t.Errorf("%d ids", n)
	}
	same := thread("<a@mail.example>", mail.Address{Local: "fox", Domain: "mail.example"}, own)
	if len(same) != 1 {
		t.Error("where account and alias share a domain it tells nothing")
	}
	if !holds("<xannacanaryx@y>", "AnnaCanary") {
		t.Error("a long name is found within a word")
	}
}
