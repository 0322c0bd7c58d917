package vfs_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"

	pvfs "github.com/cockroachdb/pebble/v2/vfs"
)

func write(t *testing.T, f vfs.FS, path, data string, sync bool) {
	t.Helper()
	w, err := f.Create(path, vfs.Unspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(data)); err != nil {
		t.Fatal(err)
	}
	if sync {
		if err := w.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, f vfs.FS, path string) string {
	t.Helper()
	b, err := vfs.ReadFile(f, path)
	if errors.Is(err, errs.NotFound) {
		return "(none)"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// disks gives each FS that the helpers must work on, with a directory.
func disks(t *testing.T) map[string]struct {
	fs  vfs.FS
	dir string
} {
	type d = struct {
		fs  vfs.FS
		dir string
	}
	return map[string]d{
		"os":     {vfs.OS(), t.TempDir()},
		"crash":  {vfs.NewCrashDisk(), "/"},
		"faults": {vfs.NewFaults(vfs.NewCrashDisk()), "/"},
		"syncs":  {vfs.NewSyncPoints(vfs.OS(), nil), t.TempDir()},
	}
}

func TestWriteFileAtomic(t *testing.T) {
	for name, d := range disks(t) {
		t.Run(name, func(t *testing.T) {
			p := d.fs.PathJoin(d.dir, "key")
			if ok, err := vfs.Exists(d.fs, p); ok || err != nil {
				t.Fatalf("exists %v, %v before it was written", ok, err)
			}
			for _, want := range []string{"one", "another, longer", ""} {
				data := []byte(want)
				if err := vfs.WriteFileAtomic(d.fs, p, data, 0o600); err != nil {
					t.Fatal(err)
				}
				if string(data) != want {
					t.Fatal("the caller's bytes were changed")
				}
				if got := read(t, d.fs, p); got != want {
					t.Fatalf("read %q, want %q", got, want)
				}
			}
			if ok, err := vfs.Exists(d.fs, p); !ok || err != nil {
				t.Fatalf("exists %v, %v after it was written", ok, err)
			}
			if ok, _ := vfs.Exists(d.fs, p+".tmp"); ok {
				t.Fatal("the temporary file was left")
			}
		})
	}
}

func TestWriteFileAtomicPermissions(t *testing.T) {
	for name, f := range map[string]vfs.FS{"os": vfs.OS(), "wrapped": vfs.NewFaults(vfs.OS())} {
		t.Run(name, func(t *testing.T) {
			p := filepath.Join(t.TempDir(), "key")
			if err := vfs.WriteFileAtomic(f, p, []byte("k"), 0o600); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(p)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != 0o600 {
				t.Fatalf("mode %v, want 0600", info.Mode().Perm())
			}
		})
	}
}

// At every sync of an overwrite, and in every mode, a crash shows the old content
// or the new one; after the call returned, the new one.
func TestWriteFileAtomicCrash(t *testing.T) {
	const before, after = "old old old", "the new content"
	for _, mode := range []vfs.Unsynced{vfs.Dropped, vfs.Kept, vfs.Torn} {
		for seed := range uint64(8) {
			cuts := 0
			for n := int64(1); ; n++ {
				for _, done := range []bool{false, true} {
					disk := vfs.NewCrashDisk()
					if err := vfs.WriteFileAtomic(disk, "/f", []byte(before), 0o600); err != nil {
						t.Fatal(err)
					}
					cut := vfs.CutAt(disk, n, done, mode, seed, nil)
					if err := vfs.WriteFileAtomic(cut.FS, "/f", []byte(after), 0o600); err != nil {
						t.Fatal(err)
					}
					if got := read(t, disk.Clone(mode, seed), "/f"); got != after {
						t.Fatalf("%v: %q after it returned", mode, got)
					}
					if cut.Disk() == nil {
						continue
					}
					cuts++
					if got := read(t, cut.Disk(), "/f"); got != before && got != after {
						t.Fatalf("%v, sync %d: %q", mode, n, got)
					}
				}
				if n > 3 {
					break
				}
			}
			if cuts < 4 {
				t.Fatalf("only %d cuts", cuts)
			}
		}
	}
}

func TestWriteFileAtomicErrors(t *testing.T) {
	for op, want := range map[vfs.Op]errs.Kind{
		vfs.OpCreate: errs.NoSpace, vfs.OpWrite: errs.NoSpace, vfs.OpSync: errs.NoSpace,
		vfs.OpRename: errs.NoSpace, vfs.OpSyncDir: errs.NoSpace,
	} {
		disk := vfs.NewCrashDisk()
		f := vfs.NewFaults(disk)
		f.FailNth(op, 1, syscall.ENOSPC)
		err := vfs.WriteFileAtomic(f, "/f", []byte("x"), 0o600)
		if !errors.Is(err, want) {
			t.Errorf("op %d: %v, want %v", op, err, want)
		}
		if ok, _ := vfs.Exists(disk, "/f.tmp"); ok {
			t.Errorf("op %d: the temporary file was left", op)
		}
	}
}

func TestReadFile(t *testing.T) {
	if _, err := vfs.ReadFile(vfs.OS(), filepath.Join(t.TempDir(), "no")); !errors.Is(err, errs.NotFound) {
		t.Errorf("missing file: %v", err)
	}
	p := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(p, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(p, vfs.MaxReadFile+1); err != nil {
		t.Fatal(err)
	}
	if _, err := vfs.ReadFile(vfs.OS(), p); !errors.Is(err, errs.TooLarge) {
		t.Errorf("too large a file: %v", err)
	}
}

func TestMkdirAllIsDurable(t *testing.T) {
	disk := vfs.NewCrashDisk()
	if err := vfs.MkdirAll(disk, "/a/b/c", 0o700); err != nil {
		t.Fatal(err)
	}
	if ok, err := vfs.Exists(disk.Clone(vfs.Dropped, 0), "/a/b/c"); !ok || err != nil {
		t.Fatalf("after a crash: %v, %v", ok, err)
	}
	// A directory that an earlier process made and did not sync.
	disk = vfs.NewCrashDisk()
	if err := disk.MkdirAll("/a", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := vfs.MkdirAll(disk, "/a", 0o700); err != nil {
		t.Fatal(err)
	}
	if ok, _ := vfs.Exists(disk.Clone(vfs.Dropped, 0), "/a"); !ok {
		t.Fatal("an existing directory was not made durable")
	}
}

func TestDiskFree(t *testing.T) {
	if n, err := vfs.DiskFree(vfs.OS(), t.TempDir()); n == 0 || err != nil {
		t.Errorf("the machine's disk: %d, %v", n, err)
	}
	disk := vfs.NewCrashDisk()
	if _, err := vfs.DiskFree(disk, "/"); !errors.Is(err, errs.Unsupported) {
		t.Errorf("a disk that does not tell: %v", err)
	}
	disk.TestingSetDiskUsage(pvfs.DiskUsage{AvailBytes: 7, TotalBytes: 9})
	if n, err := vfs.DiskFree(disk, "/"); n != 7 || err != nil {
		t.Errorf("set to 7: %d, %v", n, err)
	}
	f := vfs.NewFaults(disk)
	f.SetSpace(5)
	if n, err := vfs.DiskFree(f, "/"); n != 5 || err != nil {
		t.Errorf("limited to 5: %d, %v", n, err)
	}
}

func TestCrashDiskModes(t *testing.T) {
	disk := vfs.NewCrashDisk()
	write(t, disk, "/synced", "s", true)
	write(t, disk, "/removed", "r", true)
	if err := vfs.SyncDir(disk, "/"); err != nil {
		t.Fatal(err)
	}
	write(t, disk, "/unsynced", "u", false)
	if err := disk.Remove("/removed"); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[vfs.Unsynced][3]string{
		vfs.Dropped: {"s", "r", "(none)"},
		vfs.Kept:    {"s", "(none)", "u"},
	} {
		c := disk.Clone(mode, 1)
		got := [3]string{read(t, c, "/synced"), read(t, c, "/removed"), read(t, c, "/unsynced")}
		if got != want {
			t.Errorf("%v: %v, want %v", mode, got, want)
		}
	}
	// The original does not change its clones.
	c := disk.Clone(vfs.Kept, 0)
	write(t, disk, "/synced", "later", true)
	if got := read(t, c, "/synced"); got != "s" {
		t.Errorf("the clone changed to %q", got)
	}
}

// Torn clones differ by seed and are equal for equal seeds.
func TestCrashDiskTorn(t *testing.T) {
	disk := vfs.NewCrashDisk()
	big := string(bytes.Repeat([]byte("x"), 64<<10))
	write(t, disk, "/f", "", true)
	if err := vfs.SyncDir(disk, "/"); err != nil {
		t.Fatal(err)
	}
	w, err := disk.OpenReadWrite("/f", vfs.Unspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Write([]byte(big)); err != nil {
		t.Fatal(err)
	}
	partly := 0
	for seed := range uint64(16) {
		got := read(t, disk.Clone(vfs.Torn, seed), "/f")
		if again := read(t, disk.Clone(vfs.Torn, seed), "/f"); again != got {
			t.Fatal("one seed gave two results")
		}
		if n := bytes.Count([]byte(got), []byte("x")); n > 0 && n < len(big) {
			partly++
		}
	}
	if partly < 8 {
		t.Fatalf("only %d of 16 clones were torn", partly)
	}
}

func TestSyncPoints(t *testing.T) {
	var seen []vfs.SyncPoint
	s := vfs.NewSyncPoints(vfs.NewCrashDisk(), func(p vfs.SyncPoint) { seen = append(seen, p) })
	write(t, s, "/f", "x", true)
	if err := vfs.SyncDir(s, "/"); err != nil {
		t.Fatal(err)
	}
	w, err := s.OpenReadWrite("/f", vfs.Unspecified)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.SyncData(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.SyncTo(1); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	want := []vfs.SyncPoint{
		{1, "/f", false, false}, {1, "/f", false, true},
		{2, "/", true, false}, {2, "/", true, true},
		{3, "/f", false, false}, {3, "/f", false, true},
		{4, "/f", false, false}, {4, "/f", false, true},
	}
	if len(seen) != len(want) {
		t.Fatalf("saw %v", seen)
	}
	for i := range want {
		if seen[i] != want[i] {
			t.Errorf("point %d: %v, want %v", i, seen[i], want[i])
		}
	}
	if s.Count() != 4 {
		t.Errorf("count %d, want 4", s.Count())
	}
}

func TestCutAtShowsTheMoment(t *testing.T) {
	for _, after := range []bool{false, true} {
		disk := vfs.NewCrashDisk()
		noted := false
		cut := vfs.CutAt(disk, 2, after, vfs.Dropped, 0, func() { noted = true })
		write(t, cut.FS, "/f", "x", true) // sync 1
		if cut.Disk() != nil || noted {
			t.Fatal("cut too early")
		}
		if err := vfs.SyncDir(cut.FS, "/"); err != nil { // sync 2
			t.Fatal(err)
		}
		<-cut.Done()
		if !noted {
			t.Fatal("the note was not taken")
		}
		want := "(none)"
		if after {
			want = "x"
		}
		if got := read(t, cut.Disk(), "/f"); got != want {
			t.Errorf("after=%v: %q, want %q", after, got, want)
		}
	}
}

func TestFaultsEachOperation(t *testing.T) {
	boom := errors.New("boom")
	do := map[vfs.Op]func(f vfs.FS, w vfs.File) error{
		vfs.OpCreate: func(f vfs.FS, _ vfs.File) error {
			c, err := f.Create("/c", vfs.Unspecified)
			if err == nil {
				err = c.Close()
			}
			return err
		},
		vfs.OpWrite:   func(_ vfs.FS, w vfs.File) error { _, err := w.Write([]byte("x")); return err },
		vfs.OpSync:    func(_ vfs.FS, w vfs.File) error { return w.Sync() },
		vfs.OpSyncDir: func(f vfs.FS, _ vfs.File) error { return errors.Unwrap(vfs.SyncDir(f, "/")) },
		vfs.OpRename:  func(f vfs.FS, _ vfs.File) error { return f.Rename("/w", "/w") },
		vfs.OpRemove:  func(f vfs.FS, _ vfs.File) error { return f.RemoveAll("/none") },
		vfs.OpLink: func(f vfs.FS, _ vfs.File) error {
			_ = f.RemoveAll("/l")
			return f.Link("/w", "/l")
		},
		vfs.OpMkdir: func(f vfs.FS, _ vfs.File) error { return f.MkdirAll("/d", 0o700) },
	}
	for op, fn := range do {
		f := vfs.NewFaults(vfs.NewCrashDisk())
		w, err := f.Create("/w", vfs.Unspecified)
		if err != nil {
			t.Fatal(err)
		}
		f.FailNth(op, 2, boom)
		if err := fn(f, w); err != nil {
			t.Errorf("op %d, first: %v", op, err)
		}
		if err := fn(f, w); !errors.Is(err, boom) {
			t.Errorf("op %d, second: %v, want boom", op, err)
		}
		if err := fn(f, w); err != nil {
			t.Errorf("op %d, third: %v", op, err)
		}
		f.FailFrom(vfs.OpAny, 1, boom)
		for range 2 {
			if err := fn(f, w); !errors.Is(err, boom) {
				t.Errorf("op %d, all failing: %v", op, err)
			}
		}
	}
}

func TestFaultsSpaceAndReadOnly(t *testing.T) {
	f := vfs.NewFaults(vfs.NewCrashDisk())
	w, err := f.Create("/w", vfs.Unspecified)
	if err != nil {
		t.Fatal(err)
	}
	f.SetSpace(5)
	if n, err := w.Write([]byte("abc")); n != 3 || err != nil {
		t.Fatalf("within the space: %d, %v", n, err)
	}
	if n, err := w.Write([]byte("defg")); n != 2 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("beyond the space: %d, %v", n, err)
	}
	if _, err := f.Create("/x", vfs.Unspecified); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("create on a full disk: %v", err)
	}
	if got := read(t, f, "/w"); got != "abcde" {
		t.Fatalf("the file holds %q", got)
	}
	f.SetSpace(-1)
	f.SetReadOnly(true)
	if _, err := w.Write([]byte("x")); !errors.Is(err, syscall.EROFS) {
		t.Fatalf("write on a read-only disk: %v", err)
	}
	if _, err := f.Lock("/LOCK"); !errors.Is(err, syscall.EROFS) {
		t.Fatalf("lock on a read-only disk: %v", err)
	}
	f.SetReadOnly(false)
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if f.Count(vfs.OpWrite) != 4 {
		t.Errorf("%d writes counted, want 4", f.Count(vfs.OpWrite))
	}
}

// TestShred: the bytes that were to be shredded are zeros on the disk before the name is
// gone, and no others; what is not there, or not long enough, is no error.
func TestShred(t *testing.T) {
	for _, n := range []int64{0, 3, 6, 100, -1} {
		disk := vfs.NewCrashDisk()
		write(t, disk, "/f", "secret", true)
		if err := vfs.SyncDir(disk, "/"); err != nil {
			t.Fatal(err)
		}
		if err := vfs.Shred(disk, "/f", n); err != nil {
			t.Fatal(err)
		}
		if got := read(t, disk, "/f"); got != "(none)" {
			t.Errorf("%d: %q is left", n, got)
		}
		// The removal is not synced, so a crash brings back what was overwritten.
		want := "secret"
		for i := range want {
			if n < 0 || int64(i) < n {
				want = want[:i] + "\x00" + want[i+1:]
			}
		}
		if got := read(t, disk.Clone(vfs.Dropped, 1), "/f"); got != want {
			t.Errorf("%d: %q came back", n, got)
		}
	}
	disk := vfs.NewCrashDisk()
	if err := vfs.Shred(disk, "/none", -1); err != nil {
		t.Error(err)
	}
	if got := read(t, disk, "/none"); got != "(none)" {
		t.Error("shredding made a file")
	}
	write(t, disk, "/f", "secret", true)
	faults := vfs.NewFaults(disk)
	faults.FailNth(vfs.OpSync, 1, syscall.EIO)
	if err := vfs.Shred(faults, "/f", -1); !errors.Is(err, errs.Unavailable) || read(t, disk, "/f") == "(none)" {
		t.Errorf("a failed sync gave %v", err)
	}
}
