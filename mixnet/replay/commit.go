package replay

import (
	"errors"
	"io"
	"log/slog"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// committer is what the one writing goroutine knows.
type committer struct {
	keys     map[Key]*keyState
	gone     []Key // those of keys that ended, oldest first
	tags     int
	active   *segment  // the last of Log.segs; nil: the next record begins one
	number   uint64    // of the last segment
	seq      uint64    // of the last record, acknowledged or not
	acked    uint64    // of the last one acknowledged
	moveFrom time.Time // until then nothing is moved, as that failed
	moving   []*Entry  // of the oldest segment
	group    group
	scratch  scratch
	body     []byte
}

// group is what shares one write and one sync.
type group struct {
	buf    []byte
	first  uint64 // seq of its first record
	items  []item
	echoes []*Result // replays of records in this group
	seen   map[tagged]struct{}
	fresh  int // packets among items
	moved  int
	marks  int // of Log.marks, from the front
}

// item is a record of the group.
type item struct {
	out   *Result // nil: of no Add
	tag   tagged  // k nil: none
	entry *Entry  // nil: nothing waits
	block uint32
}

func (g *group) reset() {
	clear(g.items)
	clear(g.echoes)
	clear(g.seen)
	*g = group{buf: g.buf[:0], items: g.items[:0], echoes: g.echoes[:0], seen: g.seen}
}

// run is the committer.
func (l *Log) run() {
	defer close(l.ended)
	for open := true; open; {
		select {
		case <-l.wake:
		case <-l.stop:
			open = false
			l.mu.Lock()
			l.gone = errs.E("mixnet/replay", errs.Unavailable, publicClosed, nil)
			l.mu.Unlock()
		}
		for l.round() {
		}
	}
	l.finish()
}

// round serves some of those that wait; false: nobody did, and nothing is left to move.
func (l *Log) round() bool {
	calls := l.take()
	if len(calls) == 1 && calls[0].forget {
		err := l.end(calls[0].key)
		l.countKeys()
		calls[0].done <- err
		return true
	}
	var err error
	if len(calls) > 0 {
		err = l.serve(calls)
		l.countKeys()
	}
	flushes := calls[:0] // a call that was answered belongs to somebody else
	for _, c := range calls {
		if len(c.recs) == 0 {
			flushes = append(flushes, c)
			continue
		}
		c.done <- nil // the results tell
	}
	more := l.tidy()
	l.sweep(flushes, err)
	return more || len(calls) > 0
}

// take gives the calls that share the next group: a Forget is alone.
func (l *Log) take() (calls []*call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, bytes := 0, 0
	for ; n < len(l.queue) && bytes < groupBytes; n++ {
		c := l.queue[n]
		if c.forget && len(calls) > 0 {
			break
		}
		<-l.slots
		if !c.state.CompareAndSwap(callQueued, callTaken) {
			continue
		}
		calls = append(calls, c)
		if c.forget {
			n++
			break
		}
		for i := range c.recs {
			bytes += len(c.recs[i].Body) + blockLen
		}
	}
	rest := copy(l.queue, l.queue[n:])
	clear(l.queue[rest:])
	l.queue = l.queue[:rest]
	return calls
}

// serve writes the records of calls and answers them in their results. The error is that
// of the disk.
func (l *Log) serve(calls []*call) error {
	c := &l.c
	c.group.reset()
	flush := false
	refusal := l.refusal()
	for _, call := range calls {
		flush = flush || len(call.recs) == 0
		for i := range call.recs {
			l.judge(&call.recs[i], &call.out[i], &refusal)
		}
	}
	err := l.addMarks(flush, refusal)
	if len(c.group.items) > 0 {
		err = l.commit()
	}
	l.count(calls)
	return err
}

// count counts what was not written.
func (l *Log) count(calls []*call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, call := range calls {
		for i := range call.out {
			switch {
			case call.out[i].Err != nil:
				l.stats.Refused++
			case call.out[i].Replay:
				l.stats.Replays++
			}
		}
	}
}

// brokenness is why nothing can be written any more, or nil.
func (l *Log) brokenness() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken
}

// refusal is why no fresh record can be taken now, or nil.
func (l *Log) refusal() error {
	if err := l.brokenness(); err != nil {
		return err
	}
	return l.room()
}

// room is why there is no room for a fresh record, or nil.
func (l *Log) room() error {
	const op = "mixnet/replay.Add"
	l.mu.Lock()
	bytes := int64(0)
	for _, s := range l.segs {
		bytes += int64(s.blocks) * blockLen
	}
	full := l.full
	l.mu.Unlock()
	switch free, err := vfs.DiskFree(l.o.FS, l.o.Dir); {
	case bytes > l.o.MaxBytes:
		return errs.E(op, errs.Full, publicFull, nil)
	case l.o.Now().Before(full), err == nil && free < l.o.MinFree:
		return errs.E(op, errs.NoSpace, publicDisk, nil)
	}
	return nil
}

// judge decides on one record, and puts a fresh one into the group.
func (l *Log) judge(r *Record, out *Result, refusal *error) {
	const op = "mixnet/replay.Add"
	c, g := &l.c, &l.c.group
	if r.Body != nil && (len(r.Body) == 0 || len(r.Body) > MaxBody) {
		out.Err = errs.E(op, errs.Invalid, "", errors.New("a packet of a wrong size"))
		return
	}
	k, err := l.key(r.Key)
	if err != nil {
		out.Err = err
		return
	}
	t := tagged{k, k.fingerprint(r.Tag)}
	if k.set.has(t.f) {
		out.Replay = true
		return
	}
	if _, ok := g.seen[t]; ok {
		out.Replay = true // if the first one's sync succeeds
		g.echoes = append(g.echoes, out)
		return
	}
	switch {
	case *refusal != nil:
		out.Err = *refusal
	case c.tags+len(g.seen) >= l.o.MaxTags:
		out.Err = errs.E(op, errs.Full, publicTags, nil)
	case r.Body != nil && l.countWaiting()+g.fresh >= l.o.MaxWaiting:
		out.Err = errs.E(op, errs.Full, publicWaiting, nil)
	default:
		if out.Err = l.ready(); out.Err != nil {
			*refusal = out.Err
		}
	}
	if out.Err != nil {
		return
	}
	g.seen[t] = struct{}{}
	it := item{out: out, tag: t}
	h := head{kind: kindTag, key: r.Key, tag: r.Tag}
	if r.Body != nil {
		h = head{kind: kindPacket, key: r.Key, tag: r.Tag, use: r.Use, next: r.Next, body: uint32(len(r.Body))}
		if !r.Due.IsZero() {
			h.due = r.Due.UnixMilli()
		}
		it.entry = &Entry{Due: h.due, Next: r.Next, Key: r.Key, Use: r.Use, Size: len(r.Body)}
		g.fresh++
	}
	l.append(it, &h, r.Body)
}

func (l *Log) countWaiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)
}

// append puts a record into the group. ready was called.
func (l *Log) append(it item, h *head, body []byte) {
	c, g := &l.c, &l.c.group
	c.seq++
	h.seq = c.seq
	if g.first == 0 {
		g.first = h.seq
	}
	h.group = g.first
	if h.kind == kindPacket {
		h.id = h.seq
		it.entry.ID = h.id
	}
	it.block = c.active.blocks + uint32(len(g.buf)/blockLen)
	g.buf = appendRecord(g.buf, c.active.aead, &c.scratch, it.block, h, body)
	g.items = append(g.items, it)
}

// addMarks puts marks of what was sent into the group: all of them for a flush, else those
// that are worth a block.
func (l *Log) addMarks(flush bool, refusal error) error {
	c, g := &l.c, &l.c.group
	l.mu.Lock()
	kept := l.marks[:0]
	for _, m := range l.marks {
		if !m.seg.gone {
			kept = append(kept, m)
		}
	}
	clear(l.marks[len(kept):])
	l.marks = kept
	marks := append([]mark(nil), kept...)
	broken := l.broken
	l.mu.Unlock()
	if len(marks) == 0 || !flush && (len(marks) < markBatch || len(g.items) == 0) {
		return nil
	}
	if broken != nil {
		return broken
	}
	if refusal != nil && errs.KindOf(refusal) == errs.NoSpace && c.active == nil {
		return refusal
	}
	if err := l.ready(); err != nil {
		return err
	}
	for len(marks) > 0 {
		n := min(len(marks), maxMarks)
		b := make([]byte, 0, 8*n)
		for _, m := range marks[:n] {
			b = appendUint64(b, m.e.ID)
		}
		l.append(item{}, &head{kind: kindSent, body: uint32(len(b))}, b)
		marks = marks[n:]
		g.marks += n
	}
	return nil
}

// ready makes sure that there is a segment to append to.
func (l *Log) ready() error {
	c := &l.c
	if len(c.group.buf) > 0 {
		return nil // the group goes where its first record goes
	}
	if c.active != nil && int64(c.active.blocks)*blockLen < l.o.SegmentBytes {
		return nil
	}
	c.number++
	s, err := l.newSegment(header{number: c.number, first: c.seq + 1, acked: c.acked, made: l.o.Now().UnixMilli()})
	if err != nil {
		return l.failed(err)
	}
	l.leaveActive() // it is full
	c.active = s
	l.mu.Lock()
	s.active = true
	l.segs = append(l.segs, s)
	l.mu.Unlock()
	return nil
}

// failed notes why the disk did not take something. The segment is left as it is: what it
// holds of the group is void, as the header of the next one says.
func (l *Log) failed(err error) error {
	l.leaveActive()
	l.mu.Lock()
	defer l.mu.Unlock()
	if errs.KindOf(err) == errs.NoSpace {
		l.full = l.o.Now().Add(fullPause)
		return errs.E("mixnet/replay", errs.NoSpace, publicDisk, err)
	}
	if l.broken == nil {
		l.broken = errs.E("mixnet/replay", errs.Unavailable, publicBroken, err)
		l.o.Log.Error("the log of packets stopped", slog.String("error", errs.Public(l.broken)))
	}
	return l.broken
}

// leaveActive ends the segment that is written to.
func (l *Log) leaveActive() {
	s := l.c.active
	if s == nil {
		return
	}
	l.c.active = nil
	l.mu.Lock()
	s.active = false
	l.mu.Unlock()
}

// commit makes the group durable and only then tells its members. This is the one place
// that says of a packet that it was taken.
func (l *Log) commit() error {
	c, g := &l.c, &l.c.group
	s := c.active
	l.mu.Lock()
	for _, it := range g.items {
		if it.out != nil && it.entry != nil {
			l.writing = append(l.writing, it.entry)
		}
	}
	l.mu.Unlock()
	err := s.write(g.buf)
	if err != nil {
		err = l.failed(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.writing)
	l.writing = l.writing[:0]
	if err != nil {
		for _, it := range g.items {
			if it.out != nil {
				*it.out = Result{Err: err}
			}
		}
		for _, out := range g.echoes {
			*out = Result{Err: err}
		}
		return err
	}
	c.acked = c.seq
	s.blocks += uint32(len(g.buf) / blockLen)
	for _, it := range g.items {
		l.landedLocked(s, it)
	}
	clear(l.marks[:g.marks])
	l.marks = append(l.marks[:0], l.marks[g.marks:]...)
	l.stats.Groups++
	l.stats.Records += uint64(len(g.items))
	l.stats.Moved += uint64(g.moved)
	return nil
}

// landedLocked notes one durable record.
func (l *Log) landedLocked(s *segment, it item) {
	if it.tag.k != nil && it.tag.k.set.add(it.tag.f) {
		s.tags = append(s.tags, it.tag)
		l.c.tags++
	}
	e := it.entry
	switch {
	case e == nil:
		return
	case it.out != nil:
		it.out.Entry = e
		l.waiting[e.ID] = e
	case e.done: // it was sent while it was moved: only its mark keeps it from being sent again
		l.marks = append(l.marks, mark{e, s})
		return
	default:
		e.seg.pending--
		e.seg.live -= e.blocks()
	}
	e.seg, e.block = s, it.block
	s.pending++
	s.live += e.blocks()
}

// key gives the state of a key, which begins here if it is new.
func (l *Log) key(key Key) (*keyState, error) {
	const op = "mixnet/replay.Add"
	c := &l.c
	k := c.keys[key]
	switch {
	case k == nil:
	case k.ended:
		return nil, errs.E(op, errs.Denied, publicEnded, nil)
	case k.lost:
		return nil, errs.E(op, errs.Corrupt, publicLost, nil)
	default:
		return k, nil
	}
	if len(c.keys)-len(c.gone) >= MaxKeys {
		return nil, errs.E(op, errs.Full, publicKeys, nil)
	}
	var salt [saltLen]byte
	if _, err := io.ReadFull(l.o.Rand, salt[:]); err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	k, err := newKeyState(l.secret, key, salt)
	if err != nil {
		return nil, err
	}
	c.keys[key] = k
	return k, nil
}

// end ends a key: first the record that voids its tags, then their file.
func (l *Log) end(key Key) error {
	const op = "mixnet/replay.Forget"
	c := &l.c
	k := c.keys[key]
	if k == nil {
		k = &keyState{key: key}
	}
	if !k.ended {
		c.group.reset()
		if err := l.brokenness(); err != nil {
			return err
		}
		if err := l.ready(); err != nil {
			return err
		}
		l.append(item{}, &head{kind: kindEnded, key: key}, nil)
		if err := l.commit(); err != nil {
			return err
		}
		c.tags -= k.set.n
	}
	// Not while the cleaner adds to the file: what it added afterwards would stay.
	l.files.Lock()
	defer l.files.Unlock()
	if !k.ended {
		l.endState(k)
	}
	return errs.Wrap(op, l.shredTags(key))
}

// endState makes a key one that has ended.
func (l *Log) endState(k *keyState) {
	c := &l.c
	c.keys[k.key] = &keyState{key: k.key, ended: true}
	k.ended, k.set = true, set{} // segments still point to it
	c.gone = append(c.gone, k.key)
	if len(c.gone) > maxEnded {
		delete(c.keys, c.gone[0])
		c.gone = append(c.gone[:0], c.gone[1:]...)
	}
}

func (l *Log) shredTags(key Key) error {
	if err := vfs.Shred(l.o.FS, l.path(tagFileName(key)), blockLen); err != nil {
		return err
	}
	return vfs.SyncDir(l.o.FS, l.o.Dir)
}
