package mixsubmit

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"postern.email/agent/agenttest"
	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/mixnet/client"
	"postern.email/mixnet/content"
	"postern.email/mixnet/letter"
	"postern.email/wire/smtp"
)

// check opens a carried letter as the doors do.
func (w *world) check(c agenttest.Carried) *vouch.Vouched {
	w.TB.Helper()
	v, err := vouch.Check(w.net.Consensus, w.Clock.Now(), c.Letter, vouch.Door{})
	must(w.TB, err)
	return v
}

// TestToProxy: a mail to somebody whose key is known is a letter to that proxy, vouched for, with the
// header that letters have; the sender hears when it arrives.
func TestToProxy(t *testing.T) {
	w := newWorld(t, nil, nil)
	bert := w.user("bert@two.example")
	w.know(bert)
	raw := plain("Bcc: canary@secret.example", "X-Mailer: canary", "Received: from canary", "X-Postern-Sender: canary", "x-katzenpost-sender: canary")
	got := w.send(raw, "bert@two.example")
	if got != "250 queued, arrives in about 3 min" {
		t.Error(got)
	}
	w.run()
	if w.pokes != 1 {
		t.Errorf("%d pokes", w.pokes)
	}
	all := w.carry(bert)
	if len(all) != 1 || all[0].To != bert || !all[0].Message.Ack || all[0].Message.Kind != content.Letter || len(all[0].Message.Bodies[0]) != letter.RoomACK {
		t.Fatalf("%d letters", len(all))
	}
	v := w.check(all[0])
	text := string(v.Mail.Raw)
	if v.Kind != vouch.User || !v.Address.Equal(w.anna.Address) || len(v.Mail.Recipients) != 1 || !v.Mail.Recipients[0].Equal(bert.Address) || v.Mail.Sender != w.anna.Address {
		t.Errorf("%+v", v)
	}
	if strings.Contains(strings.ReplaceAll(text, "canary plans", ""), "canary") || !strings.Contains(text, "Subject: canary plans\r\n") || !strings.HasSuffix(text, "\r\n\r\nHello.\r\n") {
		t.Error(text)
	}
	for _, want := range []string{"Received: by localhost (Postern mail proxy); Fri, 20 Nov 2026 12:00:00 +0000\r\n", "\r\nMessage-ID: <", "\r\nDate: Fri, 20 Nov 2026 12:00:00 +0000\r\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	if left, err := w.s.Waiting(); err != nil || len(left) != 0 {
		t.Errorf("%+v %v", left, err)
	}
	if n := len(w.Inbox("anna")); n != 0 {
		t.Errorf("%d reports that nobody asked for", n)
	}
	// What the mail has already stays.
	w.want("250 ", plain("Message-ID: <own@id>", "Date: Thu, 1 Jan 2026 00:00:00 +0000"), "bert@two.example")
	w.run()
	if text := string(w.check(w.carry(bert)[0]).Mail.Raw); strings.Count(text, "Message-ID") != 1 || strings.Count(text, "Date") != 1 || !strings.Contains(text, "<own@id>") {
		t.Error(text)
	}
}

// TestOwnAccount: mail to an account of the same proxy goes through the network.
func TestOwnAccount(t *testing.T) {
	w := newWorld(t, nil, nil)
	ben := w.account("ben")
	w.s.o.Accounts = func() []*Account { return []*Account{w.anna, ben} }
	w.want("250 ", plain(), "ben@one.example", "BEN@One.example")
	w.run()
	user := &agenttest.MixUser{Identity: ben.Identity, Store: ben.Store, Home: ben.Home}
	if all := w.carry(user); len(all) != 1 || all[0].To != user {
		t.Errorf("%d letters", len(all))
	}
}

// TestSender: who may send as whom, with a login and without.
func TestSender(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.Create("ben", nil)
	w.know(w.user("bert@two.example"))
	ctx := t.Context()
	tries := func(as, from string) string { return said(w.dial(as).Mail(ctx, w.Address(from), smtp.MailOptions{})) }
	for _, c := range []struct{ as, from, want string }{
		{"", "anna", "530 5.7.0"}, {"anna", "ben", "553 5.7.1"}, {"anna", "", "553 5.7.1"}, {"anna", "anna@two.example", "553 5.7.1"},
		{"ben", "anna", "553 5.7.1"}, {"ben", "ben", "550 5.7.1 this account is not registered"}, // ben has no keys in the network
	} {
		if got := tries(c.as, c.from); !strings.HasPrefix(got, c.want) {
			t.Errorf("%+v: %s", c, got)
		}
	}
	must(t, w.dial("anna").Mail(ctx, w.Address("ANNA@One.Example"), smtp.MailOptions{}))
	w.want("550 5.7.1 Invalid FROM", strings.Replace(plain(), "anna@", "ben@", 1), "bert@two.example")
	w.want("550 5.6.0 Invalid FROM", "Subject: x\r\n\r\nx\r\n", "bert@two.example")
	w.want("550 5.6.0 Failed to parse", "no header\r\n\r\n", "bert@two.example")
	w.want("550 5.7.1 no door", plain("Sender: ben@one.example"), "bert@two.example")
	if left, _ := w.s.Waiting(); len(left) != 0 {
		t.Errorf("%+v", left)
	}
	must(t, w.Accounts.Block(ctx, w.Address("anna")))

	open := newWorld(t, nil, func(o *Options) { o.NoAuth = true })
	must(t, open.dial("").Mail(ctx, open.Address("anna"), smtp.MailOptions{}))
	if got := said(open.dial("").Mail(ctx, open.Address("ben"), smtp.MailOptions{})); !strings.HasPrefix(got, "553 5.7.1") {
		t.Error(got)
	}
	full := newWorld(t, nil, func(o *Options) {
		o.Guard = func() error { return errs.E("test", errs.NoSpace, "the disk is full", nil) }
	})
	if got := full.send(plain(), "x@two.example"); !strings.HasPrefix(got, "452 4.3.1") {
		t.Error(got)
	}
}

// TestBlocked: a login that was taken back ends at the next mail.
func TestBlocked(t *testing.T) {
	w := newWorld(t, nil, nil)
	c := w.dial("anna")
	must(t, w.Accounts.Block(t.Context(), w.Address("anna")))
	if got := said(c.Mail(t.Context(), w.Address("anna"), smtp.MailOptions{})); !strings.HasPrefix(got, "550 5.7.1 this account") {
		t.Error(got)
	}
}

// TestRecipients: whom there is no way to is refused at once, with the reason.
func TestRecipients(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.net.Consensus.Nodes = append(w.net.Consensus.Nodes, w.net.Consensus.Nodes[0])
	last := &w.net.Consensus.Nodes[2]
	last.ID, last.Domains, last.LetterKey = [32]byte{0xff, 0xff}, []string{"old.example"}, nil
	for to, want := range map[string]string{
		"x@world.example": "550 5.1.2 Recipient address rejected: no key is known, and no relay",
		"x@old.example":   "550 5.1.2 Recipient address rejected: no key is known, and the relay",
	} {
		w.want(want, plain(), to)
	}
	c := w.dial("anna")
	must(t, c.Mail(t.Context(), w.Address("anna"), smtp.MailOptions{}))
	for i := range MaxRecipients {
		must(t, c.Rcpt(t.Context(), w.Address(fmt.Sprintf("u%d@two.example", i)), smtp.RcptOptions{}))
	}
	if got := said(c.Rcpt(t.Context(), w.Address("more@two.example"), smtp.RcptOptions{})); !strings.HasPrefix(got, "452 4.5.3") {
		t.Error(got)
	}
	w.offline = true
	w.want("451 4.4.3", plain(), "x@two.example")
}

// TestPolicy: mail in cleartext goes to proxies alone; what is encrypted goes to the relay of an
// ordinary mailbox, in one letter for all of them.
func TestPolicy(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.want("523 5.7.10 Encryption Needed", plain(), "x@two.example", "y@two.example")
	w.want("250 ", encrypted(), "x@two.example", "y@two.example", "z@one.example")
	w.run()
	all := w.carry()
	if len(all) != 2 {
		t.Fatalf("%d letters", len(all))
	}
	for _, c := range all {
		v := w.check(c)
		at, many := v.Mail.Recipients[0].Domain, len(v.Mail.Recipients)
		if c.Message.Kind != content.Mail || c.Message.Relay != agenttest.Relay(t, at) || !c.Message.Ack || many == 2 != (at == other) {
			t.Errorf("kind %d, %v", c.Message.Kind, v.Mail.Recipients)
		}
	}
	// The first step of a key exchange is what the doors let in besides.
	w.want("250 ", "From: anna@one.example\r\nSecure-Join: vc-request\r\nContent-Type: text/plain\r\n\r\nSecure-Join: vc-request\r\n", "x@two.example")
}

// encrypted is a mail that passes the check of form.
func encrypted() string {
	packets := append([]byte{0xc0 | 1, 10, 3}, make([]byte, 9)...) // a session key
	packets = append(packets, 0xc0|18, 40, 1)
	packets = append(packets, bytes.Repeat([]byte{0x5a}, 39)...)
	return "From: anna@one.example\r\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=\"b\"\r\n\r\n" +
		"--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--b\r\nContent-Type: application/octet-stream\r\n\r\n" +
		"-----BEGIN PGP MESSAGE-----\r\n\r\n" + base64.StdEncoding.EncodeToString(packets) + "\r\n-----END PGP MESSAGE-----\r\n\r\n--b--\r\n"
}

// TestPartly: who cannot get a mail does not keep it from the others, and the sender is told once.
func TestPartly(t *testing.T) {
	w := newWorld(t, nil, nil)
	bert := w.user("bert@two.example")
	w.know(bert)
	w.want("250 ", plain(), "bert@two.example", "x@two.example", "y@one.example")
	w.run()
	w.run()
	in := w.Inbox("anna")
	if len(in) != 1 || !strings.Contains(in[0], "multipart/report") || !strings.Contains(in[0], "Final-Recipient: rfc822; x@two.example\r\nAction: failed\r\nStatus: 5.7.0") ||
		!strings.Contains(in[0], "y@one.example") || strings.Contains(in[0], "Final-Recipient: rfc822; bert@") || !strings.Contains(in[0], "Original-Envelope-Id: e1") ||
		!strings.Contains(in[0], "This is the mail proxy on your own computer.") || !strings.Contains(in[0], "Subject: canary plans") || strings.Contains(in[0], "Hello.") {
		t.Fatalf("%d %s", len(in), in)
	}
	if all := w.carry(bert); len(all) != 1 {
		t.Errorf("%d letters", len(all))
	}
}

// TestSize: what the line carries in a day is offered, and what is larger refused with the number.
func TestSize(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.know(w.user("bert@two.example"))
	most := client.MaxBytes(w.net.Consensus.Parameters, SizeTime)
	if got := w.s.Offer(); got != most {
		t.Errorf("%d, want %d", got, most)
	}
	addr := agenttest.Serve(t, func(ctx context.Context, l net.Listener) error {
		return smtp.Serve(ctx, l, smtp.Options{Backend: w.s, Offer: w.s.Offer})
	})
	conn, err := net.Dial("tcp", addr)
	must(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "EHLO me\r\nQUIT\r\n")
	must(t, err)
	text, err := io.ReadAll(conn)
	must(t, err)
	if !strings.Contains(string(text), fmt.Sprintf("250-SIZE %d\r\n", most)) {
		t.Errorf("%s", text)
	}
	c := w.dial("anna")
	must(t, c.Mail(t.Context(), w.Address("anna"), smtp.MailOptions{Size: most}))
	got := said(c.Mail(t.Context(), w.Address("anna"), smtp.MailOptions{Size: most + 1_000_000}))
	if want := fmt.Sprintf("552 5.3.4 the network carries %s for this account in 24 hours, and this mail has %s", bytesText(most), bytesText(most+1_000_000)); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	w.want("552 5.3.4 ", plain()+strings.Repeat("x\r\n", int(most/3)), "bert@two.example")
	w.offline = true
	if got := w.s.Offer(); got != 0 {
		t.Errorf("%d", got)
	}
	if got := said(c.Mail(t.Context(), w.Address("anna"), smtp.MailOptions{Size: maxMail + 1})); !strings.HasPrefix(got, "552 5.3.4 a mail has 32 MB at most") {
		t.Error(got)
	}
	for n, want := range map[int64]string{999: "999 bytes", 20_000: "20 kB", 1_000_000: "1 MB", 1_540_000: "1.5 MB", 17_000_000: "17 MB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

// TestPatience: a mail is never bounced before four times the expected time.
func TestPatience(t *testing.T) {
	w := newWorld(t, nil, nil)
	bert := w.user("bert@two.example")
	w.know(bert)
	w.anna.Lifetime = time.Hour
	w.anna.Expect = func(int) client.Forecast { return client.Forecast{Mean: 7*time.Hour + time.Minute} }
	if got := w.send(plain(), "bert@two.example"); got != "250 queued, arrives in about 7 h" {
		t.Error(got)
	}
	w.run()
	m := w.carry(bert)[0].Message
	if got := m.Expires.Sub(m.Created); got != 28*time.Hour+4*time.Minute {
		t.Error(got)
	}
	w.anna.Expect = func(int) client.Forecast { return client.Forecast{Mean: time.Minute} }
	w.want("250 ", plain(), "bert@two.example")
	w.run()
	if m := w.carry(bert)[0].Message; m.Expires.Sub(m.Created) != time.Hour {
		t.Error(m.Expires.Sub(m.Created))
	}
	for d, want := range map[time.Duration]string{time.Second: "a few seconds", 30 * time.Second: "about half a minute", time.Minute: "about 1 min", 89 * time.Minute: "about 89 min", 90 * time.Minute: "about 2 h",
		47 * time.Hour: "about 47 h", 73 * time.Hour: "about 3 days"} {
		if got := about(d); got != want {
			t.Errorf("%v: %s", d, got)
		}
	}
}

// TestUnreliable: the header asks for no acknowledgement, and for a code instead.
func TestUnreliable(t *testing.T) {
	for _, name := range []string{"X-Postern-Unreliable", "x-katzenpost-unreliable"} {
		w := newWorld(t, nil, nil)
		bert := w.user("bert@two.example")
		w.know(bert)
		raw := plain(name+": yes") + incompressible(80<<10)
		if got := w.sendWith(raw, smtp.NotifySuccess, "bert@two.example"); !strings.HasPrefix(got, "250 ") {
			t.Fatal(got)
		}
		w.run()
		all := w.carry(bert)
		if len(all) != 1 || all[0].Message.Ack || len(all[0].Message.Bodies) < 3 || len(all[0].Message.Bodies[0]) != letter.RoomPlain {
			t.Fatalf("%d letters", len(all))
		}
		if text := string(w.check(all[0]).Mail.Raw); strings.Contains(strings.ToLower(text), "unreliable") {
			t.Error(text)
		}
		if in := w.Inbox("anna"); len(in) != 1 || !strings.Contains(in[0], "Action: relayed") {
			t.Error(in)
		}
	}
}

// incompressible is text of about so many bytes that differs each line.
func incompressible(size int) string {
	var b strings.Builder
	x := uint64(88172645463325252)
	for b.Len() < size {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		fmt.Fprintf(&b, "%x\r\n", x)
	}
	return b.String()
}

// TestEnds: what became of a mail is told as the sender asked, once.
func TestEnds(t *testing.T) {
	for _, c := range []struct {
		notify smtp.Notify
		result client.Result
		want   string // within the report; empty: there is none
	}{
		{0, client.Delivered, ""}, {smtp.NotifySuccess, client.Delivered, "Action: delivered\r\nStatus: 2.1.5"}, {smtp.NotifyNever, client.Delivered, ""},
		{0, client.Failed, "Action: failed\r\nStatus: 5.4.7"}, {smtp.NotifyFailure, client.Failed, "x-postern; it could not be sent in time"}, {smtp.NotifyNever, client.Failed, ""},
		{smtp.NotifySuccess, client.Failed, ""},
	} {
		w := newWorld(t, nil, nil)
		w.know(w.user("bert@two.example"))
		if got := w.sendWith(plain(), c.notify, "bert@two.example"); !strings.HasPrefix(got, "250") {
			t.Fatal(got)
		}
		w.run()
		left, err := w.s.Waiting()
		must(t, err)
		if len(left) != 1 || len(left[0].Names) != 1 || left[0].Why != "" || left[0].To[0].Local != "bert" {
			t.Fatalf("%+v", left)
		}
		must(t, w.anna.Store.Finish(left[0].Names[0], c.result, "it could not be sent in time"))
		w.run()
		w.run()
		in := w.Inbox("anna")
		switch {
		case c.want == "" && len(in) != 0, c.want != "" && (len(in) != 1 || !strings.Contains(in[0], c.want)):
			t.Errorf("%+v: %q", c, in)
		case c.result == client.Delivered && len(in) == 1 && !strings.Contains(strings.Join(strings.Fields(in[0]), " "), "it is on the disk of the relay of each of these addresses"):
			t.Error(in[0])
		}
		if left, _ := w.s.Waiting(); len(left) != 0 {
			t.Errorf("%+v", left)
		}
		if names, err := w.fs.List("/data/anna/waiting"); err != nil || len(names) != 0 {
			t.Errorf("%v %v", names, err)
		}
	}
}

// TestDelayed: who asked for it hears once that a mail takes long, whether it waits or is on its way.
func TestDelayed(t *testing.T) {
	for _, waits := range []bool{true, false} {
		for notify, want := range map[smtp.Notify]int{0: 0, smtp.NotifyFailure: 0, smtp.NotifyDelay: 1} {
			w := newWorld(t, nil, nil)
			w.know(w.user("bert@two.example"))
			w.noCert = waits
			if got := w.sendWith(plain(), notify, "bert@two.example"); !strings.HasPrefix(got, "250 ") {
				t.Fatal(got)
			}
			w.run()
			w.Clock.Add(client.Lifetime/Patience - time.Minute)
			w.run()
			if in := w.Inbox("anna"); len(in) != 0 {
				t.Errorf("too early: %q", in)
			}
			for range 3 {
				w.Clock.Add(time.Minute)
				w.run()
			}
			in := w.Inbox("anna")
			if len(in) != want || want == 1 && !strings.Contains(in[0], "Action: delayed\r\nStatus: 4.4.7") || want == 1 && !strings.Contains(in[0], "Will-Retry-Until: Wed, 25 Nov 2026 12:00:00 +0000") {
				t.Errorf("waits %v, notify %d: %q", waits, notify, in)
			}
		}
	}
}
