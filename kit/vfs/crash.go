package vfs

import (
	"math/rand/v2"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Unsynced says what a crash does to data and directory entries that were
// written and not yet synced. Synced ones always survive.
type Unsynced uint8

const (
	Dropped Unsynced = iota // all of it is gone: power loss, nothing was written back
	Kept                    // all of it is there: only the process died
	Torn                    // some blocks of 4 KiB and some entries are there
)

func (u Unsynced) String() string {
	switch u {
	case Dropped:
		return "dropped"
	case Kept:
		return "kept"
	case Torn:
		return "torn"
	}
	return "unknown"
}

// CrashDisk is an FS in memory that knows what was synced.
type CrashDisk struct {
	*vfs.MemFS

	// guard keeps Clone and the two operations of MemFS apart that lock twice and
	// would stand still when a clone comes in between.
	guard sync.RWMutex
}

// NewCrashDisk makes an empty disk; its root directory is "/".
func NewCrashDisk() *CrashDisk { return &CrashDisk{MemFS: vfs.NewCrashableMem()} }

// Clone gives the disk as a crash at this moment would leave it. The original
// goes on; what is written to it later does not show in the clone. No file of the
// clone is locked. seed varies what survives in a Torn clone; with
// several unsynced directory entries, equal seeds may differ, as they are visited
// in no fixed order.
func (d *CrashDisk) Clone(u Unsynced, seed uint64) *CrashDisk {
	d.guard.Lock()
	defer d.guard.Unlock()
	cfg := vfs.CrashCloneCfg{}
	switch u {
	case Kept:
		cfg.UnsyncedDataPercent = 100
		cfg.RNG = rand.New(rand.NewPCG(0, 0))
	case Torn:
		rng := rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))
		cfg.UnsyncedDataPercent = 10 + rng.IntN(81)
		cfg.RNG = rng
	}
	var before map[string]bool
	if u == Kept {
		before = allPaths(d.MemFS)
	}
	c := &CrashDisk{MemFS: d.CrashClone(cfg)}
	if u == Kept {
		// MemFS brings back what was removed and whose directory was not synced.
		after := allPaths(d.MemFS)
		for p := range allPaths(c.MemFS) {
			if !before[p] && !after[p] {
				_ = c.RemoveAll(p)
			}
		}
	}
	return c
}

func allPaths(m *vfs.MemFS) map[string]bool {
	out := make(map[string]bool)
	var walk func(dir string)
	walk = func(dir string) {
		names, err := m.List(dir)
		if err != nil {
			return
		}
		for _, n := range names {
			p := m.PathJoin(dir, n)
			out[p] = true
			if info, err := m.Stat(p); err == nil && info.IsDir() {
				walk(p)
			}
		}
	}
	walk("/")
	return out
}

// Link implements FS.
func (d *CrashDisk) Link(oldname, newname string) error {
	d.guard.RLock()
	defer d.guard.RUnlock()
	return d.MemFS.Link(oldname, newname)
}

// ReuseForWrite implements FS.
func (d *CrashDisk) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (File, error) {
	d.guard.RLock()
	defer d.guard.RUnlock()
	return d.MemFS.ReuseForWrite(oldname, newname, c)
}

var _ FS = (*CrashDisk)(nil)
