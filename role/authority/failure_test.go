package authority

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
)

// quiet checks that nobody accuses anybody of anything but silence.
func (w *world) quiet() {
	w.t.Helper()
	for i, a := range w.all {
		if a.Server == nil {
			continue
		}
		for _, p := range a.core.proofList() {
			if p.Kind != directory.WithheldReveal {
				w.t.Errorf("authority %d accuses %x of %s", i, p.Accused[:4], p.Kind)
			}
		}
	}
}

// begun gives a network whose authorities agreed on one epoch, and that consensus.
func begun(t *testing.T, n int) (w *world, epoch uint64, c *directory.Consensus) {
	t.Helper()
	w = newWorld(t, n, time.Hour)
	w.start()
	t.Cleanup(func() { w.stop() })
	w.admit(someNodes(t, 6))
	epoch = w.next()
	w.until(epoch, 6)
	return w, epoch, w.agreed(epoch)
}

// An authority that was down for an epoch, and for half of one, is back in the next: the
// others go on without it.
func TestDownAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, epoch, _ := begun(t, 3)
		w.stop(2)
		w.until(epoch+1, 6)
		if c := w.agreed(epoch+1, 0, 1); len(c.Signatures) != 2 {
			t.Errorf("%d signatures", len(c.Signatures))
		}
		w.until(epoch+2, 2.5) // between vote and signature
		w.start(2)
		w.until(epoch+2, 6)
		w.agreed(epoch + 2)
		w.until(epoch+3, 6)
		if c := w.agreed(epoch + 3); len(c.Signatures) != 3 || len(c.Nodes) != 7 {
			t.Errorf("%d signatures, %d nodes", len(c.Signatures), len(c.Nodes))
		}
		w.quiet()
	})
}

// A network that falls into two parts has one consensus, that of the larger part; the others
// have it as soon as they hear of it, and all agree again.
func TestPartitionHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, epoch, first := begun(t, 5)
		small := map[string]bool{w.all[0].addr: true, w.all[1].addr: true}
		w.ether.setCut(func(from, to string) bool { return small[from] != small[to] })
		w.until(epoch+1, 6)
		second := w.agreed(epoch+1, 2, 3, 4)
		if len(second.Signatures) != 3 {
			t.Errorf("%d signatures", len(second.Signatures))
		}
		for _, i := range []int{0, 1} {
			if c := w.all[i].consensus(t); c == nil || c.Hash() != first.Hash() {
				t.Errorf("authority %d does not give out the one before", i)
			}
		}
		w.ether.setCut(func(string, string) bool { return false })
		w.until(epoch+2, 0.5)
		w.agreed(epoch + 1)
		w.until(epoch+2, 6)
		if c := w.agreed(epoch + 2); len(c.Signatures) != 5 || c.Previous != second.Name() {
			t.Errorf("%d signatures, follows epoch %d", len(c.Signatures), c.Previous.Epoch)
		}
		w.quiet()
	})
}

// Where only every second way between authorities is open, documents go by those who have
// them.
func TestOneWayRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, time.Hour)
		direct := func(from, to string) bool { return from == w.all[0].addr && to == w.all[2].addr }
		w.ether.setCut(func(from, to string) bool { return direct(from, to) || direct(to, from) })
		w.start()
		defer w.stop()
		w.admit(someNodes(t, 6))
		epoch := w.next()
		w.until(epoch, 6)
		if c := w.agreed(epoch); len(c.Signatures) != 3 {
			t.Errorf("%d signatures", len(c.Signatures))
		}
		w.quiet()
	})
}

// Below the threshold there is no consensus of an epoch. The one before is given out, as long
// as it can be used, and whoever runs the authority is told.
func TestBelowThreshold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, epoch, first := begun(t, 3)
		w.stop(1, 2)
		w.until(epoch+1, 7)
		n := newNode(t, "asker", directory.Mix)
		c := w.client(n.link, "asker")
		defer c.stop()
		line := w.line(0)
		b, err := c.ask(t, line, directory.Request{Kind: directory.RequestConsensus})
		must(t, err)
		got, err := directory.ParseConsensus(b)
		must(t, err)
		if got.Hash() != first.Hash() {
			t.Error("another consensus than the one before")
		}
		if _, err := directory.Verify(w.net, got, nil, time.Now()); err != nil {
			t.Errorf("it cannot be used: %v", err)
		}
		if _, err := c.ask(t, line, directory.Request{Kind: directory.RequestConsensus, Epoch: epoch + 1}); errs.KindOf(err) != errs.NotFound {
			t.Errorf("of the next epoch: %v", err)
		}
		st := w.all[0].Status()
		if want := "2 of the other authorities do not answer: with fewer than 2 there is no consensus"; st.Health != want {
			t.Errorf("health: %s", st.Health)
		}
		if !strings.Contains(st.Agreement.Waits, "has the threshold of signatures") || st.Agreement.Phase != "publishing" {
			t.Errorf("agreement: %+v", st.Agreement)
		}
		w.until(epoch+5, 0.1)
		if st := w.all[0].Status(); st.Consensus.Usable {
			t.Error("a consensus can be used for ever")
		}
		// The chain goes on from there, however old it is.
		w.start(1, 2)
		w.until(epoch+5, 6)
		if c := w.agreed(epoch + 5); c.Previous != first.Name() {
			t.Errorf("it follows epoch %d", c.Previous.Epoch)
		}
		w.quiet()
	})
}

// An authority whose disk is lost, but for its keys, leaves an agreement that is under way
// to the others, since it may have spoken in it already. It has the consensus at once, and
// takes part in the next.
func TestNewDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, epoch, first := begun(t, 3)
		w.until(epoch+1, 1.5) // its vote is out
		a := w.all[2]
		w.stop(2)
		fresh := vfs.NewCrashDisk()
		copyDir(t, a.disk, fresh, "/data/"+keyDir)
		copyDir(t, a.disk, fresh, "/etc")
		a.disk, a.fs = fresh, fresh
		w.start(2)
		w.until(epoch+1, 2)
		if c := a.consensus(t); c == nil || c.Hash() != first.Hash() {
			t.Error("it does not have the consensus")
		}
		if st := a.Status(); !st.Agreement.StaysOut {
			t.Error("it does not say that it stays out")
		}
		// Also when it is killed and started again meanwhile.
		w.stop(2)
		w.start(2)
		w.admit(w.nodes, 2)
		w.until(epoch+1, 6)
		second := w.agreed(epoch + 1)
		if len(second.Signatures) != 2 {
			t.Errorf("%d signatures", len(second.Signatures))
		}
		w.until(epoch+2, 6)
		if c := w.agreed(epoch + 2); len(c.Signatures) != 3 {
			t.Errorf("%d signatures", len(c.Signatures))
		}
		w.quiet()
	})
}

// A new process whose keys were never used elsewhere takes part at once.
func TestFirstStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, time.Hour)
		epoch := w.next()
		w.until(epoch, 1.5)
		w.start()
		defer w.stop()
		w.until(epoch, 6)
		w.agreed(epoch)
	})
}

// copyDir copies files from one disk to another.
func copyDir(t testing.TB, from, to vfs.FS, dir string) {
	t.Helper()
	must(t, vfs.MkdirAll(to, dir, 0o700))
	names, err := from.List(dir)
	must(t, err)
	for _, n := range names {
		b, err := vfs.ReadFile(from, from.PathJoin(dir, n))
		must(t, err)
		must(t, vfs.WriteFileAtomic(to, to.PathJoin(dir, n), b, 0o600))
	}
}

// line gives the number of an authority among the contacts, which are sorted.
func (w *world) line(i int) int {
	for n, c := range w.net.Contacts() {
		if c.Addresses[0] == w.all[i].addr {
			return n
		}
	}
	w.t.Fatal("no such authority")
	return 0
}
