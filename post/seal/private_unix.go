//go:build unix

package seal

import (
	"golang.org/x/sys/unix"

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
