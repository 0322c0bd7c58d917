package sysinfo

import (
	"math"

	"golang.org/x/sys/unix"

	"postern.email/kit/errs"
)

// OpenFiles is how many files and connections this process may have open at one time.
func (r *Reader) OpenFiles() (int64, error) {
	get := r.FileLimit
	if get == nil {
		get = func() (uint64, error) {
			var l unix.Rlimit
			err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
			return uint64(l.Cur), err
		}
	}
	n, err := get()
	if err != nil {
		return 0, errs.E("kit/sysinfo.OpenFiles", errs.Unsupported, "", err)
	}
	return int64(min(n, math.MaxInt64)), nil
}

// Inodes is how many more files the disk can hold. errs.Unsupported on file systems
// that have no such number, and on those of tests.
func (r *Reader) Inodes() (free int64, err error) {
	get := r.Statfs
	if get == nil {
		get = unix.Statfs
	}
	var s unix.Statfs_t
	if err := get(r.Dir, &s); err != nil || s.Files == 0 {
		return 0, errs.E("kit/sysinfo.Inodes", errs.Unsupported, "", err)
	}
	return int64(min(uint64(s.Ffree), math.MaxInt64)), nil
}
