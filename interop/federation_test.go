package interop

import (
	"fmt"
	"strings"
	"testing"
	"time"

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
			eventually(t, 30*time.Second, check(b, ub[0]))
			eventually(t, 30*time.Second, check(b, ub[1]))
			eventually(t, 30*time.Second, check(a, ua[0]))
			for _, s := range []*server{a, b} {
				s.emptyQueue(t)
			}
		})
	}
}

// emptyQueue waits until nothing is left to be delivered.
func (s *server) emptyQueue(t testing.TB) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		r := command(t, nil, binary(t), "status", "--json", "--dir", s.dir)
		if !strings.Contains(r.out, `"queue":{"mails":0,`) {
			return fmt.Errorf("the queue is not empty: %s", r.out)
		}
		return nil
	})
}
