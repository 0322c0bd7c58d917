package receive

import (
	"context"
	"strings"
	"testing"

	"postern.email/agent/deliver"
	"postern.email/post/seal"
	"postern.email/wire/smtp"
)

// TestReplyAddress: other hosts' mail for a reply address passes the rules for a proxy's account, takes
// one of its blocks, and is sent once however often it comes. Without blocks it looks like a full
// mailbox; one that nobody feeds is unknown.
func TestReplyAddress(t *testing.T) {
	w := newWorld(t)
	w.Create("anna", nil)
	r := w.Replies()
	w.r.o.Replies = r
	w.r.o.Deliver = deliver.New(deliver.Options{Store: w.Store, Boxes: w.Boxes, Seen: w.Seen, Letters: w.Seen, Replies: r, Now: w.Clock.Now})
	name := strings.Repeat("b2", 13)
	to := "reply." + name + "@" + domain
	good, plain := sample(t, "mailauth-rsa-relaxed-relaxed-enc"), sample(t, "mailauth-both-plain")
	const unknown, full = "550 5.1.1 Recipient address rejected: User unknown", "452 4.2.2 Recipient address rejected: mailbox full"
	if got := w.send(sender, good, to); got != unknown {
		t.Error(got)
	}
	r.Feed(name, 2)
	if got := w.send(sender, strings.Replace(good, "Subject: [...]", "Subject: x", 1), to); !strings.HasPrefix(got, "554") {
		t.Errorf("without a signature: %s", got)
	}
	if got := w.send(sender, plain, to); got != "523 Encryption Needed: Invalid Unencrypted Mail" {
		t.Errorf("where no account takes cleartext: %s", got)
	}
	for range 2 {
		if got := w.send(sender, good, "anna", to); got != "250" {
			t.Error(got)
		}
	}
	if got := r.Sent(); len(got) != 1 || got[0] != good || len(w.Inbox("anna")) != 1 {
		t.Errorf("%d packets", len(got))
	}
	w.r.o.Proxy = func(context.Context, seal.AccountID) (bool, error) { return false, nil }
	if got := w.send(sender, plain, strings.ToUpper(to[:20])+to[20:]); got != "250" {
		t.Error(got)
	}
	if got := w.send(sender, good, to); got != full {
		t.Error(got)
	}
	w.r.o.Replies = nil
	if got := w.send(sender, good, to); got != unknown {
		t.Errorf("where there are none: %s", got)
	}
}

// TestReplyAddresses: a mail is for a few of them at most, and when one has not enough blocks nobody
// gets it.
func TestReplyAddresses(t *testing.T) {
	w := newWorld(t)
	w.Create("anna", nil)
	r := w.Replies()
	w.r.o.Replies = r
	w.r.o.Deliver = deliver.New(deliver.Options{Store: w.Store, Boxes: w.Boxes, Seen: w.Seen, Letters: w.Seen, Replies: r, Now: w.Clock.Now})
	good := sample(t, "mailauth-rsa-relaxed-relaxed-enc")
	var to []string
	for i := range deliver.MaxReplies + 1 {
		name := strings.Repeat(string(rune('a'+i)), 26)
		to = append(to, "reply."+name+"@"+domain)
		r.Feed(name, 1)
	}
	if got := w.send(sender, good, to...); got != "452 4.5.3 send separately" {
		t.Error(got)
	}
	// The last one's block goes between RCPT and the end of the mail.
	s, ctx := w.session(), t.Context()
	if err := s.Mail(ctx, w.Address(sender), smtp.MailOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"anna", to[0], to[1]} {
		if err := s.Rcpt(ctx, w.Address(a), smtp.RcptOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.send(sender, good, to[1]); got != "250" {
		t.Fatal(got)
	}
	transfer, err := s.Data(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := say(transfer.Commit(ctx, []byte(good))); !strings.HasPrefix(got, "452 4.2.2") {
		t.Error(got)
	}
	if len(r.Sent()) != 1 || len(w.Inbox("anna")) != 0 {
		t.Error("a part of the mail was delivered")
	}
}
