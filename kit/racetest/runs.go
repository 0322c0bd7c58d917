package racetest

import (
	"flag"
	"strconv"
	"testing"
)

// Runs has rapid try a property at most so many times, from now to the end of the test, unless
// another number than rapid's own is asked for with -rapid.checks. A property that leaves its later
// runs at once instead would have rapid call a failure flaky: it runs once more to be made small and
// shown. The test must not run in parallel with others that use rapid.
func Runs(t testing.TB, most int) {
	t.Helper()
	checks := flag.Lookup("rapid.checks")
	if checks == nil {
		t.Fatal("this test does not use rapid")
	}
	if checks.Value.String() != checks.DefValue {
		return
	}
	set := func(n string) {
		if err := checks.Value.Set(n); err != nil {
			t.Fatal(err)
		}
	}
	set(strconv.Itoa(most))
	t.Cleanup(func() { set(checks.DefValue) })
}
