package replay

import (
	"context"
	"testing"
	"time"

	"postern.email/kit/clocktest"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// TestAddReadSent: what was added waits, is told from replays, is read back, and is gone
// when it was sent, also after a restart.
func TestAddReadSent(t *testing.T) {
	disk := vfs.NewCrashDisk()
	l := open(t, options(disk))
	var entries []*Entry
	for n := range 5 {
		entries = append(entries, add(t, l, record(1, n)))
	}
	add(t, l, Record{Key: 1, Tag: tagOf(100)}) // a tag alone
	holds(t, l, 0, 1, 2, 3, 4)
	isReplay(t, l, record(1, 3))
	isReplay(t, l, Record{Key: 1, Tag: tagOf(100)})
	add(t, l, Record{Key: 2, Tag: tagOf(100)}) // another key, another memory
	l.Sent(entries[1], entries[3], entries[1])
	holds(t, l, 0, 2, 4)
	_, err := l.Read(entries[1], nil)
	wantKind(t, "a packet that was sent", err, errs.NotFound)
	flush(t, l)
	if s := l.Stats(); s.Waiting != 3 || s.Marks != 0 || s.Tags != 7 || s.Keys != 2 || s.Segments != 1 || s.Replays != 2 || s.Damaged != 0 {
		t.Errorf("%+v", s)
	}
	closeLog(t, l)
	l = open(t, options(disk))
	holds(t, l, 0, 2, 4)
	isReplay(t, l, record(1, 1))
	isReplay(t, l, Record{Key: 2, Tag: tagOf(100)})
	if e := add(t, l, record(1, 50)); e.ID <= entries[4].ID {
		t.Error("a number was given twice")
	}
	if s := l.Stats(); s.Torn != 0 || s.Tags != 8 {
		t.Errorf("%+v", s)
	}
}

// TestOneSync: tag and packet of a record share one sync, and so do all records of a call.
func TestOneSync(t *testing.T) {
	disk := vfs.NewSyncPoints(vfs.NewCrashDisk(), nil)
	l := open(t, options(disk))
	add(t, l, record(1, 0)) // with this one segment and memory are made
	for n := 1; n <= 5; n++ {
		before := disk.Count()
		add(t, l, record(1, n))
		if got := disk.Count() - before; got != 1 {
			t.Errorf("%d syncs for a record", got)
		}
	}
	before := disk.Count()
	out, err := l.Add(t.Context(), record(1, 6), record(1, 7), record(1, 8), Record{Key: 1, Tag: tagOf(100)})
	if got := disk.Count() - before; err != nil || len(out) != 4 || got != 1 {
		t.Errorf("%d syncs for four records, %v", got, err)
	}
}

// TestReplayInOneGroup: of two records with one tag in one call, one is fresh.
func TestReplayInOneGroup(t *testing.T) {
	l := open(t, options(vfs.NewCrashDisk()))
	out, err := l.Add(t.Context(), record(1, 1), record(1, 1), record(1, 2))
	if err != nil || out[0].Entry == nil || !out[1].Replay || out[2].Entry == nil || l.Stats().Waiting != 2 {
		t.Errorf("%+v, %v", out, err)
	}
}

// TestCanceled: a call whose context has ended leaves nothing.
func TestCanceled(t *testing.T) {
	l := open(t, options(vfs.NewCrashDisk()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := l.Add(ctx, record(1, 1))
	if err != nil {
		wantKind(t, "a canceled Add", err, errs.Canceled)
		add(t, l, record(1, 1))
	}
	closeLog(t, l)
	_, err = l.Add(t.Context(), record(1, 2))
	wantKind(t, "Add after Close", err, errs.Unavailable)
	if errs.Public(err) != publicClosed {
		t.Errorf("text %q", errs.Public(err))
	}
}

// TestSegmentsGo: a segment is dropped when nothing in it waits; its tags are in the file of
// their key, and known after a restart; its own key is gone from the disk before its name.
func TestSegmentsGo(t *testing.T) {
	disk := vfs.NewCrashDisk()
	o := options(disk)
	o.SegmentBytes = 256 << 10
	l := open(t, o)
	var entries []*Entry
	for n := range 20 {
		entries = append(entries, add(t, l, record(1, n)))
	}
	if n := l.Stats().Segments; n < 3 {
		t.Fatalf("%d segments", n)
	}
	l.Sent(entries[1:]...)
	flush(t, l)
	if n := l.Stats().Segments; n < 3 || len(files(t, disk, ".tags")) != 0 {
		t.Fatal("segments were dropped though the oldest holds a packet that waits")
	}
	l.Sent(entries[0])
	flush(t, l)
	if s := l.Stats(); s.Segments != 1 || len(files(t, disk, ".log")) != 1 || s.Dropped == 0 {
		t.Fatalf("%+v", s)
	}
	if len(files(t, disk, ".tags")) != 1 {
		t.Fatal("no tag file")
	}
	closeLog(t, l)
	if got := files(t, disk, ".log"); len(got) != 0 {
		t.Errorf("segments %q are left though nothing waits", got)
	}
	l = open(t, o)
	holds(t, l)
	for n := range 20 {
		isReplay(t, l, record(1, n))
	}
	if s := l.Stats(); s.Tags != 20 {
		t.Errorf("%+v", s)
	}
}

// TestAge: a quiet mix ends its segment by age, so that what was sent does not stay.
func TestAge(t *testing.T) {
	disk := vfs.NewCrashDisk()
	clock := clocktest.New(began)
	o := options(disk)
	o.Now = clock.Now
	l := open(t, o)
	l.Sent(add(t, l, record(1, 1)))
	flush(t, l)
	if l.Stats().Segments != 1 {
		t.Fatal("the segment went at once")
	}
	clock.Add(5 * time.Minute)
	flush(t, l)
	if s := l.Stats(); s.Segments != 0 || len(files(t, disk, ".log")) != 0 {
		t.Errorf("%+v", s)
	}
	isReplay(t, l, record(1, 1))
}

// TestMove: one packet that cannot be sent does not keep the log from shrinking; it keeps
// its number, and survives a restart with its segment gone.
func TestMove(t *testing.T) {
	disk := vfs.NewCrashDisk()
	o := options(disk)
	o.SegmentBytes = 256 << 10
	l := open(t, o)
	stuck := add(t, l, record(1, 0))
	id := stuck.ID
	most := 0
	for n := 1; n < 100; n++ {
		l.Sent(add(t, l, record(1, n)))
		flush(t, l)
		most = max(most, l.Stats().Segments)
	}
	s := l.Stats()
	if most > 5 || s.Moved == 0 || s.Waiting != 1 {
		t.Errorf("up to %d segments, %+v", most, s)
	}
	holds(t, l, 0)
	closeLog(t, l)
	l = open(t, o)
	holds(t, l, 0)
	if e := l.Waiting()[0]; e.ID != id {
		t.Error("a moved packet has another number")
	}
	for n := range 100 {
		isReplay(t, l, record(1, n))
	}
}

// TestMoveByAge: in a segment of an hour that was mostly sent, what waits is moved.
func TestMoveByAge(t *testing.T) {
	clock := clocktest.New(began)
	o := options(vfs.NewCrashDisk())
	o.Now = clock.Now
	l := open(t, o)
	add(t, l, record(1, 0))
	for n := 1; n < 4; n++ {
		l.Sent(add(t, l, record(1, n)))
	}
	clock.Add(59 * time.Minute)
	flush(t, l)
	if l.Stats().Moved != 0 {
		t.Error("moved too early")
	}
	clock.Add(time.Minute)
	flush(t, l)
	if s := l.Stats(); s.Moved != 1 || s.Dropped != 1 || s.Segments != 1 {
		t.Errorf("%+v", s)
	}
	holds(t, l, 0)
}

// TestForget: a key that has ended leaves no tag file and no memory, refuses packets, also
// after a restart, and what waits of it is still there.
func TestForget(t *testing.T) {
	disk := vfs.NewCrashDisk()
	o := options(disk)
	o.SegmentBytes = 64 << 10
	l := open(t, o)
	for n := range 6 {
		l.Sent(add(t, l, record(1, n)))
	}
	flush(t, l)
	add(t, l, record(1, 6))
	add(t, l, record(2, 7))
	if len(files(t, disk, ".tags")) != 1 {
		t.Fatal("no tag file")
	}
	for range 2 {
		if err := l.Forget(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	check := func() {
		t.Helper()
		if len(files(t, disk, "00000001.tags")) != 0 {
			t.Error("the tag file is there")
		}
		out, err := l.Add(t.Context(), record(1, 8), record(2, 7))
		wantKind(t, "a packet of an ended key", err, errs.Denied)
		if errs.Public(out[0].Err) != publicEnded || !out[1].Replay {
			t.Errorf("%+v", out)
		}
		holds(t, l, 6, 7)
		if s := l.Stats(); s.Tags != 1 || s.Keys != 1 {
			t.Errorf("%+v", s)
		}
	}
	check()
	closeLog(t, l)
	l = open(t, o)
	flush(t, l)
	check()
}

// TestTwo: a log is open once at a time, and only under its own secret.
func TestTwo(t *testing.T) {
	disk := vfs.NewCrashDisk()
	o := options(disk)
	l := open(t, o)
	_, err := Open(o)
	wantKind(t, "a second Open", err, errs.Busy)
	add(t, l, record(1, 1))
	closeLog(t, l)
	other := o
	other.Secret = make([]byte, 32)
	_, err = Open(other)
	wantKind(t, "another secret", err, errs.Denied)
	if errs.Public(err) != publicSecret {
		t.Errorf("text %q", errs.Public(err))
	}
	other.Secret = nil
	_, err = Open(other)
	wantKind(t, "no secret", err, errs.Invalid)
	holds(t, open(t, o), 1)
}
