// Package vfs is the one door to the disk: everything that writes (store, blob
// files, keys) takes an FS, so that a test can put a whole server on one
// crashable disk and cut it at any sync.
//
// OS is the real disk. CrashDisk is a disk in memory that can be cloned as a
// crash would leave it. SyncPoints counts syncs over any FS and calls a test's
// hook at each. Faults makes chosen operations fail.
package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"postern.email/kit/errs"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS and File are Pebble's: a file system in which create, rename and remove
// are durable only after the directory was synced.
type (
	FS   = vfs.FS
	File = vfs.File
)

// Unspecified is what everybody outside the store passes to Create as the kind of
// writer, which Pebble counts by.
const Unspecified = vfs.WriteCategoryUnspecified

// MaxReadFile bounds ReadFile: it is for keys, configuration and small state.
const MaxReadFile = 64 << 20

// OS is the machine's own disk.
func OS() FS { return vfs.Default }

// Error gives an error of the disk its kind: errs.NotFound, errs.NoSpace, errs.Denied,
// else errs.Unavailable; nil for nil.
func Error(op string, err error) error { return diskError(op, err) }

// diskError classes an error of the disk.
func diskError(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return errs.E(op, errs.NotFound, "", err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return errs.E(op, errs.NoSpace, "", err)
	case errors.Is(err, fs.ErrPermission):
		return errs.E(op, errs.Denied, "", err)
	}
	return errs.E(op, errs.Unavailable, "", err)
}

// MkdirAll makes a directory and all its missing parents, each with perm (before
// umask), and syncs every directory that got a new entry. A directory that exists
// already is synced into its parent all the same: the process that made it may
// have died before that.
func MkdirAll(f FS, dir string, perm os.FileMode) error {
	const op = "kit/vfs.MkdirAll"
	var parents []string // innermost first, up to the nearest that exists
	for p := f.PathDir(dir); ; p = f.PathDir(p) {
		parents = append(parents, p)
		if f.PathDir(p) == p {
			break
		}
		ok, err := Exists(f, p)
		if err != nil {
			return err
		}
		if ok {
			break
		}
	}
	if err := f.MkdirAll(dir, perm); err != nil {
		return diskError(op, err)
	}
	for _, p := range parents {
		if err := SyncDir(f, p); err != nil {
			return err
		}
	}
	return nil
}

// SyncDir makes the entries of a directory durable.
func SyncDir(f FS, dir string) error {
	const op = "kit/vfs.SyncDir"
	d, err := f.OpenDir(dir)
	if err != nil {
		return diskError(op, err)
	}
	return diskError(op, errors.Join(d.Sync(), d.Close()))
}

// WriteFileAtomic writes data to path so that after a crash the file holds either
// its old content or all of the new, never a part; when it returns nil, the new
// content is durable. perm is applied where the FS knows permissions. It writes
// path + ".tmp" first; two calls for one path must not run at once. Kinds of
// errors: errs.NoSpace, errs.Denied, errs.NotFound (no such directory),
// errs.Unavailable.
func WriteFileAtomic(f FS, path string, data []byte, perm os.FileMode) error {
	const op = "kit/vfs.WriteFileAtomic"
	tmp := path + ".tmp"
	if err := writeSynced(f, tmp, data, perm); err != nil {
		_ = f.Remove(tmp)
		return diskError(op, err)
	}
	if err := f.Rename(tmp, path); err != nil {
		_ = f.Remove(tmp)
		return diskError(op, err)
	}
	return SyncDir(f, f.PathDir(path))
}

func writeSynced(f FS, path string, data []byte, perm os.FileMode) error {
	w, err := f.Create(path, Unspecified)
	if err != nil {
		return err
	}
	err = chmod(w, perm) // before the content is there
	if err == nil {
		// A File may change what it is given to write; data is the caller's.
		_, err = w.Write(append(make([]byte, 0, len(data)), data...))
	}
	if err == nil {
		err = w.Sync()
	}
	return errors.Join(err, w.Close())
}

// chmod sets permissions where the file knows them.
func chmod(f File, perm os.FileMode) error {
	if c, ok := f.(interface{ Chmod(os.FileMode) error }); ok {
		return c.Chmod(perm)
	}
	return nil
}

// ReadFile reads a whole file of at most MaxReadFile bytes. Kinds of errors:
// errs.NotFound, errs.TooLarge, errs.Denied, errs.Unavailable.
func ReadFile(f FS, path string) ([]byte, error) {
	const op = "kit/vfs.ReadFile"
	r, err := f.Open(path)
	if err != nil {
		return nil, diskError(op, err)
	}
	data, err := io.ReadAll(io.LimitReader(r, MaxReadFile+1))
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, diskError(op, err)
	}
	if len(data) > MaxReadFile {
		return nil, errs.E(op, errs.TooLarge, "", nil)
	}
	return data, nil
}

// Exists reports whether path names anything.
func Exists(f FS, path string) (bool, error) {
	_, err := f.Stat(path)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	}
	return false, diskError("kit/vfs.Exists", err)
}

// DiskFree gives the bytes that this process may still write to the disk that
// holds dir, or errs.Unsupported where the disk does not tell.
func DiskFree(f FS, dir string) (uint64, error) {
	const op = "kit/vfs.DiskFree"
	u, err := f.GetDiskUsage(dir)
	if errors.Is(err, vfs.ErrUnsupported) {
		return 0, errs.E(op, errs.Unsupported, "", err)
	}
	if err != nil {
		return 0, diskError(op, err)
	}
	return u.AvailBytes, nil
}
