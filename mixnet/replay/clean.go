package replay

import (
	"log/slog"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// cleaner drops segments beside the committer, so that no packet waits for that.
type cleaner struct {
	wake  chan struct{} // capacity 1
	stop  chan struct{} // closed by the committer when it has written the last
	ended chan struct{}
	from  time.Time // until then nothing is dropped, as that failed
}

// flushed is a Flush whose marks are written: it is answered when what can be dropped is.
type flushed struct {
	c   *call
	err error
}

// cleanUp is the cleaner.
func (l *Log) cleanUp() {
	defer close(l.clean.ended)
	for open := true; open; {
		select {
		case <-l.clean.wake:
		case <-l.clean.stop:
			open = false
		}
		l.mu.Lock()
		list := l.flushed
		l.flushed = nil
		l.mu.Unlock()
		dropped := false
		for l.dropOldest() {
			dropped = true
		}
		for _, f := range list {
			f.c.done <- f.err
		}
		if dropped {
			// The next segment may be one to be emptied.
			select {
			case l.wake <- struct{}{}:
			default:
			}
		}
	}
}

// sweep has the cleaner look, and answer these calls afterwards.
func (l *Log) sweep(calls []*call, err error) {
	l.mu.Lock()
	for _, c := range calls {
		l.flushed = append(l.flushed, flushed{c, err})
	}
	l.mu.Unlock()
	select {
	case l.clean.wake <- struct{}{}:
	default:
	}
}

// oldest gives the first segment that is not written to any more, or nil.
func (l *Log) oldest() *segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.segs) == 0 || l.segs[0].active {
		return nil
	}
	return l.segs[0]
}

func (l *Log) pending(s *segment) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.pending
}

// dropOldest drops the oldest segment if nothing in it waits; false: it did not.
func (l *Log) dropOldest() bool {
	s := l.oldest()
	if s == nil || l.pending(s) > 0 || l.o.Now().Before(l.clean.from) {
		return false
	}
	if err := l.drop(s); err != nil {
		l.clean.from = l.o.Now().Add(fullPause) // nothing is lost but room
		l.o.Log.Warn("a segment of the log of packets could not be dropped", slog.String("error", errs.Public(err)))
		return false
	}
	return true
}

// drop ends a segment: tags to their keys' files, then its key, then the rest.
func (l *Log) drop(s *segment) error {
	l.files.Lock()
	defer l.files.Unlock()
	byKey := make(map[*keyState][]uint64)
	for _, t := range s.tags {
		if !t.k.ended {
			byKey[t.k] = append(byKey[t.k], t.f)
		}
	}
	for k, tags := range byKey {
		if err := k.file(l.o.FS, l.path(tagFileName(k.key)), tags); err != nil {
			return err
		}
	}
	s.tags = nil
	if err := vfs.Shred(l.o.FS, l.path(segmentName(s.number)), blockLen); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.segs = append(l.segs[:0], l.segs[1:]...)
	s.gone = true
	l.closeUnusedLocked(s)
	l.stats.Dropped++
	return nil
}
