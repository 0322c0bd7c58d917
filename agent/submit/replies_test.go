package submit

import (
	"strings"
	"testing"

	"postern.email/agent/deliver"
)

// TestReplyAddress: a user's mail for a reply address here passes the rules of submission, and takes one
// of its blocks together with the copies for others; without blocks it looks like a full mailbox.
func TestReplyAddress(t *testing.T) {
	name := strings.Repeat("b2", 13)
	to := "reply." + name
	w := newWorld(t, nil)
	r := w.Replies()
	w.addr = serve(t, New(Options{Accounts: Register(w.Accounts), Rooms: w.Boxes, Now: w.Clock.Now, Replies: r,
		Deliver: deliver.New(deliver.Options{Store: w.Store, Boxes: w.Boxes, Letters: w.Seen, Replies: r, Now: w.Clock.Now})}))
	c := w.dial("anna")
	w.Create("bert", nil)
	raw := encrypted("anna", 2000)
	rcpt := func(want string) {
		t.Helper()
		c.cmd("MAIL FROM:<anna@mail.example>", "250 ")
		c.cmd("RCPT TO:<"+to+"@mail.example>", want)
		c.cmd("RSET", "250 ")
	}
	rcpt("550 5.1.1 Recipient address rejected: User unknown")
	r.Feed(name, 1)
	if got := c.mail("anna", "From: <anna@mail.example>\r\n\r\nhello\r\n", to); !strings.HasPrefix(got, "523 ") {
		t.Errorf("cleartext: %s", got)
	}
	if got := c.mail("anna", raw, "bert", to); got != "250 2.0.0 OK" {
		t.Error(got)
	}
	if got := r.Sent(); len(got) != 1 || !strings.Contains(got[0], "\r\nSubject: [...]\r\n") || strings.Contains(got[0], "canary") || len(w.Inbox("bert")) != 1 {
		t.Errorf("%d packets", len(got))
	}
	rcpt("452 4.2.2 Recipient address rejected: mailbox full")
	c.cmd("MAIL FROM:<anna@mail.example>", "250 ")
	for i := range deliver.MaxReplies + 1 {
		name := strings.Repeat(string(rune('a'+i)), 26)
		r.Feed(name, 1)
		want := "250 "
		if i == deliver.MaxReplies {
			want = "452 4.5.3 "
		}
		c.cmd("RCPT TO:<reply."+name+"@mail.example>", want)
	}
}
