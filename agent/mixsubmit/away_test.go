package mixsubmit

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mail/dsn"
	"postern.email/mixnet/directory"
)

// refused gives what is shown of mail that came back.
func (w *world) refused() (out string) {
	w.TB.Helper()
	list, err := w.s.Refused(w.anna.Address)
	must(w.TB, err)
	for _, r := range list {
		out += fmt.Sprintf("%s %s %v;", r.To, r.Status, r.Told.Sub(r.Sent))
	}
	return out
}

// TestReturned: a report finds the mail into the world that it is about, by Message-ID and recipient, once, also
// after a restart, and for as long as one may come; what was not sent, or not to the world, is not known.
func TestReturned(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.exits(domain, directory.ExitMail)
	w.run()
	w.want("250 ", "Message-ID: <one@anna>\r\n"+encrypted(), "bob@world.example", "Eve@World.example")
	w.want("250 ", "Message-ID: <two@anna>\r\n"+encrypted(), "x@"+other)
	w.run()
	w.Clock.Add(time.Hour)
	say := func(id string, rcpts ...dsn.Returned) {
		w.s.Returned(w.anna.Address, rcpts, []byte("Subject: x\r\nMessage-ID: "+id+"\r\n\r\n"))
	}
	failed := func(to string) dsn.Returned { return dsn.Returned{Final: to, Action: dsn.Failed, Status: "5.1.1"} }
	say("<one@anna>", failed("stranger@world.example"), failed("no address"), dsn.Returned{Final: "eve@world.example", Action: dsn.Delayed})
	say("<two@anna>", failed("x@"+other))
	say("<three@anna>", failed("bob@world.example"))
	say("none", failed("bob@world.example"))
	w.s.Returned(w.anna.Address, []dsn.Returned{failed("bob@world.example")}, nil)
	w.s.Returned(mail.Address{Local: "stranger", Domain: domain}, []dsn.Returned{failed("bob@world.example")}, []byte("Message-ID: <one@anna>\r\n\r\n"))
	if got := w.refused(); got != "" {
		t.Errorf("refused: %q", got)
	}
	say("<one@anna>", failed("stranger@world.example"), failed("BOB@world.example"))
	w.Clock.Add(time.Hour)
	say("<one@anna>", failed("bob@world.example"))
	const want = "bob@world.example 5.1.1 1h0m0s;"
	if got := w.refused(); got != want {
		t.Errorf("refused: %q", got)
	}
	w.s = New(w.s.o)
	if got := w.refused(); got != want {
		t.Errorf("after a restart: %q", got)
	}
	w.Clock.Add(awayTime)
	if got := w.refused(); got != "" {
		t.Errorf("for ever: %q", got)
	}
	say("<one@anna>", failed("eve@world.example"))
	if got := w.refused(); got != "" {
		t.Errorf("of a mail that is forgotten: %q", got)
	}
}

// TestAwayBounds: as many mails are remembered as there is room for, the newest; a file that cannot be read keeps no
// mail from leaving, and is sealed.
func TestAwayBounds(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.exits(domain, directory.ExitMail)
	w.run()
	sp, err := w.s.spool(w.anna)
	must(t, err)
	for i := range maxAway {
		sp.away.list = append(sp.away.list, &left{ID: fmt.Sprintf("<%d@anna>", i), Sent: w.Clock.Now()})
	}
	sp.away.open = true
	w.want("250 ", "Message-ID: <new@anna>\r\n"+encrypted(), "bob@world.example")
	w.run()
	if n := len(sp.away.list); n != maxAway || sp.away.list[0].ID != "<1@anna>" || sp.away.list[n-1].ID != "<new@anna>" {
		t.Errorf("%d mails, from %s", n, sp.away.list[0].ID)
	}
	path := sp.path(awayFile)
	b, err := vfs.ReadFile(w.fs, path)
	must(t, err)
	if len(b) == 0 || strings.Contains(string(b), "anna>") {
		t.Errorf("%d bytes are not sealed", len(b))
	}
	must(t, vfs.WriteFileAtomic(w.fs, path, []byte("damaged"), 0o600))
	w.s = New(w.s.o)
	w.want("250 ", "Message-ID: <next@anna>\r\n"+encrypted(), "bob@world.example")
	w.run()
	if all := w.carry(); len(all) != 2 {
		t.Errorf("%d letters", len(all))
	}
	w.s.Returned(w.anna.Address, []dsn.Returned{{Final: "bob@world.example", Action: dsn.Failed}}, []byte("Message-ID: <next@anna>\r\n\r\n"))
	if got := w.refused(); got != "bob@world.example  0s;" {
		t.Errorf("refused: %q", got)
	}
}
