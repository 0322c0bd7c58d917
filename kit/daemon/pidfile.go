package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"postern.email/kit/errs"
)

// HoldPid takes the exclusive lock on a pid file, makes the file if need be, and writes the
// number of this process into it, in decimal with a line end. When another process holds it the
// error is errs.Exists and its public text says which one and since when. Close empties the
// file and gives the lock back; the end of the process gives it back too.
func HoldPid(path string) (io.Closer, error) {
	const op = "kit/daemon.HoldPid"
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, errs.E(op, errs.Unavailable, "cannot write the pid file "+path, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if err != unix.EWOULDBLOCK {
			return nil, errs.E(op, errs.Unavailable, "cannot lock the pid file "+path, err)
		}
		return nil, errs.E(op, errs.Exists, path+" is held by "+writer(f), err)
	}
	text := strconv.Itoa(os.Getpid()) + "\n"
	if err := errors.Join(f.Truncate(0), writeAt(f, text)); err != nil {
		f.Close()
		return nil, errs.E(op, errs.Unavailable, "cannot write the pid file "+path, err)
	}
	return pidFile{f}, nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

type pidFile struct{ f *os.File }

// Close empties the file before the lock goes: who reads a number in it finds the lock held.
// The file stays: another process may have opened it, to lock it, already.
func (p pidFile) Close() error { return errors.Join(p.f.Truncate(0), p.f.Close()) }

// writer describes the process whose number is in a pid file.
func writer(f *os.File) string {
	pid, err := readPid(f)
	st, serr := f.Stat()
	if err != nil || serr != nil {
		return "another process" // it is just writing its number
	}
	return fmt.Sprintf("process %d, since %s", pid, st.ModTime().UTC().Format("2006-01-02 15:04:05 MST"))
}

func readPid(f *os.File) (int, error) {
	b := make([]byte, 32)
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err == nil && pid <= 0 {
		err = strconv.ErrRange
	}
	return pid, err
}

// PidOf gives the process that holds a pid file. errs.NotFound when none does, whatever number
// a process that was killed has left in it: no signal must go to a stranger. errs.Unavailable
// when the file cannot be read, or its holder has not written its number yet.
func PidOf(path string) (int, error) {
	const op = "kit/daemon.PidOf"
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, errs.E(op, errs.NotFound, "no process holds "+path, err)
	} else if err != nil {
		return 0, errs.E(op, errs.Unavailable, "cannot read the pid file "+path, err)
	}
	defer f.Close()
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err {
	case nil:
		return 0, errs.E(op, errs.NotFound, "no process holds "+path, nil)
	case unix.EWOULDBLOCK:
	default:
		return 0, errs.E(op, errs.Unavailable, "cannot look at the lock of "+path, err)
	}
	pid, err := readPid(f)
	if err != nil {
		return 0, errs.E(op, errs.Unavailable, "the pid file "+path+" holds no number", err)
	}
	return pid, nil
}
