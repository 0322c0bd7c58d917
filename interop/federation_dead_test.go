package interop

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.email/interop/mailclient"
)

// queued is a line of `postern queue list --json`.
type queued struct {
	ID         string
	Recipients []struct {
		To, Why string
		Sending bool
		Tries   int
	}
}

// queue gives what waits in a relay.
func (s *server) queue(t testing.TB) (list []queued) {
	t.Helper()
	r := command(t, nil, binary(t), "queue", "list", "--json", "--dir", s.dir)
	r.want(t, 0)
	for line := range strings.Lines(r.out) {
		var q queued
		if err := json.Unmarshal([]byte(line), &q); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		list = append(list, q)
	}
	return list
}

// TestDeadDestinations: 200 domains take no mail, most of them by hanging, in every state of SMTP and
// HTTPS. While all of them are being tried, mail to a domain that lives goes out at once, also for
// one recipient of many of a mail. Nothing of theirs is lost.
func TestDeadDestinations(t *testing.T) { deadDestinations(t, 200, 500) }

// TestMoreDeadThanConnections: it is the same when they are more than a relay has connections, once each
// of them was found to be slow.
func TestMoreDeadThanConnections(t *testing.T) {
	if !long() {
		t.Skip("POSTERN_LONG=1: a host counts as slow after 15 s")
	}
	deadDestinations(t, 200, 60)
}

func deadDestinations(t *testing.T, n, connections int) {
	const live = 60
	w := newWorld(t)
	a, b := w.relay(t, "a.example", append(noSendLimit, fmt.Sprintf("delivery.connections=%d", connections))...), w.relay(t, "b.example")
	me, you := a.created(t, 1)[0], b.created(t, 1)[0]
	d := w.dead(t, n)
	maker := mailclient.NewMaker(5)
	out := a.mustSubmit(t, me)
	send := func(to ...string) {
		t.Helper()
		if err := out.Send(me.addr, to, maker.Mail(me.addr, 10_000)); err != nil {
			t.Fatal(err)
		}
	}
	for part := range slices.Chunk(d.domains, 50) {
		var to []string
		for _, domain := range part {
			to = append(to, "x@"+domain)
		}
		send(to...)
	}
	state := func() (all, sending, failed int) {
		for _, q := range a.queue(t) {
			for _, r := range q.Recipients {
				all++
				if r.Sending {
					sending++
				}
				if r.Why != "" {
					failed++
				}
			}
		}
		return all, sending, failed
	}
	hanging := min(d.hanging, connections/2) // half of the connections are for those that hang
	eventually(t, 5*time.Minute, func() error {
		all, sending, failed := state()
		if all != n || sending < hanging || sending+failed < min(n, connections) {
			return fmt.Errorf("%d of %d wait, %d are being tried, want %d; %d could not be reached", all, n, sending, hanging, failed)
		}
		if missed := d.missed(); len(missed) > 0 {
			return fmt.Errorf("not all hang where they should: %q", missed)
		}
		return nil
	})

	in := b.mustLogin(t, you)
	if _, err := in.Select("INBOX"); err != nil {
		t.Fatal(err)
	}
	times := make([]time.Duration, live)
	for i := range times {
		if err := in.Idle(); err != nil {
			t.Fatal(err)
		}
		to := []string{you.addr}
		if i%3 == 2 { // one of many
			to = []string{"y@" + d.domains[i], you.addr, "y@" + d.domains[i+100]}
		}
		began := time.Now()
		send(to...)
		// Longer than any pause after a failure, shorter than any time that is given to a
		// host which hangs: who waits for one of those does not come in time.
		if got, err := in.Wait(30 * time.Second); err != nil || got != fmt.Sprintf("* %d EXISTS", i+1) {
			t.Fatalf("mail %d to a domain that lives, beside %d dead ones: %q, %v", i+1, n, got, err)
		}
		times[i] = time.Since(began)
		if err := in.Done(nil); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(times)
	t.Logf("%d mails to a domain that lives beside %d that do not: p50 %v, p99 %v", live, n, times[live/2].Round(time.Millisecond), times[live*99/100].Round(time.Millisecond))
	all, sending, _ := state()
	if sending < hanging {
		t.Errorf("%d hosts hang by now, want %d: the test proves less than it says", sending, hanging)
	}
	if want := n + 2*live/3; all != want {
		t.Errorf("%d recipients wait, want %d", all, want)
	}
	if got := b.inbox(t, you); len(got) != live {
		t.Errorf("%d mails arrived, want %d", len(got), live)
	}
}
