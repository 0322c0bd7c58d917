//go:build !linux

package account

import (
	"os"

	"postern.email/kit/errs"
)

// Memfd is built for Linux only: elsewhere a restart closes all keys, and every
// client logs in with its password again.
func Memfd() (*os.File, error) {
	return nil, errs.E("account.Memfd", errs.Unsupported, "", nil)
}
