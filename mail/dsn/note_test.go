package dsn

import (
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// TestNote: a note is one plain part of short lines; paragraphs are broken, lists are not.
func TestNote(t *testing.T) {
	n := Note{Domain: "localhost", To: addr(t, "anna@example.org"), Subject: "A key was found", Now: now, Rand: zeros{},
		Text: "One " + strings.Repeat("word ", 30) + "end.\n\n  first\n  second\tline\n\nLast."}
	raw, err := n.Build()
	if err != nil {
		t.Fatal(err)
	}
	h, off, err := mail.ParseHeader(raw)
	if err != nil || h.Get("From") != "Mail delivery <mailer-daemon@localhost>" || h.Get("Auto-Submitted") != "auto-generated" || h.Get("Subject") != n.Subject ||
		h.Get("To") != "<anna@example.org>" || h.Get("Date") != mail.FormatDate(now.UTC()) || h.Get("Content-Type") != "text/plain; charset=us-ascii" {
		t.Errorf("%s %v", raw, err)
	}
	body := string(raw[off:])
	if !strings.HasSuffix(body, "end.\r\n\r\n  first\r\n  second line\r\n\r\nLast.\r\n") {
		t.Errorf("%q", body)
	}
	for line := range strings.Lines(body) {
		if len(line) > 74 {
			t.Errorf("%q", line)
		}
	}
	n.Text = "Grüße\n\n  \x1b[2Jred"
	if raw, err = n.Build(); err != nil || !strings.Contains(string(raw), "quoted-printable") || strings.Contains(string(raw), "\x1b") {
		t.Errorf("%s %v", raw, err)
	}
}

// TestNoteRefused: what would spoil the header is refused.
func TestNoteRefused(t *testing.T) {
	good := Note{Domain: "localhost", To: addr(t, "anna@example.org"), Subject: "x", Text: "x", Now: now}
	if _, err := good.Build(); err != nil {
		t.Fatal(err)
	}
	for _, f := range []func(*Note){
		func(n *Note) { n.Subject = "a\r\nBcc: x" }, func(n *Note) { n.Subject = "ü" }, func(n *Note) { n.Subject = "" }, func(n *Note) { n.Text = "" },
		func(n *Note) { n.Domain = "a b" }, func(n *Note) { n.To = mail.Address{} }, func(n *Note) { n.To.Local = "a\r\n" }, func(n *Note) { n.Now = time.Time{} },
	} {
		n := good
		f(&n)
		if _, err := n.Build(); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%+v: %v", n, err)
		}
	}
}

// TestReporter: who is no mail server says who it is, and what "delivered" means there.
func TestReporter(t *testing.T) {
	raw := string(build(t, report(t, func(r *Report) {
		r.Reporter, r.Delivered = "the mail proxy", "It lies at the relay of:"
		r.Recipients[0].Remote = ""
		r.Recipients = append(r.Recipients, Recipient{Final: addr(t, "carl@remote.example"), Action: Delivered})
	})))
	for _, want := range []string{"This is the mail proxy. It tells you", "It said: 550 5.1.1", "\r\nIt has given up for these addresses", "\r\nIt lies at the relay of:\r\n\r\n  carl@remote.example"} {
		if !strings.Contains(raw, want) {
			t.Errorf("no %q in %s", want, raw)
		}
	}
}
