//go:build unix

package mime

import (
	"syscall"
	"testing"
	"time"
)

// cpuTime is what this process has used of the processors so far. A test that bounds work by it does not
// depend on what else the machine does.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
