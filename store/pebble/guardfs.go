package pebble

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"postern.email/kit/vfs"

	pvfs "github.com/cockroachdb/pebble/v2/vfs"
)

// guard is the fail-stop switch between the engine and the disk. The first
// write, sync, rename or removal that fails trips it, for good: from then on
// nothing on the disk is changed any more, so what lies there is what a crash at
// that moment would have left, and the next start recovers from it as from a
// crash.
//
// It is needed because Pebble answers a failed write of its log in ways that no
// server can live with: Logger.Fatalf (expected to end the process), a panic
// inside DB.Apply with locks held, or, for a failed flush, trying again at once
// and for ever. So:
//
//   - A failed write or sync of a log file, or sync of a directory, is reported
//     to Pebble as done, and noted here. The committer asks the guard after every
//     commit and acknowledges nothing when it has tripped: a commit that Pebble
//     believes durable and that is not never becomes visible or acknowledged.
//   - Any other change (tables, MANIFEST) after the trip waits until Close, and
//     then fails. Only Pebble's background work asks for such changes, and
//     waiting is what stops it from trying again in a circle. (While pebble.Open
//     runs it fails at once, so that Open can end.)
type guard struct {
	tripped chan struct{} // closed at the first failure
	release chan struct{} // closed by Close: waiting changes fail now
	waits   atomic.Bool   // changes after the trip wait; set when pebble.Open is over

	mu  sync.Mutex
	err error // the first failure

	walSyncs atomic.Uint64 // syncs of log files asked of the disk
}

func newGuard() *guard {
	return &guard{tripped: make(chan struct{}), release: make(chan struct{})}
}

// failure is the first failed change, or nil.
func (g *guard) failure() error {
	select {
	case <-g.tripped:
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.err
	default:
		return nil
	}
}

// trip notes the first failure and reports err back.
func (g *guard) trip(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = err
		close(g.tripped)
	}
	return err
}

// change runs one change of the disk that is neither log nor directory sync.
func (g *guard) change(do func() error) error {
	if err := g.halt(); err != nil {
		return err
	}
	if err := do(); err != nil {
		g.trip(err)
		if g.waits.Load() {
			<-g.release
		}
		return err
	}
	return nil
}

// halt is nil before the trip. After it, it waits for Close and gives the error.
func (g *guard) halt() error {
	err := g.failure()
	if err != nil && g.waits.Load() {
		<-g.release
	}
	return err
}

// pretend runs one change whose failure Pebble must not see (see guard).
func (g *guard) pretend(do func() error) {
	if g.failure() != nil {
		return
	}
	if err := do(); err != nil {
		g.trip(err)
	}
}

// guardFS is the FS that Pebble gets.
type guardFS struct {
	vfs.FS
	g *guard
}

// archiveDir is where Pebble's ArchiveCleaner moves files that are no longer
// needed. guardFS makes each such move a removal. The detour is the only way to
// have Pebble give up its old logs: with any other Cleaner it keeps a few of them
// for reuse, and a log that waits for reuse holds the bytes of deleted records.
const archiveDir = "archive"

func isLog(name string) bool { return filepath.Ext(name) == ".log" }

func (f guardFS) Create(name string, c pvfs.DiskWriteCategory) (vfs.File, error) {
	if isLog(name) {
		var file vfs.File
		f.g.pretend(func() (err error) {
			file, err = f.FS.Create(name, c)
			return err
		})
		if file == nil {
			file = voidFile{}
		}
		return &logFile{file, f.g}, nil
	}
	var file vfs.File
	err := f.g.change(func() (err error) {
		file, err = f.FS.Create(name, c)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &tableFile{file, f.g}, nil
}

func (f guardFS) OpenReadWrite(name string, c pvfs.DiskWriteCategory, o ...pvfs.OpenOption) (vfs.File, error) {
	var file vfs.File
	err := f.g.change(func() (err error) {
		file, err = f.FS.OpenReadWrite(name, c, o...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &tableFile{file, f.g}, nil
}

func (f guardFS) OpenDir(name string) (vfs.File, error) {
	file, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &dirFile{file, f.g}, nil
}

func (f guardFS) Link(oldname, newname string) error {
	return f.g.change(func() error { return f.FS.Link(oldname, newname) })
}

func (f guardFS) Rename(oldname, newname string) error {
	if f.PathBase(f.PathDir(newname)) == archiveDir {
		return f.Remove(oldname)
	}
	return f.g.change(func() error { return f.FS.Rename(oldname, newname) })
}

func (f guardFS) MkdirAll(dir string, perm os.FileMode) error {
	if f.PathBase(dir) == archiveDir {
		return nil
	}
	return f.g.change(func() error { return f.FS.MkdirAll(dir, perm) })
}

// ReuseForWrite never reuses: a reused log would keep the bytes of deleted
// records behind its new end.
func (f guardFS) ReuseForWrite(oldname, newname string, c pvfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.Remove(oldname); err != nil {
		return nil, err
	}
	return f.Create(newname, c)
}

func (f guardFS) Remove(name string) error {
	return f.remove(func() error { return f.FS.Remove(name) })
}

func (f guardFS) RemoveAll(name string) error {
	return f.remove(func() error { return f.FS.RemoveAll(name) })
}

// remove does not trip when the file is gone already; Pebble asks twice at times.
func (f guardFS) remove(do func() error) error {
	var gone error
	err := f.g.change(func() error {
		err := do()
		if errors.Is(err, fs.ErrNotExist) {
			gone = err
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	return gone
}

func (f guardFS) Unwrap() vfs.FS { return f.FS }

// logFile is a file of the write-ahead log.
type logFile struct {
	vfs.File
	g *guard
}

func (f *logFile) Write(p []byte) (int, error) {
	f.g.pretend(func() error {
		n, err := f.File.Write(p)
		if err == nil && n < len(p) {
			err = io.ErrShortWrite
		}
		return err
	})
	return len(p), nil
}

func (f *logFile) Sync() error {
	f.g.walSyncs.Add(1)
	f.g.pretend(f.File.Sync)
	return nil
}

func (f *logFile) SyncData() error {
	f.g.walSyncs.Add(1)
	f.g.pretend(f.File.SyncData)
	return nil
}

func (f *logFile) SyncTo(n int64) (full bool, err error) {
	f.g.pretend(func() (err error) {
		full, err = f.File.SyncTo(n)
		return err
	})
	return full, nil
}

func (f *logFile) Close() error {
	f.g.pretend(f.File.Close)
	return nil
}

// tableFile is any other file that Pebble writes.
type tableFile struct {
	vfs.File
	g *guard
}

func (f *tableFile) Write(p []byte) (n int, err error) {
	err = f.g.change(func() error {
		n, err = f.File.Write(p)
		return err
	})
	return n, err
}

func (f *tableFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.g.change(func() error {
		n, err = f.File.WriteAt(p, off)
		return err
	})
	return n, err
}

func (f *tableFile) Sync() error     { return f.g.change(f.File.Sync) }
func (f *tableFile) SyncData() error { return f.g.change(f.File.SyncData) }

func (f *tableFile) SyncTo(n int64) (full bool, err error) {
	err = f.g.change(func() error {
		full, err = f.File.SyncTo(n)
		return err
	})
	return full, err
}

// dirFile is a directory opened for its Sync.
type dirFile struct {
	vfs.File
	g *guard
}

func (f *dirFile) Sync() error {
	f.g.pretend(f.File.Sync)
	return nil
}

func (f *dirFile) SyncData() error { return f.Sync() }

// voidFile stands for a log that could not be created after the trip. It takes
// everything and holds nothing.
type voidFile struct{}

func (voidFile) Close() error                              { return nil }
func (voidFile) Read([]byte) (int, error)                  { return 0, io.EOF }
func (voidFile) ReadAt([]byte, int64) (int, error)         { return 0, io.EOF }
func (voidFile) Write(p []byte) (int, error)               { return len(p), nil }
func (voidFile) WriteAt(p []byte, _ int64) (int, error)    { return len(p), nil }
func (voidFile) Preallocate(int64, int64) error            { return nil }
func (voidFile) Stat() (pvfs.FileInfo, error)              { return nil, fs.ErrNotExist }
func (voidFile) Sync() error                               { return nil }
func (voidFile) SyncTo(int64) (bool, error)                { return false, nil }
func (voidFile) SyncData() error                           { return nil }
func (voidFile) Prefetch(offset int64, length int64) error { return nil }
func (voidFile) Fd() uintptr                               { return pvfs.InvalidFd }
