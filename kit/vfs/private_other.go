//go:build !unix

package vfs

// CheckPrivate and CheckPrivateDir find nothing where files have no mode bits; the
// directory's own rights must do.
func CheckPrivate(File, string) error { return nil }

// CheckPrivateDir is as CheckPrivate.
func CheckPrivateDir(FS, string, string, []int) error { return nil }
