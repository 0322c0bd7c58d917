package receive

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/account"
	"postern.email/post/seal"
	"postern.email/wire/mxdeliv"
	"postern.email/wire/sasl"
	"postern.email/wire/smtp"
)

const noSignature, cleartext = "554 5.7.1 No DKIM signature found", "523 Encryption Needed: Invalid Unencrypted Mail"

// TestTaken: the mail is delivered without trace and verdict fields, with one Return-Path.
func TestTaken(t *testing.T) {
	w := newWorld(t)
	w.Create("anna", nil)
	raw := "Authentication-Results: mail.example; dkim=pass\r\nReceived: from x\r\nReturn-Path: <eve@x.example>\r\n" + sample(t, "opendkim-relaxed-simple-enc")
	for _, from := range []string{sender, strings.ToUpper(sender)} {
		if got := w.send(from, "X-From: "+from+"\r\n"+raw, "anna"); got != "250" {
			t.Fatal(got)
		}
	}
	all := w.Inbox("anna")
	if len(all) != 2 {
		t.Fatalf("%d mails", len(all))
	}
	head, _, _ := strings.Cut(all[0], "\r\n\r\n")
	if !strings.HasPrefix(head, "Return-Path: <"+sender+">\r\n") || strings.Count(head, "Return-Path") != 1 {
		t.Errorf("%q", head)
	}
	for _, gone := range []string{"DKIM-Signature", "Authentication-Results", "Received"} {
		if strings.Contains(head, gone) {
			t.Errorf("%s is still there", gone)
		}
	}
	if _, body, _ := strings.Cut(raw, "\r\n\r\n"); !strings.HasSuffix(all[0], body) {
		t.Error("the body changed")
	}
}

// TestEnvelopeEmptied: nothing vouches for an envelope sender that is not the From.
func TestEnvelopeEmptied(t *testing.T) {
	w := newWorld(t)
	w.Create("anna", nil)
	for i, from := range []string{"srs@forwarder.example", "bob@remote.example", ""} {
		if got := w.send(from, "X-From: "+from+"\r\n"+sample(t, "mailauth-both-enc"), "anna"); got != "250" {
			t.Fatal(got)
		}
		if all := w.Inbox("anna"); len(all) != i+1 || !strings.HasPrefix(all[i], "Return-Path: <>\r\n") {
			t.Errorf("%q: %d mails, %.60q", from, len(all), all)
		}
	}
}

// TestRefused: every rule over the whole mail, in order: what is wrong in two ways is
// refused for the earlier one, and only the signature costs a look-up.
func TestRefused(t *testing.T) {
	w := newWorld(t)
	w.Create("anna", nil)
	good := sample(t, "mailauth-rsa-relaxed-relaxed-enc")
	plain := sample(t, "mailauth-both-plain")
	_, unsigned, _ := strings.Cut(good, "\r\nMIME-Version")
	unsigned = "MIME-Version" + unsigned
	with := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %q", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	const invalid, none = "554 5.7.1 No valid DKIM signature found", "554 5.7.1 No DKIM signature found"
	for _, c := range []struct {
		name, raw, want string
		lookups         int64
	}{
		{"taken", good, "250", 1},
		{"two signatures", sample(t, "mailauth-list-enc"), "250", 1},
		{"not UTF-8, and no From", "Subject: \xe4\r\n\r\n", "554 Non-UTF-8 message", 0},
		{"no header", "hello\r\n\r\n", "500 Failed to parse message: malformed message header", 0},
		{"no From", with("\nFrom:", "\nX-From:"), "500 Invalid FROM header: no From header", 0},
		{"two From", "From: <eve@remote.example>\r\n" + good, "500 Invalid FROM header: more than one From header", 0},
		{"cleartext, signed", plain, "523 Encryption Needed: Invalid Unencrypted Mail", 0},
		{"cleartext, not signed", "From: <a@b.example>\r\n\r\nhi\r\n", "523 Encryption Needed: Invalid Unencrypted Mail", 0},
		{"not signed", unsigned, none, 0},
		{"of another domain", sample(t, "mailauth-foreign-enc"), invalid, 0},
		{"From a parent domain", with("alice@remote.example", "alice@example"), invalid, 0},
		{"From a subdomain", with("alice@remote.example", "alice@x.remote.example"), invalid, 0},
		{"From another name there", with("alice@remote.example", "bob@remote.example"), invalid, 1},
		{"From an IP literal", with("alice@remote.example", "alice@[192.0.2.1]"), invalid, 0},
		{"changed", with("Subject: [...]", "Subject: x"), invalid, 1},
		{"SHA-1", sample(t, "opendkim-sha1-enc"), invalid, 0},
		{"no key", with("s=ma2048", "s=other"), invalid, 1},
	} {
		w.lookups.Store(0)
		if got := w.send(sender, c.raw, "anna"); got != c.want || w.lookups.Load() != c.lookups {
			t.Errorf("%s: %q after %d look-ups, want %q after %d", c.name, got, w.lookups.Load(), c.want, c.lookups)
		}
	}
	w.fails = errors.New("timeout")
	if got := w.send(sender, good, "anna"); got != "451 4.7.5 DKIM key cannot be looked up now, try again later" {
		t.Error(got)
	}
	if n := len(w.Inbox("anna")); n != 2 {
		t.Errorf("%d mails, want the two that were taken", n)
	}
}

// TestExceptions: unencrypted mail comes in as the start of a key exchange, as a delivery
// report, and to accounts that take it; never without a valid signature.
func TestExceptions(t *testing.T) {
	w := newWorld(t)
	w.Create("anna", nil)
	for _, name := range []string{"open", "open2"} {
		w.Create(name, func(r *account.CreateRequest) { r.AcceptCleartext = true })
	}
	secureJoin := "From: <x@remote.example>\r\nSecure-Join: vc-request\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\n\r\n" +
		"--b\r\nContent-Type: text/plain\r\n\r\nSecure-Join: vc-request\r\n--b--\r\n"
	bounce := "From: <MAILER-DAEMON@remote.example>\r\nAuto-Submitted: auto-replied\r\nContent-Type: multipart/report; boundary=\"b\"\r\n\r\n--b--\r\n"
	setup := "From: <anna@mail.example>\r\nSubject: Autocrypt Setup Message\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\n\r\n" +
		"--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b--\r\n"
	for _, c := range []struct{ raw, want string }{
		{secureJoin, noSignature}, {bounce, noSignature}, {setup, cleartext},
		{strings.Replace(bounce, "MAILER-DAEMON", "bob", 1), cleartext},
		{strings.Replace(bounce, "Auto-Submitted", "X", 1), cleartext},
	} {
		if got := w.send("", c.raw, "anna"); got != c.want {
			t.Errorf("%.60q: %q, want %q", c.raw, got, c.want)
		}
	}
	plain := sample(t, "mailauth-both-plain")
	for _, c := range []struct {
		to   []string
		want string
	}{{[]string{"open"}, "250"}, {[]string{"open", "open2"}, "250"}, {[]string{"open", "anna"}, cleartext}, {[]string{"anna", "open"}, cleartext}} {
		if got := w.send(sender, "X-To: "+strings.Join(c.to, " ")+"\r\n"+plain, c.to...); got != c.want {
			t.Errorf("%v: %q, want %q", c.to, got, c.want)
		}
	}
	if got := w.send(sender, "From: <"+sender+">\r\n\r\nhi\r\n", "open"); got != noSignature {
		t.Error(got)
	}
	if a, b, c := len(w.Inbox("open")), len(w.Inbox("open2")), len(w.Inbox("anna")); a != 2 || b != 1 || c != 0 {
		t.Errorf("%d, %d and %d mails", a, b, c)
	}
}

// TestProxiesTakeCleartext: what is not encrypted is taken for an account that is read with a mail proxy,
// if it is signed, and only if all recipients take it.
func TestProxiesTakeCleartext(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"anna", "proxied"} {
		w.Create(name, nil)
	}
	a, err := w.Accounts.Resolve(t.Context(), w.Address("proxied"))
	if err != nil {
		t.Fatal(err)
	}
	var fails error
	w.r.o.Proxy = func(_ context.Context, id seal.AccountID) (bool, error) { return id == a.ID, fails }
	plain := sample(t, "mailauth-both-plain")
	for _, c := range []struct {
		raw  string
		to   []string
		want string
	}{
		{plain, []string{"proxied"}, "250"}, {plain, []string{"anna"}, cleartext}, {plain, []string{"proxied", "anna"}, cleartext},
		{"From: <" + sender + ">\r\n\r\nhi\r\n", []string{"proxied"}, noSignature},
	} {
		if got := w.send(sender, c.raw, c.to...); got != c.want {
			t.Errorf("%v: %q, want %q", c.to, got, c.want)
		}
	}
	fails = errs.E("test", errs.Unavailable, "", nil)
	if got := w.send(sender, plain, "proxied"); !strings.HasPrefix(got, "451 ") {
		t.Error(got)
	}
}

// TestRecipients: each is answered at once.
func TestRecipients(t *testing.T) {
	w := newWorld(t)
	w.Create("anna", nil)
	w.Create("postmaster", nil)
	w.Create("blocked", nil)
	w.Create("small", func(r *account.CreateRequest) { r.Quota = 4000 })
	w.Create("other", func(r *account.CreateRequest) { r.Class = account.OpenMail })
	if err := w.Accounts.Block(t.Context(), w.Address("blocked")); err != nil {
		t.Fatal(err)
	}
	s := w.session()
	if err := s.Mail(t.Context(), w.Address(sender), smtp.MailOptions{Size: 5000}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		to   mail.Address
		want string
	}{
		{mail.Address{Local: "nobody", Domain: domain}, "550 5.1.1 Recipient address rejected: User unknown"},
		{mail.Address{Local: "anna", Domain: "remote.example"}, "554 5.7.1 Relay access denied"},
		{mail.Address{Local: "anna", Domain: "x.mail.example"}, "554 5.7.1 Relay access denied"},
		{mail.Address{Local: "blocked", Domain: domain}, "550 5.2.1 Recipient address rejected: mailbox disabled"},
		{mail.Address{Local: "small", Domain: domain}, "452 4.2.2 Recipient address rejected: mailbox full"},
		{mail.Address{Local: "ANNA", Domain: "Mail.Example"}, "250"},
		{mail.Address{Local: "postmaster"}, "250"},
		{mail.Address{Local: "other", Domain: domain}, "452 4.5.3 send separately"},
	} {
		if got := say(s.Rcpt(t.Context(), c.to, smtp.RcptOptions{})); got != c.want {
			t.Errorf("%v: %q, want %q", c.to, got, c.want)
		}
	}
	// What was said about recipients ends with the mail.
	s.Reset()
	if err := s.Mail(t.Context(), w.Address(sender), smtp.MailOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := say(s.Rcpt(t.Context(), w.Address("other"), smtp.RcptOptions{})); got != "250" {
		t.Error(got)
	}
}

// TestEveryDoorIsShut: no TLS, no mail, whatever the listener asks; no login; nothing while the
// disk is full or has failed.
func TestEveryDoorIsShut(t *testing.T) {
	w := newWorld(t)
	bare, err := w.r.NewSession(t.Context(), smtp.Info{})
	if err != nil {
		t.Fatal(err)
	}
	defer bare.Close()
	if got := say(bare.Mail(t.Context(), mail.Address{}, smtp.MailOptions{})); got != "530 5.7.0 Must issue a STARTTLS command first" {
		t.Error(got)
	}
	s := w.session()
	if got := say(s.Auth(t.Context(), sasl.Credentials{})); got != "502 5.5.1 AUTH is not offered" {
		t.Error(got)
	}
	w.guard = errs.E("test", errs.NoSpace, "", nil)
	if got := say(s.Mail(t.Context(), mail.Address{}, smtp.MailOptions{})); !strings.HasPrefix(got, "452 4.3.1 ") {
		t.Error(got)
	}
	w.guard = errs.E("test", errs.Unavailable, "", nil)
	if got := say(s.Mail(t.Context(), mail.Address{}, smtp.MailOptions{})); !strings.HasPrefix(got, "451 4.3.0 ") {
		t.Error(got)
	}
}

// TestAllOrNothing: a mailbox that had room at RCPT and has none for the whole mail.
func TestAllOrNothing(t *testing.T) {
	w := newWorld(t)
	w.Create("anna", nil)
	w.Create("small", func(r *account.CreateRequest) { r.Quota = 500 })
	if got := w.send(sender, sample(t, "mailauth-both-enc"), "anna", "small"); got != "452 4.2.2 a mailbox is full" {
		t.Error(got)
	}
	if n := len(w.Inbox("anna")); n != 0 {
		t.Error("half a mail was delivered")
	}
}

// TestWeb: the HTTPS way has the same rules and one answer for all recipients.
func TestWeb(t *testing.T) {
	w := newWorld(t)
	w.Create("anna", nil)
	w.Create("bert", nil)
	good := sample(t, "mailauth-both-enc")
	for _, c := range []struct {
		raw  string
		to   []string
		want mxdeliv.Outcome
		text string
	}{
		{good, []string{"anna", "bert"}, mxdeliv.Accepted, "250 2.0.0 OK"},
		{good, []string{"nobody"}, mxdeliv.Refused, "550 5.1.1 "},
		{good, []string{"nobody", "none"}, mxdeliv.Refused, "550 5.1.1 "},
		{good, []string{"anna", "nobody"}, mxdeliv.Split, "451 4.5.3 "},
		{good, []string{"nobody", "anna"}, mxdeliv.Split, "451 4.5.3 "},
		{sample(t, "mailauth-both-plain"), []string{"anna"}, mxdeliv.Refused, "523 Encryption Needed: Invalid Unencrypted Mail"},
		{sample(t, "mailauth-foreign-enc"), []string{"anna"}, mxdeliv.Refused, "554 5.7.1 No valid DKIM signature found"},
	} {
		m := mxdeliv.Mail{From: w.Address(sender), Raw: []byte(c.raw)}
		for _, name := range c.to {
			m.To = append(m.To, w.Address(name))
		}
		if got, text := w.r.Web().Deliver(t.Context(), m); got != c.want || !strings.HasPrefix(text, c.text) {
			t.Errorf("%v: %v %q, want %v %q", c.to, got, text, c.want, c.text)
		}
	}
	w.guard = errs.E("test", errs.NoSpace, "", nil)
	if got, text := w.r.Web().Deliver(t.Context(), mxdeliv.Mail{To: []mail.Address{w.Address("anna")}, Raw: []byte(good)}); got != mxdeliv.Refused || !strings.HasPrefix(text, "452 4.3.1 ") {
		t.Errorf("%v %q", got, text)
	}
	if a, b := len(w.Inbox("anna")), len(w.Inbox("bert")); a != 1 || b != 1 {
		t.Errorf("%d and %d mails", a, b)
	}
}

// TestSentAgain: a sender that did not hear our answer sends the same mail again, the same
// way or the other one: it hears yes, and the mail is there once. Another recipient still gets
// it, another mail comes, and after some days it comes again.
func TestSentAgain(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"anna", "bert"} {
		w.Create(name, nil)
	}
	raw := sample(t, "mailauth-both-enc")
	smtpWay := func(raw string, to ...string) {
		t.Helper()
		if got := w.send(sender, raw, to...); got != "250" {
			t.Fatal(got)
		}
	}
	webWay := func(raw string, to ...string) {
		t.Helper()
		m := mxdeliv.Mail{From: w.Address(sender), Raw: []byte(raw)}
		for _, name := range to {
			m.To = append(m.To, w.Address(name))
		}
		if o, reply := w.r.Web().Deliver(t.Context(), m); o != mxdeliv.Accepted {
			t.Fatal(reply)
		}
	}
	want := func(anna, bert int) {
		t.Helper()
		if a, b := len(w.Inbox("anna")), len(w.Inbox("bert")); a != anna || b != bert {
			t.Errorf("%d and %d mails, want %d and %d", a, b, anna, bert)
		}
	}
	for range 2 {
		smtpWay(raw, "anna")
		webWay(raw, "anna")
	}
	want(1, 0)
	webWay(raw, "anna", "bert")
	smtpWay(raw, "bert")
	want(1, 1)
	other := sample(t, "opendkim-relaxed-simple-enc")
	webWay(other, "anna", "bert")
	smtpWay(other, "bert", "anna")
	want(2, 2)
	// A copy that says more outside of the signature is no copy.
	smtpWay("X-Note: changed on the way\r\n"+raw, "anna")
	want(3, 2)
	w.Clock.Add(3 * 24 * time.Hour)
	smtpWay(raw, "anna")
	want(3, 2)
	w.Clock.Add(24 * time.Hour)
	smtpWay(raw, "anna")
	webWay(raw, "anna")
	want(4, 2)
}

// TestSentTogether: the same mail over many connections of both kinds at one time.
func TestSentTogether(t *testing.T) {
	w := newWorld(t)
	w.Create("anna", nil)
	raw := []byte(sample(t, "mailauth-both-enc"))
	var wg sync.WaitGroup
	for i := range 20 {
		s := w.session()
		wg.Go(func() {
			ctx := t.Context()
			if i%2 == 0 {
				if o, reply := w.r.Web().Deliver(ctx, mxdeliv.Mail{To: []mail.Address{w.Address("anna")}, Raw: raw}); o != mxdeliv.Accepted {
					t.Error(reply)
				}
				return
			}
			if err := errors.Join(s.Mail(ctx, w.Address(sender), smtp.MailOptions{}), s.Rcpt(ctx, w.Address("anna"), smtp.RcptOptions{})); err != nil {
				t.Error(err)
			}
			transfer, err := s.Data(ctx)
			if err == nil {
				err = transfer.Commit(ctx, raw)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(w.Inbox("anna")); n != 1 {
		t.Errorf("%d mails", n)
	}
}
