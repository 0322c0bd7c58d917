package replay

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// Bounds that are not options.
const (
	// MaxBatch is how many records one Add takes.
	MaxBatch = 64
	// MaxCallers is how many calls may wait for the committer; further ones wait before it.
	MaxCallers = 1024
	// MaxKeys is how many keys are known at once.
	MaxKeys = 64

	groupBytes = 2 << 20          // records share a sync up to this size
	moveBytes  = 1 << 20          // moved at once, before new records have their turn
	markBatch  = 128              // marks that go along with a group of records
	maxEnded   = 256              // keys that ended and are remembered
	fullPause  = 10 * time.Second // after the disk was full
)

// Options say where a log is and what it may take. Zero values mean the defaults.
type Options struct {
	FS     vfs.FS
	Dir    string // made if it is missing
	Secret []byte // 32 bytes or more that do not lie beside the log: all of it is sealed under them
	Rand   io.Reader
	Now    func() time.Time
	Log    *slog.Logger // nil: nothing is logged

	SegmentBytes int64         // 64 MiB: a segment is ended at this size
	SegmentAge   time.Duration // 5 min: or at this age
	MaxAge       time.Duration // 1 h: what waits in an older segment is moved, so that the rest of it can go
	MaxBytes     int64         // 16 GiB: new packets are refused while the log is larger
	MinFree      uint64        // 64 MiB: and while the disk has less left
	MaxWaiting   int           // 262,144: and while so many packets wait
	MaxTags      int           // 67,108,864 (about 700 MB of memory): and while so many tags are known, of all keys
	MaxAside     int64         // 64 MiB: beyond, damaged packets are counted and not kept
}

func (o Options) withDefaults() Options {
	defaults.Zero(&o.SegmentBytes, 64<<20)
	defaults.Zero(&o.SegmentAge, 5*time.Minute)
	defaults.Zero(&o.MaxAge, time.Hour)
	defaults.Zero(&o.MaxBytes, 16<<30)
	defaults.Zero(&o.MinFree, 64<<20)
	defaults.Zero(&o.MaxWaiting, 1<<18)
	defaults.Zero(&o.MaxTags, 1<<26)
	defaults.Zero(&o.MaxAside, 64<<20)
	defaults.Clock(&o.Now)
	defaults.Logger(&o.Log)
	return o
}

// Public texts.
const (
	publicClosed  = "the log of packets is closed"
	publicBroken  = "the log of packets could not be written; what waits is still sent, new packets are refused until a restart"
	publicFull    = "the log of packets is full; what waits is still sent"
	publicDisk    = "the disk is full; what waits is still sent"
	publicWaiting = "too many packets wait"
	publicTags    = "the memory of seen packets is full"
	publicKeys    = "too many keys"
	publicEnded   = "this key has ended"
	publicLost    = "the memory of seen packets of this key is damaged"
	publicSecret  = "the log of packets was written under another secret"
)

// Log is an open log.
type Log struct {
	o      Options
	secret []byte
	lock   io.Closer

	slots chan struct{} // one token a call that waits or is worked on
	wake  chan struct{} // capacity 1
	stop  chan struct{} // closed by Close
	ended chan struct{} // closed when the committer has ended
	once  sync.Once
	calls sync.Pool // of *call

	c committer // its own; nobody else looks

	clean cleaner
	files sync.Mutex // held while tag files change, and for keyState.ended

	mu      sync.Mutex
	queue   []*call
	gone    error     // no more calls: why
	broken  error     // nothing can be written any more: why
	full    time.Time // until then nothing is tried, as the disk was full
	waiting map[uint64]*Entry
	writing []*Entry
	segs    []*segment // oldest first
	marks   []mark
	stats   Stats
	flushed []flushed // calls that wait for the cleaner

	aside aside
}

// mark is the number of a packet that was sent.
type mark struct {
	e   *Entry
	seg *segment // that holds the packet: without it the mark is not needed
}

// Stats are numbers of now and, where it says so, since Open.
type Stats struct {
	Waiting  int   // packets to be sent
	Marks    int   // sent, and not yet noted on the disk
	Damaged  int   // records kept aside or counted as such, of all times
	Segments int   // files
	Bytes    int64 // of all segments
	Live     int64 // of that, packets that wait
	Keys     int
	Tags     int   // known, of all keys
	TagBytes int64 // memory for them

	LostTags int // blocks of tags that were damaged when the log was opened: packets of theirs could be taken again
	LostKeys int // keys whose tags are lost: packets for them are refused
	Torn     int // 1: the end of the log was cut off when it was opened

	Groups  uint64 // since Open: syncs that covered records
	Records uint64 // since Open: written, moved ones and marks too
	Replays uint64 // since Open
	Refused uint64 // since Open: records not taken
	Moved   uint64 // since Open: packets written again so that their segment could go
	Dropped uint64 // since Open: segments
}

// Stats gives the numbers of now.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Waiting, s.Marks, s.Segments, s.Damaged = len(l.waiting), len(l.marks), len(l.segs), l.aside.records
	for _, g := range l.segs {
		s.Bytes += int64(g.blocks) * blockLen
		s.Live += g.live * blockLen
	}
	return s
}

// Health is nil, or why nothing new can be taken until the log is opened again. A full disk
// is not among the reasons.
func (l *Log) Health() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone != nil {
		return l.gone
	}
	return l.broken
}

// Refusal is why fresh packets are not taken now, a full disk or log among the reasons, as far
// as it is known without trying; or nil.
func (l *Log) Refusal() error {
	if err := l.Health(); err != nil {
		return err
	}
	return l.room()
}

// call is one Add, Flush or Forget that waits for the committer.
type call struct {
	recs   []Record
	out    []Result
	forget bool
	key    Key
	state  atomic.Int32
	done   chan error // capacity 1
}

// States of a call.
const (
	callQueued = iota
	callTaken
	callCanceled
)

// Add writes records and returns when they are on the disk: each Result says whether its
// record is fresh, a replay, or was not taken. The bodies are the caller's again then. The
// error is the first of the results' errors; with none of the results set it concerns them
// all. Kinds: errs.NoSpace, errs.Full (bounds of Options), errs.Denied (the key has ended),
// errs.Corrupt (its tags are lost), errs.Invalid (more than MaxBatch records, a body too long or empty and not nil), errs.Canceled,
// errs.Unavailable (see Health). After an error that is not in a Result nothing is
// acknowledged and nothing will leave; after a crash it may be there all the same.
func (l *Log) Add(ctx context.Context, recs ...Record) ([]Result, error) {
	const op = "mixnet/replay.Add"
	if len(recs) > MaxBatch {
		return nil, errs.E(op, errs.Invalid, "", errors.New("too many records"))
	}
	if len(recs) == 0 {
		return nil, nil
	}
	out := make([]Result, len(recs))
	if err := l.ask(ctx, op, func(c *call) { c.recs, c.out = recs, out }); err != nil {
		return nil, err
	}
	for i := range out {
		if out[i].Err != nil {
			return out, out[i].Err
		}
	}
	return out, nil
}

// Flush writes the marks of what was sent and drops what is not needed any more. To be
// called every second or so by who calls Sent, and now and then when nothing happens.
func (l *Log) Flush(ctx context.Context) error {
	return l.ask(ctx, "mixnet/replay.Flush", func(*call) {})
}

// Forget ends a key: its tags are destroyed, in memory and on the disk, and packets for it
// are refused from now on. What waits of it is still sent. To be called when the private
// key has been destroyed.
func (l *Log) Forget(ctx context.Context, key Key) error {
	return l.ask(ctx, "mixnet/replay.Forget", func(c *call) { c.forget, c.key = true, key })
}

// ask hands a call to the committer and waits for the answer.
func (l *Log) ask(ctx context.Context, op string, set func(*call)) error {
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return errs.E(op, errs.Canceled, "", ctx.Err())
	case <-l.stop:
		return errs.E(op, errs.Unavailable, publicClosed, nil)
	}
	c := l.calls.Get().(*call)
	c.recs, c.out, c.forget = nil, nil, false
	c.state.Store(callQueued)
	set(c)
	if err := l.push(c); err != nil {
		<-l.slots
		return errs.Wrap(op, err)
	}
	select {
	case err := <-c.done:
		l.calls.Put(c)
		return errs.Wrap(op, err)
	case <-ctx.Done():
		if c.state.CompareAndSwap(callQueued, callCanceled) {
			return errs.E(op, errs.Canceled, "", ctx.Err())
		}
		// The committer has it: wait, so that an error never hides a record.
		err := <-c.done
		l.calls.Put(c)
		return errs.Wrap(op, err)
	}
}

func (l *Log) push(c *call) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone != nil {
		return l.gone
	}
	l.queue = append(l.queue, c)
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return nil
}

// Sent ends packets: they left, or need not leave any more. It only notes that; Flush, or
// Adds that follow, bring it to the disk. An entry may be given twice.
func (l *Log) Sent(list ...*Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range list {
		l.endLocked(e)
	}
}

func (l *Log) endLocked(e *Entry) {
	if e.done {
		return
	}
	e.done = true
	delete(l.waiting, e.ID)
	e.seg.pending--
	e.seg.live -= e.blocks()
	l.marks = append(l.marks, mark{e, e.seg})
}

// Read gives the packet of an entry. It is in buf where that has the capacity BufferLen.
// errs.NotFound: it was ended. errs.Corrupt: it is damaged; it is kept aside, and ended.
// errs.Unavailable: the disk could not read it now.
func (l *Log) Read(e *Entry, buf []byte) ([]byte, error) {
	const op = "mixnet/replay.Read"
	l.mu.Lock()
	if e.done {
		l.mu.Unlock()
		return nil, errs.E(op, errs.NotFound, "", nil)
	}
	seg, block := e.seg, e.block
	seg.readers++
	l.mu.Unlock()
	defer l.release(seg)
	body, err := seg.read(block, e.Size, buf)
	if errs.KindOf(err) == errs.Corrupt {
		h := e.head()
		l.setAside(seg, block, block+h.blocks(), 1)
		l.Sent(e)
	}
	return body, errs.Wrap(op, err)
}

// release ends the use of a segment, whose file is closed by the last user when it was
// dropped meanwhile.
func (l *Log) release(s *segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.readers--
	l.closeUnusedLocked(s)
}

func (l *Log) closeUnusedLocked(s *segment) {
	if s.gone && s.readers == 0 && s.file != nil {
		_ = s.file.Close()
		s.file = nil
	}
}

// Close writes what is left to be written and gives the directory back. Calls that wait
// are answered before.
func (l *Log) Close() error {
	l.once.Do(func() { close(l.stop) })
	<-l.ended
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	for _, s := range l.segs {
		s.gone = true
		l.closeUnusedLocked(s)
	}
	if l.lock != nil {
		err = l.lock.Close()
		l.lock = nil
	}
	return err
}

// diskError gives the kind that fits a failure of the disk.
func diskError(op string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return errs.E(op, errs.NoSpace, publicDisk, err)
	case errors.Is(err, os.ErrNotExist):
		return errs.E(op, errs.NotFound, "", err)
	}
	return errs.E(op, errs.Unavailable, "", err)
}
