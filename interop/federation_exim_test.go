package interop

import (
	"strings"
	"testing"

	"postern.email/interop/mailclient"
)

// TestExim: Exim, whose TLS (GnuTLS) and DKIM are its own, in both directions.
func TestExim(t *testing.T) {
	w := newWorld(t)
	e := w.Exim(t, "d.example", "bob", "clear")
	a := w.relay(t, "a.example")
	me := a.created(t, 1)[0]
	maker := mailclient.NewMaker(8)

	raw := maker.Mail(me.addr, 100_000)
	if err := a.mustSubmit(t, me).Send(me.addr, []string{"bob@d.example"}, raw); err != nil {
		t.Fatal(err)
	}
	bobs := func() ([]string, error) { return e.Mails("bob") }
	m := awaitMail(t, bobs, "From: <"+me.addr+">")
	verdict, _, _ := strings.Cut(m[strings.Index(m, "Authentication-Results:"):], "\r\n")
	if strings.Count(verdict, "dkim=pass") != 2 || strings.Contains(verdict, "dkim=fail") || !strings.Contains(verdict, "header.d=a.example") {
		t.Errorf("Exim's verdict: %s", verdict)
	}
	if mailclient.BodyHash([]byte(m)) != mailclient.BodyHash(raw) || !strings.Contains(m, "with esmtps  (TLS1.3)") {
		t.Errorf("altered, or not under TLS:\n%.1000s", m)
	}
	a.emptyQueue(t)

	mine := func() ([]string, error) { return a.tryMails(me) }
	raw = maker.Mail("bob@d.example", 100_000)
	hand(t, e.Submission, "bob@d.example", me.addr, "", raw)
	m = awaitMail(t, mine, "From: <bob@d.example>")
	if mailclient.BodyHash([]byte(m)) != mailclient.BodyHash(raw) {
		t.Error("altered on the way in")
	}

	hand(t, e.Submission, "clear@d.example", me.addr, "", []byte("From: clear@d.example\r\nMessage-ID: <1@d.example>\r\n\r\nNot encrypted.\r\n"))
	awaitMail(t, func() ([]string, error) { return e.Mails("clear") }, "From: Mail Delivery System <Mailer-Daemon@d.example>", "523 Encryption Needed: Invalid Unencrypted Mail")
	// Exim's report of a bounce passes our door: signed, and from its mailer daemon.
	if err := a.mustSubmit(t, me).Send(me.addr, []string{"gone@d.example"}, maker.Mail(me.addr, 2000)); err != nil {
		t.Fatal(err)
	}
	awaitMail(t, mine, "From: Mail delivery <mailer-daemon@a.example>", "Remote-MTA: dns; d.example", "Diagnostic-Code: smtp; 550 not here")
}
