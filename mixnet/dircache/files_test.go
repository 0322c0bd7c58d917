package dircache

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/dirtest"
)

// TestReadDescriptor: a file, or a file that names one, as a node's current-desc does.
func TestReadDescriptor(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := ReadDescriptor(vfs.OS(), filepath.Join(dir, "none")); errs.KindOf(err) != errs.NotFound {
		t.Errorf("%v", err)
	}
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	put("current", put("bad", "postern-descriptor 2\nx\n")+"\n")
	for _, name := range []string{"bad", "current"} {
		if _, _, err := ReadDescriptor(vfs.OS(), filepath.Join(dir, name)); errs.KindOf(err) != errs.Unsupported || !strings.Contains(errs.Public(err), name+": ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestReadDescriptors: what is signed, of this network and fresh is given, once for each node; all
// else is told, and does not keep the rest out.
func TestReadDescriptors(t *testing.T) {
	disk := vfs.NewCrashDisk()
	now := time.Now()
	a := dirtest.New(t, "test-net", time.Hour, 1)
	put := func(name string, b []byte) string {
		path := "/d/" + name
		if err := vfs.MkdirAll(disk, disk.PathDir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := vfs.WriteFileAtomic(disk, path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	one := a.Mix(t, "one", now)
	later := a.Mix(t, "one", now.Add(time.Minute))
	two := a.Mix(t, "two", now)
	old := a.Mix(t, "old", now.Add(-directory.FreshEpochs*time.Hour))
	other := dirtest.New(t, "other-net", time.Hour, 1).Mix(t, "other", now)
	forged := two.Bytes()
	forged = append(append([]byte(nil), forged[:40]...), forged[41:]...)

	put("many/a", one.Bytes())
	put("many/b", later.Bytes())
	put("many/sub/ignored", old.Bytes())
	put("current", []byte(put("two", two.Bytes())+"\n"))
	list, faults := ReadDescriptors(disk, a.Network, now, []string{"/d/many", "/d/current"})
	if len(faults) > 0 || len(list) != 2 {
		t.Fatalf("%d descriptors, %v", len(list), faults)
	}
	for _, d := range list {
		if d.Nickname == "one" && !d.Published.Equal(later.Published) {
			t.Error("the older of two was taken")
		}
	}

	put("bad/1", old.Bytes())
	put("bad/2", other.Bytes())
	put("bad/3", forged)
	put("bad/4", []byte(strings.Repeat("x", directory.MaxDescriptor+1)))
	list, faults = ReadDescriptors(disk, a.Network, now, []string{"/d/bad", "/d/none", "/d/two"})
	if len(list) != 1 || len(faults) != 5 {
		t.Fatalf("%d descriptors, %v", len(list), faults)
	}
	for i, want := range []string{"/d/bad/1: descriptor is too old", "/d/bad/2: descriptor is of another network", "/d/bad/3: ", "/d/bad/4: longer than", "/d/none: there is no such file"} {
		if got := errs.Public(faults[i]); !strings.HasPrefix(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}

	var paths []string
	for i := range MaxFiles + 10 {
		paths = append(paths, fmt.Sprintf("/d/missing-%d", i))
	}
	if _, faults = ReadDescriptors(disk, a.Network, now, paths); len(faults) != MaxFiles+1 || errs.KindOf(faults[MaxFiles]) != errs.TooLarge {
		t.Errorf("%d faults", len(faults))
	}
}
