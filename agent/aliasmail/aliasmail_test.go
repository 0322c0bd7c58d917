package aliasmail

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"postern.email/agent/agenttest"
	"postern.email/agent/deliver"
	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/mail"
	"postern.email/post/alias"
	"postern.email/post/seal"
	"postern.email/wire/smtp"
)

const domain = "mail.example"

// world is a post office with the policy of aliases, and one owner.
type world struct {
	*agenttest.Office
	aliases *agenttest.Aliases
	deliver *deliver.Deliver
	o       Options
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Office: agenttest.Open(t, domain, nil, "/data")}
	w.Create("anna", nil)
	w.aliases = w.Office.Aliases()
	w.deliver = deliver.New(deliver.Options{Store: w.Store, Boxes: w.Boxes, Now: w.Clock.Now, Aliases: w.aliases, Numbers: w.Accounts, Domain: domain})
	w.o = Options{Register: w.aliases, Accounts: w.Accounts, Rooms: w.Boxes, Deliver: w.deliver, Domain: domain, Cleartext: true, Now: w.Clock.Now}
	return w
}

// alias makes one with everybody that the tests know of.
func (w *world) alias(local string, mode alias.Mode, class alias.Class) mail.Address {
	w.TB.Helper()
	al := w.aliases.Create("anna", local, func(n *alias.New) { n.Mode, n.Class = mode, class })
	w.aliases.Alter("anna", al, func(c *alias.Change) {
		c.Allow, c.Block = []string{"friend@allowed.example"}, []string{"@blocked.example"}
		if mode == alias.ModeOpen || mode == alias.ModePinned {
			c.Pin = "first@pinned.example"
		}
	})
	if err := w.aliases.Record(context.Background(), w.aliases.WroteTo(w.aliases.Now(al), []mail.Address{w.Address("bob@written.example")}).Remember("<1@mail.example>")); err != nil {
		w.TB.Fatal(err)
	}
	return al
}

// say gives the reply that an error becomes.
func say(err error) string {
	if err == nil {
		return "250"
	}
	return smtp.ReplyFor(err).String()
}

// door is how mail comes to the policy.
type door struct {
	name string
	// hands hands a mail over.
	hands func(w *world, d *Door, r *Recipient, m *Mail) error
	fill  func(m *Mail) // says who vouches for From
}

var doors = []door{
	{"other hosts", func(_ *world, d *Door, r *Recipient, m *Mail) error {
		return d.Hand(context.Background(), r, m, deliver.Parcel{Head: m.Raw})
	}, func(m *Mail) { m.Vouched = "dkim:" + m.From.Domain }},
	{"users of this relay", func(w *world, d *Door, r *Recipient, m *Mail) error {
		if err := d.Refuses(context.Background(), r, m.From); err != nil {
			return err
		}
		return w.copied(d, r, m)
	}, func(m *Mail) { m.Vouched = "login" }},
	{"the mix network", (*world).copied, func(m *Mail) { m.Vouched = "end-to-end" }},
}

// copied hands over what Copy gives, as a door does that has other recipients too.
func (w *world) copied(d *Door, r *Recipient, m *Mail) error {
	c, err := d.Copy(context.Background(), r, m, deliver.Parcel{})
	if err != nil {
		return err
	}
	return w.deliver.Begin().Hand(context.Background(), deliver.Parcel{Head: m.Raw, Home: r.Owner.ID.Shard(), Aliases: []deliver.ForAlias{*c}})
}

// comes lets a mail come through a door and gives the first refusal, or "250".
func (w *world) comes(by door, to mail.Address, raw string, change func(*Mail)) string {
	w.TB.Helper()
	d := New(w.o)
	r, err := d.Recipient(context.Background(), to, limits.Peer{})
	if err != nil {
		return say(err)
	}
	null := &Mail{}
	if change != nil {
		change(null)
	}
	m, err := d.Form(r, []byte(raw), null.Null)
	if err != nil {
		return say(err)
	}
	by.fill(m)
	if change != nil {
		change(m)
	}
	return say(by.hands(w, d, r, m))
}

func letter(from string) string {
	return "From: <" + from + ">\r\nSubject: hi\r\n\r\nhello\r\n"
}

// TestModes: in each mode each kind of sender gets the same answer at every door, and what the owner has then says
// whether that sender was expected.
func TestModes(t *testing.T) {
	const stranger, first, friend, blocked, bob = "eve@new.example", "first@pinned.example", "friend@allowed.example", "x@blocked.example", "bob@written.example"
	accepted := map[string]string{first: "expected", friend: "expected", bob: "expected", stranger: "unexpected"}
	for mode, answers := range map[alias.Mode]map[string]string{
		alias.ModeOpen:      {stranger: "250", first: "250", friend: "250", bob: "250", blocked: Sender.String(), "": "250"},
		alias.ModePinned:    {stranger: Sender.String(), first: "250", friend: "250", bob: "250", blocked: Sender.String(), "": Sender.String()},
		alias.ModeAllowList: {stranger: Sender.String(), first: Sender.String(), friend: "250", bob: "250", blocked: Sender.String(), "": Sender.String()},
		alias.ModeAsk:       {stranger: Asked.String(), first: Asked.String(), friend: "250", bob: "250", blocked: Sender.String(), "": Sender.String()},
	} {
		for _, by := range doors {
			t.Run(mode.String()+"/"+by.name, func(t *testing.T) {
				w := newWorld(t)
				al := w.alias("fox-1", mode, alias.OpenMail)
				before := 0
				for from, want := range answers {
					raw, change := letter(from), func(*Mail) {}
					if from == "" {
						raw, change = letter("anonymous@anonymous.invalid"), func(m *Mail) { m.Nobody, m.Vouched = true, "nobody" }
					}
					if got := w.comes(by, al, raw, change); got != want {
						t.Errorf("%q: %s, want %s", from, got, want)
					}
					all := w.Inbox("anna")
					if want == "250" && (len(all) != before+1 || !strings.HasSuffix(all[before], raw) || from != "" && !strings.Contains(all[before], "; sender="+accepted[from]+"; vouched=")) {
						t.Errorf("%q: %q", from, all[before:])
					}
					if notes := len(all) - before; want == Asked.String() && (notes != 1 || !strings.Contains(all[before], askSubject)) || want == Sender.String() && notes != 0 {
						t.Errorf("%q: %d notes", from, notes)
					}
					before = len(all)
				}
				if got := w.aliases.People("anna", al); strings.Contains(got, "anonymous") {
					t.Errorf("who is nobody is remembered: %s", got)
				}
			})
		}
	}
}

// TestClasses: what form a mail must have follows from the class and the operator's switch, at every door.
func TestClasses(t *testing.T) {
	raw, err := os.ReadFile("../../mail/dkim/testdata/mailauth-rsa-relaxed-relaxed-enc.eml")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), "\r\nMIME-Version")
	clear := letter("friend@allowed.example")
	encrypted := strings.Replace("MIME-Version"+rest, "alice@remote.example", "friend@allowed.example", 1)
	latin := strings.Replace(clear, "hello", "\xe9", 1)
	for _, c := range []struct {
		class     alias.Class
		off       bool // aliases.cleartext
		raw, want string
	}{
		{alias.OpenMail, false, clear, "250"}, {alias.OpenMail, false, encrypted, "250"}, {alias.OpenMail, false, latin, "250"},
		{alias.OpenMail, true, clear, Cleartext.String()}, {alias.OpenMail, true, encrypted, "250"}, {alias.OpenMail, true, latin, NotUTF8.String()},
		{alias.Strict, false, clear, Cleartext.String()}, {alias.Strict, false, encrypted, "250"}, {alias.Strict, false, latin, NotUTF8.String()},
		{alias.OpenMail, false, "no header", "500 Failed to parse message: "}, {alias.OpenMail, false, "Subject: x\r\n\r\n", "500 Invalid FROM header: "},
		{alias.OpenMail, false, "From: a@x.example, b@x.example\r\n\r\n", "500 Invalid FROM header: "},
	} {
		for _, by := range doors {
			w := newWorld(t)
			w.o.Cleartext = !c.off
			if got := w.comes(by, w.alias("fox-1", alias.ModeOpen, c.class), c.raw, nil); !strings.HasPrefix(got, c.want) {
				t.Errorf("%s, switched off: %t, %s, %.60q: %s, want %s", c.class, c.off, by.name, c.raw, got, c.want)
			}
		}
	}
}

// TestUnknown: an alias that is paused, has ended, was deleted or never was, and one of an account that is blocked,
// are one and the same to whoever writes, at RCPT already.
func TestUnknown(t *testing.T) {
	w := newWorld(t)
	d := New(w.o)
	newAlias := func(local string, change func(*alias.Change)) mail.Address {
		al := w.alias(local, alias.ModeOpen, alias.OpenMail)
		if change != nil {
			w.aliases.Alter("anna", al, change)
		}
		return al
	}
	deleted := newAlias("deleted-1", nil)
	if err := w.aliases.Delete(t.Context(), w.aliases.Vault("anna"), deleted); err != nil {
		t.Fatal(err)
	}
	living := newAlias("living-1", nil)
	ended := newAlias("ended-1", func(c *alias.Change) { c.Expires = w.Clock.Now().Add(time.Hour) })
	w.Clock.Add(2 * time.Hour)
	for _, to := range []mail.Address{newAlias("paused-1", func(c *alias.Change) { c.Paused = true }), ended, deleted, w.Address("never-1"), w.Address("x@elsewhere.example")} {
		if _, err := d.Recipient(t.Context(), to, limits.Peer{}); err != error(Unknown) {
			t.Errorf("%s: %v", to, err)
		}
	}
	if r, err := d.Recipient(t.Context(), living, limits.Peer{}); err != nil || r.Elsewhere || r.Owner.Address != w.Address("anna") {
		t.Errorf("%+v, %v", r, err)
	}
	if err := w.Accounts.Block(t.Context(), w.Address("anna")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Recipient(t.Context(), living, limits.Peer{}); err != error(Unknown) {
		t.Errorf("a blocked account: %v", err)
	}
	if (*Door)(nil).Ours(living) {
		t.Error("where there are no aliases an address is one")
	}
}

// full are mailboxes without room.
type full struct{}

func (full) Room(context.Context, seal.AccountID, int64, int64) error {
	return errs.E("test", errs.Full, "", nil)
}

// TestFull: a full mailbox is told behind the rules, at every door, and not by RCPT; who is put off is put off in the
// same words, and the owner, for whom there is no room for a note, is asked by a later try.
func TestFull(t *testing.T) {
	for _, by := range doors {
		w := newWorld(t)
		open, asks := w.alias("open-1", alias.ModeOpen, alias.OpenMail), w.alias("ask-1", alias.ModeAsk, alias.OpenMail)
		w.o.Rooms = full{}
		for _, to := range []mail.Address{open, asks} {
			if _, err := New(w.o).Recipient(t.Context(), to, limits.Peer{}); err != nil {
				t.Errorf("%s: RCPT tells: %v", by.name, err)
			}
		}
		for to, froms := range map[mail.Address]map[string]string{open: {"eve@new.example": Full.String(), "x@blocked.example": Sender.String()}, asks: {"eve@new.example": Asked.String(), "friend@allowed.example": Full.String()}} {
			for from, want := range froms {
				if got := w.comes(by, to, letter(from), nil); got != want {
					t.Errorf("%s, %s from %s: %s, want %s", by.name, to, from, got, want)
				}
			}
		}
		if n := len(w.Inbox("anna")); n != 0 {
			t.Errorf("%s: %d mails", by.name, n)
		}
		w.o.Rooms = w.Boxes
		if got := w.comes(by, asks, letter("eve@new.example"), nil); got != Asked.String() || len(w.Inbox("anna")) != 1 {
			t.Errorf("%s: with room again: %s, %d notes", by.name, got, len(w.Inbox("anna")))
		}
	}
}

// TestNull: what has the null sender is taken where it can be an answer to something that was sent.
func TestNull(t *testing.T) {
	w := newWorld(t)
	al := w.alias("fox-1", alias.ModeAllowList, alias.OpenMail)
	never := w.aliases.Create("anna", "fox-2", func(n *alias.New) { n.Class = alias.OpenMail })
	report := func(id string) string {
		return "From: <MAILER-DAEMON@far.example>\r\nAuto-Submitted: auto-replied\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n" +
			"--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.far.example\r\n\r\nFinal-Recipient: rfc822; a@far.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n" +
			"--b\r\nContent-Type: message/rfc822\r\n\r\nMessage-ID: " + id + "\r\nSubject: x\r\n\r\nhello\r\n--b--\r\n"
	}
	for _, c := range []struct {
		to        mail.Address
		raw, want string
	}{
		{al, report("<1@mail.example>"), "250"}, {al, report("<2@mail.example>"), Sender.String()}, {al, letter("bob@written.example"), "250"}, {al, letter("eve@new.example"), Sender.String()},
		{never, report("<1@mail.example>"), Sender.String()}, {never, letter("eve@new.example"), Sender.String()},
	} {
		if got := w.comes(doors[0], c.to, c.raw, func(m *Mail) { m.Null = true }); got != c.want {
			t.Errorf("%s, %.40q: %s, want %s", c.to, c.raw, got, c.want)
		}
	}
	if got := w.comes(doors[0], al, report("<1@mail.example>"), nil); got != Sender.String() {
		t.Errorf("a report with a sender: %s", got)
	}
}
