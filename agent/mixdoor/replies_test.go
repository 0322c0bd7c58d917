package mixdoor

import (
	"context"
	"strings"
	"testing"
	"time"

	"postern.email/agent/agenttest"
	"postern.email/agent/deliver"
	"postern.email/agent/receive"
	"postern.email/agent/vouch"
	"postern.email/mail"
	"postern.email/post/seal"
)

// replyWorld is a world whose relay has reply addresses.
func replyWorld(t *testing.T) (*world, *agenttest.Replies) {
	w := newWorld(t, nil)
	r := w.Replies()
	w.o.Deliver = deliver.New(deliver.Options{Store: w.Store, Boxes: w.Boxes, Queue: w.queue, Accounts: w.Accounts, Letters: w.Seen, Replies: r, Domain: domain, Now: w.Clock.Now})
	w.rules = receive.New(receive.Options{Domain: domain, Accounts: w.Accounts, Rooms: w.Boxes, Deliver: w.o.Deliver, Replies: r, Now: w.Clock.Now,
		Proxy: func(context.Context, seal.AccountID) (bool, error) { return false, nil }})
	w.o.Rules = w.rules
	w.open()
	return w, r
}

// TestReplyAddress: a letter for a reply address waits until the address has reply blocks, and takes one
// of them once, however often it comes; one that nobody feeds is refused, as are too many in one letter.
func TestReplyAddress(t *testing.T) {
	w, r := replyWorld(t)
	name := strings.Repeat("b2", 13)
	to := "reply." + name + "@" + domain
	reported := func() int { return w.queue.Stats().Mails } // to the sender, at another relay
	w.packets(w.seal(draft{to: []string{to}})...)
	w.work()
	if n := reported(); n != 1 {
		t.Errorf("%d reports of an address that nobody feeds", n)
	}
	r.Feed(name, 2)
	clear := []byte("From: " + alice + "\r\n\r\nhello\r\n") // which a reply address takes as a proxy's account does
	bodies := w.seal(draft{to: []string{to}, raw: clear})
	for range 2 {
		w.packets(bodies...)
		w.work()
	}
	if got := r.Sent(); len(got) != 1 || got[0] != string(clear) {
		t.Errorf("%d packets", len(got))
	}
	w.packets(w.seal(draft{to: []string{to}})...)
	w.packets(w.seal(draft{to: []string{to}, unsigned: true, raw: []byte("From: \"[Anon] Fox\" <anonymous@anonymous.invalid>\r\n\r\nhello\r\n")})...)
	w.work()
	if got := r.Sent(); len(got) != 2 {
		t.Errorf("%d packets, want those that there were blocks for", len(got))
	}
	r.Feed(name, 1)
	w.Clock.Add(time.Hour)
	w.work()
	if got := r.Sent(); len(got) != 3 || reported() != 1 {
		t.Errorf("%d packets, %d reports", len(got), reported())
	}
	var many []string
	for i := range deliver.MaxReplies + 1 {
		name := strings.Repeat(string(rune('a'+i)), 26)
		r.Feed(name, 1)
		many = append(many, "reply."+name+"@"+domain)
	}
	w.packets(w.seal(draft{to: many})...)
	w.work()
	if got := r.Sent(); len(got) != 3+deliver.MaxReplies || reported() != 2 {
		t.Errorf("%d packets, %d reports", len(got), reported())
	}
}

// TestReportToNobody: who wrote anonymously hears of a refusal at the reply address that the envelope names, here
// or at another relay, without what the mail was about; without an address nobody does.
func TestReportToNobody(t *testing.T) {
	w, r := replyWorld(t)
	name := strings.Repeat("b2", 13)
	r.Feed(name, 2)
	away := "reply." + name + "@" + w.Address(alice).Domain
	send := func(from, sender string) {
		w.packets(w.seal(draft{to: []string{"nobody@" + domain}, unsigned: true,
			edit: func(m *vouch.Mail) {
				if m.Sender = (mail.Address{}); sender != "" {
					m.Sender = w.Address(sender)
				}
			},
			raw: []byte("From: \"[Anon] Fox\" <" + from + ">\r\nMessage-ID: <known@again>\r\nSubject: canary\r\nTo: nobody@" + domain + "\r\n\r\nhello\r\n")})...)
		w.work()
	}
	home := "reply." + name + "@" + domain
	send(home, home)
	got := r.Sent()
	if len(got) != 1 || !strings.Contains(got[0], "Final-Recipient: rfc822; nobody@"+domain) || !strings.Contains(got[0], "<known@again>") || strings.Contains(got[0], "canary") || strings.Contains(got[0], "hello") {
		t.Errorf("%q", got)
	}
	send(home, "")
	send("anonymous@anonymous.invalid", "anonymous@anonymous.invalid")
	send("anonymous@anonymous.invalid", "")
	if n := w.queue.Stats().Mails; n != 0 || len(r.Sent()) != 1 {
		t.Errorf("%d reports to elsewhere", n)
	}
	send(away, away)
	if n := w.queue.Stats().Mails; n != 1 {
		t.Errorf("%d reports to the other relay", n)
	}
	// Without blocks nobody is told, and the letter is done with.
	for range 3 {
		send(home, home)
	}
	if got := r.Sent(); len(got) != 2 {
		t.Errorf("%d packets", len(got))
	}
}

var _ deliver.Replies = (*agenttest.Replies)(nil)
