//go:build unix

package vfs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// TestCheckPrivate: what others may read is refused with its mode and what to type; nothing of
// a path is in the text; a file in memory passes.
func TestCheckPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "secret")
	check := func(mode os.FileMode) error {
		t.Helper()
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		f, err := vfs.OS().Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return vfs.CheckPrivate(f, "secret")
	}
	for mode, ok := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o700: true, 0o640: false, 0o604: false, 0o602: false} {
		err := check(mode)
		if (err == nil) != ok || err != nil && errs.KindOf(err) != errs.Denied {
			t.Errorf("mode %o: %v", mode, err)
		}
		if !ok && (!strings.Contains(errs.Public(err), "chmod 600") || strings.Contains(errs.Public(err), dir)) {
			t.Errorf("mode %o: %q", mode, errs.Public(err))
		}
	}
	disk := vfs.NewCrashDisk()
	f, err := disk.Create("/f", vfs.Unspecified)
	if err != nil {
		t.Fatal(err)
	}
	if err := vfs.CheckPrivate(f, "f"); err != nil {
		t.Errorf("a file in memory: %v", err)
	}
	if err := vfs.CheckPrivateDir(disk, "/", "the root", nil); err != nil {
		t.Errorf("a directory in memory: %v", err)
	}
}

// TestCheckPrivateDir: the directory is for its owner alone, and nobody may replace one above it;
// a sticky one like /tmp is none that anybody may replace.
func TestCheckPrivateDir(t *testing.T) {
	top := t.TempDir()
	above, dir := filepath.Join(top, "above"), filepath.Join(top, "above", "keys")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	check := func(up, own os.FileMode) error {
		t.Helper()
		for p, m := range map[string]os.FileMode{above: up, dir: own} {
			if err := os.Chmod(p, m); err != nil {
				t.Fatal(err)
			}
		}
		return vfs.CheckPrivateDir(vfs.OS(), dir, "the directory", nil)
	}
	for _, c := range []struct {
		up, own os.FileMode
		want    string // in the public text; "": it passes
	}{
		{0o755, 0o700, ""},
		{0o775, 0o700, ""},
		{0o777 | os.ModeSticky, 0o700, ""},
		{0o777, 0o700, "a directory above the directory has mode 0777"},
		{0o755, 0o750, "the directory has mode 0750"},
		{0o755, 0o701, "the directory has mode 0701"},
	} {
		err := check(c.up, c.own)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%o %o: %v", c.up, c.own, err)
		case c.want != "" && (errs.KindOf(err) != errs.Denied || !strings.HasPrefix(errs.Public(err), c.want)):
			t.Errorf("%o %o: %v", c.up, c.own, err)
		}
	}
	err := vfs.CheckPrivateDir(vfs.OS(), filepath.Join(dir, "missing"), "it", nil)
	if errs.KindOf(err) != errs.NotFound {
		t.Errorf("a missing directory: %v", err)
	}
}
