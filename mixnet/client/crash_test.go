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
	"postern.email/mixnet/letter"
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
				m.again(alice, crash)
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

// again starts a user on the disk that a crash left.
func (m *mesh) again(u *user, crash *vfs.Cut) {
	m.join(u.name)
	u.fs = crash.Disk()
	u.open()
	u.start(false)
}

// TestAnswerCrash: a client whose machine stops at any sync while an answer of two packets comes for one
// of its reply addresses has it afterwards, once, with the name of the address; and each block counts
// as answered once.
func TestAnswerCrash(t *testing.T) {
	answer := []byte(text("answer", 30_000))
	try := func(n int64, after bool, u vfs.Unsynced) (cut bool) {
		synctest.Test(t, func(t *testing.T) {
			m := newMesh(t, 3*time.Second)
			m.pace(10*time.Second, time.Hour)
			m.set(directory.Delay, 2*time.Second)
			disk := vfs.NewCrashDisk()
			alice, bob := m.userOn(disk, "alice", clock(), 1), m.user("bob", clock(), 2)
			seed, err := alice.store.Seed()
			must(t, err)
			set, err := NewSet(2, m.cons, alice.now(), rng(5), Home{FindNode(m.cons, "relay0"), alice.mailbox}, seed, 0, Want{}, alice.rand)
			must(t, err)
			must(t, alice.store.RememberSet(set, seed, "nym"))
			sealed, err := letter.Seal(set.Blocks[0].Key, letter.Message{Content: answer}, letter.Options{Room: letter.RoomReply})
			must(t, err)
			o := Outgoing{Kind: content.Inject}
			for i, b := range set.Blocks {
				raw, err := b.SURB.AppendBinary(nil)
				must(t, err)
				o.Bodies, o.Blocks = append(o.Bodies, b.AppendAnswer(nil, sealed.Bodies[i])), append(o.Blocks, raw)
			}
			_, err = bob.store.Queue(o)
			must(t, err)
			crash := vfs.CutAt(disk, n, after, u, uint64(n), func() { m.part("alice") })
			alice.fs = crash.FS
			alice.open()
			alice.start(false)
			bob.start(false)
			whole := func() bool {
				in, err := alice.store.Collect()
				return err == nil && len(in.Letters) > 0
			}
			wait := func(over func() bool) {
				for i := 0; !over(); i++ {
					if time.Sleep(5 * time.Second); i > 1000 {
						t.Fatalf("sync %d, after %v, %v: nothing came", n, after, u)
					}
				}
			}
			wait(func() bool { cut = crash.Disk() != nil; return cut || whole() })
			time.Sleep(30 * time.Second)
			cut = crash.Disk() != nil
			alice.halt()
			if cut {
				m.again(alice, crash)
				wait(whole)
				time.Sleep(30 * time.Second)
				alice.halt()
			}
			in, err := alice.store.Collect()
			must(t, err)
			if len(in.Letters) != 1 || in.Letters[0].With != "nym" || !bytes.Equal(in.Letters[0].Letter.Content, answer) || in.Partial != 0 {
				t.Errorf("sync %d, after %v, %v: %+v", n, after, u, in)
			}
			made, err := alice.store.Blocks()
			must(t, err)
			for _, b := range made {
				if !b.Answered {
					t.Errorf("sync %d, after %v, %v: a block is not known as answered", n, after, u)
				}
			}
			bob.halt()
			m.stop()
		})
		return cut && !t.Failed()
	}
	every := int64(2)
	if racetest.Enabled {
		every = 23
	}
	if cuts := disktest.Cuts(every, try); cuts < 10 && !t.Failed() {
		t.Errorf("only %d moments", cuts)
	}
}
