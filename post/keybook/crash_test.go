package keybook

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"postern.email/kit/disktest"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// picture is all that the book says.
func picture(b *Book) string {
	var out strings.Builder
	for _, e := range b.List() {
		fmt.Fprintf(&out, "%s %v %s %s %v %s\n", e.Address, e.State, e.Key.Text, e.New.Text, e.Was, e.Since)
	}
	for _, x := range b.Bad() {
		if !strings.Contains(errs.Public(x.Err), "another file") { // which a crash between two steps leaves
			fmt.Fprintf(&out, "bad: %s\n", x.Name)
		}
	}
	return out.String()
}

// TestCrash cuts a session before and after every sync, in every way a disk can forget what was not
// synced. What was acknowledged is there, and each entry is as it was before a step or after it.
func TestCrash(t *testing.T) {
	cuts := disktest.Cuts(1, func(n int64, after bool, u vfs.Unsynced) bool {
		disk := vfs.NewCrashDisk()
		w := begin(t, func(o *Options) { o.FS = disk })
		w.put("Eve@two.example.pem", "key:1")
		_, err := w.Rescan()
		must(t, err)
		acked, at := 0, 0
		cut := vfs.CutAt(disk, n, after, u, uint64(n), func() { at = acked })
		w.o.FS = cut.FS
		w.open()
		step := func(err error) {
			if err != nil && errs.KindOf(err) != errs.Conflict {
				t.Fatal(err)
			}
		}
		pictures := []string{picture(w.Book)}
		for _, f := range []func(){
			func() { _, err := w.Set(to(t, bob), []byte("key:1")); step(err) },
			func() { _, err := w.Discovered(to(t, bob), Key{Text: "key:2"}); step(err) },
			func() { _, err := w.Verify(to(t, bob), "ab-2"); step(err) },
			func() { _, err := w.Set(to(t, eve), []byte("key:3")); step(err) },
			func() { step(w.Remove(to(t, bob))) },
			func() { _, err := w.Discovered(to(t, bob), Key{Text: "key:4"}); step(err) },
		} {
			f()
			acked++
			pictures = append(pictures, picture(w.Book))
		}
		d := cut.Disk()
		if d == nil {
			return false
		}
		w.o.FS = d
		w.open()
		if got := picture(w.Book); !slices.Contains(pictures[at:min(at+2, len(pictures))], got) {
			t.Errorf("cut at sync %d (after: %v, %v), when %d steps were acknowledged:\n%swant\n%s", n, after, u, at, got, strings.Join(pictures[at:min(at+2, len(pictures))], "or\n"))
		}
		_, err = w.Set(to(t, bob), []byte("key:5"))
		must(t, err)
		w.open()
		if e, err := w.Get(to(t, bob)); err != nil || e.Key.Text != "key:5" {
			t.Errorf("after a crash nothing can be written: %+v, %v", e, err)
		}
		return true
	})
	if cuts < 20 {
		t.Fatalf("only %d cuts: the session did not reach the disk", cuts)
	}
}

// FuzzFile: no file makes a book do anything but report it or hold one key for its address, which
// reads back from what the book writes.
func FuzzFile(f *testing.F) {
	f.Add("bob@two.example.pem", "key:1")
	f.Add("Bob@two.example.pem", "-----BEGIN TEST KEY-----\nCertified: 2026-01-01T00:00:00Z\nState: set\nSince: 2026-01-02T03:04:05Z\n\na2V5OjE=\n-----END TEST KEY-----\n")
	f.Add("%22a@%2fb%22@two.example.pem", "-----BEGIN TEST KEY-----\nState: changed\nWas: file\n\na2V5OjE=\n-----END TEST KEY-----\n-----BEGIN TEST KEY-----\nState: offered\n\na2V5OjI=\n-----END TEST KEY-----\n")
	f.Add("%.pem", "-----BEGIN")
	f.Fuzz(func(t *testing.T, name, text string) {
		if strings.ContainsAny(name, "/\x00") || name == "" || name == "." || name == ".." {
			return
		}
		w := begin(t, func(o *Options) { o.AllowClassical = true })
		if vfs.WriteFileAtomic(w.fs, dir+"/"+name, []byte(text), 0o600) != nil {
			return
		}
		r, err := w.Rescan()
		must(t, err)
		if len(r.Bad)+r.Entries > 1 || strings.HasSuffix(name, suffix) != (len(r.Bad)+r.Entries == 1) {
			t.Fatalf("%+v", r)
		}
		for _, e := range w.List() {
			if len(fileName(e.Address)) > maxFileName {
				continue
			}
			back, err := w.decode(e.Address, encode(&e))
			if err != nil || back.Key.Text != e.Key.Text || back.State != e.State || back.New.Text != e.New.Text || !back.Key.Certified.Equal(e.Key.Certified) || back.Was != e.Was || !back.Since.Equal(e.Since) {
				t.Fatalf("%+v, then %+v, %v", e, back, err)
			}
		}
	})
}
