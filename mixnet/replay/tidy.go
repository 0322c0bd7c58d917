package replay

import (
	"encoding/binary"
	"log/slog"
	"time"

	"postern.email/kit/errs"
)

func appendUint64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

// tidy ends a segment that is old, and moves what waits in one that stands in the way. True:
// there is more to move.
func (l *Log) tidy() bool {
	if c := &l.c; c.active != nil && l.older(c.active, l.o.SegmentAge) {
		l.leaveActive()
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

// inTheWay reports whether the oldest segment should be emptied: when less than half of
// all ended segments waits (and it is worth it), or when it is old and mostly sent. So the
// log takes at most twice what waits and some segments more.
func (l *Log) inTheWay(s *segment) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	var blocks, live int64
	for _, g := range l.segs {
		if !g.active {
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
	return false // until it is dropped
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
		l.leaveActive()
	}
	close(l.clean.stop)
	<-l.clean.ended
}
