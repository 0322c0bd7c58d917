package proxy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"postern.email/agent/agenttest"
	"postern.email/mixnet/content"
)

// between is a proxy with accounts at both relays, and what carries letters between them.
func between(t *testing.T) (*Server, *agenttest.MixNet, *agenttest.MixUser, *agenttest.MixUser) {
	t.Helper()
	c := newSetup(t, newRelays(t), "anna@"+one, "berta@"+two).register(t)
	s := c.start(t, nil)
	passwords(t, s)
	n := &agenttest.MixNet{TB: t, Consensus: c.relays.cons}
	return s, n, mixUser(t, s, "anna@"+one), mixUser(t, s, "berta@"+two)
}

// TestMail: a mail goes in by SMTP at one account and comes out by POP3 and IMAP at the other, once,
// sealed on the way and signed by its sender's account.
func TestMail(t *testing.T) {
	s, n, anna, berta := between(t)
	c := submitter(t, s, "anna@"+one)
	l := c.send(t, "anna@"+one, "berta@"+two, letterFrom("anna@"+one, "berta@"+two, "first", "hello"))
	if !strings.HasPrefix(l, "250 2.0.0 queued, arrives in ") {
		t.Fatal(l)
	}
	var carried []agenttest.Carried
	until(t, "the letter is made", func() bool {
		carried = append(carried, n.Carry(anna, berta)...)
		return len(carried) > 0
	})
	if len(carried) != 1 || carried[0].Message.Kind != content.Letter || carried[0].Letter.Sender != "anna@"+one {
		t.Fatalf("%+v", carried)
	}
	u, err := s.find("berta@" + two)
	must(t, err)
	u.ring()
	var mails []string
	until(t, "the mail is in the mailbox", func() bool {
		mails = pop3Mails(t, s, "berta@"+two)
		return len(mails) > 0
	})
	if len(mails) != 1 || !strings.Contains(mails[0], "Subject: first") || !strings.Contains(mails[0], "\nhello\n") || !strings.Contains(mails[0], "X-Katzenpost-Sender: anna@"+one) {
		t.Errorf("%q", mails)
	}
	i := reach(t, s.at("IMAPAddress"))
	i.line(t)
	fmt.Fprintf(i, "a LOGIN \"berta@%s\" %q\r\nb STATUS INBOX (MESSAGES)\r\n", two, localPassword)
	var said []string
	for len(said) == 0 || !strings.HasPrefix(said[len(said)-1], "b ") {
		said = append(said, i.line(t))
	}
	if !slices.Contains(said, `* STATUS "INBOX" (MESSAGES 1)`) {
		t.Errorf("%q", said)
	}
	st := s.Status()
	if len(st.Lines) != 2 || !st.Lines[0].Registered || !st.Lines[0].Password || st.Lines[0].Size != 10_000_000 {
		t.Errorf("%+v", st.Lines)
	}
}

// TestSizes: EHLO says what the line carries in a day, and what is larger is refused with both numbers; all
// protocols together have one budget of memory for mails being received.
func TestSizes(t *testing.T) {
	s := newSetup(t, newRelays(t), "anna@"+one).register(t).start(t, func(d *Deps) { d.Version = "9.9-test" })
	passwords(t, s)
	c := submitter(t, s, "anna@"+one)
	if _, all := c.smtp(t, "EHLO x"); !strings.Contains(all, "SIZE 10000000\n") {
		t.Error(all)
	}
	if l, _ := c.smtp(t, "MAIL FROM:<anna@%s> SIZE=20000000", one); !strings.HasPrefix(l, "552 5.3.4 the network carries 10 MB for this account in 24 hours, and this mail has 20 MB") {
		t.Error(l)
	}
	if v := s.Status().Version; v != "9.9-test" {
		t.Errorf("version %s", v)
	}
	part := strings.Repeat("x", 78) + "\r\n"
	for _, cmd := range []string{"MAIL FROM:<anna@" + one + ">", "RCPT TO:<anna@" + one + ">", "DATA"} {
		c.smtp(t, "%s", cmd)
	}
	fmt.Fprint(c, part)
	until(t, "SMTP takes memory", func() bool { return s.memory.Used() > 0 })
	before := s.memory.Used()
	i := reach(t, s.at("IMAPAddress"))
	i.line(t)
	fmt.Fprintf(i, "a LOGIN \"anna@%s\" %q\r\nb APPEND INBOX {1000000+}\r\n%s", one, localPassword, part)
	until(t, "IMAP takes of the same", func() bool { return s.memory.Used() > before })
}
