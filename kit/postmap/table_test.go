package postmap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern.email/kit/disktest"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// copied is a Compile that makes an index of the text itself.
func copied(fs vfs.FS) func(context.Context, string, string) error {
	return func(_ context.Context, typ, path string) error {
		text, err := vfs.ReadFile(fs, path)
		if err != nil {
			return err
		}
		f, err := fs.Create(path+suffixes[typ], vfs.Unspecified)
		if err != nil {
			return err
		}
		_, err = f.Write(append([]byte("index of\n"), text...))
		return errors.Join(err, f.Close())
	}
}

func table(t testing.TB, fs vfs.FS, path, typ string) *Table {
	t.Helper()
	m, err := New(Options{FS: fs, Path: path, Type: typ, Compile: copied(fs)})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestSync(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "canonical")
	m := table(t, vfs.OS(), path, "hash")
	r, err := m.Sync(t.Context(), two)
	if err != nil || !r.Changed || r.Lines != 2 || read(t, path) != block || read(t, path+".db") != "index of\n"+block {
		t.Fatalf("%+v, %v", r, err)
	}
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
		t.Errorf("a new map has mode %o", st.Mode())
	}
	if r, err = m.Sync(t.Context(), two); err != nil || r.Changed {
		t.Errorf("again: %+v, %v", r, err)
	}
	// What others write stays, and so do the rights.
	if err := errors.Join(os.WriteFile(path, []byte("x y\n"+block), 0o600), os.Chmod(path, 0o644)); err != nil {
		t.Fatal(err)
	}
	r, err = m.Sync(t.Context(), two[:1])
	if st, _ := os.Stat(path); err != nil || !r.Changed || !strings.HasPrefix(read(t, path), "x y\n"+beginMark) || st.Mode().Perm() != 0o644 {
		t.Errorf("%+v, %v, %v", r, err, st.Mode())
	}
	// The index of a text that somebody wrote is made anew, with nothing of ours changed.
	if err := os.Remove(path + ".db"); err != nil {
		t.Fatal(err)
	}
	if r, err = m.Sync(t.Context(), two[:1]); err != nil || !r.Changed || read(t, path+".db") != "index of\n"+read(t, path) {
		t.Errorf("no index: %+v, %v", r, err)
	}
	st, err := m.State()
	if err != nil || !st.Exists || !st.Fresh || st.Foreign != 1 || !slices.Equal(st.Ours, two[:1]) {
		t.Errorf("%+v, %v", st, err)
	}
	if n, err := m.Foreign("X"); n != 1 || err != nil {
		t.Errorf("x stands in line %d, %v", n, err)
	}
	if n, err := m.Foreign("a@x.example"); n != 0 || err != nil {
		t.Errorf("ours is somebody else's: line %d, %v", n, err)
	}
	if names, _ := os.ReadDir(dir); len(names) != 2 {
		t.Errorf("left behind: %v", names)
	}
}

// TestDisownInTheTable: lines of the program whose place this one takes go, with their index.
func TestDisownInTheTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "map")
	if err := os.WriteFile(path, []byte("x y\nA@x.example t@y.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := table(t, vfs.OS(), path, "hash")
	if err := m.Disown(t.Context(), two); err != nil || read(t, path) != "x y\n" || read(t, path+".db") != "index of\nx y\n" {
		t.Errorf("%v, %q", err, read(t, path))
	}
	if err := m.Disown(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

// TestLink: a map that is a link stays one, and the index is where main.cf's name says.
func TestLink(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real", "map"), filepath.Join(dir, "map")
	if err := errors.Join(os.Mkdir(filepath.Dir(real), 0o755), os.WriteFile(real, []byte("x y\n"), 0o644), os.Symlink(real, link)); err != nil {
		t.Fatal(err)
	}
	if _, err := table(t, vfs.OS(), link, "btree").Sync(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(link); to != real || err != nil || read(t, real) != "x y\n"+block || read(t, link+".db") != "index of\nx y\n"+block {
		t.Errorf("%s, %v", to, err)
	}
}

func TestSyncFaults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "map")
	for _, bad := range [][]Line{{{"a b", "c"}}, {{"a", ""}}, {{"#a", "b"}}, {{"a", "b"}, {"a", "c"}}} {
		if _, err := table(t, vfs.OS(), path, "hash").Sync(t.Context(), bad); errs.KindOf(err) != errs.Invalid || errs.Public(err) != "an entry cannot stand in a map of Postfix" {
			t.Errorf("%v: %v", bad, err)
		}
	}
	m, _ := New(Options{Path: path, Type: "hash", Compile: copied(vfs.OS()), MaxLines: 1})
	if _, err := m.Sync(t.Context(), two); errs.KindOf(err) != errs.Full || errs.Public(err) != "the map holds at most 1 lines" {
		t.Error(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("something was written: %v", err)
	}
	os.WriteFile(path, []byte(beginMark+"\n"), 0o600)
	if _, err := m.Sync(t.Context(), two[:1]); errs.KindOf(err) != errs.Corrupt {
		t.Error(err)
	}
	if _, err := table(t, vfs.OS(), path+"/none/map", "hash").Sync(t.Context(), two); errs.KindOf(err) == errs.Internal || !strings.Contains(errs.Public(err), path) {
		t.Error(err)
	}
	for _, typ := range []string{"", "texthash", "dbm", "regexp"} {
		if _, err := New(Options{Path: path, Type: typ}); errs.KindOf(err) != errs.Unsupported || !strings.Contains(errs.Public(err), "there are btree, cdb, hash, lmdb") {
			t.Error(err)
		}
	}
	if _, err := New(Options{Path: "map", Type: "hash"}); errs.KindOf(err) != errs.Invalid || errs.Public(err) != "the path of the map must be absolute" {
		t.Error(err)
	}
}

// TestFailedCompile: when postmap fails, text and index are as they were (IM-62: and the failure is told).
func TestFailedCompile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "map")
	m := table(t, vfs.OS(), path, "hash")
	if _, err := m.Sync(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	m.o.Compile = func(context.Context, string, string) error {
		return errs.E("x", errs.Unavailable, "postmap of Postfix failed", nil)
	}
	if _, err := m.Sync(t.Context(), two[:1]); errs.Public(err) != "postmap of Postfix failed" {
		t.Error(err)
	}
	if read(t, path) != block || read(t, path+".db") != "index of\n"+block {
		t.Error("something was written")
	}
	if names, _ := os.ReadDir(filepath.Dir(path)); len(names) != 2 {
		t.Errorf("left behind: %v", names)
	}
}

// TestIndexOfATextThatNeverCame: what fails between the two renames leaves an index that is newer than the text. The next
// Sync mends it, of this process or another, also when its lines are those of the old text.
func TestIndexOfATextThatNeverCame(t *testing.T) {
	for _, again := range []bool{true, false} {
		dir := t.TempDir()
		path := filepath.Join(dir, "map")
		faults := vfs.NewFaults(vfs.OS())
		m := table(t, faults, path, "hash")
		if _, err := m.Sync(t.Context(), two[:1]); err != nil {
			t.Fatal(err)
		}
		old := read(t, path)
		faults.FailNth(vfs.OpRename, 2, errors.New("no"))
		if _, err := m.Sync(t.Context(), two); err == nil || read(t, path) != old || read(t, path+".db") == "index of\n"+old {
			t.Fatalf("%v: %q, %q", err, read(t, path), read(t, path+".db"))
		}
		if !again {
			m = table(t, vfs.OS(), path, "hash")
		}
		if _, err := m.Sync(t.Context(), two[:1]); err != nil || read(t, path+".db") != "index of\n"+old {
			t.Errorf("%v: %q", err, read(t, path+".db"))
		}
	}
}

// TestWrittenMeanwhile: what somebody writes while ours is being made is not lost; where that goes on
// and on, nothing is written.
func TestWrittenMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "map")
	n, most := 0, 2
	m := table(t, vfs.OS(), path, "hash")
	make := m.o.Compile
	m.o.Compile = func(ctx context.Context, typ, p string) error {
		if n++; n <= most {
			if err := os.WriteFile(path, fmt.Appendf(nil, "hand%d w\n", n), 0o600); err != nil {
				return err
			}
		}
		return make(ctx, typ, p)
	}
	if _, err := m.Sync(t.Context(), two); err != nil || read(t, path) != "hand2 w\n"+block || n != 3 {
		t.Errorf("%v after %d tries: %q", err, n, read(t, path))
	}
	n, most = 0, 1000
	if _, err := m.Sync(t.Context(), two[:1]); errs.KindOf(err) != errs.Conflict || n != maxTries || read(t, path) != "hand5 w\n" {
		t.Errorf("%v after %d tries", err, n)
	}
}

// TestCrash: after a crash at any moment the text is the one of before or the new one, its index is of
// one of them, and one more Sync makes both right.
func TestCrash(t *testing.T) {
	const path = "/etc/map"
	old, fresh := "x y\n"+block, "x y\n"+strings.Replace(block, "b@x.example t@y.example\n", "c@x.example t@y.example\n", 1)
	lines := []Line{two[0], {"c@x.example", "t@y.example"}}
	cuts := disktest.Cuts(1, func(n int64, after bool, u vfs.Unsynced) bool {
		disk := vfs.NewCrashDisk()
		if err := vfs.MkdirAll(disk, "/etc", 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{path: old, path + ".db": "index of\n" + old} {
			if err := vfs.WriteFileAtomic(disk, name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cut := vfs.CutAt(disk, n, after, u, uint64(n), nil)
		if _, err := table(t, cut.FS, path, "hash").Sync(t.Context(), lines); err != nil {
			t.Fatal(err)
		}
		left := cut.Disk()
		if left == nil {
			return false
		}
		get := func(name string) string {
			b, err := vfs.ReadFile(left, name)
			if err != nil {
				t.Fatalf("cut %d, %v, %v: %v", n, after, u, err)
			}
			return string(b)
		}
		text, index := get(path), get(path+".db")
		if text != old && text != fresh || index != "index of\n"+old && index != "index of\n"+fresh {
			t.Fatalf("cut %d, %v, %v: text %q, index %q", n, after, u, text, index)
		}
		if _, err := table(t, left, path, "hash").Sync(t.Context(), lines); err != nil || get(path) != fresh || get(path+".db") != "index of\n"+fresh {
			t.Fatalf("cut %d, %v, %v: not healed: %v, %q, %q", n, after, u, err, get(path), get(path+".db"))
		}
		return true
	})
	if cuts < 6 {
		t.Errorf("only %d cuts", cuts)
	}
}
