package sysinfo

import (
	"golang.org/x/sys/unix"

	"postern.email/kit/errs"
)

// ClockSynced reports whether the kernel knows of a program that keeps its clock right
// (adjtimex(2)). A server under systemd's ProtectClock must not ask: it would be killed.
func ClockSynced() (bool, error) {
	var t unix.Timex // no mode: nothing is changed
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return false, errs.E("kit/sysinfo.ClockSynced", errs.Unsupported, "", err)
	}
	return state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, nil
}
