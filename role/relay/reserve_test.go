package relay

import (
	"io"
	"runtime/debug"
	"testing"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// fullDisk gives back the ballast's room when it is removed.
type fullDisk struct {
	*vfs.Faults
	disk *vfs.CrashDisk
}

// Lock needs no room: the lock file is there already.
func (f fullDisk) Lock(name string) (io.Closer, error) { return f.disk.Lock(name) }

func (f fullDisk) Remove(name string) error {
	err := f.Faults.Remove(name)
	if err == nil && f.PathBase(name) == ballastName {
		f.SetSpace(ballastSize)
	}
	return err
}

// TestFullDiskStillReads: on a disk so full that the store cannot be opened, the
// ballast goes, stored mail can be read, and no new mail is taken.
func TestFullDiskStillReads(t *testing.T) {
	below := vfs.NewCrashDisk()
	disk := fullDisk{vfs.NewFaults(below), below}
	disk.SetSpace(1 << 30)
	c := testConfig(t, "/data")
	there := func() bool { ok, _ := vfs.Exists(disk, "/data/"+ballastName); return ok }

	s := begin(t, Deps{FS: disk, NoControl: true}, c)
	m, _ := sealedMail(anna, 2000)
	allowed(t, submits(s, m))
	until(t, "ballast", there)
	allowed(t, s.Close())

	disk.SetSpace(0)
	s = begin(t, Deps{FS: disk, NoControl: true}, c)
	if there() {
		t.Error("the ballast is still there: the disk was not full, or the test is none")
	}
	if n := count(t, s, "INBOX"); n != 1 {
		t.Errorf("%d mails", n)
	}
	refusedWith(t, submits(s, m), "452 4.3.1")
	allowed(t, s.Close())

	// Without a ballast the start says what is the matter.
	disk.SetSpace(0)
	if _, err := Start(t.Context(), Deps{FS: disk, NoControl: true}, c); errs.KindOf(err) != errs.NoSpace {
		t.Errorf("full: %v", err)
	}
	disk.SetSpace(1 << 30)
	begin(t, Deps{FS: disk, NoControl: true}, c)
	until(t, "ballast again", there)
}

// TestMemoryGoesBack: garbage of a burst is given back to the system when it is over.
func TestMemoryGoesBack(t *testing.T) {
	debug.FreeOSMemory() // what earlier tests left must not go away in the middle of this one
	m := memoryWatch{least: heapInUse()}
	burst := make([]byte, 3*memorySlack)
	for i := range burst {
		burst[i] = 1
	}
	held := heapInUse()
	if m.look(true) {
		t.Error("given back in the middle of the burst")
	}
	burst = nil
	if !m.look(false) {
		t.Error("not given back")
	}
	if now := heapInUse(); now+2*memorySlack > held {
		t.Errorf("%d bytes held before, %d after", held, now)
	}
	if m.look(false) {
		t.Error("given back twice")
	}
	_ = burst
}
