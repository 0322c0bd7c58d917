package replay

import (
	"encoding/binary"
	"log/slog"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

func appendUint64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

// tidy drops segments in which nothing waits, from the oldest, and moves what waits in one
// that stands in the way. True: there is more to move.
func (l *Log) tidy() bool {
	c := &l.c
	if c.active != nil && l.older(c.active, l.o.SegmentAge) {
		c.active = nil
	}
	for l.dropOldest() {
	}
	return l.move()
}

// countKeys brings the committer's numbers to Stats.
func (l *Log) countKeys() {
	c := &l.c
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Keys, l.stats.Tags, l.stats.TagBytes = 0, c.tags, 0
	for _, k := range c.keys {
		if !k.ended {
			l.stats.Keys++
			l.stats.TagBytes += k.set.bytes()
		}
	}
}

func (l *Log) older(s *segment, age time.Duration) bool {
	return l.o.Now().Sub(time.UnixMilli(s.made)) >= age
}

// oldest gives the first segment that is not written to any more, or nil.
func (l *Log) oldest() *segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.segs) == 0 || l.segs[0] == l.c.active {
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
	if s == nil || l.pending(s) > 0 || l.o.Now().Before(l.c.dropFrom) {
		return false
	}
	if err := l.drop(s); err != nil {
		l.c.dropFrom = l.o.Now().Add(fullPause) // nothing is lost but room
		l.o.Log.Warn("a segment of the log of packets could not be dropped", slog.String("error", errs.Public(err)))
		return false
	}
	return true
}

// drop ends a segment: tags to their keys' files, then its key, then the rest.
func (l *Log) drop(s *segment) error {
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
	l.c.moving = nil
	l.stats.Dropped++
	return nil
}

// inTheWay reports whether the oldest segment should be emptied: when less than half of
// all ended segments waits (and it is worth it), or when it is old and mostly sent. So the
// log takes at most twice what waits and some segments more.
func (l *Log) inTheWay(s *segment) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	var blocks, live int64
	for _, g := range l.segs {
		if g != l.c.active {
			blocks += int64(g.blocks)
			live += g.live
		}
	}
	return blocks > 2*live+2*l.o.SegmentBytes/blockLen || 2*s.live < int64(s.blocks) && l.older(s, l.o.MaxAge)
}

// move writes some of what waits in the oldest segment again, at the end of the log.
func (l *Log) move() (more bool) {
	c, g := &l.c, &l.c.group
	s := l.oldest()
	if s == nil || l.o.Now().Before(c.moveFrom) || c.moving == nil && !l.inTheWay(s) {
		return false
	}
	if c.moving == nil {
		c.moving = l.entriesOf(s)
	}
	g.reset()
	err := l.refusalToMove()
	if err == nil {
		err = l.ready()
	}
	for len(c.moving) > 0 && err == nil && len(g.buf) < moveBytes {
		e := c.moving[0]
		if c.body, err = l.Read(e, c.body[:0:cap(c.body)]); err == nil {
			h := e.head()
			l.append(item{entry: e}, &h, c.body)
			g.moved++
		} else if k := errs.KindOf(err); k == errs.NotFound || k == errs.Corrupt {
			err = nil // it was sent meanwhile, or is aside
		}
		if err == nil {
			c.moving = c.moving[1:]
		}
	}
	if err == nil && len(g.items) > 0 {
		err = l.commit()
	}
	if err != nil {
		c.moving, c.moveFrom = nil, l.o.Now().Add(time.Minute)
		l.o.Log.Warn("packets could not be moved within their log", slog.String("error", errs.Public(err)))
		return false
	}
	if len(c.moving) > 0 {
		return true
	}
	c.moving = nil
	return l.dropOldest()
}

// refusalToMove is why nothing can be moved now, or nil. The bounds on what is new do not
// count: moving makes room.
func (l *Log) refusalToMove() error {
	if err := l.Health(); err != nil { // closing, too
		return err
	}
	l.mu.Lock()
	full := l.full
	l.mu.Unlock()
	if l.o.Now().Before(full) {
		return errs.E("mixnet/replay.move", errs.NoSpace, publicDisk, nil)
	}
	return nil
}

func (l *Log) entriesOf(s *segment) []*Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]*Entry, 0, s.pending)
	for _, e := range l.waiting {
		if e.seg == s {
			list = append(list, e)
		}
	}
	return list
}

// finish is the end of the committer: marks, the end of the last segment, and no segment
// in which nothing waits.
func (l *Log) finish() {
	c := &l.c
	c.group.reset()
	_ = l.addMarks(true, nil) // what is not noted is sent again, and dropped by the next hop
	if len(c.group.items) > 0 {
		_ = l.commit()
	}
	if s := c.active; s != nil {
		c.group.reset()
		end := appendRecord(nil, s.aead, &c.scratch, s.blocks, &head{kind: kindEnd}, nil)
		_ = s.write(end) // without it the next start looks at the last records once more
		c.active = nil
	}
	for l.dropOldest() {
	}
}
