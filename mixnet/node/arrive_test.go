package node

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
)

// wait lets the network work for a while.
func wait(d time.Duration) { time.Sleep(d) }

// TestDeliver: a packet goes through relay, three mixes and relay into the box of its mailbox,
// after the delays that it asks for; when nobody has more to do, no log holds anything.
func TestDeliver(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, alice *client) {
		relay0, relay1 := w.members["relay0"], w.members["relay1"]
		box := packet.ID{7}
		began := time.Now()
		taken := make(chan error, 1)
		must(t, alice.line.Post(w.letter(relay0, relay1, box, "hello"), func(err error) { taken <- err }))
		<-relay1.boxes.come
		if d := time.Since(began); d < 4*time.Second || d > 5*time.Second {
			t.Errorf("it took %v", d)
		}
		list := relay1.boxes.list()
		if len(list) != 1 || list[0].Mailbox != box || list[0].Reply || list[0].Mark != (packet.Mark{}) || texts(t, list)["hello"] != 1 {
			t.Errorf("%d packets arrived, %v", len(list), texts(t, list))
		}
		must(t, <-taken)
		wait(time.Minute)
		for name, m := range w.members {
			if s := m.Status(); s.Log.Waiting+s.Log.Marks != 0 || s.Boxes != 0 || s.Health != nil || !s.Listed || s.Epoch == 0 {
				t.Errorf("%s: %+v", name, s)
			}
		}
		if got := w.layer(2).stats.get("SuccessfulRelay " + w.layer(3).name); got != 1 {
			t.Errorf("layer 2 relayed %d packets", got)
		}
	})
}

// surb makes a reply block for a mailbox of a relay, over all mixes.
func (w *world) surb(to *member, mailbox packet.ID, seed *packet.Seed) (*packet.SURB, packet.Mark) {
	w.t.Helper()
	r := w.route(to, to, time.Second)
	s, mark, err := packet.NewSURB(r.Hops[1:], mailbox, seed, time.Now().Add(24*time.Hour), rnd)
	must(w.t, err)
	return s, mark
}

// TestAcknowledge: a packet with a reply block is acknowledged when it is in the box, and not
// when the box is full or the mailbox unknown; a broken payload is kept like any other, without
// an acknowledgement.
func TestAcknowledge(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, alice *client) {
		relay0, relay1 := w.members["relay0"], w.members["relay1"]
		relay1.boxes.setFail(func(a Arrival) error {
			switch a.Mailbox {
			case packet.ID{1}:
				return errs.NotFound
			case packet.ID{2}:
				return errs.Full
			case packet.ID{3}:
				return errs.Denied
			}
			return nil
		})
		seed := packet.Seed{5}
		marks := map[packet.Mark]byte{}
		for box := byte(1); box <= 5; box++ {
			s, mark := w.surb(relay0, packet.ID{77}, &seed)
			marks[mark] = box
			u := w.build(w.route(relay0, relay1, time.Second), packet.Dest{Command: packet.Deliver, Mailbox: packet.ID{box}},
				packet.Content{Kind: content.Plain, SURB: s, Body: []byte{box}})
			if box == 5 {
				u[packet.Size-packet.PayloadLen+9] ^= 1
			}
			alice.send(t, u)
		}
		wait(10 * time.Minute)
		if got := texts(t, relay1.boxes.list()); got["\x04"] != 1 || got["broken"] != 1 || len(got) != 2 {
			t.Errorf("%v", got)
		}
		list := relay0.boxes.list()
		if len(list) != 1 {
			t.Fatalf("%d acknowledgements", len(list))
		}
		a := list[0]
		c, err := packet.OpenReply(&seed, a.Mark, a.Payload)
		if err != nil || !a.Reply || a.Mailbox != (packet.ID{77}) || marks[a.Mark] != 4 || c.Kind != content.Ack || len(c.Body) > content.MaxAck {
			t.Errorf("%v, %+v, of packet %d", err, c, marks[a.Mark])
		}
		for why, want := range map[string]int{"unknown": 1, "full": 1, "denied": 1} {
			if got := relay1.stats.get("UnretriableDelivery " + why); got != want {
				t.Errorf("%s: %d", why, got)
			}
		}
	})
}

// TestBoxFails: while a box cannot keep anything, what is for it waits; each packet is in the
// box once when it can, and acknowledged.
func TestBoxFails(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, alice *client) {
		relay0, relay1 := w.members["relay0"], w.members["relay1"]
		relay1.boxes.setFail(func(Arrival) error { return errs.E("test", errs.NoSpace, "", errors.New("full")) })
		for _, text := range []string{"one", "two", "three"} {
			alice.send(t, w.letter(relay0, relay1, packet.ID{7}, text))
		}
		wait(time.Minute)
		if s := relay1.Status(); s.Boxes != 3 || s.BoxError == nil || s.Log.Waiting != 3 {
			t.Errorf("%+v", s)
		}
		relay1.boxes.setFail(nil)
		wait(10 * time.Minute)
		if got := texts(t, relay1.boxes.list()); got["one"] != 1 || got["two"] != 1 || got["three"] != 1 {
			t.Errorf("%v", got)
		}
		if s := relay1.Status(); s.Boxes != 0 || s.BoxError != nil || s.Log.Waiting != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestOneFails: a packet that its box does not take does not keep the others waiting.
func TestOneFails(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, alice *client) {
		relay0, relay1 := w.members["relay0"], w.members["relay1"]
		relay1.boxes.setFail(func(a Arrival) error {
			if a.Mailbox == (packet.ID{9}) {
				return errs.Internal
			}
			return nil
		})
		for range 3 {
			alice.send(t, w.letter(relay0, relay1, packet.ID{9}, "stuck"))
			wait(10 * time.Minute) // the pauses have become long
		}
		sent := make([]time.Time, 5)
		for i := range sent {
			sent[i] = time.Now()
			must(t, alice.line.Post(w.letter(relay0, relay1, packet.ID{1}, "x"), func(error) {}))
			wait(3 * time.Minute)
		}
		times := relay1.boxes.times()
		if len(times) != len(sent) {
			t.Fatalf("%d arrived", len(times))
		}
		for i, at := range times[1:] {
			if d := at.Sub(sent[i+1]); d > 5*time.Second {
				t.Errorf("it took %v", d)
			}
		}
		if s := relay1.Status(); s.Boxes != 3 || s.BoxError == nil {
			t.Errorf("%d wait, %v", s.Boxes, s.BoxError)
		}
		relay1.boxes.setFail(nil)
		wait(10 * time.Minute)
		if s := relay1.Status(); s.Boxes != 0 || s.BoxError != nil || len(relay1.boxes.list()) != 8 {
			t.Errorf("%d wait, %v", s.Boxes, s.BoxError)
		}
	})
}

// TestBoxesExpire: what no box takes for as long as the schedule lasts is given up and counted.
func TestBoxesExpire(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, alice *client) {
		relay0, relay1 := w.members["relay0"], w.members["relay1"]
		relay1.boxes.setFail(func(Arrival) error { return errs.Internal })
		alice.send(t, w.letter(relay0, relay1, packet.ID{9}, "x"))
		wait(5 * time.Hour)
		if s := relay1.Status(); s.Boxes != 1 {
			t.Errorf("%+v", s)
		}
		wait(2 * time.Hour)
		if s := relay1.Status(); s.Boxes != 0 || s.Log.Waiting != 0 || relay1.stats.get("UnretriableDelivery") != 1 {
			t.Errorf("%+v", s)
		}
	}, func(w *world) { w.members["relay1"].tune = func(o *Options) { o.Retry = sixHours(w.t) } })
}

// TestExit: what is for the world outside goes to the exits, with its kind; a failure that may
// pass is tried again, one that does not pass is not; a relay without exits drops it.
func TestExit(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, alice *client) {
		relay0, relay1 := w.members["relay0"], w.members["relay1"]
		body, err := content.AppendMbox(nil, "bob", []byte("mail"))
		must(t, err)
		mbox := packet.Content{Kind: content.Mbox, Body: body}
		exit := packet.Dest{Command: packet.Exit}
		alice.send(t, w.build(w.route(relay0, relay1, time.Second), exit, mbox))
		wait(time.Minute)
		if got := relay1.exits.list(); len(got) != 1 || got[0].Kind != content.Mbox || !bytes.Equal(got[0].Body, body) {
			t.Fatalf("%+v", got)
		}
		setFail := func(err error) {
			relay1.exits.mu.Lock()
			relay1.exits.fail = err
			relay1.exits.mu.Unlock()
		}
		setFail(errs.Unavailable)
		alice.send(t, w.build(w.route(relay0, relay1, time.Second), exit, mbox))
		wait(time.Minute)
		if s := relay1.Status(); s.Exits != 1 || s.ExitErr == nil {
			t.Errorf("%+v", s)
		}
		setFail(nil)
		wait(10 * time.Minute)
		if s := relay1.Status(); len(relay1.exits.list()) != 2 || s.Exits != 0 || s.ExitErr != nil {
			t.Errorf("%d came out, %+v", len(relay1.exits.list()), s)
		}
		setFail(errs.E("test", errs.Unsupported, "", nil))
		alice.send(t, w.build(w.route(relay0, relay1, time.Second), exit, packet.Content{Kind: content.Mail, Body: []byte("x")}))
		wait(time.Minute)
		if relay1.stats.get("UnretriableDelivery mail") != 1 || relay1.Status().Log.Waiting != 0 {
			t.Error("what cannot leave is kept")
		}
		alice.send(t, w.build(w.route(relay0, relay0, time.Second), exit, mbox))
		wait(time.Minute)
		if relay0.stats.get("Dropped exit: mbox") != 1 {
			t.Errorf("%v", relay0.stats.m)
		}
	})
}

// TestInject: who holds a reply block has a relay answer with it, and the maker can read the
// answer.
func TestInject(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, alice *client) {
		relay0, relay1 := w.members["relay0"], w.members["relay1"]
		seed := packet.Seed{8}
		s, mark := w.surb(relay1, packet.ID{42}, &seed)
		c, err := content.NewInject(s, content.Letter, []byte("from nobody"))
		must(t, err)
		alice.send(t, w.build(w.route(relay0, relay0, time.Second), packet.Dest{Command: packet.Exit}, c))
		wait(10 * time.Minute)
		list := relay1.boxes.list()
		if len(list) != 1 || list[0].Mark != mark || list[0].Mailbox != (packet.ID{42}) {
			t.Fatalf("%d answers", len(list))
		}
		got, err := packet.OpenReply(&seed, mark, list[0].Payload)
		if err != nil || got.Kind != content.Letter || string(got.Body) != "from nobody" {
			t.Errorf("%+v, %v", got, err)
		}
		// The block once more, a block that has expired, and one that leads nowhere.
		alice.send(t, w.build(w.route(relay0, relay0, time.Second), packet.Dest{Command: packet.Exit}, c))
		r := w.route(relay1, relay1, 0)
		old, _, err := packet.NewSURB(r.Hops[1:], packet.ID{42}, &seed, time.Now().Add(-time.Hour), rnd)
		must(t, err)
		r.Hops[1].Node = packet.ID{1, 2, 3}
		lost, _, err := packet.NewSURB(r.Hops[1:], packet.ID{42}, &seed, time.Now().Add(time.Hour), rnd)
		must(t, err)
		for _, s := range []*packet.SURB{old, lost} {
			c, err := content.NewInject(s, content.Letter, []byte("no"))
			must(t, err)
			alice.send(t, w.build(w.route(relay0, relay0, time.Second), packet.Dest{Command: packet.Exit}, c))
		}
		alice.send(t, w.build(w.route(relay0, relay0, time.Second), packet.Dest{Command: packet.Exit}, packet.Content{Kind: content.Inject, Body: []byte{1}}))
		wait(10 * time.Minute)
		if n := len(relay1.boxes.list()); n != 1 {
			t.Errorf("%d answers", n)
		}
		st := relay0.stats
		if st.get("Dropped reply block: denied") != 1 || st.get("Dropped reply block: next") != 1 || st.get("Dropped inject") != 1 {
			t.Errorf("%v", st.m)
		}
		if w.layer(1).stats.get("Replay") != 1 {
			t.Error("the second use of a block was not seen as a replay")
		}
	})
}

// TestReply: a node sends with a reply block that lies with it, and the maker of the block reads what
// came; the same block again is a replay for the first hop. A block that leads nowhere now may
// pass, one that has expired does not.
func TestReply(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, _ *client) {
		relay0, relay1 := w.members["relay0"], w.members["relay1"]
		seed := packet.Seed{8}
		s, mark := w.surb(relay1, packet.ID{42}, &seed)
		raw, err := s.AppendBinary(nil)
		must(t, err)
		for range 2 { // as after a crash, when nobody knows that it was sent
			s, err := packet.ParseSURB(raw)
			must(t, err)
			must(t, relay0.Reply(t.Context(), s, packet.Content{Kind: content.Letter, Body: []byte("to nobody knows whom")}))
			wait(10 * time.Minute)
		}
		list := relay1.boxes.list()
		if len(list) != 1 || list[0].Mark != mark || list[0].Mailbox != (packet.ID{42}) {
			t.Fatalf("%d answers", len(list))
		}
		got, err := packet.OpenReply(&seed, mark, list[0].Payload)
		if err != nil || got.Kind != content.Letter || string(got.Body) != "to nobody knows whom" {
			t.Errorf("%+v, %v", got, err)
		}
		if w.layer(1).stats.get("Replay") != 1 {
			t.Error("the second use of a block was not seen as a replay")
		}
		r := w.route(relay1, relay1, 0)
		old, _, err := packet.NewSURB(r.Hops[1:], packet.ID{42}, &seed, time.Now().Add(-time.Hour), rnd)
		must(t, err)
		r.Hops[1].Node = packet.ID{1, 2, 3}
		lost, _, err := packet.NewSURB(r.Hops[1:], packet.ID{42}, &seed, time.Now().Add(time.Hour), rnd)
		must(t, err)
		for s, want := range map[*packet.SURB]errs.Kind{old: errs.Denied, lost: errs.Unavailable} {
			if err := relay0.Reply(t.Context(), s, packet.Content{Kind: content.Letter, Body: []byte("no")}); err == nil || errs.KindOf(err) != want {
				t.Errorf("%v, want %v", err, want)
			}
		}
	})
}

// TestCover: drops end where they end, and leave nothing but their tags.
func TestCover(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, alice *client) {
		relay0, relay1 := w.members["relay0"], w.members["relay1"]
		u := w.build(w.route(relay0, relay1, time.Second), packet.Dest{Command: packet.Drop}, packet.Content{})
		alice.send(t, bytes.Clone(u))
		wait(time.Minute)
		if s := relay1.Status(); s.Log.Waiting != 0 || s.Log.Tags != 1 || len(relay1.boxes.list()) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestClientUnits: a relay hands units to a client over the connection that the client opened,
// and is told when the client has them; the client's own units may be of layer 0 only.
func TestClientUnits(t *testing.T) {
	opened := make(chan *link.Conn, 10)
	bubble(t, func(t *testing.T, w *world, alice *client) {
		relay0, relay1 := w.members["relay0"], w.members["relay1"]
		c := <-opened
		if c.Peer().Role != link.Client || c.Peer().Account != w.clients[c.Peer().Key] {
			t.Errorf("%+v", c.Peer())
		}
		u, err := content.AppendBoxUnit(nil, content.BoxUnit{Item: 3, Payload: make([]byte, packet.PayloadLen)})
		must(t, err)
		must(t, c.Send(t.Context(), u))
		b, err := content.ParseBoxUnit(<-alice.got)
		if err != nil || b.Item != 3 {
			t.Errorf("%+v, %v", b.Item, err)
		}
		direct := w.build(packet.Route{First: packet.Last, Hops: []packet.Hop{relay0.hop(0)}}, packet.Dest{Command: packet.Deliver}, packet.Content{})
		alice.send(t, direct)
		wait(time.Minute)
		if len(relay0.boxes.list()) != 0 || relay0.stats.get("Dropped layer") != 1 {
			t.Error("a client gave a packet to layer 4 itself")
		}
		_ = relay1
	}, func(w *world) {
		old := w.members["relay0"]
		old.tune = func(o *Options) { o.Opened = func(c *link.Conn) { opened <- c } }
	})
}

// TestWhoMayConnect: a key that neither the directory nor the accounts know gets no connection.
func TestWhoMayConnect(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, _ *client) {
		mallory := w.client("mallory", w.members["relay0"])
		eve := w.client("alice", w.layer(1)) // a client of a relay is nobody to a mix
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		u := make([]byte, packet.Size)
		wantKind(t, "a stranger", mallory.line.Send(ctx, u), errs.Canceled)
		wantKind(t, "a client at a mix", eve.line.Send(ctx, u), errs.Canceled)
		wantKind(t, "why", mallory.line.Status().Err, errs.Denied)
		mallory.end()
		eve.end()
	})
}
