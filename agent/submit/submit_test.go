package submit

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/account"
	"postern.email/post/alias"
	"postern.email/post/seal"
	"postern.email/wire/smtp"
)

// TestDelivered: what was answered 250 lies in the mailbox, with the headers that
// submission and delivery leave.
func TestDelivered(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial("anna")
	w.Create("bert", nil)
	if r := c.mail("anna", encrypted("anna", 2000), "bert", "anna", "bert"); r != "250 2.0.0 OK" {
		t.Fatal(r)
	}
	for _, name := range []string{"anna", "bert"} {
		got := w.Inbox(name)
		if len(got) != 1 {
			t.Fatalf("%s has %d mails", name, len(got))
		}
		if !strings.HasPrefix(got[0], "Return-Path: <anna@mail.example>\r\n") || strings.Count(got[0], "Return-Path") != 1 ||
			strings.Contains(got[0], "canary") || strings.Contains(got[0], "secret plans") ||
			!strings.Contains(got[0], "\r\nSubject: [...]\r\n") {
			t.Errorf("%.300q", got[0])
		}
	}
}

// TestRefusals has every reply of the policy.
func TestRefusals(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial("anna")
	w.Create("bert", nil)
	w.Create("open", func(r *account.CreateRequest) { r.Class = account.OpenMail })
	w.Create("open2", func(r *account.CreateRequest) { r.Class = account.OpenMail })
	w.Create("full", func(r *account.CreateRequest) { r.Quota = 100 })
	w.Create("gone", nil)
	if err := w.Accounts.Block(t.Context(), w.Address("gone")); err != nil {
		t.Fatal(err)
	}

	c.cmd("MAIL FROM:<bert@mail.example>", "250 ")
	c.cmd("RCPT TO:<bert@mail.example>", "553 5.7.1 ")
	c.cmd("RSET", "250 ")
	c.cmd("MAIL FROM:<>", "250 ")
	c.cmd("RCPT TO:<bert@mail.example>", "553 5.7.1 ")
	c.cmd("RSET", "250 ")
	c.cmd("MAIL FROM:<anna+tag@mail.example>", "250 ")
	c.cmd("RCPT TO:<bert@mail.example>", "553 5.7.1 ")
	c.cmd("RSET", "250 ")
	c.cmd("MAIL FROM:<ANNA@Mail.Example> SIZE=5000", "250 ")
	c.cmd("RCPT TO:<nobody@mail.example>", "550 5.1.1 ")
	c.cmd("RCPT TO:<Postmaster>", "550 5.1.1 ")
	c.cmd("RCPT TO:<x@elsewhere.example>", "550 5.1.2 this relay does not deliver to other hosts")
	c.cmd("RCPT TO:<gone@mail.example>", "550 5.2.1 ")
	c.cmd("RCPT TO:<full@mail.example>", "452 4.2.2 ")
	c.cmd("RCPT TO:<bert+tag@mail.example>", "250 ")
	c.cmd("RCPT TO:<open@mail.example>", "452 4.5.3 send separately")
	c.cmd("RSET", "250 ")
	c.cmd("MAIL FROM:<anna@mail.example>", "250 ")
	c.cmd("RCPT TO:<open@mail.example>", "250 ")
	c.cmd("RCPT TO:<bert@mail.example>", "452 4.5.3 send separately")
	c.cmd("RCPT TO:<open2@mail.example>", "250 ")
	c.cmd("RSET", "250 ")

	good := encrypted("anna", 1000)
	for raw, want := range map[string]string{
		strings.Replace(good, "anna@", "bert@", 1):                              "500 Invalid FROM <bert@mail.example> for <anna@mail.example>",
		strings.Replace(good, "From:", "X-From:", 1):                            "500 Invalid FROM header: ",
		"From: <bert@mail.example>\r\n" + good:                                  "500 Invalid FROM header: ",
		"no header\r\n\r\n":                                                     "500 Failed to parse message: ",
		"From: <anna@mail.example>\r\nSubject: hi\r\n\r\nhello\r\n":             "523 Encryption Needed: Invalid Unencrypted Mail",
		"From: <anna@mail.example>\r\nContent-Type: text/plain\r\n\r\n\xe4\r\n": "554 Non-UTF-8 message",
	} {
		if got := c.mail("anna", raw, "bert"); !strings.HasPrefix(got, want) {
			t.Errorf("%.60q: %q, want %q", raw, got, want)
		}
	}
	// The login's own From in a mail whose envelope says another: RCPT refuses that
	// before, and the end of the mail does not rely on it.
	anna := account.Account{Address: mail.Address{Local: "anna", Domain: domain}}
	_, err := New(Options{}).judge(&envelope{sender: anna, from: mail.Address{Local: "bert", Domain: domain}}, []byte(good))
	if err == nil || err.Error() != "500 Invalid FROM <anna@mail.example> for <bert@mail.example>" {
		t.Error(err)
	}
	if n := len(w.Inbox("bert")); n != 0 {
		t.Errorf("%d refused mails were delivered", n)
	}
	if got := c.mail("anna", good, "bert"); got != "250 2.0.0 OK" {
		t.Error(got)
	}
}

// TestLastRoom: a mailbox that had room at RCPT and has none for the whole mail: all
// or nothing.
func TestLastRoom(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial("anna")
	w.Create("bert", nil)
	w.Create("small", func(r *account.CreateRequest) { r.Quota = 4000 })
	if got := c.mail("anna", encrypted("anna", 20_000), "bert", "small"); got != "452 4.2.2 a mailbox is full" {
		t.Error(got)
	}
	if len(w.Inbox("bert")) != 0 || len(w.Inbox("small")) != 0 {
		t.Error("half a mail was delivered")
	}
}

const secureJoin = "From: <anna@mail.example>\r\nSecure-Join: vc-request\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\n\r\n" +
	"--b\r\nContent-Type: text/plain\r\n\r\nSecure-Join: vc-request\r\n--b--\r\n"

const setupMessage = "From: <anna@mail.example>\r\nSubject: Autocrypt Setup Message\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\n\r\n" +
	"--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b--\r\n"

// TestExceptions: exactly the listed ones, each with its switch.
func TestExceptions(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial("anna")
	w.Create("bert", nil)
	if got := c.mail("anna", secureJoin, "bert"); got != "250 2.0.0 OK" {
		t.Error(got)
	}
	if got := c.mail("anna", setupMessage, "anna"); got != "250 2.0.0 OK" {
		t.Error(got)
	}
	if got := c.mail("anna", setupMessage, "bert"); !strings.HasPrefix(got, "523 ") {
		t.Error(got)
	}
	if got := c.mail("anna", setupMessage, "anna", "bert"); !strings.HasPrefix(got, "523 ") {
		t.Error(got)
	}
	off := newWorld(t, func(o *Options) { o.NoSecureJoin, o.NoSetupMessage = true, true })
	c = off.dial("anna")
	off.Create("bert", nil)
	if got := c.mail("anna", secureJoin, "bert"); !strings.HasPrefix(got, "523 ") {
		t.Error(got)
	}
	if got := c.mail("anna", setupMessage, "anna"); !strings.HasPrefix(got, "523 ") {
		t.Error(got)
	}
	if got := c.mail("anna", encrypted("anna", 1000), "bert"); got != "250 2.0.0 OK" {
		t.Error(got)
	}
}

// TestRate: a burst, then one each second; counted once a mail however many
// recipients, at RCPT, and not for what is refused for another reason.
func TestRate(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.PerMinute, o.Burst = 60, 3 })
	c := w.dial("anna")
	w.Create("bert", nil)
	for range 5 { // not her own: not counted
		c.cmd("MAIL FROM:<bert@mail.example>", "250 ")
		c.cmd("RCPT TO:<bert@mail.example>", "553 ")
		c.cmd("RSET", "250 ")
	}
	for range 3 {
		if got := c.mail("anna", encrypted("anna", 1000), "bert", "anna", "bert"); got != "250 2.0.0 OK" {
			t.Fatal(got)
		}
	}
	limited := fmt.Sprintf("450 4.7.1: Too much mail from <anna@mail.example>, rate-limited until %s",
		w.Clock.Now().Add(time.Second).Format(time.RFC3339))
	c.cmd("MAIL FROM:<anna@mail.example>", "250 ")
	c.cmd("RCPT TO:<bert@mail.example>", limited)
	c.cmd("RCPT TO:<anna@mail.example>", limited)
	c.cmd("RSET", "250 ")
	other := w.dial("bert")
	if got := other.mail("bert", encrypted("bert", 1000), "anna"); got != "250 2.0.0 OK" {
		t.Error("one sender limits another:", got)
	}
	second := w.dial("anna")
	second.cmd("MAIL FROM:<anna@mail.example>", "250 ")
	second.cmd("RCPT TO:<bert@mail.example>", limited)
	w.Clock.Add(time.Second)
	if got := c.mail("anna", encrypted("anna", 1000), "bert"); got != "250 2.0.0 OK" {
		t.Error(got)
	}
	if n := len(w.Inbox("bert")); n != 4 {
		t.Errorf("%d mails", n)
	}
}

// TestRateOff: 0 means no limit.
func TestRateOff(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.PerMinute, o.Burst = 0, 1 })
	c := w.dial("anna")
	for range 50 {
		if got := c.mail("anna", encrypted("anna", 700), "anna"); got != "250 2.0.0 OK" {
			t.Fatal(got)
		}
	}
}

// TestGuard: no mail is accepted while the guard says no; the session lives on.
func TestGuard(t *testing.T) {
	var guard error
	w := newWorld(t, func(o *Options) { o.Guard = func() error { return guard } })
	c := w.dial("anna")
	guard = errs.E("x", errs.NoSpace, "", nil)
	c.cmd("MAIL FROM:<anna@mail.example>", "452 4.3.1 ")
	guard = errs.E("x", errs.Unavailable, "", nil)
	c.cmd("MAIL FROM:<anna@mail.example>", "451 4.3.0 ")
	guard = nil
	if got := c.mail("anna", encrypted("anna", 1000), "anna"); got != "250 2.0.0 OK" {
		t.Error(got)
	}
}

// TestBlockedMeanwhile: who is blocked or deleted in the middle of a session sends no more.
func TestBlockedMeanwhile(t *testing.T) {
	w := newWorld(t, nil)
	anna, bert := w.dial("anna"), w.dial("bert")
	if err := w.Accounts.Block(t.Context(), w.Address("anna")); err != nil {
		t.Fatal(err)
	}
	if err := w.Accounts.Delete(t.Context(), w.Address("bert")); err != nil {
		t.Fatal(err)
	}
	anna.cmd("MAIL FROM:<anna@mail.example>", "550 5.7.1 ")
	bert.cmd("MAIL FROM:<bert@mail.example>", "550 5.7.1 ")
	anna.cmd("RCPT TO:<anna@mail.example>", "503 ")
}

// TestRecipientGone: a recipient deleted between RCPT and the end of the mail.
func TestRecipientGone(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial("anna")
	w.Create("bert", nil)
	c.cmd("MAIL FROM:<anna@mail.example>", "250 ")
	c.cmd("RCPT TO:<anna@mail.example>", "250 ")
	c.cmd("RCPT TO:<bert@mail.example>", "250 ")
	if err := w.Accounts.Delete(t.Context(), w.Address("bert")); err != nil {
		t.Fatal(err)
	}
	c.cmd("DATA", "354 ")
	c.cmd(encrypted("anna", 1000)+".", "451 4.3.0 ")
	if n := len(w.Inbox("anna")); n != 0 {
		t.Errorf("%d mails of half a transaction", n)
	}
}

func TestSenderAllowed(t *testing.T) {
	login := account.Account{Address: mail.Address{Local: "anna", Domain: domain}}
	for _, tc := range []struct {
		from mail.Address
		want bool
	}{
		{mail.Address{Local: "anna", Domain: domain}, true},
		{mail.Address{Local: "ANNA", Domain: "MAIL.example"}, true},
		{mail.Address{Local: "anna+x", Domain: domain}, false},
		{mail.Address{Local: "anna", Domain: "mail2.example"}, false},
		{mail.Address{Local: "bert", Domain: domain}, false},
		{mail.Address{}, false},
	} {
		if SenderAllowed(login, tc.from, nil) != tc.want {
			t.Errorf("%v: %v", tc.from, !tc.want)
		}
	}
	if SenderAllowed(account.Account{}, mail.Address{}, &alias.Alias{}) {
		t.Error("nobody may send as nobody")
	}
	own := &alias.Alias{Address: mail.Address{Local: "fox-1", Domain: "alias.example"}, Owner: seal.AccountID{1}}
	login.ID = seal.AccountID{1}
	gone := *own
	gone.Deleted = 20000
	for name, tc := range map[string]struct {
		as   *alias.Alias
		from mail.Address
		want bool
	}{
		"own":              {own, mail.Address{Local: "Fox-1", Domain: "alias.example"}, true},
		"account, as well": {own, login.Address, true},
		"another's":        {&alias.Alias{Address: own.Address, Owner: seal.AccountID{2}}, own.Address, false},
		"another address":  {own, mail.Address{Local: "fox-2", Domain: "alias.example"}, false},
		"deleted":          {&gone, own.Address, false},
		"none":             {nil, own.Address, false},
	} {
		if SenderAllowed(login, tc.from, tc.as) != tc.want {
			t.Errorf("%s: %v", name, !tc.want)
		}
	}
}

// TestNoLogin: without AUTH the policy itself refuses, whatever the listener asks.
func TestNoLogin(t *testing.T) {
	s, err := New(Options{}).NewSession(context.Background(), smtp.Info{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Mail(context.Background(), mail.Address{Local: "anna", Domain: domain}, smtp.MailOptions{}); err == nil || !strings.HasPrefix(err.Error(), "530 5.7.0") {
		t.Error(err)
	}
}
