package replay

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.email/kit/clocktest"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// session is a scripted life of a log: packets come in groups, leave, get stuck, are moved,
// a key ends, the log is closed and opened. It keeps what it was told.
type session struct {
	t     testing.TB
	o     Options
	l     *Log
	mu    sync.Mutex // of told: the committer and the cleaner tidy up while the session goes on
	told  told
	known map[int]*Entry
}

// small is the n-th packet of the session: one to three blocks.
func small(n int) Record {
	r := record(keyOf(n), n)
	r.Body = r.Body[:2000+n%3*blockLen]
	return r
}

// told is what the log has said: after a crash it must hold to that.
type told struct {
	fresh   []int        // Add returned: fresh
	sent    map[int]bool // Sent was called: it may wait or not
	noted   map[int]bool // and Flush returned: it must not wait
	ended   bool         // Forget(1) returned
	ending  bool         // Forget(1) was called
	pending map[int]bool // Add was called, and has not returned
}

func (d told) clone() told {
	c := d
	c.fresh = append([]int(nil), d.fresh...)
	c.sent, c.noted, c.pending = map[int]bool{}, map[int]bool{}, map[int]bool{}
	for k := range d.sent {
		c.sent[k] = true
	}
	for k := range d.noted {
		c.noted[k] = true
	}
	for k := range d.pending {
		c.pending[k] = true
	}
	return c
}

func keyOf(n int) Key {
	if n < 14 {
		return 1
	}
	return 2
}

func (s *session) open() {
	var err error
	if s.l, err = Open(s.o); err != nil {
		s.t.Fatal(err)
	}
}

func (s *session) add(ns ...int) {
	recs := make([]Record, len(ns))
	for i, n := range ns {
		recs[i] = small(n)
	}
	s.say(func() {
		for _, n := range ns {
			s.told.pending[n] = true
		}
	})
	out, err := s.l.Add(s.t.Context(), recs...)
	if err != nil {
		s.t.Fatal(err)
	}
	for i, n := range ns {
		if out[i].Entry == nil {
			s.t.Fatalf("packet %d is not fresh", n)
		}
		s.say(func() {
			delete(s.told.pending, n)
			s.told.fresh = append(s.told.fresh, n)
		})
		s.known[n] = out[i].Entry
	}
}

func (s *session) say(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
}

func (s *session) send(ns ...int) {
	for _, n := range ns {
		s.say(func() { s.told.sent[n] = true })
		s.l.Sent(s.known[n])
	}
}

func (s *session) flush() {
	flush(s.t, s.l)
	s.say(func() {
		for n := range s.told.sent {
			s.told.noted[n] = true
		}
	})
}

func (s *session) reopen() {
	closeLog(s.t, s.l)
	s.open()
	for _, e := range s.l.Waiting() {
		s.known[int(e.Next[0])] = e
	}
}

func (s *session) run(clock *clocktest.Clock) {
	s.open()
	s.add(0)
	s.add(1, 2, 3)
	s.send(1)
	s.flush()
	s.add(4, 5, 6, 7, 8) // over the end of a segment
	s.send(2, 3, 4, 5, 6, 7, 8)
	s.flush()
	s.add(9, 10, 11)
	s.reopen()
	s.add(12, 13)
	s.send(9, 10, 11)
	s.flush()
	s.say(func() { s.told.ending = true })
	if err := s.l.Forget(s.t.Context(), 1); err != nil {
		s.t.Fatal(err)
	}
	s.say(func() { s.told.ended = true })
	s.add(14, 15)
	for n := 16; n < 34; n++ { // so much that 0 is moved
		s.add(n)
		s.send(n)
	}
	s.flush()
	if s.l.Stats().Moved == 0 {
		s.t.Fatal("the session moves nothing")
	}
	clock.Add(6 * time.Minute) // a segment ends by age
	s.flush()
	s.add(34)
	closeLog(s.t, s.l)
}

func newSession(t testing.TB, fs vfs.FS) (*session, *clocktest.Clock) {
	clock := clocktest.New(began)
	o := options(fs)
	o.SegmentBytes = 32 << 10
	o.Now = clock.Now
	return &session{t: t, o: o, known: map[int]*Entry{},
		told: told{sent: map[int]bool{}, noted: map[int]bool{}, pending: map[int]bool{}}}, clock
}

// TestCrashAtEverySync cuts the disk at each sync of the session, before and after it, with
// what was not synced gone, there, or torn. What was acknowledged must be there once, whole,
// and its tag known; what was noted as sent must be gone; nothing else may be there; and a
// second crash in the first recovery changes none of that.
func TestCrashAtEverySync(t *testing.T) {
	counter := vfs.NewSyncPoints(vfs.NewCrashDisk(), nil)
	s, clock := newSession(t, counter)
	s.run(clock)
	total := counter.Count()
	if total < 60 {
		t.Fatalf("the session has only %d syncs", total)
	}
	missed := 0
	for n := int64(1); n <= total; n++ {
		for _, after := range []bool{false, true} {
			for _, mode := range []vfs.Unsynced{vfs.Dropped, vfs.Kept, vfs.Torn} {
				if testing.Short() && (n+int64(mode))%5 != 0 {
					continue
				}
				disk := vfs.NewCrashDisk()
				var was told
				s, clock := newSession(t, nil)
				var cut *vfs.Cut
				cut = vfs.CutAt(disk, n, after, mode, uint64(n), func() {
					// Nothing new begins before the disk is cloned: another goroutine syncs too.
					s.mu.Lock()
					was = s.told.clone()
					go func() {
						<-cut.Done()
						s.mu.Unlock()
					}()
				})
				s.o.FS = cut.FS
				s.run(clock)
				if cut.Disk() == nil {
					// How many syncs there are depends on how soon the committer tidies up.
					if missed++; missed > 12*6 {
						t.Fatalf("sync %d of %d never came", n, total)
					}
					continue
				}
				what := fmt.Sprintf("sync %d, after %v, %v", n, after, mode)
				o := s.o
				o.FS = cut.Disk()
				check(t, what, o, was, n%8 == 0)
			}
		}
	}
}

// check opens a log after a crash and holds it against what was told. again: crashes are
// also put at each sync of that opening.
func check(t *testing.T, what string, o Options, was told, again bool) {
	t.Helper()
	disk := o.FS.(*vfs.CrashDisk)
	if again {
		points := vfs.NewSyncPoints(disk.Clone(vfs.Kept, 0), nil)
		p := o
		p.FS = points
		closeLog(t, open(t, p))
		for n := int64(1); n <= points.Count(); n++ {
			first := disk.Clone(vfs.Kept, 0)
			cut := vfs.CutAt(first, n, false, vfs.Torn, uint64(n), nil)
			p.FS = cut.FS
			closeLog(t, open(t, p))
			p.FS = cut.Disk()
			check(t, fmt.Sprintf("%s, again at %d", what, n), p, was, false)
		}
	}
	l, err := Open(o)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer l.Close()
	waiting := map[int]*Entry{}
	for _, e := range l.Waiting() {
		n := int(e.Next[0])
		if waiting[n] != nil {
			t.Fatalf("%s: packet %d waits twice", what, n)
		}
		waiting[n] = e
		body, err := l.Read(e, nil)
		if err != nil || !bytes.Equal(body, small(n).Body) {
			t.Fatalf("%s: packet %d is not whole: %v", what, n, err)
		}
	}
	acked := map[int]bool{}
	for _, n := range was.fresh {
		acked[n] = true
		if waiting[n] == nil && !was.sent[n] {
			t.Errorf("%s: packet %d was acknowledged and is lost", what, n)
		}
		if waiting[n] != nil && was.noted[n] {
			t.Errorf("%s: packet %d was noted as sent and waits", what, n)
		}
		if keyOf(n) == 1 && was.ending {
			continue
		}
		isReplay(t, l, small(n))
	}
	for n := range waiting {
		if !acked[n] && !was.pending[n] {
			t.Errorf("%s: packet %d waits and nobody added it", what, n)
		}
	}
	if was.ended {
		_, err := l.Add(t.Context(), record(1, 99))
		if len(files(t, disk, "00000001.tags")) != 0 {
			t.Errorf("%s: the tags of the key that ended are there", what)
		}
		// The log remembers as long as records of the key could be found again.
		if err != nil && errs.KindOf(err) != errs.Denied {
			t.Errorf("%s: %v", what, err)
		}
	}
	if s := l.Stats(); s.Damaged != 0 || s.LostTags != 0 || s.LostKeys != 0 {
		t.Errorf("%s: a crash is taken for damage: %+v", what, s)
	}
	// It works on.
	e := add(t, l, record(3, 1000))
	l.Sent(e)
	flush(t, l)
}

// TestSentWhileMoved: a packet that is sent while its copy is being written is not moved
// back to life.
func TestSentWhileMoved(t *testing.T) {
	disk := vfs.NewCrashDisk()
	var l *Log
	var stuck *Entry
	moving := false
	clock := clocktest.New(began)
	o := options(vfs.NewSyncPoints(disk, func(p vfs.SyncPoint) {
		if moving && !p.After && strings.HasSuffix(p.Path, ".log") {
			l.Sent(stuck) // the sync of the copy stands still
		}
	}))
	o.Now = clock.Now
	l = open(t, o)
	stuck = add(t, l, record(1, 0))
	add(t, l, record(1, 1))
	for n := 2; n < 8; n++ {
		l.Sent(add(t, l, record(1, n)))
	}
	flush(t, l)
	clock.Add(2 * time.Hour)
	moving = true
	flush(t, l)
	moving = false
	if s := l.Stats(); s.Moved != 2 || s.Waiting != 1 || s.Live != 8*blockLen {
		t.Errorf("%+v", s)
	}
	holds(t, l, 1)
	flush(t, l)
	o = options(disk.Clone(vfs.Dropped, 0))
	l = open(t, o)
	holds(t, l, 1)
}

// TestDroppingTwice: a segment that was being dropped when the process died is gone for
// good when the log was opened, whatever becomes of the disk then.
func TestDroppingTwice(t *testing.T) {
	disk, o, seg := filled(t)
	scribble(t, disk, seg, 0, make([]byte, blockLen)) // not synced
	closeLog(t, open(t, o))
	for _, mode := range []vfs.Unsynced{vfs.Dropped, vfs.Kept, vfs.Torn} {
		o.FS = disk.Clone(mode, 1)
		l := open(t, o)
		holds(t, l)
		if s := l.Stats(); s.Damaged != 0 {
			t.Errorf("%+v", s)
		}
	}
}
