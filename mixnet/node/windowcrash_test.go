package node

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"postern.email/kit/racetest"
	"postern.email/kit/vfs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/packet"
)

// windowSession is a life of the network in which the last relay crashes at its n-th sync (0: it
// does not) while windows come. It gives the number of syncs.
func windowSession(t *testing.T, n int64, after bool, mode vfs.Unsynced) (syncs int64) {
	what := fmt.Sprintf("sync %d, after %v, %v", n, after, mode)
	return crashing(t, "relay1", n, after, mode, func(t *testing.T, w *world, alice *client, restart func()) {
		a, m := &asker{t: t, w: w, seed: packet.Seed{5}}, w.members["relay1"]
		const count = 3
		for i := range count {
			for window := range 2 {
				var s *packet.SURB
				if i == 1+window {
					s = a.surb()
				}
				a.post(alice, a.fragment(content.Letter, content.Window{ID: [16]byte{byte(window)}, Index: i, Count: count}, s))
			}
			wait(1500 * time.Millisecond)
			restart()
		}
		wait(10 * time.Second)
		restart()
		wait(w.waitTime() + 10*time.Minute)
		restart()
		wait(w.waitTime() + 10*time.Minute)
		got := texts(t, m.boxes.list())
		if len(m.boxes.list()) != 2*count {
			t.Errorf("%s: %d packets in the box", what, len(got))
		}
		acks := a.acks()
		if len(acks) != 2 {
			t.Errorf("%s: acknowledgements %08b", what, acks)
		}
		for _, bits := range acks {
			if bits == 0 || bits >= 1<<count {
				t.Errorf("%s: acknowledgement %08b", what, bits)
			}
			if n == 0 && bits != 1<<count-1 {
				t.Errorf("without a crash: acknowledgement %08b", bits)
			}
		}
		if s := m.Status(); s.Windows != 0 || s.Boxes != 0 || s.Log.Waiting != 0 {
			t.Errorf("%s: %d windows, %d packets wait, %d in the log", what, s.Windows, s.Boxes, s.Log.Waiting)
		}
	})
}

// TestWindowCrashAtSyncs cuts the disk of the last relay at each of its syncs (every eighth, others in each run,
// under the race detector) while windows come. All packets are in the box, each once; each window has its one acknowledgement.
func TestWindowCrashAtSyncs(t *testing.T) {
	total := windowSession(t, 0, false, 0)
	if total < 4 {
		t.Fatalf("only %d syncs", total)
	}
	step := int64(1)
	if testing.Short() || racetest.Enabled {
		step = 8
	}
	for n := 1 + rand.Int64N(step); n <= total; n += step {
		windowSession(t, n, n/step%2 == 0, []vfs.Unsynced{vfs.Dropped, vfs.Kept, vfs.Torn}[n%3])
		if t.Failed() {
			return
		}
	}
}
