package mixdoor

import (
	"strings"
	"testing"
	"time"

	"postern.email/agent/aliasmail"
	"postern.email/agent/receive"
	"postern.email/mail/sanitize"
	"postern.email/post/alias"
)

// TestAlias: a letter for aliases lies in their owner's mailbox, each marked, once; the alias's rules are asked
// for the sender that the network vouches for, and an anonymous one is taken only where everybody is.
func TestAlias(t *testing.T) {
	w := newWorld(t, nil)
	w.Create("anna", nil)
	aliases := w.Aliases()
	door := aliasmail.New(aliasmail.Options{Register: aliases, Accounts: w.Accounts, Rooms: w.Boxes, Deliver: w.o.Deliver, Domain: domain, Cleartext: true, Now: w.Clock.Now})
	w.rules = receive.New(receive.Options{Domain: domain, Accounts: w.Accounts, Rooms: w.Boxes, Deliver: w.o.Deliver, Aliases: door, Now: w.Clock.Now})
	w.o.Rules = w.rules
	w.open()
	open := aliases.Create("anna", "open-1", func(n *alias.New) { n.Class = alias.OpenMail })
	listed := aliases.Create("anna", "listed-1", func(n *alias.New) { n.Mode = alias.ModeAllowList })
	pinned := aliases.Create("anna", "pinned-1", func(n *alias.New) { n.Mode, n.Class = alias.ModePinned, alias.OpenMail })
	reported := func() int { return w.queue.Stats().Mails }

	clear := []byte("From: " + alice + "\r\nSubject: hi\r\n\r\nhello\r\n")
	bodies := w.seal(draft{to: []string{open.String(), pinned.String(), listed.String(), "anna@" + domain}, raw: clear})
	for range 2 {
		w.packets(bodies...)
		w.work()
	}
	all := w.Inbox("anna")
	if len(all) != 2 || reported() != 1 { // the list, and the account that takes no cleartext
		t.Fatalf("%d mails, %d reports", len(all), reported())
	}
	for _, got := range all {
		f, raw, ok := sanitize.ReadAlias([]byte(got))
		if !ok || f.Vouched != "end-to-end" || f.Sender != sanitize.SenderFirst || f.ReturnPath.String() != alice || string(raw) != string(clear) {
			t.Errorf("%+v\n%s", f, got)
		}
	}
	if n := aliases.Now(open).Received; n != 1 {
		t.Errorf("counted %d times", n)
	}
	anonymous := []byte("From: \"[Anon] Fox\" <anonymous@anonymous.invalid>\r\n\r\nhello\r\n")
	for _, to := range []string{pinned.String(), listed.String(), open.String()} {
		w.packets(w.seal(draft{to: []string{to}, unsigned: true, raw: anonymous})...)
		w.work()
	}
	all = w.Inbox("anna")
	if len(all) != 3 {
		t.Fatalf("%d mails", len(all))
	}
	if f, _, ok := sanitize.ReadAlias([]byte(all[2])); !ok || f.Vouched != "nobody" || f.Alias != open || f.Sender != sanitize.SenderUnexpected {
		t.Errorf("%+v", f)
	}
	if got := aliases.People("anna", open); strings.Contains(got, "anonymous.invalid") {
		t.Errorf("nobody is remembered: %s", got)
	}
}

// TestAliasAsks: a letter of a sender about whom the owner is asked waits, and is delivered when the
// owner allows it.
func TestAliasAsks(t *testing.T) {
	w := newWorld(t, nil)
	w.Create("anna", nil)
	aliases := w.Aliases()
	door := aliasmail.New(aliasmail.Options{Register: aliases, Accounts: w.Accounts, Rooms: w.Boxes, Deliver: w.o.Deliver, Domain: domain, Now: w.Clock.Now})
	w.rules = receive.New(receive.Options{Domain: domain, Accounts: w.Accounts, Rooms: w.Boxes, Deliver: w.o.Deliver, Aliases: door, Now: w.Clock.Now})
	w.o.Rules = w.rules
	w.open()
	al := aliases.Create("anna", "ask-1", func(n *alias.New) { n.Mode = alias.ModeAsk })
	w.packets(w.seal(draft{to: []string{al.String()}})...)
	for range 3 {
		w.work()
		w.Clock.Add(2 * retryAfter)
	}
	all := w.Inbox("anna")
	if len(all) != 1 || !strings.Contains(all[0], "postern alias allow ask-1@"+domain+" "+alice) {
		t.Fatalf("%d notes: %q", len(all), all)
	}
	aliases.Alter("anna", al, func(c *alias.Change) { c.Allow = []string{alice} })
	w.Clock.Add(time.Hour)
	w.work()
	if n := len(w.Inbox("anna")); n != 2 || w.queue.Stats().Mails != 0 {
		t.Errorf("%d mails, %d reports", n, w.queue.Stats().Mails)
	}
}
