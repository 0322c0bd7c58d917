package client

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
)

// text gives a letter that does not compress to less than some packets.
func text(name string, size int) string {
	r := rng(uint64(size))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte('!' + r.IntN(90))
	}
	return name + " " + string(b)
}

// TestMail: letters of one packet and of many arrive, once, while both clients are stopped and
// started again; acknowledged ones end as delivered, the others as sent. Loops come back.
func TestMail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := clock()
		m := newMesh(t, 4*time.Second)
		m.set(directory.Delay, 4*time.Second)
		alice, bob := m.user("alice", now, 1), m.user("bob", now, 2)
		alice.start(false)
		bob.start(false)
		var want []string
		names := map[string]Result{}
		for i, size := range []int{10, 30_000, 60_000} {
			for _, ack := range []bool{false, true} {
				s := text(fmt.Sprint("letter ", i, ack), size)
				want = append(want, s)
				names[alice.write(bob, []byte(s), ack)] = map[bool]Result{false: Sent, true: Delivered}[ack]
			}
		}
		slices.Sort(want)
		var got []string
		for range 4 {
			time.Sleep(3 * time.Minute)
			alice.halt()
			alice.open()
			alice.start(false)
			bob.halt()
			got = append(got, bob.fetch()...)
			bob.open()
			bob.start(false)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("%d letters arrived of %d", len(got), len(want))
		}
		for name, result := range names {
			p, err := alice.store.Progress(name)
			must(t, err)
			if p.Result != result || p.Note != "bob" || p.Sent != p.Packets || (result == Delivered) != (p.Acked == p.Packets) {
				t.Errorf("%+v, want %s", p, result)
			}
		}
		if s := alice.client.Status(); s.Waiting != 0 || s.Problem != nil {
			t.Errorf("%+v", s)
		}
		time.Sleep(10 * time.Minute)
		s := alice.client.Status()
		if s.Loops < 5 || s.Back < s.Loops/3 || s.Drops < 15 || s.Strange != 0 || s.Round <= 0 {
			t.Errorf("%+v", s)
		}
		alice.halt()
		bob.halt()
		m.stop()
	})
}

// TestRepeat: what gets lost on the way is sent again until it is acknowledged, and arrives
// once; a letter that cannot be delivered fails when its time is over, and says so.
func TestRepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := clock()
		m := newMesh(t, 20*time.Second)
		m.pace(20*time.Second, 30*time.Minute)
		m.set(directory.Delay, 5*time.Second)
		n := 0
		m.lose = func(packet.Result) bool { n++; return n%3 == 0 }
		alice, bob := m.user("alice", now, 1), m.user("bob", now, 2)
		alice.start(false)
		bob.start(false)
		s := text("long", 100_000)
		name := alice.write(bob, []byte(s), true)
		nobody := &user{mesh: m, id: bob.id, mailbox: packet.ID{7}, name: "nobody"}
		lost := alice.write(nobody, []byte("into the void"), true)
		var p Progress
		var err error
		for i := 0; p.Result != Delivered; i++ {
			if time.Sleep(20 * time.Minute); i > 100 {
				t.Fatalf("%+v", p)
			}
			p, err = alice.store.Progress(name)
			must(t, err)
		}
		if got := bob.fetch(); len(got) != 1 || got[0] != s {
			t.Fatalf("%d letters", len(got))
		}
		p, err = alice.store.Progress(lost)
		must(t, err)
		if p.Result != "" || p.Sent != 1 || p.Acked != 0 {
			t.Errorf("%+v", p)
		}
		alice.halt()
		alice.open()
		alice.store.limits.Results = time.Hour
		bob.halt()
		// Five days later: not by waiting, which would be many packets.
		late := alice.now
		alice.now = func() time.Time { return late().Add(Lifetime) }
		alice.open()
		alice.store.limits.Results = 24 * time.Hour
		alice.start(false)
		synctest.Wait()
		p, err = alice.store.Progress(lost)
		must(t, err)
		if p.Result != Failed || p.Why != "it could not be sent in time" {
			t.Errorf("%+v", p)
		}
		if _, err := alice.store.Progress(name); errs.KindOf(err) != errs.NotFound { // forgotten
			t.Errorf("%v", err)
		}
		alice.halt()
		m.stop()
	})
}

// TestUnreliable: a letter that nobody acknowledges arrives though a quarter of its packets gets
// lost, and none of them is sent twice.
func TestUnreliable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 10*time.Second)
		m.pace(8*time.Second, time.Hour)
		m.set(directory.Delay, time.Second)
		sent := 0 // under mu
		m.lose = func(r packet.Result) bool {
			if r.Command != packet.Deliver {
				return false
			}
			sent++
			return sent == 2 || sent == 5
		}
		alice, bob := m.user("alice", clock(), 1), m.user("bob", clock(), 2)
		s := text("long", 150_000)
		name := alice.write(bob, []byte(s), false)
		alice.start(false)
		bob.start(false)
		time.Sleep(10 * time.Minute)
		alice.halt()
		bob.halt()
		p, err := alice.store.Progress(name)
		must(t, err)
		m.mu.Lock()
		if p.Result != Sent || sent != p.Packets || p.Packets < 7 {
			t.Errorf("%d packets: %+v", sent, p)
		}
		m.mu.Unlock()
		if got := bob.fetch(); len(got) != 1 || got[0] != s {
			t.Errorf("%d letters", len(got))
		}
		m.stop()
	})
}

// TestMailForNode: mail that is sealed to a node itself, for its ordinary mailboxes or the world, is
// acknowledged as letters to packet boxes are, alone and in windows.
func TestMailForNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 10*time.Second)
		m.pace(8*time.Second, time.Hour)
		m.set(directory.Delay, time.Second)
		alice := m.user("alice", clock(), 1)
		node, err := letter.GenerateKey(alice.rand)
		must(t, err)
		var names []string
		for _, size := range []int{100, 100_000} {
			sealed, err := letter.Seal(node.Public(), letter.Message{Content: []byte(text("mail", size))}, letter.Options{Room: letter.RoomACK})
			must(t, err)
			name, err := alice.store.Queue(Outgoing{Kind: content.Mail, Relay: FindNode(m.cons, "relay1").ID, Ack: true, Bodies: sealed.Bodies})
			must(t, err)
			names = append(names, name)
		}
		alice.start(false)
		time.Sleep(10 * time.Minute)
		alice.halt()
		for _, name := range names {
			if p, err := alice.store.Progress(name); err != nil || p.Result != Delivered || p.Acked != p.Packets {
				t.Errorf("%+v, %v", p, err)
			}
		}
		a, windowed, letters := letter.NewAssembler(letter.Limits{}), 0, 0
		for _, c := range m.mails {
			if c.Kind&content.Windowed != 0 {
				windowed++
				_, c, err = content.CutWindow(c)
				must(t, err)
			}
			f, err := letter.Open(node, c.Body)
			must(t, err)
			l, err := a.Add(f, begin)
			must(t, err)
			if l != nil {
				letters++
			}
		}
		if letters != 2 || windowed != len(m.mails)-1 || windowed < 4 {
			t.Errorf("%d letters in %d packets, %d of them in windows", letters, len(m.mails), windowed)
		}
		m.stop()
	})
}

// TestFree: a client without cover sends at once, and nothing but mail.
func TestFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := clock()
		m := newMesh(t, time.Second)
		alice, bob := m.user("alice", now, 1), m.user("bob", now, 2)
		name := alice.write(bob, []byte(text("one", 60_000)), true)
		alice.start(true)
		before := time.Now()
		must(t, alice.client.Wait(t.Context(), func(s Status) bool { return s.Sent == 3 }))
		if d := time.Since(before); d > 5*time.Second {
			t.Errorf("sent after %v", d)
		}
		must(t, alice.client.Wait(t.Context(), func(s Status) bool { return s.Waiting == 0 }))
		p, err := alice.store.Progress(name)
		must(t, err)
		if p.Result != Delivered {
			t.Errorf("%+v", p)
		}
		if s := alice.client.Status(); s.Drops != 0 || s.Loops != 0 {
			t.Errorf("%+v", s)
		}
		alice.halt()
		m.stop()
	})
}

// TestAnswer: who has reply blocks answers through the network without knowing to whom; each
// block once, before it expires.
func TestAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := clock()
		m := newMesh(t, 4*time.Second)
		m.set(directory.Delay, 4*time.Second)
		alice, bob := m.user("alice", now, 1), m.user("bob", now, 2)
		seed, err := alice.store.Seed()
		must(t, err)
		set, err := NewSet(4, m.cons, now(), rng(5), Home{FindNode(m.cons, "relay0"), alice.mailbox}, seed, 0, Want{}, alice.rand)
		must(t, err)
		must(t, alice.store.RememberSet(set, seed, "for bob"))
		var armoured []byte
		for _, b := range set.Blocks {
			one, err := b.MarshalText()
			must(t, err)
			armoured = append(armoured, one...)
		}
		blocks, err := letter.ParseReplyBlocks(armoured)
		must(t, err)
		answer := func(s string, blocks ...*letter.ReplyBlock) error {
			sealed, err := letter.Seal(blocks[0].Key, letter.Message{Content: []byte(s)}, letter.Options{Room: letter.RoomReply})
			must(t, err)
			if len(sealed.Bodies) != len(blocks) {
				t.Fatalf("%d bodies", len(sealed.Bodies))
			}
			o := Outgoing{Kind: content.Inject}
			var spent []*packet.SURB
			for i, b := range blocks {
				o.Bodies = append(o.Bodies, b.AppendAnswer(nil, sealed.Bodies[i]))
				raw, err := b.SURB.AppendBinary(nil)
				must(t, err)
				o.Blocks = append(o.Blocks, raw)
				spent = append(spent, b.SURB)
			}
			if err := bob.store.Spend(spent); err != nil {
				return err
			}
			_, err = bob.store.Queue(o)
			return err
		}
		long := text("long", 30_000)
		must(t, answer("yes", blocks[0]))
		must(t, answer(long, blocks[1:3]...))
		wantKind(t, answer("again", blocks[0]), errs.Denied, "the reply block was used before: each can be used once")
		bob.open() // and after a restart
		wantKind(t, answer("again", blocks[2]), errs.Denied, "the reply block was used before: each can be used once")
		if ok, why, err := bob.store.Unspent(blocks[2].SURB); ok || why != "used" || err != nil {
			t.Errorf("%v %q %v", ok, why, err)
		}
		alice.start(false)
		bob.start(false)
		time.Sleep(6 * time.Minute)
		in, err := alice.store.Collect()
		must(t, err)
		for _, r := range in.Letters {
			if r.With != "for bob" {
				t.Errorf("it came with the blocks %q", r.With)
			}
		}
		if got := alice.fetch(); !slices.Equal(got, []string{long, "yes"}) {
			t.Fatalf("%d letters", len(got))
		}
		list, err := alice.store.Blocks()
		must(t, err)
		answered := 0
		for _, b := range list {
			if b.Answered {
				answered++
			}
		}
		if len(list) != 4 || answered != 3 {
			t.Errorf("%d blocks, %d answered", len(list), answered)
		}
		bob.halt()
		alice.halt()
		later := bob.now
		bob.now = func() time.Time { return later().Add(48 * time.Hour) }
		bob.open()
		err = bob.store.Spend([]*packet.SURB{blocks[3].SURB})
		if errs.KindOf(err) != errs.Denied || !strings.HasPrefix(errs.Public(err), "the reply block has expired: it could be used until ") {
			t.Errorf("%v", err)
		}
		if ok, why, _ := bob.store.Unspent(blocks[3].SURB); ok || why != "expired" {
			t.Errorf("%v %q", ok, why)
		}
		m.stop()
	})
}

// TestPing: a loop on a way that was asked for is made, comes back, and its time is told; a way
// that is not possible is told at once.
func TestPing(t *testing.T) {
	for _, free := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			m := newMesh(t, time.Second)
			alice := m.user("alice", clock(), 1)
			alice.start(free)
			p, err := ParsePath("mix2b,*2")
			must(t, err)
			way, back, err := alice.client.Ping(t.Context(), p, nil)
			must(t, err)
			if way.Hops[2].Entry.Nickname != "mix2b" || way.Hops[4].Entry.Nickname != "relay0" {
				t.Errorf("%v", way)
			}
			if took := <-back; took < way.Stay() || took > way.Stay()+3*time.Second {
				t.Errorf("back after %v, of which %v were asked for", took, way.Stay())
			}
			p, err = ParsePath("mix2a,mix1a")
			must(t, err)
			_, _, err = alice.client.Ping(t.Context(), p, nil)
			wantKind(t, err, errs.Invalid, "mix1a is in layer 1 and cannot stand behind mix2a, which is in layer 2")
			alice.halt()
			m.stop()
		})
	}
}

// TestTurns: a long message does not keep the others back: fragments leave in turn, and those
// that were never sent before those that are sent again.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 4*time.Second)
		m.pace(10*time.Second, 10*time.Minute)
		var order []string
		alice, bob := m.user("alice", clock(), 1), m.user("bob", clock(), 2)
		first := alice.write(bob, []byte(text("long", 250_000)), false)
		time.Sleep(time.Millisecond) // names are by time
		second := alice.write(bob, []byte("short"), false)
		time.Sleep(time.Millisecond)
		third := alice.write(bob, []byte(text("middle", 50_000)), false)
		alice.chosen = func(name string, packet int, _ Way) { order = append(order, fmt.Sprint(name, packet)) }
		alice.start(false)
		time.Sleep(5 * time.Minute)
		alice.halt()
		if len(order) < 10 {
			t.Fatalf("%d packets", len(order))
		}
		want := []string{first + "0", second + "0", third + "0", first + "1", third + "1", first + "2", third + "2", first + "3", first + "4"}
		if !slices.Equal(order[:len(want)], want) {
			t.Errorf("%q, want %q", order[:len(want)], want)
		}
		m.stop()
	})
}

// TestLoopsAsk: a loop asks its relay for an acknowledgement as mail does, so that relays cannot
// tell the two apart; that acknowledgement is nothing strange, also after a restart.
func TestLoopsAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 4*time.Second)
		var loops, silent int // under mesh.mu
		m.lose = func(r packet.Result) bool {
			if c, err := packet.OpenContent(r.Payload); r.Command == packet.Deliver && err == nil {
				loops++
				if c.SURB == nil {
					silent++
				}
			}
			return false
		}
		alice := m.user("alice", clock(), 1)
		alice.start(false)
		time.Sleep(10 * time.Minute)
		alice.halt()
		alice.open()
		alice.start(false)
		time.Sleep(10 * time.Minute)
		s := alice.client.Status()
		alice.halt()
		m.stop()
		if loops < 5 || silent != 0 || s.Strange != 0 || s.Back == 0 {
			t.Errorf("%d loops came, %d of them ask for nothing; %+v", loops, silent, s)
		}
	})
}
