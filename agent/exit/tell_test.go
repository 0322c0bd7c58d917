package exit

import (
	"strings"
	"testing"
	"time"

	"postern.email/mail"
	"postern.email/post/queue"
)

// TestTold: who is known to have sent a mail hears if it cannot be delivered, and nobody else: a user at the
// address of its certificate, who wrote anonymously at the reply address, each where the envelope asks for it.
func TestTold(t *testing.T) {
	w := begin(t)
	reported := func(tell, id string) {
		t.Helper()
		if got := w.last(); got.Tell.String() != tell || got.TellID != id {
			t.Errorf("told %q (%q), want %q (%q)", got.Tell, got.TellID, tell, id)
		}
	}
	nobody := mail.Address{}.String()
	u := w.user("anna@exit.example", "x", "bob@world.example")
	must(t, w.Send(ctx, u))
	reported(nobody, "") // the null sender: a report, or the sender wants none
	u = w.user("anna@exit.example", "y", "bob@world.example")
	u.Mail.Sender = u.Address
	must(t, w.Send(ctx, u))
	reported("anna@exit.example", "")
	a := w.anonymous("x", "bob@world.example")
	must(t, w.Send(ctx, a))
	reported(nobody, "")
	a = w.anonymous("y", "bob@world.example")
	a.Mail.Sender, a.Return = to(t, "anonymous@home.example"), to(t, "anonymous@home.example")
	must(t, w.Send(ctx, a))
	reported(nobody, "")
	a = w.anonymous("z", "bob@world.example")
	a.Mail.Sender, a.Return = to(t, reply), to(t, reply)
	must(t, w.Send(ctx, a))
	reported(reply, "<secret@fox.example>")
	if strings.Contains(w.last().text, "secret@fox.example") {
		t.Error("the sender's Message-ID leaves")
	}
	long := "<" + strings.Repeat("a", queue.MaxTellID) + "@fox.example>"
	a = w.anonymous("z", "eve@world.example")
	a.Mail.Sender, a.Return = to(t, reply), to(t, reply)
	a.Mail.Raw = []byte(strings.Replace(string(a.Mail.Raw), "<secret@fox.example>", long, 1))
	must(t, w.Send(ctx, a))
	reported(reply, "")
}

// TestToldBound: nobody proves that a reply address is theirs, so it hears of so many mails a day, in all of
// its spellings and also after a restart; the mails leave all the same.
func TestToldBound(t *testing.T) {
	w := begin(t, func(o *Options) { o.MaxTold = 3 })
	send := func(from string, rcpts ...string) {
		t.Helper()
		a := w.anonymous("x", rcpts...)
		a.Mail.Sender, a.Return = to(t, from), to(t, from)
		must(t, w.Send(ctx, a))
	}
	told := func() (n int) {
		for _, s := range w.sent {
			if !s.Tell.IsZero() {
				n++
			}
		}
		return n
	}
	send(reply, "a@one.example", "b@one.example")
	must(t, w.Close())
	w.open()
	send(strings.ToUpper(reply), "a@two.example", "b@two.example")
	if len(w.sent) != 4 || told() != 3 {
		t.Errorf("%d mails, %d told", len(w.sent), told())
	}
	send(strings.Replace(reply, "reply.a", "reply.b", 1), "a@three.example")
	if told() != 4 {
		t.Error("the bound of one address is another's")
	}
	w.clock.Add(24 * time.Hour)
	send(reply, "a@four.example")
	if told() != 5 {
		t.Error("the next day is not another")
	}
	u := func(to string) {
		t.Helper()
		v := w.user("anna@exit.example", to, to)
		v.Mail.Sender = v.Address
		must(t, w.Send(ctx, v))
	}
	for _, s := range []string{"a@five.example", "b@five.example", "c@five.example", "d@five.example"} {
		u(s)
	}
	if told() != 9 {
		t.Error("who is vouched for is bounded")
	}
}
