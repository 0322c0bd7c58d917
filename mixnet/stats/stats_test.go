package stats

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"postern.email/kit/clocktest"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var write = flag.Bool("write-golden", false, "write the golden files again: only for a new version of the format")

var began = time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)

const (
	cacheFile = "/work/stats.tmp"
	statsFile = "/node/stats"
)

func options(fs vfs.FS, clock *clocktest.Clock) Options {
	return Options{FS: fs, Cache: cacheFile, File: statsFile, Now: clock.Now}
}

func newDisk(t testing.TB) *vfs.CrashDisk {
	t.Helper()
	disk := vfs.NewCrashDisk()
	for _, d := range []string{"/work", "/node"} {
		if err := vfs.MkdirAll(disk, d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return disk
}

func open(t testing.TB, o Options) *Stats {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func save(t testing.TB, s *Stats) {
	t.Helper()
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, fs vfs.FS, path string) string {
	t.Helper()
	b, err := vfs.ReadFile(fs, path)
	if err != nil && errs.KindOf(err) != errs.NotFound {
		t.Fatal(err)
	}
	return string(b)
}

func dump(t testing.TB, s *Stats) string {
	t.Helper()
	var b bytes.Buffer
	if err := s.Dump(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// up lets a node be up for a time: Save is called each minute, as Run does.
func up(t testing.TB, s *Stats, clock *clocktest.Clock, d time.Duration) {
	t.Helper()
	s.observe(true)
	defer s.observe(false)
	for ; d > 0; d -= time.Minute {
		clock.Add(min(d, time.Minute))
		save(t, s)
	}
}

// TestTenMinutes: a node that is down all day but for five minutes after midnight and five before
// publishes nothing of these ten minutes; they go into a period that is long enough.
func TestTenMinutes(t *testing.T) {
	disk, clock := newDisk(t), clocktest.New(began)
	s := open(t, options(disk, clock))
	for range 100 { // days
		s.Count(ReceivedPacket, "")
		up(t, s, clock, 5*time.Minute)
		clock.Add(23*time.Hour + 50*time.Minute)
		s = open(t, options(disk, clock))
		s.Count(ReceivedPacket, "")
		up(t, s, clock, 5*time.Minute)
		s = open(t, options(disk, clock))
		if text := read(t, disk, statsFile); text != "" {
			t.Fatalf("at %v this was published: %s", clock.Now(), text)
		}
	}
	if !strings.Contains(dump(t, s), "ReceivedPacket: 200\n") {
		t.Errorf("not all was kept: %s", dump(t, s))
	}
	up(t, s, clock, 18*time.Hour-1000*time.Minute)
	if text := read(t, disk, statsFile); !strings.Contains(text, "ReceivedPacket: 200\n") {
		t.Errorf("after 18 hours in all: %q", text)
	}
}

// TestThreeQuarters: the rule to the second. An interval with less than 75 % observed goes on
// until it has them, and one that was observed all the time ends when it is over.
func TestThreeQuarters(t *testing.T) {
	hour := time.Hour
	for _, c := range []struct {
		name     string
		observed time.Duration
		down     time.Duration
		more     time.Duration // to be observed until it ends
	}{
		{"all of it", 24*hour - time.Second, 0, time.Second},
		{"74 percent", 74 * 24 * hour / 100, 26 * 24 * hour / 100, 24 * hour / 100},
		{"75 percent less a second", 18*hour - time.Second, 6*hour + time.Second, time.Second},
		{"75 percent, the interval not over", 18 * hour, 6*hour - time.Second, time.Second},
		{"half, and days away", 12 * hour, 240 * hour, 6 * hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk, clock := newDisk(t), clocktest.New(began)
			s := open(t, options(disk, clock))
			s.Count(ReceivedPacket, "")
			up(t, s, clock, c.observed)
			clock.Add(c.down)
			s = open(t, options(disk, clock))
			save(t, s)
			up(t, s, clock, c.more-time.Second)
			if text := read(t, disk, statsFile); text != "" {
				t.Errorf("%v too early: %s", time.Second, text)
			}
			up(t, s, clock, time.Second)
			want := fmt.Sprintf("========== From 2026-11-26 00:00:00 to %s:\n  ReceivedPacket: 1\n", clock.Now().Format(shownTime))
			if text := read(t, disk, statsFile); !strings.HasPrefix(text, preface+want) {
				t.Errorf("%q, want %q", text, want)
			}
			if now := dump(t, s); !strings.HasPrefix(now, fmt.Sprintf("========== From %s to %[1]s:\n  ReceivedPacket: 0\n", clock.Now().Format(shownTime))) {
				t.Errorf("the new period: %s", now)
			}
		})
	}
}

// TestClock: time that nobody observed is not counted as observed, whichever way the clock was set.
func TestClock(t *testing.T) {
	disk, clock := newDisk(t), clocktest.New(began)
	s := open(t, options(disk, clock))
	s.Count(ReceivedPacket, "")
	s.observe(true)
	for _, jump := range []time.Duration{365 * 24 * time.Hour, -400 * 24 * time.Hour, 365 * 24 * time.Hour, 100 * 24 * time.Hour} {
		clock.Add(jump)
		save(t, s)
	}
	if s.observed != 3*2*DefaultSave {
		t.Errorf("observed: %v", s.observed)
	}
	if text := read(t, disk, statsFile); text != "" {
		t.Errorf("published: %s", text)
	}
	s.observe(false)
	clock.Add(48 * time.Hour)
	save(t, s)
	if s.observed != 3*2*DefaultSave {
		t.Errorf("observed by nobody: %v", s.observed)
	}
}

// TestRun: in virtual time, Run saves, ends periods, and saves a last time; a kill at any moment loses
// what was counted since the last save, and nothing else.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(t)
		o := Options{FS: disk, Cache: cacheFile, File: statsFile, Now: time.Now}
		s := open(t, o)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		for range 10 {
			s.Count(ReceivedPacket, "")
		}
		time.Sleep(DefaultSave + time.Second)
		s.Count(ReceivedPacket, "") // not saved yet
		killed := open(t, withDisk(o, disk.Clone(vfs.Dropped, 0)))
		if text := dump(t, killed); !strings.Contains(text, "ReceivedPacket: 10\n") {
			t.Errorf("after a kill: %s", text)
		}
		if killed.observed != DefaultSave {
			t.Errorf("observed %v", killed.observed)
		}
		time.Sleep(50 * time.Hour)
		if text := read(t, disk, statsFile); strings.Count(text, "==========") != 2 || strings.Count(text, "ReceivedPacket: 11\n") != 1 {
			t.Errorf("two days: %s", text)
		}
		s.Count(Replay, "")
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if text := dump(t, open(t, o)); !strings.Contains(text, "Replay: 1\n") {
			t.Errorf("the last save: %s", text)
		}
	})
}

func withDisk(o Options, disk vfs.FS) Options {
	o.FS = disk
	return o
}

// TestCrashAtEverySync cuts the disk at each sync of three periods: after a restart every period
// is in the file once and whole, in order, and counts that were saved are not lost or doubled.
func TestCrashAtEverySync(t *testing.T) {
	disk, clock := newDisk(t), clocktest.New(began)
	counted, saved := 0, 0 // packets, and those of them in caches that were written
	syncs, cuts := int64(0), 0
	fs := vfs.NewSyncPoints(disk, func(p vfs.SyncPoint) {
		syncs = p.N
		was, now := saved, clock.Now()
		for _, mode := range []vfs.Unsynced{vfs.Dropped, vfs.Kept, vfs.Torn} {
			cuts++
			left := disk.Clone(mode, uint64(p.N))
			again := clocktest.New(now)
			s := open(t, slow(left, again))
			hours(t, s, again, 48, func() {})
			text := read(t, left, statsFile)
			total, last := 0, began.Format(shownTime)
			for block := range strings.SplitSeq(strings.TrimPrefix(text, preface), "========== ") {
				if block == "" {
					continue
				}
				var d1, t1, d2, t2 string
				var n int
				if _, err := fmt.Sscanf(block, "From %s %s to %s %s\n  ReceivedPacket: %d\n", &d1, &t1, &d2, &t2, &n); err != nil || d1+" "+t1 != last {
					t.Errorf("sync %d, %v: not a whole period from %s: %v\n%s", p.N, mode, last, err, block)
				}
				if lines := strings.Count(block, "\n"); lines != 1+len(order()) {
					t.Errorf("sync %d, %v: %d lines in\n%s", p.N, mode, lines, block)
				}
				total, last = total+n, d2+" "+strings.TrimSuffix(t2, ":")
			}
			if total < was || total > was+1 {
				t.Errorf("sync %d, %v: %d packets, %d were saved", p.N, mode, total, was)
			}
		}
	})
	save(t, open(t, slow(disk, clock))) // the first period has begun
	s := open(t, slow(fs, clock))
	hours(t, s, clock, 3*24, func() {
		saved = counted
		counted++
		s.Count(ReceivedPacket, "")
	})
	if syncs < 100 || strings.Count(read(t, disk, statsFile), "==========") != 3 {
		t.Errorf("%d syncs, %s", syncs, read(t, disk, statsFile))
	}
	t.Logf("%d cuts", cuts)
}

// slow are the options of a node that saves each hour.
func slow(fs vfs.FS, clock *clocktest.Clock) Options {
	o := options(fs, clock)
	o.Save = time.Hour
	return o
}

// hours lets such a node be up for n hours; fn is called in each, before it saves.
func hours(t testing.TB, s *Stats, clock *clocktest.Clock, n int, fn func()) {
	t.Helper()
	s.observe(true)
	defer s.observe(false)
	for range n {
		fn()
		clock.Add(time.Hour)
		save(t, s)
	}
}

// TestFailingFile: while the file of statistics cannot be written, counts go on and are saved; when it
// can, the period is there once.
func TestFailingFile(t *testing.T) {
	disk, clock := newDisk(t), clocktest.New(began)
	o := options(disk, clock)
	o.File = "/missing/stats"
	s := open(t, o)
	s.Count(ReceivedPacket, "")
	s.observe(true)
	s.observed = 24 * time.Hour
	clock.Add(24 * time.Hour)
	for range 3 {
		if err := s.Save(); errs.KindOf(err) != errs.NotFound {
			t.Fatalf("the directory is missing: %v", err)
		}
		s.Count(ReceivedPacket, "")
		clock.Add(time.Second)
	}
	if text := dump(t, open(t, o)); !strings.Contains(text, "ReceivedPacket: 3\n") {
		t.Errorf("in the cache: %s", text)
	}
	if err := vfs.MkdirAll(disk, "/missing", 0o700); err != nil {
		t.Fatal(err)
	}
	save(t, s)
	save(t, s)
	if text := read(t, disk, o.File); strings.Count(text, "==========") != 1 || !strings.Contains(text, "ReceivedPacket: 4\n") {
		t.Errorf("in the file: %s", text)
	}
}

// TestReopen: a file that was moved away is begun anew, at once by Reopen, else with the next
// period; what was moved is not touched.
func TestReopen(t *testing.T) {
	disk, clock := newDisk(t), clocktest.New(began)
	s := open(t, options(disk, clock))
	period := func() {
		s.Count(ReceivedPacket, "")
		up(t, s, clock, 24*time.Hour)
	}
	period()
	period()
	if n := strings.Count(read(t, disk, statsFile), "=========="); n != 2 {
		t.Fatalf("%d periods", n)
	}
	old := read(t, disk, statsFile)
	if err := disk.Rename(statsFile, statsFile+".1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Reopen(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, disk, statsFile); got != preface {
		t.Errorf("after Reopen: %q", got)
	}
	period()
	if text := read(t, disk, statsFile); strings.Count(text, "==========") != 1 || !strings.HasPrefix(text, preface+"=====") {
		t.Errorf("after Reopen: %s", text)
	}
	if err := s.Reopen(); err != nil || strings.Count(read(t, disk, statsFile), "#") != strings.Count(preface, "#") {
		t.Errorf("Reopen of a file that is there: %v", err)
	}
	if err := disk.Rename(statsFile, statsFile+".2"); err != nil {
		t.Fatal(err)
	}
	period()
	if text := read(t, disk, statsFile); strings.Count(text, "==========") != 1 || !strings.HasPrefix(text, preface) {
		t.Errorf("without Reopen: %s", text)
	}
	if read(t, disk, statsFile+".1") != old {
		t.Error("the file that was moved has changed")
	}
	faulty := vfs.NewFaults(disk)
	faulty.SetReadOnly(true)
	if err := open(t, options(faulty, clock)).Reopen(); err == nil {
		t.Error("a disk that cannot be written")
	}
}

// TestLayout: the layout is mixminiond's, and the cache's format is fixed.
func TestLayout(t *testing.T) {
	disk, clock := newDisk(t), clocktest.New(began)
	s := open(t, options(disk, clock))
	for range 12 {
		s.Count(ReceivedPacket, "")
	}
	s.Count(AttemptedRelay, "a-nickname-of-some-length")
	s.Count(AttemptedRelay, "bob")
	s.Count(AttemptedRelay, "bob")
	s.Count(AttemptedRelay, "")
	s.Count(AttemptedDelivery, "MBOX")
	s.Count(Dropped, "key unknown")
	s.Count(Replay, "")
	s.Count(FailedConnect, strings.Repeat("x", MaxArgument+1))
	s.Count(FailedConnect, "line\nbreak")
	clock.Add(90 * time.Minute)
	s.observed = 75*time.Minute + 250*time.Millisecond
	save(t, s)
	for name, got := range map[string]string{"dump.txt": dump(t, s), "stats.tmp": read(t, disk, cacheFile)} {
		path := filepath.Join("testdata", name)
		if *write {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || got != string(want) {
			t.Errorf("%s: the format has changed, %v\n%s", name, err, got)
		}
	}
	again := open(t, options(disk, clock))
	if dump(t, again) != dump(t, s) || again.observed != s.observed {
		t.Errorf("read again: %s", dump(t, again))
	}
}

// TestBounds: arguments and events are bounded; what is too much is counted together, and the
// cache can be read again.
func TestBounds(t *testing.T) {
	disk, clock := newDisk(t), clocktest.New(began)
	s := open(t, options(disk, clock))
	for i := range MaxArguments + 500 {
		s.Count(AttemptedRelay, fmt.Sprintf("node-%d", i))
	}
	if n := len(s.counts[AttemptedRelay]); n != MaxArguments || s.counts[AttemptedRelay][Other] != 501 {
		t.Errorf("%d arguments, %d others", n, s.counts[AttemptedRelay][Other])
	}
	for i := range MaxEvents + 10 {
		s.Count(fmt.Sprintf("Event%d", i), "")
	}
	for _, bad := range []string{"", "two words", "Ä", strings.Repeat("x", 33), "a\n"} {
		s.Count(bad, "")
	}
	if len(s.counts) != MaxEvents {
		t.Errorf("%d events", len(s.counts))
	}
	save(t, s)
	again := open(t, options(disk, clock))
	if again.damaged || !maps.EqualFunc(again.counts, s.counts, func(a, b map[string]uint64) bool { return maps.Equal(a, b) }) {
		t.Error("the cache reads differently")
	}
}

// TestDamagedCache: a cache that cannot be read is set aside by Run, kept, and never fatal; Open
// alone writes nothing.
func TestDamagedCache(t *testing.T) {
	disk, clock := newDisk(t), clocktest.New(began)
	if err := vfs.WriteFileAtomic(disk, cacheFile, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	faulty := vfs.NewFaults(disk)
	faulty.SetReadOnly(true)
	s := open(t, options(faulty, clock))
	if err := s.Run(t.Context()); err == nil {
		t.Error("a damaged cache cannot be set aside, and nobody says so")
	}
	faulty.SetReadOnly(false)
	s.Count(ReceivedPacket, "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if read(t, disk, cacheFile+".crp") != "nonsense" || !strings.Contains(dump(t, open(t, options(disk, clock))), "ReceivedPacket: 1\n") {
		t.Error("it was not set aside")
	}
}

// TestOff: without a file nothing is published, and periods end all the same.
func TestOff(t *testing.T) {
	disk, clock := newDisk(t), clocktest.New(began)
	o := options(disk, clock)
	o.File = ""
	s := open(t, o)
	s.Count(ReceivedPacket, "")
	up(t, s, clock, 24*time.Hour)
	if names, err := disk.List("/node"); err != nil || len(names) > 0 {
		t.Errorf("written: %v, %v", names, err)
	}
	if !strings.Contains(dump(t, s), "ReceivedPacket: 0\n") || s.Reopen() != nil {
		t.Error("the period goes on")
	}
}

// TestManyCount: counting by many while periods end loses nothing.
func TestManyCount(t *testing.T) {
	disk, clock := newDisk(t), clocktest.New(began)
	o := options(disk, clock)
	o.Interval = time.Second
	s := open(t, o)
	s.observe(true)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 500 {
				s.Count(ReceivedPacket, []string{"", "a", "b"}[i%3])
			}
		})
	}
	for range 50 {
		clock.Add(time.Second)
		save(t, s)
	}
	wg.Wait()
	clock.Add(time.Second)
	save(t, s)
	total := 0
	for line := range strings.Lines(read(t, disk, statsFile)) {
		var n int
		if _, err := fmt.Sscanf(line, "  ReceivedPacket: %d\n", &n); err == nil {
			total += n
		}
		if _, err := fmt.Sscanf(strings.TrimSpace(line), "Total: %d", &n); err == nil {
			total += n
		}
	}
	if total != 2000 {
		t.Errorf("%d of 2000 are in the file", total)
	}
}

// TestErrors: options that are missing or wrong, a writer that fails.
func TestErrors(t *testing.T) {
	disk, clock := newDisk(t), clocktest.New(began)
	for _, o := range []Options{{}, {FS: disk, Now: clock.Now}, {FS: disk, Cache: cacheFile}} {
		if _, err := Open(o); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%+v: %v", o, err)
		}
	}
	o := options(disk, clock)
	o.Interval = time.Second + 1
	if _, err := Open(o); errs.Public(err) != "the interval of statistics is whole seconds" {
		t.Error(err)
	}
	s := open(t, options(disk, clock))
	if err := s.Dump(brokenWriter{}); !errors.Is(err, errBroken) {
		t.Error(err)
	}
	if err := open(t, Options{FS: disk, Cache: "/nowhere/stats.tmp", Now: clock.Now}).Save(); errs.KindOf(err) != errs.NotFound {
		t.Error(err)
	}
}

var errBroken = errors.New("broken")

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

// FuzzCache: what parses is written the same.
func FuzzCache(f *testing.F) {
	if b, err := os.ReadFile(filepath.Join("testdata", "stats.tmp")); err == nil {
		f.Add(b)
	} else {
		f.Fatal(err)
	}
	f.Add([]byte("postern-stats-cache 1\nbegan 2026-11-26T00:00:00Z\nobserved 0\nending 2026-11-27T00:00:00Z 17\ncount E 1 \nend\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, counts, err := parseCache(b)
		if err != nil {
			return
		}
		again := appendCache(nil, &p, counts)
		if _, c, err := parseCache(again); err != nil || !maps.EqualFunc(c, counts, func(a, b map[string]uint64) bool { return maps.Equal(a, b) }) {
			t.Errorf("%q became %q, %v", b, again, err)
		}
		if n := len(appendPeriod(nil, p.began, p.began, counts)); n > 100*len(b)+2000 {
			t.Errorf("%d bytes from %d", n, len(b))
		}
	})
}

// BenchmarkCount is what an event costs.
func BenchmarkCount(b *testing.B) {
	s := open(b, options(newDisk(b), clocktest.New(began)))
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			s.Count(SuccessfulRelay, "a-nickname")
		}
	})
}
