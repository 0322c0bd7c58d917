// Package vfs is the one door to the disk: everything that writes (store, blob
// files, keys) takes an FS, so that a test can put a whole server on one
// crashable disk and cut it at any sync.
package vfs

import "github.com/cockroachdb/pebble/v2/vfs"

// FS and File are Pebble's: a file system in which create, rename and remove
// are durable only after the directory was synced.
type (
	FS   = vfs.FS
	File = vfs.File
)

// OS is the machine's own disk.
func OS() FS { return vfs.Default }
