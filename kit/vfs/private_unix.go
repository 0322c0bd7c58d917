//go:build unix

package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"

	"postern.email/kit/errs"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// sticky lets only the owner of an entry rename or remove it (a directory like /tmp).
const sticky = 0o1000

// CheckPrivate refuses an open file that others than its owner may read or write, or that
// belongs to another user than this process (root may use anybody's). what names it in the
// public text: "the file of the node key". Files that are not on the machine's own disk
// have no rights and pass. Kinds of errors: errs.Denied, errs.Unavailable.
func CheckPrivate(f File, what string) error {
	const op = "kit/vfs.CheckPrivate"
	st, err := rights(f)
	if err != nil || st == nil {
		return err
	}
	if mode := uint32(st.Mode) & 0o777; mode&0o077 != 0 {
		return errs.E(op, errs.Denied, fmt.Sprintf("%s has mode %04o, so others may read it; type: chmod 600 on it", what, mode), nil)
	}
	if me := os.Geteuid(); me != 0 && int(st.Uid) != me {
		return errs.E(op, errs.Denied, fmt.Sprintf("%s belongs to user %d, and this process runs as user %d", what, st.Uid, me), nil)
	}
	return nil
}

// CheckPrivateDir refuses a directory that others than its owner may enter or list, or above which
// there is one that anybody may write to or that belongs to somebody else than this process's
// user, root and the users in trusted: whoever may rename a directory above can put
// another one in the place of this. what names the directory in the public text. A
// relative path is checked as far as it reaches. Kinds of errors: errs.Denied, errs.NotFound,
// errs.Unavailable.
func CheckPrivateDir(f FS, dir, what string, trusted []int) error {
	const op = "kit/vfs.CheckPrivateDir"
	me := os.Geteuid()
	for p := dir; ; p = f.PathDir(p) {
		d, err := f.OpenDir(p)
		if p != dir && errors.Is(err, fs.ErrPermission) {
			return nil // not even to be looked at: nothing can be said of those above
		}
		if err != nil {
			return diskError(op, err)
		}
		st, err := rights(d)
		if err := errors.Join(err, d.Close()); err != nil || st == nil {
			return err
		}
		mode, owner := uint32(st.Mode), int(st.Uid)
		switch {
		case p == dir && mode&0o077 != 0:
			return errs.E(op, errs.Denied, fmt.Sprintf("%s has mode %04o, so others may enter it; type: chmod 700 on it", what, mode&0o777), nil)
		case p == dir && me != 0 && owner != me:
			return errs.E(op, errs.Denied, fmt.Sprintf("%s belongs to user %d, and this process runs as user %d", what, owner, me), nil)
		case p != dir && mode&0o002 != 0 && mode&sticky == 0:
			return errs.E(op, errs.Denied, fmt.Sprintf("a directory above %s has mode %04o, so anybody may replace it; type: chmod o-w on it", what, mode&0o777), nil)
		case p != dir && owner != 0 && owner != me && me != 0 && !slices.Contains(trusted, owner):
			return errs.E(op, errs.Denied, fmt.Sprintf("a directory above %s belongs to user %d, who is not trusted", what, owner), nil)
		}
		if f.PathDir(p) == p {
			return nil
		}
	}
}

// rights asks the machine; nil where the file is not on its disk.
func rights(f File) (*syscall.Stat_t, error) {
	if f.Fd() == vfs.InvalidFd {
		return nil, nil
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		return nil, diskError("kit/vfs.rights", err)
	}
	return &st, nil
}
