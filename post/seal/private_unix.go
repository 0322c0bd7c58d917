//go:build unix

package seal

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// noFd is what vfs.File.Fd gives for a file that is no file of the machine.
const noFd = ^uintptr(0)

// makePrivate lets only the owner read and write a file that was just created.
func makePrivate(f vfs.File) error {
	if f.Fd() == noFd {
		return nil
	}
	return unix.Fchmod(int(f.Fd()), 0o600)
}

// checkPrivate refuses a key file that somebody else may read.
func checkPrivate(f vfs.File) error {
	if f.Fd() == noFd {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return errs.E("seal.checkPrivate", errs.Unavailable, "", err)
	}
	if mode := os.FileMode(st.Mode & 0o777); mode&0o077 != 0 {
		return errs.E("seal.checkPrivate", errs.Denied,
			fmt.Sprintf("the file of the node key has mode %04o, so others may read it; type: chmod 600 on it", uint32(mode)), nil)
	}
	return nil
}
