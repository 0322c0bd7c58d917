package forward

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/openpgp"
	"postern.email/mail/pgpmime"
	"postern.email/mail/verp"
	"postern.email/post/alias"
)

// correspond lets a mail of the shop come, and gives its reverse address.
func (w *world) correspond(from string) string {
	w.t.Helper()
	if got := w.forward("shop-1", from, strings.ReplaceAll(news, shop, from)); got != "250" {
		w.t.Fatal(got)
	}
	return w.one("home.example").reverse(w.t)
}

// reply is what a mail program elsewhere makes of an answer.
func reply(to string) string {
	return "From: Anna Secret <" + target + ">\r\nSender: " + target + "\r\nTo: \"The Shop (news at shop.example)\" <" + to + ">\r\nCc: friend@home.example\r\nBcc: hidden@home.example\r\n" +
		"Subject: Re: offers for " + target + "\r\nMessage-ID: <secret-1@home.example>\r\nIn-Reply-To: <m1@shop.example>\r\nReferences: <elsewhere@home.example> <m1@shop.example>\r\n" +
		"Received: from secret (192.0.2.77)\r\nDKIM-Signature: d=home.example\r\nUser-Agent: Secret/1\r\nX-Originating-IP: 192.0.2.77\r\nAutocrypt: addr=" + target + "; keydata=c2VjcmV0\r\nDate: Mon, 1 Jan 2024 10:00:00 +0900\r\n" +
		"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nyes please\r\n> The Shop <" + to + "> wrote to " + target + "\r\n"
}

// TestAnswer: an answer goes out as the alias to the bound correspondent, from a return address, and
// nothing in it tells of the mailbox: address, name, host, message id, zone of its clock, program, key.
func TestAnswer(t *testing.T) {
	w := newWorld(t, nil)
	rev := w.correspond(shop)
	if got := w.answer(target, reply(rev), rev); got != "250" {
		t.Fatal(got)
	}
	l := w.one("shop.example")
	contains(t, l.raw, []string{"From: <shop-1@alias.example>\r\n", "To: <news@shop.example>\r\n", "Subject: Re: offers for shop-1@alias.example\r\n", "In-Reply-To: <m1@shop.example>\r\n", "References: <m1@shop.example>\r\n",
		"Date: " + mail.FormatDate(w.Clock.Now()), "yes please", "> The Shop <news@shop.example> wrote to shop-1@alias.example"},
		"home.example", "secret", "192.0.2", "+0900", "Cc:", "friend", "hidden", "Autocrypt", "DKIM", "Received", verp.ReversePrefix+rev[3:10])
	from := w.Address(l.from)
	r, err := w.f.codes.OpenReturn(aliases, from.Local, dayOf(w.Clock.Now()), 1)
	if err != nil || r.Kind != verp.Answered || l.to != shop || from.Domain != aliases {
		t.Errorf("from %s to %s: %+v %v", l.from, l.to, r, err)
	}
	if id := l.h.Get("Message-ID"); !strings.HasSuffix(id, "@alias.example>") {
		t.Error(id)
	}
	if fmt.Sprint(w.reg.wrote) != "[shop-1@alias.example [news@shop.example]]" {
		t.Error(w.reg.wrote)
	}
	// The same mail once more, as it comes when our 250 was not heard.
	if got := w.answer(target, reply(rev), rev); got != "250" || len(w.sent("shop.example")) != 0 || len(w.reg.wrote) != 1 {
		t.Errorf("once more: %s, %v", got, w.reg.wrote)
	}
}

// TestThreads: both sides see their threads hold: an answer to our answer, by either.
func TestThreads(t *testing.T) {
	w := newWorld(t, nil)
	rev := w.correspond(shop)
	if got := w.answer(target, reply(rev), rev); got != "250" {
		t.Fatal(got)
	}
	first := w.one("shop.example").h.Get("Message-ID")
	second := strings.NewReplacer("secret-1@", "secret-2@", "In-Reply-To: <m1@shop.example>", "In-Reply-To: <secret-1@home.example>", "References: <elsewhere@home.example>", "References: <secret-1@home.example> <elsewhere@home.example>").Replace(reply(rev))
	if got := w.answer(target, second, rev); got != "250" {
		t.Fatal(got)
	}
	l := w.one("shop.example")
	if got := l.h.Get("References"); got != first+" <m1@shop.example>" {
		t.Errorf("%s, first %s", got, first)
	}
	// Another correspondent of the alias knows nothing of these.
	other := w.correspond("other@shop.example")
	if got := w.answer(target, strings.ReplaceAll(second, "secret-2@", "secret-3@"), other); got != "250" {
		t.Fatal(got)
	}
	if l := w.one("shop.example"); strings.Contains(l.raw, first) || l.h.Get("References") != "<m1@shop.example>" { // it got m1 itself
		t.Errorf("%s", l.h.Bytes())
	}
}

// TestOnlyTheTarget: nobody else writes to a reverse address, vouched for or not; nor automatic answers,
// nor what goes in a circle.
func TestOnlyTheTarget(t *testing.T) {
	w := newWorld(t, nil)
	rev := w.correspond(shop)
	notTarget := replyNotTarget.String()
	if got := w.answer("eve@home.example", strings.ReplaceAll(reply(rev), target, "eve@home.example"), rev); got != notTarget {
		t.Errorf("somebody else: %s", got)
	}
	m := Incoming{To: []mail.Address{w.Address(rev)}, From: w.Address(target), Raw: []byte(reply(rev))}
	m.Vouched = func(context.Context) (bool, error) { return false, nil }
	if got := say(w.f.Take(t.Context(), m)); got != notTarget {
		t.Errorf("not vouched for: %s", got)
	}
	later := errs.E("test", errs.Unavailable, "later", nil)
	m.Vouched = func(context.Context) (bool, error) { return false, later }
	if got := say(w.f.Take(t.Context(), m)); got != "451 4.3.0 later" {
		t.Errorf("cannot be told: %s", got)
	}
	m.From = mail.Address{}
	if got := say(w.f.Take(t.Context(), m)); got != notTarget {
		t.Errorf("without From: %s", got)
	}
	for head, want := range map[string]string{"Auto-Submitted: auto-replied\r\n": replyAuto.String(), strings.Repeat("Received: x\r\n", DefaultMaxHops): replyLoop.String()} {
		if got := w.answer(target, head+reply(rev), rev); got != want {
			t.Errorf("%.40q: %s", head, got)
		}
	}
	if err := w.f.save(t.Context(), consentName(annas, w.Address(target)), consent{}, 1); err != nil {
		t.Fatal(err)
	}
	if got := w.answer(target, reply(rev), rev); got != notTarget {
		t.Errorf("a mailbox that has not agreed: %s", got)
	}
	if n := len(w.sent("shop.example")); n != 0 {
		t.Errorf("%d mails left", n)
	}
}

// TestReverseAddresses: a guess, one of an alias that is gone, and one that nobody used for long are unknown; used
// ones live on, and a sender that writes again has the old one.
func TestReverseAddresses(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.ReverseDays = 100 })
	rev := w.correspond(shop)
	const unknown = "550 5.1.1 Recipient address rejected: User unknown"
	guess := rev[:len(rev)-len("@alias.example")-1] + "x@alias.example"
	if guess == rev {
		t.Fatal("not a guess")
	}
	if got := say(w.f.Recipient(t.Context(), w.Address(guess))); got != unknown {
		t.Errorf("a guess: %s", got)
	}
	wrong := mail.Address{Local: w.f.codes.ReverseLocal(aliases, [verp.IDLen]byte{1}), Domain: aliases}
	if got := say(w.f.Recipient(t.Context(), wrong)); got != unknown {
		t.Errorf("without a record: %s", got)
	}
	if got := say(w.f.Recipient(t.Context(), w.Address(strings.ToUpper(rev)))); got != "250" {
		t.Errorf("folded: %s", got)
	}
	for range 3 {
		w.Clock.Add(80 * aDay)
		w.open(func(o *Options) { o.ReverseDays = 100 })
		if again := w.correspond(shop); again != rev {
			t.Error("another address")
		}
		if err := w.book.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.Clock.Add(102 * aDay)
	if err := w.book.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.open(func(o *Options) { o.ReverseDays = 100 })
	if got := say(w.f.Recipient(t.Context(), w.Address(rev))); got != unknown {
		t.Errorf("unused for long: %s", got)
	}
	if again := w.correspond(shop); again != rev {
		t.Error("another address after it was forgotten")
	}
	delete(w.reg.byAddr, w.Address("shop-1@"+aliases))
	if got := say(w.f.Recipient(t.Context(), w.Address(rev))); got != unknown {
		t.Errorf("the alias is gone: %s", got)
	}
	w.alias("shop-1", annas)
	w.reg.targets[annas] = mail.Address{}
	if got := say(w.f.Recipient(t.Context(), w.Address(rev))); got != unknown {
		t.Errorf("the owner's mailbox is here now: %s", got)
	}
}

// TestAnswerClass: only an alias of class open-mail answers in cleartext, and only where the operator
// lets it; what is encrypted leaves always.
func TestAnswerClass(t *testing.T) {
	w := newWorld(t, nil)
	rev := w.correspond(shop)
	al := w.reg.byAddr[w.Address("shop-1@"+aliases)]
	al.Class = alias.Strict
	const no = "523 Encryption Needed: Invalid Unencrypted Mail"
	if got := w.answer(target, reply(rev), rev); got != no {
		t.Errorf("strict: %s", got)
	}
	// Encrypted, it leaves as an encrypted mail, whose header tells nothing.
	w.Clock.Add(1000 * aDay) // the key is made by the machine's clock
	w.open(nil)
	_, pub := keyPair(t)
	k, err := openpgp.ParseKey(pub, w.Clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := openpgp.Encrypt([]byte(reply(rev)), []*openpgp.Key{k}, w.Clock.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rev2 := w.correspond("x@shop.example")
	if got := w.answer(target, strings.ReplaceAll(string(sealed), rev, rev2), rev2); got != "250" {
		t.Errorf("encrypted: %s", got)
	}
	if l := w.one("shop.example"); !pgpmime.Check([]byte(l.raw), pgpmime.Incoming, nil).Encrypted || strings.Contains(l.raw, "home.example") || l.h.Get("Subject") != "[...]" {
		t.Errorf("%s", l.raw)
	}
	al.Class = alias.OpenMail
	w.open(func(o *Options) { o.Cleartext = false })
	if got := w.answer(target, reply(rev), rev); got != no {
		t.Errorf("the operator's switch: %s", got)
	}
	if n := len(w.sent("shop.example")); n != 0 {
		t.Errorf("%d mails left", n)
	}
}

// TestAnswerSeveral: several correspondents of one alias get a mail each, and see each other as the
// mailbox wrote it; those of two aliases do not share a mail.
func TestAnswerSeveral(t *testing.T) {
	w := newWorld(t, nil)
	one, two := w.correspond(shop), w.correspond("help@care.example")
	raw := strings.Replace(reply(one), "Cc: friend@home.example", "Cc: Friend <friend@home.example>, Care <"+two+">", 1)
	if got := w.answer(target, raw, one, two); got != "250" {
		t.Fatal(got)
	}
	for _, d := range []string{"shop.example", "care.example"} {
		l := w.one(d)
		if l.h.Get("To") != "<news@shop.example>" || l.h.Get("Cc") != "<help@care.example>" {
			t.Errorf("%s: %s", d, l.h.Bytes())
		}
	}
	w.alias("shop-2", annas)
	if got := w.forward("shop-2", shop, news+"2"); got != "250" {
		t.Fatal(got)
	}
	three := w.one("home.example").reverse(t)
	if got := w.answer(target, reply(one), one, three); got != replyOneAlias.String() {
		t.Error(got)
	}
}

// TestAnswerForms: what cannot go out without telling who wrote is refused; keys stay where the option says
// so; a mail to oneself under another alias goes in a circle.
func TestAnswerForms(t *testing.T) {
	w := newWorld(t, nil)
	rev := w.correspond(shop)
	plain := "Content-Type: text/plain; charset=utf-8\r\n"
	if got := w.answer(target, strings.Replace(reply(rev), plain, "Content-Type: application/pkcs7-mime; smime-type=signed-data\r\n", 1), rev); got != replySigned.String() {
		t.Error(got)
	}
	if got := w.answer(target, strings.Replace(reply(rev), "Subject: ", "Subject: x\r\nX-Long: "+strings.Repeat("y", 300<<10)+"\r\nY: ", 1), rev); !strings.HasPrefix(got, "554") {
		t.Error(got)
	}
	key := strings.Replace(reply(rev), plain, "Content-Type: multipart/mixed; boundary=b\r\n", 1)
	key = key[:strings.Index(key, "\r\n\r\n")+4] + "--b\r\n\r\nhi\r\n--b\r\nContent-Type: application/pgp-keys\r\n\r\nKEYDATA\r\n--b--\r\n"
	for i, keep := range []bool{false, true} {
		w.open(func(o *Options) { o.KeepKeys = keep })
		if got := w.answer(target, strings.Replace(key, "secret-1@", fmt.Sprintf("k%d@", i), 1), rev); got != "250" {
			t.Fatal(got)
		}
		l := w.one("shop.example")
		if strings.Contains(l.raw, "KEYDATA") != keep || strings.Contains(l.raw, "Autocrypt: addr=shop-1@alias.example") != keep || strings.Contains(l.raw, "addr="+target) {
			t.Errorf("keep %v:\n%s", keep, l.raw)
		}
	}
	w.alias("mine", annas)
	mine, err := w.f.Reverse(t.Context(), w.reg.byAddr[w.Address("shop-1@"+aliases)], w.Address("mine@"+aliases))
	if err != nil {
		t.Fatal(err)
	}
	if got := w.answer(target, reply(mine.String()), mine.String()); got != replyLoop.String() {
		t.Errorf("to another alias of its own: %s", got)
	}
	if _, err := w.f.Reverse(t.Context(), w.reg.byAddr[w.Address("shop-1@"+aliases)], mine); errs.KindOf(err) != errs.Denied {
		t.Errorf("a reverse address of a reverse address: %v", err)
	}
	first, err := w.f.Reverse(t.Context(), w.reg.byAddr[w.Address("shop-1@"+aliases)], w.Address("new@friend.example"))
	if err != nil {
		t.Fatal(err)
	}
	if got := w.answer(target, reply(first.String()), first.String()); got != "250" || w.one("friend.example").h.Get("To") != "<new@friend.example>" {
		t.Errorf("to write first: %s", got)
	}
}

// TestAnswerHere: an answer to somebody of this relay passes the rules for what comes here, and does not
// leave it.
func TestAnswerHere(t *testing.T) {
	w := newWorld(t, nil)
	w.Create("open", nil)
	w.Create("strict", nil)
	open := ""
	for name, want := range map[string]string{"open": "250", "strict": replyCleartext.String(), "busy": "250"} {
		rev := w.correspond(name + "@" + domain)
		if name == "open" {
			open = rev
		}
		if got := w.answer(target, strings.ReplaceAll(reply(rev), "secret-1@", name+"@"), rev); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := w.Inbox("open"); len(got) != 1 || !strings.Contains(got[0], "From: <shop-1@alias.example>") || strings.Contains(got[0], "home.example") {
		t.Errorf("%q", got)
	}
	if n := len(w.Inbox("strict")) + len(w.sent(domain)); n != 0 || len(w.reg.wrote) != 2 {
		t.Errorf("%d mails, %q", n, w.reg.wrote)
	}
	w.open(func(o *Options) { o.Here = nil })
	if got := w.answer(target, reply(open), open); got != replyUnknown.String() {
		t.Errorf("where nobody here can be written to: %s", got)
	}
}
