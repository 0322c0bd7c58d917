package node

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"postern.email/kit/vfs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/packet"
)

// services note what they are asked.
type services struct {
	mu     sync.Mutex
	asked  []string
	answer func(ctx context.Context, service uint8, request []byte) (uint8, []byte)
}

func (s *services) Serve(ctx context.Context, service uint8, request []byte) (uint8, []byte) {
	s.mu.Lock()
	s.asked = append(s.asked, fmt.Sprintf("%d %s", service, request))
	s.mu.Unlock()
	if s.answer != nil {
		return s.answer(ctx, service, request)
	}
	return content.AnswerOK, []byte("known")
}

func (s *services) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// asker has blocks for answers that come to a mailbox of relay0.
type asker struct {
	t    testing.TB
	w    *world
	seed packet.Seed
}

var askerBox = packet.ID{77}

func (a *asker) surb() *packet.SURB {
	s, _ := a.w.surb(a.w.members["relay0"], askerBox, &a.seed)
	return s
}

// answers are what has come, opened, in their order.
func (a *asker) answers() (all []packet.Content) {
	a.t.Helper()
	for _, r := range a.w.members["relay0"].boxes.list() {
		if r.Mailbox != askerBox || !r.Reply {
			continue
		}
		c, err := packet.OpenReply(&a.seed, r.Mark, bytes.Clone(r.Payload))
		must(a.t, err)
		all = append(all, c)
	}
	return all
}

// acks are the bitmaps that have come.
func (a *asker) acks() (all []uint8) {
	a.t.Helper()
	for _, c := range a.answers() {
		bits, err := content.ParseAck(c)
		must(a.t, err)
		all = append(all, bits)
	}
	return all
}

// fragment makes the unit of one packet of a window.
func (a *asker) fragment(kind uint8, place content.Window, surb *packet.SURB) []byte {
	a.t.Helper()
	head, err := content.AppendWindow(nil, place)
	must(a.t, err)
	d := packet.Dest{Command: packet.Deliver, Mailbox: packet.ID{1}}
	if kind == content.Mail {
		d = packet.Dest{Command: packet.Exit}
	}
	w := a.w
	return w.build(w.route(w.members["relay0"], w.members["relay1"], time.Second), d,
		packet.Content{Kind: kind | content.Windowed, SURB: surb, Body: append(head, byte(place.Index))})
}

// post gives a unit to the relay and does not wait for its answer, which comes at the pace of the
// relay's clock.
func (a *asker) post(c *client, u []byte) {
	a.t.Helper()
	must(a.t, c.line.Post(u, func(error) {}))
}

// waitTime is how long a window waits for what is missing.
func (w *world) waitTime() time.Duration {
	return content.WindowWait * w.members["relay1"].Node.view.Load().milliseconds("delay")
}

func wantAcks(t *testing.T, what string, got []uint8, want ...uint8) {
	t.Helper()
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%s: acknowledgements %08b, want %08b", what, got, want)
	}
}

// TestWindow: a window is acknowledged once, as soon as all of it is durable, be it for a mailbox
// or an exit, in whatever order it comes; single packets have their own acknowledgements.
func TestWindow(t *testing.T) {
	for _, kind := range []uint8{content.Letter, content.Mail} {
		bubble(t, func(t *testing.T, w *world, alice *client) {
			a := &asker{t: t, w: w, seed: packet.Seed{5}}
			relay1 := w.members["relay1"]
			for _, i := range []int{2, 0, 1, 3} { // the block comes in the third
				var s *packet.SURB
				if i == 1 {
					s = a.surb()
				}
				a.post(alice, a.fragment(kind, content.Window{ID: [16]byte{1}, Index: i, Count: 4}, s))
				wait(10 * time.Second)
				if i == 1 {
					if st := relay1.Status(); st.Windows != 1 || st.Log.Waiting != 1 || len(a.acks()) != 0 {
						t.Errorf("before the last: %d windows wait, %d packets, %d acknowledgements", st.Windows, st.Log.Waiting, len(a.acks()))
					}
				}
			}
			wait(2 * time.Minute)
			wantAcks(t, "a whole window", a.acks(), 0b1111)
			if st := relay1.Status(); st.Windows != 0 || st.Log.Waiting != 0 {
				t.Errorf("%d windows, %d packets wait", st.Windows, st.Log.Waiting)
			}
			single := packet.Content{Kind: kind, SURB: a.surb(), Body: []byte("single")}
			d := packet.Dest{Command: packet.Deliver, Mailbox: packet.ID{1}}
			if kind == content.Mail {
				d = packet.Dest{Command: packet.Exit}
			}
			a.post(alice, w.build(w.route(w.members["relay0"], relay1, time.Second), d, single))
			wait(2 * time.Minute)
			wantAcks(t, "and a single packet", a.acks(), 0, 0b1111)
			if kind == content.Mail {
				var bodies []string
				for _, c := range relay1.exits.list() {
					if c.Kind != content.Mail {
						t.Errorf("kind %d came out", c.Kind)
					}
					bodies = append(bodies, string(c.Body))
				}
				slices.Sort(bodies)
				if !slices.Equal(bodies, []string{"\x00", "\x01", "\x02", "\x03", "single"}) {
					t.Errorf("%q came out", bodies)
				}
			} else if got := relay1.boxes.list(); len(got) != 5 {
				t.Errorf("%d packets in the box", len(got))
			}
		})
	}
}

// TestWindowHole: while something is missing the answer waits, and then tells what is there; what
// comes again fills the hole.
func TestWindowHole(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, alice *client) {
		a := &asker{t: t, w: w, seed: packet.Seed{5}}
		send := func(i int, s *packet.SURB) {
			a.post(alice, a.fragment(content.Letter, content.Window{ID: [16]byte{1}, Index: i, Count: 3}, s))
		}
		send(0, nil)
		send(2, a.surb())
		wait(w.waitTime())
		wantAcks(t, "while the rest may come", a.acks())
		wait(2 * time.Minute)
		wantAcks(t, "with a hole", a.acks(), 0b101)
		send(1, a.surb())
		wait(2 * time.Minute)
		wantAcks(t, "after the lost one was sent again", a.acks(), 0b101, 0b111)
		// The answer itself may get lost: another block is answered at once.
		send(0, a.surb())
		wait(2 * time.Minute)
		wantAcks(t, "asked once more", a.acks(), 0b101, 0b111, 0b111)
	})
}

// TestWindowsApart: windows of other mailboxes, with other numbers of packets, or of exits, have
// nothing to do with one another, whatever ID they say they have.
func TestWindowsApart(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, alice *client) {
		a := &asker{t: t, w: w, seed: packet.Seed{5}}
		id := [16]byte{1}
		a.post(alice, a.fragment(content.Letter, content.Window{ID: id, Index: 0, Count: 2}, a.surb()))
		a.post(alice, a.fragment(content.Letter, content.Window{ID: id, Index: 1, Count: 3}, nil))
		a.post(alice, a.fragment(content.Mail, content.Window{ID: id, Index: 1, Count: 2}, nil))
		wait(w.waitTime())
		if n := w.members["relay1"].Status().Windows; n != 1 {
			t.Errorf("%d windows wait", n)
		}
		wait(2 * time.Minute)
		wantAcks(t, "apart", a.acks(), 0b1)
	})
}

// TestHostileWindows: a second block in a window is answered on its own, a place that does not
// exist never, and what is remembered stays within its bounds.
func TestHostileWindows(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, alice *client) {
		a := &asker{t: t, w: w, seed: packet.Seed{5}}
		relay1 := w.members["relay1"]
		for range 3 {
			a.post(alice, a.fragment(content.Letter, content.Window{ID: [16]byte{1}, Index: 0, Count: 2}, a.surb()))
			wait(10 * time.Second)
		}
		if n := relay1.Status().Windows; n != 1 {
			t.Errorf("%d windows wait", n)
		}
		wait(w.waitTime() + 2*time.Minute)
		wantAcks(t, "three blocks", a.acks(), 1, 1, 1)

		u := w.build(w.route(w.members["relay0"], relay1, time.Second), packet.Dest{Command: packet.Deliver, Mailbox: packet.ID{1}},
			packet.Content{Kind: content.Letter | content.Windowed, SURB: a.surb(), Body: make([]byte, content.WindowHead)})
		a.post(alice, u)
		u = w.build(w.route(w.members["relay0"], relay1, time.Second), packet.Dest{Command: packet.Exit},
			packet.Content{Kind: content.Mbox | content.Windowed, SURB: a.surb(), Body: make([]byte, content.WindowHead)})
		a.post(alice, u)
		wait(w.waitTime() + 2*time.Minute)
		wantAcks(t, "places that do not exist", a.acks(), 1, 1, 1)
		if relay1.stats.get("Dropped reply block: window") != 1 || relay1.stats.get("Dropped exit: window") != 1 {
			t.Errorf("%v", relay1.stats.m)
		}
		if got := len(relay1.boxes.list()); got != 4 {
			t.Errorf("%d packets in the box: what a payload holds makes no difference to it", got)
		}
		if st := relay1.Status(); st.Windows != 0 || st.Log.Waiting != 0 {
			t.Errorf("%d windows, %d packets wait", st.Windows, st.Log.Waiting)
		}
	})
}

// TestWindowBounds: of thousands of windows a bounded number is remembered, the latest, and a
// bounded number waits.
func TestWindowBounds(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, alice *client) {
		relay1 := w.members["relay1"]
		relay1.boxes.setFail(func(Arrival) error { return fmt.Errorf("no") })
		alice.send(t, w.letter(w.members["relay0"], relay1, packet.ID{1}, "a packet to speak of"))
		wait(time.Minute)
		e := relay1.Node.ends
		e.boxes.mu.Lock()
		p := e.boxes.off[0]
		e.boxes.mu.Unlock()
		s := e.windows
		if s.mostOpen != windowsOpen || s.mostKept != windowsKept {
			t.Error("other bounds than those of the page")
		}
		s.mostOpen, s.mostKept = 100, 1000
		ids := 0
		note := func(surb *packet.SURB) []answer {
			ids++
			return s.note(packet.ID{1}, content.Window{ID: [16]byte{byte(ids), byte(ids >> 8), byte(ids >> 16)}, Index: 1, Count: 2}, surb, p)
		}
		size := func() (all, kept, open int) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(s.all), s.kept.Len(), s.open.Len()
		}
		block := &packet.SURB{}
		for range s.mostOpen {
			if got := note(block); len(got) != 0 {
				t.Fatal("answered before its time")
			}
		}
		if got := note(block); len(got) != 1 || got[0].content.Body[0] != 0b10 {
			t.Fatalf("beyond the bound: %d answers", len(got))
		}
		for range s.mostKept + 10 {
			if s.note(packet.ID{2}, content.Window{ID: [16]byte{byte(ids), byte(ids >> 8), byte(ids >> 16)}, Count: 2}, block, p) == nil {
				t.Fatal("one more waits")
			}
			ids++
		}
		if all, kept, open := size(); all != kept+open || kept != s.mostKept || open != s.mostOpen {
			t.Errorf("%d windows: %d and %d", all, kept, open)
		}
		if early, _ := s.due(time.Now()); len(early) != 0 {
			t.Errorf("%d answers before their time", len(early))
		}
		if late, _ := s.due(time.Now().Add(w.waitTime())); len(late) != s.mostOpen {
			t.Errorf("%d answers after the wait", len(late))
		}
		s.mu.Lock()
		s.forget(time.Now().Add(windowAge))
		left := len(s.all) + s.kept.Len() + s.open.Len()
		s.mu.Unlock()
		if left != 0 {
			t.Errorf("%d windows a day later", left)
		}
		relay1.boxes.setFail(nil)
	})
}

// TestWindowCrash: the last relay crashes while a window waits. What is durable stays so, once,
// and the sender is answered: after the wait, with what came since.
func TestWindowCrash(t *testing.T) {
	for _, mode := range []vfs.Unsynced{vfs.Dropped, vfs.Torn} {
		for _, kind := range []uint8{content.Letter, content.Mail} {
			bubble(t, func(t *testing.T, w *world, alice *client) {
				a := &asker{t: t, w: w, seed: packet.Seed{5}}
				relay1 := w.members["relay1"]
				send := func(i int, s *packet.SURB) {
					a.post(alice, a.fragment(kind, content.Window{ID: [16]byte{1}, Index: i, Count: 3}, s))
				}
				send(0, nil)
				send(1, a.surb())
				wait(10 * time.Second)
				relay1.crash(mode, 1)
				relay1.start()
				wait(10 * time.Second)
				if n := relay1.Status().Windows; n != 1 {
					t.Errorf("%d windows wait after the crash", n)
				}
				send(2, nil)
				wait(w.waitTime() + 2*time.Minute)
				wantAcks(t, "after a crash", a.acks(), 0b110)
				send(0, a.surb())
				wait(2 * time.Minute)
				wantAcks(t, "sent again", a.acks(), 0b110, 0b111)
				if kind == content.Letter {
					if got := len(relay1.boxes.list()); got != 4 { // the fourth is another packet with the same fragment
						t.Errorf("%d packets in the box", got)
					}
				}
				if st := relay1.Status(); st.Windows != 0 || st.Log.Waiting != 0 {
					t.Errorf("%d windows, %d packets wait", st.Windows, st.Log.Waiting)
				}
			})
		}
	}
}

// TestBoxBeforeWindow: a packet is in the box at the moment at which it would be there without a
// window, with another window or with a payload that does not open.
func TestBoxBeforeWindow(t *testing.T) {
	var times [][]time.Duration
	for _, what := range []string{"none", "first", "last", "wrong", "broken"} {
		bubble(t, func(t *testing.T, w *world, alice *client) {
			a := &asker{t: t, w: w, seed: packet.Seed{5}}
			relay1 := w.members["relay1"]
			began := time.Now()
			for i := range 3 {
				c := packet.Content{Kind: content.Letter, SURB: a.surb(), Body: make([]byte, 500)}
				place := content.Window{ID: [16]byte{1}, Index: i, Count: 3}
				switch what {
				case "none", "broken":
				case "wrong":
					c.Kind |= content.Windowed
				default:
					head, err := content.AppendWindow(nil, place)
					must(t, err)
					c.Kind |= content.Windowed
					c.Body = append(head, c.Body[len(head):]...)
					if (what == "first") != (i == 0) {
						c.SURB = nil
					}
				}
				u := w.build(w.route(w.members["relay0"], relay1, time.Second), packet.Dest{Command: packet.Deliver, Mailbox: packet.ID{1}}, c)
				if what == "broken" {
					u[packet.Size-packet.PayloadLen+9] ^= 1
				}
				a.post(alice, u)
				wait(20 * time.Second)
			}
			wait(10 * time.Minute)
			var at []time.Duration
			for _, b := range relay1.boxes.times() {
				at = append(at, b.Sub(began))
			}
			times = append(times, at)
		})
	}
	for _, at := range times {
		if len(at) != 3 || !slices.Equal(at, times[0]) {
			t.Errorf("in the box after %v, and %v", at, times[0])
		}
	}
}

// TestWindowUnanswered: a window of an exit whose answer finds no room in the log when its last packet
// comes is answered as soon as there is room.
func TestWindowUnanswered(t *testing.T) {
	var faults *vfs.Faults
	bubble(t, func(t *testing.T, w *world, alice *client) {
		a := &asker{t: t, w: w, seed: packet.Seed{5}}
		relay1 := w.members["relay1"]
		send := func(i int, s *packet.SURB) {
			a.post(alice, a.fragment(content.Mail, content.Window{ID: [16]byte{1}, Index: i, Count: 2}, s))
			wait(time.Minute)
		}
		send(0, a.surb())
		relay1.exits.mu.Lock()
		relay1.exits.then = func() { faults.SetSpace(0) }
		relay1.exits.mu.Unlock()
		send(1, nil)
		if s := relay1.Status(); s.Windows != 0 || s.Exits != 1 || len(a.acks()) != 0 {
			t.Errorf("while the disk is full: %d windows, %d packets wait for the exit, %d acknowledgements", s.Windows, s.Exits, len(a.acks()))
		}
		relay1.exits.mu.Lock()
		relay1.exits.then = nil
		relay1.exits.mu.Unlock()
		faults.SetSpace(-1)
		wait(time.Hour)
		wantAcks(t, "afterwards", a.acks(), 0b11)
		if s := relay1.Status(); s.Windows != 0 || s.Exits != 0 || s.Log.Waiting != 0 {
			t.Errorf("%d windows, %d packets wait for the exit, %d in the log", s.Windows, s.Exits, s.Log.Waiting)
		}
	}, func(w *world) {
		m := w.members["relay1"]
		faults = vfs.NewFaults(m.disk)
		m.fs = faults
	})
}
