package storetest

import "runtime"

// goexit ends the goroutine that runs it, as t.Fatal does.
func goexit() { runtime.Goexit() }
