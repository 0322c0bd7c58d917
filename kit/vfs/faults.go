package vfs

import (
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Faults is an FS on which chosen changes fail. Reading always works.
type Faults struct {
	FS

	mu     sync.Mutex
	counts [opCount]int
	total  int
	rules  []rule
	space  int64 // bytes that may still be written, or -1
	all    error // every change fails with it
}

type rule struct {
	op    Op
	at    int // the count of op at which it applies
	after bool
	err   error
}

// NewFaults puts faults over f; none at first.
func NewFaults(f FS) *Faults {
	t := &Faults{space: -1}
	t.FS = hookFS{f, t}
	return t
}

// FailNth makes the n-th operation of a kind (OpAny: the n-th change of any kind)
// from now on, counted from 1, fail with err. Those after it work again.
func (t *Faults) FailNth(op Op, n int, err error) { t.add(op, n, false, err) }

// FailFrom is FailNth for the n-th and all later ones.
func (t *Faults) FailFrom(op Op, n int, err error) { t.add(op, n, true, err) }

func (t *Faults) add(op Op, n int, after bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rules = append(t.rules, rule{op, t.countLocked(op) + n, after, err})
}

// SetSpace leaves room for n more bytes; the write that does not fit writes what
// does and fails with ENOSPC, and so does every write and create after it.
// Negative means no limit.
func (t *Faults) SetSpace(n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.space = n
}

// SetReadOnly makes every change fail with EROFS, or ends that.
func (t *Faults) SetReadOnly(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = nil
	if on {
		t.all = syscall.EROFS
	}
}

// Count is how many operations of a kind were asked for so far.
func (t *Faults) Count(op Op) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.countLocked(op)
}

func (t *Faults) countLocked(op Op) int {
	if op == OpAny {
		return t.total
	}
	return t.counts[op]
}

// GetDiskUsage implements FS: with SetSpace, what is left.
func (t *Faults) GetDiskUsage(path string) (vfs.DiskUsage, error) {
	t.mu.Lock()
	space := t.space
	t.mu.Unlock()
	if space < 0 {
		return t.FS.GetDiskUsage(path)
	}
	return vfs.DiskUsage{AvailBytes: uint64(space), TotalBytes: 1 << 40, UsedBytes: 1<<40 - uint64(space)}, nil
}

// Unwrap implements FS.
func (t *Faults) Unwrap() FS { return t.FS }

func (t *Faults) before(op Op, _ string, size int) (_ int64, allow int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts[op]++
	t.total++
	if t.all != nil {
		return 0, 0, t.all
	}
	for _, r := range t.rules {
		if r.op != op && r.op != OpAny {
			continue
		}
		n := t.countLocked(r.op)
		if n == r.at || r.after && n > r.at {
			return 0, 0, r.err
		}
	}
	if t.space < 0 {
		return 0, 0, nil
	}
	switch {
	case op == OpWrite && int64(size) > t.space:
		allow, t.space = int(t.space), 0
		return 0, allow, syscall.ENOSPC
	case op == OpWrite:
		t.space -= int64(size)
	case op == OpCreate && t.space == 0:
		return 0, 0, syscall.ENOSPC
	}
	return 0, 0, nil
}

func (t *Faults) after(Op, string, int64) {}
