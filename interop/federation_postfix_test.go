package interop

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"postern.email/interop/mailclient"
	"postern.email/interop/smallworld"
)

// hand gives a mail to a host that asks for no login, as its user does. rcpt is added to the
// RCPT command.
func hand(t testing.TB, addr, from, to, rcpt string, raw []byte) {
	t.Helper()
	c, err := mailclient.DialSMTP(addr, mailclient.Plain, mailclient.Dialer{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, line := range []string{"MAIL FROM:<" + from + ">", "RCPT TO:<" + to + ">" + rcpt, "DATA"} {
		if r, err := c.Cmd(line); err != nil || r.Code >= 400 {
			t.Fatalf("%s: %v %v", line, r, err)
		}
	}
	if err := c.Data(raw); err != nil {
		t.Fatal(err)
	}
	c.Quit()
}

// tryMails is mails for polling: its session ends with it.
func (s *server) tryMails(u user) (all []string, err error) {
	c, err := s.login(u)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err = c.Select("INBOX"); err == nil {
		err = c.FetchAll("1:*", func(m mailclient.Message) { all = append(all, string(m.Raw)) })
	}
	return all, err
}

var fold = regexp.MustCompile("\r\n[ \t]+")

// unfolded is a mail with each field of its headers on one line.
func unfolded(m string) string { return fold.ReplaceAllString(m, " ") }

// awaitMail waits for a mail with all these texts and gives it unfolded.
func awaitMail(t testing.TB, list func() ([]string, error), texts ...string) string {
	t.Helper()
	found := ""
	eventually(t, patience, func() error {
		mails, err := list()
		if err != nil {
			return err
		}
		for _, m := range mails {
			m = unfolded(m)
			all := true
			for _, x := range texts {
				all = all && strings.Contains(m, x)
			}
			if all {
				found = m
				return nil
			}
		}
		why := fmt.Errorf("no mail with %q among %d", texts, len(mails))
		for _, m := range mails {
			why = fmt.Errorf("%w\n-----\n%.1500s", why, m)
		}
		return why
	})
	return found
}

// TestPostfix: Debian's Postfix with OpenDKIM as the other side. It verifies our certificate and
// we its; its OpenDKIM finds our signatures good; mail of its users comes in when it is
// encrypted and signed, and bounces with our words when it is not; reports pass both ways.
func TestPostfix(t *testing.T) {
	w := newWorld(t)
	p := w.Postfix(t, smallworld.PostfixOptions{Domain: "c.example", Users: []string{"bob", "carol", "clear", "unsigned", "other", "lost", "asks", "glad"}})
	a := w.relay(t, "a.example", noSendLimit...)
	me := a.created(t, 1)[0]
	maker := mailclient.NewMaker(7)
	box := func(name string) func() ([]string, error) {
		return func() ([]string, error) { return p.Mails(name) }
	}
	mine := func() ([]string, error) { return a.tryMails(me) }

	t.Run("to Postfix", func(t *testing.T) {
		raw := maker.Mail(me.addr, 10_000)
		if err := a.mustSubmit(t, me).Send(me.addr, []string{"bob@c.example"}, raw); err != nil {
			t.Fatal(err)
		}
		m := awaitMail(t, box("bob"), "From: <"+me.addr+">")
		if n := strings.Count(m, "dkim=pass"); n != 2 || strings.Contains(m, "dkim=fail") || !strings.Contains(m, "header.d=a.example") {
			t.Errorf("OpenDKIM finds %d signatures good, want 2:\n%.2000s", n, m)
		}
		if mailclient.BodyHash([]byte(m)) != mailclient.BodyHash(raw) {
			t.Error("the body was altered")
		}
		if !strings.Contains(m, "using TLSv1.3") {
			t.Errorf("Postfix did not get it under TLS 1.3:\n%.2000s", m)
		}
		a.emptyQueue(t)
	})

	t.Run("from Postfix", func(t *testing.T) {
		raw := maker.Mail("carol@c.example", 10_000)
		hand(t, p.Submission, "carol@c.example", me.addr, "", raw)
		m := awaitMail(t, mine, "From: <carol@c.example>")
		if mailclient.BodyHash([]byte(m)) != mailclient.BodyHash(raw) || !strings.HasPrefix(m, "Return-Path: <carol@c.example>\r\n") {
			t.Errorf("altered: %.1000s", m)
		}
		if log := p.Log(); !strings.Contains(log, "Verified TLS connection established to a.example") {
			t.Errorf("Postfix did not verify our certificate:\n%s", log)
		}
	})

	t.Run("refused", func(t *testing.T) {
		clear := "From: carol@c.example\r\nTo: x\r\nSubject: hello\r\nMessage-ID: <1@c.example>\r\nDate: Thu, 26 Nov 2026 08:01:02 +0000\r\n\r\nNot encrypted.\r\n"
		hand(t, p.Submission, "clear@c.example", me.addr, "", []byte(strings.ReplaceAll(clear, "carol@", "clear@")))
		awaitMail(t, box("clear"), "From: Mail Delivery System <MAILER-DAEMON@c.example>", "Diagnostic-Code: smtp; 523 Encryption Needed: Invalid Unencrypted Mail", "Final-Recipient: rfc822; "+me.addr)
		hand(t, p.Unsigned, "unsigned@c.example", me.addr, "", maker.Mail("unsigned@c.example", 2000))
		awaitMail(t, box("unsigned"), "Diagnostic-Code: smtp; 554 5.7.1 No DKIM signature found")
		// Signed by c.example, and not by the domain of From.
		hand(t, p.Submission, "other@c.example", me.addr, "", maker.Mail("someone@a.example", 2000))
		awaitMail(t, box("other"), "Diagnostic-Code: smtp; 554 5.7.1 No")
		hand(t, p.Submission, "lost@c.example", "nobody@a.example", "", maker.Mail("lost@c.example", 2000))
		awaitMail(t, box("lost"), "Diagnostic-Code: smtp; 550 5.1.1 Recipient address rejected: User unknown")
		if got, err := mine(); err != nil || len(got) != 1 {
			t.Errorf("%d mails, want the one of before; %v", len(got), err)
		}
	})

	t.Run("reports of ours", func(t *testing.T) {
		hand(t, p.Submission, "asks@c.example", me.addr, " NOTIFY=SUCCESS", maker.Mail("asks@c.example", 2000))
		awaitMail(t, box("asks"), "From: Mail delivery <mailer-daemon@a.example>", "dkim=pass", "Action: delivered", "Final-Recipient: rfc822; "+me.addr)
	})

	t.Run("reports of Postfix", func(t *testing.T) {
		send := func(to, notify string) {
			t.Helper()
			c := a.mustSubmit(t, me)
			for _, line := range []string{"MAIL FROM:<" + me.addr + "> ENVID=QQ" + to[:4], "RCPT TO:<" + to + ">" + notify, "DATA"} {
				if r, err := c.Cmd(line); err != nil || r.Code >= 400 {
					t.Fatalf("%s: %v %v", line, r, err)
				}
			}
			if err := c.Data(maker.Mail(me.addr, 2000)); err != nil {
				t.Fatal(err)
			}
		}
		// Refused at RCPT: our own report. Taken and bounced: Postfix's, which passes our door. Success: it says so.
		send("nobody@c.example", "")
		awaitMail(t, mine, "From: Mail delivery <mailer-daemon@a.example>", "Action: failed", "Remote-MTA: dns; c.example", "Final-Recipient: rfc822; nobody@c.example", "Diagnostic-Code: smtp; 550 5.1.1 <nobody@c.example>: Recipient address rejected")
		send("gone@c.example", "")
		awaitMail(t, mine, "From: Mail Delivery System <MAILER-DAEMON@c.example>", "Action: failed", "Original-Envelope-Id: QQgone", "gone@c.example")
		send("glad@c.example", " NOTIFY=SUCCESS")
		awaitMail(t, mine, "From: Mail Delivery System <MAILER-DAEMON@c.example>", "Action: delivered", "Original-Envelope-Id: QQglad", "Final-Recipient: rfc822; glad@c.example")
	})
	a.emptyQueue(t)
}
