// Package disktest is for tests that look at disks: what lies on them, and what a crash leaves.
package disktest

import (
	"bytes"
	"testing"

	"postern.email/kit/vfs"
)

// Holding gives the files under dir that hold one of pieces, once for each piece.
func Holding(tb testing.TB, fs vfs.FS, dir string, pieces ...[]byte) (found []string) {
	tb.Helper()
	names, err := fs.List(dir)
	if err != nil {
		tb.Fatal(err)
	}
	for _, name := range names {
		path := fs.PathJoin(dir, name)
		if st, err := fs.Stat(path); err == nil && st.IsDir() {
			found = append(found, Holding(tb, fs, path, pieces...)...)
			continue
		}
		b, err := vfs.ReadFile(fs, path)
		if err != nil {
			continue // gone since
		}
		for _, p := range pieces {
			if bytes.Contains(b, p) {
				found = append(found, path)
			}
		}
	}
	return found
}

// Cuts calls try for the moments before and after each sync, in turn with the ways in which a disk
// can forget what was not synced, until try says that there was no such sync; it gives their
// number. every leaves moments out: of the syncs only every so many is tried, and only before it;
// 1 tries all.
func Cuts(every int64, try func(n int64, after bool, u vfs.Unsynced) bool) (cuts int) {
	u := vfs.Dropped
	for n := int64(1); ; n++ {
		for _, after := range []bool{false, true} {
			u = (u + 1) % 3
			if every > 1 && cuts > 0 && (n%every != 0 || after) {
				cuts++
				continue
			}
			if !try(n, after, u) {
				return cuts
			}
			cuts++
		}
	}
}
