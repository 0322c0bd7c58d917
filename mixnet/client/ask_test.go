package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

// asks runs a client that asks, in virtual time.
func asks(t *testing.T, free bool, f func(t *testing.T, m *mesh, alice *user)) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 10*time.Second)
		m.pace(20*time.Second, 10*time.Minute)
		m.set(directory.Delay, 2*time.Second)
		alice := m.user("alice", clock(), 1)
		m.serve = func(service uint8, request []byte) (uint8, []byte) {
			if service != 3 {
				return content.AnswerRefused, nil
			}
			return content.AnswerOK, append([]byte("answer to "), request...)
		}
		alice.start(free)
		f(t, m, alice)
		alice.halt()
		m.stop()
	})
}

// TestAsk: a question is answered through the network, also before mail that waits, and the
// node's own words come back.
func TestAsk(t *testing.T) {
	for _, free := range []bool{false, true} {
		asks(t, free, func(t *testing.T, m *mesh, alice *user) {
			relay := FindNode(m.cons, "relay1").ID
			if !free {
				bob := m.user("bob", clock(), 2)
				alice.write(bob, []byte(text("long", 400_000)), false)
				must(t, alice.client.Wait(t.Context(), func(s Status) bool { return s.Waiting == 1 }))
			}
			before := alice.client.Status().Sent
			status, answer, err := alice.client.Ask(t.Context(), relay, 3, []byte("who"))
			if err != nil || status != content.AnswerOK || string(answer) != "answer to who" {
				t.Fatalf("%d %q %v", status, answer, err)
			}
			status, answer, err = alice.client.Ask(t.Context(), relay, 9, nil)
			if err != nil || status != content.AnswerRefused || len(answer) != 0 {
				t.Fatalf("%d %q %v", status, answer, err)
			}
			if s := alice.client.Status(); s.Strange != 0 || !free && s.Sent == before {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestAskAgain: a question whose packet or answer gets lost is asked again with another reply
// block, some times, and no more; who asked hears of it. Late answers are nothing strange.
func TestAskAgain(t *testing.T) {
	for lost, want := range map[int]error{1: nil, askTries: errs.Unavailable} {
		asks(t, false, func(t *testing.T, m *mesh, alice *user) {
			relay := FindNode(m.cons, "relay1").ID
			n, blocks := 0, map[packet.Mark]bool{}
			m.lose = func(r packet.Result) bool {
				if c, err := packet.OpenContent(bytes.Clone(r.Payload)); r.Command == packet.Exit && err == nil && c.Kind == content.Query {
					blocks[packet.Mark(c.SURB.Name())] = true
					n++
					return n <= lost
				}
				return false
			}
			_, answer, err := alice.client.Ask(t.Context(), relay, 3, []byte("x"))
			if !errors.Is(err, want) || want == nil && err != nil || want == nil && string(answer) != "answer to x" {
				t.Errorf("%d lost: %q, %v", lost, answer, err)
			}
			if want != nil && errs.Public(err) != "no answer came through the mix network" {
				t.Errorf("%v", err)
			}
			if n != min(lost+1, askTries) || len(blocks) != n {
				t.Errorf("%d lost: asked %d times with %d blocks", lost, n, len(blocks))
			}
			alice.client.mu.Lock()
			if len(alice.client.answers) != 0 || len(alice.client.asked) != 0 {
				t.Error("something is still waited for")
			}
			alice.client.mu.Unlock()
			time.Sleep(10 * time.Minute)
			if s := alice.client.Status(); s.Strange != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestAskTwice: when two answers come, the second is dropped, and it is nothing strange.
func TestAskTwice(t *testing.T) {
	asks(t, false, func(t *testing.T, m *mesh, alice *user) {
		slow := true // the first answer is so late that it was asked again
		serve := m.serve
		m.serve = func(service uint8, request []byte) (uint8, []byte) {
			m.mu.Lock()
			wait := slow
			slow = false
			m.mu.Unlock()
			if wait {
				time.Sleep(20 * time.Minute)
			}
			return serve(service, request)
		}
		_, answer, err := alice.client.Ask(t.Context(), FindNode(m.cons, "relay1").ID, 3, []byte("x"))
		if err != nil || string(answer) != "answer to x" {
			t.Fatalf("%q %v", answer, err)
		}
		time.Sleep(30 * time.Minute)
		if s := alice.client.Status(); s.Strange != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestAskBounds: too many questions, one that is too long, one to nobody, one that is given up, and
// those that are open when the client ends: each has its error.
func TestAskBounds(t *testing.T) {
	asks(t, false, func(t *testing.T, m *mesh, alice *user) {
		relay := FindNode(m.cons, "relay1").ID
		c := alice.client
		_, _, err := c.Ask(t.Context(), relay, 3, make([]byte, content.MaxRequest+1))
		wantKind(t, err, errs.TooLarge, "the question is too long for one packet")
		_, _, err = c.Ask(t.Context(), packet.ID{9}, 3, nil)
		wantKind(t, err, errs.Unavailable, "the relay that is asked is not in the directory of the network now")
		m.serve = nil // nobody answers
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, MaxQuestions)
		for range MaxQuestions {
			go func() {
				_, _, err := c.Ask(ctx, relay, 3, nil)
				ended <- err
			}()
		}
		synctest.Wait()
		_, _, err = c.Ask(t.Context(), relay, 3, nil)
		wantKind(t, err, errs.Busy, "too many questions wait for an answer")
		cancel()
		for range MaxQuestions {
			if err := <-ended; errs.KindOf(err) != errs.Canceled {
				t.Fatalf("%v", err)
			}
		}
		go func() {
			_, _, err := c.Ask(context.Background(), relay, 3, nil)
			ended <- err
		}()
		synctest.Wait()
		alice.halt()
		alice.halt = func() {}
		wantKind(t, <-ended, errs.Unavailable, askEnded)
		_, _, err = c.Ask(t.Context(), relay, 3, nil)
		wantKind(t, err, errs.Unavailable, askEnded)
	})
}

// TestAskGivenUp: for a question that is given up while its packet is made nothing is waited for.
func TestAskGivenUp(t *testing.T) {
	asks(t, false, func(t *testing.T, m *mesh, alice *user) {
		alice.halt()
		alice.halt = func() {}
		_, err := alice.client.question(m.cons, &question{relay: FindNode(m.cons, "relay1").ID, service: 3})
		if n := len(alice.client.answers); n != 0 || err == nil || errs.KindOf(err) != errs.Canceled {
			t.Errorf("%d answers are waited for, %v", n, err)
		}
	})
}

// TestLine: a letter of one packet does not wait for a large one, not even for what of that is sent
// again.
func TestLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 20*time.Second)
		m.pace(15*time.Second, time.Hour)
		m.lose = func(r packet.Result) bool { return r.Command == packet.Deliver } // all is sent again and again
		var mu sync.Mutex
		var order []string // under mu
		alice, bob := m.user("alice", clock(), 1), m.user("bob", clock(), 2)
		alice.chosen = func(name string, packet int, _ Way) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, name)
		}
		alice.start(false)
		large := alice.write(bob, []byte(text("large", 300_000)), true)
		alice.client.Poke()
		synctest.Wait() // it counts from the moment on at which it was queued
		if one, many := alice.client.ExpectFor(1), alice.client.ExpectFor(15); one.Mean != 2*15*time.Second+80*time.Second || many.Mean < 6*time.Minute || many.Mean > 9*time.Minute {
			t.Errorf("beside a large letter one packet is said to take %v, 15 %v", one.Mean, many.Mean)
		}
		time.Sleep(20 * time.Minute) // beyond the first repetitions
		for i := range 2 {
			mu.Lock()
			from := len(order)
			mu.Unlock()
			line := alice.write(bob, []byte(fmt.Sprint("line ", i)), true)
			time.Sleep(2 * time.Minute)
			mu.Lock()
			at := slices.Index(order[from:], line)
			if at < 0 || at > 2 {
				t.Errorf("line %d left as number %d of %d", i, at, len(order)-from)
			}
			mu.Unlock()
		}
		alice.halt()
		again := 0
		for _, name := range order {
			if name == large {
				again++
			}
		}
		if p, err := alice.store.Progress(large); err != nil || again <= p.Packets {
			t.Errorf("nothing of the large one was sent again: %d packets of %d, %v", again, p.Packets, err)
		}
		m.stop()
	})
}

// TestCancel: a message that its sender gives up is not sent any more, and that is told, also while
// no client runs; one that has ended cannot be given up.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 4*time.Second)
		m.pace(10*time.Second, 10*time.Minute)
		alice, bob := m.user("alice", clock(), 1), m.user("bob", clock(), 2)
		name := alice.write(bob, []byte(text("long", 400_000)), true)
		idle := alice.write(bob, []byte("idle"), true)
		must(t, alice.store.Cancel(idle))
		state := func(name string) Progress {
			t.Helper()
			p, err := alice.store.Progress(name)
			must(t, err)
			return p
		}
		if p := state(idle); p.Result != Canceled || p.Why != "its sender gave it up" {
			t.Errorf("%+v", p)
		}
		alice.start(false)
		time.Sleep(2 * time.Minute)
		list, err := alice.client.Messages()
		must(t, err)
		if i := slices.IndexFunc(list, func(p Progress) bool { return p.Name == name }); i < 0 || list[i].Expect.Mean < time.Minute || list[i].Expect.Mean > 10*time.Minute || list[i].Sent == 0 {
			t.Errorf("%+v", list)
		}
		must(t, alice.store.Cancel(name))
		time.Sleep(time.Minute)
		sent := alice.client.Status().Sent
		time.Sleep(10 * time.Minute)
		if s := alice.client.Status(); s.Sent != sent || s.Waiting != 0 {
			t.Errorf("%d packets more were sent: %+v", s.Sent-sent, s)
		}
		for _, n := range []string{name, idle} {
			if p := state(n); p.Result != Canceled || p.Ended.IsZero() {
				t.Errorf("%+v", p)
			}
			wantKind(t, alice.store.Cancel(n), errs.NotFound, "the message does not wait any more: canceled")
		}
		wantKind(t, alice.store.Cancel("../x"), errs.NotFound, "no message has this name")
		alice.halt()
		alice.open()
		names, err := alice.store.names(outDir, "")
		must(t, err)
		if len(names) != 2 { // what became of them
			t.Errorf("%q", names)
		}
		m.stop()
	})
}

// TestMaxBytes: what a proxy says it takes.
func TestMaxBytes(t *testing.T) {
	low, full := directory.ProfileLow(), directory.ProfileFull()
	for _, v := range []struct {
		p    directory.Parameters
		in   time.Duration
		want int64
	}{{low, 24 * time.Hour, 10_000_000}, {full, 24 * time.Hour, 33_000_000}, {low, time.Hour, 430_000}, {low, 0, 0}} {
		if got := MaxBytes(v.p, v.in); got != v.want {
			t.Errorf("%v in %v, want %d", got, v.in, v.want)
		}
	}
}
