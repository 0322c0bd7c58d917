//go:build !unix

package mime

import (
	"testing"
	"time"
)

// cpuTime is the time of the clock, where what a process uses of the processors is not told.
func cpuTime(testing.TB) time.Duration { return time.Duration(time.Now().UnixNano()) }
