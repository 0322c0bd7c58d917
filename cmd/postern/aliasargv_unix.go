//go:build unix

package main

import (
	"os"
	"unsafe"
)

// wipeArg overwrites an argument of this process where the system keeps it, so that programs like
// ps no longer show it. Go's os.Args are that memory. false: it is no argument of this process,
// or it is shared by a part of one. The caller has a copy.
func wipeArg(arg string) bool {
	for _, have := range os.Args {
		if len(have) == 0 || unsafe.StringData(have) != unsafe.StringData(arg) || len(have) != len(arg) {
			continue
		}
		b := unsafe.Slice(unsafe.StringData(have), len(have))
		for i := range b {
			b[i] = 'x'
		}
		return true
	}
	return false
}
