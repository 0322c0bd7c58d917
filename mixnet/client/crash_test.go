package client

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/disktest"
	"postern.email/kit/racetest"
	"postern.email/kit/vfs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

// TestCrash: a client whose machine stops at any sync, while a letter of several packets leaves of
// which one gets lost, goes on where it was: the letter arrives, once, and nothing leaves again
// but what the disk could not know of.
func TestCrash(t *testing.T) {
	letters := []byte(text("long", 60_000))
	const fragments, lost, unknown = 3, 1, 2 // unknown: on the line, and taken but not noted yet
	try := func(n int64, after bool, u vfs.Unsynced) (cut bool) {
		synctest.Test(t, func(t *testing.T) {
			m := newMesh(t, 3*time.Second)
			m.pace(8*time.Second, time.Hour)
			m.set(directory.Delay, 2*time.Second)
			sent := 0 // under mu
			m.lose = func(r packet.Result) bool {
				c, err := packet.OpenContent(bytes.Clone(r.Payload))
				if r.Command != packet.Deliver || err != nil || c.Kind&content.Windowed == 0 {
					return false
				}
				place, _, err := content.CutWindow(c)
				must(t, err)
				sent++
				return sent <= fragments && place.Index == 0
			}
			disk := vfs.NewCrashDisk()
			alice, bob := m.userOn(disk, "alice", clock(), 1), m.user("bob", clock(), 2)
			name := alice.write(bob, letters, true)
			crash := vfs.CutAt(disk, n, after, u, uint64(n), func() { m.part("alice") })
			alice.fs = crash.FS
			alice.open()
			alice.start(false)
			wait := func(over func() bool) {
				for i := 0; !over(); i++ {
					if time.Sleep(5 * time.Second); i > 1000 {
						p, _ := alice.store.Progress(name)
						t.Fatalf("sync %d, after %v, %v: %+v", n, after, u, p)
					}
				}
			}
			delivered := func() bool {
				p, err := alice.store.Progress(name)
				return err == nil && p.Result == Delivered
			}
			wait(func() bool { cut = crash.Disk() != nil; return cut || delivered() })
			alice.halt()
			if cut {
				m.join("alice")
				alice.fs = crash.Disk()
				alice.open()
				alice.start(false)
				wait(delivered)
				alice.halt()
			}
			bob.start(false)
			time.Sleep(2 * time.Minute)
			bob.halt()
			if got := bob.fetch(); len(got) != 1 || got[0] != string(letters) {
				t.Errorf("sync %d, after %v, %v: %d letters arrived", n, after, u, len(got))
			}
			m.mu.Lock()
			if want := fragments + lost; sent < want || sent > want+unknown || !cut && sent != want {
				t.Errorf("sync %d, after %v, %v: %d packets were sent, %d would do", n, after, u, sent, want)
			}
			m.mu.Unlock()
			m.stop()
		})
		return cut && !t.Failed()
	}
	every := int64(1)
	if racetest.Enabled {
		every = 8
	}
	if cuts := disktest.Cuts(every, try); cuts < 20 && !t.Failed() {
		t.Errorf("only %d moments", cuts)
	}
}
