package vfs

import (
	"sync"
	"sync/atomic"
)

// SyncPoint is one sync of a file or directory, counted from 1 in the order in
// which they began.
type SyncPoint struct {
	N     int64
	Path  string
	Dir   bool
	After bool // the sync is done; otherwise it is about to begin
}

// SyncPoints is an FS that counts syncs and shows each one to a hook.
type SyncPoints struct {
	FS
	count atomic.Int64
}

// NewSyncPoints puts a counter over f. fn, if not nil, is called before and after
// every sync, in the goroutine that syncs, and may be called by several at once.
func NewSyncPoints(f FS, fn func(SyncPoint)) *SyncPoints {
	s := &SyncPoints{}
	s.FS = hookFS{f, &syncHook{s, fn}}
	return s
}

// Count is how many syncs have begun.
func (s *SyncPoints) Count() int64 { return s.count.Load() }

// Unwrap implements FS.
func (s *SyncPoints) Unwrap() FS { return s.FS }

type syncHook struct {
	s  *SyncPoints
	fn func(SyncPoint)
}

func (h *syncHook) before(op Op, path string, _ int) (n int64, allow int, err error) {
	if op.IsSync() {
		n = h.s.count.Add(1)
		h.call(SyncPoint{N: n, Path: path, Dir: op == OpSyncDir})
	}
	return n, 0, nil
}

func (h *syncHook) after(op Op, path string, n int64) {
	if op.IsSync() {
		h.call(SyncPoint{N: n, Path: path, Dir: op == OpSyncDir, After: true})
	}
}

func (h *syncHook) call(p SyncPoint) {
	if h.fn != nil {
		h.fn(p)
	}
}

// Cut is a planned crash: at one sync point the disk is cloned as the crash would
// leave it.
type Cut struct {
	// FS is what the system under test gets.
	FS *SyncPoints

	once sync.Once
	done chan struct{}
	disk *CrashDisk
}

// CutAt plans a crash of disk at its n-th sync, before it begins or (after) when
// it is done. note, if not nil, is called right before the disk is cloned, while
// that sync stands still: what the system had acknowledged until then must be
// found on the clone. The system itself goes on with its own disk.
func CutAt(disk *CrashDisk, n int64, after bool, u Unsynced, seed uint64, note func()) *Cut {
	c := &Cut{done: make(chan struct{})}
	c.FS = NewSyncPoints(disk, func(p SyncPoint) {
		if p.N < n || p.After != after {
			return
		}
		c.once.Do(func() {
			if note != nil {
				note()
			}
			c.disk = disk.Clone(u, seed)
			close(c.done)
		})
	})
	return c
}

// Done is closed when the cut has happened.
func (c *Cut) Done() <-chan struct{} { return c.done }

// Disk is the disk after the crash, or nil when the n-th sync never came.
func (c *Cut) Disk() *CrashDisk {
	select {
	case <-c.done:
		return c.disk
	default:
		return nil
	}
}
