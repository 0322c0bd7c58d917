// Package sysinfo reads how this machine is: load average, available memory, free disk
// (new accounts are refused when it is short of any), its public addresses, the limit of
// open files, and whether its clock is kept right.
package sysinfo

import (
	"math"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// Reader looks at one machine and one disk. The zero values of the functions
// read Linux's /proc; tests inject their own.
type Reader struct {
	FS       vfs.FS
	Dir      string                       // a directory on the disk in question
	ReadFile func(string) ([]byte, error) // nil = os.ReadFile

	Interfaces func() ([]net.Addr, error)         // nil = net.InterfaceAddrs
	FileLimit  func() (uint64, error)             // nil = the process's own
	Statfs     func(string, *unix.Statfs_t) error // nil = statfs(2)
}

func (r *Reader) read(name string) (string, error) {
	f := r.ReadFile
	if f == nil {
		f = os.ReadFile
	}
	b, err := f(name)
	return string(b), err
}

// Load1 is the load average of the last minute (runnable tasks).
func (r *Reader) Load1() (float64, error) {
	const op = "kit/sysinfo.Load1"
	s, err := r.read("/proc/loadavg")
	if err != nil {
		return 0, errs.E(op, errs.Unsupported, "", err)
	}
	first, _, _ := strings.Cut(s, " ")
	v, err := strconv.ParseFloat(first, 64)
	if err != nil || math.IsNaN(v) {
		return 0, errs.E(op, errs.Unsupported, "", err)
	}
	return v, nil
}

// MemAvailable is the memory that programs can still get without swapping, in bytes.
func (r *Reader) MemAvailable() (int64, error) {
	const op = "kit/sysinfo.MemAvailable"
	s, err := r.read("/proc/meminfo")
	if err != nil {
		return 0, errs.E(op, errs.Unsupported, "", err)
	}
	for line := range strings.Lines(s) {
		if rest, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 50)
			if err != nil {
				return 0, errs.E(op, errs.Unsupported, "", err)
			}
			return kb << 10, nil
		}
	}
	return 0, errs.E(op, errs.Unsupported, "", nil)
}

// DiskFree is the space left on the disk for an ordinary user, in bytes.
// errs.Unsupported on file systems that cannot say (those of tests).
func (r *Reader) DiskFree() (int64, error) {
	u, err := r.FS.GetDiskUsage(r.Dir)
	if err != nil {
		return 0, errs.E("kit/sysinfo.DiskFree", errs.Unsupported, "", err)
	}
	return int64(min(u.AvailBytes, math.MaxInt64)), nil
}
