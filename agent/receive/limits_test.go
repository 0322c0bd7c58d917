package receive

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern.email/kit/limits"
	"postern.email/mail"
	"postern.email/wire/mxdeliv"
	"postern.email/wire/smtp"
)

func network(n byte) limits.Peer {
	return limits.Peer{Addr: netip.AddrFrom4([4]byte{192, 0, 2, n})}
}

// from begins a session of a peer.
func (w *world) from(p limits.Peer) smtp.Session {
	w.t.Helper()
	s, err := w.r.NewSession(w.t.Context(), smtp.Info{TLS: true, Peer: p})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.Close)
	return s
}

// limited gives the world limits with a clock that the test moves.
func limited(t *testing.T) (w *world, now *time.Time) {
	w = newWorld(t)
	now = new(time.Time)
	*now = time.Unix(1_000_000, 0)
	tick := func() time.Time { return *now }
	w.r.o.Mails, w.r.o.KiB, w.r.o.Unknown = limits.NewGCRA(60, 5, 10, tick), limits.NewGCRA(60, 100, 10, tick), limits.NewGCRA(60, 3, 10, tick)
	w.Create("anna", nil)
	return w, now
}

const (
	manyMails   = "451 4.7.1 too many mails from your network, try again later"
	manyBytes   = "451 4.7.1 too many bytes from your network, try again later"
	manyUnknown = "451 4.7.1 too many refused recipients from your network, try again later"
)

// TestMailsOfANetwork: a burst, then the rate, for all sessions of a network together; another
// network and a trusted proxy are free, and the session goes on.
func TestMailsOfANetwork(t *testing.T) {
	w, now := limited(t)
	exempt := network(1)
	exempt.Exempt = true
	one, again, other, proxy := w.from(network(1)), w.from(network(1)), w.from(network(2)), w.from(exempt)
	begin := func(s smtp.Session, want string) {
		t.Helper()
		if got := say(s.Mail(t.Context(), w.Address(sender), smtp.MailOptions{})); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for range 5 {
		begin(one, "250")
	}
	begin(one, manyMails)
	begin(again, manyMails)
	for range 5 {
		begin(other, "250")
	}
	for range 20 {
		begin(proxy, "250")
	}
	*now = now.Add(time.Second)
	begin(one, "250")
	begin(again, manyMails)
	*now = now.Add(time.Minute)
	begin(again, "250")
	if got := say(again.Rcpt(t.Context(), w.Address("anna"), smtp.RcptOptions{})); got != "250" {
		t.Error(got)
	}
}

// TestBytesOfANetwork: what came counts, however it ended; then the next mail is put off.
func TestBytesOfANetwork(t *testing.T) {
	w, now := limited(t)
	one, other := w.from(network(1)), w.from(network(2))
	begin := func(s smtp.Session, want string) {
		t.Helper()
		if got := say(s.Mail(t.Context(), w.Address(sender), smtp.MailOptions{})); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	w.r.Received(network(1), 99<<10)
	begin(one, "250")
	w.r.Received(network(1), 1)
	begin(one, manyBytes)
	begin(other, "250")
	*now = now.Add(time.Second)
	begin(one, "250")
	w.r.Received(network(1), 10<<10)
	*now = now.Add(9 * time.Second)
	begin(one, manyBytes)
	*now = now.Add(time.Second)
	begin(one, "250")
	exempt := network(1)
	exempt.Exempt = true
	w.r.Received(exempt, 1<<40)
	w.r.Received(limits.Peer{}, 1<<40)
	begin(w.from(exempt), "250")
	begin(one, "250")
	w.r.o.KiB = nil
	w.r.Received(network(1), 1<<40)
	begin(one, "250")
}

// TestGuessing: a network that has met too many refusals learns nothing more about names,
// be they taken or not, until some time has passed; others are not touched.
func TestGuessing(t *testing.T) {
	w, now := limited(t)
	w.Create("blocked", nil)
	if err := w.Accounts.Block(t.Context(), w.Address("blocked")); err != nil {
		t.Fatal(err)
	}
	one, other := w.from(network(1)), w.from(network(2))
	try := func(s smtp.Session, name, want string) {
		t.Helper()
		if got := say(s.Rcpt(t.Context(), w.Address(name), smtp.RcptOptions{})); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	const unknown, blocked = "550 5.1.1 Recipient address rejected: User unknown", "550 5.2.1 Recipient address rejected: mailbox disabled"
	for _, s := range []smtp.Session{one, other} {
		if err := s.Mail(t.Context(), w.Address(sender), smtp.MailOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	try(one, "anna@"+domain, "250")
	try(one, "x@remote.example", "554 5.7.1 Relay access denied") // says nothing about names here
	try(one, "nobody@"+domain, unknown)
	try(one, "blocked@"+domain, blocked)
	try(one, "none@"+domain, unknown)
	for _, name := range []string{"anna", "nobody", "blocked"} {
		try(one, name+"@"+domain, manyUnknown)
	}
	try(other, "anna@"+domain, "250")
	try(other, "nobody@"+domain, unknown)
	*now = now.Add(time.Second)
	try(one, "anna@"+domain, "250")
	try(one, "nobody@"+domain, unknown)
	try(one, "anna@"+domain, manyUnknown)
}

// TestWebLimits: the same limits over HTTPS, shared with SMTP; a request tries out a
// hundred names at most.
func TestWebLimits(t *testing.T) {
	w, now := limited(t)
	good := []byte(sample(t, "mailauth-both-enc"))
	post := func(p limits.Peer, want mxdeliv.Outcome, text string, to ...string) {
		t.Helper()
		m := mxdeliv.Mail{From: w.Address(sender), Raw: good, Peer: p}
		for _, name := range to {
			m.To = append(m.To, w.Address(name))
		}
		if got, reply := w.r.Web().Deliver(t.Context(), m); got != want || !strings.HasPrefix(reply, text) {
			t.Errorf("%v %q, want %v %q", got, reply, want, text)
		}
	}
	admit := func(p limits.Peer, want string) {
		t.Helper()
		if got, ok := w.r.Web().Admit(t.Context(), p); got != want || ok != (want == "") {
			t.Errorf("%q, %v; want %q", got, ok, want)
		}
	}
	for range 20 {
		admit(network(1), "")
	}
	for range 4 {
		post(network(1), mxdeliv.Accepted, "250 ", "anna")
	}
	if got := say(w.from(network(1)).Mail(t.Context(), mail.Address{}, smtp.MailOptions{})); got != "250" {
		t.Error(got)
	}
	admit(network(1), manyMails)
	post(network(1), mxdeliv.Later, manyMails, "anna")
	admit(network(2), "")
	w.r.Received(network(2), 200<<10)
	admit(network(2), manyBytes)
	post(network(2), mxdeliv.Later, manyBytes, "anna")

	post(network(3), mxdeliv.Refused, "550 5.1.1 ", "n1", "n2")
	post(network(3), mxdeliv.Split, "451 4.5.3 ", "anna", "n1")
	post(network(3), mxdeliv.Later, manyUnknown, "anna")
	*now = now.Add(time.Second)
	post(network(3), mxdeliv.Accepted, "250 ", "anna")

	w.r.o.Unknown = nil
	var names []string
	for range maxRefused - 1 {
		names = append(names, "nobody")
	}
	post(network(4), mxdeliv.Refused, "550 5.1.1 ", names...)
	post(network(4), mxdeliv.Split, "451 4.5.3 ", append(names, "nobody")...)
	post(network(4), mxdeliv.Split, "451 4.5.3 ", append(names, "nobody", "anna")...)
}
