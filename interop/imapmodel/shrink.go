package imapmodel

import (
	"errors"
	"regexp"
	"slices"
	"time"
)

// rule is a violation without what differs from run to run.
func (v *Violation) rule() string { return varying.ReplaceAllString(v.Err.Error(), "") }

var varying = regexp.MustCompile(`[0-9]+|\([^)]*\)`)

// Shrink looks for a shorter run that breaks the same rule, by leaving steps out.
// run is called with the steps to take and must use a fresh account each time;
// it is called until nothing can be left out or the time is over. The result is
// the shortest that was found.
func Shrink(first *Violation, steps []int, limit time.Duration, run func(only []int) error) *Violation {
	deadline := time.Now().Add(limit)
	best := first
	steps = slices.DeleteFunc(slices.Clone(steps), func(i int) bool { return i > first.Step })
	for size := (len(steps) + 1) / 2; size >= 1; {
		shorter := false
		for at := 0; at < len(steps) && time.Now().Before(deadline); {
			try := slices.Delete(slices.Clone(steps), at, min(at+size, len(steps)))
			var v *Violation
			if err := run(try); len(try) > 0 && errors.As(err, &v) && v.rule() == first.rule() {
				best, shorter = v, true
				steps = slices.DeleteFunc(try, func(i int) bool { return i > v.Step })
				continue
			}
			at += size
		}
		if time.Now().After(deadline) {
			break
		}
		if size == 1 && !shorter {
			break
		}
		size = max(size/2, 1)
	}
	return best
}
