//go:build !unix

package seal

import "postern.email/kit/vfs"

// Elsewhere files have no mode bits; the directory's own rights must do.
func makePrivate(vfs.File) error { return nil }
