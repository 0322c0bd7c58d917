package relay

import (
	"context"
	"crypto/rand"
	"io"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// The ballast is a file that only takes room. When the disk is so full that the
// store cannot be opened, it is given up: mail can then be read and deleted, while
// mail.min_free_space keeps new mail out. It is taken again by a later start.
const (
	ballastName = "ballast"
	ballastSize = 16 << 20
	ballastRoom = 4 * ballastSize // it is only taken while so much is free
)

// takeBallast makes the file where there is none and room enough. Its content is
// random, because some file systems store no zeros.
func (s *Server) takeBallast() {
	if there, err := vfs.Exists(s.d.FS, s.path(ballastName)); there || err != nil {
		return
	}
	if free, err := s.d.System.DiskFree(); err != nil || free < ballastRoom {
		return
	}
	noise := make([]byte, ballastSize)
	if _, err := io.ReadFull(rand.Reader, noise); err != nil {
		return
	}
	if err := vfs.WriteFileAtomic(s.d.FS, s.path(ballastName), noise, 0o600); err != nil {
		s.d.Logger.Warn("no ballast for a full disk could be taken", "err", err)
	}
}

// dropBallast gives the room back; false when there is none to give.
func (s *Server) dropBallast() bool {
	if err := s.d.FS.Remove(s.path(ballastName)); err != nil {
		return false
	}
	if err := vfs.SyncDir(s.d.FS, s.c.Dir); err != nil && errs.KindOf(err) != errs.NoSpace {
		return false
	}
	s.d.Logger.Warn("the disk is full: the ballast was given up so that stored mail can be read; make room")
	return true
}

// Password hashes take 19 MiB each and leave it to the garbage collector, which
// looks seldom while nothing happens. These say when it is told to.
const (
	memoryEvery = 5 * time.Second
	memorySlack = 16 << 20 // bytes above what was in use after the last time
)

// watchMemory gives memory back to the system some seconds after a burst of logins.
func (s *Server) watchMemory(ctx context.Context) {
	t := time.NewTicker(memoryEvery)
	defer t.Stop()
	m := memoryWatch{least: heapInUse()}
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		l := s.accounts.Load()
		m.look(l.Hashing+l.Waiting > 0)
	}
}

// memoryWatch remembers the least heap seen.
type memoryWatch struct{ least uint64 }

// look gives memory back when much more is held than was needed before, unless the
// server is busy and would take it again at once.
func (m *memoryWatch) look(busy bool) (gave bool) {
	now := heapInUse()
	m.least = min(m.least, now)
	if busy || now <= m.least+memorySlack {
		return false
	}
	debug.FreeOSMemory()
	m.least = heapInUse()
	return true
}

// heapInUse gives the bytes of heap that the process holds, garbage included.
func heapInUse() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
	metrics.Read(sample)
	var sum uint64
	for _, x := range sample {
		if x.Value.Kind() == metrics.KindUint64 {
			sum += x.Value.Uint64()
		}
	}
	return sum
}
