//go:build !linux

package sysinfo

import "postern.email/kit/errs"

// ClockSynced is known on Linux only: errs.Unsupported.
func ClockSynced() (bool, error) {
	return false, errs.E("kit/sysinfo.ClockSynced", errs.Unsupported, "", nil)
}
