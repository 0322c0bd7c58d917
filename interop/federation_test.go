package interop

import (
	"fmt"
	"strings"
	"testing"

	"postern.email/interop/mailclient"
)

// TestTwoRelays: mail goes from one relay to another and back, over HTTPS and by SMTP, for
// one and for several recipients, once each and unaltered, and nothing stays in the queue.
func TestTwoRelays(t *testing.T) {
	for _, way := range []struct{ name, set string }{{"HTTPS", "delivery.https=true"}, {"SMTP", "listen.smtp="}} {
		t.Run(way.name, func(t *testing.T) {
			w := newWorld(t)
			var sets []string
			if way.name == "SMTP" {
				sets = []string{"delivery.routes=* https=off smtp=" + worldSMTP}
			}
			a, b := w.relay(t, "a.example", append(sets, noSendLimit...)...), w.relay(t, "b.example", append(sets, noSendLimit...)...)
			ua, ub := a.created(t, 2), b.created(t, 2)
			maker := mailclient.NewMaker(1)
			want := map[string]map[mailclient.Hash]int{}
			send := func(s *server, from user, to ...user) {
				t.Helper()
				raw := maker.Mail(from.addr, 4000)
				var rcpts []string
				for _, u := range to {
					rcpts = append(rcpts, u.addr)
					if want[u.addr] == nil {
						want[u.addr] = map[mailclient.Hash]int{}
					}
					want[u.addr][mailclient.BodyHash(raw)]++
				}
				if err := s.mustSubmit(t, from).Send(from.addr, rcpts, raw); err != nil {
					t.Fatal(err)
				}
			}
			for range 10 {
				send(a, ua[0], ub[0])
				send(b, ub[0], ua[0])
				send(a, ua[1], ub[0], ub[1], ua[0])
			}
			check := func(s *server, u user) func() error {
				return func() error {
					got, err := s.tryInbox(u)
					if err != nil {
						return err
					}
					if fmt.Sprint(got) != fmt.Sprint(want[u.addr]) {
						return fmt.Errorf("%s has %d mails, want %d", u.addr, len(got), len(want[u.addr]))
					}
					return nil
				}
			}
			eventually(t, patience, check(b, ub[0]))
			eventually(t, patience, check(b, ub[1]))
			eventually(t, patience, check(a, ua[0]))
			for _, s := range []*server{a, b} {
				s.emptyQueue(t)
			}
		})
	}
}

// emptyQueue waits until nothing is left to be delivered.
func (s *server) emptyQueue(t testing.TB) {
	t.Helper()
	eventually(t, patience, func() error {
		r := command(t, nil, binary(t), "status", "--json", "--dir", s.dir)
		if !strings.Contains(r.out, `"queue":{"mails":0,`) {
			return fmt.Errorf("the queue is not empty: %s", r.out)
		}
		return nil
	})
}

// TestReports: who asked for it is told by the other relay that a mail was delivered: its report is
// signed and passes our own door. Who wrote to nobody, or to a host that is gone, is told by the own
// relay.
func TestReports(t *testing.T) {
	w := newWorld(t)
	bySMTP := "delivery.routes=* https=off smtp=" + worldSMTP // /mxdeliv has no word for NOTIFY
	a, b := w.relay(t, "a.example", bySMTP), w.relay(t, "b.example", bySMTP)
	me, you := a.created(t, 1)[0], b.created(t, 1)[0]
	maker := mailclient.NewMaker(2)
	send := func(to, notify string) {
		t.Helper()
		c := a.mustSubmit(t, me)
		for _, line := range []string{"MAIL FROM:<" + me.addr + "> ENVID=QQ314159", "RCPT TO:<" + to + ">" + notify, "DATA"} {
			if r, err := c.Cmd(line); err != nil || r.Code >= 400 {
				t.Fatalf("%s: %v %v", line, r, err)
			}
		}
		if err := c.Data(maker.Mail(me.addr, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	send(you.addr, " NOTIFY=SUCCESS ORCPT=rfc822;you@old.example")
	send("nobody@b.example", "")
	send("x@gone.example", "")
	send("nobody@b.example", " NOTIFY=NEVER")
	var got []string
	eventually(t, patience, func() error {
		if got = a.mails(t, me); len(got) != 3 {
			return fmt.Errorf("%d reports", len(got))
		}
		return nil
	})
	a.emptyQueue(t)
	for _, want := range [][]string{
		{"From: Mail delivery <mailer-daemon@b.example>", "Action: delivered", "Original-Recipient: rfc822; you@old.example", "Original-Envelope-Id: QQ314159", "Final-Recipient: rfc822; " + you.addr},
		{"From: Mail delivery <mailer-daemon@a.example>", "Action: failed", "Status: 5.1.1", "Remote-MTA: dns; b.example", "Final-Recipient: rfc822; nobody@b.example"},
		{"From: Mail delivery <mailer-daemon@a.example>", "Action: failed", "Domain gone.example does not exist", "Final-Recipient: rfc822; x@gone.example"},
	} {
		found := false
		for _, m := range got {
			all := strings.HasPrefix(m, "Return-Path: <>\r\n") && strings.Contains(m, "report-type=delivery-status")
			for _, x := range want {
				all = all && strings.Contains(strings.ReplaceAll(m, "\r\n ", " "), x)
			}
			found = found || all
		}
		if !found {
			t.Errorf("no report with %q in\n%s", want, strings.Join(got, "\n-----\n"))
		}
	}
}
