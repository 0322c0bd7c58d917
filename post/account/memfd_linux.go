package account

import (
	"os"

	"golang.org/x/sys/unix"

	"postern.email/kit/errs"
)

// Memfd makes a nameless file in memory (memfd_create(2)) for ExportKeys. It is
// handed to the next process as an inherited descriptor and is gone with the last
// one; it lies in no directory. The caller closes it.
func Memfd() (*os.File, error) {
	fd, err := unix.MemfdCreate("postern-keys", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, errs.E("account.Memfd", errs.Unsupported, "", err)
	}
	return os.NewFile(uintptr(fd), "postern-keys"), nil
}
