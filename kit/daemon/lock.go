package daemon

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// LockName is the name of the lock file in a data directory.
const LockName = "lock"

// Hold takes the exclusive lock on the data directory dir, which must exist, and
// writes into the lock file who holds it. When another process does, the error is
// errs.Exists and its public text says which one and since when. Close gives the
// lock back; so does the end of the process, however it ends.
func Hold(fs vfs.FS, dir string, now time.Time) (io.Closer, error) {
	const op = "kit/daemon.Hold"
	path := fs.PathJoin(dir, LockName)
	if fs != vfs.OS() {
		// A disk in memory has one user; its own lock is enough.
		l, err := fs.Lock(path)
		if err != nil {
			return nil, errs.E(op, errs.Exists, dir+" is in use", err)
		}
		return l, nil
	}
	// flock(2), not the fcntl lock of vfs.FS.Lock: the latter does not exclude
	// within a process and is lost when any descriptor of the file is closed.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, errs.E(op, errs.Unavailable, "cannot write to "+dir, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if err != unix.EWOULDBLOCK {
			return nil, errs.E(op, errs.Unavailable, "cannot lock "+dir, err)
		}
		return nil, errs.E(op, errs.Exists, dir+" is in use by "+holder(f), err)
	}
	// One line of fixed length, written over the last one: it needs no new block on
	// a full disk. Where it fails all the same, the lock holds nevertheless.
	_, _ = f.WriteAt(fmt.Appendf(nil, "%-62s\n", fmt.Sprintf("%d %s", os.Getpid(), now.UTC().Format(time.RFC3339))), 0)
	return f, nil
}

// holder describes who wrote the lock file.
func holder(f *os.File) string {
	b := make([]byte, 256)
	n, _ := f.ReadAt(b, 0)
	pid, since, _ := strings.Cut(strings.TrimSpace(string(b[:n])), " ")
	t, err := time.Parse(time.RFC3339, since)
	if err != nil {
		return "another process" // it is just writing its name
	}
	return fmt.Sprintf("process %s, since %s", pid, t.Format("2006-01-02 15:04:05 MST"))
}
