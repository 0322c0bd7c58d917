package forward

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	pgp "github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/openpgp"
	"postern.email/mail/pgpmime"
	"postern.email/mail/verp"
	"postern.email/post/alias"
)

// TestForward: the mailbox elsewhere gets a mail from a reverse address of the sender, which both
// From and envelope of our domain make DMARC-safe; the alias counts it in the transaction that queues it.
func TestForward(t *testing.T) {
	w := newWorld(t, nil)
	if got := w.forward("shop-1", shop, news); got != "250" {
		t.Fatal(got)
	}
	l := w.one("home.example")
	rev := l.reverse(t)
	contains(t, l.raw, []string{`From: "The Shop (news at shop.example)"`, "Reply-To: \"The Shop (news at shop.example)\"", "To: <shop-1@alias.example>", "Subject: offers", "Message-ID: <m1@shop.example>",
		"X-Postern-Alias: mark", "Received: by mail.example", "X-Postern-Hops: 1", "\r\n\r\nhello\r\n"}, "canary", target, shop)
	from := w.Address(l.from)
	if l.to != target || !verp.IsReturn(from.Local) || from.Domain != aliases || !verp.IsReverse(w.Address(rev).Local) || w.Address(rev).Domain != aliases {
		t.Errorf("from %s (%s) to %s", l.from, rev, l.to)
	}
	r, err := w.f.codes.OpenReturn(aliases, from.Local, dayOf(w.Clock.Now()), 1)
	if err != nil || r.Kind != verp.Forwarded || alias.Owner(r.Ref[:8]) != annas {
		t.Errorf("%+v %v", r, err)
	}
	if fmt.Sprint(w.reg.arrived) != "[shop-1@alias.example news@shop.example take]" {
		t.Error(w.reg.arrived)
	}
	// The same sender has the same address, another another; and another alias has none of them.
	w.alias("shop-2", annas)
	for i, c := range []struct{ local, from string }{{"shop-1", shop}, {"shop-1", "x@shop.example"}, {"shop-2", shop}} {
		raw := strings.Replace(strings.Replace(news, "m1@", fmt.Sprintf("n%d@", i), 1), "news@", strings.Split(c.from, "@")[0]+"@", 1)
		if got := w.forward(c.local, c.from, raw); got != "250" {
			t.Fatal(got)
		}
		if same := w.one("home.example").reverse(t) == rev; same != (i == 0) {
			t.Errorf("%+v: the address is the same: %v", c, same)
		}
	}
}

// TestOnce: a mail that comes again is sent on once, and counted once; nothing is counted where nothing
// is queued.
func TestOnce(t *testing.T) {
	w := newWorld(t, nil)
	for range 3 {
		if got := w.forward("shop-1", shop, news); got != "250" {
			t.Fatal(got)
		}
	}
	w.one("home.example")
	if len(w.reg.arrived) != 1 {
		t.Error(w.reg.arrived)
	}
	w.reg.refuse = errs.E("test", errs.Denied, "", nil)
	al := w.reg.byAddr[w.Address("shop-1@"+aliases)]
	err := w.f.Forward(t.Context(), Mail{Alias: al, From: w.Address(shop), Raw: []byte(news), Proof: []byte("other")})
	if errs.KindOf(err) != errs.Denied || len(w.sent("home.example")) != 0 {
		t.Errorf("the alias has changed: %v", err)
	}
}

// TestCircles: what has passed too many hosts, what comes from an address that was given out here, and what
// comes from an alias of the same owner is refused.
func TestCircles(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.MaxHops = 5 })
	const loop = "554 5.4.6 this mail goes in a circle"
	for n, want := range map[int]string{4: "250", 5: loop} {
		if got := w.forward("shop-1", shop, strings.Repeat("Received: x\r\n", n)+news); got != want {
			t.Errorf("%d hosts: %s", n, got)
		}
	}
	l := w.one("home.example")
	// The mailbox elsewhere sends it back to the alias: it comes from our own address, and its hops count on.
	if got := w.forward("shop-1", l.reverse(t), l.raw); got != loop {
		t.Errorf("sent back: %s", got)
	}
	if got := w.forward("shop-1", shop, strings.Replace(l.raw, "From: ", "X: ", 1)); got != loop {
		t.Errorf("sent back from the sender's address: %s", got)
	}
	w.alias("other", annas)
	w.alias("berts", berts)
	for from, want := range map[string]string{"other@alias.example": loop, "berts@alias.example": "250", l.from: loop} {
		if got := w.forward("shop-1", from, news+from); got != want {
			t.Errorf("from %s: %s", from, got)
		}
	}
}

// TestElsewhere: an owner with a mailbox here is nobody's business; of others mail is refused or put off
// in words that do not tell.
func TestElsewhere(t *testing.T) {
	w := newWorld(t, nil)
	for owner, want := range map[alias.Owner]string{annas: "true 250", {9}: "false 250"} {
		is, err := w.f.Elsewhere(t.Context(), owner, "")
		if got := fmt.Sprint(is, " ", say(err)); got != want {
			t.Errorf("%v: %s, want %s", owner, got, want)
		}
	}
	w.reg.targets[annas] = mail.Address{}
	if is, err := w.f.Elsewhere(t.Context(), annas, ""); is || err != nil {
		t.Error(is, err)
	}
	w.reg.targets[annas] = w.Address("x@mail.example")
	is, err := w.f.Elsewhere(t.Context(), annas, "")
	if !is || say(err) != "550 5.1.1 Recipient address rejected: User unknown" {
		t.Error(is, err)
	}
	for addr, ok := range map[string]bool{"x@mail.example": false, "x@alias.example": false, "x@home.example": true} {
		if err := w.f.CheckTarget(t.Context(), w.Address(addr)); (err == nil) != ok || err != nil && errs.KindOf(err) != errs.Denied {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

// TestDisplay: a name says who wrote, and no program takes anything in it for an address.
func TestDisplay(t *testing.T) {
	for from, want := range map[string]string{
		`"The Shop" <news@shop.example>`:            "The Shop (news at shop.example)",
		"news@shop.example":                         "(news at shop.example)",
		`"boss@bank.example" <news@shop.example>`:   "boss at bank.example (news at shop.example)",
		"=?utf-8?q?Sh=C3=B6p?= <news@shop.example>": "Shöp (news at shop.example)",
		`"a` + "\u202e" + `b" <news@shop.example>`:  "a b (news at shop.example)",
		strings.Repeat("n", 100) + " <n@s.example>": strings.Repeat("n", 64) + " (n at s.example)",
		"Jürgen <\"a b\"@shop.example>":             "Jürgen (a b at shop.example)",
		"A <a@x.example>, B <news@shop.example>":    "(news at shop.example)",
		"=?utf-8?q?x=40y=2Eexample?= <n@s.example>": "x at y.example (n at s.example)",
		"=?utf-8?q?a=0D=0ABcc=3A_b?= <n@s.example>": "a Bcc: b (n at s.example)",
	} {
		h, _, err := mail.ParseHeader([]byte("From: " + from + "\r\n\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		a, err := mail.FromAddress(h)
		if err != nil {
			a = mail.Address{Local: "news", Domain: "shop.example"}
		}
		if got := display(h, a); got != want {
			t.Errorf("%s: %q, want %q", from, got, want)
		}
	}
}

// keyPair makes an OpenPGP key.
func keyPair(t testing.TB) (*pgp.Entity, []byte) {
	t.Helper()
	e, err := pgp.NewEntity("Anna", "", target, nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := e.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return e, b.Bytes()
}

// TestOpenPGP: mail for an alias with a key can be read by its owner alone, the subject included; what is
// encrypted already stays as it is; without a key that works nothing leaves.
func TestOpenPGP(t *testing.T) {
	w := newWorld(t, nil)
	e, pub := keyPair(t)
	var armored bytes.Buffer
	a, err := armor.Encode(&armored, pgp.PublicKeyType, nil)
	if err == nil {
		_, err = a.Write(pub)
		err = errors.Join(err, a.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	al := w.Address("shop-1@" + aliases)
	w.Clock.Add(1000 * aDay) // the key is made by the machine's clock
	w.open(nil)
	if err := w.f.Set(t.Context(), al, Settings{Key: armored.Bytes()}); err != nil {
		t.Fatal(err)
	}
	if got := w.forward("shop-1", shop, news); got != "250" {
		t.Fatal(got)
	}
	l := w.one("home.example")
	contains(t, l.raw, []string{"Subject: [...]", "The Shop (news at shop.example)", "multipart/encrypted"}, "offers", "hello")
	if !pgpmime.Check([]byte(l.raw), pgpmime.Incoming, nil).Encrypted {
		t.Error("it is not taken for encrypted")
	}
	block, err := armor.Decode(strings.NewReader(l.raw[strings.Index(l.raw, "-----BEGIN"):]))
	if err != nil {
		t.Fatal(err)
	}
	md, err := pgp.ReadMessage(block.Body, pgp.EntityList{e}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var plain bytes.Buffer
	if _, err := plain.ReadFrom(md.UnverifiedBody); err != nil {
		t.Fatal(err)
	}
	contains(t, plain.String(), []string{"Subject: offers", "hello"})
	// Encrypted by the sender: as it came.
	k, err := openpgp.ParseKey(pub, w.Clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := openpgp.Encrypt([]byte(strings.Replace(news, "m1@", "m2@", 1)), []*openpgp.Key{k}, w.Clock.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if got := w.forward("shop-1", shop, string(sealed)); got != "250" {
		t.Fatal(got)
	}
	if l := w.one("home.example"); !strings.HasSuffix(string(sealed), l.raw[strings.Index(l.raw, "\r\n\r\n"):]) {
		t.Error("an encrypted mail was changed")
	}
	if err := w.f.Set(t.Context(), al, Settings{Key: []byte("-----x")}); errs.KindOf(err) != errs.Invalid {
		t.Error(err)
	}
	if err := w.f.save(t.Context(), nameAlias+al.String(), Settings{Key: []byte("broken")}, aliasDays); err != nil {
		t.Fatal(err)
	}
	if got := w.forward("shop-1", shop, news+"x"); !strings.HasPrefix(got, "451") || len(w.sent("home.example")) != 0 {
		t.Errorf("with a key that does not work: %s", got)
	}
	if err := w.f.Set(t.Context(), al, Settings{}); err != nil {
		t.Fatal(err)
	}
	if got := w.forward("shop-1", shop, news+"x"); got != "250" || !strings.Contains(w.one("home.example").raw, "offers") {
		t.Errorf("without a key: %s", got)
	}
}

// TestAutocrypt: the sender's key goes along as that of the address that answers go to.
func TestAutocrypt(t *testing.T) {
	w := newWorld(t, nil)
	raw := "Autocrypt: addr=news@shop.example; keydata=" + base64.StdEncoding.EncodeToString(make([]byte, 300)) + "\r\n" + news
	if got := w.forward("shop-1", shop, raw); got != "250" {
		t.Fatal(got)
	}
	l := w.one("home.example")
	key, err := openpgp.Autocrypt(l.h, w.Address(l.reverse(t)))
	if err != nil || len(key) != 300 {
		t.Errorf("%d bytes, %v\n%s", len(key), err, l.raw)
	}
}

// TestUnsubscribe: the sender's own fields stay, or ours stop mail of that sender at that alias, or there
// are none.
func TestUnsubscribe(t *testing.T) {
	raw := "List-Unsubscribe: <https://shop.example/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" + news
	for mode, want := range map[Unsubscribe]string{UnsubscribeKeep: "https://shop.example/u", UnsubscribeBlock: "https://mail.example/f/stop/alias.example/re.", UnsubscribeDrop: ""} {
		w := newWorld(t, func(o *Options) { o.Unsubscribe = mode })
		if got := w.forward("shop-1", shop, raw); got != "250" {
			t.Fatal(got)
		}
		h := w.one("home.example").h
		if got := h.Get("List-Unsubscribe"); !strings.Contains(got, want) || (got == "") != (want == "") || h.Count("List-Unsubscribe") > 1 || h.Count("List-Unsubscribe") != h.Count("List-Unsubscribe-Post") {
			t.Errorf("%d: %q", mode, got)
		}
	}
}

// TestOptions: options that make no sense are refused.
func TestOptions(t *testing.T) {
	w := newWorld(t, nil)
	for name, change := range map[string]func(*Options){
		"no aliases": func(o *Options) { o.Aliases = nil }, "no book": func(o *Options) { o.Book = nil }, "no pages": func(o *Options) { o.URL = nil },
		"return address for ever": func(o *Options) { o.ReturnDays = verp.MaxLife + 1 }, "bad days beyond memory": func(o *Options) { o.BadDays = ladderDays + 1 },
	} {
		o := w.f.o
		change(&o)
		if _, err := New(o); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}
