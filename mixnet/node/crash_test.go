package node

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/racetest"
	"postern.email/kit/vfs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/packet"
)

// traffic is what the crash tests send: letters that must all arrive, each once.
type traffic struct {
	t     *testing.T
	w     *world
	alice *client
	seed  packet.Seed
	sent  int
	wg    sync.WaitGroup
}

// send hands over k letters, with and without a wish for an acknowledgement, and does not wait.
func (f *traffic) send(k int) {
	relay0, relay1 := f.w.members["relay0"], f.w.members["relay1"]
	for range k {
		c := packet.Content{Kind: content.Plain, Body: fmt.Appendf(nil, "letter %d", f.sent)}
		c.SURB, _ = f.w.surb(relay0, packet.ID{4}, &f.seed)
		r := f.w.route(relay0, relay1, time.Duration(1+f.sent%3)*time.Second)
		f.sent++
		f.wg.Add(1)
		must(f.t, f.alice.line.Post(f.w.build(r, packet.Dest{Command: packet.Deliver, Mailbox: packet.ID{1}}, c), func(err error) {
			if err != nil {
				f.t.Errorf("a letter was not taken: %v", err)
			}
			f.wg.Done()
		}))
	}
}

// check waits until nothing is under way, and counts. victim "": any may have crashed.
func (f *traffic) check(what, victim string) {
	f.t.Helper()
	f.wg.Wait()
	for range 100 {
		wait(3 * time.Minute)
		waiting := 0
		for _, m := range f.w.members {
			waiting += m.Status().Log.Waiting
		}
		if waiting == 0 {
			break
		}
	}
	relay0, relay1 := f.w.members["relay0"], f.w.members["relay1"]
	got := texts(f.t, relay1.boxes.list())
	for i := range f.sent {
		if n := got[fmt.Sprintf("letter %d", i)]; n != 1 {
			f.t.Errorf("%s: letter %d arrived %d times", what, i, n)
		}
	}
	if len(got) != f.sent {
		f.t.Errorf("%s: %v", what, got)
	}
	marks := map[packet.Mark]bool{}
	for _, a := range relay0.boxes.list() {
		if !a.Reply || marks[a.Mark] {
			f.t.Errorf("%s: an acknowledgement came twice", what)
		}
		marks[a.Mark] = true
	}
	if len(marks) != f.sent {
		f.t.Errorf("%s: %d acknowledgements of %d letters", what, len(marks), f.sent)
	}
	// What a crash of another node has sent again is stopped by the replay check, before the box.
	for _, m := range []*member{relay0, relay1} {
		if victim != "" && m.name != victim && m.boxes.again() > 0 {
			f.t.Errorf("%s: %s put something into its box twice", what, m.name)
		}
	}
	for _, m := range f.w.members {
		if s := m.Status().Log; s.Damaged != 0 || s.LostTags != 0 || s.LostKeys != 0 || s.Waiting != 0 {
			f.t.Errorf("%s: %s: %+v", what, m.name, s)
		}
	}
}

// slow is a disk whose syncs of the log take a while: an answer that does not wait for them is
// on its way when the crash comes.
func slow(fs vfs.FS) vfs.FS {
	return vfs.NewSyncPoints(fs, func(p vfs.SyncPoint) {
		if !p.After && strings.HasPrefix(p.Path, "/data/log") {
			time.Sleep(20 * time.Millisecond)
		}
	})
}

// crashing has fn make a life of the network in which one member crashes at its n-th sync (0:
// nobody does). restart starts that one anew if it has crashed since. It gives the number of
// syncs of that member.
func crashing(t *testing.T, victim string, n int64, after bool, mode vfs.Unsynced, fn func(t *testing.T, w *world, alice *client, restart func())) (syncs int64) {
	synctest.Test(t, func(t *testing.T) {
		var cut *vfs.Cut
		var points *vfs.SyncPoints
		var m *member
		w := small(t, func(w *world) {
			w.know("alice")
			m = w.members[victim]
			if n == 0 {
				points = vfs.NewSyncPoints(m.disk, nil)
				m.fs = slow(points)
				return
			}
			cut = vfs.CutAt(m.disk, n, after, mode, uint64(n), m.cut)
			m.fs = slow(cut.FS)
		})
		alice := w.client("alice", w.members["relay0"])
		restart := func() {
			if cut != nil && cut.Disk() != nil {
				m.bury(cut.Disk())
				m.start()
				cut = nil
			}
		}
		restart()
		fn(t, w, alice, restart)
		if points != nil {
			syncs = points.Count()
		}
		alice.end()
		w.stop()
	})
	return syncs
}

// session is such a life with letters.
func session(t *testing.T, victim string, n int64, after bool, mode vfs.Unsynced) (syncs int64) {
	return crashing(t, victim, n, after, mode, func(t *testing.T, w *world, alice *client, restart func()) {
		f := &traffic{t: t, w: w, alice: alice}
		f.send(2)
		wait(1500 * time.Millisecond)
		restart()
		f.send(2)
		wait(10 * time.Second)
		restart()
		f.send(1)
		wait(3 * time.Minute) // the first answers of the relay's clock, and flushes
		restart()
		f.check(fmt.Sprintf("%s, sync %d, after %v, %v", victim, n, after, mode), victim)
	})
}

// TestCrashAtEverySync cuts the disk of a node, first relay, mix or last relay, at each of its
// syncs. Whatever was acknowledged arrives, once, and is acknowledged end to end, once.
func TestCrashAtEverySync(t *testing.T) {
	for _, victim := range []string{"relay0", "mix0", "mix1", "mix2", "relay1"} {
		t.Run(victim, func(t *testing.T) {
			total := session(t, victim, 0, false, 0)
			if total < 8 {
				t.Fatalf("only %d syncs", total)
			}
			step := int64(1)
			if testing.Short() || racetest.Enabled {
				step = 8
			}
			for n := 1 + rand.Int64N(step); n <= total; n += step {
				modes := []vfs.Unsynced{vfs.Dropped, vfs.Kept, vfs.Torn}
				session(t, victim, n, n/step%2 == 0, modes[n%3])
				if t.Failed() {
					return
				}
			}
		})
	}
}

// TestRandomKills: twenty times a node, chosen at random, dies at a random moment and comes back
// after a while. No letter that was taken is lost or doubled.
func TestRandomKills(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	synctest.Test(t, func(t *testing.T) {
		w := small(t, func(w *world) { w.know("alice") })
		alice := w.client("alice", w.members["relay0"])
		f := &traffic{t: t, w: w, alice: alice}
		for range 20 {
			f.send(3)
			wait(time.Duration(rng.Int64N(int64(8 * time.Second))))
			m := w.members[w.names[rng.IntN(len(w.names))]]
			m.crash([]vfs.Unsynced{vfs.Dropped, vfs.Kept, vfs.Torn}[rng.IntN(3)], rng.Uint64())
			wait(time.Duration(rng.Int64N(int64(20 * time.Second))))
			m.start()
		}
		f.check("after twenty crashes", "")
		alice.end()
		w.stop()
	})
}
