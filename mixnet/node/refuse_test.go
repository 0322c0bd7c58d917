package node

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
)

// TestRefused: what is wrong with a packet makes no difference to whoever sent it: the unit is
// taken, as any other. Nothing is kept of it, and the reason is counted.
func TestRefused(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, alice *client) {
		relay0, relay1 := w.members["relay0"], w.members["relay1"]
		mix1, mix2 := w.layer(1), w.layer(2)
		deliver := packet.Dest{Command: packet.Deliver, Mailbox: packet.ID{1}}
		foreign, err := packet.GeneratePrivateKey(rnd)
		must(t, err)
		good := func(change func(*packet.Route)) []byte {
			r := w.route(relay0, relay1, time.Second)
			if change != nil {
				change(&r)
			}
			return w.build(r, deliver, packet.Content{})
		}
		max := time.Duration(w.params.Get(directory.MaxDelay)) * time.Millisecond
		flip := func(u []byte, at int) []byte { u[at] ^= 1; return u }
		for _, tc := range []struct {
			why string
			u   []byte
		}{
			{whyForm, flip(good(nil), 0)},
			{whyForm, flip(good(nil), 3)},
			{whyLayer, w.build(packet.Route{First: 1, Hops: []packet.Hop{relay0.hop(0)}}, packet.Dest{Command: packet.Drop}, packet.Content{})},
			{whyKey, good(func(r *packet.Route) { r.Hops[0].Key = foreign.Public() })},
			{whyHeader, flip(good(nil), 2000)},
			{whyDelay, good(func(r *packet.Route) { r.Hops[0].Delay = max + time.Millisecond })},
			{whyNext, good(func(r *packet.Route) { r.Hops[1].Node = mix2.ID() })},
			{whyNext, good(func(r *packet.Route) { r.Hops[1].Node = relay1.ID() })},
			{whyNext, good(func(r *packet.Route) { r.Hops[1].Node = packet.ID{9} })},
			{whyNext, good(func(r *packet.Route) { r.Hops[1].Node = relay0.ID() })},
		} {
			before := relay0.stats.get("Dropped " + tc.why)
			alice.send(t, tc.u)
			if got := relay0.stats.get("Dropped " + tc.why); got != before+1 {
				t.Errorf("%s was not counted: %v", tc.why, relay0.stats.m)
			}
		}
		if s := relay0.Status().Log; s.Waiting != 0 || s.Tags != 0 {
			t.Errorf("something is kept: %+v", s)
		}
		// The longest delay that is allowed is.
		alice.send(t, good(func(r *packet.Route) { r.Hops[0].Delay = max }))
		if s := relay0.Status().Pool; s.Held != 1 {
			t.Errorf("%+v", s)
		}
		// A mix has no mailboxes; and what goes to a node without them is refused too.
		direct := w.connect("relay1", mix1, link.Mix)
		direct.end()
	})
}

// TestLose: a packet that an experiment loses looks to whoever sent it like one that was sent on, and
// is counted; nothing is asked about packets that end at this node.
func TestLose(t *testing.T) {
	var lose atomic.Bool
	var asked atomic.Int64
	bubble(t, func(t *testing.T, w *world, alice *client) {
		relay0, relay1 := w.members["relay0"], w.members["relay1"]
		for i, gone := range []bool{true, false, true} {
			lose.Store(gone)
			alice.send(t, w.letter(relay0, relay1, packet.ID{1}, fmt.Sprint(i)))
			wait(time.Hour)
			alice.send(t, w.build(packet.Route{Hops: []packet.Hop{relay0.hop(0)}}, packet.Dest{Command: packet.Drop}, packet.Content{}))
		}
		if got := texts(t, relay1.boxes.list()); len(got) != 1 || got["1"] != 1 {
			t.Errorf("arrived: %v", got)
		}
		if n := relay0.stats.get("Dropped " + whyLost); n != 2 || asked.Load() != 3 {
			t.Errorf("%d were lost, and it was asked %d times", n, asked.Load())
		}
	}, func(w *world) {
		w.members["relay0"].tune = func(o *Options) {
			o.Lose = func() bool { asked.Add(1); return lose.Load() }
		}
	})
}

// TestEndsOfOthers: a relay without mailboxes takes no packets for any, and one without an end
// of any kind none for the world outside.
func TestEndsOfOthers(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, alice *client) {
		relay0, exit := w.members["relay0"], w.members["exit"]
		alice.send(t, w.letter(relay0, exit, packet.ID{1}, "x"))
		wait(time.Minute)
		if exit.stats.get("Dropped end") != 1 || exit.Status().Log.Waiting != 0 {
			t.Errorf("%v", exit.stats.m)
		}
	}, func(w *world) { w.add("exit", directory.Exit) })
}

// TestReplay: a packet that was taken is taken again and dropped, also by a node that was
// restarted in between.
func TestReplay(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, alice *client) {
		relay0, relay1 := w.members["relay0"], w.members["relay1"]
		u := w.letter(relay0, relay1, packet.ID{1}, "once")
		alice.send(t, bytes.Clone(u))
		wait(time.Minute)
		alice.send(t, bytes.Clone(u))
		u[packet.Size-1] ^= 1 // the payload is another, the tag is the same
		alice.send(t, bytes.Clone(u))
		relay0.stop()
		wait(time.Hour) // the client comes back
		relay0.start()
		w.agree(w.net.Epoch(time.Now()))
		w.give()
		alice.send(t, bytes.Clone(u))
		wait(time.Minute)
		if got := relay0.stats.get("Replay"); got < 3 { // a unit may come again by itself
			t.Errorf("%d replays", got)
		}
		if n := len(relay1.boxes.list()); n != 1 {
			t.Errorf("%d packets arrived", n)
		}
	})
}

// gate is a disk whose syncs of the log of packets stand still while it is shut.
type gate struct {
	mu   sync.Mutex
	open *sync.Cond
	shut bool
	in   chan struct{} // something stands before it
}

func newGate() *gate {
	g := &gate{in: make(chan struct{}, 100)}
	g.open = sync.NewCond(&g.mu)
	return g
}

func (g *gate) hook(p vfs.SyncPoint) {
	if p.After {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.shut {
		select {
		case g.in <- struct{}{}:
		default:
		}
		g.open.Wait()
	}
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	g.shut = shut
	g.mu.Unlock()
	g.open.Broadcast()
}

// TestSyncBeforeAnswer: a packet is neither acknowledged nor sent on before the sync of its
// record has ended, be it fresh or its own echo in the same group.
func TestSyncBeforeAnswer(t *testing.T) {
	g := newGate()
	bubble(t, func(t *testing.T, w *world, alice *client) {
		relay0, relay1 := w.members["relay0"], w.members["relay1"]
		g.set(true)
		u := w.letter(relay0, relay1, packet.ID{1}, "x")
		taken := make(chan error, 2)
		must(t, alice.line.Post(bytes.Clone(u), func(err error) { taken <- err }))
		must(t, alice.line.Post(bytes.Clone(u), func(err error) { taken <- err }))
		<-g.in
		wait(10 * time.Minute)
		if len(taken) != 0 || w.layer(1).stats.get("ReceivedPacket") != 0 || relay0.Status().Link.UnitsIn != 0 {
			t.Error("a packet was acknowledged or sent before its sync")
		}
		g.set(false)
		must(t, <-taken)
		must(t, <-taken)
		wait(time.Minute)
		if len(relay1.boxes.list()) != 1 {
			t.Error("it did not arrive")
		}
	}, func(w *world) {
		m := w.members["relay0"]
		m.fs = vfs.NewSyncPoints(m.disk, g.hook)
	})
}

// TestDiskFull: a node whose disk is full answers "later", goes on sending what waits, and says
// so; what it did not take comes again, and arrives once.
func TestDiskFull(t *testing.T) {
	var faults *vfs.Faults
	bubble(t, func(t *testing.T, w *world, alice *client) {
		relay0, relay1 := w.members["relay0"], w.members["relay1"]
		mix := w.layer(1)
		if mix.name != "mix0" {
			mix = w.members["mix0"]
		}
		layer := mix.entry().Layer
		r := w.route(relay0, relay1, time.Second)
		r.Hops[layer].Delay = 10 * time.Minute
		slow := w.build(r, packet.Dest{Command: packet.Deliver}, packet.Content{Kind: content.Plain, Body: []byte("held")})
		alice.send(t, slow)
		wait(time.Minute)
		if s := mix.Status().Pool; s.Held != 1 {
			t.Fatalf("%+v", s)
		}
		faults.SetSpace(0)
		alice.send(t, w.letter(relay0, relay1, packet.ID{}, "put off"))
		wait(5 * time.Minute)
		s := mix.Status()
		wantKind(t, "Health", s.Health, errs.NoSpace)
		if mix.stats.get("Later") == 0 || s.Pool.Held != 1 {
			t.Errorf("%v, %+v", mix.stats.m, s.Pool)
		}
		wait(10 * time.Minute)
		if got := texts(t, relay1.boxes.list()); got["held"] != 1 || got["put off"] != 0 {
			t.Errorf("while the disk was full: %v", got)
		}
		faults.SetSpace(-1)
		wait(30 * time.Minute)
		if got := texts(t, relay1.boxes.list()); got["held"] != 1 || got["put off"] != 1 {
			t.Errorf("afterwards: %v", got)
		}
		if s := mix.Status(); s.Health != nil {
			t.Errorf("%v", s.Health)
		}
	}, func(w *world) {
		m := w.members["mix0"]
		faults = vfs.NewFaults(m.disk)
		m.fs = faults
	})
}

// TestDiskBroken: a node whose disk fails takes nothing more, says so, and sends what waits.
func TestDiskBroken(t *testing.T) {
	var faults *vfs.Faults
	bubble(t, func(t *testing.T, w *world, alice *client) {
		relay0, relay1 := w.members["relay0"], w.members["relay1"]
		r := w.route(relay0, relay1, time.Second)
		r.Hops[0].Delay = 10 * time.Minute
		alice.send(t, w.build(r, packet.Dest{Command: packet.Deliver}, packet.Content{Kind: content.Plain, Body: []byte("held")}))
		faults.FailFrom(vfs.OpSync, 1, errors.New("broken"))
		ended := make(chan error, 1)
		must(t, alice.line.Post(w.letter(relay0, relay1, packet.ID{}, "never"), func(err error) { ended <- err }))
		if err := <-ended; !errors.Is(err, link.ErrLater) {
			t.Errorf("the answer of a broken node: %v", err)
		}
		wantKind(t, "Health", relay0.Status().Health, errs.Unavailable)
		wait(time.Hour)
		if got := texts(t, relay1.boxes.list()); got["held"] != 1 || len(got) != 1 {
			t.Errorf("%v", got)
		}
		faults.FailFrom(vfs.OpSync, 1<<30, nil)
	}, func(w *world) {
		m := w.members["relay0"]
		faults = vfs.NewFaults(m.disk)
		m.fs = faults
	})
}

// TestKeyOverlap: packets for a key are taken until its overlap is over, and refused after;
// the key and its memory are destroyed then.
func TestKeyOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 24*time.Hour)
		w.know("alice")
		for _, name := range []string{"mix0", "mix1", "mix2"} {
			w.add(name, directory.Mix)
		}
		relay := w.add("relay0", directory.Relay|directory.Mailbox)
		w.startAll()
		alice := w.client("alice", relay)
		old := relay.entry().Keys[0] // 3 days, and a day of overlap
		send := func() bool {
			r := w.route(relay, relay, time.Second)
			r.Hops[0].Key = old.Key
			before := len(relay.boxes.list())
			alice.send(t, w.build(r, packet.Dest{Command: packet.Deliver}, packet.Content{Kind: content.Plain, Body: []byte("x")}))
			wait(time.Minute)
			return len(relay.boxes.list()) == before+1
		}
		for at := time.Duration(0); at < 24*6*time.Hour; at += 6 * time.Hour {
			if now := time.Now(); w.net.Epoch(now) > w.last.Epoch {
				w.agree(w.net.Epoch(now))
				w.give()
			}
			now := time.Now()
			accepted := now.Before(old.Until.Add(24 * time.Hour))
			if got := send(); got != accepted {
				t.Errorf("%v after its begin and %v after its end: %v", now.Sub(old.From), now.Sub(old.Until), got)
			}
			wait(6*time.Hour - time.Minute)
		}
		for _, s := range relay.keys.List() {
			if s.ID == old.Key.ID() && !now().Before(old.Until.Add(25*time.Hour)) {
				if _, ok := relay.keys.Find(s.ID); ok {
					t.Error("the old key is there")
				}
			}
		}
		if files, err := relay.disk.List("/data/log"); err != nil || contains(files, tagsName(old.Key.ID())) {
			t.Errorf("the memory of the old key is there: %v, %v", files, err)
		}
		alice.end()
		w.stop()
	})
}

func now() time.Time { return time.Now() }

func contains(list []string, s string) bool { return slices.Contains(list, s) }

// tagsName is the file of the log that remembers the packets for a key (docs/mixlog.md §2).
func tagsName(id uint32) string { return fmt.Sprintf("%08x.tags", id) }
