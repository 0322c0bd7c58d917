package mix

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/replay"
)

var makeFormat1 = flag.Bool("make-format-1", false, "make testdata/format1 anew")

// format1Time is when the node of testdata/format1 ran.
var format1Time = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// records are the packets that it had: the first two wait, the third was sent.
func records() []replay.Record {
	var all []replay.Record
	for i := range 3 {
		all = append(all, replay.Record{Key: 7, Tag: replay.Tag{byte(i + 1)}, Body: []byte(strings.Repeat("packet ", 10*(i+1))), Next: replay.NodeID{byte(i)}, Use: 1,
			Due: format1Time.Add(time.Hour)})
	}
	return all
}

// TestMakeFormat1 makes testdata/format1: a node of today, put back into the places of format 1.
func TestMakeFormat1(t *testing.T) {
	if !*makeFormat1 {
		t.Skip("only on demand: it is the data of an earlier version")
	}
	w := newWorld(t)
	w.pass(time.Until(format1Time))
	w.deps = func(d *Deps) { d.Rand = &noise{seed: [32]byte{1}} }
	epoch := w.net.Network.Epoch(w.now())
	c := w.net.Agree(t, epoch, nil, w.net.Mix(t, "other", w.net.Network.Begin(epoch)))
	s := w.start("incoming.addresses=mix.example.org:48099")
	if err := s.cache.Put(c.Bytes()); err != nil {
		t.Fatal(err)
	}
	s.stats.Count("ReceivedPacket", "")
	s.Close()
	st, err := openStopped(w.config(), w.dep().withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	out, err := st.log.Add(t.Context(), records()...)
	if err != nil {
		t.Fatal(err)
	}
	st.log.Sent(out[2].Entry)
	if err := st.log.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	st.close()
	place := func(name string) string {
		for _, p := range [][2]string{{"work/queues/packets", "packets"}, {"work/dir", "dir"}, {"work/stats.tmp", "stats.tmp"}, {"keys/key_0", "keys/0"}} {
			if rest, ok := strings.CutPrefix(name, p[0]); ok {
				return p[1] + rest
			}
		}
		return name
	}
	dir := filepath.Join("testdata", "format1")
	for _, name := range w.files("") {
		text := w.read(name)
		switch name {
		case "version":
			text = "1\n"
		case "current-desc":
			text = strings.ReplaceAll(text, "key_0", "0")
		case "lock", "work/queues/packets/LOCK":
			continue
		}
		file := filepath.Join(dir, place(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// files lists the files under the base directory, sorted.
func (w *world) files(dir string) (all []string) {
	w.t.Helper()
	names, err := w.fs.List(w.fs.PathJoin(w.base, dir))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, n := range names {
		name := w.fs.PathJoin(dir, n)
		if st, err := w.fs.Stat(w.fs.PathJoin(w.base, name)); err == nil && st.IsDir() {
			all = append(all, w.files(name)...)
		} else {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// format1 is a world with the node of testdata/format1, at its time.
func format1(t testing.TB) *world {
	t.Helper()
	w := newWorld(t)
	w.pass(time.Until(format1Time.Add(time.Minute)))
	root := filepath.Join("testdata", "format1")
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err == nil {
			rel, _ := filepath.Rel(root, path)
			w.file(rel, string(text))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// upgraded looks whether a node has all that it had, in its present places.
func (w *world) upgraded(set ...string) {
	w.t.Helper()
	if got := w.read("version"); got != fmt.Sprintf("%d\n", FormatVersion) {
		w.t.Fatalf("version %q", got)
	}
	for _, old := range []string{"packets", "dir", "stats.tmp", "keys/0001"} {
		if w.there(old) || w.there(old+".old") {
			w.t.Errorf("%s is still there", old)
		}
	}
	c := w.config(set...)
	st, err := openStopped(c, w.dep().withDefaults())
	if err != nil {
		w.t.Fatal(err)
	}
	defer st.close()
	n := 0
	for v := range st.log.Entries() {
		if v.State != replay.Message || v.Bytes != int64(len(records()[n].Body)) {
			w.t.Errorf("packet %d: %+v", n, v)
		}
		n++
	}
	out, err := st.log.Add(w.t.Context(), records()...)
	if n != 2 || err != nil {
		w.t.Fatalf("%d packets wait; %v", n, err)
	}
	for i, r := range out {
		if !r.Replay {
			w.t.Errorf("packet %d would be taken again", i)
		}
	}
	if l := st.keys.List(); len(l) != 2 || l[0].Number != 1 || l[1].Number != 2 {
		w.t.Errorf("keys: %+v", l)
	}
	var b strings.Builder
	if err := DumpStats(c, w.dep(), &b); err != nil || !strings.Contains(b.String(), "ReceivedPacket: 1\n") {
		w.t.Errorf("%v: %s", err, b.String())
	}
}

// TestUpgrade: the data of format 1 is refused, brought to the present format, and whole.
func TestUpgrade(t *testing.T) {
	w := format1(t)
	if _, err := w.try(); !NeedsUpgrade(err) || !strings.Contains(errs.Public(err), "/node has format 1, and this program works with format 2; nothing was changed") {
		t.Fatalf("%v", err)
	}
	if _, err := DeleteKeys(t.Context(), w.config(), w.dep()); !NeedsUpgrade(err) {
		t.Errorf("%v", err)
	}
	u, err := Upgrade(t.Context(), w.config(), w.dep())
	if err != nil || u.From != 1 || u.To != FormatVersion || len(u.Did) != 5 {
		t.Fatalf("%+v, %v", u, err)
	}
	w.upgraded()
	if u, err := Upgrade(t.Context(), w.config(), w.dep()); err != nil || u.From != FormatVersion || len(u.Did) > 0 {
		t.Errorf("%+v, %v", u, err)
	}
	s := w.start()
	if d := s.node.Descriptor(); d.ID() != s.node.ID() {
		t.Error(d.ID())
	}
}

// TestUpgradeElsewhere: the queues may lie on another disk, to which nothing can be renamed.
func TestUpgradeElsewhere(t *testing.T) {
	w := format1(t)
	f := vfs.NewFaults(w.fs)
	w.fs = f
	for _, n := range []int{1, 3, 5} { // each is followed by one that puts the old place aside
		f.FailNth(vfs.OpRename, n, &os.LinkError{Op: "rename", Err: syscall.EXDEV})
	}
	if _, err := Upgrade(t.Context(), w.config("server.queue_dir=/spool"), w.dep()); err != nil {
		t.Fatal(err)
	}
	w.upgraded("server.queue_dir=/spool")
	if !w.there("/spool/packets/format") {
		t.Error("the packets are not in the other place")
	}
}

// TestUpgradeIsCut: a crash at any sync leaves what another run brings to its end.
func TestUpgradeIsCut(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		for n := int64(1); ; n++ {
			w := format1(t)
			cut := vfs.CutAt(w.fs.(*vfs.CrashDisk), n, n%2 == 0, vfs.Dropped, uint64(n), nil)
			w.fs = cut.FS
			if elsewhere {
				f := vfs.NewFaults(cut.FS)
				f.FailNth(vfs.OpRename, 1, &os.LinkError{Op: "rename", Err: syscall.EXDEV})
				f.FailNth(vfs.OpRename, 3, &os.LinkError{Op: "rename", Err: syscall.EXDEV})
				w.fs = f
			}
			if _, err := Upgrade(t.Context(), w.config(), w.dep()); err != nil {
				t.Fatal(err)
			}
			if cut.Disk() == nil {
				if n < 5 {
					t.Errorf("only %d syncs", n)
				}
				break
			}
			w.fs = cut.Disk()
			left := w.files("")
			if _, err := Upgrade(t.Context(), w.config(), w.dep()); err != nil {
				t.Fatalf("after a crash at sync %d: %v", n, err)
			}
			w.upgraded()
			if t.Failed() {
				t.Fatalf("after a crash at sync %d, which left %q", n, left)
			}
		}
	}
}

// TestVersions: data of others, of later versions and without a version is left alone.
func TestVersions(t *testing.T) {
	for text, want := range map[string]string{
		"1001\n": "/node belongs to mixminiond", "1000": "/node belongs to mixminiond", "3\n": "this program knows formats up to 2: it is older than what wrote it",
		"x\n": "holds no version", "02\n": "holds no version", "": "holds no version",
	} {
		w := newWorld(t)
		w.file("version", text)
		before := w.files("")
		w.refused(want)
		if _, err := Upgrade(t.Context(), w.config(), w.dep()); !strings.Contains(errs.Public(err), want) {
			t.Errorf("%q: %v", text, err)
		}
		if after := slices.DeleteFunc(w.files(""), func(n string) bool { return n == "lock" }); !slices.Equal(before, after) {
			t.Errorf("%q: %q, before %q", text, after, before)
		}
	}
	w := newWorld(t)
	w.file("keys/identity.key", "x")
	w.refused("there are keys or packets in /node and no file version")
}
