package vfs

import "errors"

// shredChunk is how much Shred writes at once.
const shredChunk = 64 << 10

// Shred overwrites the first n bytes of a file with zeros (all of it when n is negative or
// beyond its end), syncs that, and removes the file. The zeros are durable when it returns nil;
// that the name is gone is durable after the next SyncDir. A file that is not there is no
// error. File systems and flash that write elsewhere than they are told keep the old bytes
// for a while: what must be beyond reach then has to have been sealed, with its key among the
// bytes overwritten. Kinds of errors: errs.Denied, errs.NoSpace, errs.Unavailable.
func Shred(f FS, path string, n int64) error {
	const op = "kit/vfs.Shred"
	ok, err := Exists(f, path) // opening would make it
	if err != nil || !ok {
		return err
	}
	w, err := f.OpenReadWrite(path, Unspecified)
	if err != nil {
		return diskError(op, err)
	}
	if err := errors.Join(zero(w, n), w.Close()); err != nil {
		return diskError(op, err)
	}
	return diskError(op, f.Remove(path))
}

func zero(w File, n int64) error {
	info, err := w.Stat()
	if err != nil {
		return err
	}
	if n < 0 || n > info.Size() {
		n = info.Size()
	}
	zeros := make([]byte, min(n, shredChunk))
	for at := int64(0); at < n; at += shredChunk {
		clear(zeros) // a File may change what it is given to write
		if _, err := w.WriteAt(zeros[:min(n-at, shredChunk)], at); err != nil {
			return err
		}
	}
	return w.Sync()
}
