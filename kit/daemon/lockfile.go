package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"postern.email/kit/errs"
)

// lockTries bounds how often a lock file is opened again because its holder removed it meanwhile.
const lockTries = 10

// HoldLockFile takes the exclusive lock on a lock file as the Filesystem Hierarchy Standard wants
// it (§5.9): the number of this process in ten characters, right-aligned, and a line end. It makes missing
// directories (0755) and the file (0644). When another process holds it, the error is errs.Exists, at once, and
// its public text says which one and since when. Close removes the file and gives the lock back.
func HoldLockFile(path string) (io.Closer, error) {
	const op = "kit/daemon.HoldLockFile"
	if err := makeOpen(filepath.Dir(path)); err != nil {
		return nil, errs.E(op, errs.Unavailable, "cannot make the directory of the lock file "+path, err)
	}
	for range lockTries {
		// Lock files lie in directories that others may write to: what a link there names is not ours.
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o644)
		if err != nil {
			kind := errs.Unavailable
			if errors.Is(err, os.ErrPermission) {
				kind = errs.Denied
			}
			return nil, errs.E(op, kind, "cannot write the lock file "+path, err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			defer f.Close()
			if err != unix.EWOULDBLOCK {
				return nil, errs.E(op, errs.Unavailable, "cannot lock "+path, err)
			}
			return nil, errs.E(op, errs.Exists, "already running: "+path+" is held by "+writer(f), err)
		}
		// Who held it before may have removed it between the opening and the lock: the file in that place
		// is another then, or none, and this lock keeps nobody out.
		mine, err := f.Stat()
		if now, serr := os.Lstat(path); err != nil || serr != nil || !os.SameFile(mine, now) {
			f.Close()
			continue
		}
		if !mine.Mode().IsRegular() {
			f.Close()
			return nil, errs.E(op, errs.Unavailable, "there is something else in the place of the lock file "+path, nil)
		}
		text := fmt.Sprintf("%10d\n", os.Getpid())
		if err := errors.Join(f.Chmod(0o644), f.Truncate(0), writeAt(f, text)); err != nil {
			f.Close()
			return nil, errs.E(op, errs.Unavailable, "cannot write the lock file "+path, err)
		}
		return lockFile{f}, nil
	}
	return nil, errs.E(op, errs.Unavailable, "the lock file "+path+" comes and goes; try again", nil)
}

// makeOpen makes a directory and what is missing above it so that everybody may enter, whatever the
// process's mask.
func makeOpen(dir string) error {
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := makeOpen(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		if errors.Is(err, os.ErrExist) {
			return nil
		}
		return err
	}
	return os.Chmod(dir, 0o755)
}

type lockFile struct{ f *os.File }

// Close removes the file while it is locked, so that nobody takes a file that is on its way out.
func (l lockFile) Close() error { return errors.Join(os.Remove(l.f.Name()), l.f.Close()) }
