package client

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// observed is what an observer of a client's line sees, and what went on behind it.
type observed struct {
	lines     []string
	sent      int  // packets of mail that the relay took
	documents int  // that the client fetched
	answers   int  // to its questions
	letters   int  // that came
	again     bool // the line was there at the end
}

// observe watches a client for a quarter of an hour, in which it is stopped and started, and its
// relay is, and in which there is all that a client does, or nothing.
func observe(t *testing.T, busy bool) (seen observed) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 5*time.Second)
		m.serve = func(uint8, []byte) (uint8, []byte) { return 0, []byte("answer") }
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		alice, bob := m.user("alice", clock(), 1), m.user("bob", clock(), 2)
		begin := func(run uint64) {
			alice.clock = rng(100 + run)
			alice.open()
			alice.start(false)
		}
		begin(1)
		if busy {
			bob.start(false)
		}
		results := make(chan func(), 100) // each counts something
		work := func(minute int) {
			if !busy {
				return
			}
			alice.write(bob, []byte(text(fmt.Sprint("letter ", minute), 60_000)), minute%3 != 0)
			bob.write(alice, []byte(text(fmt.Sprint("back ", minute), 50_000)), minute%2 == 1)
			c := alice.client
			if minute%3 == 1 { // what a new consensus or certificate takes
				m.wg.Go(func() {
					if b, err := c.Fetch(ctx, []byte("a document")); err == nil && len(b) == len(document) {
						results <- func() { seen.documents++ }
					}
				})
			}
			if minute%4 == 1 {
				m.wg.Go(func() {
					if _, answer, err := c.Ask(ctx, FindNode(m.cons, "relay1").ID, 1, []byte("who")); err == nil && string(answer) == "answer" {
						results <- func() { seen.answers++ }
					}
				})
			}
		}
		for minute := range 15 {
			work(minute)
			switch minute {
			case 4: // the client restarts, not on a tick of anybody
				time.Sleep(31_300 * time.Millisecond)
				seen.sent += alice.client.Status().Sent
				alice.halt()
				time.Sleep(7 * time.Second)
				begin(2)
				time.Sleep(21_700 * time.Millisecond)
			case 9: // the relay does
				time.Sleep(15_600 * time.Millisecond)
				m.end()
				time.Sleep(11 * time.Second)
				m.begin()
				time.Sleep(33_400 * time.Millisecond)
			default:
				time.Sleep(time.Minute)
			}
		}
		time.Sleep(1234 * time.Millisecond) // not on a tick
		for _, l := range m.wire.seen() {
			if strings.Contains(l, "alice") {
				seen.lines = append(seen.lines, l[strings.Index(l, "at "):]+" "+l[:strings.Index(l, "alice")])
			}
		}
		slices.Sort(seen.lines) // by time
		s := alice.client.Status()
		seen.sent += s.Sent
		seen.again = s.Link.Connected
		cancel()
		alice.halt()
		if busy {
			bob.halt()
		}
		m.stop()
		close(results)
		for count := range results {
			count()
		}
		seen.letters = len(alice.fetch())
	})
	return seen
}

// TestObserver: with the same seed, times and sizes of all that crosses the line of a client
// are the same with and without mail, documents and questions, in both directions, also where the
// line begins anew.
func TestObserver(t *testing.T) {
	idle, busy := observe(t, false), observe(t, true)
	if idle.sent != 0 || idle.documents != 0 || idle.answers != 0 || idle.letters != 0 || !idle.again {
		t.Errorf("without mail: %+v", idle)
	}
	if busy.sent < 15 || busy.documents < 3 || busy.answers < 2 || busy.letters < 2 || !busy.again {
		t.Errorf("with mail: %d packets, %d documents, %d answers, %d letters, connected: %v", busy.sent, busy.documents, busy.answers, busy.letters, busy.again)
	}
	if len(idle.lines) < 250 {
		t.Fatalf("%d lines", len(idle.lines))
	}
	for i := range min(len(idle.lines), len(busy.lines)) {
		if idle.lines[i] != busy.lines[i] {
			t.Fatalf("line %d: %q without mail, %q with", i, idle.lines[i], busy.lines[i])
		}
	}
	if len(idle.lines) != len(busy.lines) {
		t.Fatalf("%d and %d lines", len(idle.lines), len(busy.lines))
	}
}
