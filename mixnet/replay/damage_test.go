package replay

import (
	"bytes"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern.email/kit/clocktest"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// scribble overwrites bytes of a file.
func scribble(t testing.TB, fs vfs.FS, name string, at int64, b []byte) {
	t.Helper()
	f, err := fs.OpenReadWrite(dir+"/"+name, vfs.Unspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

var junk = []byte("something else was written here")

// filled is a log, not open, with packets 0 to 5 in one segment, 8 blocks each from block 1.
func filled(t testing.TB) (*vfs.CrashDisk, Options, string) {
	t.Helper()
	disk := vfs.NewCrashDisk()
	l := open(t, options(disk))
	for n := range 6 {
		add(t, l, record(1, n))
	}
	closeLog(t, l)
	return disk, options(disk), files(t, disk, ".log")[0]
}

// damaged opens what filled made, after damage, twice: the second time the same damage must
// not be counted again.
func damaged(t *testing.T, o Options, count int, left ...int) *Log {
	t.Helper()
	var l *Log
	for range 2 {
		if l != nil {
			closeLog(t, l)
		}
		l = open(t, o)
		holds(t, l, left...)
		if s := l.Stats(); s.Damaged != count || s.Torn != 0 {
			t.Fatalf("%+v, want %d damaged", s, count)
		}
		n := 0
		for v := range l.Entries() {
			if v.State == Corrupt {
				n += v.Count
			}
		}
		if n != count {
			t.Fatalf("%d crp, want %d", n, count)
		}
	}
	if count > 0 && len(files(t, o.FS, "")) < 4 {
		t.Error("nothing is kept aside")
	}
	return l
}

// TestDamagedHeads: records that cannot be read are set aside and counted, as many as are
// missing, wherever they are; what is around them is there, and the log works on.
func TestDamagedHeads(t *testing.T) {
	const step = 8 * blockLen
	for name, tc := range map[string]struct {
		at, n int64 // bytes scribbled over
		count int
		left  []int
	}{
		"one":          {blockLen + 2*step, 10, 1, []int{0, 1, 3, 4, 5}},
		"the first":    {blockLen, 10, 1, []int{1, 2, 3, 4, 5}},
		"three":        {blockLen + step, 2*step + 50, 3, []int{0, 4, 5}},
		"the last":     {blockLen + 5*step, 10, 1, []int{0, 1, 2, 3, 4}},
		"the last two": {blockLen + 4*step, step + 10, 1, []int{0, 1, 2, 3}},
		"all":          {blockLen, 6*step + blockLen, 0, nil},
	} {
		disk, o, seg := filled(t)
		scribble(t, disk, seg, tc.at, bytes.Repeat(junk, int(tc.n)/len(junk)+1)[:tc.n])
		if name == "all" { // without any record and without an end it is a torn segment
			l := open(t, o)
			if s := l.Stats(); s.Torn != 1 || s.Waiting != 0 {
				t.Errorf("%s: %+v", name, s)
			}
			continue
		}
		l := damaged(t, o, tc.count, tc.left...)
		add(t, l, record(1, 9))
		holds(t, l, append(tc.left, 9)...)
	}
}

// TestDamagedTail: what a later segment says was acknowledged, and is not there, is damage
// too.
func TestDamagedTail(t *testing.T) {
	disk := vfs.NewCrashDisk()
	o := options(disk)
	o.SegmentBytes = 64 << 10 // two records
	l := open(t, o)
	for n := range 4 {
		add(t, l, record(1, n))
	}
	closeLog(t, l)
	scribble(t, disk, files(t, disk, ".log")[0], blockLen+8*blockLen, junk)
	damaged(t, o, 1, 0, 2, 3)
}

// TestDamagedBody: a packet whose head is whole keeps its tag; reading it sets it aside and
// ends it.
func TestDamagedBody(t *testing.T) {
	disk, o, seg := filled(t)
	scribble(t, disk, seg, blockLen+3*8*blockLen+5000, junk)
	l := open(t, o)
	isReplay(t, l, record(1, 3))
	_, err := l.Read(l.Waiting()[3], nil)
	wantKind(t, "a damaged packet", err, errs.Corrupt)
	flush(t, l)
	closeLog(t, l)
	l = damaged(t, o, 1, 0, 1, 2, 4, 5)
	isReplay(t, l, record(1, 3))
	var kept string
	for _, name := range files(t, disk, "-1") {
		if strings.HasPrefix(name, "crp-") {
			kept = name
		}
	}
	b, err := vfs.ReadFile(disk, dir+"/"+kept)
	if err != nil || len(b) != 8*blockLen || !bytes.Contains(b, junk) {
		t.Errorf("%q holds %d bytes, %v", kept, len(b), err)
	}
}

// TestDamagedHeader: a segment whose first block is damaged is kept aside whole; others are
// not touched.
func TestDamagedHeader(t *testing.T) {
	disk := vfs.NewCrashDisk()
	o := options(disk)
	o.SegmentBytes = 64 << 10
	l := open(t, o)
	for n := range 4 {
		add(t, l, record(1, n))
	}
	closeLog(t, l)
	scribble(t, disk, files(t, disk, ".log")[0], 60, junk)
	l = damaged(t, o, 1, 2, 3)
	add(t, l, record(1, 0)) // its tag is lost
}

// TestDamagedTags: a damaged block of a tag file is counted and the rest of the file holds;
// with a damaged first block the key is refused and nothing else; what is torn at the end is neither.
func TestDamagedTags(t *testing.T) {
	fill := func() (*vfs.CrashDisk, Options) {
		disk := vfs.NewCrashDisk()
		o := options(disk)
		o.SegmentBytes = 40 << 10
		l := open(t, o)
		for n := range 4 {
			l.Sent(add(t, l, record(1, n)), add(t, l, Record{Key: 2, Tag: tagOf(n), Body: []byte{1}}))
			flush(t, l)
		}
		closeLog(t, l)
		return disk, o
	}
	disk, o := fill()
	scribble(t, disk, "00000001.tags", 2*blockLen+100, junk)
	l := open(t, o)
	if s := l.Stats(); s.LostTags != 1 || s.LostKeys != 0 || s.Tags != 7 {
		t.Errorf("%+v", s)
	}
	disk, o = fill()
	scribble(t, disk, "00000001.tags", 20, junk)
	l = open(t, o)
	out, err := l.Add(t.Context(), record(1, 9), Record{Key: 2, Tag: tagOf(2)}, record(3, 9))
	wantKind(t, "a packet for a key without memory", err, errs.Corrupt)
	if errs.Public(out[0].Err) != publicLost || !out[1].Replay || out[2].Entry == nil || l.Stats().LostKeys != 1 {
		t.Errorf("%+v, %+v", out, l.Stats())
	}
	if err := l.Forget(t.Context(), 1); err != nil {
		t.Error(err)
	}
	if len(files(t, disk, "00000001.tags")) != 0 {
		t.Error("the damaged file outlived its key")
	}
	disk, o = fill()
	b, err := vfs.ReadFile(disk, dir+"/00000001.tags")
	if err != nil {
		t.Fatal(err)
	}
	scribble(t, disk, "00000001.tags", int64(len(b)), junk)
	l = open(t, o)
	if s := l.Stats(); s.LostTags != 0 || s.Tags != 8 {
		t.Errorf("%+v", s)
	}
	l.Sent(add(t, l, record(1, 10)), add(t, l, record(1, 11))) // over the torn end
	flush(t, l)
	closeLog(t, l)
	l = open(t, o)
	for _, n := range []int{0, 1, 2, 3, 10, 11} {
		isReplay(t, l, record(1, n))
	}
}

// TestDamagedFormat: the file format is written again where a segment shows that the secret
// is right; a later version is refused.
func TestDamagedFormat(t *testing.T) {
	disk, o, _ := filled(t)
	scribble(t, disk, formatName, 20, junk)
	l := open(t, o)
	holds(t, l, 0, 1, 2, 3, 4, 5)
	closeLog(t, l)
	other := o
	other.Secret = make([]byte, 32)
	_, err := Open(other)
	wantKind(t, "another secret", err, errs.Denied)
	if err := disk.Remove(dir + "/" + formatName); err != nil {
		t.Fatal(err)
	}
	_, err = Open(other)
	wantKind(t, "another secret and no format", err, errs.Denied)
	closeLog(t, open(t, o))
	scribble(t, disk, formatName, 11, []byte{2})
	_, err = Open(o)
	wantKind(t, "a later version", err, errs.Unsupported)
	if !strings.Contains(errs.Public(err), "later version") {
		t.Errorf("text %q", errs.Public(err))
	}
}

// TestBoundsOfAside: beyond MaxAside damage is counted and its bytes are not kept.
func TestBoundsOfAside(t *testing.T) {
	disk, o, seg := filled(t)
	for n := range 3 {
		scribble(t, disk, seg, blockLen+int64(2*n)*8*blockLen, junk)
	}
	o.MaxAside = 8 * blockLen
	damaged(t, o, 3, 1, 3, 5)
	total := int64(0)
	for _, name := range files(t, disk, "-1") {
		if info, err := disk.Stat(dir + "/" + name); err == nil && strings.HasPrefix(name, "crp-") {
			total += info.Size()
		}
	}
	if total != 8*blockLen {
		t.Errorf("%d bytes are kept", total)
	}
}

// TestFullDisk: a full disk refuses new packets with a clear text, replays are told apart
// all the same, what waits is read and sent; with room it goes on. The packets that were refused
// are not there after a restart, though parts of them are in a segment.
func TestFullDisk(t *testing.T) {
	disk := vfs.NewCrashDisk()
	faults := vfs.NewFaults(disk)
	clock := clocktest.New(began)
	o := options(faults)
	o.Now = clock.Now
	l := open(t, o)
	e := add(t, l, record(1, 0))
	add(t, l, record(1, 1))
	for _, room := range []int64{50_000, 5_000, 1} { // in the second record, in the first, nowhere
		faults.SetSpace(room)
		out, err := l.Add(t.Context(), record(1, 2), record(1, 0), record(1, 3), record(1, 2))
		wantKind(t, "a full disk", err, errs.NoSpace)
		if errs.Public(err) != publicDisk || out[2].Err == nil || out[3].Err == nil || out[3].Replay || !out[1].Replay || out[1].Err != nil {
			t.Errorf("%+v", out)
		}
		faults.SetSpace(1 << 30)
		_, err = l.Add(t.Context(), record(1, 2))
		wantKind(t, "right after the disk was full", err, errs.NoSpace)
		clock.Add(fullPause)
	}
	if err := l.Health(); err != nil {
		t.Errorf("a full disk broke the log: %v", err)
	}
	holds(t, l, 0, 1)
	faults.SetSpace(-1)
	l.Sent(e)
	flush(t, l)
	add(t, l, record(1, 3))
	closeLog(t, l)
	l = open(t, options(disk))
	holds(t, l, 1, 3)
	add(t, l, record(1, 2))
	if s := l.Stats(); s.Damaged != 0 || s.Torn != 0 {
		t.Errorf("%+v", s)
	}
	faults = vfs.NewFaults(vfs.NewCrashDisk())
	o = options(faults)
	o.MinFree = 1 << 20
	l = open(t, o)
	faults.SetSpace(1<<20 - 1)
	_, err := l.Add(t.Context(), record(1, 2))
	wantKind(t, "less than MinFree", err, errs.NoSpace)
}

// TestBrokenDisk: after a failed sync nothing is acknowledged any more and the log says
// why; what waits is still read. A restart decides what was written.
func TestBrokenDisk(t *testing.T) {
	for _, op := range []vfs.Op{vfs.OpSync, vfs.OpWrite} {
		disk := vfs.NewCrashDisk()
		faults := vfs.NewFaults(disk)
		l := open(t, options(faults))
		add(t, l, record(1, 0))
		add(t, l, record(1, 2))
		faults.FailNth(op, 1, syscall.EIO)
		for range 2 {
			_, err := l.Add(t.Context(), record(1, 1))
			wantKind(t, "a broken disk", err, errs.Unavailable)
			if errs.Public(err) != publicBroken || errs.KindOf(l.Health()) != errs.Unavailable {
				t.Errorf("%v", err)
			}
		}
		isReplay(t, l, record(1, 0))
		wantKind(t, "Forget", l.Forget(t.Context(), 1), errs.Unavailable)
		holds(t, l, 0, 2)
		l.Sent(l.Waiting()[0]) // without the other one the segment could be dropped all the same
		wantKind(t, "Flush", l.Flush(t.Context()), errs.Unavailable)
		closeLog(t, l)
		l = open(t, options(disk.Clone(vfs.Dropped, 0)))
		holds(t, l, 0, 2)
		isReplay(t, l, record(1, 0))
		add(t, l, record(1, 1))
	}
}

// TestBounds: each bound refuses with its kind and text, and takes again when it may.
func TestBounds(t *testing.T) {
	limited := func(change func(*Options)) *Log {
		o := options(vfs.NewCrashDisk())
		change(&o)
		return open(t, o)
	}
	refused := func(l *Log, r Record, k errs.Kind, text string) {
		t.Helper()
		_, err := l.Add(t.Context(), r)
		wantKind(t, text, err, k)
		if errs.Public(err) != text {
			t.Errorf("text %q, want %q", errs.Public(err), text)
		}
	}
	l := limited(func(o *Options) { o.MaxWaiting = 2 })
	e := add(t, l, record(1, 0))
	add(t, l, record(1, 1))
	refused(l, record(1, 2), errs.Full, publicWaiting)
	add(t, l, Record{Key: 1, Tag: tagOf(5)})
	l.Sent(e)
	add(t, l, record(1, 2))
	out, err := l.Add(t.Context(), record(1, 3))
	if wantKind(t, "over MaxWaiting", err, errs.Full); len(out) != 1 || l.Stats().Refused != 2 {
		t.Errorf("%+v, %+v", out, l.Stats())
	}

	l = limited(func(o *Options) { o.MaxTags = 2 })
	add(t, l, record(1, 0))
	add(t, l, record(2, 0))
	refused(l, record(2, 1), errs.Full, publicTags)
	isReplay(t, l, record(2, 0))
	if err := l.Forget(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	add(t, l, record(2, 1))

	l = limited(func(o *Options) { o.MaxBytes = 60_000 })
	add(t, l, record(1, 0))
	add(t, l, record(1, 1))
	refused(l, record(1, 2), errs.Full, publicFull)

	l = limited(func(*Options) {})
	for n := range MaxKeys {
		add(t, l, Record{Key: Key(n), Tag: tagOf(1)})
	}
	refused(l, Record{Key: MaxKeys, Tag: tagOf(1)}, errs.Full, publicKeys)
	if err := l.Forget(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	add(t, l, Record{Key: MaxKeys, Tag: tagOf(1)})

	l = limited(func(*Options) {})
	refused(l, Record{Key: 1, Body: []byte{}}, errs.Invalid, "invalid")
	refused(l, Record{Key: 1, Body: make([]byte, MaxBody+1)}, errs.Invalid, "invalid")
	add(t, l, Record{Key: 1, Body: make([]byte, MaxBody), Tag: tagOf(1)})
	_, err = l.Add(t.Context(), make([]Record, MaxBatch+1)...)
	wantKind(t, "too many at once", err, errs.Invalid)
	if out, err := l.Add(t.Context()); out != nil || err != nil {
		t.Error("nothing to add is an error")
	}
}

// TestDroppingFails: a segment that cannot be dropped now is dropped later, and nothing of
// its tags is lost on the way.
func TestDroppingFails(t *testing.T) {
	for _, op := range []vfs.Op{vfs.OpCreate, vfs.OpWrite, vfs.OpSync, vfs.OpRename, vfs.OpRemove} {
		disk := vfs.NewCrashDisk()
		faults := vfs.NewFaults(disk)
		clock := clocktest.New(began)
		o := options(faults)
		o.Now = clock.Now
		l := open(t, o)
		l.Sent(add(t, l, record(1, 0)))
		flush(t, l)
		clock.Add(o.withDefaults().SegmentAge)
		faults.FailNth(op, 1, syscall.EIO)
		flush(t, l)
		if l.Stats().Segments != 1 {
			t.Errorf("%v: dropped", op)
		}
		clock.Add(time.Minute)
		flush(t, l)
		if s := l.Stats(); s.Segments != 0 || s.Tags != 1 {
			t.Errorf("%v: %+v", op, s)
		}
		isReplay(t, l, record(1, 0))
		closeLog(t, l)
		isReplay(t, open(t, options(disk)), record(1, 0))
	}
}
