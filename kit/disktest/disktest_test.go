package disktest

import (
	"fmt"
	"slices"
	"testing"

	"postern.email/kit/vfs"
)

// TestHolding: files are found in folders of folders, once for each piece that they hold.
func TestHolding(t *testing.T) {
	fs := vfs.NewCrashDisk()
	if err := vfs.MkdirAll(fs, "/a/b", 0o700); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{"/a/one": "x needle y", "/a/b/two": "needle and pin", "/a/three": "hay"} {
		if err := vfs.WriteFileAtomic(fs, path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := Holding(t, fs, "/a", []byte("needle"), []byte("pin"))
	slices.Sort(got)
	if !slices.Equal(got, []string{"/a/b/two", "/a/b/two", "/a/one"}) {
		t.Error(got)
	}
}

// TestCuts: every moment once, or every third sync before it, until there are no more.
func TestCuts(t *testing.T) {
	var got []string
	try := func(n int64, after bool, u vfs.Unsynced) bool {
		got = append(got, fmt.Sprint(n, after, u))
		return n <= 3
	}
	if n := Cuts(1, try); n != 6 || !slices.Equal(got, []string{"1 false " + vfs.Kept.String(), "1 true " + vfs.Torn.String(), "2 false " + vfs.Dropped.String(),
		"2 true " + vfs.Kept.String(), "3 false " + vfs.Torn.String(), "3 true " + vfs.Dropped.String(), "4 false " + vfs.Kept.String()}) {
		t.Error(n, got)
	}
	got = nil
	if n := Cuts(3, try); n != 10 || len(got) != 3 {
		t.Error(n, got)
	}
}
