package vfs

import (
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Op is a kind of operation that changes a disk.
type Op uint8

const (
	OpCreate  Op = iota // Create, OpenReadWrite, ReuseForWrite, Lock
	OpWrite             // Write, WriteAt
	OpSync              // Sync, SyncData, SyncTo of a file
	OpSyncDir           // Sync of a directory
	OpRename
	OpRemove // Remove, RemoveAll
	OpLink
	OpMkdir
	opCount

	OpAny Op = 255 // any of the above
)

// IsSync reports whether the operation makes something durable.
func (o Op) IsSync() bool { return o == OpSync || o == OpSyncDir }

// hook sees every operation that changes the disk.
type hook interface {
	// before is asked first. size is the number of bytes of a write. With an
	// error the operation fails, after writing the first `allow` bytes. n is given
	// back to after.
	before(op Op, path string, size int) (n int64, allow int, err error)
	// after is told when the operation has been done.
	after(op Op, path string, n int64)
}

// hookFS puts a hook over an FS.
type hookFS struct {
	FS
	h hook
}

func (f hookFS) do(op Op, path string, fn func() error) error {
	n, _, err := f.h.before(op, path, 0)
	if err != nil {
		return &os.PathError{Op: "change", Path: path, Err: err}
	}
	err = fn()
	f.h.after(op, path, n)
	return err
}

func (f hookFS) open(op Op, path string, fn func() (File, error)) (File, error) {
	var file File
	err := f.do(op, path, func() (err error) {
		file, err = fn()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &hookFile{File: file, fs: f, path: path}, nil
}

func (f hookFS) Create(name string, c vfs.DiskWriteCategory) (File, error) {
	return f.open(OpCreate, name, func() (File, error) { return f.FS.Create(name, c) })
}

func (f hookFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (File, error) {
	return f.open(OpCreate, name, func() (File, error) { return f.FS.OpenReadWrite(name, c, o...) })
}

func (f hookFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (File, error) {
	return f.open(OpCreate, newname, func() (File, error) { return f.FS.ReuseForWrite(oldname, newname, c) })
}

func (f hookFS) OpenDir(name string) (File, error) {
	d, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &hookFile{File: d, fs: f, path: name, dir: true}, nil
}

func (f hookFS) Link(oldname, newname string) error {
	return f.do(OpLink, newname, func() error { return f.FS.Link(oldname, newname) })
}

func (f hookFS) Rename(oldname, newname string) error {
	return f.do(OpRename, newname, func() error { return f.FS.Rename(oldname, newname) })
}

func (f hookFS) Remove(name string) error {
	return f.do(OpRemove, name, func() error { return f.FS.Remove(name) })
}

func (f hookFS) RemoveAll(name string) error {
	return f.do(OpRemove, name, func() error { return f.FS.RemoveAll(name) })
}

func (f hookFS) MkdirAll(dir string, perm os.FileMode) error {
	return f.do(OpMkdir, dir, func() error { return f.FS.MkdirAll(dir, perm) })
}

func (f hookFS) Lock(name string) (io.Closer, error) {
	var c io.Closer
	err := f.do(OpCreate, name, func() (err error) {
		c, err = f.FS.Lock(name)
		return err
	})
	return c, err
}

func (f hookFS) Unwrap() FS { return f.FS }

// hookFile is an open file or directory of a hookFS.
type hookFile struct {
	File
	fs   hookFS
	path string
	dir  bool
}

func (f *hookFile) write(p []byte, fn func([]byte) (int, error)) (int, error) {
	n, allow, err := f.fs.h.before(OpWrite, f.path, len(p))
	if err != nil {
		written := 0
		if allow > 0 {
			written, _ = fn(p[:min(allow, len(p))])
		}
		return written, &os.PathError{Op: "write", Path: f.path, Err: err}
	}
	written, err := fn(p)
	f.fs.h.after(OpWrite, f.path, n)
	return written, err
}

func (f *hookFile) Write(p []byte) (int, error) { return f.write(p, f.File.Write) }

func (f *hookFile) WriteAt(p []byte, off int64) (int, error) {
	return f.write(p, func(p []byte) (int, error) { return f.File.WriteAt(p, off) })
}

func (f *hookFile) sync(fn func() error) error {
	op := OpSync
	if f.dir {
		op = OpSyncDir
	}
	return f.fs.do(op, f.path, fn)
}

func (f *hookFile) Sync() error     { return f.sync(f.File.Sync) }
func (f *hookFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f *hookFile) SyncTo(n int64) (full bool, err error) {
	err = f.sync(func() error {
		full, err = f.File.SyncTo(n)
		return err
	})
	return full, err
}

// Chmod sets permissions where the file below knows them.
func (f *hookFile) Chmod(perm os.FileMode) error { return chmod(f.File, perm) }
